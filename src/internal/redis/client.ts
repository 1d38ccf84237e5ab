/**
 * What the store needs of ioredis: the part that `Redis` and `Cluster` of versions 5 and 6 share.
 * Nothing else in this package knows ioredis, but for `network.ts` and `clusterNetwork.ts`, which make clients, and the
 * types in `RedisLockStore`.
 */
import type { Socket } from "node:net"
import { acknowledge, acknowledgeOn, type Masters } from "./acknowledgeScript.js"
import type { Wire } from "./lane.js"
import { isFinal, lacksScript, messageOf } from "./replyErrors.js"
import { scan, scanOn, type Scannable, type Server } from "./scan.js"
import type { Script } from "./scripts.js"

/** As ioredis types the arguments of its listeners, and of `duplicate`. */
// oxlint-disable-next-line typescript/no-explicit-any
type Loosely = Array<any>

/** What of a client's options the store looks at. */
export interface ClientOptions {
  readonly keyPrefix?: string | undefined
  readonly db?: number | undefined
  readonly password?: string | null | undefined
  readonly tls?: object | undefined
  readonly enableOfflineQueue?: boolean | undefined
  readonly sentinelPassword?: string | null | undefined
  readonly connectionName?: string | undefined
  readonly redisOptions?:
    | {
        readonly password?: string | null | undefined
        readonly connectionName?: string | undefined
        readonly tls?: object | undefined
      }
    | undefined
}

export interface RedisClient extends Scannable {
  readonly options?: ClientOptions | undefined
  evalsha(sha: string, numberOfKeys: number, ...keysAndArgs: Array<string>): Promise<unknown>
  eval(script: string, numberOfKeys: number, ...keysAndArgs: Array<string>): Promise<unknown>
  role?(): Promise<unknown>
  on(event: string, listener: (...args: Loosely) => void): unknown
  off(event: string, listener: (...args: Loosely) => void): unknown
  disconnect(reconnect?: boolean): void
  readonly isCluster?: boolean
  nodes?(role: "all" | "master"): Array<Node>
  duplicate(...args: Loosely): SubscriberClient
}

export interface SubscriberClient {
  readonly status: string
  readonly stream?: unknown
  subscribe(...channels: Array<string>): Promise<unknown>
  unsubscribe(...channels: Array<string>): Promise<unknown>
  on(event: string, listener: (...args: Loosely) => void): unknown
  disconnect(reconnect?: boolean): void
}

/** What an ioredis client's status is while it has no connection, and will have one. */
const disconnected: ReadonlySet<string> = new Set([
  "connecting",
  "connect",
  "close",
  "reconnecting"
])

export const isDisconnected = (client: RedisClient): boolean => disconnected.has(client.status)

/** The digest of no script. */
export const noScript = "0".repeat(40)

/**
 * Sends scripts on a client: by their digest; with their text the first time, and where the server
 * has forgotten it.
 *
 * Beside the first one goes a look whether the server runs scripts by their digests: with its key, so that
 * it goes the same way, and in front of it, so that it is answered first. Where that is refused, what was
 * sent beside it has failed as well: nothing after it would be answered, its release least of all.
 */
export const wireOf = (client: RedisClient, loaded: Set<Script> = new Set()): Wire => {
  let refusal: unknown = undefined
  const look = (key: string) => {
    refusal = undefined
    client.evalsha(noScript, 1, key).then(nothing, (error) => {
      // (that there is no such script is the answer; of a connection's trouble, and of the key, the command
      // will tell)
      if (!isFinal(error) || !/\beval|\bscript/i.test(messageOf(error))) return
      refusal = error
      // the next one looks again
      loaded.clear()
    })
  }
  return {
    send(parcel, onReply, onError) {
      const { keys, script } = parcel
      const keysAndArgs = keys.concat(parcel.args)
      const refused = (error: unknown) => {
        if (client.role === undefined || !hasNoScripts(error)) return onError(error)
        client.role().then(
          (role) => onError(Array.isArray(role) && role[0] === "sentinel" ? aSentinel() : error),
          () => onError(error)
        )
      }
      try {
        if (script === scan) {
          scanOn(client, parcel.args).then(onReply, onError)
          return
        }
        if (script === acknowledge) {
          const { keyPrefix = "" } = client.options ?? {}
          // (a connection of ours, which is ioredis's)
          const asked = acknowledgeOn(client as unknown as Masters, keyPrefix, keys, parcel.args)
          asked.then(onReply, onError)
          return
        }
        if (!loaded.has(script)) {
          if (loaded.size === 0) look(keys[0]!)
          loaded.add(script)
          client.eval(script.lua, keys.length, ...keysAndArgs).then((reply) => {
            if (refusal === undefined) onReply(reply)
            else refused(refusal)
          }, refused)
          return
        }
        client.evalsha(script.sha, keys.length, ...keysAndArgs).then(onReply, (error) => {
          // (given up meanwhile, and undone: it must not come behind that)
          if (!lacksScript(error) || !parcel.isOpen) return refused(error)
          client.eval(script.lua, keys.length, ...keysAndArgs).then(onReply, refused)
        })
      } catch (error) {
        onError(error)
      }
    }
  }
}

const nothing = (): void => {}

const hasNoScripts = (error: unknown): boolean => /unknown command.*\beval/is.test(messageOf(error))

/** As the server's own error, which it would repeat. */
const aSentinel = (): Error =>
  Object.assign(
    new Error(
      "The address is that of a Sentinel, which keeps no locks: give it as sentinels: [{ host, port }], with the name of the master."
    ),
    { name: "ReplyError" }
  )

export interface ConnectionListener {
  readonly onReady: () => void
  /** It will not connect again. */
  readonly onEnd: () => void
  readonly onClose: () => void
  readonly onError: (error: unknown) => void
}

/**
 * Follows a client's connection (of a Cluster, those of its nodes); returns how to stop. Stores that
 * share a client share one set of listeners: Node warns of more than ten.
 */
export const watchConnection = (
  client: RedisClient,
  listener: ConnectionListener
): (() => void) => {
  let watch = watches.get(client)
  if (watch === undefined) watches.set(client, (watch = startWatching(client)))
  const { followers, stop } = watch
  followers.add(listener)
  return () => {
    followers.delete(listener)
    if (followers.size > 0) return
    watches.delete(client)
    stop()
  }
}

interface Watch {
  readonly followers: Set<ConnectionListener>
  readonly stop: () => void
}

const watches = new WeakMap<RedisClient, Watch>()

const startWatching = (client: RedisClient): Watch => {
  const followers = new Set<ConnectionListener>()
  const listeners: Array<() => void> = []
  const listen = (target: EventTarget, event: string, listener: (...args: Loosely) => void) => {
    target.on(event, listener)
    listeners.push(() => target.off(event, listener))
  }
  const onClose = () => followers.forEach((follower) => follower.onClose())
  listen(client, "ready", () => followers.forEach((follower) => follower.onReady()))
  listen(client, "end", () => followers.forEach((follower) => follower.onEnd()))
  listen(client, "close", onClose)
  listen(client, "error", (error) => followers.forEach((follower) => follower.onError(error)))
  if (client.isCluster === true && client.nodes !== undefined) {
    const nodes = new Set<Node>()
    const watchNode = (node: Node) => {
      nodes.add(node.on("close", onClose) as Node)
      listenToAsking(node)
    }
    const unwatchNode = (node: Node) => {
      nodes.delete(node.off("close", onClose) as Node)
      delete node.asking
    }
    client.nodes("all").forEach(watchNode)
    listen(client, "+node", watchNode)
    listen(client, "-node", unwatchNode)
    listeners.push(() => nodes.forEach(unwatchNode))
  }
  return { followers, stop: () => listeners.forEach((remove) => remove()) }
}

interface EventSource {
  on(event: string, listener: (...args: Loosely) => void): unknown
}

interface EventTarget extends EventSource {
  off(event: string, listener: (...args: Loosely) => void): unknown
}

/** Of a Cluster. */
interface Node extends EventTarget, Server {
  duplicate(...args: Loosely): SubscriberClient
  asking?: ((...args: Loosely) => Promise<unknown>) | undefined
}

/**
 * Where a slot is on its way, a Cluster client sends ASKING to a node, and does not listen for what becomes of
 * that: a connection that closes meanwhile would be a rejection that nobody handles, and end the process.
 */
export const listenToAsking = (node: Pick<Node, "asking">): void => {
  const ask = node.asking?.bind(node)
  if (ask === undefined) return
  node.asking = (...args) => {
    const asked = ask(...args)
    asked.catch(() => {})
    return asked
  }
}

/** Told once that a client has ended: with `close` and `end`, or with `end` alone. */
export const whenEnded = (client: EventSource, listener: () => void): void => {
  let told = false
  const tell = () => {
    if (told) return
    told = true
    listener()
  }
  client.on("close", tell)
  client.on("end", tell)
}

/** How connections are called that the client's own options give no name. */
export const connectionName = "effect-redis-lock"

const subscriberName = (options: { readonly connectionName?: string | undefined } | undefined) =>
  `${options?.connectionName ?? connectionName}:subscriber`

/** It is not connected again by itself. */
export const once = {
  lazyConnect: false,
  retryStrategy: () => null,
  sentinelRetryStrategy: () => null,
  commandTimeout: undefined
} as const

/** Not all stores listen on the same node of a Cluster. */
const anyNode = Math.floor(Math.random() * 16_384)

/**
 * Another connection to the same place, for messages only, which is not made again by itself. Of a Cluster, to
 * one of its masters as they are known now, each time another one: they tell each other of messages.
 */
export const subscriberOf = (client: RedisClient, attempt: number): SubscriberClient => {
  const nodes = client.isCluster === true ? client.nodes!("master") : []
  const options = {
    ...once,
    enableOfflineQueue: true,
    maxRetriesPerRequest: null,
    autoResubscribe: false
  }
  if (nodes.length > 0) {
    return nodes[(anyNode + attempt) % nodes.length]!.duplicate({
      ...options,
      connectionName: subscriberName(client.options?.redisOptions)
    })
  }
  // (a Cluster client that has not been connected knows the nodes that it was given)
  return client.isCluster === true
    ? client.duplicate([], {
        lazyConnect: false,
        autoResubscribe: false,
        clusterRetryStrategy: () => null,
        redisOptions: {
          ...client.options?.redisOptions,
          connectionName: subscriberName(client.options?.redisOptions)
        }
      })
    : client.duplicate({ ...options, connectionName: subscriberName(client.options) })
}

/** What a TLS socket has below it, where a reset is possible. */
interface Below {
  readonly _handle?: { readonly _parent?: { reset?(done: () => void): void } } | null
}

/** What the kernel has not sent yet is thrown away, where a close would send it, perhaps much later. */
export const resetStream = (client: { readonly stream?: unknown }): void => {
  const stream = client.stream as (Partial<Socket> & Below) | undefined
  // a reset would wait for the connection; and of one that the client has ended, Node.js would lose the handle
  if (stream?.connecting || stream?.writableEnded) return void stream.destroy?.()
  try {
    stream?.resetAndDestroy?.()
  } catch {
    // not a TCP socket by itself: of TLS there is one below, a Unix socket has nothing to reset
    stream?._handle?._parent?.reset?.(() => {})
  }
}

/** Lets go of a connection at once, also where the server would not answer a close. */
export const letGoOf = (client: {
  readonly stream?: unknown
  disconnect(reconnect?: boolean): void
}): void => {
  resetStream(client)
  client.disconnect()
}
