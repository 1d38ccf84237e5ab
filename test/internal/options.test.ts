import * as fc from "fast-check"
import { expect, it } from "vitest"
import { minTtl, resolveOptions } from "../../src/internal/common/options.js"
import { drift } from "../../src/internal/common/timing.js"

const raw = {
  ttl: undefined,
  renewEvery: undefined,
  waitAtMost: undefined,
  warnAfter: undefined,
  margin: undefined,
  owner: undefined,
  name: undefined
}

it("the defaults: a ttl of 5 s, renewed at half of it, given up a tenth before its end", () => {
  expect(resolveOptions(raw)).toEqual({
    ttlMillis: 5_000,
    renewEveryMillis: 2_500,
    waitMillis: Number.POSITIVE_INFINITY,
    warnAfterMillis: 10_000,
    marginMillis: 500,
    owner: undefined,
    name: undefined
  })
})

it("the default margin is less where a late renewal leaves less room", () => {
  expect(resolveOptions({ ...raw, ttl: 5_000, renewEvery: 4_548 })).toMatchObject({
    marginMillis: 100
  })
})

it("whatever is accepted leaves time for a renewal before the lease is given up", () => {
  const maybe = fc.option(fc.double({ min: -10, max: 20_000 }), { nil: undefined })
  fc.assert(
    fc.property(maybe, maybe, maybe, maybe, (ttl, renewEvery, margin, waitAtMost) => {
      const options = resolveOptions({ ...raw, ttl, renewEvery, margin, waitAtMost })
      if (typeof options === "string") {
        return /option (ttl|renewEvery|margin|waitAtMost): /.test(options)
      }
      const { marginMillis, renewEveryMillis, ttlMillis, waitMillis } = options
      expect(Number.isSafeInteger(ttlMillis) && ttlMillis >= minTtl).toBe(true)
      expect(renewEveryMillis).toBeGreaterThan(0)
      expect(marginMillis).toBeGreaterThanOrEqual(0)
      expect(renewEveryMillis).toBeLessThan(ttlMillis - drift(ttlMillis) - marginMillis)
      expect(waitMillis).toBeGreaterThanOrEqual(0)
      return true
    }),
    { numRuns: 1_000 }
  )
})

it("any ttl that is possible is possible without any other option", () => {
  fc.assert(
    fc.property(fc.double({ min: minTtl, max: 1e12, noNaN: true }), (ttl) => {
      expect(resolveOptions({ ...raw, ttl })).toMatchObject({ ttlMillis: Math.floor(ttl) })
    }),
    { numRuns: 1_000 }
  )
})
