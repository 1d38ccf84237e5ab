/** What is logged of a lease. A logger that throws, or what cannot be printed, changes nothing of it. */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import type { LockLost, LockStoreError } from "../../LockError.js"
import { causeOf } from "./answers.js"
import type { Died, StoreFailure } from "../engine.js"

export const logWarning = (
  key: string,
  owner: string | undefined,
  error: LockLost | LockStoreError
): Effect.Effect<void> => quietly(key, owner, Effect.logWarning(error.message))

export const logFailedRenewal = (
  key: string,
  owner: string | undefined,
  failure: StoreFailure | Died
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
): Effect.Effect<void> =>
  Effect.asVoid(
    Effect.exit(
      Effect.annotateLogs(log, {
        "lock.key": key,
        ...(owner === undefined ? {} : { "lock.owner": owner })
      })
    )
  )
