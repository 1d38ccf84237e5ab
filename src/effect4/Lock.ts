/**
 * A mutual exclusion lock, held as a scoped resource: `effect-redis-lock/Lock` for Effect 4, whose
 * documentation is that of this module as well.
 *
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import { Lock, MemoryLockStore } from "effect-redis-lock/effect4"
 *
 * const program = Effect.log("only one at a time").pipe(
 *   Lock.withLock("invoice:42", { ttl: "5 seconds", waitAtMost: "10 seconds" }),
 *   Effect.provide(MemoryLockStore.layer)
 * )
 * ```
 *
 * @since 0.1.0
 */
import "../internal/with-effect-3-import/effect-redis-lock.js"
import type * as Effect from "effect/Effect"
import type * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import { adopted } from "../internal/face4/adopt.js"
import { scopedLease } from "../internal/face4/acquire.js"
import { type Body, bodyFirst, underLease, underLeaseIfAvailable } from "../internal/face4/body.js"
import { revoke } from "../internal/face4/look.js"
import { wholeLock } from "../internal/face4/share.js"
import type { Handle } from "../internal/faces/handle.js"
import type { AdoptOptions, Lease, Options, WaitOptions } from "../Lease.js"
import type { LockLost, LockStoreError, LockUnavailable } from "../LockError.js"
import type { LockStore } from "./LockStore.js"

/**
 * Options of every way to take a lock; see `Lease`.
 *
 * @since 0.1.0
 * @category models
 */
export type { AdoptOptions, Options, WaitOptions } from "../Lease.js"

/**
 * Takes the lock, waiting for its turn, and gives it back when the scope closes. The lease is
 * renewed until then. Run the protected code with `lease.guard`.
 *
 * @since 0.1.0
 * @category constructors
 */
export const acquire = (
  key: string,
  options?: WaitOptions
): Effect.Effect<Lease, LockUnavailable | LockStoreError, LockStore | Scope.Scope> =>
  scopedLease(key, wholeLock, options, options?.waitAtMost)

/**
 * Takes the lock if it is free at this moment, in one attempt; fails with `LockUnavailable` if it
 * is not.
 *
 * @since 0.1.0
 * @category constructors
 */
export const tryAcquire = (
  key: string,
  options?: Options
): Effect.Effect<Lease, LockUnavailable | LockStoreError, LockStore | Scope.Scope> =>
  scopedLease(key, wholeLock, options, 0)

/**
 * Runs an effect, or a function of the lease, under the lock: takes it, runs the body guarded, and
 * gives it back, whatever happens. Fails with `LockLost` if the lease was lost at any point.
 *
 * @since 0.1.0
 * @category combinators
 */
export const withLock: {
  (
    key: string,
    options?: WaitOptions
  ): <A, E, R>(
    body: Effect.Effect<A, E, R> | ((lease: Lease) => Effect.Effect<A, E, R>)
  ) => Effect.Effect<A, E | LockUnavailable | LockLost | LockStoreError, R | LockStore>
  <A, E, R>(
    body: Effect.Effect<A, E, R> | ((lease: Lease) => Effect.Effect<A, E, R>),
    key: string,
    options?: WaitOptions
  ): Effect.Effect<A, E | LockUnavailable | LockLost | LockStoreError, R | LockStore>
} = bodyFirst(<A, E, R>(body: Body<Lease, A, E, R>, key: string, options?: WaitOptions) =>
  underLease(key, wholeLock, options, body)
)

/**
 * Runs an effect under the lock if the lock is free at this moment, and does nothing if it is not:
 * `Option.none()`.
 *
 * @since 0.1.0
 * @category combinators
 */
export const withLockIfAvailable: {
  (
    key: string,
    options?: Options
  ): <A, E, R>(
    body: Effect.Effect<A, E, R> | ((lease: Lease) => Effect.Effect<A, E, R>)
  ) => Effect.Effect<Option.Option<A>, E | LockLost | LockStoreError, R | LockStore>
  <A, E, R>(
    body: Effect.Effect<A, E, R> | ((lease: Lease) => Effect.Effect<A, E, R>),
    key: string,
    options?: Options
  ): Effect.Effect<Option.Option<A>, E | LockLost | LockStoreError, R | LockStore>
} = bodyFirst(<A, E, R>(body: Body<Lease, A, E, R>, key: string, options?: Options) =>
  underLeaseIfAvailable(key, wholeLock, options, body)
)

/**
 * Takes over a lock that another process has handed over (`lease.handOver`), and gives it back when the
 * scope closes.
 *
 * @since 0.1.0
 * @category constructors
 */
export const adopt = (
  handle: Handle,
  options?: AdoptOptions
): Effect.Effect<Lease, LockLost | LockStoreError, LockStore | Scope.Scope> =>
  adopted(handle, options, "lock", () => wholeLock)

/**
 * For operators: ends the lease with that fencing token, whoever has it. Succeeds with whether there was
 * one.
 *
 * @since 0.1.0
 * @category administration
 */
export const forceRelease = (
  key: string,
  fencingToken: number
): Effect.Effect<boolean, LockStoreError, LockStore> => revoke(key, fencingToken)
