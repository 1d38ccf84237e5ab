/**
 * One of many: processes that stand for the lead of a key, one of which leads at a time, and does the
 * work of the leader.
 *
 * To lead is to hold a lock. So at most one leader's lease is *proven* at any moment, and its work is
 * interrupted before anybody else can lead; how that is promised, and under which conditions, is as
 * with every lock. The *term* of a leader is its fencing token: it grows from leader to leader, and
 * what is written with it can be refused from a leader that is not the leader any more.
 *
 * @example
 * ```ts
 * import { Effect, Schedule } from "effect"
 * import { Leader, MemoryLockStore } from "effect-redis-lock"
 *
 * const rebalance = Effect.log("one process does this").pipe(
 *   Effect.repeat(Schedule.spaced("10 seconds"))
 * )
 *
 * // in every process
 * const RebalancerLive = Leader.layer("rebalancer", { ttl: "10 seconds" })(rebalance)
 *
 * const program = Effect.never.pipe(
 *   Effect.provide(RebalancerLive),
 *   Effect.provide(MemoryLockStore.layer)
 * )
 * ```
 *
 * @since 0.1.0
 */
import "./internal/with-effect-4-import/effect-redis-lock/effect4.js"
import type * as Effect from "effect/Effect"
import type * as Layer from "effect/Layer"
import type * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import type * as Stream from "effect/Stream"
import { type Body, bodyFirst } from "./internal/face/body.js"
import { currentLeader, leaderChanges, standing, standingLayer } from "./internal/face/leader.js"
import type { ChangesOptions, LeaderInfo, Options } from "./internal/faces/leader.js"
import type { Lease } from "./Lease.js"
import type { LockStoreError } from "./LockError.js"
import type { LockStore } from "./LockStore.js"

export type { ChangesOptions, LeaderInfo, Options } from "./internal/faces/leader.js"

/**
 * Stands for the lead, and runs the work while it leads: an effect, or a function of the lease.
 *
 * It ends when the work ends, with its result, and the lead is given back. If the lead is lost, the work
 * is interrupted, its finalizers run, and this process stands again, behind those who wait. So the work
 * can begin any number of times. What it ends with after the lead was lost (its success, or its
 * failure) is logged and dropped, but for defects: whether it led to its end is not known then. The
 * work can resign by `lease.release`: it is interrupted, and stands again.
 *
 * A process that was stopped for longer than its lease first compares clocks when it goes on: if the
 * lead is lost, its work does not do another step. (An `async` function that Effect does not resume is
 * not stopped: give it `lease.signal`.)
 *
 * An interruption waits for the work's finalizers, and then gives the lead back: the next candidate has it
 * after one message. If the leader crashes, that takes its ttl.
 *
 * Fails with `LockStoreError` where trying again does not help (permissions, a key that is used as a
 * semaphore, a closed store), or `retry` says so.
 *
 * @example
 * ```ts
 * import { Effect, Schedule } from "effect"
 * import { Leader } from "effect-redis-lock"
 *
 * declare const rebalance: (term: number) => Effect.Effect<void>
 *
 * const rebalancer = Leader.run("rebalancer", { ttl: "10 seconds" })(({ fencingToken }) =>
 *   Effect.repeat(rebalance(fencingToken), Schedule.spaced("10 seconds"))
 * )
 * ```
 *
 * @since 0.1.0
 * @category combinators
 */
export const run: {
  (
    key: string,
    options?: Options
  ): <A, E, R>(
    work: Effect.Effect<A, E, R> | ((lease: Lease) => Effect.Effect<A, E, R>)
  ) => Effect.Effect<A, E | LockStoreError, R | LockStore>
  <A, E, R>(
    work: Effect.Effect<A, E, R> | ((lease: Lease) => Effect.Effect<A, E, R>),
    key: string,
    options?: Options
  ): Effect.Effect<A, E | LockStoreError, R | LockStore>
} = bodyFirst(<A, E, R>(work: Body<Lease, A, E, R>, key: string, options?: Options) =>
  standing(key, options, work)
)

/**
 * `run` in the background of a layer: from when the layer is built to its end, which waits for the
 * work's finalizers and gives the lead back. A scope that the work needs is one of each term.
 *
 * If the work ends, this process stands no more. If it fails, that is logged (ERROR), and nobody else is
 * told: handle its errors inside. An impossible option is a defect of the layer.
 *
 * @since 0.1.0
 * @category layers
 */
export const layer: {
  (
    key: string,
    options?: Options
  ): <A, E, R>(
    work: Effect.Effect<A, E, R> | ((lease: Lease) => Effect.Effect<A, E, R>)
  ) => Layer.Layer<never, never, LockStore | Exclude<R, Scope.Scope>>
  <A, E, R>(
    work: Effect.Effect<A, E, R> | ((lease: Lease) => Effect.Effect<A, E, R>),
    key: string,
    options?: Options
  ): Layer.Layer<never, never, LockStore | Exclude<R, Scope.Scope>>
} = bodyFirst(<A, E, R>(work: Body<Lease, A, E, R>, key: string, options?: Options) =>
  standingLayer(key, options, work)
)

/**
 * Who leads at this moment, by the store's word; nobody: `Option.none()`. It needs no candidacy, and
 * changes nothing. A leader that crashed is named until its ttl has passed. Who holds the key without
 * this library, or as another kind of lock, is no leader.
 *
 * It can be out of date when it arrives. To decide what a leader may do, use the leader's own lease.
 *
 * @example
 * ```ts
 * import { Console, Effect, Option } from "effect"
 * import { Leader } from "effect-redis-lock"
 *
 * const show = Effect.flatMap(Leader.current("rebalancer"), (leader) =>
 *   Console.log(Option.isNone(leader) ? "nobody leads" : `${leader.value.owner} leads`)
 * )
 * ```
 *
 * @since 0.1.0
 * @category observers
 */
export const current: (
  key: string
) => Effect.Effect<Option.Option<LeaderInfo>, LockStoreError, LockStore> = currentLeader

/**
 * Who leads, now and whenever that has changed; `Option.none()` is a vacancy. Terms never repeat and
 * never go back, under the conditions under which fencing tokens do not.
 *
 * The store is asked when the stream is run and then, while it is read, `every` so often (default: 1
 * second; at least 10 ms), with one command; nothing is asked for those who do not read it. What is told
 * was true when it was asked. A vacancy or a term that is shorter than `every` can be missed: then the
 * next term follows.
 *
 * While the store does not answer, nothing is told. It fails with `LockStoreError` where asking again
 * does not help.
 *
 * @example
 * ```ts
 * import { Console, Option, Stream } from "effect"
 * import { Leader } from "effect-redis-lock"
 *
 * const watch = Leader.changes("rebalancer", { every: "5 seconds" }).pipe(
 *   Stream.runForEach((leader) =>
 *     Console.log(Option.isNone(leader) ? "nobody leads" : `term ${leader.value.term}`)
 *   )
 * )
 * ```
 *
 * @since 0.1.0
 * @category observers
 */
export const changes = (
  key: string,
  options?: ChangesOptions
): Stream.Stream<Option.Option<LeaderInfo>, LockStoreError, LockStore> =>
  leaderChanges(key, options?.every ?? "1 second")
