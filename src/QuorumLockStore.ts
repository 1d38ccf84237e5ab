/**
 * One store that is made of several independent ones: a lease is held by whoever a majority of them
 * has granted it to, so that locks outlive the loss of a minority of the servers.
 *
 * What is promised, and what breaks it, is in `docs/guarantees.md`. It keeps locks (`Lock`, `MultiLock`,
 * `Leader`, `CronJob`), no semaphores and no read-write locks: nodes count holders each by itself, and of
 * three nodes that let two in, three callers can have two nodes each.
 *
 * @since 0.1.0
 */
import type * as Duration from "effect/Duration"
import type * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import { scopedQuorum } from "./internal/face/quorumStore.js"
import { canBeNode, QuorumStore } from "./internal/quorum/store.js"
import { type Defaults, LockStore } from "./LockStore.js"

/**
 * @since 0.1.0
 * @category models
 */
export interface Options<E = never, R = never> {
  /**
   * The stores that it is made of: an odd number, 3 at least. Each is the layer of a store of this package
   * (`RedisLockStore.layer` and its relatives, but not a Cluster; `MemoryLockStore.layer`), and is built for
   * itself. Each must be a server of its own, which fails independently of the others, and is no replica of
   * one of them. All processes must name the same servers, in the same order.
   */
  readonly nodes: ReadonlyArray<Layer.Layer<LockStore, E, R>>
  /**
   * The longest ttl that a lock may have. A node that was started or emptied a short time ago may have
   * forgotten leases, and does not count before that time is over: also when all nodes are used for the
   * first time. A lock with a longer `ttl` (or `holdAtLeast`) is a defect. All processes must have the same.
   * Default: 30 seconds.
   */
  readonly longestTtl?: Duration.DurationInput | undefined
  /**
   * How long the answer of a node is waited for where it is needed for a majority. (A quarter of the
   * lock's ttl, if that is less.) Default: 500 milliseconds.
   */
  readonly nodeTimeout?: Duration.DurationInput | undefined
  /** Options of locks for callers that give none. */
  readonly defaults?: Defaults | undefined
}

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
 * import { QuorumLockStore, RedisLockStore } from "effect-redis-lock"
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
): Layer.Layer<LockStore, E, Exclude<R, Scope.Scope>> => Layer.scoped(LockStore, make(options))
