/** How long a candidate, or a job, waits for a store that has failed. */
import type * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import type { LockStoreError } from "../../LockError.js"
import { type OutageOptions, retrying } from "../faces/outages.js"

/** Pauses from 100 ms to half a second, not in step with others: soon there when the store is back. */
const patiently = Schedule.jittered(
  Schedule.union(Schedule.exponential("100 millis"), Schedule.spaced("500 millis"))
)

/** Tries again, as the option says, where the store has failed by what can pass. */
export const throughOutages = <A, R>(
  key: string,
  options: OutageOptions | undefined,
  attempt: Effect.Effect<A, LockStoreError, R>
): Effect.Effect<A, LockStoreError, R> => retrying(key, options, patiently, attempt)
