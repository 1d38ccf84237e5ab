/** Layers whose options come from `Config`, with their secrets revealed. */
import type * as Config from "effect/Config"
import * as ConfigError from "effect/ConfigError"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Layer from "effect/Layer"
import type * as Redacted from "effect/Redacted"
import type * as Scope from "effect/Scope"
import type { LockStoreError } from "../../LockError.js"
import { LockStore } from "../../LockStore.js"
import { impossible, isObject, objectExpected, reveal } from "./decodeStore.js"
import { unwrapConfig } from "./unwrapConfig.js"

/** Types are not checked everywhere: what is spread here must be an object, or it would get lost. */
export const fromConfig = <A extends { readonly redis?: object | undefined }>(
  options: Config.Config.Wrap<A>,
  make: (given: A) => Effect.Effect<LockStore, LockStoreError, Scope.Scope>
): Layer.Layer<LockStore, ConfigError.ConfigError> =>
  Layer.scoped(
    LockStore,
    Effect.flatMap(unwrapConfig(options), (given) =>
      Effect.mapError(
        !isObject(given)
          ? Either.left(impossible("(all of them)", given, "They must be an object."))
          : !isObject(given.redis ?? {})
            ? Either.left(impossible("redis", given.redis, objectExpected))
            : make(given),
        (error) => ConfigError.InvalidData(["RedisLockStore"], error.detail)
      )
    )
  )

/** Those of them that are given. */
export const given = <A extends object>(
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
export const revealed = <A extends Hidden>(options: A): Omit<A, keyof Hidden> & Secrets => {
  const { password, sentinelPassword, ...rest } = options
  return {
    ...rest,
    ...(password === undefined ? {} : { password: reveal(password) }),
    ...(sentinelPassword === undefined ? {} : { sentinelPassword: reveal(sentinelPassword) })
  }
}
