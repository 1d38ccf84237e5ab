/**
 * Several locks as one: all of their keys are held, or none. For work that changes more than one thing:
 * a transfer between two accounts, an order and its stock.
 *
 * There is no deadlock, in whatever order callers name their keys: everybody takes them in the same
 * order. Free keys are taken at once, and given back at once: in one Redis that is one round trip each,
 * for up to 16 keys. If some are not free, none is held behind the one that is waited for.
 *
 * Each key is the same lock as that of `Lock`: the two exclude each other. With the option `reentrant`,
 * either shares a lease of the caller's own that has all of its keys; if there are leases that have only
 * some of them, that is a defect.
 *
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import { MemoryLockStore, MultiLock } from "effect-redis-lock"
 *
 * const program = Effect.log("nobody else changes one of the two accounts").pipe(
 *   MultiLock.withLocks(["account:2", "account:1"], { waitAtMost: "10 seconds" }),
 *   Effect.provide(MemoryLockStore.layer)
 * )
 * ```
 *
 * @since 0.1.0
 */
import "./internal/with-effect-4-import/effect-redis-lock/effect4.js"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import { scopedLease } from "./internal/face/acquire.js"
import {
  type Body,
  bodyFirst,
  bodyWith,
  underLease,
  underLeaseIfAvailable
} from "./internal/face/body.js"
import {
  type HeldSeveral,
  type SeveralKeys,
  severalKeys,
  type SharedSeveral
} from "./internal/face/several.js"
import type { MultiLease } from "./internal/faces/multiLock.js"
import type { Options, WaitOptions } from "./Lease.js"
import type { LockLost, LockStoreError, LockUnavailable } from "./LockError.js"
import type { LockStore } from "./LockStore.js"

/**
 * Options of every way to take the locks; see `Lease`. They hold for each key; `waitAtMost` is the time
 * for all of them together.
 *
 * @since 0.1.0
 * @category models
 */
export type { Options, WaitOptions } from "./Lease.js"

export type { MultiLease } from "./internal/faces/multiLock.js"

/**
 * Takes the locks of all keys, waiting for them, and gives them back when the scope closes. They are
 * renewed until then, and while some of them are waited for. Run the protected code with `lease.guard`.
 *
 * If `waitAtMost` is over before all are held, it fails with `LockUnavailable`, which names the key that
 * was not free, and nothing is held. Waiting, interruption and the other errors are those of
 * `Lock.acquire`. No keys are a defect (an `IllegalArgumentException`).
 *
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import { MultiLock } from "effect-redis-lock"
 *
 * const both = Effect.scoped(
 *   Effect.gen(function* () {
 *     const lease = yield* MultiLock.acquire(["order:7", "stock:3"], { waitAtMost: "10 seconds" })
 *     yield* lease.guard(Effect.log("nobody else changes the order or its stock"))
 *   })
 * )
 * ```
 *
 * @since 0.1.0
 * @category constructors
 */
export const acquire = (
  keys: ReadonlyArray<string>,
  options?: WaitOptions
): Effect.Effect<MultiLease, LockUnavailable | LockStoreError, LockStore | Scope.Scope> =>
  scoped(keys, options, options?.waitAtMost)

/**
 * Takes the locks of all keys if all are free at this moment; fails with `LockUnavailable`, which names
 * one that is not free, and holds nothing then. One attempt.
 *
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import { MultiLock } from "effect-redis-lock"
 *
 * const both = Effect.scoped(
 *   Effect.gen(function* () {
 *     const lease = yield* MultiLock.tryAcquire(["order:7", "stock:3"])
 *     yield* lease.guard(Effect.log("both were free"))
 *   })
 * ).pipe(Effect.catchTag("LockUnavailable", ({ key }) => Effect.log(`${key} is not free`)))
 * ```
 *
 * @since 0.1.0
 * @category constructors
 */
export const tryAcquire = (
  keys: ReadonlyArray<string>,
  options?: Options
): Effect.Effect<MultiLease, LockUnavailable | LockStoreError, LockStore | Scope.Scope> =>
  scoped(keys, options, 0)

/**
 * Runs an effect, or a function of the lease, under the locks of all keys: takes them, runs the body
 * guarded, and gives them back, whatever happens. What is said of `Lock.withLock` is true here as well:
 * it fails with `LockLost` if one of the keys was lost at any point.
 *
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import { MultiLock } from "effect-redis-lock"
 *
 * const transfer = (from: string, to: string, amount: number) =>
 *   MultiLock.withLocks([from, to], { waitAtMost: "10 seconds" })((lease) =>
 *     Effect.log(`${amount}, with ${lease.fencingToken(from)} and ${lease.fencingToken(to)}`)
 *   )
 * ```
 *
 * @since 0.1.0
 * @category combinators
 */
export const withLocks: {
  (
    keys: ReadonlyArray<string>,
    options?: WaitOptions
  ): <A, E, R>(
    body: Effect.Effect<A, E, R> | ((lease: MultiLease) => Effect.Effect<A, E, R>)
  ) => Effect.Effect<A, E | LockUnavailable | LockLost | LockStoreError, R | LockStore>
  <A, E, R>(
    body: Effect.Effect<A, E, R> | ((lease: MultiLease) => Effect.Effect<A, E, R>),
    keys: ReadonlyArray<string>,
    options?: WaitOptions
  ): Effect.Effect<A, E | LockUnavailable | LockLost | LockStoreError, R | LockStore>
} = bodyFirst(
  <A, E, R>(body: Body<MultiLease, A, E, R>, keys: ReadonlyArray<string>, options?: WaitOptions) =>
    withAll(keys, (all) => underLease(all.first, all, options, forUsers(body)))
)

/**
 * Runs an effect under the locks of all keys if all are free at this moment, and does nothing if one is
 * not: `Option.none()`.
 *
 * @example
 * ```ts
 * import { Effect, Option } from "effect"
 * import { MultiLock } from "effect-redis-lock"
 *
 * const merge = Effect.log("both were free").pipe(
 *   MultiLock.withLocksIfAvailable(["branch:main", "branch:next"]),
 *   Effect.map(Option.isSome) // `false`: one of them was not
 * )
 * ```
 *
 * @since 0.1.0
 * @category combinators
 */
export const withLocksIfAvailable: {
  (
    keys: ReadonlyArray<string>,
    options?: Options
  ): <A, E, R>(
    body: Effect.Effect<A, E, R> | ((lease: MultiLease) => Effect.Effect<A, E, R>)
  ) => Effect.Effect<Option.Option<A>, E | LockLost | LockStoreError, R | LockStore>
  <A, E, R>(
    body: Effect.Effect<A, E, R> | ((lease: MultiLease) => Effect.Effect<A, E, R>),
    keys: ReadonlyArray<string>,
    options?: Options
  ): Effect.Effect<Option.Option<A>, E | LockLost | LockStoreError, R | LockStore>
} = bodyFirst(
  <A, E, R>(body: Body<MultiLease, A, E, R>, keys: ReadonlyArray<string>, options?: Options) =>
    withAll(keys, (all) => underLeaseIfAvailable(all.first, all, options, forUsers(body)))
)

const scoped = (
  keys: ReadonlyArray<string>,
  options: Options | undefined,
  waitAtMost: Duration.DurationInput | undefined
): Effect.Effect<MultiLease, LockUnavailable | LockStoreError, LockStore | Scope.Scope> =>
  withAll(keys, (all) =>
    Effect.map(scopedLease(all.first, all, options, waitAtMost), ({ users }) => users)
  )

/** The keys as they are when the effect runs. */
const withAll = <A, E, R>(
  keys: ReadonlyArray<string>,
  use: (all: SeveralKeys) => Effect.Effect<A, E, R>
): Effect.Effect<A, E, R> => Effect.suspend(() => use(severalKeys(keys)))

const forUsers =
  <A, E, R>(body: Body<MultiLease, A, E, R>) =>
  ({ users }: HeldSeveral | SharedSeveral): Effect.Effect<A, E, R> =>
    bodyWith(body, users)
