/**
 * A read-write lock over processes: many readers of a key, or one writer.
 * `effect-redis-lock/ReadWriteLock` for Effect 4, whose documentation (who is served when, nested reads,
 * no upgrade, fencing) is that of this module as well.
 *
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import { MemoryLockStore, ReadWriteLock } from "effect-redis-lock/effect4"
 *
 * const read = Effect.log("many at a time").pipe(ReadWriteLock.withReadLock("config"))
 * const write = Effect.log("alone").pipe(
 *   ReadWriteLock.withWriteLock("config", { waitAtMost: "10 seconds" })
 * )
 *
 * const program = Effect.all([read, read, write], { concurrency: "unbounded" }).pipe(
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
import type { Handle } from "../internal/faces/handle.js"
import { scopedLease } from "../internal/face4/acquire.js"
import { type Body, bodyFirst, underLease, underLeaseIfAvailable } from "../internal/face4/body.js"
import { adopted } from "../internal/face4/adopt.js"
import { aRead, theWrite } from "../internal/face4/readWrite.js"
import type { Options, WaitOptions, WriteLease } from "../internal/faces/readWriteLock.js"
import type { AdoptOptions, Lease } from "../Lease.js"
import type { LockLost, LockStoreError, LockUnavailable } from "../LockError.js"
import type { LockStore } from "./LockStore.js"

export type { Options, WaitOptions, WriteLease } from "../internal/faces/readWriteLock.js"

/**
 * Takes a read, waiting for its turn, and gives it back when the scope closes. It is renewed until then.
 * Run the protected code with `lease.guard`. Waiting, interruption and errors are those of
 * `Lock.acquire`. Inside of a `withReadLock` of the same key, or under the `guard` of a read, it is the
 * same read again.
 *
 * @since 0.1.0
 * @category constructors
 */
export const readLock = (
  key: string,
  options?: WaitOptions
): Effect.Effect<Lease, LockUnavailable | LockStoreError, LockStore | Scope.Scope> =>
  scopedLease(key, aRead, options, options?.waitAtMost)

/**
 * Takes a read if nobody writes at this moment, and nobody waits; fails with `LockUnavailable` if not.
 * One attempt.
 *
 * @since 0.1.0
 * @category constructors
 */
export const tryReadLock = (
  key: string,
  options?: Options
): Effect.Effect<Lease, LockUnavailable | LockStoreError, LockStore | Scope.Scope> =>
  scopedLease(key, aRead, options, 0)

/**
 * Takes the write lock, waiting until it is its turn and the readers inside have left, and gives it back
 * when the scope closes. A defect where the fiber, or one that it was forked from, holds a read of the
 * key.
 *
 * @since 0.1.0
 * @category constructors
 */
export const writeLock = (
  key: string,
  options?: WaitOptions
): Effect.Effect<WriteLease, LockUnavailable | LockStoreError, LockStore | Scope.Scope> =>
  scopedLease(key, theWrite, options, options?.waitAtMost)

/**
 * Takes the write lock if nobody has anything of the key at this moment, and nobody waits; fails with
 * `LockUnavailable` if not. One attempt.
 *
 * @since 0.1.0
 * @category constructors
 */
export const tryWriteLock = (
  key: string,
  options?: Options
): Effect.Effect<WriteLease, LockUnavailable | LockStoreError, LockStore | Scope.Scope> =>
  scopedLease(key, theWrite, options, 0)

/**
 * Takes over a read that another process has handed over, as `Lock.adopt` does: also a write that was
 * downgraded. For a write it is a defect.
 *
 * @since 0.1.0
 * @category constructors
 */
export const adoptRead = (
  handle: Handle,
  options?: AdoptOptions
): Effect.Effect<Lease, LockLost | LockStoreError, LockStore | Scope.Scope> =>
  adopted(handle, options, "readWriteLock", () => aRead)

/**
 * Takes over the write lock that another process has handed over, as `Lock.adopt` does. For a read it is a
 * defect.
 *
 * @since 0.1.0
 * @category constructors
 */
export const adoptWrite = (
  handle: Handle,
  options?: AdoptOptions
): Effect.Effect<WriteLease, LockLost | LockStoreError, LockStore | Scope.Scope> =>
  adopted(handle, options, "readWriteLock", () => theWrite)

/**
 * Runs an effect, or a function of the lease, as a reader: takes a read, runs the body guarded, and
 * gives it back, whatever happens. What is said of `Lock.withLock` is true here as well; a loss
 * interrupts this body, and no other reader's.
 *
 * @since 0.1.0
 * @category combinators
 */
export const withReadLock: {
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
  underLease(key, aRead, options, body)
)

/**
 * Runs an effect as a reader if nobody writes at this moment, and nobody waits; does nothing if not:
 * `Option.none()`.
 *
 * @since 0.1.0
 * @category combinators
 */
export const withReadLockIfAvailable: {
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
  underLeaseIfAvailable(key, aRead, options, body)
)

/**
 * Runs an effect, or a function of the lease, as the writer: alone. Otherwise as `withReadLock`. A
 * defect where the fiber, or one that it was forked from, holds a read of the key.
 *
 * @since 0.1.0
 * @category combinators
 */
export const withWriteLock: {
  (
    key: string,
    options?: WaitOptions
  ): <A, E, R>(
    body: Effect.Effect<A, E, R> | ((lease: WriteLease) => Effect.Effect<A, E, R>)
  ) => Effect.Effect<A, E | LockUnavailable | LockLost | LockStoreError, R | LockStore>
  <A, E, R>(
    body: Effect.Effect<A, E, R> | ((lease: WriteLease) => Effect.Effect<A, E, R>),
    key: string,
    options?: WaitOptions
  ): Effect.Effect<A, E | LockUnavailable | LockLost | LockStoreError, R | LockStore>
} = bodyFirst(<A, E, R>(body: Body<WriteLease, A, E, R>, key: string, options?: WaitOptions) =>
  underLease(key, theWrite, options, body)
)

/**
 * Runs an effect as the writer if nobody has anything of the key at this moment, and nobody waits; does
 * nothing if not: `Option.none()`.
 *
 * @since 0.1.0
 * @category combinators
 */
export const withWriteLockIfAvailable: {
  (
    key: string,
    options?: Options
  ): <A, E, R>(
    body: Effect.Effect<A, E, R> | ((lease: WriteLease) => Effect.Effect<A, E, R>)
  ) => Effect.Effect<Option.Option<A>, E | LockLost | LockStoreError, R | LockStore>
  <A, E, R>(
    body: Effect.Effect<A, E, R> | ((lease: WriteLease) => Effect.Effect<A, E, R>),
    key: string,
    options?: Options
  ): Effect.Effect<Option.Option<A>, E | LockLost | LockStoreError, R | LockStore>
} = bodyFirst(<A, E, R>(body: Body<WriteLease, A, E, R>, key: string, options?: Options) =>
  underLeaseIfAvailable(key, theWrite, options, body)
)
