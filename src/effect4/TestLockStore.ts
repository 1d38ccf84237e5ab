/**
 * The store in memory, for tests of code that locks: a key can be stolen, or expire, and the store can
 * stop to answer, or refuse everything. `effect-redis-lock/TestLockStore` for Effect 4. It follows
 * Effect's `Clock`: a `TestClock` moves its times.
 *
 * @example
 * ```ts
 * import { Effect, Fiber } from "effect"
 * import { Lock } from "effect-redis-lock/effect4"
 * import * as TestLockStore from "effect-redis-lock/effect4/TestLockStore"
 *
 * const test = Effect.gen(function* () {
 *   const work = yield* Effect.forkChild(Lock.withLock("report")(Effect.never))
 *   yield* Effect.yieldNow
 *   yield* TestLockStore.steal("report")
 *   return yield* Effect.flip(Fiber.join(work)) // LockLost, with the reason Taken
 * }).pipe(Effect.provide(TestLockStore.layer))
 * ```
 *
 * This module has an import path of its own, and is not part of the package's index: it is for tests.
 *
 * @since 0.1.0
 */
import "../internal/with-effect-3-import/effect-redis-lock.js"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { checkKey, show } from "../internal/common/options.js"
import { defect } from "../internal/face4/causes.js"
import { onEffectClock } from "../internal/face4/memoryStore.js"
import { toMillis } from "../internal/faces/millis.js"
import { publicStore } from "../internal/face4/publicStore.js"
import { FaultyStore } from "../internal/memory/faultyStore.js"
import { TestStore } from "../internal/memory/testStore.js"
import type { Grant, Options, Refusal } from "../internal/faces/testLockStore.js"
import type * as Types from "../internal/faces/testLockStore.js"
import { LockStore } from "./LockStore.js"

export type { Grant, Options, Refusal } from "../internal/faces/testLockStore.js"

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
 * @since 0.1.0
 * @category tags
 */
export const TestLockStore: Context.Service<TestLockStore, TestLockStore> = Context.Service<
  TestLockStore,
  TestLockStore
>("effect-redis-lock/TestLockStore")

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
