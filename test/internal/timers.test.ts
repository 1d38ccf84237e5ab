/** Timers that share: how many there are behind many deadlines. */
import { expect, it, vi } from "@effect/vitest"
import { processClock } from "../../src/internal/common/timers.js"

it("deadlines that are far away, and cancelled, leave few timers", () => {
  const made = vi.spyOn(globalThis, "setTimeout")
  const start = processClock.unsafeNow()
  for (let i = 0; i < 100_000; i++) {
    processClock.unsafeSchedule(start + 1_800_000 + i * 10, () => {}).cancel()
  }
  const timers = made.mock.calls.length
  made.mockRestore()
  expect(timers).toBeGreaterThan(0)
  expect(timers).toBeLessThan(100)
})

it("a deadline comes at its time, up to 9 ms early, however far it was", async () => {
  const late = await Promise.all(
    [5, 99, 101, 500, 1_023, 1_025, 2_500].map(
      (delay) =>
        new Promise<number>((resolve) => {
          const at = processClock.unsafeNow() + delay
          processClock.unsafeSchedule(at, () => resolve(processClock.unsafeNow() - at))
        })
    )
  )
  // 8 of the slot, and 1 of a timer of Node, which begins to count at a whole millisecond
  for (const millis of late) expect(millis).toBeGreaterThanOrEqual(-9)
  for (const millis of late) expect(millis).toBeLessThan(500)
})
