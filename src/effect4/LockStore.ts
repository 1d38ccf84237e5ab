/**
 * The service that keeps leases, for Effect 4. Locks use it, and know nothing of where it keeps them. To
 * keep leases somewhere else, implement `acquire` and a clock.
 *
 * @since 0.1.0
 */
import "../internal/with-effect-3-import/effect-redis-lock.js"
import * as Context from "effect/Context"
import type * as Types from "../internal/faces/lockStore.js"

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
} from "../internal/faces/lockStore.js"

/**
 * The service that keeps leases. A plain object, as a `Grant` is: `{ ...store, acquire }` is a
 * store as well.
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
export const LockStore: Context.Service<LockStore, LockStore> = Context.Service<
  LockStore,
  LockStore
>("effect-redis-lock/LockStore")
