/** When a job is due: the same for every process, whenever it begins to look. */
import * as Cron from "effect/Cron"
import * as DateTime from "effect/DateTime"
import { describe, expect, it } from "vitest"
import { parseCron } from "../../../src/internal/face/cronJob.js"
import { type Timetable, timetableOf } from "../../../src/internal/faces/timetable.js"

const hour = 3_600_000
const at = (iso: string) => new Date(iso).getTime()
const iso = (millis: number) => new Date(millis).toISOString().replace(":00.000Z", "Z")

const tableOf = (cron: string | Cron.Cron, zone?: string | DateTime.TimeZone): Timetable => {
  const table = timetableOf(cron, zone, parseCron)
  if (typeof table === "string") throw new Error(table)
  return table
}

/** All ticks between two moments, as a process finds them that has looked since long before. */
const ticks = (cron: string, zone: string, from: number, to: number): ReadonlyArray<number> => {
  const table = tableOf(cron, zone)
  const found: Array<number> = []
  for (let due = table.at(from); due.upcoming <= to; due = table.at(due.upcoming)) {
    found.push(due.upcoming)
  }
  return found
}

/** Where clocks are put back, and forward: an hour, or half of one. */
const changes = {
  "America/New_York": ["2026-11-01T06:00Z", "2026-03-08T07:00Z"],
  "Europe/Berlin": ["2026-10-25T01:00Z", "2026-03-29T01:00Z"],
  "Australia/Lord_Howe": ["2026-04-04T15:00Z", "2026-10-03T15:30Z"]
} as const

const expressions = [
  "30 1 * * *",
  "30 2 * * *",
  "*/30 * * * *",
  "0 * * * *",
  "*/7 * * * *",
  "0 3 * * 0"
]

describe("a timetable", () => {
  for (const [zone, moments] of Object.entries(changes)) {
    for (const cron of expressions) {
      it(`"${cron}" is the same for all, whenever clocks are changed in ${zone}`, () => {
        const wrong: Array<unknown> = []
        for (const moment of moments.map(at)) {
          const [from, to] = [moment - 3 * hour, moment + 3 * hour]
          const week = 8 * 24 * hour
          const all = ticks(cron, zone, from - week, to + week)
          // each a tick of the expression, and none twice
          expect(all).toEqual([...new Set(all)].sort((a, b) => a - b))
          for (let now = from; now < to; now += 419_000) {
            const expected = {
              latest: all.filter((tick) => tick <= now).at(-1),
              upcoming: all.find((tick) => tick > now)
            }
            const found = tableOf(cron, zone).at(now)
            if (found.latest !== expected.latest || found.upcoming !== expected.upcoming) {
              wrong.push({ now: iso(now), found, expected })
            }
          }
        }
        expect(wrong).toEqual([])
      })
    }
  }

  it("says what Effect's Cron says of the hours that are there twice, or not at all", () => {
    const days = (cron: string, from: string, to: string) =>
      ticks(cron, "Europe/Berlin", at(from), at(to)).map(iso)
    // once, the first of the two
    expect(days("30 2 * * *", "2026-10-24T12:00Z", "2026-10-26T12:00Z")).toEqual([
      "2026-10-25T00:30Z",
      "2026-10-26T01:30Z"
    ])
    // when it would be
    expect(days("30 2 * * *", "2026-03-28T12:00Z", "2026-03-30T12:00Z")).toEqual([
      "2026-03-29T01:30Z",
      "2026-03-30T00:30Z"
    ])
  })

  it("knows the latest at the very moment, and before and after it", () => {
    const table = tableOf("* * * * * *")
    const second = at("2026-06-01T12:00:00Z")
    expect(table.at(second - 1)).toEqual({ latest: second - 1_000, upcoming: second })
    expect(table.at(second)).toEqual({ latest: second, upcoming: second + 1_000 })
    expect(table.at(second + 999)).toEqual({ latest: second, upcoming: second + 1_000 })
    // a clock that is set back, or far ahead
    expect(table.at(second - 5_500)).toEqual({ latest: second - 6_000, upcoming: second - 5_000 })
    const later = second + 400 * 24 * hour
    expect(table.at(later + 1)).toEqual({ latest: later, upcoming: later + 1_000 })
  })

  it("looks back over years, and to the time before 1970", () => {
    const leap = tableOf("0 0 29 2 *")
    const due = { latest: at("2024-02-29T00:00Z"), upcoming: at("2028-02-29T00:00Z") }
    expect(leap.at(at("2026-06-01T00:00Z"))).toEqual(due)
    expect(tableOf("0 0 * * *").at(-1)).toEqual({ latest: -24 * hour, upcoming: 0 })
  })

  it("is in UTC, or in a Cron's own time zone, where nothing else is said", () => {
    const noon = at("2026-06-01T12:00Z")
    const daily = "0 4 * * *"
    expect(iso(tableOf(daily).at(noon).latest)).toBe("2026-06-01T04:00Z")
    expect(iso(tableOf(daily, "Europe/Berlin").at(noon).latest)).toBe("2026-06-01T02:00Z")
    expect(iso(tableOf(daily, "+03:00").at(noon).latest)).toBe("2026-06-01T01:00Z")
    const zone = DateTime.zoneUnsafeMakeNamed("Asia/Tokyo")
    expect(iso(tableOf(daily, zone).at(noon).latest)).toBe("2026-05-31T19:00Z")
    const own = Cron.unsafeParse("0 4 * * *", "Asia/Tokyo")
    expect(iso(tableOf(own).at(noon).latest)).toBe("2026-05-31T19:00Z")
    expect(iso(tableOf(own, "UTC").at(noon).latest)).toBe("2026-06-01T04:00Z")
    expect(iso(tableOf(Cron.unsafeParse("0 4 * * *")).at(noon).latest)).toBe("2026-06-01T04:00Z")
    // a day of the month and of the week: both as Cron reads them
    const both = Cron.unsafeParse("0 4 1 * mon", "UTC")
    const from = at("2026-06-02T00:00Z")
    expect(tableOf(both).at(from).upcoming).toBe(Cron.next(both, new Date(from)).getTime())
  })

  it("of what cannot be read says what, and why", () => {
    const wrong = (cron: unknown, zone?: unknown) =>
      timetableOf(cron as string, zone as string, parseCron)
    expect(wrong("61 * * * *")).toMatch(
      /option cron: "61 \* \* \* \*"\. Expected a value between 0/
    )
    expect(wrong("* * *")).toMatch(/option cron: "\* \* \*"\. Invalid number of segments/)
    expect(wrong("")).toMatch(/option cron: ""\./)
    expect(wrong("0 0 31 2 *")).toMatch(/option cron: "0 0 31 2 \*"\. It is never due\./)
    expect(wrong(undefined)).toMatch(/option cron: undefined\./)
    expect(wrong(5)).toMatch(/option cron: 5\./)
    expect(wrong("* * * * *", "Europe/Nowhere")).toMatch(
      /option timeZone: "Europe\/Nowhere"\. There is no such time zone/
    )
    expect(wrong("* * * * *", 3)).toMatch(/option timeZone: 3\./)
  })
})
