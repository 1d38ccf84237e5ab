/**
 * Leases in this process's memory: for programs of one process, for demos, and for tests. It has
 * the same contract as the other stores, and follows Effect's `Clock`, so that a `TestClock` moves
 * its ttls and renewals.
 *
 * Locks exclude each other within one store of one process. Nothing is kept after the process ends.
 *
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import { Lock, MemoryLockStore } from "effect-redis-lock"
 *
 * const program = Effect.log("only one at a time").pipe(
 *   Lock.withLock("invoice:42"),
 *   Effect.provide(MemoryLockStore.layer)
 * )
 * ```
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
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import { Lock, LockStore, MemoryLockStore } from "effect-redis-lock"
 *
 * const work = Effect.log("only one at a time").pipe(Lock.withLock("invoice:42"))
 *
 * const program = Effect.flatMap(
 *   MemoryLockStore.makeWith({ defaults: { ttl: "1 second" } }),
 *   (store) => Effect.provideService(work, LockStore.LockStore, store)
 * )
 * ```
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
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import { Lock, LockStore, MemoryLockStore } from "effect-redis-lock"
 *
 * const work = Effect.log("only one at a time").pipe(Lock.withLock("invoice:42"))
 *
 * const program = Effect.flatMap(MemoryLockStore.make, (store) =>
 *   Effect.provideService(work, LockStore.LockStore, store)
 * )
 * ```
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
 * @example
 * ```ts
 * import { MemoryLockStore } from "effect-redis-lock"
 *
 * const LocksLive = MemoryLockStore.layerWith({ defaults: { waitAtMost: "10 seconds" } })
 * ```
 *
 * @since 0.1.0
 * @category layers
 */
export const layerWith = (options: Options): Layer.Layer<LockStore> =>
  Layer.effect(LockStore, makeWith(options))
