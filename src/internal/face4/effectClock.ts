/** The time of Effect's `Clock`, as leases need it: a `TestClock` moves it. */
import type * as Clock from "effect/Clock"
import type * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { maxDelay } from "../common/timing.js"
import type { LockClock } from "../faces/lockStore.js"

export const lockClock = (clock: Clock.Clock, context: Context.Context<never>): LockClock => {
  // (the wall's time, which `currentTimeNanos` tells, can be set)
  const now = () => Math.round(Number(clock.monotonicTimeNanosUnsafe()) / 1e3) / 1e3
  // whoever makes the store may be in an uninterruptible region; a timer can always be cancelled
  const run = Effect.runForkWith(context)
  // whole milliseconds: a remainder too small to sleep for would be slept for ever; and not more than
  // `setTimeout` can count
  const sleepUntil = (at: number): Effect.Effect<void> =>
    Effect.suspend(() => {
      const left = Math.max(0, Math.ceil(at - now()))
      return left <= maxDelay
        ? clock.sleep(Duration.millis(left))
        : Effect.andThen(clock.sleep(Duration.millis(maxDelay)), sleepUntil(at))
    })
  return {
    unsafeNow: now,
    unsafeSchedule: (at, callback) => {
      const fiber = run(Effect.map(sleepUntil(at), callback))
      return { cancel: () => fiber.interruptUnsafe() }
    }
  }
}
