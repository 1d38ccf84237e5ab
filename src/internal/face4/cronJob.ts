/** Jobs that are due by a timetable: of many processes, one runs each tick. */
import * as Cause from "effect/Cause"
import * as Cron from "effect/Cron"
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import type * as Scope from "effect/Scope"
import { LockLost, LockStoreError, LockUnavailable } from "../../LockError.js"
import type { LockStore } from "../../effect4/LockStore.js"
import type { Options, Tick } from "../faces/cronJob.js"
import { decodeOptions } from "../faces/decodeOptions.js"
import { decodeJob, type Outcome, stepOf, tellFailure } from "../faces/job.js"
import type { Parse } from "../faces/timetable.js"
import { backgroundLayer } from "./background.js"
import { type Body, bodyWith, underLease } from "./body.js"
import { defect, errorIn, isInterruption } from "./causes.js"
import { comparingFirst } from "./comparingFirst.js"
import type { HeldLease } from "./lease.js"
import { throughOutages } from "./outages.js"
import { ownLockAt, type Share } from "./share.js"

export const parseCron: Parse = (cron, timeZone) =>
  Result.getOrElse(Cron.parse(cron, timeZone), ({ message }) => message)

export const everyTick = <A, E, R>(
  key: string,
  options: Options,
  work: Body<Tick, A, E, R>
): Effect.Effect<never, LockStoreError, R | LockStore> =>
  Effect.suspend(() => {
    const terms = decodeJob(options, parseCron)
    if (typeof terms === "string") return defect(terms)
    const step = stepOf(key, options.owner, terms, (tick, keptMillis, waitMillis) =>
      claimed(key, options, tick, keptMillis, waitMillis, work)
    )
    return Effect.forever(throughOutages(key, options, step))
  })

/** Claims a tick, and runs it if it is granted. */
const claimed = <A, E, R>(
  key: string,
  options: Options,
  tick: number,
  keptMillis: number,
  waitMillis: number,
  work: Body<Tick, A, E, R>
): Effect.Effect<Outcome, LockStoreError, R | LockStore> =>
  Effect.suspend(() => {
    const job: Share<HeldLease, never> = {
      ...ownLockAt(tick, keptMillis),
      spans: { acquire: "CronJob.claim", hold: "CronJob.run" },
      attributes: { "lock.tick": tick }
    }
    let isGranted = false
    const run = underLease(
      key,
      job,
      { ...options, waitAtMost: waitMillis, warnAfter: Duration.infinity },
      (lease: HeldLease) => {
        isGranted = true
        const scheduledAt = Option.getOrThrow(DateTime.make(tick))
        return comparingFirst(lease, bodyWith(work, { scheduledAt, lease }))
      }
    )
    return Effect.flatMap(Effect.exit(run), (exit): Effect.Effect<Outcome, LockStoreError> => {
      const cause = Exit.isFailure(exit) ? exit.cause : Cause.empty
      const error = errorIn(cause)
      // (also where it was lost before it could begin)
      if (isGranted || error instanceof LockLost) {
        return Exit.isSuccess(exit) || isInterruption(cause)
          ? Effect.succeed("ran")
          : Effect.as(tellFailure(key, options.owner, tick, cause), "ran")
      }
      if (error instanceof LockUnavailable) {
        const { lastTick } = error
        return Effect.succeed(lastTick === undefined ? "busy" : { lastTick })
      }
      return error instanceof LockStoreError
        ? Effect.fail(error)
        : Effect.failCause(cause as Cause.Cause<never>)
    })
  })

/** The same in the background. The options are looked at when the layer is built. */
export const everyTickLayer = <A, E, R>(
  key: string,
  options: Options,
  work: Body<Tick, A, E, R>
): Layer.Layer<never, never, LockStore | Exclude<R, Scope.Scope>> =>
  backgroundLayer(
    key,
    options.owner,
    (defaults) => {
      const terms = decodeJob(options, parseCron)
      return typeof terms === "string" ? terms : decodeOptions(key, options, undefined, defaults)
    },
    everyTick(key, options, (tick) => Effect.scoped(bodyWith(work, tick)))
  )
