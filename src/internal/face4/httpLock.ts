/**
 * A request under a lease: the handler, the moment before the headers, and the body. The lease is
 * in the request's scope, which the server closes when the body is sent.
 */
import * as Cause from "effect/Cause"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as HttpBody from "effect/http/HttpBody"
import * as HttpEffect from "effect/http/HttpEffect"
import { HttpServerRequest } from "effect/http/HttpServerRequest"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Predicate from "effect/Predicate"
import * as Queue from "effect/Queue"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import type { Lease } from "../../Lease.js"
import { LockLost } from "../../LockError.js"
import { contentType, type Problem } from "../faces/httpAnswers.js"

/**
 * The request that is handled. (It is named here, since a public module imports nothing that one version of
 * Effect lacks: what it imports first has to be what is not found.)
 */
export const currentRequest = HttpServerRequest

type Response = HttpServerResponse.HttpServerResponse

export const responseOf = ({ body, headers }: Problem): Response =>
  HttpServerResponse.jsonUnsafe(body, { status: body.status, headers, contentType })

/** A request that is handled, and what has become of it. */
interface Handled {
  readonly lease: Lease
  readonly request: HttpServerRequest
  /** Of what the handler leaves for the rest of the request; closed at a loss. */
  readonly scope: Scope.Closeable
  readonly answer: (lost: LockLost) => Effect.Effect<Response>
  /** What the handler responded, or what was answered in its place. */
  response: Response | undefined
  answered: Response | undefined
}

export const handle = <E, R>(
  lease: Lease,
  request: HttpServerRequest,
  app: Effect.Effect<Response, E, R>,
  answer: (lost: LockLost) => Effect.Effect<Response>
): Effect.Effect<Response, E, R | Scope.Scope | HttpServerRequest> =>
  Effect.gen(function* () {
    const scope = yield* Scope.fork(yield* Effect.scope, "sequential")
    const handled: Handled = {
      lease,
      request,
      scope,
      answer,
      response: undefined,
      answered: undefined
    }
    yield* HttpEffect.appendPreResponseHandler(underLease(handled))
    // the wait hears of a disconnect, the handler itself as ever
    const response = yield* Effect.interruptibleMask((restore) =>
      inFiber(lease, scope, restore(Scope.provide(app, scope)))
    ).pipe(Effect.catchCause(answerIfLost(handled)))
    handled.response = response
    return response
  })

/**
 * Runs the handler, guarded, in a fiber that stays until the scope closes: what the handler forks are
 * its children, as they would be the request's without a guard, and the body may live on them.
 */
const inFiber = <A, E, R>(
  lease: Lease,
  scope: Scope.Scope,
  handler: Effect.Effect<A, E, R>
): Effect.Effect<A, E | LockLost, R> =>
  Effect.uninterruptibleMask((restore) =>
    Effect.gen(function* () {
      const done = Deferred.makeUnsafe<A, E | LockLost>()
      // what it did in spite of a loss is for the guard to conclude: nothing of that may be skipped
      const staying = Effect.uninterruptibleMask((restore) =>
        Effect.flatMap(Effect.exit(restore(handler)), (exit) =>
          Effect.flatMap(lease.isHeld, (isHeld) => {
            if (!isHeld) return exit
            Deferred.doneUnsafe(done, exit)
            return Effect.interruptible(Effect.never)
          })
        )
      )
      // (it ends after the finalizers that the handler adds)
      const own = yield* Scope.fork(scope, "sequential")
      const fiber = yield* Effect.forkIn(lease.guard(staying), own, { startImmediately: true })
      fiber.addObserver((exit) => void Deferred.doneUnsafe(done, exit))
      return yield* Effect.onInterrupt(restore(Deferred.await(done)), () => Fiber.interrupt(fiber))
    })
  )

const answerIfLost =
  (handled: Handled) =>
  <E>(cause: Cause.Cause<E | LockLost>): Effect.Effect<Response, E> => {
    const isLoss = isLossOf(handled.lease)
    const loss = cause.reasons.filter(Cause.isFailReason).find(({ error }) => isLoss(error))
    // without a loss it is all the handler's
    if (loss === undefined) return Effect.failCause(cause as Cause.Cause<E>)
    const others = Cause.fromReasons(cause.reasons.filter((reason) => reason !== loss))
    return Effect.andThen(
      others.reasons.length === 0 || Cause.hasInterruptsOnly(others)
        ? Effect.void
        : Effect.logWarning("A handler failed, and the lock of its request was lost", others),
      closeAndAnswer(handled, loss.error as LockLost)
    )
  }

/** The handler's fibers and finalizers end before the client gets the answer, which is asked for once. */
const closeAndAnswer = (handled: Handled, lost: LockLost): Effect.Effect<Response> =>
  Effect.andThen(
    Effect.uninterruptible(Scope.close(handled.scope, Exit.fail(lost))),
    Effect.suspend(() =>
      handled.answered !== undefined
        ? Effect.succeed(handled.answered)
        : Effect.map(handled.answer(lost), (response) => (handled.answered = response))
    )
  )

/** The handler may have met losses of other leases. */
const isLossOf =
  (lease: Lease) =>
  (error: unknown): error is LockLost =>
    error instanceof LockLost &&
    error.key === lease.key &&
    error.fencingToken === lease.fencingToken

// ---------------------------------------------------------------- the response

/** The last look at the lease before the headers go out, and what follows the body from there. */
const underLease =
  (handled: Handled): HttpEffect.PreResponseHandler =>
  (_, response) =>
    Effect.matchEffect(handled.lease.guard(Effect.void), {
      onFailure: (lost) =>
        Effect.map(closeAndAnswer(handled, lost), (answer) =>
          withAddedHeaders(answer, handled.response, response)
        ),
      onSuccess: () => {
        const { lease, request, scope } = handled
        const { body } = response
        if (body._tag === "Stream") {
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
        }
        // a Node stream, which the server reads by itself
        return body._tag === "Raw" && Predicate.hasProperty(body.body, "pipe")
          ? Effect.as(Scope.provide(cutWhenLost(lease, request), scope), response)
          : Effect.succeed(response)
      }
    })

/** What others have added to a response before it came here (CORS) applies to its replacement as well. */
const withAddedHeaders = (
  answer: Response,
  handlers: Response | undefined,
  response: Response
): Response =>
  HttpServerResponse.setHeaders(
    answer,
    Object.entries(response.headers).filter(
      ([name, value]) =>
        !name.startsWith("content-") &&
        answer.headers[name] === undefined &&
        handlers?.headers[name] !== value
    )
  )

/**
 * A stream that runs in a guarded fiber, a step when it is asked for one: so what it forks lives for as
 * long as the stream, and its scope closes at the loss, whether or not anybody asks for the next step then,
 * which a client that does not read can put off for ever; then that of the handler, which the stream may
 * live on.
 */
const streamUnder = <E>(
  lease: Lease,
  request: HttpServerRequest,
  scopeOfHandler: Scope.Closeable,
  stream: Stream.Stream<Uint8Array, E>
): Stream.Stream<Uint8Array, E | LockLost> =>
  Stream.scoped(
    Stream.fromPull(
      Effect.gen(function* () {
        yield* cutWhenLost(lease, request)
        type Pull = Effect.Success<ReturnType<typeof Stream.toPull<Uint8Array, E, never>>>
        type Step = Deferred.Deferred<Effect.Success<Pull>, Effect.Error<Pull>>
        const asked = yield* Queue.unbounded<Step>()
        const steps = Effect.scoped(
          Effect.flatMap(Stream.toPull(stream), (pull) =>
            Effect.forever(
              Effect.flatMap(Queue.take(asked), (step) =>
                Effect.map(Effect.exit(pull), (exit) => Deferred.doneUnsafe(step, exit))
              )
            )
          )
        )
        const fiber = yield* lease.guard(steps).pipe(
          Effect.tapError((lost) =>
            Effect.uninterruptible(Scope.close(scopeOfHandler, Exit.fail(lost)))
          ),
          Effect.forkScoped({ startImmediately: true })
        )
        return Effect.suspend(() => {
          const step: Step = Deferred.makeUnsafe()
          Queue.offerUnsafe(asked, step)
          return Effect.raceFirst(Deferred.await(step), Fiber.join(fiber))
        })
      })
    )
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
