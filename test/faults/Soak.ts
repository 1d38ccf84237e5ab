/** Many runs on one crew after the other: what the soak, the short form and the planted bugs share. */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { type CheckName, heapGrowth, leftIn, memoryGrowth } from "./checks.js"
import * as Crew from "./Crew.js"
import { type Event, now } from "./History.js"
import type { Plan } from "./Plan.js"
import type { Row } from "./Rows.js"
import * as Run from "./Run.js"

/** What came of all runs of a row. */
export interface Tally {
  readonly row: Row
  runs: number
  failed: number
  readonly counts: { -readonly [Name in keyof Run.Counts]: number }
  /** By fault, how often it was done. */
  readonly faults: Map<string, number>
  /** By how many bytes a minute the heap grew, of processes that were there for long enough. */
  readonly growth: Array<number>
  /** By check, how often it was violated. */
  readonly violations: Map<CheckName, number>
  /** Of failed runs, with how to have them again. */
  readonly reports: Array<string>
}

export const tally = (row: Row): Tally => ({
  row,
  runs: 0,
  failed: 0,
  counts: { sections: 0, granted: 0, lost: 0, refused: 0, faults: 0 },
  faults: new Map(),
  growth: [],
  violations: new Map(),
  reports: []
})

const increment = <Key>(map: Map<Key, number>, key: Key) => map.set(key, (map.get(key) ?? 0) + 1)

export interface Options extends Crew.Options {
  readonly onRun?: (tally: Tally, result: Run.Result) => Effect.Effect<void>
}

/**
 * Runs plans on one crew for as long as there are any. After a run that went wrong the processes are
 * not to be trusted, and the next plan gets new ones.
 */
export const onOneCrew = (
  row: Row,
  nextPlan: () => Plan | undefined,
  options: Options = {}
): Effect.Effect<Tally> =>
  Effect.suspend(() => {
    const all = tally(row)
    return Effect.as(
      Effect.iterate(nextPlan(), {
        while: (plan) => plan !== undefined,
        body: (plan) => untilFailure(all, plan!, nextPlan, options)
      }),
      all
    )
  })

/** Answers the plan that is to be gone on with, if any. */
const untilFailure = (
  all: Tally,
  first: Plan,
  nextPlan: () => Plan | undefined,
  options: Options
): Effect.Effect<Plan | undefined> =>
  Effect.scoped(
    Effect.gen(function* () {
      const crew = yield* Crew.make(all.row, options)
      const memory: Array<Event> = []
      for (let plan: Plan | undefined = first; plan !== undefined; plan = nextPlan()) {
        const { name } = plan
        const result = yield* Effect.timeoutOption(Run.run(crew, plan), "3 minutes")
        if (Option.isNone(result)) {
          all.runs++
          all.failed++
          all.reports.push(
            `${all.row.name}, ${name}: the run waits for ${crew.waitsFor.join(", ") || "its processes"}`
          )
          return nextPlan()
        }
        count(all, result.value)
        const failed = result.value.violations.length > 0
        if (failed) all.reports.push(Run.report(crew, result.value))
        else memory.push(...(yield* memoryOf(crew)))
        if (options.onRun !== undefined) yield* options.onRun(all, result.value)
        if (failed) return nextPlan()
      }
      const end = [...(yield* crew.close), ...memory]
      const left = leftIn(end)
      const growth = memoryGrowth(end)
      all.growth.push(...heapGrowth(end).values())
      if (left.length > 0) increment(all.violations, "nothing is left")
      if (growth.length > 0) increment(all.violations, "memory is flat")
      if (left.length + growth.length > 0) {
        all.failed++
        all.reports.push([`${all.row.name}, at its end:`, ...left, ...growth].join("\n  "))
      }
      return undefined
    })
  )

const count = (all: Tally, { counts, history, violations }: Run.Result): void => {
  all.runs++
  for (const name of Object.keys(all.counts) as Array<keyof Run.Counts>) {
    all.counts[name] += counts[name]
  }
  for (const event of history) if (event._tag === "Fault") increment(all.faults, event.fault)
  if (violations.length > 0) all.failed++
  for (const check of new Set(violations.map(({ check }) => check))) {
    increment(all.violations, check)
  }
}

const memoryOf = (crew: Crew.Crew): Effect.Effect<ReadonlyArray<Event>> =>
  Effect.map(
    Effect.forEach(crew.workers, (worker) => {
      worker.order({ _tag: "Memory" })
      return Effect.map(worker.next("Memory"), (news) =>
        news === undefined
          ? []
          : [{ _tag: "Memory" as const, at: now(), worker: worker.name, bytes: news.bytes }]
      )
    }),
    (events) => events.flat()
  )
