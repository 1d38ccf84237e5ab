/** Layers whose options come from `Config`. */
import * as Config from "effect/Config"
import * as ConfigError from "effect/ConfigError"
import type * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import type { LockStoreError } from "../../LockError.js"
import { LockStore } from "../../LockStore.js"
import { configured } from "../faces/storeConfig.js"

const invalid = (detail: string): Config.Config<never> =>
  Config.mapOrFail(Config.succeed(undefined), () =>
    Either.left(ConfigError.InvalidData(["RedisLockStore"], detail))
  )

export const fromConfig = <A extends { readonly redis?: object | undefined }>(
  options: Config.Config.Wrap<A>,
  make: (given: A) => Effect.Effect<LockStore, LockStoreError, Scope.Scope>
): Layer.Layer<LockStore, ConfigError.ConfigError> =>
  Layer.scoped(LockStore, configured(options, make, invalid))
