/**
 * Leases in this process's memory, for Effect 4: see `effect-redis-lock/MemoryLockStore`. It follows
 * Effect's `Clock`, so that a `TestClock` moves its ttls and renewals.
 *
 * @since 0.1.0
 */
import "../internal/with-effect-3-import/effect-redis-lock.js"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { onEffectClock } from "../internal/face4/memoryStore.js"
import { publicStore } from "../internal/face4/publicStore.js"
import { MemoryStore } from "../internal/memory/store.js"
import { type Defaults, LockStore } from "./LockStore.js"

/**
 * Options of a store in memory.
 *
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
 * The layer of a new store. Where it is provided in two places of one program, both have the same store.
 *
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
