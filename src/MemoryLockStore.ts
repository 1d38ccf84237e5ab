/**
 * Leases in this process's memory: for programs of one process, for demos, and for tests. It has
 * the same contract as the other stores, and follows Effect's `Clock`, so that a `TestClock` moves
 * its ttls and renewals.
 *
 * Locks exclude each other within one store of one process. Nothing is kept after the process ends.
 *
 * @since 0.1.0
 */
import "./internal/with-effect-4-import/effect-redis-lock/effect4.js"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { onEffectClock } from "./internal/face/memoryStore.js"
import { publicStore } from "./internal/face/publicStore.js"
import { MemoryStore } from "./internal/memory/store.js"
import { type Defaults, LockStore } from "./LockStore.js"

/**
 * @since 0.1.0
 * @category models
 */
export interface Options {
  /** Options of locks for callers that give none. */
  readonly defaults?: Defaults | undefined
}

/**
 * Makes a new store: locks of two stores do not exclude each other. An impossible option is a
 * defect.
 *
 * @since 0.1.0
 * @category constructors
 */
export const makeWith = ({ defaults }: Options): Effect.Effect<LockStore> =>
  Effect.map(
    onEffectClock(defaults, (clock, wallMillis) => new MemoryStore(clock, wallMillis)),
    (store) => publicStore(store, defaults)
  )

/**
 * Makes a new store: locks of two stores do not exclude each other.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make: Effect.Effect<LockStore> = makeWith({})

/**
 * @since 0.1.0
 * @category layers
 */
export const layer: Layer.Layer<LockStore> = Layer.effect(LockStore, make)

/**
 * The layer of a new store, with options.
 *
 * @since 0.1.0
 * @category layers
 */
export const layerWith = (options: Options): Layer.Layer<LockStore> =>
  Layer.effect(LockStore, makeWith(options))
