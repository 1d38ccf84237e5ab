/**
 * Leases in this process's memory: for programs of one process, for demos, and for tests. It keeps
 * the contract of the other stores and follows Effect's `Clock`, so that a `TestClock` moves its
 * ttls and renewals.
 *
 * Exclusion holds within one store of one process, and ends with the process.
 *
 * @since 0.1.0
 */
import type * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { makeMemoryStore } from "./internal/memoryStore.js"
import { LockStore } from "./LockStore.js"

/**
 * A store of its own: locks of two stores do not exclude each other.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make: Effect.Effect<LockStore> = makeMemoryStore

/**
 * @since 0.1.0
 * @category layers
 */
export const layer: Layer.Layer<LockStore> = Layer.effect(LockStore, make)
