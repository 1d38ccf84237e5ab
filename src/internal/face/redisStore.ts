/** The store in Redis, as a scoped resource: the connection's life is the scope's. */
import * as Effect from "effect/Effect"
import * as Runtime from "effect/Runtime"
import type * as Scope from "effect/Scope"
import type { Defaults, LockStore } from "../../LockStore.js"
import type { Store } from "../engine.js"
import { publicStore } from "./publicStore.js"

/** Warnings are logged with what is provided where the store is made. */
export const scopedStore = (
  make: (warn: (message: string) => void) => Store,
  defaults: Defaults | undefined
): Effect.Effect<LockStore, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.map(Effect.runtime<never>(), (runtime) => {
      const log = Runtime.runFork(runtime)
      return make((message) => void log(Effect.logWarning(message)))
    }),
    (store) => Effect.async<void>((resume) => store.close(() => resume(Effect.void)))
  ).pipe(Effect.map((store) => publicStore(store, defaults)))
