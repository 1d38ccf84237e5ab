/** The short form of `npm run lost-grants`. */
import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as LostGrants from "../support/LostGrants.js"
import { quietly } from "./support.js"

describe("failovers to a replica that lags", () => {
  it.scopedLive(
    "lose leases where nothing is acknowledged",
    () =>
      quietly(
        Effect.gen(function* () {
          const report = yield* LostGrants.run({ tries: 5, acknowledged: false, seed: 1 })
          expect(report.lost).toBeGreaterThan(0)
        })
      ),
    120_000
  )

  it.scopedLive(
    "lose none that all replicas have acknowledged",
    () =>
      quietly(
        Effect.gen(function* () {
          const report = yield* LostGrants.run({ tries: 12, acknowledged: true, seed: 1 })
          expect(report.lost).toBe(0)
          expect(report.granted).toBeGreaterThan(0)
          expect(report.refused).toBeGreaterThan(0)
        })
      ),
    120_000
  )
})
