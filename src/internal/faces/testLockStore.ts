/** The store of tests and its controls, on every face. */
import type * as Effect from "effect/Effect"
import type { DurationInput } from "../../Lease.js"
import type { Defaults, Kind, LockStore } from "./lockStore.js"

/**
 * Options of a store for tests.
 *
 * @since 0.1.0
 * @category models
 */
export interface Options {
  /** Options of locks for callers that give none. */
  readonly defaults?: Defaults | undefined
  /**
   * After which time an operation fails that a silent store does not answer, as the option of
   * `RedisLockStore`. Default: 2 seconds.
   */
  readonly commandTimeout?: DurationInput | undefined
}

/**
 * What a store that refuses fails with: those members of a `LockStoreError` that are not given by the
 * operation itself. A `LockStoreError` is one.
 *
 * @since 0.1.0
 * @category models
 */
export interface Refusal {
  /** Default: a sentence that says that a test has asked for it. */
  readonly detail?: string | undefined
  /** Whether trying again can help. Default: `true`. */
  readonly transient?: boolean | undefined
  readonly cause?: unknown
}

/**
 * A lease that the store has granted.
 *
 * @since 0.1.0
 * @category models
 */
export interface Grant {
  readonly key: string
  readonly kind: Kind
  /** How much of the capacity it has (after a downgrade: had last). Of a lock, 1. */
  readonly share: number
  readonly limit: number
  /** The option `owner` of whoever asked. */
  readonly owner: string | undefined
  readonly fencingToken: number
  /** When it was granted: milliseconds on the store's `clock`. */
  readonly since: number
  /**
   * What became of it: `held` by now; `released` by its holder, while it was held (with `holdAtLeast` the
   * key can still be held, by nobody); `expired`, by its ttl or by `expire`; `stolen`, by `steal`;
   * `revoked` by the store's member of that name; `adopted`: it was handed over, and somebody else has
   * taken it over.
   */
  readonly state: "held" | "released" | "expired" | "stolen" | "revoked" | "adopted"
}

/**
 * A store, and what a test can do to it. Each control takes effect before it returns. The module has a
 * function of the same name for each, which takes the `TestLockStore` from the context.
 *
 * @since 0.1.0
 * @category models
 */
export interface TestLockStore {
  /** For the code that is tested. */
  readonly store: LockStore
  /**
   * From now on somebody else has the key, all of it, and keeps it until `expire`. Who held it is told
   * at once, and loses it: `Taken`, or `Missing` where a store cannot tell (of a semaphore or a
   * read-write lock). Callers that wait stay in the queue. A key that nobody holds is busy from now on, for
   * whatever kind of lock asks for it first.
   */
  readonly steal: (key: string) => Effect.Effect<void>
  /**
   * Ends the leases of the key as if nobody had renewed them and their ttl was over: who waits is
   * served, who held it is told at once, and loses it (`Missing`, or `Taken` if somebody has the lock
   * by then). Also ends a theft. Does nothing to a key that nobody holds.
   */
  readonly expire: (key: string) => Effect.Effect<void>
  /**
   * From now on nothing is answered, and nobody is told anything. What is asked, and who waits for a
   * key, fails with a `LockStoreError` after `commandTimeout`; leases are lost when their proof ends
   * (`Unreachable`). What is asked does not reach the store before `restore`: a lease that is released
   * meanwhile ends by its ttl.
   */
  readonly silence: Effect.Effect<void>
  /**
   * From now on every operation fails with this error, and whoever waits for a key does so at once.
   * Leases are lost when their proof ends (`Unreachable`).
   */
  readonly refuse: (error?: Refusal) => Effect.Effect<void>
  /**
   * Ends `silence` and `refuse`. What was asked since `silence`, and has not failed yet, is asked, and
   * answered, now.
   */
  readonly restore: Effect.Effect<void>
  /** Every lease that the store has granted, in the order of the grants. Asks nothing of the store. */
  readonly grants: Effect.Effect<ReadonlyArray<Grant>>
}
