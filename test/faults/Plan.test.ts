import { describe, expect, it } from "@effect/vitest"
import * as FastCheck from "effect/FastCheck"
import { faultNames } from "./faults.js"
import * as Plan from "./Plan.js"
import { rowNamed, rows } from "./Rows.js"

describe("a random plan", () => {
  it("is the same for the same seed, and another for another", () => {
    FastCheck.assert(
      FastCheck.property(
        FastCheck.integer({ min: 0, max: 1_000_000 }),
        FastCheck.constantFrom(...rows),
        (seed, row) => {
          const plan = Plan.random(seed, row, 10_000)
          expect(Plan.random(seed, row, 10_000)).toEqual(plan)
          expect(Plan.random(seed + 1, row, 10_000)).not.toEqual(plan)
        }
      )
    )
  })

  it("is a slow link for some, and something harmless for some", () => {
    const [row] = rows
    const plans = Array.from({ length: 60 }, (_, seed) => Plan.random(seed, row!, 8_000))
    const slow = plans.filter(({ links }) => links.length > 0)
    const harmless = plans.filter(Plan.isHarmless)
    for (const some of [slow, harmless]) {
      expect(some.length).toBeGreaterThan(4)
      expect(some.length).toBeLessThan(30)
      // what is slow, or made anew, is in time on a busy machine
      for (const { ttl } of some) expect(ttl).toBeGreaterThanOrEqual(1_500)
    }
    for (const plan of plans) expect(Plan.wayOf(plan)).toBeLessThanOrEqual(plan.ttl / 3)
    expect(plans.some(({ steps }) => steps.some((step) => !Number.isFinite(step.for)))).toBe(true)
  })

  it("has only faults that the row can be given, in the time of the run", () => {
    for (const row of rows) {
      for (let seed = 0; seed < 50; seed++) {
        const { millis, steps } = Plan.random(seed, row, 8_000)
        expect(steps.length).toBeGreaterThan(0)
        for (const { at, fault } of steps) {
          expect(Plan.faultsOf(row)).toContain(fault)
          expect(at).toBeLessThanOrEqual(millis)
        }
      }
    }
  })
})

describe("the scripted plans", () => {
  it("have every fault that there is", () => {
    const scripted = rows.flatMap((row) => Plan.scripts(row).flatMap(({ steps }) => steps))
    expect(new Set(scripted.map(({ fault }) => fault))).toEqual(new Set(faultNames))
  })

  it("have slow links only where there are proxies to make them", () => {
    for (const row of rows) {
      const slow = Plan.scripts(row).filter(({ links }) => links.length > 0)
      expect(slow.length > 0).toBe(row.topology === "redis behind proxies")
    }
  })

  it("have names of their own: that is how one is asked for", () => {
    const names = Plan.scripts(rowNamed("mutex, one Redis through proxies")).map(({ name }) => name)
    expect(new Set(names).size).toBe(names.length)
  })
})
