/**
 * When a job is due, as Effect's `Cron` says. Its `next` is asked of ticks only: where clocks are put
 * forward or back, what follows on any other moment is not always the tick that follows (in the hour that
 * is there twice it can be an earlier one, in the hour that is not there one too late), and `prev` can find
 * none. So every process comes to the same ticks, whenever it has begun.
 */
import * as Cron from "effect/Cron"
import * as DateTime from "effect/DateTime"
import * as Option from "effect/Option"
import { impossible, show } from "../common/options.js"

/** Milliseconds since 1970. */
export interface Due {
  /** The last tick that is not later. */
  readonly latest: number
  readonly upcoming: number
}

/** So many ticks are passed over one by one; after a longer pause the latest is looked for anew. */
const mostPassed = 100

const longAgo = 100 * 366 * 86_400_000

export class Timetable {
  private due: Due | undefined = undefined

  constructor(private readonly cron: Cron.Cron) {}

  at(now: number): Due {
    const { due } = this
    if (due !== undefined && due.latest <= now && now < due.upcoming) return due
    return (this.due =
      (due !== undefined && due.latest <= now
        ? this.from(due.latest, now, mostPassed)
        : undefined) ?? this.from(this.before(now), now, Number.POSITIVE_INFINITY)!)
  }

  /** What is due, from a tick on; `undefined`: it is too far away. */
  private from(tick: number, now: number, most: number): Due | undefined {
    let latest = tick
    for (let passed = 0; passed < most; passed++) {
      const upcoming = this.after(latest)
      if (upcoming > now) return { latest, upcoming }
      latest = upcoming
    }
    return undefined
  }

  /** A tick that is not later, and mostly the latest: by halves between a moment before it and one behind. */
  private before(now: number): number {
    const isBefore = (moment: number): boolean => this.next(moment) <= now
    let behind = now
    let step = 1_000
    while (step < longAgo && !isBefore(now - step)) {
      behind = now - step
      step *= 2
    }
    let before = now - step
    while (behind - before > 1_000) {
      const middle = Math.floor((before + behind) / 2)
      if (isBefore(middle)) before = middle
      else behind = middle
    }
    const tick = this.next(before)
    if (tick > now) throw new Error("Nothing was ever due.")
    return tick
  }

  private after(tick: number): number {
    for (let from = tick; ; from += 60_000) {
      const next = this.next(from)
      if (next > tick) return next
    }
  }

  private next(moment: number): number {
    return Cron.next(this.cron, new Date(moment)).getTime()
  }
}

type TimeZone = string | DateTime.TimeZone

/** Reads an expression; a sentence where it is none. */
export type Parse = (cron: string, timeZone: TimeZone) => Cron.Cron | string

/** A sentence where one of the two is impossible. */
export const timetableOf = (
  cron: string | Cron.Cron,
  timeZone: TimeZone | undefined,
  parse: Parse
): Timetable | string => {
  const given: unknown = cron
  if (typeof given !== "string" && !Cron.isCron(given)) {
    return impossible("cron", given, 'It must be a cron expression, for example "0 4 * * *".')
  }
  const zone = zoneOf(timeZone ?? ownZone(cron))
  if (zone === undefined) {
    return impossible(
      "timeZone",
      timeZone,
      'There is no such time zone. It must be a name, for example "Europe/Berlin", or an offset, for example "+02:00".'
    )
  }
  const parsed = typeof cron === "string" ? parse(cron, zone) : Cron.make({ ...cron, tz: zone })
  if (typeof parsed === "string") return impossible("cron", cron, `${parsed}.`)
  const timetable = new Timetable(parsed)
  try {
    timetable.at(Date.now())
  } catch {
    return impossible("cron", shown(cron), "It is never due.")
  }
  return timetable
}

const shown = (cron: string | Cron.Cron): unknown => (typeof cron === "string" ? cron : show(cron))

const ownZone = (cron: string | Cron.Cron): TimeZone =>
  typeof cron === "string" ? "UTC" : Option.getOrElse(cron.tz, () => "UTC")

const zoneOf = (zone: unknown): DateTime.TimeZone | undefined =>
  typeof zone === "string"
    ? Option.getOrUndefined(DateTime.zoneFromString(zone))
    : DateTime.isTimeZone(zone)
      ? zone
      : undefined
