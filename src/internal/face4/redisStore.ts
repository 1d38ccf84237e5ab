/** The store in Redis, as a scoped resource: the connection's life is the scope's. */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { LockStore } from "../../effect4/LockStore.js"
import type { LockStoreError } from "../../LockError.js"
import { type Store, StoreFailure } from "../engine.js"
import { lockStoreError } from "../faces/answers.js"
import type { Defaults } from "../faces/lockStore.js"
import { publicStore } from "./publicStore.js"

/** Warnings are logged with what is provided where the store is made. */
export const scopedStore = (
  make: (warn: (message: string) => void) => Store | StoreFailure,
  defaults: Defaults | undefined
): Effect.Effect<LockStore, LockStoreError, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.flatMap(Effect.context<never>(), (context) => {
      const log = Effect.runForkWith(context)
      const store = make((message) => void log(Effect.logWarning(message)))
      return store instanceof StoreFailure
        ? Effect.fail(lockStoreError(store))
        : Effect.succeed(store)
    }),
    (store) => Effect.callback<void>((resume) => store.close(() => resume(Effect.void)))
  ).pipe(Effect.map((store) => publicStore(store, defaults)))
