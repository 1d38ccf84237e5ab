import * as Schedule from "effect/Schedule"

export * from "effect/Schedule"

export const stop = Schedule.recurs(0)

/** Goes on as long as one of them does, after the shorter of the pauses. */
export const union =
  (that: Schedule.Schedule<unknown>) =>
  (self: Schedule.Schedule<unknown>): Schedule.Schedule<unknown> =>
    Schedule.min([self, that])
