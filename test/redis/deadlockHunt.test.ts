/** The short form of `npm run deadlock-hunt`. */
import { expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as DeadlockHunt from "../support/DeadlockHunt.js"

it.scopedLive(
  "processes that take keys in random order, and die: progress, and nothing left",
  () =>
    Effect.gen(function* () {
      const report = yield* DeadlockHunt.hunt({
        ...DeadlockHunt.defaults,
        millis: 6_000,
        processes: 4,
        keys: 5,
        deathEvery: 1_500,
        leastDeaths: 2
      })
      expect(report.violations).toEqual([])
      expect(report.left).toEqual([])
      expect(report.several).toBeGreaterThan(0)
    }),
  180_000
)
