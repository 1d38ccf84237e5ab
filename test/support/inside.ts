import type { LockStore } from "effect-redis-lock"
// (by the name of the package: of the very sources that the store is of, also where they are a copy)
import { engineStoreOf } from "effect-redis-lock/internal/face/publicStore"

/** What is behind a store, for tests that look into it. */
export const inside = <A>(store: LockStore.LockStore): A =>
  (engineStoreOf(store) ?? store) as unknown as A
