/**
 * The service that keeps leases. Locks use it, and know nothing of where it keeps them. To keep
 * leases somewhere else, implement `acquire` and a clock.
 *
 * @example
 * ```ts
 * import { Effect, Layer } from "effect"
 * import { LockStore, MemoryLockStore } from "effect-redis-lock"
 *
 * // a store on top of another one, which logs what is asked for
 * const Logged = Layer.effect(
 *   LockStore.LockStore,
 *   Effect.map(
 *     LockStore.LockStore,
 *     (store): LockStore.LockStore => ({
 *       ...store,
 *       acquire: (claim, restore) =>
 *         Effect.zipRight(Effect.logDebug(`${claim.key} is asked for`), store.acquire(claim, restore))
 *     })
 *   )
 * ).pipe(Layer.provide(MemoryLockStore.layer))
 * ```
 *
 * @since 0.1.0
 */
import "./internal/with-effect-4-import/effect-redis-lock/effect4.js"
import * as Context from "effect/Context"
import type * as Types from "./internal/faces/lockStore.js"

export type {
  Adopted,
  Capability,
  Claim,
  Contention,
  Defaults,
  Grant,
  HeldEntry,
  Kind,
  LockClock,
  Look,
  NotOurs,
  Ownership,
  PendingEntry,
  Renewal,
  Restore,
  ScheduledCall
} from "./internal/faces/lockStore.js"

/**
 * The service that keeps leases. A plain object, as a `Grant` is: `{ ...store, acquire }` is a
 * store as well. `LockStoreContract` finds out whether a store keeps what is promised here.
 *
 * @since 0.1.0
 * @category models
 */
export interface LockStore extends Types.LockStore {}

/**
 * The service, as a program asks for it and provides it.
 *
 * @since 0.1.0
 * @category tags
 */
export const LockStore: Context.Tag<LockStore, LockStore> = Context.GenericTag<LockStore>(
  "effect-redis-lock/LockStore"
)
