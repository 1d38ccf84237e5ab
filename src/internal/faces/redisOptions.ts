/** The options of stores in Redis. */
import type * as Redacted from "effect/Redacted"
import type { ClusterOptions as ClientOptions, RedisOptions } from "ioredis"
import type { DurationInput } from "../../Lease.js"
import type { Defaults } from "./lockStore.js"

/**
 * Options of every store in Redis, whoever connects.
 *
 * @since 0.1.0
 * @category models
 */
export interface StoreOptions {
  /**
   * Comes before every key. Default: none, so that the key in Redis is exactly the caller's key.
   */
  readonly prefix?: string | undefined
  /**
   * How long a command may take, reconnecting included, before it fails with `LockStoreError`. The
   * close of a scope waits at most for this time for its release, and the close of a layer for
   * commands that must still be undone. Default: 2 seconds.
   */
  readonly commandTimeout?: DurationInput | undefined
  /** The description of a holder that gives none. Default: host name and process id. */
  readonly owner?: string | undefined
  /**
   * How often the first in the queue asks for the lock while a program that does not use this
   * library holds the key: such a program does not tell waiters that the lock is free. Default: 50
   * ms.
   */
  readonly foreignPollEvery?: DurationInput | undefined
  /**
   * For how long the fibers of this process may pass a lease on to each other without a round trip.
   * After that, the store first asks Redis whether another process waits. This bounds how long
   * other processes wait for the callers of one. `0`: every lease goes through Redis, and processes
   * get the lock in the order in which they asked. Default: 20 ms.
   */
  readonly localHandoff?: DurationInput | undefined
  /**
   * Whether acquires, renewals and releases of one turn of the event loop may be sent in one
   * command. The store finds out by itself whether that is possible, and does it only then (not in
   * a Cluster, nor behind a proxy that divides keys among servers). `false`: they are never
   * sent in one, and the store does not try. Default: `true`.
   */
  readonly batch?: boolean | undefined
  /**
   * Who must have a grant, or a renewal, before it counts. Default: the server that answers, alone.
   */
  readonly acknowledged?: Acknowledged | undefined
  /** Options of locks for callers that give none. */
  readonly defaults?: Defaults | undefined
}

/**
 * Who must have a grant, or a renewal, before it counts: `replicas`, `disk`, or both. Where they do not
 * answer in time, a grant is given back, and the acquire fails with `LockStoreError` (`transient`); a renewal
 * does not extend the lease, and is tried again. The store asks on a connection of its own (in a Cluster, one to
 * each master).
 *
 * @example
 * ```ts
 * import { RedisLockStore } from "effect-redis-lock"
 *
 * // a master with two replicas: whichever of them is promoted, it has all leases
 * const LocksLive = RedisLockStore.layer({
 *   url: "redis://127.0.0.1:6379",
 *   acknowledged: { replicas: 2, within: "200 millis" }
 * })
 * ```
 *
 * @since 0.1.0
 * @category models
 */
export interface Acknowledged {
  /**
   * How many replicas. No failover loses a lease where these are all that can be promoted; with fewer, one
   * can that promotes another one. In a Cluster: of each master.
   */
  readonly replicas?: number | undefined
  /**
   * Whether it must be on the server's disk, and, where `replicas` is given, on that of so many replicas (by
   * `WAITAOF`: Redis 7.2, Valkey). They need `appendonly yes`. With `appendfsync everysec`
   * that takes a second or more: set `within` and `commandTimeout` accordingly.
   */
  readonly disk?: boolean | undefined
  /**
   * How long they are waited for, at most half of `commandTimeout`, and well below the ttl: the time counts
   * against the lease. A grant that is answered while others are waited for is waited for after those: so it
   * can take twice as long. Default: a quarter of `commandTimeout`, 500 ms.
   */
  readonly within?: DurationInput | undefined
}

/**
 * Where a server is, as `{ host, port }` or as a string: `"127.0.0.1:6379"`, `"[::1]:6379"`.
 *
 * @since 0.1.0
 * @category models
 */
export type Address = string | { readonly host: string; readonly port: number }

/**
 * Where Redis is: a URL (`redis://`, `rediss://`), ioredis options, or both. Or `sentinels`, and the
 * `name` of the master that they are asked for.
 *
 * @since 0.1.0
 * @category models
 */
export interface Options extends StoreOptions {
  readonly url?: string | Redacted.Redacted | undefined
  /**
   * Where the Sentinels are: some of them are enough. Each time a connection is made they are asked for
   * the master, and what they name must say that it is one. What is not said here goes into `redis`,
   * as ioredis calls it: the master's `password`, `db` and `tls` (with `enableTLSForSentinelMode:
   * true`), `sentinelTLS` for the Sentinels themselves, `natMap`, `failoverDetector`.
   */
  readonly sentinels?: ReadonlyArray<Address> | undefined
  /** By which the Sentinels know the master. */
  readonly name?: string | undefined
  /** Of the Sentinels themselves. Default: none, whatever the master's is. */
  readonly sentinelUsername?: string | undefined
  readonly sentinelPassword?: string | Redacted.Redacted | undefined
  /**
   * Options for ioredis. The store decides itself how commands are retried, so
   * `maxRetriesPerRequest`, `enableOfflineQueue`, `autoResendUnfulfilledCommands`,
   * `sentinelRetryStrategy` and `commandTimeout` have no effect. `connectionName` is the name in `CLIENT LIST`; default:
   * `"effect-redis-lock"`. The name of the connection for messages ends in `:subscriber`.
   */
  readonly redis?: Omit<RedisOptions, "replyMapping"> | undefined
}

/**
 * Where a Cluster is.
 *
 * @since 0.1.0
 * @category models
 */
export interface ClusterOptions extends StoreOptions {
  /** Some of its nodes are enough: these are asked for the others. */
  readonly nodes: ReadonlyArray<Address>
  /**
   * Options for the connection to each node, as those of `layer`: `username`, `password`, `tls`,
   * `connectionName` and so on.
   */
  readonly redis?:
    | Omit<
        RedisOptions,
        "replyMapping" | "host" | "port" | "path" | "db" | "sentinels" | "name" | "role"
      >
    | undefined
  /**
   * Options for ioredis's `Cluster`: `natMap`, `dnsLookup`, `keyPrefix`, `slotsRefreshInterval` and so
   * on. The store decides itself when a connection is made again and a command is sent again, and asks
   * masters only: `enableOfflineQueue`, `enableReadyCheck`, `enableAutoPipelining`,
   * `retryDelayOnFailover`, `clusterNodeRetryStrategy`, `scaleReads` and `shardedSubscribers` have no
   * effect. `clusterRetryStrategy` says how long to wait before the next connection.
   */
  readonly cluster?: Omit<ClientOptions, "redisOptions"> | undefined
}

/**
 * Options for ioredis, as `layerConfig` reads them: passwords can be `Redacted`.
 *
 * @since 0.1.0
 * @category models
 */
export interface ConfigRedisOptions extends Omit<
  RedisOptions,
  "replyMapping" | "password" | "sentinelPassword"
> {
  readonly password?: string | Redacted.Redacted | undefined
  readonly sentinelPassword?: string | Redacted.Redacted | undefined
}

/**
 * The options of `layerConfig`: all options of `layer`. `host`, `port`, `username` and `password`
 * are shorter ways to give those of `redis`, and have precedence over them.
 *
 * @since 0.1.0
 * @category models
 */
export interface ConfigOptions extends Omit<Options, "redis"> {
  readonly redis?: ConfigRedisOptions | undefined
  readonly host?: string | undefined
  readonly port?: number | undefined
  readonly username?: string | undefined
  readonly password?: Redacted.Redacted | undefined
}

/**
 * The options of `layerClusterConfig`: all options of `layerCluster`. `username` and `password` are
 * shorter ways to give those of `redis`, and have precedence over them.
 *
 * @since 0.1.0
 * @category models
 */
export interface ConfigClusterOptions extends Omit<ClusterOptions, "redis"> {
  readonly redis?:
    | (Omit<NonNullable<ClusterOptions["redis"]>, "password"> &
        Pick<ConfigRedisOptions, "password">)
    | undefined
  readonly username?: string | undefined
  readonly password?: Redacted.Redacted | undefined
}
