/**
 * What the store needs of ioredis: the part that `Redis` and `Cluster` of versions 5 and 6 share.
 * Nothing else in this package knows ioredis, but for the types in `RedisLockStore`.
 */
import { Redis, type RedisOptions } from "ioredis"

/** As ioredis types the arguments of its listeners, and of `duplicate`. */
// oxlint-disable-next-line typescript/no-explicit-any
type Loosely = Array<any>

export interface RedisClient {
  readonly status: string
  readonly options?:
    | {
        readonly keyPrefix?: string | undefined
        readonly db?: number | undefined
        readonly password?: string | null | undefined
        readonly tls?: object | undefined
        readonly enableOfflineQueue?: boolean | undefined
        readonly sentinelPassword?: string | null | undefined
        readonly redisOptions?: { readonly password?: string | null | undefined } | undefined
      }
    | undefined
  evalsha(sha: string, numberOfKeys: number, ...keysAndArgs: Array<string>): Promise<unknown>
  eval(script: string, numberOfKeys: number, ...keysAndArgs: Array<string>): Promise<unknown>
  on(event: string, listener: (...args: Loosely) => void): unknown
  off(event: string, listener: (...args: Loosely) => void): unknown
  disconnect(reconnect?: boolean): void
  readonly isCluster?: boolean
  nodes?(role: "all"): Array<Node>
  duplicate(...args: Loosely): SubscriberClient
}

export interface SubscriberClient {
  readonly status: string
  subscribe(...channels: Array<string>): Promise<unknown>
  unsubscribe(...channels: Array<string>): Promise<unknown>
  on(event: string, listener: (...args: Loosely) => void): unknown
  disconnect(reconnect?: boolean): void
}

/**
 * How a client of our own treats commands: every command has its own deadline here; until then it
 * may wait for a new connection, and is sent again there, which all scripts allow for.
 */
const ours = {
  maxRetriesPerRequest: null,
  enableOfflineQueue: true,
  autoResendUnfulfilledCommands: true
} as const

export const connect = (
  url: string | undefined,
  options: Omit<RedisOptions, "replyMapping">,
  commandTimeoutMillis: number
): RedisClient => {
  const merged: Omit<RedisOptions, "replyMapping"> = {
    connectTimeout: Math.max(1_000, commandTimeoutMillis),
    // ioredis has none of its own: a Sentinel that says nothing would be waited for without end
    sentinelCommandTimeout: Math.max(1_000, commandTimeoutMillis),
    // a connection that is given up must not hold the next one back
    disconnectTimeout: 100,
    retryStrategy: (times) =>
      Math.min(25 * 2 ** Math.min(times, 6), 1_000) * (0.75 + Math.random() / 2),
    ...options,
    ...ours
  }
  delete merged.commandTimeout
  const client = url === undefined ? new Redis(merged) : new Redis(withoutOverrides(url), merged)
  // ioredis prints an error that nobody listens for, also one that comes after the store is closed
  client.on("error", (error: { readonly command?: { readonly name?: string } }) => {
    // it would go on in database 0, where other programs may have a lock of that name
    if (error.command?.name === "select") client.disconnect(true)
  })
  return client as RedisClient
}

/** What a URL's query says wins over options, in ioredis; these are not for the user to say. */
const withoutOverrides = (url: string): string => {
  const parsed = new URL(url)
  if (parsed.search === "") return url
  for (const option of [...Object.keys(ours), "commandTimeout"]) {
    parsed.searchParams.delete(option)
  }
  return parsed.href
}

export interface ConnectionEvents {
  readonly onConnect: () => void
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
export const watchConnection = (client: RedisClient, events: ConnectionEvents): (() => void) => {
  let watch = watches.get(client)
  if (watch === undefined) watches.set(client, (watch = startWatching(client)))
  const { followers, stop } = watch
  followers.add(events)
  return () => {
    followers.delete(events)
    if (followers.size > 0) return
    watches.delete(client)
    stop()
  }
}

interface Watch {
  readonly followers: Set<ConnectionEvents>
  readonly stop: () => void
}

const watches = new WeakMap<RedisClient, Watch>()

const startWatching = (client: RedisClient): Watch => {
  const followers = new Set<ConnectionEvents>()
  const listeners: Array<() => void> = []
  const listen = (target: EventTarget, event: string, listener: (...args: Loosely) => void) => {
    target.on(event, listener)
    listeners.push(() => target.off(event, listener))
  }
  const onClose = () => followers.forEach((follower) => follower.onClose())
  listen(client, "connect", () => followers.forEach((follower) => follower.onConnect()))
  listen(client, "ready", () => followers.forEach((follower) => follower.onReady()))
  listen(client, "end", () => followers.forEach((follower) => follower.onEnd()))
  listen(client, "close", onClose)
  listen(client, "error", (error) => followers.forEach((follower) => follower.onError(error)))
  if (client.isCluster === true && client.nodes !== undefined) {
    const nodes = new Set<Node>()
    const watchNode = (node: Node) => nodes.add(node.on("close", onClose) as Node)
    client.nodes("all").forEach(watchNode)
    listen(client, "+node", watchNode)
    listen(client, "-node", (node: Node) => nodes.delete(node.off("close", onClose) as Node))
    listeners.push(() => nodes.forEach((node) => node.off("close", onClose)))
  }
  return { followers, stop: () => listeners.forEach((remove) => remove()) }
}

interface EventTarget {
  on(event: string, listener: (...args: Loosely) => void): unknown
  off(event: string, listener: (...args: Loosely) => void): unknown
}

/** Of a Cluster. */
interface Node extends EventTarget {
  readonly options?:
    | {
        readonly host?: string | undefined
        readonly port?: number | undefined
        readonly username?: string | null | undefined
        readonly password?: string | null | undefined
        readonly tls?: object | undefined
      }
    | undefined
}

/** Where, and how, a Cluster's nodes are reached now: a start node can have a password of its own. */
const nodesOf = (client: RedisClient): ReadonlyArray<object> =>
  client.nodes!("all").flatMap(({ options }) => {
    if (options?.host === undefined) return []
    const { host, password, port, tls, username } = options
    return [{ host, port, username, password, tls }]
  })

/**
 * Where the nodes that it started with cannot be reached, which may have gone: by way of those that
 * are known by now. And then the former again, whose names may lead elsewhere.
 */
const retryByKnownNodes = (client: RedisClient) => {
  let given: ReadonlyArray<unknown> | undefined
  return function (this: { startupNodes: ReadonlyArray<unknown> }, times: number): number {
    given ??= this.startupNodes
    const known = nodesOf(client)
    this.startupNodes = times % 2 === 1 && known.length > 0 ? known : given
    return Math.min(50 * 2 ** Math.min(times, 6), 2_000)
  }
}

/** Another connection to the same place, for messages only. */
export const subscriberOf = (client: RedisClient): SubscriberClient => {
  const options = {
    lazyConnect: false,
    enableOfflineQueue: true,
    maxRetriesPerRequest: null,
    // subscriptions are made anew here, so that it is known when they are there
    autoResubscribe: false,
    commandTimeout: undefined,
    retryStrategy: (times: number) => Math.min(50 * 2 ** Math.min(times, 6), 2_000)
  }
  return client.isCluster === true
    ? client.duplicate([], {
        lazyConnect: false,
        autoResubscribe: false,
        clusterRetryStrategy: retryByKnownNodes(client)
      } as never)
    : client.duplicate(options as never)
}
