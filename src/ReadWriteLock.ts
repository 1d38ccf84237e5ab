/**
 * A read-write lock over processes: many readers of a key, or one writer, each with a lease of its own
 * that is renewed, can be lost, and has a fencing token, as the lease of a lock.
 *
 * It is fair between processes: everybody is served in the order of arrival. Readers that stand together
 * at the head of the queue enter together. A waiting writer stops the readers that come after it, and
 * waits only for the readers inside.
 *
 * Nested reads share: a fiber that is in a `withReadLock` of the key (or under the `guard` of a read), and
 * every fiber that was forked from it, uses that read again, and does not wait behind a writer that
 * waits for it. The inner use has the same lease and gives nothing back; it ends with the outer one at
 * the latest. A write is shared only with the option `reentrant`: otherwise whoever takes the lock again
 * inside of a write waits for itself, and is warned about.
 *
 * There is no upgrade. A fiber that holds a read (or was forked from one that does) and asks for the
 * write lock of the same key would wait for itself for ever: that is a defect, at once. From write to
 * read there is `downgrade`.
 *
 * A key is of one kind at a time: while it is held or waited for as a read-write lock, a `Lock` or a
 * `Semaphore` of the same key fails with a `LockStoreError`, and the other way round.
 *
 * **Fencing.** Every grant has a greater number than those before it, but readers hold together: a
 * resource that refuses what is smaller than the greatest number it has seen would refuse a reader that
 * is right. It remembers two numbers, the greatest of a writer and the greatest of all, and refuses a
 * reader below the first, and a writer below the second:
 *
 * ```sql
 * -- a read: no row means that a later writer has been here
 * UPDATE fences SET seen = greatest(seen, :token) WHERE name = 'config' AND :token >= writer;
 * -- a write: no row means that somebody later has been here
 * UPDATE fences SET seen = :token, writer = :token WHERE name = 'config' AND :token >= seen;
 * ```
 *
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import { MemoryLockStore, ReadWriteLock } from "effect-redis-lock"
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
import "./internal/with-effect-4-import/effect-redis-lock/effect4.js"
import type * as Effect from "effect/Effect"
import type * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import type { Handle } from "./Handle.js"
import { scopedLease } from "./internal/face/acquire.js"
import { type Body, bodyFirst, underLease, underLeaseIfAvailable } from "./internal/face/body.js"
import { adopted } from "./internal/face/adopt.js"
import { aRead, theWrite } from "./internal/face/readWrite.js"
import type { Options, WaitOptions, WriteLease } from "./internal/faces/readWriteLock.js"
import type { AdoptOptions, Lease } from "./Lease.js"
import type { LockLost, LockStoreError, LockUnavailable } from "./LockError.js"
import type { LockStore } from "./LockStore.js"

export type { Options, WaitOptions, WriteLease } from "./internal/faces/readWriteLock.js"

/**
 * Takes a read, waiting for its turn, and gives it back when the scope closes. It is renewed until then.
 * Run the protected code with `lease.guard`. Waiting, interruption and errors are those of
 * `Lock.acquire`. Inside of a `withReadLock` of the same key, or under the `guard` of a read, it is the
 * same read again.
 *
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import { ReadWriteLock } from "effect-redis-lock"
 *
 * const read = Effect.scoped(
 *   Effect.gen(function* () {
 *     const lease = yield* ReadWriteLock.readLock("config")
 *     yield* lease.guard(Effect.log("nobody writes"))
 *   })
 * )
 * const write = Effect.scoped(
 *   Effect.gen(function* () {
 *     const lease = yield* ReadWriteLock.writeLock("config", { waitAtMost: "10 seconds" })
 *     yield* lease.guard(Effect.log("nobody reads or writes"))
 *     yield* lease.downgrade
 *     yield* lease.guard(Effect.log("nobody writes, and others read"))
 *   })
 * )
 * ```
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
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import { ReadWriteLock } from "effect-redis-lock"
 *
 * // whether one could enter at this moment: it does, and leaves
 * const canRead = Effect.isSuccess(Effect.scoped(ReadWriteLock.tryReadLock("config")))
 * const canWrite = Effect.isSuccess(Effect.scoped(ReadWriteLock.tryWriteLock("config")))
 * ```
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
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import { ReadWriteLock } from "effect-redis-lock"
 * import type { Handle } from "effect-redis-lock/Handle"
 *
 * declare const read: Effect.Effect<void>
 *
 * const goOn = (handle: Handle) =>
 *   Effect.scoped(
 *     Effect.flatMap(ReadWriteLock.adoptRead(handle, { owner: "web-4" }), (lease) =>
 *       lease.guard(read)
 *     )
 *   )
 * ```
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
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import { ReadWriteLock } from "effect-redis-lock"
 * import type { Handle } from "effect-redis-lock/Handle"
 *
 * declare const write: Effect.Effect<void>
 *
 * const goOn = (handle: Handle) =>
 *   Effect.scoped(
 *     Effect.flatMap(ReadWriteLock.adoptWrite(handle), (lease) => lease.guard(write))
 *   )
 * ```
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
 * @example
 * ```ts
 * import { Effect, Option } from "effect"
 * import { ReadWriteLock } from "effect-redis-lock"
 *
 * const read = Effect.succeed("the newest").pipe(
 *   ReadWriteLock.withReadLockIfAvailable("config"),
 *   Effect.map(Option.getOrElse(() => "what was there before"))
 * )
 * const tidyUp = Effect.log("nobody has been here").pipe(
 *   ReadWriteLock.withWriteLockIfAvailable("config")
 * )
 * ```
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
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import { ReadWriteLock } from "effect-redis-lock"
 *
 * declare const write: Effect.Effect<void>
 * declare const announce: Effect.Effect<void>
 *
 * // others read again while this announces what it has written, and nobody has written since
 * const publish = ReadWriteLock.withWriteLock("config")((lease) =>
 *   write.pipe(Effect.zipRight(lease.downgrade), Effect.zipRight(announce))
 * )
 * ```
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
