/**
 * Leases in Redis: one server or a Sentinel group (`layer`), a Cluster (`layerCluster`), or whatever a
 * client of yours is connected to (`layerFromClient`), with ioredis 5 or 6.
 *
 * @since 0.1.0
 */
import "./internal/with-effect-4-import/effect-redis-lock/effect4.js"
import type * as Config from "effect/Config"
import type * as ConfigError from "effect/ConfigError"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import type { Cluster, Redis } from "ioredis"
import { scopedStore } from "./internal/face/redisStore.js"
import { fromConfig } from "./internal/face/storeConfig.js"
import { decodeCluster, decodeServer, decodeSettings } from "./internal/faces/decodeStore.js"
import type {
  ClusterOptions,
  ConfigClusterOptions,
  ConfigOptions,
  Options,
  StoreOptions
} from "./internal/faces/redisOptions.js"
import { clusterOptions, serverOptions } from "./internal/faces/storeConfig.js"
import { makeClusterStore, makeRedisStore, storeFromClient } from "./internal/redis/make.js"
import type { LockStoreError } from "./LockError.js"
import { LockStore } from "./LockStore.js"

export type {
  Acknowledged,
  Address,
  ClusterOptions,
  ConfigClusterOptions,
  ConfigOptions,
  ConfigRedisOptions,
  Options,
  StoreOptions
} from "./internal/faces/redisOptions.js"

/**
 * A store with a connection of its own, which the scope closes. It fails at once if an option is
 * impossible; an error of the connection is reported by the first operation.
 *
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import { Lock, LockStore, RedisLockStore } from "effect-redis-lock"
 *
 * const work = Effect.log("only one at a time").pipe(Lock.withLock("invoice:42"))
 *
 * const program = Effect.scoped(
 *   Effect.flatMap(RedisLockStore.make({ url: "redis://127.0.0.1:6379" }), (store) =>
 *     Effect.provideService(work, LockStore.LockStore, store)
 *   )
 * )
 * ```
 *
 * @since 0.1.0
 * @category constructors
 */
export const make = (
  options: Options = {}
): Effect.Effect<LockStore, LockStoreError, Scope.Scope> =>
  Effect.suspend(() =>
    Effect.flatMap(
      Effect.all([decodeSettings(options), decodeServer(options)]),
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
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import { Lock, LockStore, RedisLockStore } from "effect-redis-lock"
 *
 * const work = Effect.log("only one at a time").pipe(Lock.withLock("invoice:42"))
 *
 * const program = Effect.scoped(
 *   Effect.flatMap(RedisLockStore.makeCluster({ nodes: ["10.0.0.1:6379"] }), (store) =>
 *     Effect.provideService(work, LockStore.LockStore, store)
 *   )
 * )
 * ```
 *
 * @since 0.1.0
 * @category constructors
 */
export const makeCluster = (
  options: ClusterOptions
): Effect.Effect<LockStore, LockStoreError, Scope.Scope> =>
  Effect.suspend(() =>
    Effect.flatMap(
      Effect.all([decodeSettings(options), decodeCluster(options)]),
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
  fromConfig(options, (given) => make(serverOptions(given)))

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
  fromConfig(options, (given) => makeCluster(clusterOptions(given)))

/**
 * A store on a client of your own. The client is left as it was: nothing is defined on it, none of
 * its options are changed, and it is not closed.
 *
 * The client decides how long a command waits for a lost connection, within `commandTimeout`, and
 * whether a silent connection is replaced. When the first caller has to wait, the store opens a
 * second connection with `duplicate()` (of a Cluster, to one of its nodes), on which it receives
 * messages about grants; with `acknowledged` another one, on which it asks for replicas. It closes these
 * when it is closed itself.
 *
 * @example
 * ```ts
 * import { RedisLockStore } from "effect-redis-lock"
 * import { Redis } from "ioredis"
 *
 * const client = new Redis("redis://127.0.0.1:6379")
 *
 * const LocksLive = RedisLockStore.layerFromClient(client, { prefix: "locks:" })
 * ```
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
