/** Jobs that are due by a timetable: what is due, what is claimed of it, and what is logged. */
import type * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type { LockStoreError } from "../../LockError.js"
import { impossible, notADuration, show } from "../common/options.js"
import type { Options } from "./cronJob.js"
import { quietly } from "./logs.js"
import { toMillis } from "./millis.js"
import { checkRetry } from "./outages.js"
import { type Parse, type Timetable, timetableOf } from "./timetable.js"

// ---------------------------------------------------------------- options

export interface Terms {
  readonly timetable: Timetable
  readonly skipIfOlderThanMillis: number
  readonly waits: boolean
}

/** A sentence where one of them is impossible. */
export const decodeJob = (options: Options, parse: Parse): Terms | string => {
  // (whoever does not use types may give none)
  const {
    cron,
    skipIfOlderThan = "1 day",
    timeZone,
    whenRunning = "wait"
  } = (options as Options | undefined) ?? { cron: undefined as never }
  const timetable = timetableOf(cron, timeZone, parse)
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

/** (In whole milliseconds: a remainder too small to sleep for would be slept for again and again.) */
const sleepUntil = (moment: number): Effect.Effect<void> =>
  Effect.flatMap(Clock.currentTimeMillis, (now) =>
    Effect.sleep(Duration.millis(Math.max(0, Math.min(Math.ceil(moment - now), longestSleep))))
  )

/** A tick is claimed while it is the latest, by clocks that differ by less than a period. */
const keptMillis = (period: number): number => Math.max(86_400_000, 2 * period)

/** `busy`: somebody has the key. Otherwise the tick was run, or is not later than the last that was. */
export type Outcome = "ran" | "busy" | { readonly lastTick: number }

/** Claims a tick, and runs it if it is granted. */
export type Claim<R> = (
  tick: number,
  keptMillis: number,
  waitMillis: number
) => Effect.Effect<Outcome, LockStoreError, R>

/** Runs what is due, or sleeps until something is: again and again. */
export const stepOf = <R>(
  key: string,
  owner: string | undefined,
  { skipIfOlderThanMillis, timetable, waits }: Terms,
  claimed: Claim<R>
): Effect.Effect<void, LockStoreError, R> => {
  /** No tick up to that one needs this process. */
  let settled = Number.NEGATIVE_INFINITY
  const settle = (tick: number) => {
    settled = Math.max(settled, tick)
  }
  /** The last tick of the future that was warned about. */
  let strange = 0
  return Effect.flatMap(Clock.currentTimeMillis, (now) => {
    const { latest, upcoming } = timetable.at(now)
    if (latest <= settled || now - latest > skipIfOlderThanMillis) {
      return sleepUntil(upcoming)
    }
    const claim = (waitMillis: number) => claimed(latest, keptMillis(upcoming - latest), waitMillis)
    const ended = (outcome: Exclude<Outcome, "busy">): Effect.Effect<void> => {
      settle(latest)
      if (outcome !== "ran" && outcome.lastTick > upcoming && outcome.lastTick !== strange) {
        strange = outcome.lastTick
        return tellClocks(key, owner, latest, strange)
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
}

// ---------------------------------------------------------------- what is logged

export const tellFailure = (
  key: string,
  owner: string | undefined,
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
  owner: string | undefined,
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
