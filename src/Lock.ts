/**
 * A mutual exclusion lock, held as a scoped resource.
 *
 * Acquiring forks a renewal fiber; closing the scope ends that fiber and gives the lease back. The
 * code that runs under the lock (the body of `withLock`, or the effect of `lease.guard`) is
 * interrupted, at its next asynchronous boundary, before anyone else can own the lock. That happens
 * when the store says that the lease is not ours, or when the store has not answered for so long
 * that the proof of the lease is about to end. The proof is the time until which nobody else can
 * have the key: it is counted on this process's monotonic clock, from when the last answered
 * command was sent.
 *
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import { Lock, MemoryLockStore } from "effect-redis-lock"
 *
 * const program = Effect.log("only one at a time").pipe(
 *   Lock.withLock("invoice:42", { ttl: "5 seconds", waitAtMost: "10 seconds" }),
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
import { revoke } from "./internal/face/look.js"
import { wholeLock } from "./internal/face/share.js"
import type { AdoptOptions, Lease, Options, WaitOptions } from "./Lease.js"
import type { LockLost, LockStoreError, LockUnavailable } from "./LockError.js"
import type { LockStore } from "./LockStore.js"

/**
 * Options of every way to take a lock; see `Lease`.
 *
 * @since 0.1.0
 * @category models
 */
export type { AdoptOptions, Options, WaitOptions } from "./Lease.js"

/**
 * Takes the lock, waiting for its turn, and gives it back when the scope closes. The lease is
 * renewed until then. Run the protected code with `lease.guard`.
 *
 * The wait can be interrupted, unless the caller is itself in an uninterruptible region; nothing is
 * left behind then. Fails with `LockUnavailable` if `waitAtMost` is over, and with `LockStoreError`
 * if the store refused, or did not answer in its time. With `RedisLockStore` that is
 * `commandTimeout`; for a caller in the queue, a heartbeat and a claim window. (A waiting process
 * repeats its question once a heartbeat: min(1 s, ttl / 3). The claim window is three heartbeats,
 * after which a silent process is skipped.)
 *
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import { Lock } from "effect-redis-lock"
 *
 * declare const charge: (fencingToken: number) => Effect.Effect<void>
 *
 * const settle = Effect.scoped(
 *   Effect.gen(function* () {
 *     const lease = yield* Lock.acquire("invoice:42", { waitAtMost: "10 seconds" })
 *     yield* lease.guard(charge(lease.fencingToken))
 *   })
 * )
 * ```
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
 * is not. Combine it with `Effect.retry`, `Effect.option` and the like.
 *
 * @example
 * ```ts
 * import { Effect, Schedule } from "effect"
 * import { Lock } from "effect-redis-lock"
 *
 * const work = Effect.scoped(
 *   Effect.gen(function* () {
 *     const lease = yield* Lock.tryAcquire("invoice:42").pipe(
 *       Effect.retry(Schedule.exponential("100 millis").pipe(Schedule.upTo("1 minute")))
 *     )
 *     yield* lease.guard(Effect.log(`fencing token ${lease.fencingToken}`))
 *   })
 * )
 * ```
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
 * gives it back, whatever happens.
 *
 * Fails with `LockLost` if the lease was lost at any point, also when the body had succeeded by
 * then: somebody else may have had the lock while it ran. The interruption by the loss is not in
 * the cause. If the body failed by itself as well, both errors are in the cause, the body's first:
 * `Effect.catchTag` sees only the first, `Cause.failures` all of them. A release that the store did
 * not confirm is logged as a warning and counted; the lease then ends by its ttl.
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
 * `Option.none()`. For work that one of many callers should do, and the others skip.
 *
 * @example
 * ```ts
 * import { Effect, Option } from "effect"
 * import { Lock } from "effect-redis-lock"
 *
 * const sweep = Effect.log("one of all processes sweeps").pipe(
 *   Lock.withLockIfAvailable("sweep"),
 *   Effect.map(Option.isSome) // `false`: somebody else is at it
 * )
 * ```
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
 * Takes over a lock that another process has handed over (`lease.handOver`), and gives it back when the scope
 * closes. It does not wait, and comes before whoever waits: from the old holder to this one nobody else can
 * have had the lock. The lease has a token and a greater fencing token of its own, so what the old process
 * still sends is refused.
 *
 * The options are those of `tryAcquire`, without `reentrant`; the default `ttl` is that of the handle. `maxHold`
 * and `holdAtLeast` are the handle's, counted from the first holder's grant; to give one here is a defect.
 * Fails with `LockLost` if the lease is not there any more: the handle was used before, its ttl is over, or
 * somebody has taken, deleted or revoked the key; and with the reason `MaxHold` if its `maxHold` is over.
 * Fails with `LockStoreError` if the store did not answer (then the lease is given back), and
 * at once for a handle of another store, as far as that can be told: of another database or prefix, and in
 * memory of any other store. What is no handle, was changed, or is of another kind of lock, is a defect.
 *
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import { Lock } from "effect-redis-lock"
 * import type { Handle } from "effect-redis-lock/Handle"
 *
 * declare const work: Effect.Effect<void>
 *
 * const goOn = (handle: Handle) =>
 *   Effect.scoped(Effect.flatMap(Lock.adopt(handle), (lease) => lease.guard(work)))
 * ```
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
 * For operators: frees a key whose holder does not. Ends the lease with that fencing token, whoever has
 * it, of whichever kind the key is; the next in the queue enters at once. Succeeds with `true` then. With
 * `false`, nothing was changed: nobody holds the key with that number (any more), so the next holder is
 * not hit by mistake.
 *
 * The number is the one that the store shows (`LockStore.look`; in Redis it stands in the record of the
 * key). It can differ from a `lease.fencingToken`, and `forceRelease` answers `false` for that one: a
 * process that passes a lock on to its own callers gives them numbers of which the server knows only one.
 * What ends is what the server knows by that number: of readers of one process that share it, all.
 *
 * The holder's work is not over by that. It fails with `LockLost`, `Revoked`, and is interrupted, when its
 * process hears of it: at once in memory, and with Redis if that process listens for messages (it does as
 * soon as one of its callers has waited for any key); otherwise at the holder's next renewal, half a ttl
 * later at most by default. Until then the next holder and this one work at the same time, and only the
 * fencing token tells the two apart.
 *
 * Fails with `LockStoreError` if the store did not answer (the lease may have ended then: ask again), or
 * cannot do this. A number that cannot be a fencing token is a defect.
 *
 * @example
 * ```ts
 * import { Console, Duration, Effect } from "effect"
 * import { Lock, LockStore } from "effect-redis-lock"
 *
 * // first, for a person to look at
 * const show = (key: string) =>
 *   Effect.gen(function* () {
 *     const { look } = yield* LockStore.LockStore
 *     const held = look === undefined ? [] : (yield* look(key, 100)).held
 *     for (const { fencingToken, heldFor, owner, share } of held) {
 *       const since = heldFor && Duration.format(heldFor)
 *       yield* Console.log(`${owner}: ${fencingToken}, share ${share}, for ${since}`)
 *     }
 *   })
 *
 * // then, with the number that was shown
 * const free = (key: string, fencingToken: number) => Lock.forceRelease(key, fencingToken)
 * ```
 *
 * @since 0.1.0
 * @category administration
 */
export const forceRelease = (
  key: string,
  fencingToken: number
): Effect.Effect<boolean, LockStoreError, LockStore> => revoke(key, fencingToken)
