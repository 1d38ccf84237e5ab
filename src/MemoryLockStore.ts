/**
 * Leases in this process's memory: for programs of one process, for demos, and for tests. It keeps
 * the contract of the other stores and follows Effect's `Clock`, so that a `TestClock` moves its
 * ttls and renewals.
 *
 * Exclusion holds within one store of one process, and ends with the process.
 *
 * @since 0.1.0
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { checkDefaults } from "./internal/decodeOptions.js"
import { makeMemoryStore } from "./internal/memoryStore.js"
import { type Defaults, LockStore } from "./LockStore.js"

/**
 * @since 0.1.0
 * @category models
 */
export interface Options {
  /** What the options of a lock are where a caller gives none. */
  readonly defaults?: Defaults | undefined
}

/**
 * A store of its own: locks of two stores do not exclude each other. An impossible option is a defect.
 *
 * @since 0.1.0
 * @category constructors
 */
export const makeWith = ({ defaults }: Options): Effect.Effect<LockStore> =>
  Effect.suspend(() => {
    const impossible = checkDefaults(defaults)
    return impossible === undefined
      ? makeMemoryStore(defaults)
      : Effect.die(new Cause.IllegalArgumentException(impossible))
  })

/**
 * A store of its own: locks of two stores do not exclude each other.
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
 * The same, with options.
 *
 * @since 0.1.0
 * @category layers
 */
export const layerWith = (options: Options): Layer.Layer<LockStore> =>
  Layer.effect(LockStore, makeWith(options))
