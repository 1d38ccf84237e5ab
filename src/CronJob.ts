/**
 * Jobs that are due at times of a cron expression, and that many processes run together: each tick (a time
 * at which the job is due) is run by one of them, at most once.
 *
 * Every process runs the same `CronJob`. When a tick is due, each asks the store for it; the store keeps
 * the last tick that was granted, and grants only a later one. So clocks that differ by less than a period
 * do not run a tick twice, however short the job is. The tick is the scheduled time: to the store it is a
 * name, and not a time.
 *
 * @example
 * ```ts
 * import { DateTime, Effect } from "effect"
 * import { CronJob, MemoryLockStore } from "effect-redis-lock"
 *
 * // in every process
 * const ReportsLive = CronJob.layer("reports", {
 *   cron: "0 4 * * *",
 *   timeZone: "Europe/Berlin"
 * })(({ scheduledAt }) => Effect.log(`the report of ${DateTime.formatIso(scheduledAt)}`))
 *
 * const program = Effect.never.pipe(
 *   Effect.provide(ReportsLive),
 *   Effect.provide(MemoryLockStore.layer)
 * )
 * ```
 *
 * @since 0.1.0
 */
import "./internal/with-effect-4-import/effect-redis-lock/effect4.js"
import type * as Effect from "effect/Effect"
import type * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import { type Body, bodyFirst } from "./internal/face/body.js"
import { everyTick, everyTickLayer } from "./internal/face/cronJob.js"
import type { Options, Tick } from "./internal/faces/cronJob.js"
import type { LockStoreError } from "./LockError.js"
import type { LockStore } from "./LockStore.js"

export type { Options, Tick } from "./internal/faces/cronJob.js"

/**
 * Runs the work whenever it is due, and this process is the one that gets the tick: an effect, or a
 * function of the tick. It never ends by itself.
 *
 * A tick is granted at most once. So a run that fails, that loses its lease (its work is interrupted
 * then), or whose process dies is not made again: that is logged (ERROR), and the next tick is another
 * one. For work that must not be missed, let the work remember how far it has come, and do all that is
 * due since then.
 *
 * An interruption waits for the finalizers of a run. Fails with `LockStoreError` where asking again
 * does not help, or `retry` says so.
 *
 * @example
 * ```ts
 * import { DateTime, Effect } from "effect"
 * import { CronJob } from "effect-redis-lock"
 *
 * const reports = CronJob.run("reports", { cron: "0 4 * * *" })(({ scheduledAt }) =>
 *   Effect.log(`the report of ${DateTime.formatIsoDateUtc(scheduledAt)}`)
 * )
 * ```
 *
 * @since 0.1.0
 * @category combinators
 */
export const run: {
  (
    key: string,
    options: Options
  ): <A, E, R>(
    work: Effect.Effect<A, E, R> | ((tick: Tick) => Effect.Effect<A, E, R>)
  ) => Effect.Effect<never, LockStoreError, R | LockStore>
  <A, E, R>(
    work: Effect.Effect<A, E, R> | ((tick: Tick) => Effect.Effect<A, E, R>),
    key: string,
    options: Options
  ): Effect.Effect<never, LockStoreError, R | LockStore>
} = bodyFirst(<A, E, R>(work: Body<Tick, A, E, R>, key: string, options: Options) =>
  everyTick(key, options, work)
)

/**
 * `run` in the background of a layer: from when the layer is built to its end, which waits for the
 * finalizers of a run. A scope that the work needs is one of each run. An impossible option is a defect
 * of the layer; a failure of the store that cannot pass is logged (ERROR), and ends it.
 *
 * @since 0.1.0
 * @category layers
 */
export const layer: {
  (
    key: string,
    options: Options
  ): <A, E, R>(
    work: Effect.Effect<A, E, R> | ((tick: Tick) => Effect.Effect<A, E, R>)
  ) => Layer.Layer<never, never, LockStore | Exclude<R, Scope.Scope>>
  <A, E, R>(
    work: Effect.Effect<A, E, R> | ((tick: Tick) => Effect.Effect<A, E, R>),
    key: string,
    options: Options
  ): Layer.Layer<never, never, LockStore | Exclude<R, Scope.Scope>>
} = bodyFirst(<A, E, R>(work: Body<Tick, A, E, R>, key: string, options: Options) =>
  everyTickLayer(key, options, work)
)
