import * as fc from "fast-check"
import { expect, it } from "vitest"
import { drift, retryDelay, sentAt, validUntil } from "../../src/internal/common/timing.js"

const ttls = fc.integer({ min: 10, max: 1_000_000_000 })
const moments = fc.integer({ min: 0, max: 1_000_000_000 })

it("1 % of the ttl and 2 ms are left to clocks that differ", () => {
  expect(drift(10_000)).toBe(102)
  expect(validUntil(1_000, 10_000)).toBe(10_898)
})

it("a validity ends after the command was sent, and before the store's ttl can", () => {
  fc.assert(
    fc.property(moments, ttls, (sent, ttl) => {
      expect(validUntil(sent, ttl)).toBeGreaterThan(sent)
      expect(validUntil(sent, ttl)).toBeLessThanOrEqual(sent + ttl * 0.99 - 1)
    })
  )
})

it("from a validity, when its command was sent", () => {
  fc.assert(
    fc.property(moments, ttls, (sent, ttl) => {
      expect(sentAt(validUntil(sent, ttl), ttl)).toBeCloseTo(sent, 3)
    })
  )
})

it("retries are short, neither in a hot loop nor in step with others", () => {
  fc.assert(
    fc.property(ttls, (ttl) => {
      const delays = Array.from({ length: 20 }, () => retryDelay(ttl))
      for (const delay of delays) {
        expect(delay).toBeGreaterThanOrEqual(2)
        expect(delay).toBeLessThanOrEqual(400)
        // several of them fit into any lease but the shortest
        expect(delay).toBeLessThanOrEqual(Math.max(10, ttl / 10))
      }
      expect(new Set(delays).size).toBeGreaterThan(1)
    })
  )
})
