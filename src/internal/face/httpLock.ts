/**
 * A request under a lease: the handler, the moment before the headers, and the body. The lease is
 * in the request's scope, which the server closes when the body is sent.
 */
import * as HttpApp from "@effect/platform/HttpApp"
import * as HttpBody from "@effect/platform/HttpBody"
import type { HttpServerRequest } from "@effect/platform/HttpServerRequest"
import * as HttpServerRespondable from "@effect/platform/HttpServerRespondable"
import * as HttpServerResponse from "@effect/platform/HttpServerResponse"
import * as Cause from "effect/Cause"
import * as Chunk from "effect/Chunk"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as ExecutionStrategy from "effect/ExecutionStrategy"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as FiberRef from "effect/FiberRef"
import * as Option from "effect/Option"
import * as Predicate from "effect/Predicate"
import * as Random from "effect/Random"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import type { Lease } from "../../Lease.js"
import { LockLost, type LockStoreError, type LockUnavailable } from "../../LockError.js"
import type { LockClock } from "../../LockStore.js"

type Response = HttpServerResponse.HttpServerResponse

// ---------------------------------------------------------------- answers

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

// ---------------------------------------------------------------- the handler

/** What a client is told of a loss. */
export type AnswerLost = (lost: LockLost) => Effect.Effect<Response>

export const handle = <E, R>(
  lease: Lease,
  request: HttpServerRequest,
  app: HttpApp.HttpApp<HttpServerRespondable.Respondable, E, R>,
  answer: AnswerLost
): HttpApp.Default<E, R | Scope.Scope> =>
  Effect.gen(function* () {
    const answerLost = yield* once(answer)
    // of what the handler leaves for the rest of the request; closed at a loss
    const scope = yield* Scope.fork(yield* Effect.scope, ExecutionStrategy.sequential)
    const graft = yield* Scope.extend(makeGraft(lease), scope)
    yield* beforeHeaders(underLease(lease, request, scope, answerLost))
    const handler = Scope.extend(Effect.flatMap(app, HttpServerRespondable.toResponse), scope)
    // the wait for the guarded fiber hears of a disconnect, the handler itself as ever
    return yield* Effect.interruptibleMask((restore) => lease.guard(graft(restore(handler)))).pipe(
      Effect.catchAllCause(answerIfLost(lease, scope, answerLost))
    )
  })

/** What is answered in place of the handler's response is looked at before its headers, as any other. */
const once = (answer: AnswerLost): Effect.Effect<AnswerLost> =>
  Effect.sync(() => {
    let answered: Response | undefined
    return (lost) =>
      Effect.suspend(() =>
        answered !== undefined
          ? Effect.succeed(answered)
          : Effect.tap(answer(lost), (response) => {
              answered = response
            })
      )
  })

type Graft = <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>

/**
 * What an effect forks is its fiber's child, and ends with that: with the guard's fiber, where it is
 * guarded. A grafted effect forks children of another fiber, which is a child of the one that makes
 * the graft, as they would be without a guard. They are interrupted at the loss, and when the scope
 * closes, which is before the lease is released.
 */
const makeGraft = (lease: Lease): Effect.Effect<Graft, never, Scope.Scope> =>
  Effect.gen(function* () {
    const made = yield* Deferred.make<Graft>()
    const stem = yield* Effect.transplant((graft) =>
      Effect.zipRight(Deferred.succeed(made, graft), lease.awaitLost)
    ).pipe(
      // it stays, for what finalizers fork: a child of a fiber that has ended is nobody's
      Effect.catchAll(() => Effect.zipRight(interruptChildren, Effect.never)),
      Effect.interruptible,
      Effect.fork
    )
    yield* Effect.addFinalizer(() => Fiber.interrupt(stem))
    return yield* Deferred.await(made)
  })

const interruptChildren = Effect.withFiberRuntime<void>((fiber) =>
  Effect.flatMap(fiber.children, Fiber.interruptAll)
)

const answerIfLost =
  (lease: Lease, scope: Scope.CloseableScope, answerLost: AnswerLost) =>
  <E>(cause: Cause.Cause<E | LockLost>): Effect.Effect<Response, E> => {
    const lost = Chunk.findFirst(Cause.failures(cause), isLossOf(lease))
    // without a loss it is all the handler's
    if (Option.isNone(lost)) return Effect.failCause(cause as Cause.Cause<E>)
    const others = Cause.flatMap(cause, (error) =>
      isLossOf(lease)(error) ? Cause.empty : Cause.fail(error)
    )
    return Effect.zipRight(
      Cause.isInterruptedOnly(others)
        ? Effect.void
        : Effect.logWarning("A handler failed, and the lock of its request was lost", others),
      closeAndAnswer(lost.value, scope, answerLost)
    )
  }

/** The handler's fibers and finalizers end before the client gets the answer. */
const closeAndAnswer = (
  lost: LockLost,
  scope: Scope.CloseableScope,
  answerLost: AnswerLost
): Effect.Effect<Response> =>
  Effect.zipRight(Effect.uninterruptible(Scope.close(scope, Exit.fail(lost))), answerLost(lost))

/** The handler may have met losses of other leases. */
const isLossOf =
  (lease: Lease) =>
  (error: unknown): error is LockLost =>
    error instanceof LockLost &&
    error.key === lease.key &&
    error.fencingToken === lease.fencingToken

// ---------------------------------------------------------------- the response

/**
 * Before what others have to do with the response (CORS), so that it applies to whatever becomes
 * of it here.
 */
const beforeHeaders = (handler: HttpApp.PreResponseHandler): Effect.Effect<void> =>
  FiberRef.update(HttpApp.currentPreResponseHandlers, (others) =>
    Option.some<HttpApp.PreResponseHandler>((request, response) =>
      Effect.flatMap(handler(request, response), (response) =>
        Option.isSome(others) ? others.value(request, response) : Effect.succeed(response)
      )
    )
  )

/** The last look at the lease before the headers go out, and what follows the body from there. */
const underLease =
  (
    lease: Lease,
    request: HttpServerRequest,
    scope: Scope.CloseableScope,
    answerLost: AnswerLost
  ): HttpApp.PreResponseHandler =>
  (_, response) =>
    Effect.matchEffect(lease.guard(Effect.void), {
      onFailure: (lost) => closeAndAnswer(lost, scope, answerLost),
      onSuccess: () => {
        const { body } = response
        switch (body._tag) {
          case "Stream":
            // nobody reads it: the lease would be kept for ever
            if (request.method === "HEAD") return Effect.succeed(withoutBody(response))
            return Effect.succeed(
              HttpServerResponse.setBody(
                response,
                HttpBody.stream(
                  streamUnder(lease, request, scope, body.stream),
                  body.contentType,
                  body.contentLength
                )
              )
            )
          case "Raw":
            // a Node stream, which the server reads by itself
            return Predicate.hasProperty(body.body, "pipe")
              ? Effect.as(Scope.extend(cutWhenLost(lease, request), scope), response)
              : Effect.succeed(response)
          default:
            return Effect.succeed(response)
        }
      }
    })

const withoutBody = (response: Response): Response =>
  HttpServerResponse.setHeaders(
    HttpServerResponse.setBody(response, HttpBody.empty),
    response.headers
  )

/**
 * A stream each of whose steps is guarded. Its scope closes at the loss, whether or not anybody
 * asks for the next step then, which a client that does not read can put off for ever; then that
 * of the handler, which the stream may live on.
 */
const streamUnder = <E>(
  lease: Lease,
  request: HttpServerRequest,
  scopeOfHandler: Scope.CloseableScope,
  stream: Stream.Stream<Uint8Array, E>
): Stream.Stream<Uint8Array, E | LockLost> =>
  Stream.fromPull(
    Effect.gen(function* () {
      yield* cutWhenLost(lease, request)
      const scope = yield* Scope.fork(yield* Effect.scope, ExecutionStrategy.sequential)
      const graft = yield* Scope.extend(makeGraft(lease), scope)
      const pull = yield* Scope.extend(Stream.toPull(stream), scope)
      const oneAtATime = Effect.unsafeMakeSemaphore(1).withPermits(1)
      yield* Effect.interruptible(lease.awaitLost).pipe(
        Effect.catchAll((lost) =>
          Effect.uninterruptible(
            Effect.zipRight(
              oneAtATime(Scope.close(scope, Exit.fail(lost))),
              Scope.close(scopeOfHandler, Exit.fail(lost))
            )
          )
        ),
        Effect.forkScoped
      )
      return Effect.mapError(
        oneAtATime(lease.guard(graft(pull))),
        (error): Option.Option<E | LockLost> =>
          Option.isOption(error) ? error : Option.some(error)
      )
    })
  )

/**
 * Until the scope closes, the end of the lease is the end of the connection. Node's server would
 * end a body that fails as if it were complete.
 */
const cutWhenLost = (
  { signal }: Lease,
  request: HttpServerRequest
): Effect.Effect<void, never, Scope.Scope> => {
  const cut = () => cutConnection(request)
  return Effect.asVoid(
    Effect.acquireRelease(
      Effect.sync(() => {
        signal.addEventListener("abort", cut)
        if (signal.aborted) cut()
      }),
      () => Effect.sync(() => signal.removeEventListener("abort", cut))
    )
  )
}

/** A server on Node has its `IncomingMessage` there; others fail the body by themselves. */
const cutConnection = ({ source }: HttpServerRequest): void => {
  if (
    Predicate.hasProperty(source, "socket") &&
    Predicate.hasProperty(source.socket, "destroy") &&
    Predicate.isFunction(source.socket.destroy)
  ) {
    source.socket.destroy()
  }
}
