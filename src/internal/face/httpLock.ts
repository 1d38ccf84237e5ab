/**
 * A request under a lease: the handler, the moment before the headers, and the body. The lease is
 * in the request's scope, which the server closes when the body is sent.
 */
import * as HttpApp from "@effect/platform/HttpApp"
import * as HttpBody from "@effect/platform/HttpBody"
import { HttpServerRequest } from "@effect/platform/HttpServerRequest"
import * as HttpServerRespondable from "@effect/platform/HttpServerRespondable"
import * as HttpServerResponse from "@effect/platform/HttpServerResponse"
import * as Cause from "effect/Cause"
import * as Chunk from "effect/Chunk"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as ExecutionStrategy from "effect/ExecutionStrategy"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as FiberRef from "effect/FiberRef"
import * as Option from "effect/Option"
import * as Predicate from "effect/Predicate"
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
export const toResponse = HttpServerRespondable.toResponse

type Response = HttpServerResponse.HttpServerResponse

export const responseOf = ({ body, headers }: Problem): Response =>
  HttpServerResponse.unsafeJson(body, { status: body.status, headers, contentType })

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
