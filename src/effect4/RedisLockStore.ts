/**
 * Leases in Redis, for Effect 4: one server or a Sentinel group (`layer`), a Cluster (`layerCluster`), or
 * whatever a client of yours is connected to (`layerFromClient`), with ioredis 5 or 6. See
 * `effect-redis-lock/RedisLockStore`.
 *
 * @since 0.1.0
 */
import "../internal/with-effect-3-import/effect-redis-lock.js"
import type * as Config from "effect/Config"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import type { Cluster, Redis } from "ioredis"
import { scopedStore } from "../internal/face4/redisStore.js"
import { fromConfig } from "../internal/face4/storeConfig.js"
import { decodeCluster, decodeServer, decodeSettings } from "../internal/faces/decodeStore.js"
import type {
  ClusterOptions,
  ConfigClusterOptions,
  ConfigOptions,
  Options,
  StoreOptions
} from "../internal/faces/redisOptions.js"
import { clusterOptions, serverOptions } from "../internal/faces/storeConfig.js"
import { makeClusterStore, makeRedisStore, storeFromClient } from "../internal/redis/make.js"
import type { LockStoreError } from "../LockError.js"
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
} from "../internal/faces/redisOptions.js"

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
      Effect.all([decodeSettings(options), decodeServer(options)]),
      ([settings, { redis, url }]) =>
        scopedStore((warn) => makeRedisStore(url, redis, settings, warn), options.defaults)
    )
  )

/**
 * A layer with a connection of its own, to one server or to the master of a Sentinel group. Bind it to
 * a constant and use that one: every call makes another connection.
 *
 * @example
 * ```ts
 * import { RedisLockStore } from "effect-redis-lock/effect4"
 *
 * const LocksLive = RedisLockStore.layer({ url: "redis://127.0.0.1:6379", prefix: "locks:" })
 * ```
 *
 * @since 0.1.0
 * @category layers
 */
export const layer = (options?: Options): Layer.Layer<LockStore, LockStoreError> =>
  Layer.effect(LockStore, make(options))

/**
 * A store in a Cluster, with connections of its own, which the scope closes: one to each master whose
 * keys are asked for.
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
 * @since 0.1.0
 * @category layers
 */
export const layerCluster = (options: ClusterOptions): Layer.Layer<LockStore, LockStoreError> =>
  Layer.effect(LockStore, makeCluster(options))

/**
 * A layer whose options come from `Config`. It has all options of `layer`: each of them is a
 * `Config`, or all together are one. Use `Config.Redacted` for the URL and for passwords. A constant is
 * `Config.succeed(…)`; where types are not checked, a plain value works as well.
 *
 * @example
 * ```ts
 * import { Config } from "effect"
 * import { RedisLockStore } from "effect-redis-lock/effect4"
 *
 * const LocksLive = RedisLockStore.layerConfig({
 *   url: Config.Redacted("REDIS_URL"),
 *   prefix: Config.String("LOCK_PREFIX").pipe(Config.withDefault("")),
 *   redis: {
 *     password: Config.Redacted("REDIS_PASSWORD"),
 *     tls: Config.succeed({ ca: "…" })
 *   }
 * })
 * ```
 *
 * @since 0.1.0
 * @category layers
 */
export const layerConfig = (
  options: Config.Wrap<ConfigOptions>
): Layer.Layer<LockStore, Config.ConfigError> =>
  fromConfig(options, (given) => make(serverOptions(given)))

/**
 * `layerCluster` with options that come from `Config`, as those of `layerConfig` do.
 *
 * @example
 * ```ts
 * import { Config, Schema } from "effect"
 * import { RedisLockStore } from "effect-redis-lock/effect4"
 *
 * const LocksLive = RedisLockStore.layerClusterConfig({
 *   nodes: Config.Array(Schema.String, "REDIS_NODES"), // 10.0.0.1:6379,10.0.0.2:6379
 *   password: Config.Redacted("REDIS_PASSWORD")
 * })
 * ```
 *
 * @since 0.1.0
 * @category layers
 */
export const layerClusterConfig = (
  options: Config.Wrap<ConfigClusterOptions>
): Layer.Layer<LockStore, Config.ConfigError> =>
  fromConfig(options, (given) => makeCluster(clusterOptions(given)))

/**
 * A store on a client of your own. The client is left as it was: nothing is defined on it, none of
 * its options are changed, and it is not closed.
 *
 * The client decides how long a command waits for a lost connection, within `commandTimeout`, and
 * whether a silent connection is replaced. When the first caller has to wait, the store opens a
 * second connection with `client.duplicate()`, which it closes when it is closed itself.
 *
 * @since 0.1.0
 * @category layers
 */
export const layerFromClient = (
  client: Redis | Cluster,
  options: StoreOptions = {}
): Layer.Layer<LockStore, LockStoreError> =>
  Layer.effect(
    LockStore,
    Effect.suspend(() =>
      Effect.flatMap(decodeSettings(options), (settings) =>
        scopedStore((warn) => storeFromClient(client, settings, warn), options.defaults)
      )
    )
  )
