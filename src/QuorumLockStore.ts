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
import "./internal/with-effect-4-import/effect-redis-lock/effect4.js"
import type * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import { scopedQuorum } from "./internal/face/quorumStore.js"
import type { QuorumOptions } from "./internal/faces/quorumOptions.js"
import { canBeNode, QuorumStore } from "./internal/quorum/store.js"
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
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import { Lock, LockStore, QuorumLockStore, RedisLockStore } from "effect-redis-lock"
 *
 * const work = Effect.log("only one at a time").pipe(Lock.withLock("invoice:42"))
 *
 * const hosts = ["10.0.0.1", "10.0.0.2", "10.0.0.3"]
 * const program = Effect.scoped(
 *   Effect.flatMap(
 *     QuorumLockStore.make({
 *       nodes: hosts.map((host) => RedisLockStore.layer({ url: `redis://${host}:6379` }))
 *     }),
 *     (store) => Effect.provideService(work, LockStore.LockStore, store)
 *   )
 * )
 * ```
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
