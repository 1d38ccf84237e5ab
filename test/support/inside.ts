import type { LockStore } from "effect-redis-lock"
import { engineStoreOf } from "../../src/internal/face/publicStore.js"

/** What is behind a store, for tests that look into it. */
export const inside = <A>(store: LockStore.LockStore): A =>
  (engineStoreOf(store) ?? store) as unknown as A
