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
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { checkKey, show } from "./internal/common/options.js"
import { defect } from "./internal/face/causes.js"
import { onEffectClock } from "./internal/face/memoryStore.js"
import { toMillis } from "./internal/faces/millis.js"
import { publicStore } from "./internal/face/publicStore.js"
import { FaultyStore } from "./internal/memory/faultyStore.js"
import { TestStore } from "./internal/memory/testStore.js"
import type { Grant, Options, Refusal } from "./internal/faces/testLockStore.js"
import type * as Types from "./internal/faces/testLockStore.js"
import { LockStore } from "./LockStore.js"

export type { Grant, Options, Refusal } from "./internal/faces/testLockStore.js"

// -----------------------------------------------------------------------------
// models
// -----------------------------------------------------------------------------

/**
 * A store, and what a test can do to it. Each control takes effect before it returns. The module has a
 * function of the same name for each, which takes the `TestLockStore` from the context.
 *
 * @since 0.1.0
 * @category models
 */
export interface TestLockStore extends Types.TestLockStore {}

/**
 * The service, for code that takes the controls from its context.
 *
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import * as TestLockStore from "effect-redis-lock/TestLockStore"
 *
 * // the controls, for a helper of tests that has them all
 * const controls = Effect.map(TestLockStore.TestLockStore, ({ expire, steal }) => ({ expire, steal }))
 * ```
 *
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
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import { Lock, LockStore } from "effect-redis-lock"
 * import * as TestLockStore from "effect-redis-lock/TestLockStore"
 *
 * // each test has a store, and its controls, in its hand
 * const test = Effect.gen(function* () {
 *   const { silence, store } = yield* TestLockStore.makeWith({ commandTimeout: "1 second" })
 *   yield* silence
 *   return yield* Effect.flip(Lock.withLock("report")(Effect.void)).pipe(
 *     Effect.provideService(LockStore.LockStore, store)
 *   ) // LockStoreError, after a second
 * })
 * ```
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
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import { Lock, LockStore } from "effect-redis-lock"
 * import * as TestLockStore from "effect-redis-lock/TestLockStore"
 *
 * const test = Effect.gen(function* () {
 *   const { grants, store } = yield* TestLockStore.make
 *   yield* Lock.withLock("report")(Effect.void).pipe(
 *     Effect.provideService(LockStore.LockStore, store)
 *   )
 *   return yield* grants // one, that is released
 * })
 * ```
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
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import { Lock } from "effect-redis-lock"
 * import * as TestLockStore from "effect-redis-lock/TestLockStore"
 *
 * const test = Lock.withLock("report")(Effect.void).pipe(
 *   Effect.provide(TestLockStore.layerWith({ defaults: { waitAtMost: "1 second" } }))
 * )
 * ```
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
 * @example
 * ```ts
 * import { Effect, Fiber } from "effect"
 * import { Lock } from "effect-redis-lock"
 * import * as TestLockStore from "effect-redis-lock/TestLockStore"
 *
 * const test = Effect.gen(function* () {
 *   const work = yield* Effect.fork(Lock.withLock("report")(Effect.never))
 *   yield* Effect.yieldNow()
 *   yield* TestLockStore.expire("report")
 *   return yield* Effect.flip(Fiber.join(work)) // LockLost, with the reason Missing
 * }).pipe(Effect.provide(TestLockStore.layer))
 * ```
 *
 * @since 0.1.0
 * @category controls
 */
export const expire = (key: string): Effect.Effect<void, never, TestLockStore> =>
  Effect.flatMap(TestLockStore, (test) => test.expire(key))

/**
 * Nothing is answered from now on; see `TestLockStore`.
 *
 * @example
 * ```ts
 * import { Effect, Fiber, TestClock } from "effect"
 * import { Lock } from "effect-redis-lock"
 * import * as TestLockStore from "effect-redis-lock/TestLockStore"
 *
 * const test = Effect.gen(function* () {
 *   const work = yield* Effect.fork(Lock.withLock("report")(Effect.never))
 *   yield* TestClock.adjust("1 second")
 *   yield* TestLockStore.silence
 *   yield* TestClock.adjust("10 seconds")
 *   return yield* Effect.flip(Fiber.join(work)) // LockLost, with the reason Unreachable
 * }).pipe(Effect.provide(TestLockStore.layer))
 * ```
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
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import { Lock } from "effect-redis-lock"
 * import * as TestLockStore from "effect-redis-lock/TestLockStore"
 *
 * const test = Effect.gen(function* () {
 *   yield* TestLockStore.refuse({ transient: false })
 *   const error = yield* Effect.flip(Lock.withLock("report")(Effect.void)) // LockStoreError
 *   yield* TestLockStore.restore
 *   yield* Lock.withLock("report")(Effect.void)
 *   return error
 * }).pipe(Effect.provide(TestLockStore.layer))
 * ```
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
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import { Lock } from "effect-redis-lock"
 * import * as TestLockStore from "effect-redis-lock/TestLockStore"
 *
 * const test = Effect.gen(function* () {
 *   yield* Lock.withLock("report", { owner: "me" })(Effect.void)
 *   return yield* TestLockStore.grants // one: its owner is me, its state is released
 * }).pipe(Effect.provide(TestLockStore.layer))
 * ```
 *
 * @since 0.1.0
 * @category controls
 */
export const grants: Effect.Effect<ReadonlyArray<Grant>, never, TestLockStore> = Effect.flatMap(
  TestLockStore,
  (test) => test.grants
)
