/** Layers whose options come from `Config`. */
import * as Config from "effect/Config"
import type * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import * as SchemaIssue from "effect/SchemaIssue"
import type * as Scope from "effect/Scope"
import { LockStore } from "../../effect4/LockStore.js"
import type { LockStoreError } from "../../LockError.js"
import { configured } from "../faces/storeConfig.js"

const invalid = (detail: string): Config.Config<never> =>
  Config.fail(
    new Schema.SchemaError(
      new SchemaIssue.Pointer(["RedisLockStore"], new SchemaIssue.InvalidValue({ message: detail }))
    )
  )

export const fromConfig = <A extends { readonly redis?: object | undefined }>(
  options: Config.Wrap<A>,
  make: (given: A) => Effect.Effect<LockStore, LockStoreError, Scope.Scope>
): Layer.Layer<LockStore, Config.ConfigError> =>
  Layer.effect(LockStore, configured(options, make, invalid))
