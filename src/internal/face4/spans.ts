/** The spans of a lock: of its acquisition, of the time that it is held, and of its release. */
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Tracer from "effect/Tracer"
import { type LockLost, type LockStoreError, LockUnavailable } from "../../LockError.js"
import type { Contention, Kind } from "../faces/lockStore.js"
import type { LeaseOptions } from "../common/options.js"
import type * as Engine from "../engine.js"
import type { ReleaseExit } from "../lease/terms.js"
import { causeOf, publicContention } from "../faces/answers.js"
import { errorIn } from "./causes.js"

type AcquireError = LockUnavailable | LockLost | LockStoreError

/** Of a lease, what its spans tell. */
interface Spanned {
  readonly waitedMillis: number
  readonly fencingToken: number
  /** Of several keys, in the order of their names. */
  readonly fencingTokens?: ReadonlyArray<number>
  readonly contention: Engine.Contention | undefined
  span: Tracer.Span | undefined
}

/** How the spans of a kind of lock are named, and what else they tell. */
export interface Named {
  readonly spans: { readonly acquire: string; readonly hold: string }
  readonly attributes: Readonly<Record<string, number>>
  /** Where it is of several keys. */
  readonly keys?: ReadonlyArray<string>
}

export const traceAcquisition = <A extends Spanned>(
  claim: Effect.Effect<A, AcquireError>,
  key: string,
  { attributes: ofKind, keys, spans }: Named,
  options: LeaseOptions
): Effect.Effect<A, AcquireError> => {
  const attributes = {
    ...(keys === undefined ? { "lock.key": key } : { "lock.keys": keys }),
    "lock.name": options.name ?? "default",
    ...ofKind,
    ...(options.owner === undefined ? {} : { "lock.owner": options.owner })
  }
  const told = Effect.onExit(claim, (exit) =>
    Effect.annotateCurrentSpan(
      Exit.isSuccess(exit)
        ? {
            "lock.outcome": "acquired",
            "lock.wait_ms": exit.value.waitedMillis,
            ...fencing(exit.value),
            ...(exit.value.contention === undefined
              ? {}
              : contended(publicContention(exit.value.contention)))
          }
        : outcomeOf(exit.cause, keys !== undefined)
    )
  )
  // a span fails with its effect: for a single attempt, a lock that is taken is an answer and no error
  const attempt: Effect.Effect<A | LockUnavailable, AcquireError> =
    options.waitMillis === 0 ? Effect.catchTag(told, "LockUnavailable", Effect.succeed) : told
  return attempt.pipe(
    Effect.withSpan(spans.acquire, { attributes }, { captureStackTrace: false }),
    Effect.flatMap((answer) =>
      answer instanceof LockUnavailable ? Effect.fail(answer) : Effect.succeed(answer)
    ),
    Effect.tap((lease) =>
      Effect.map(
        Effect.makeSpan(spans.hold, {
          attributes: { ...attributes, ...fencing(lease) }
        }),
        (span) => {
          lease.span = span
        }
      )
    )
  )
}

const fencing = ({ fencingToken, fencingTokens }: Spanned): Record<string, unknown> =>
  fencingTokens === undefined
    ? { "lock.fencing_token": fencingToken }
    : { "lock.fencing_tokens": fencingTokens }

const outcomeOf = (
  cause: Cause.Cause<AcquireError>,
  ofSeveral: boolean
): Record<string, unknown> => {
  const failure = errorIn(cause)
  if (failure === undefined) {
    return { "lock.outcome": Cause.hasInterrupts(cause) ? "interrupted" : "died" }
  }
  return failure._tag === "LockUnavailable"
    ? {
        "lock.outcome": "unavailable",
        "lock.wait_ms": Duration.toMillis(failure.waited),
        // the one that was not free
        ...(ofSeveral ? { "lock.key": failure.key } : {}),
        ...contended(failure)
      }
    : { "lock.outcome": "failed" }
}

const contended = ({ ahead, holder, retryAfter }: Contention): Record<string, unknown> => ({
  "lock.contended": true,
  "lock.ahead": ahead,
  "lock.holder": holder.foreign ? "foreign" : holder.owner,
  "lock.held_for_ms": holder.heldFor && Duration.toMillis(holder.heldFor),
  "lock.retry_after_ms": retryAfter && Duration.toMillis(retryAfter)
})

const releaseSpans: Record<Kind, string> = {
  lock: "Lock.release",
  semaphore: "Semaphore.release",
  readWriteLock: "ReadWriteLock.release"
}

/**
 * Gives a lease back that has a span, which ends with it; `told`: what users are told of that. The
 * span of the release itself fails where the store did not answer.
 */
export const traceRelease = (
  span: Tracer.Span,
  kind: Kind,
  release: Effect.Effect<void, LockStoreError>,
  told: () => Exit.Exit<void, LockLost | LockStoreError> | undefined
): Effect.Effect<Exit.Exit<void, LockLost | LockStoreError>> => {
  let begun = false
  const begin = Effect.suspend(() => {
    begun = true
    return release
  })
  return begin.pipe(
    Effect.withSpan(releaseSpans[kind], { parent: span }, { captureStackTrace: false }),
    // a tracer that throws must not keep the lock
    Effect.catchCause((cause) => (begun ? Effect.failCause(cause) : begin)),
    Effect.exit,
    Effect.flatMap((exit) =>
      Effect.map(Clock.currentTimeNanos, (nanos) => {
        const end = told() ?? exit
        const error = Exit.isFailure(end) ? errorIn(end.cause) : undefined
        if (error?._tag === "LockLost") span.attribute("lock.lost", error.reason)
        span.end(nanos, end)
        return end
      })
    )
  )
}

/** Of a release: whether the store answered it. */
export const answered = (exit: ReleaseExit): Exit.Exit<void, LockStoreError> => {
  const answer = exit === "Confirmed" || exit._tag !== "Loss" ? exit : exit.answer
  return typeof answer === "string" ? Exit.void : Exit.failCause(causeOf(answer))
}
