/** What goes on through an outage of the store, and what is logged of it. */
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import type { LockStoreError } from "../../LockError.js"
import { checkSchedule } from "../common/options.js"
import { quietly } from "./logs.js"

export type Retry = Schedule.Schedule<unknown, LockStoreError>

export interface OutageOptions {
  readonly retry?: Retry | undefined
  readonly owner?: string | undefined
}

/** A sentence where the option is impossible. */
export const checkRetry = (options: OutageOptions | undefined): string | undefined =>
  options?.retry === undefined
    ? undefined
    : checkSchedule(options.retry, Schedule.isSchedule(options.retry))

/** Tries again, as the schedule says, where the store has failed by what can pass. */
export const retrying = <A, R>(
  key: string,
  options: OutageOptions | undefined,
  otherwise: Retry,
  attempt: Effect.Effect<A, LockStoreError, R>
): Effect.Effect<A, LockStoreError, R> =>
  Effect.suspend(() => {
    let isTold = false
    const told = Effect.tapError(attempt, (error) => {
      const log = isTold ? Effect.logDebug : Effect.logWarning
      isTold = true
      return error.transient
        ? quietly(key, options?.owner, log(`${error.message} It is tried again.`))
        : Effect.void
    })
    return Effect.retry(told, {
      schedule: options?.retry ?? otherwise,
      while: ({ transient }) => transient
    })
  })
