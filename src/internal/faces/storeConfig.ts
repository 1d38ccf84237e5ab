/** Stores whose options come from `Config`, with their secrets revealed. */
import type * as Config from "effect/Config"
import * as Effect from "effect/Effect"
import type * as Redacted from "effect/Redacted"
import type { LockStoreError } from "../../LockError.js"
import { impossible, isObject, objectExpected, reveal } from "./decodeStore.js"
import type {
  ClusterOptions,
  ConfigClusterOptions,
  ConfigOptions,
  Options
} from "./redisOptions.js"
import { unwrapConfig } from "./unwrapConfig.js"

type ConfigError = Config.Config<unknown> extends Effect.Effect<unknown, infer E> ? E : never

/**
 * With `invalid`, a Config that fails with that detail. (Types are not checked everywhere: what is spread
 * here must be an object, or it would get lost.)
 */
export const configured = <A extends { readonly redis?: object | undefined }, Store, R>(
  options: unknown,
  make: (given: A) => Effect.Effect<Store, LockStoreError, R>,
  invalid: (detail: string) => Config.Config<never>
): Effect.Effect<Store, ConfigError, R> =>
  Effect.flatMap(unwrapConfig<A>(options, invalid), (given) =>
    Effect.catchTag(
      !isObject(given)
        ? Effect.fail(impossible("(all of them)", given, "They must be an object."))
        : !isObject(given.redis ?? {})
          ? Effect.fail(impossible("redis", given.redis, objectExpected))
          : make(given),
      "LockStoreError",
      (error) => invalid(error.detail)
    )
  )

/** The options of `layer` that those of `layerConfig` mean. */
export const serverOptions = ({
  host,
  password,
  port,
  redis,
  username,
  ...rest
}: ConfigOptions): Options => ({
  ...rest,
  redis: {
    ...revealed({ ...redis, ...given({ password, username }) }),
    ...given({ host, port })
  }
})

/** The options of `layerCluster` that those of `layerClusterConfig` mean. */
export const clusterOptions = ({
  password,
  redis,
  username,
  ...rest
}: ConfigClusterOptions): ClusterOptions => ({
  ...rest,
  redis: revealed({ ...redis, ...given({ password, username }) })
})

/** Those of them that are given. */
const given = <A extends object>(
  options: A
): { readonly [K in keyof A]?: Exclude<A[K], undefined> } =>
  Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined)) as never

interface Hidden {
  readonly password?: string | Redacted.Redacted | undefined
  readonly sentinelPassword?: string | Redacted.Redacted | undefined
}

interface Secrets {
  readonly password?: string
  readonly sentinelPassword?: string
}

/** The options as ioredis needs them. */
const revealed = <A extends Hidden>(options: A): Omit<A, keyof Hidden> & Secrets => {
  const { password, sentinelPassword, ...rest } = options
  return {
    ...rest,
    ...(password === undefined ? {} : { password: reveal(password) }),
    ...(sentinelPassword === undefined ? {} : { sentinelPassword: reveal(sentinelPassword) })
  }
}
