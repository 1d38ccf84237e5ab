/**
 * Leases in Redis: one server, a Sentinel group, or a Cluster (through `layerFromClient`), with ioredis
 * 5 or 6.
 *
 * @since 0.1.0
 */
import type * as Config from "effect/Config"
import * as ConfigError from "effect/ConfigError"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import type * as Scope from "effect/Scope"
import type { Cluster, Redis, RedisOptions } from "ioredis"
import { checkDefaults } from "./internal/faces/decodeOptions.js"
import { toMillis } from "./internal/faces/millis.js"
import { maxOwnerLength, show } from "./internal/common/options.js"
import { makeRedisStore, type Settings, storeFromClient } from "./internal/redis/make.js"
import { scopedStore } from "./internal/face/redisStore.js"
import { unwrapConfig } from "./internal/face/unwrapConfig.js"
import { LockStoreError } from "./LockError.js"
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
  /** Options of locks for callers that give none. */
  readonly defaults?: Defaults | undefined
}

/**
 * Where Redis is: a URL (`redis://`, `rediss://`), ioredis options, or both.
 *
 * @since 0.1.0
 * @category models
 */
export interface Options extends StoreOptions {
  readonly url?: string | Redacted.Redacted | undefined
  /**
   * Options for ioredis. The store decides itself how commands are retried, so
   * `maxRetriesPerRequest`, `enableOfflineQueue`, `autoResendUnfulfilledCommands` and
   * `commandTimeout` have no effect. `connectionName` is the name in `CLIENT LIST`; default:
   * `"effect-redis-lock"`. The name of the connection for messages ends in `:subscriber`.
   */
  readonly redis?: Omit<RedisOptions, "replyMapping"> | undefined
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
  Effect.flatMap(decode(options), ({ url, settings }) =>
    scopedStore(
      (warn) => makeRedisStore(url, options.redis ?? {}, settings, warn),
      options.defaults
    )
  )

/**
 * A layer with a connection of its own. Bind it to a constant and use that one: every call makes
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
  Layer.scoped(
    LockStore,
    Effect.flatMap(unwrapConfig(options), (given) =>
      Effect.mapError(Effect.flatMap(withShortForms(given), make), (error) =>
        ConfigError.InvalidData(["RedisLockStore"], error.detail)
      )
    )
  )

/** Types are not checked everywhere: what is spread here must be an object, or it would get lost. */
const withShortForms = (given: ConfigOptions): Either.Either<Options, LockStoreError> => {
  if (!isObject(given)) {
    return Either.left(impossible("(all of them)", given, "They must be an object."))
  }
  const { host, password, port, redis, username, ...rest } = given
  if (!isObject(redis ?? {})) return Either.left(impossible("redis", redis, objectExpected))
  return Either.right({
    ...rest,
    redis: {
      ...revealed(redis ?? {}),
      ...(host === undefined ? {} : { host }),
      ...(port === undefined ? {} : { port }),
      ...(username === undefined ? {} : { username }),
      ...(password === undefined ? {} : { password: reveal(password) })
    }
  })
}

/** The options as ioredis needs them. */
const revealed = (options: ConfigRedisOptions): Omit<RedisOptions, "replyMapping"> => {
  const { password, sentinelPassword, ...rest } = options
  return {
    ...rest,
    ...(password === undefined ? {} : { password: reveal(password) }),
    ...(sentinelPassword === undefined ? {} : { sentinelPassword: reveal(sentinelPassword) })
  }
}

const reveal = (secret: string | Redacted.Redacted): string =>
  Redacted.isRedacted(secret) ? Redacted.value(secret) : secret

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
 * A store on a client of your own. The client is left as it was: nothing is defined on it, none of
 * its options are changed, and it is not closed.
 *
 * The client decides how long a command waits for a lost connection, within `commandTimeout`, and
 * whether a silent connection is replaced. When the first caller has to wait, the store opens a
 * second connection with `client.duplicate()`, on which it receives messages about grants. It
 * closes that connection when it is closed itself.
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
    Effect.flatMap(decode(options), ({ settings }) =>
      scopedStore((warn) => storeFromClient(client, settings, warn), options.defaults)
    )
  )

const impossible = (option: string, value: unknown, why: string): LockStoreError =>
  new LockStoreError({
    operation: "configure",
    detail: `Impossible option ${option}: ${shown(value)}. ${why}`,
    transient: false
  })

const isObject = (value: unknown): boolean => typeof value === "object" && value !== null

const objectExpected = "It must be an object, with options for ioredis."

const decode = (
  options: Options
): Effect.Effect<
  { readonly url: string | undefined; readonly settings: Settings },
  LockStoreError
> =>
  Effect.suspend(() => {
    const millis = (
      option: string,
      input: Duration.DurationInput | undefined,
      ifNone: number,
      atLeast: number,
      example: string
    ) => {
      const value = input === undefined ? ifNone : (toMillis(input) ?? Number.NaN)
      return Number.isFinite(value) && value >= atLeast
        ? Either.right(value)
        : Either.left(
            impossible(
              option,
              input,
              `It must be a duration of ${atLeast} ms or more, for example "${example}".`
            )
          )
    }
    return Either.gen(function* () {
      const commandTimeoutMillis = yield* millis(
        "commandTimeout",
        options.commandTimeout,
        2_000,
        1,
        "2 seconds"
      )
      const foreignPollMillis = yield* millis(
        "foreignPollEvery",
        options.foreignPollEvery,
        50,
        1,
        "50 millis"
      )
      const localHandoffMillis = yield* millis(
        "localHandoff",
        options.localHandoff,
        20,
        0,
        "20 millis"
      )
      const url = Redacted.isRedacted(options.url) ? Redacted.value(options.url) : options.url
      if (url !== undefined && (typeof url !== "string" || !isRedisUrl(url))) {
        return yield* Either.left(
          impossible(
            "url",
            Redacted.isRedacted(options.url) ? "<redacted>" : url,
            "It must be redis://host:port, or rediss://host:port for TLS. A user and a password go before the host, with @ behind them; the number of the database goes after the port, with / before it."
          )
        )
      }
      if (!isObject(options.redis ?? {})) {
        return yield* Either.left(impossible("redis", options.redis, objectExpected))
      }
      const prefix: unknown = options.prefix ?? ""
      if (typeof prefix !== "string") {
        return yield* Either.left(impossible("prefix", prefix, "It must be a string."))
      }
      const batch: unknown = options.batch ?? true
      if (typeof batch !== "boolean") {
        return yield* Either.left(impossible("batch", batch, "It must be true or false."))
      }
      const badDefault = checkDefaults(options.defaults)
      if (badDefault !== undefined) {
        return yield* Either.left(
          new LockStoreError({ operation: "configure", detail: badDefault, transient: false })
        )
      }
      const owner: unknown = options.owner
      if (owner !== undefined && (typeof owner !== "string" || owner.length > maxOwnerLength)) {
        return yield* Either.left(
          impossible("owner", "…", `It must be a string of at most ${maxOwnerLength} characters.`)
        )
      }
      return {
        url,
        settings: {
          batch,
          prefix,
          owner: options.owner,
          commandTimeoutMillis,
          foreignPollMillis,
          localHandoffMillis
        }
      }
    })
  })

const isRedisUrl = (url: string): boolean =>
  /^rediss?:\/\//.test(url) &&
  URL.canParse(url) &&
  new URL(url).hostname !== "" &&
  /^\/?\d*$/.test(new URL(url).pathname)

const shown = (value: unknown): string =>
  typeof value === "string"
    ? withoutPassword(value)
    : Duration.isDuration(value)
      ? String(value)
      : show(value)

/** Everything before the last `@` can be a password, also in a URL that is wrong there. */
const withoutPassword = (url: string): string => url.replace(/^([a-z+.-]*:?\/*).*@/is, "$1***@")
