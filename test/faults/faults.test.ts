/**
 * The short form of the fault suite: every fault once, at the moment where it hurts, and a few random
 * plans. `npm run soak` is the long form, `npm run faults:planted` shows what the checks are worth. A
 * failure says how to have its run again.
 */
import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Plan from "./Plan.js"
import { hunt, bugs } from "./planted.js"
import { type Row, rowNamed } from "./Rows.js"
import * as Soak from "./Soak.js"

/** How long the workload of a random plan goes on, in milliseconds. */
const length = 4_000

const survives = (row: Row, plans: ReadonlyArray<Plan.Plan>) =>
  Effect.gen(function* () {
    const left = plans.slice()
    const tally = yield* Soak.onOneCrew(row, () => left.shift())
    expect(tally.reports.join("\n\n")).toBe("")
    expect(tally.runs).toBe(plans.length)
    expect(tally.counts.granted).toBeGreaterThan(plans.length * 10)
    const faults = plans.flatMap(({ steps }) => steps).length
    expect(tally.counts.faults).toBeGreaterThanOrEqual(faults === 0 ? 0 : 1)
  })

/** What each row is put through here: all of the scripts, or those whose names begin like this. */
const shortForm: ReadonlyArray<{
  readonly row: string
  readonly scripts: ReadonlyArray<string>
  /** Over how many crews, at the same time. */
  readonly crews: number
  readonly seeds: ReadonlyArray<number>
}> = [
  { row: "mutex, one Redis through proxies", scripts: [""], crews: 3, seeds: [1, 2, 4, 16, 23] },
  {
    row: "mutex without local handoff, through proxies",
    scripts: ["calm", "stopped: a waiter", "messages", "black hole: a waiter", "reordered"],
    crews: 1,
    seeds: [5]
  },
  {
    row: "mutex, one Redis",
    scripts: ["killed: the holder", "restart", "flushall"],
    crews: 1,
    seeds: [6]
  },
  {
    row: "mutex, one Redis through proxies, ioredis 5",
    scripts: [
      "calm and patient",
      "client kill",
      "half-open",
      "reset",
      "restart: the holder",
      "idle connections",
      "subscriber cut",
      "latency jumps"
    ],
    crews: 1,
    seeds: [7]
  },
  {
    row: "mutex, Redis Cluster",
    scripts: ["calm and patient", "redis stopped", "master dies", "slot moves"],
    crews: 1,
    seeds: []
  },
  {
    row: "mutex, Redis Cluster, on a client",
    scripts: ["stopped: the holder", "script flush", "client kill"],
    crews: 1,
    seeds: []
  },
  {
    row: "mutex, Sentinel",
    scripts: ["killed: the holder", "failover", "master dies"],
    crews: 1,
    seeds: []
  },
  {
    row: "mutex, quorum of three",
    scripts: ["calm and patient", "killed: the holder", "restart", "flushall", "redis stopped"],
    crews: 1,
    seeds: [9]
  },
  { row: "mutex in memory", scripts: [""], crews: 1, seeds: [8] },
  {
    row: "semaphore, one Redis through proxies",
    scripts: ["calm", "stopped: the holder", "flushall", "reset after", "messages lost"],
    crews: 1,
    seeds: [3]
  },
  {
    row: "semaphore without local handoff, through proxies",
    scripts: ["calm and patient", "reordered"],
    crews: 1,
    seeds: []
  },
  {
    row: "semaphore, one Redis",
    scripts: ["killed: one after the other", "restart: the holder"],
    crews: 1,
    seeds: []
  },
  { row: "semaphore in memory", scripts: ["calm", "blocked"], crews: 1, seeds: [] },
  {
    row: "read-write lock, one Redis through proxies",
    scripts: ["calm", "stopped: the holder", "flushall", "reset after", "messages lost"],
    crews: 1,
    seeds: [3]
  },
  {
    row: "read-write lock without local handoff, through proxies",
    scripts: ["calm and patient", "reordered"],
    crews: 1,
    seeds: []
  },
  {
    row: "read-write lock, one Redis",
    scripts: ["killed: one after the other", "restart: the holder"],
    crews: 1,
    seeds: []
  },
  { row: "read-write lock in memory", scripts: ["calm", "blocked"], crews: 1, seeds: [] },
  {
    row: "several, one Redis through proxies",
    scripts: ["calm and patient", "stopped: the holder", "flushall", "messages lost"],
    crews: 1,
    seeds: [5]
  },
  { row: "several, one Redis", scripts: ["killed: one after the other"], crews: 1, seeds: [] },
  {
    row: "leader, one Redis through proxies",
    scripts: ["calm", "stopped: the holder", "black hole: the holder", "flushall"],
    crews: 1,
    seeds: [5]
  },
  { row: "leader, one Redis", scripts: ["killed: the holder"], crews: 1, seeds: [] },
  {
    row: "job, one Redis through proxies",
    scripts: ["calm", "stopped: the holder", "reset after", "restart: the holder"],
    crews: 1,
    seeds: [3]
  },
  { row: "job, one Redis", scripts: ["killed: the holder"], crews: 1, seeds: [] },
  {
    row: "mutex, one Redis through proxies, Effect 4",
    scripts: ["calm", "stopped: the holder", "black hole: the holder", "flushall", "messages lost"],
    crews: 1,
    seeds: [2]
  },
  { row: "mutex in memory, Effect 4", scripts: ["calm", "blocked"], crews: 1, seeds: [] },
  {
    row: "mutex, one Redis through proxies, Effect 3 and 4",
    scripts: ["calm", "stopped: the holder", "reset after", "reordered", "messages lost"],
    crews: 1,
    seeds: [4]
  },
  {
    row: "mutex, one Redis, Effect 3 and 4",
    scripts: ["killed: one after the other"],
    crews: 1,
    seeds: []
  },
  {
    row: "read-write lock, one Redis through proxies, Effect 3 and 4",
    scripts: ["calm and patient"],
    crews: 1,
    seeds: []
  }
]

describe.concurrent("the short form", () => {
  for (const { crews, row: name, scripts, seeds } of shortForm) {
    const row = rowNamed(name)
    const plans = [
      ...Plan.scripts(row).filter((plan) => scripts.some((script) => plan.name.startsWith(script))),
      ...seeds.map((seed) => Plan.random(seed, row, length))
    ]
    for (let crew = 0; crew < crews; crew++) {
      const own = plans.filter((_, index) => index % crews === crew)
      it.live(
        `${name}: ${own.length} plans${crews > 1 ? ` (${crew + 1} of ${crews})` : ""}`,
        () => survives(row, own),
        300_000
      )
    }
  }
})

describe.concurrent("a planted bug is caught", () => {
  for (const name of [
    "a release does not check the token",
    "a handoff skips the head of the queue",
    "a count that is read before it is changed"
  ]) {
    it.live(
      name,
      () =>
        Effect.map(
          hunt(
            bugs.find((bug) => bug.name === name)!,
            6
          ),
          ({ runs }) => expect(runs).toBeLessThanOrEqual(6)
        ),
      300_000
    )
  }
})
