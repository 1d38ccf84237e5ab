/**
 * Leases in Redis: one server or a Sentinel group (`layer`), a Cluster (`layerCluster`), or whatever a
 * client of yours is connected to (`layerFromClient`), with ioredis 5 or 6.
 *
 * @since 0.1.0
 */
import type * as Config from "effect/Config"
import type * as ConfigError from "effect/ConfigError"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Layer from "effect/Layer"
import type * as Redacted from "effect/Redacted"
import type * as Scope from "effect/Scope"
import type { Cluster, ClusterOptions as ClientOptions, Redis, RedisOptions } from "ioredis"
import { decodeCluster, decodeServer, decodeSettings } from "./internal/face/decodeStore.js"
import { makeClusterStore, makeRedisStore, storeFromClient } from "./internal/redis/make.js"
import { scopedStore } from "./internal/face/redisStore.js"
import { fromConfig, given, revealed } from "./internal/face/storeConfig.js"
import type { LockStoreError } from "./LockError.js"
import { type Defaults, LockStore } from "./LockStore.js"

/**
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
  readonly commandTimeout?: Duration.DurationInput | undefined
  /** The description of a holder that gives none. Default: host name and process id. */
  readonly owner?: string | undefined
  /**
   * How often the first in the queue asks for the lock while a program that does not use this
   * library holds the key: such a program does not tell waiters that the lock is free. Default: 50
   * ms.
   */
  readonly foreignPollEvery?: Duration.DurationInput | undefined
  /**
   * For how long the fibers of this process may pass a lease on to each other without a round trip.
   * After that, the store first asks Redis whether another process waits. This bounds how long
   * other processes wait for the callers of one. `0`: every lease goes through Redis, and processes
   * get the lock in the order in which they asked. Default: 20 ms.
   */
  readonly localHandoff?: Duration.DurationInput | undefined
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
  readonly within?: Duration.DurationInput | undefined
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
 * A store with a connection of its own, which the scope closes. It fails at once if an option is
 * impossible; an error of the connection is reported by the first operation.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make = (
  options: Options = {}
): Effect.Effect<LockStore, LockStoreError, Scope.Scope> =>
  Effect.suspend(() =>
    Effect.flatMap(
      Either.all([decodeSettings(options), decodeServer(options)]),
      ([settings, { redis, url }]) =>
        scopedStore((warn) => makeRedisStore(url, redis, settings, warn), options.defaults)
    )
  )

/**
 * A layer with a connection of its own, to one server or to the master of a Sentinel group. Bind it to a constant and use that one: every call makes
 * another connection.
 *
 * @example
 * ```ts
 * import { RedisLockStore } from "effect-redis-lock"
 *
 * const LocksLive = RedisLockStore.layer({ url: "redis://127.0.0.1:6379", prefix: "locks:" })
 * ```
 *
 * @since 0.1.0
 * @category layers
 */
export const layer = (options?: Options): Layer.Layer<LockStore, LockStoreError> =>
  Layer.scoped(LockStore, make(options))

/**
 * A store in a Cluster, with connections of its own, which the scope closes: one to each master whose
 * keys are asked for. What one of them has to suffer is no trouble of the others.
 *
 * @since 0.1.0
 * @category constructors
 */
export const makeCluster = (
  options: ClusterOptions
): Effect.Effect<LockStore, LockStoreError, Scope.Scope> =>
  Effect.suspend(() =>
    Effect.flatMap(
      Either.all([decodeSettings(options), decodeCluster(options)]),
      ([settings, { cluster, nodes, redis }]) =>
        scopedStore(
          (warn) => makeClusterStore(nodes, redis, cluster, settings, warn),
          options.defaults
        )
    )
  )

/**
 * A layer with connections of its own to a Cluster.
 *
 * @example
 * ```ts
 * import { RedisLockStore } from "effect-redis-lock"
 *
 * const LocksLive = RedisLockStore.layerCluster({
 *   nodes: [
 *     { host: "10.0.0.1", port: 6379 },
 *     { host: "10.0.0.2", port: 6379 }
 *   ],
 *   redis: { password: "secret" }
 * })
 * ```
 *
 * @since 0.1.0
 * @category layers
 */
export const layerCluster = (options: ClusterOptions): Layer.Layer<LockStore, LockStoreError> =>
  Layer.scoped(LockStore, makeCluster(options))

/**
 * A layer whose options come from `Config`. It has all options of `layer`: each of them is a
 * `Config`, or all together are one. Use `Config.redacted` for the URL and for passwords. A constant is
 * `Config.succeed(…)`; where types are not checked, a plain value works as well.
 *
 * @example
 * ```ts
 * import { Config } from "effect"
 * import { RedisLockStore } from "effect-redis-lock"
 *
 * const LocksLive = RedisLockStore.layerConfig({
 *   url: Config.redacted("REDIS_URL"),
 *   prefix: Config.string("LOCK_PREFIX").pipe(Config.withDefault("")),
 *   redis: {
 *     password: Config.redacted("REDIS_PASSWORD"),
 *     tls: Config.succeed({ ca: "…" })
 *   }
 * })
 * ```
 *
 * @since 0.1.0
 * @category layers
 */
export const layerConfig = (
  options: Config.Config.Wrap<ConfigOptions>
): Layer.Layer<LockStore, ConfigError.ConfigError> =>
  fromConfig(options, ({ host, password, port, redis, username, ...rest }) =>
    make({
      ...rest,
      redis: {
        ...revealed({ ...redis, ...given({ password, username }) }),
        ...given({ host, port })
      }
    })
  )

/**
 * `layerCluster` with options that come from `Config`, as those of `layerConfig` do.
 *
 * @example
 * ```ts
 * import { Config } from "effect"
 * import { RedisLockStore } from "effect-redis-lock"
 *
 * const LocksLive = RedisLockStore.layerClusterConfig({
 *   nodes: Config.array(Config.string(), "REDIS_NODES"), // 10.0.0.1:6379, 10.0.0.2:6379
 *   password: Config.redacted("REDIS_PASSWORD")
 * })
 * ```
 *
 * @since 0.1.0
 * @category layers
 */
export const layerClusterConfig = (
  options: Config.Config.Wrap<ConfigClusterOptions>
): Layer.Layer<LockStore, ConfigError.ConfigError> =>
  fromConfig(options, ({ password, redis, username, ...rest }) =>
    makeCluster({ ...rest, redis: revealed({ ...redis, ...given({ password, username }) }) })
  )

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

/**
 * A store on a client of your own. The client is left as it was: nothing is defined on it, none of
 * its options are changed, and it is not closed.
 *
 * The client decides how long a command waits for a lost connection, within `commandTimeout`, and
 * whether a silent connection is replaced. When the first caller has to wait, the store opens a
 * second connection with `client.duplicate()`, on which it receives messages about grants; with
 * `acknowledged` another one, on which it asks for replicas. It closes these when it is closed itself.
 *
 * @since 0.1.0
 * @category layers
 */
export const layerFromClient = (
  client: Redis | Cluster,
  options: StoreOptions = {}
): Layer.Layer<LockStore, LockStoreError> =>
  Layer.scoped(
    LockStore,
    Effect.suspend(() =>
      Effect.flatMap(decodeSettings(options), (settings) =>
        scopedStore((warn) => storeFromClient(client, settings, warn), options.defaults)
      )
    )
  )
