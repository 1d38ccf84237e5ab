/** What a server answers, instead of a handler that does not have the lock; for every face. */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Predicate from "effect/Predicate"
import * as Random from "effect/Random"
import type * as Scope from "effect/Scope"
import type { LockLost, LockStoreError, LockUnavailable } from "../../LockError.js"
import type { LockClock } from "./lockStore.js"

/** The body of an answer, as in RFC 9457, and its headers. */
export interface Problem {
  readonly body: {
    readonly title: string
    readonly status: number
    readonly detail: string
    readonly code: string
  }
  readonly headers: { readonly "retry-after"?: string }
}

export const contentType = "application/problem+json"

const problem = (
  error: { readonly _tag: string },
  status: number,
  title: string,
  detail: string,
  retryAfter?: number
): Problem => ({
  body: { title, status, detail, code: error._tag },
  headers: retryAfter === undefined ? {} : { "retry-after": String(retryAfter) }
})

/** How long recent requests of one middleware in this process have had the lock. */
export class Turns {
  private readonly last: Array<number> = []

  /** A turn, from now until the scope closes. */
  measure({ unsafeNow }: LockClock): Effect.Effect<void, never, Scope.Scope> {
    return Effect.suspend(() => {
      const begunAt = unsafeNow()
      return Effect.addFinalizer(() => Effect.sync(() => this.add(unsafeNow() - begunAt)))
    })
  }

  private add(millis: number): void {
    if (this.last.push(millis) > 9) this.last.shift()
  }

  /** The median: one that is much longer than the others says little of the next. */
  private get usual(): number | undefined {
    const sorted = [...this.last].sort((a, b) => a - b)
    return sorted[Math.floor(sorted.length / 2)]
  }

  /**
   * After how many seconds a client should try again: after the turns of all requests before it. If
   * it is not known how long a turn takes: when the holder's lease ends, or after as long as it has
   * waited.
   */
  secondsUntil({ ahead = 0, retryAfter, waited }: LockUnavailable): number {
    const { usual } = this
    const millis =
      usual === undefined ? Duration.toMillis(retryAfter ?? waited) : (ahead + 1) * usual
    return Math.min(longest, millis / 1_000)
  }
}

/** In seconds: nobody is sent away for longer. */
const longest = 3_600

/** Whole seconds, at least one; not the same for all, so that they do not come back together. */
const spread = (seconds: number): Effect.Effect<number> =>
  Effect.map(Random.next, (random) =>
    Math.max(1, Math.min(longest, Math.ceil(seconds + random * Math.max(2, seconds))))
  )

export const answerUnavailable =
  (turns: Turns) =>
  (error: LockUnavailable): Effect.Effect<Problem> =>
    Effect.andThen(
      Effect.logDebug(error.message),
      Effect.map(spread(turns.secondsUntil(error)), (seconds) =>
        problem(
          error,
          423,
          "Locked",
          "Another request has the lock that this request needs, and the longest time to wait for it is over. Nothing was done. Try again later.",
          seconds
        )
      )
    )

export const answerUnreachable = (error: LockStoreError): Effect.Effect<Problem> =>
  Effect.andThen(
    Effect.logWarning(error.message),
    Effect.map(spread(unreachableSeconds), (seconds) =>
      problem(
        error,
        503,
        "Service Unavailable",
        "The server could not get the lock that this request needs, because the store of locks did not answer or refused. Nothing was done. Try again later.",
        seconds
      )
    )
  )

/** Long enough for a server to restart, or a replica to be promoted. */
const unreachableSeconds = 2

/** What a client has sent, as part of a key, can be too long, or no text. */
export class ImpossibleKey {
  readonly _tag = "ImpossibleKey"
  constructor(readonly message: string) {}

  /** If that is why the lock died: other impossible options are not the client's doing. */
  static in(key: unknown, defect: unknown): ImpossibleKey | undefined {
    return typeof key === "string" &&
      Predicate.hasProperty(defect, "message") &&
      Predicate.isString(defect.message) &&
      /^Impossible lock (option )?key: /.test(defect.message)
      ? new ImpossibleKey(defect.message)
      : undefined
  }
}

export const answerImpossible = (error: ImpossibleKey): Effect.Effect<Problem> =>
  Effect.as(
    Effect.logDebug(error.message),
    problem(
      error,
      400,
      "Bad Request",
      "This request needs a lock, and the key of that lock is not valid. Nothing was done."
    )
  )

export const answerLost = (lost: LockLost): Effect.Effect<Problem> =>
  Effect.succeed(
    problem(
      lost,
      500,
      "Internal Server Error",
      "The lock of this request was lost before the response was sent. The work may have been done, in part or completely, and another request may have changed the same data meanwhile. Find out what was done before you try again."
    )
  )
