/** What is logged of a lease. A logger that throws, or what cannot be printed, changes nothing of it. */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import type { LockLost, LockStoreError } from "../../LockError.js"
import type { Failure } from "../lease/terms.js"
import { causeOf } from "../faces/answers.js"

export const logWarning = (
  key: string,
  owner: string | undefined,
  error: LockLost | LockStoreError
): Effect.Effect<void> => quietly(key, owner, Effect.logWarning(error.message))

export const logFailedRenewal = (
  key: string,
  owner: string | undefined,
  failure: Failure
): Effect.Effect<void> =>
  quietly(
    key,
    owner,
    Effect.suspend(() =>
      Effect.logDebug(
        `Renewal failed. It is tried again until the lease is given up: ${Cause.pretty(causeOf(failure))}`
      )
    )
  )

export const quietly = (
  key: string,
  owner: string | undefined,
  log: Effect.Effect<void>
): Effect.Effect<void> => Effect.catchAllCause(annotated(key, owner, log), () => Effect.void)

const annotated = (
  key: string,
  owner: string | undefined,
  log: Effect.Effect<void>
): Effect.Effect<void> =>
  Effect.annotateLogs(log, {
    "lock.key": key,
    ...(owner === undefined ? {} : { "lock.owner": owner })
  })
