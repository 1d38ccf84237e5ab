/** What a server answers, instead of a handler that does not have the lock. */
import * as HttpServerResponse from "@effect/platform/HttpServerResponse"
import * as Cause from "effect/Cause"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Random from "effect/Random"
import type * as Scope from "effect/Scope"
import type { LockLost, LockStoreError, LockUnavailable } from "../../LockError.js"
import type { LockClock } from "../../LockStore.js"

type Response = HttpServerResponse.HttpServerResponse

const problem = (
  error: { readonly _tag: string },
  status: number,
  title: string,
  detail: string,
  retryAfter?: number
): Response =>
  HttpServerResponse.unsafeJson(
    { title, status, detail, code: error._tag },
    {
      status,
      headers: retryAfter === undefined ? {} : { "retry-after": String(retryAfter) },
      contentType: "application/problem+json"
    }
  )

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
  (error: LockUnavailable): Effect.Effect<Response> =>
    Effect.zipRight(
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

export const answerUnreachable = (error: LockStoreError): Effect.Effect<Response> =>
  Effect.zipRight(
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

  /** Whether that is why the lock died: other impossible options are not the client's doing. */
  static of(key: unknown, defect: unknown): Option.Option<Effect.Effect<never, ImpossibleKey>> {
    return typeof key === "string" &&
      Cause.isIllegalArgumentException(defect) &&
      /^Impossible lock (option )?key: /.test(defect.message)
      ? Option.some(Effect.fail(new ImpossibleKey(defect.message)))
      : Option.none()
  }
}

export const answerImpossible = (error: ImpossibleKey): Effect.Effect<Response> =>
  Effect.as(
    Effect.logDebug(error.message),
    problem(
      error,
      400,
      "Bad Request",
      "This request needs a lock, and the key of that lock is not valid. Nothing was done."
    )
  )

export const answerLost = (lost: LockLost): Effect.Effect<Response> =>
  Effect.succeed(
    problem(
      lost,
      500,
      "Internal Server Error",
      "The lock of this request was lost before the response was sent. The work may have been done, in part or completely, and another request may have changed the same data meanwhile. Find out what was done before you try again."
    )
  )
