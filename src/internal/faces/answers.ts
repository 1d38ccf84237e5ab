/** What the engine answers, as users see it: errors, causes, durations. */
import * as Cause from "effect/Cause"
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import { LockLost, LockStoreError, LockUnavailable, type LossReason } from "../../LockError.js"
import type * as Public from "./lockStore.js"
import * as Engine from "../engine.js"

const duration = (millis: number | undefined): Duration.Duration | undefined =>
  millis === undefined ? undefined : Duration.millis(millis)

export const publicContention = (contention: Engine.Contention): Public.Contention => ({
  ahead: contention.ahead,
  retryAfter: duration(contention.retryAfterMillis),
  holder: {
    owner: contention.owner,
    heldFor: duration(contention.heldForMillis),
    foreign: contention.foreign
  }
})

export const engineContention = ({
  ahead,
  holder,
  retryAfter
}: Public.Contention): Engine.Contention => ({
  owner: holder.owner,
  heldForMillis: holder.heldFor && Duration.toMillis(holder.heldFor),
  foreign: holder.foreign,
  retryAfterMillis: retryAfter && Duration.toMillis(retryAfter),
  ahead
})

/** A claim as the engine takes it. */
export const engineClaim = (claim: Public.Claim): Engine.Claim => {
  const { whenWaiting } = claim
  // (what does not wait differs in nothing, and is not copied)
  return whenWaiting === undefined
    ? (claim as Engine.Claim)
    : {
        ...claim,
        whenWaiting: (contention) => whenWaiting(() => publicContention(contention()))
      }
}

export const publicLook = ({ atMillis, ...look }: Engine.Look): Public.Look => ({
  ...look,
  at: Option.getOrThrow(DateTime.make(atMillis)),
  held: look.held.map(({ heldForMillis, ttlLeftMillis, ...entry }) => ({
    ...entry,
    heldFor: duration(heldForMillis),
    ttlLeft: duration(ttlLeftMillis)
  })),
  pending: look.pending.map(({ waitedMillis, ...entry }) => ({
    ...entry,
    waited: duration(waitedMillis)
  }))
})

/** What an error says of a kind: of a lock, nothing. */
export const ofKind = (kind: Engine.Kind): { readonly kind?: Engine.Kind } =>
  kind === "lock" ? {} : { kind }

const lockUnavailable = (
  { contention, key, lastTick, waitedMillis }: Engine.Unavailable,
  kind: Engine.Kind
): LockUnavailable =>
  new LockUnavailable({
    key,
    ...ofKind(kind),
    ...(lastTick === undefined ? {} : { lastTick }),
    waited: Duration.millis(waitedMillis),
    ...publicContention(contention)
  })

export const lockStoreError = (failure: Engine.StoreFailure): LockStoreError => {
  const { cause, detail, key, operation, transient } = failure
  return cause === undefined
    ? new LockStoreError({ operation, key, detail, transient })
    : new LockStoreError({ operation, key, detail, transient, cause })
}

export const lossOf = (
  kind: Engine.Kind,
  { fencingToken, key }: { readonly key: string; readonly fencingToken: number },
  reason: LossReason,
  failure?: Engine.StoreFailure | Engine.Died
): LockLost => {
  const lost = { key, ...ofKind(kind), reason, fencingToken }
  return reason === "Unreachable" && failure !== undefined
    ? new LockLost({ ...lost, cause: Cause.squash(causeOf(failure)) })
    : new LockLost(lost)
}

/** The failure of a store of somebody else's, as it was. */
export class AdaptedFailure extends Engine.StoreFailure {
  constructor(
    error: LockStoreError,
    /** All that it failed with. */
    readonly all: Cause.Cause<LockStoreError>
  ) {
    super(error.operation, error.key, error.detail, error.transient, error.cause)
  }
}

export const causeOf = (failure: Engine.StoreFailure | Engine.Died): Cause.Cause<LockStoreError> =>
  failure instanceof AdaptedFailure
    ? failure.all
    : failure._tag === "StoreFailure"
      ? Cause.fail(lockStoreError(failure))
      : Cause.isCause(failure.cause)
        ? (failure.cause as Cause.Cause<never>)
        : Cause.die(failure.cause)

/** `impossible`: a claim that cannot be meant, as a defect of this version of Effect. */
export const acquireExit = (
  exit: Engine.AcquireExit | Engine.Died,
  kind: Engine.Kind,
  impossible: (sentence: string) => Exit.Exit<never>
): Exit.Exit<Engine.Grant, LockUnavailable | LockLost | LockStoreError> => {
  switch (exit._tag) {
    case "Granted":
      return Exit.succeed(exit.grant)
    case "Unavailable":
      return Exit.fail(lockUnavailable(exit, kind))
    case "StoreFailure":
    case "Died":
      return Exit.failCause(causeOf(exit))
    case "Lost":
      return Exit.fail(lossOf(kind, exit, exit.reason))
    case "Impossible":
      return impossible(exit.message)
  }
}
