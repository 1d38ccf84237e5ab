/** Jobs that are due by a timetable: of many processes, one runs each tick. */
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import type * as Cron from "effect/Cron"
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import type { Lease, Options as LeaseOptions } from "../../Lease.js"
import { LockLost, LockStoreError, LockUnavailable } from "../../LockError.js"
import type { LockStore } from "../../LockStore.js"
import { impossible, notADuration, show } from "../common/options.js"
import { defect, errorIn } from "./causes.js"
import { backgroundLayer } from "./background.js"
import { type Body, bodyWith, underLease } from "./body.js"
import { comparingFirst } from "./comparingFirst.js"
import { decodeOptions } from "../faces/decodeOptions.js"
import type { HeldLease } from "./lease.js"
import { quietly } from "./logs.js"
import { toMillis } from "../faces/millis.js"
import { checkRetry, type OutageOptions, throughOutages } from "./outages.js"
import { type Share, ownLockAt } from "./share.js"
import { type Timetable, timetableOf } from "./timetable.js"

interface JobOptions extends LeaseOptions, OutageOptions {
  readonly cron: string | Cron.Cron
  readonly timeZone?: string | DateTime.TimeZone | undefined
  readonly skipIfOlderThan?: Duration.DurationInput | undefined
  readonly whenRunning?: "wait" | "skip" | undefined
}

interface Tick {
  readonly scheduledAt: DateTime.Utc
  readonly lease: Lease
}

// ---------------------------------------------------------------- options

interface Terms {
  readonly timetable: Timetable
  readonly skipIfOlderThanMillis: number
  readonly waits: boolean
}

const decode = (options: JobOptions): Terms | string => {
  // (whoever does not use types may give none)
  const {
    cron,
    skipIfOlderThan = "1 day",
    timeZone,
    whenRunning = "wait"
  } = (options as JobOptions | undefined) ?? { cron: undefined as never }
  const timetable = timetableOf(cron, timeZone)
  if (typeof timetable === "string") return timetable
  const skipIfOlderThanMillis = toMillis(skipIfOlderThan)
  if (skipIfOlderThanMillis === undefined) return notADuration("skipIfOlderThan", skipIfOlderThan)
  if (!(skipIfOlderThanMillis >= 1_000)) {
    return impossible(
      "skipIfOlderThan",
      skipIfOlderThan,
      "It must be at least 1 second: every process is some milliseconds late."
    )
  }
  if (whenRunning !== "wait" && whenRunning !== "skip") {
    return impossible("whenRunning", whenRunning, 'It must be "wait" or "skip".')
  }
  return checkRetry(options) ?? { timetable, skipIfOlderThanMillis, waits: whenRunning === "wait" }
}

// ---------------------------------------------------------------- the job

/** A wall clock can be set: it is looked at so often. */
const longestSleep = 60_000

const sleepUntil = (moment: number): Effect.Effect<void> =>
  Effect.flatMap(Clock.currentTimeMillis, (now) =>
    Effect.sleep(Duration.millis(Math.max(0, Math.min(moment - now, longestSleep))))
  )

/** A tick is claimed while it is the latest, by clocks that differ by less than a period. */
const keptMillis = (period: number): number => Math.max(86_400_000, 2 * period)

export const everyTick = <A, E, R>(
  key: string,
  options: JobOptions,
  work: Body<Tick, A, E, R>
): Effect.Effect<never, LockStoreError, R | LockStore> =>
  Effect.suspend(() => {
    const terms = decode(options)
    if (typeof terms === "string") return defect(terms)
    const { skipIfOlderThanMillis, timetable, waits } = terms
    /** No tick up to that one needs this process. */
    let settled = Number.NEGATIVE_INFINITY
    const settle = (tick: number) => {
      settled = Math.max(settled, tick)
    }
    /** The last tick of the future that was warned about. */
    let strange = 0
    const step = Effect.flatMap(Clock.currentTimeMillis, (now) => {
      const { latest, upcoming } = timetable.at(now)
      if (latest <= settled || now - latest > skipIfOlderThanMillis) {
        return sleepUntil(upcoming)
      }
      const claim = (waitMillis: number) =>
        claimed(key, options, latest, keptMillis(upcoming - latest), waitMillis, work)
      const ended = (outcome: Exclude<Outcome, "busy">): Effect.Effect<void> => {
        settle(latest)
        if (outcome !== "ran" && outcome.lastTick > upcoming && outcome.lastTick !== strange) {
          strange = outcome.lastTick
          return tellClocks(key, options, latest, strange)
        }
        // what has come while it ran
        return waits
          ? Effect.void
          : Effect.map(Clock.currentTimeMillis, (now) => settle(timetable.at(now).latest))
      }
      // (whoever waits stands in a queue: mostly there is nothing to wait for)
      return Effect.flatMap(claim(0), (outcome) => {
        if (outcome !== "busy") return ended(outcome)
        if (!waits) return Effect.sync(() => settle(latest))
        // the next tick takes the place of this one
        return Effect.flatMap(Clock.currentTimeMillis, (asked) =>
          upcoming <= asked
            ? Effect.void
            : Effect.flatMap(claim(upcoming - asked), (outcome) =>
                // (its deadline may come a few milliseconds early)
                outcome === "busy" ? sleepUntil(upcoming) : ended(outcome)
              )
        )
      })
    })
    return Effect.forever(throughOutages(key, options, step))
  })

/** `busy`: somebody has the key. Otherwise the tick was run, or is not later than the last that was. */
type Outcome = "ran" | "busy" | { readonly lastTick: number }

/** Claims a tick, and runs it if it is granted. */
const claimed = <A, E, R>(
  key: string,
  options: JobOptions,
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
        const scheduledAt = DateTime.unsafeMake(tick)
        return comparingFirst(lease, bodyWith(work, { scheduledAt, lease }))
      }
    )
    return Effect.flatMap(Effect.exit(run), (exit): Effect.Effect<Outcome, LockStoreError> => {
      const cause = Exit.isFailure(exit) ? exit.cause : Cause.empty
      const error = errorIn(cause)
      // (also where it was lost before it could begin)
      if (isGranted || error instanceof LockLost) {
        return Exit.isSuccess(exit) || Cause.isInterruptedOnly(cause)
          ? Effect.succeed("ran")
          : Effect.as(tellFailure(key, options, tick, cause), "ran")
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

const tellFailure = (
  key: string,
  { owner }: JobOptions,
  tick: number,
  cause: Cause.Cause<unknown>
): Effect.Effect<void> =>
  quietly(
    key,
    owner,
    Effect.logError(
      `The job ${show(key)} has failed for ${new Date(tick).toISOString()}. It is not run again for that time.`,
      cause
    )
  )

/** A process whose clock is right, and a tick that one has run whose clock is not. */
const tellClocks = (
  key: string,
  { owner }: JobOptions,
  tick: number,
  lastTick: number
): Effect.Effect<void> =>
  quietly(
    key,
    owner,
    Effect.logWarning(
      `The job ${show(key)} is not run for ${new Date(tick).toISOString()}, nor until then: a process has run it for ${new Date(lastTick).toISOString()}. The clocks of its processes differ by more than the time between two ticks.`
    )
  )

/** The same in the background. The options are looked at when the layer is built. */
export const everyTickLayer = <A, E, R>(
  key: string,
  options: JobOptions,
  work: Body<Tick, A, E, R>
): Layer.Layer<never, never, LockStore | Exclude<R, Scope.Scope>> =>
  backgroundLayer(
    key,
    options.owner,
    (defaults) => {
      const terms = decode(options)
      return typeof terms === "string" ? terms : decodeOptions(key, options, undefined, defaults)
    },
    everyTick(key, options, (tick) => Effect.scoped(bodyWith(work, tick)))
  )
