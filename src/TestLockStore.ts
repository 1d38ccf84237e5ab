/**
 * The store in memory, for tests of code that locks: a key can be stolen, or expire, and the store can
 * stop to answer, or refuse everything. Locks and leases behave as with every other store, and
 * Effect's `Clock` is theirs, as with `MemoryLockStore`: a `TestClock` moves their times.
 *
 * @example
 * ```ts
 * import { Effect, Fiber } from "effect"
 * import { Lock } from "effect-redis-lock"
 * import * as TestLockStore from "effect-redis-lock/TestLockStore"
 *
 * const test = Effect.gen(function* () {
 *   const work = yield* Effect.fork(Lock.withLock("report")(Effect.never))
 *   yield* Effect.yieldNow()
 *   yield* TestLockStore.steal("report")
 *   return yield* Effect.flip(Fiber.join(work)) // LockLost, with the reason Taken
 * }).pipe(Effect.provide(TestLockStore.layer))
 * ```
 *
 * This module has an import path of its own, and is not part of the package's index: it is for tests.
 *
 * @since 0.1.0
 */
import "./internal/with-effect-4-import/effect-redis-lock/effect4.js"
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { checkKey, show } from "./internal/common/options.js"
import { defect } from "./internal/face/causes.js"
import { onEffectClock } from "./internal/face/memoryStore.js"
import { toMillis } from "./internal/faces/millis.js"
import { publicStore } from "./internal/face/publicStore.js"
import { FaultyStore } from "./internal/memory/faultyStore.js"
import { TestStore } from "./internal/memory/testStore.js"
import { type Defaults, type Kind, LockStore } from "./LockStore.js"

// -----------------------------------------------------------------------------
// models
// -----------------------------------------------------------------------------

/**
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
  readonly commandTimeout?: Duration.DurationInput | undefined
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

/**
 * @since 0.1.0
 * @category tags
 */
export const TestLockStore: Context.Tag<TestLockStore, TestLockStore> =
  Context.GenericTag<TestLockStore>("effect-redis-lock/TestLockStore")

// -----------------------------------------------------------------------------
// constructors
// -----------------------------------------------------------------------------

/**
 * Makes a new store: locks of two stores do not exclude each other. An impossible option is a
 * defect.
 *
 * @since 0.1.0
 * @category constructors
 */
export const makeWith = ({ commandTimeout, defaults }: Options): Effect.Effect<TestLockStore> =>
  Effect.gen(function* () {
    const timeoutMillis = commandTimeout === undefined ? 2_000 : toMillis(commandTimeout)
    if (timeoutMillis === undefined || !(timeoutMillis >= 1 && timeoutMillis < Infinity)) {
      return yield* defect(
        `Impossible option commandTimeout: ${show(commandTimeout)}. It must be a duration of 1 ms or more, for example "2 seconds".`
      )
    }
    const memory = yield* onEffectClock(
      defaults,
      (clock, wallMillis) => new TestStore(clock, wallMillis)
    )
    const faulty = new FaultyStore(memory, timeoutMillis)
    const ofKey = (act: (key: string) => void) => (key: string) => {
      const wrong = checkKey(key)
      return wrong === undefined ? Effect.sync(() => act(key)) : defect(wrong)
    }
    return {
      store: publicStore(faulty, defaults),
      steal: ofKey((key) => memory.steal(key)),
      expire: ofKey((key) => memory.expire(key)),
      silence: Effect.sync(() => faulty.silence()),
      refuse: ({ cause, detail = refused, transient = true } = {}) =>
        Effect.sync(() => faulty.refuse({ cause, detail, transient })),
      restore: Effect.sync(() => faulty.restore()),
      grants: Effect.sync(() => memory.grants)
    }
  })

/**
 * Makes a new store: locks of two stores do not exclude each other.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make: Effect.Effect<TestLockStore> = makeWith({})

const refused = "The store refuses everything: a test has told it to."

// -----------------------------------------------------------------------------
// layers
// -----------------------------------------------------------------------------

/**
 * The layer of a new store, with options.
 *
 * @since 0.1.0
 * @category layers
 */
export const layerWith = (options: Options): Layer.Layer<LockStore | TestLockStore> =>
  Layer.effectContext(
    Effect.map(makeWith(options), (test) =>
      Context.make(TestLockStore, test).pipe(Context.add(LockStore, test.store))
    )
  )

/**
 * A new store, as the `LockStore` of the code that is tested, and its controls. Provide it inside of
 * the test: there it has the test's clock, and no other test's keys.
 *
 * @since 0.1.0
 * @category layers
 */
export const layer: Layer.Layer<LockStore | TestLockStore> = layerWith({})

// -----------------------------------------------------------------------------
// controls
// -----------------------------------------------------------------------------

/**
 * Somebody else has the key from now on; see `TestLockStore`.
 *
 * @since 0.1.0
 * @category controls
 */
export const steal = (key: string): Effect.Effect<void, never, TestLockStore> =>
  Effect.flatMap(TestLockStore, (test) => test.steal(key))

/**
 * Ends the leases of the key as if their ttl was over; see `TestLockStore`.
 *
 * @since 0.1.0
 * @category controls
 */
export const expire = (key: string): Effect.Effect<void, never, TestLockStore> =>
  Effect.flatMap(TestLockStore, (test) => test.expire(key))

/**
 * Nothing is answered from now on; see `TestLockStore`.
 *
 * @since 0.1.0
 * @category controls
 */
export const silence: Effect.Effect<void, never, TestLockStore> = Effect.flatMap(
  TestLockStore,
  (test) => test.silence
)

/**
 * Every operation fails from now on; see `TestLockStore`.
 *
 * @since 0.1.0
 * @category controls
 */
export const refuse = (error?: Refusal): Effect.Effect<void, never, TestLockStore> =>
  Effect.flatMap(TestLockStore, (test) => test.refuse(error))

/**
 * Ends `silence` and `refuse`; see `TestLockStore`.
 *
 * @since 0.1.0
 * @category controls
 */
export const restore: Effect.Effect<void, never, TestLockStore> = Effect.flatMap(
  TestLockStore,
  (test) => test.restore
)

/**
 * Every lease that was granted, and what became of it; see `TestLockStore`.
 *
 * @since 0.1.0
 * @category controls
 */
export const grants: Effect.Effect<ReadonlyArray<Grant>, never, TestLockStore> = Effect.flatMap(
  TestLockStore,
  (test) => test.grants
)
