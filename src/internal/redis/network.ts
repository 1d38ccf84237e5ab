/** Connections of a store's own: one ioredis client for each, which is not connected again. */
import { Redis, type RedisOptions } from "ioredis"
import {
  type ClientOptions,
  connectionName,
  letGoOf,
  once,
  type RedisClient,
  subscriberOf,
  whenEnded,
  wireOf
} from "./client.js"
import type { Connection, ConnectionEvents, Network } from "./connection.js"
import { withoutSecrets } from "./secrets.js"
import type { Script } from "./scripts.js"

type Options = Omit<RedisOptions, "replyMapping">

/**
 * How a connection treats commands. It is given them when it is ready, and none is sent again by
 * it: that is for the store to do, on the next connection.
 */
const ours = {
  maxRetriesPerRequest: null,
  enableOfflineQueue: false,
  autoResendUnfulfilledCommands: false,
  autoResubscribe: false
} as const

/** A user's options for a connection of ours. */
export const withOurs = (options: Options, commandTimeoutMillis: number): Options => {
  const merged: Options = {
    // not shorter than ioredis's own: a connection that is slow to be made has another one beside it
    connectTimeout: Math.max(10_000, commandTimeoutMillis),
    // ioredis has none of its own: a Sentinel that says nothing would be waited for without end
    sentinelCommandTimeout: Math.max(1_000, commandTimeoutMillis),
    // what a connection that is given up leaves behind
    disconnectTimeout: 100,
    ...options,
    // what CLIENT LIST shows; a server that refuses to be told is no trouble
    connectionName: options.connectionName ?? connectionName,
    ...ours
  }
  delete merged.commandTimeout
  return merged
}

export const networkOf = (
  url: string | undefined,
  options: Options,
  commandTimeoutMillis: number
): Network => {
  const merged = withOurs(options, commandTimeoutMillis)
  // never connected: all others are made after it
  const template: Redis =
    url === undefined
      ? new Redis({ ...merged, lazyConnect: true })
      : new Redis(withoutOverrides(url), { ...merged, lazyConnect: true })
  const loaded = new Set<Script>()
  const clientOptions: ClientOptions = template.options
  const shown = (error: unknown) => withoutSecrets(clientOptions, error)
  return {
    options: clientOptions,
    isCluster: false,
    byName: (options.sentinels ?? []).length > 0,
    isLazy: options.lazyConnect === true,
    dial: (events) => connectionOf(template.duplicate(once) as Redis, loaded, events),
    subscriber: (attempt) => subscriberOf(template as RedisClient, attempt),
    pause: (times) => pauseOf(options, times),
    shown
  }
}

/** After a failover that is how it is for some moments. */
const noMaster =
  "The server that the Sentinels name as the master does not say that it is one, or cannot be reached."

export const connectionOf = (
  client: Redis,
  loaded: Set<Script>,
  events: ConnectionEvents
): Connection => {
  let over = false
  let greeted = false
  let trouble: unknown = undefined
  const close = () => {
    if (over) return
    over = true
    events.closed(trouble)
  }
  client.on("ready", () => {
    greeted = true
    if (!over) events.greeted()
  })
  // some of them were asked, and gave no address
  let isUnknown = false
  client.on("sentinelError", (error: Error) => {
    isUnknown ||= /invalid reply: null|No such master/.test(error.message)
  })
  const { name, sentinels } = client.options
  const ofSentinels = (error: Error): Error => {
    if (!error.message.startsWith("All sentinels are unreachable")) return error
    const why = /Last error: ([^]*)/.exec(error.message)?.[1] ?? "They gave no address."
    return new Error(
      isUnknown
        ? `No Sentinel knows a master named ${JSON.stringify(name)}: check the option name.`
        : `No Sentinel could be asked for the master. ${why}`
    )
  }
  // ioredis prints an error that nobody listens for, also one that comes after the store is closed
  client.on("error", (given: Error & { readonly command?: { readonly name?: string } }) => {
    if (over) return
    const error = ofSentinels(given)
    trouble = error
    events.trouble(error)
    // it would go on in database 0, where other programs may have a lock of that name
    if (given.command?.name === "select") close()
  })
  whenEnded(client as RedisClient, () => {
    if (sentinels && !greeted) trouble ??= new Error(noMaster)
    close()
  })
  return {
    ...wireOf(client as RedisClient, loaded),
    ping: (onReply) => {
      // an error of the server is an answer as well
      client.ping().then(onReply, (error: unknown) => {
        if (error instanceof Error && error.name === "ReplyError") onReply()
      })
    },
    reset: () => {
      over = true
      letGoOf(client)
    }
  }
}

/**
 * How long to wait before the next try to connect. Sentinels are asked more often: the new master is there at
 * some moment, and a lease may be about to end.
 */
export const pauseOf = (
  options: Pick<Options, "retryStrategy" | "sentinels">,
  times: number
): number | undefined => {
  if (!("retryStrategy" in options)) {
    const longest = options.sentinels === undefined ? 1_000 : 200
    return Math.min(25 * 2 ** Math.min(times, 6), longest) * (0.75 + Math.random() / 2)
  }
  const pause = options.retryStrategy?.(times)
  return typeof pause === "number" ? pause : undefined
}

/** What a URL's query says wins over options, in ioredis; these are not for the user to say. */
const withoutOverrides = (url: string): string => {
  const parsed = new URL(url)
  if (parsed.search === "") return url
  for (const option of [...Object.keys(ours), "commandTimeout", "lazyConnect"]) {
    parsed.searchParams.delete(option)
  }
  return parsed.href
}
