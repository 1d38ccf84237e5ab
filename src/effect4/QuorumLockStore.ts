/**
 * One store that is made of several independent ones, for Effect 4: a lease is held by whoever a majority of
 * them has granted it to. See `effect-redis-lock/QuorumLockStore`.
 *
 * @since 0.1.0
 */
import "../internal/with-effect-3-import/effect-redis-lock.js"
import type * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import { scopedQuorum } from "../internal/face4/quorumStore.js"
import type { QuorumOptions } from "../internal/faces/quorumOptions.js"
import { canBeNode, QuorumStore } from "../internal/quorum/store.js"
import { LockStore } from "./LockStore.js"

/**
 * The nodes, and what is true of all of them.
 *
 * @since 0.1.0
 * @category models
 */
export interface Options<E = never, R = never> extends QuorumOptions<
  Layer.Layer<LockStore, E, R>
> {}

/**
 * A store on these nodes, which the scope closes with it. An impossible option is a defect. That one server
 * was named twice is said by the first operation, as is trouble with the connections to too many of them.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make = <E = never, R = never>(
  options: Options<E, R>
): Effect.Effect<LockStore, E, R | Scope.Scope> =>
  scopedQuorum(options, canBeNode, (nodes, settings) => new QuorumStore(nodes, settings))

/**
 * A layer with a store on these nodes. Bind it to a constant and use that one.
 *
 * @example
 * ```ts
 * import { QuorumLockStore, RedisLockStore } from "effect-redis-lock/effect4"
 *
 * const LocksLive = QuorumLockStore.layer({
 *   nodes: [
 *     RedisLockStore.layer({ url: "redis://10.0.0.1:6379" }),
 *     RedisLockStore.layer({ url: "redis://10.0.0.2:6379" }),
 *     RedisLockStore.layer({ url: "redis://10.0.0.3:6379" })
 *   ],
 *   longestTtl: "30 seconds"
 * })
 * ```
 *
 * @since 0.1.0
 * @category layers
 */
export const layer = <E = never, R = never>(
  options: Options<E, R>
): Layer.Layer<LockStore, E, Exclude<R, Scope.Scope>> => Layer.effect(LockStore, make(options))
