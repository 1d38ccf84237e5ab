import { expect, it } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { LockError, type LockStore } from "effect-redis-lock"
import { Turns } from "../../src/internal/faces/httpAnswers.js"

const unavailable = (retryAfter: Duration.Duration | undefined, ahead?: number) =>
  new LockError.LockUnavailable({
    key: "k",
    retryAfter,
    ahead,
    waited: Duration.seconds(3),
    holder: { owner: undefined, heldFor: undefined, foreign: false }
  })

it.effect("one turn that is much longer than the others says little of the next", () =>
  Effect.gen(function* () {
    let now = 0
    const clock: LockStore.LockClock = {
      unsafeNow: () => now,
      unsafeSchedule: () => ({ cancel: () => {} })
    }
    const turns = new Turns()
    const take = (millis: number) =>
      Effect.scoped(
        Effect.zipRight(
          turns.measure(clock),
          Effect.sync(() => (now += millis))
        )
      )
    expect(turns.secondsUntil(unavailable(Duration.seconds(2)))).toBe(2)
    expect(turns.secondsUntil(unavailable(undefined))).toBe(3)
    expect(turns.secondsUntil(unavailable(Duration.infinity))).toBe(3_600)
    for (let index = 0; index < 20; index++) yield* take(50)
    yield* take(3_600_000)
    expect(turns.secondsUntil(unavailable(Duration.seconds(2)))).toBe(0.05)
    expect(turns.secondsUntil(unavailable(undefined, 9))).toBe(0.5)
    for (let index = 0; index < 5; index++) yield* take(400)
    expect(turns.secondsUntil(unavailable(undefined, 9))).toBe(4)
  })
)
