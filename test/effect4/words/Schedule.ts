import * as Schedule from "effect4/Schedule"

export * from "effect4/Schedule"

export const stop = Schedule.recurs(0)
