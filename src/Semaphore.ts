/**
 * A semaphore over processes: as many permits of a key as its `limit` are held at a time, each as a
 * scoped resource that is renewed, can be lost, and has a fencing token, as the lease of a lock.
 *
 * Requests are served strictly in the order in which they came. One that asks for many permits is
 * not overtaken by those behind it, which wait as well, also if there is room for them. (Effect's own
 * semaphores let small requests overtake.) A holder that crashes costs its permits for its ttl, and
 * nobody else's.
 *
 * The limit is what each caller says, and nobody's limit is exceeded while it holds: a request is
 * granted if all permits together, its own included, are within the smallest limit among its own and
 * those of the present holders. So the limit can be changed by a rolling deploy, in either direction.
 *
 * A key is of one kind at a time: while it is held or waited for as a semaphore, a `Lock` of the same
 * key fails with a `LockStoreError`, and the other way round.
 *
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import { MemoryLockStore, Semaphore } from "effect-redis-lock"
 *
 * const program = Effect.log("at most three at a time").pipe(
 *   Semaphore.withPermits("partner-api", { limit: 3, waitAtMost: "10 seconds" }),
 *   Effect.provide(MemoryLockStore.layer)
 * )
 * ```
 *
 * @since 0.1.0
 */
import "./internal/with-effect-4-import/effect-redis-lock/effect4.js"
import * as Effect from "effect/Effect"
import type * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import type { Handle } from "./Handle.js"
import { scopedLease } from "./internal/face/acquire.js"
import { defect } from "./internal/face/causes.js"
import { type Body, bodyFirst, underLease, underLeaseIfAvailable } from "./internal/face/body.js"
import { adopted } from "./internal/face/adopt.js"
import { lookAt } from "./internal/face/look.js"
import { type HeldPermits, permitsOf, type SharedPermits } from "./internal/face/permits.js"
import type { Share } from "./internal/face/share.js"
import type { Options, Permits, SemaphoreLease, WaitOptions } from "./internal/faces/semaphore.js"
import type { AdoptOptions } from "./Lease.js"
import type { LockLost, LockStoreError, LockUnavailable } from "./LockError.js"
import type { LockStore } from "./LockStore.js"

export type { Options, Permits, SemaphoreLease, WaitOptions } from "./internal/faces/semaphore.js"

/**
 * Takes permits, waiting for its turn, and gives them back when the scope closes. They are renewed
 * until then. Run the protected code with `lease.guard`. Waiting, interruption and errors are those
 * of `Lock.acquire`.
 *
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import { Semaphore } from "effect-redis-lock"
 *
 * const call = Effect.scoped(
 *   Effect.gen(function* () {
 *     const lease = yield* Semaphore.acquire("partner-api", { limit: 3, waitAtMost: "10 seconds" })
 *     yield* lease.guard(Effect.log("at most three at a time"))
 *   })
 * )
 * ```
 *
 * @since 0.1.0
 * @category constructors
 */
export const acquire = (
  key: string,
  options: WaitOptions
): Effect.Effect<SemaphoreLease, LockUnavailable | LockStoreError, LockStore | Scope.Scope> =>
  withShare(options, (share) => scopedLease(key, share, options, options.waitAtMost))

/**
 * Takes permits if that many are free at this moment, and nobody waits for some; fails with
 * `LockUnavailable` if not. One attempt.
 *
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import { Semaphore } from "effect-redis-lock"
 *
 * // a heavy call counts for two
 * const call = Effect.scoped(
 *   Effect.gen(function* () {
 *     const lease = yield* Semaphore.tryAcquire("partner-api", { limit: 3, permits: 2 })
 *     yield* lease.guard(Effect.log("two were free"))
 *   })
 * )
 * ```
 *
 * @since 0.1.0
 * @category constructors
 */
export const tryAcquire = (
  key: string,
  options: Options
): Effect.Effect<SemaphoreLease, LockUnavailable | LockStoreError, LockStore | Scope.Scope> =>
  withShare(options, (share) => scopedLease(key, share, options, 0))

/**
 * Runs an effect, or a function of the lease, with some permits: takes them, runs the body guarded,
 * and gives them back, whatever happens. What is said of `Lock.withLock` is true here as well; a loss
 * interrupts this body, and no other holder's.
 *
 * @since 0.1.0
 * @category combinators
 */
export const withPermits: {
  (
    key: string,
    options: WaitOptions
  ): <A, E, R>(
    body: Effect.Effect<A, E, R> | ((lease: SemaphoreLease) => Effect.Effect<A, E, R>)
  ) => Effect.Effect<A, E | LockUnavailable | LockLost | LockStoreError, R | LockStore>
  <A, E, R>(
    body: Effect.Effect<A, E, R> | ((lease: SemaphoreLease) => Effect.Effect<A, E, R>),
    key: string,
    options: WaitOptions
  ): Effect.Effect<A, E | LockUnavailable | LockLost | LockStoreError, R | LockStore>
} = bodyFirst(<A, E, R>(body: Body<SemaphoreLease, A, E, R>, key: string, options: WaitOptions) =>
  withShare(options, (share) => underLease(key, share, options, body))
)

/**
 * Runs an effect with some permits if that many are free at this moment, and nobody waits for some;
 * does nothing if not: `Option.none()`.
 *
 * @example
 * ```ts
 * import { Effect, Option } from "effect"
 * import { Semaphore } from "effect-redis-lock"
 *
 * const call = Effect.succeed("an answer").pipe(
 *   Semaphore.withPermitsIfAvailable("partner-api", { limit: 3 }),
 *   Effect.map(Option.getOrElse(() => "too many at this moment"))
 * )
 * ```
 *
 * @since 0.1.0
 * @category combinators
 */
export const withPermitsIfAvailable: {
  (
    key: string,
    options: Options
  ): <A, E, R>(
    body: Effect.Effect<A, E, R> | ((lease: SemaphoreLease) => Effect.Effect<A, E, R>)
  ) => Effect.Effect<Option.Option<A>, E | LockLost | LockStoreError, R | LockStore>
  <A, E, R>(
    body: Effect.Effect<A, E, R> | ((lease: SemaphoreLease) => Effect.Effect<A, E, R>),
    key: string,
    options: Options
  ): Effect.Effect<Option.Option<A>, E | LockLost | LockStoreError, R | LockStore>
} = bodyFirst(<A, E, R>(body: Body<SemaphoreLease, A, E, R>, key: string, options: Options) =>
  withShare(options, (share) => underLeaseIfAvailable(key, share, options, body))
)

/**
 * Takes over permits that another process has handed over, as `Lock.adopt` does: as many as those were, of the
 * same limit.
 *
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import { Semaphore } from "effect-redis-lock"
 * import type { Handle } from "effect-redis-lock/Handle"
 *
 * declare const work: (permits: number) => Effect.Effect<void>
 *
 * const goOn = (handle: Handle) =>
 *   Effect.scoped(
 *     Effect.flatMap(Semaphore.adopt(handle), (lease) => lease.guard(work(lease.permits)))
 *   )
 * ```
 *
 * @since 0.1.0
 * @category constructors
 */
export const adopt = (
  handle: Handle,
  options?: AdoptOptions
): Effect.Effect<SemaphoreLease, LockLost | LockStoreError, LockStore | Scope.Scope> =>
  adopted(handle, options, "semaphore", ({ limit, share }) => permitsOf({ limit, permits: share }))

/**
 * How many permits of the key are held at this moment. It changes nothing. (Of a key that is held as
 * another kind: how much of that is held.) Fails with `LockStoreError` if the store did not answer, or
 * cannot be looked at.
 *
 * @example
 * ```ts
 * import { Console, Effect } from "effect"
 * import { Semaphore } from "effect-redis-lock"
 *
 * const show = Effect.flatMap(Semaphore.inUse("partner-api"), (permits) =>
 *   Console.log(`${permits} in use`)
 * )
 * ```
 *
 * @since 0.1.0
 * @category inspection
 */
export const inUse = (key: string): Effect.Effect<number, LockStoreError, LockStore> =>
  Effect.map(lookAt(key, 0), ({ inUse }) => inUse)

const withShare = <A, E, R>(
  options: Permits,
  use: (share: Share<HeldPermits, SharedPermits>) => Effect.Effect<A, E, R>
): Effect.Effect<A, E, R> => {
  const share = permitsOf(options)
  return typeof share === "string" ? defect(share) : use(share)
}
