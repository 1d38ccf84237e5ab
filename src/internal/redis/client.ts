/**
 * What the store needs of ioredis: the part that `Redis` and `Cluster` of versions 5 and 6 share.
 * Nothing else in this package knows ioredis, but for the types in `RedisLockStore`.
 */
import { Redis, type RedisOptions } from "ioredis"

export interface RedisClient {
  readonly status: string
  readonly options?: { readonly keyPrefix?: string | undefined } | undefined
  evalsha(sha: string, numberOfKeys: number, ...keysAndArgs: Array<string>): Promise<unknown>
  eval(script: string, numberOfKeys: number, ...keysAndArgs: Array<string>): Promise<unknown>
  on(event: string, listener: (...args: Array<any>) => void): unknown
  off(event: string, listener: (...args: Array<any>) => void): unknown
  disconnect(reconnect?: boolean): void
}

/** Options of a client of our own: a command waits for the connection, and never for ever. */
export const connect = (
  url: string | undefined,
  options: Omit<RedisOptions, "replyMapping">,
  commandTimeoutMillis: number
): RedisClient => {
  const merged: Omit<RedisOptions, "replyMapping"> = {
    connectTimeout: Math.max(1_000, commandTimeoutMillis),
    // a connection that is given up must not hold the next one back
    disconnectTimeout: 100,
    retryStrategy: (times) =>
      Math.min(25 * 2 ** Math.min(times, 6), 1_000) * (0.75 + Math.random() / 2),
    ...options,
    // every command has its own deadline here; until then it may wait for a new connection,
    // and is sent again there, which all scripts allow for
    maxRetriesPerRequest: null,
    enableOfflineQueue: true,
    autoResendUnfulfilledCommands: true,
    commandTimeout: undefined as never
  }
  delete merged.commandTimeout
  return (url === undefined ? new Redis(merged) : new Redis(url, merged)) as RedisClient
}
