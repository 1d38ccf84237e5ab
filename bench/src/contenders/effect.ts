/** Callers of a library that is made of effects: fibers of one runtime. */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import type { Load, Meter } from "../Contender.js"

/** What is done under the lock. */
export const criticalSection = (caller: number, meter: Meter): Effect.Effect<void> => {
  const { work } = meter
  return work === undefined
    ? Effect.sync(() => {
        meter.enter(caller)
        meter.leave(caller)
      })
    : Effect.sync(() => meter.enter(caller)).pipe(
        Effect.zipRight(Effect.promise(() => work())),
        Effect.zipRight(Effect.sync(() => meter.leave(caller)))
      )
}

export const callers = <R>(
  load: Load,
  meter: Meter,
  /** One cycle of this caller. */
  cycleOf: (caller: number) => (key: string) => Effect.Effect<void, unknown, R>
): Effect.Effect<void, never, R> =>
  Effect.forEach(
    Array.from({ length: load.callers }, (_, index) => index),
    (caller) => {
      const cycle = cycleOf(caller)
      const cycles = Effect.gen(function* () {
        for (let key = meter.begin(caller); key !== undefined; key = meter.begin(caller)) {
          yield* cycle(key)
        }
      })
      const untilTheEnd: Effect.Effect<void, never, R> = Effect.catchAllCause(cycles, (cause) => {
        meter.failed(caller, Cause.squash(cause))
        return Effect.zipRight(Effect.sleep(10), untilTheEnd)
      })
      return untilTheEnd
    },
    { concurrency: "unbounded", discard: true }
  )
