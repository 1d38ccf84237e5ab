/**
 * The bridge to the HTTP servers of `@effect/platform`: a middleware that handles one request at a
 * time per key, in all processes that share the lock's store.
 *
 * A request waits for its turn. If it has waited for too long, it is answered 423 (Locked) with
 * `Retry-After`; if the store does not answer or refuses, it is answered 503. It has the lock until
 * its response has been sent, streamed bodies included, and gives it back at once when its client
 * disconnects.
 *
 * @example
 * ```ts
 * import { HttpRouter, HttpServerResponse } from "@effect/platform"
 * import { Effect } from "effect"
 * import * as HttpLock from "effect-redis-lock/HttpLock"
 *
 * const oneAtATime = HttpLock.make({
 *   key: () => Effect.map(HttpRouter.params, ({ id }) => `account:${id}`),
 *   waitAtMost: "5 seconds"
 * })
 *
 * const withdraw = Effect.gen(function* () {
 *   const { fencingToken } = yield* HttpLock.CurrentLease
 *   return HttpServerResponse.text(`done, with fencing token ${fencingToken}`)
 * })
 *
 * const app = HttpRouter.empty.pipe(
 *   HttpRouter.get("/health", HttpServerResponse.empty()),
 *   HttpRouter.post("/accounts/:id/withdraw", oneAtATime(withdraw))
 * )
 * ```
 *
 * This module has an import path of its own, and is not part of the package's index, so that only
 * programs that use it load `@effect/platform`.
 *
 * @since 0.1.0
 */
import "./internal/with-effect-4-import/effect-redis-lock/effect4.js"
import type * as HttpApp from "@effect/platform/HttpApp"
import type * as HttpServerRequest from "@effect/platform/HttpServerRequest"
import type * as HttpServerRespondable from "@effect/platform/HttpServerRespondable"
import type * as HttpServerResponse from "@effect/platform/HttpServerResponse"
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import { currentRequest, handle, responseOf, toResponse } from "./internal/face/httpLock.js"
import {
  answerImpossible,
  answerLost,
  answerUnavailable,
  answerUnreachable,
  ImpossibleKey,
  type Problem,
  Turns
} from "./internal/faces/httpAnswers.js"
import type { DurationInput, Lease } from "./Lease.js"
import * as Lock from "./Lock.js"
import type { LockLost, LockStoreError, LockUnavailable } from "./LockError.js"
import { LockStore } from "./LockStore.js"

/**
 * The lease under which the request is handled, as a service for the handler. Send its
 * `fencingToken` along with every write, and pass its `signal` to Promise APIs. The handler is
 * already guarded, and the lease is released after it: the handler must do neither itself.
 *
 * @since 0.1.0
 * @category tags
 */
export class CurrentLease extends Context.Tag("effect-redis-lock/HttpLock/CurrentLease")<
  CurrentLease,
  Lease
>() {}

/**
 * An answer of the application's own. `standard` is the response that would be sent without it: you
 * can keep its `Retry-After` (`standard.headers["retry-after"]`), or replace its body
 * (`HttpServerResponse.setBody`). It runs once for each request. If it dies, that is logged, and
 * `standard` is sent.
 *
 * @since 0.1.0
 * @category models
 */
export type Answer<Error, R = never> = (
  error: Error,
  standard: HttpServerResponse.HttpServerResponse
) => Effect.Effect<HttpServerRespondable.Respondable, never, R>

/**
 * Which key a request locks, how long it waits, and what is answered otherwise; with the options of a lock.
 *
 * @since 0.1.0
 * @category models
 */
export interface Options<E = never, R = never, R1 = never, R2 = never, R3 = never>
  extends Lock.WaitOptions {
  /**
   * The key that the request locks. It can be an effect, for a key that depends on the route
   * (`HttpRouter.params`, `HttpRouter.schemaPathParams`) or on other services. If the effect fails,
   * the request fails with its error, and nothing is locked. An impossible key (empty, too long,
   * half of a surrogate pair) is answered 400. A key that is not a string is a defect, and the
   * answer is a 500.
   *
   * If keys are made of what clients send, give them a prefix of their own, and put authentication
   * outside of the lock, so that only clients that may send such a key can lock it.
   */
  readonly key: (
    request: HttpServerRequest.HttpServerRequest
  ) => string | Effect.Effect<string, E, R>
  /**
   * How long a request waits while others have its key, before it is answered 423; `0`: it does not
   * wait. Keep it shorter than clients and proxies wait for an answer. Default: the store's
   * `waitAtMost`, or 10 seconds.
   */
  readonly waitAtMost?: DurationInput | undefined
  /** The application's own answer, instead of the 423, if others had the key for `waitAtMost`. */
  readonly onUnavailable?: Answer<LockUnavailable, R1> | undefined
  /** The application's own answer, instead of the 503, if the store did not answer, or refused. */
  readonly onUnreachable?: Answer<LockStoreError, R2> | undefined
  /**
   * The application's own answer, instead of the 500, if the lease was lost before the headers were
   * sent. The handler was interrupted, or had finished, and the finalizers of its scope have run.
   */
  readonly onLost?: Answer<LockLost, R3> | undefined
}

/**
 * Provides the `CurrentLease` to an app: a router's routes, one route's handler, or all that a
 * server serves. `E` and `R` are the error and the requirements of `key`.
 *
 * @since 0.1.0
 * @category models
 */
export interface Middleware<E = never, R = never> {
  <EApp, RApp>(
    app: HttpApp.HttpApp<HttpServerRespondable.Respondable, EApp, RApp>
  ): HttpApp.Default<EApp | E, Exclude<RApp, CurrentLease> | R | LockStore | Scope.Scope>
}

/**
 * Makes a middleware for `HttpRouter.use`, for a single route's handler, or for
 * `HttpServer.serve`. Apply it as near to the handlers as possible: only code inside of it has the
 * lease; code outside of it (authentication, logging) does not wait for the lock.
 *
 * **Its answers.** If the application has none of its own (`onUnavailable`, `onUnreachable`,
 * `onLost`), they are problem details as in RFC 9457 (`application/problem+json`). A `code` tells
 * them from other problems. They do not show the key or the holder's name to the client (the log
 * has them: at DEBUG for a 423, as a warning otherwise):
 *
 * - `400`, `"code": "ImpossibleKey"`: there can be no lock of that key. The handler did not run.
 * - `423`, `"code": "LockUnavailable"`: others had the key for `waitAtMost`. The handler did not
 *   run. `Retry-After` is an estimate in whole seconds: the median time for which the last requests
 *   had the lock, in this process and middleware, times the number of turns before this request's:
 *   those of this process, and one for each other process that waits (with `waitAtMost: 0`, the
 *   holder's only).
 *   If no request has had the lock yet, it is the rest of the holder's ttl, or, without a ttl, the
 *   time that this request has waited. A random time is added, of up to the same length (or up to 2
 *   seconds, if that is longer), so that clients that were turned away together do not come back
 *   together.
 * - `503`, `"code": "LockStoreError"`: the store did not answer, or refused. The handler did not
 *   run. `Retry-After` is 3 or 4 seconds.
 * - `500`, `"code": "LockLost"`: the lease was lost before the headers were sent. The handler was
 *   interrupted, or had finished, but somebody else may have had the lock as well, so its response
 *   is not sent. It is not a 503, which clients and proxies understand as "nothing was done, send
 *   it again": only the application can find out what was done.
 *
 * **How long the lease is held.** Until the server closes the request's scope, which it does when
 * the last byte of the body has been handed to the connection. Finalizers that the handler added to
 * that scope run before the release. If the client disconnects, the wait, the handler or the stream
 * is interrupted, and then the lease is released. (While a large request body has not been read to
 * its end, Node's server does not notice a disconnect: such a request waits to its limit, or is
 * handled until it reads.) A client that stays connected, but does not read its response, keeps the
 * lock: give the server's connections an idle timeout.
 *
 * **If a lease is lost while the body is sent**, the status cannot be changed any more. A streamed
 * body is interrupted, its finalizers run, and the connection is closed (on Node; elsewhere the
 * body fails), so that the client sees that the response was cut off. A body that was complete in
 * memory is sent to its end.
 *
 * **What is forked.** Fibers that the handler or its stream forks (`Effect.fork`, `forkScoped`, a
 * `FiberSet`) live until the response has been sent and the finalizers in the request's scope have
 * run. They are interrupted before the lease is released, and at a loss. At a loss, the scope that
 * the handler is given is closed as well, once the handler and its stream have ended. A daemon
 * (`forkDaemon`) is not interrupted.
 *
 * A disconnect interrupts the wait in an uninterruptible route, too; the handler is as
 * interruptible there as without this middleware. A body that is a Node `Readable` is treated like
 * an Effect stream. A body that `HttpApp.toWebHandler` only passes on (a `raw` web stream) cannot
 * be interrupted: use `HttpServerResponse.stream`.
 *
 * @example
 * ```ts
 * import { HttpRouter, HttpServerResponse } from "@effect/platform"
 * import * as HttpLock from "effect-redis-lock/HttpLock"
 *
 * // all routes of this router, one request at a time per tenant
 * const app = HttpRouter.empty.pipe(
 *   HttpRouter.post("/import", HttpServerResponse.empty({ status: 204 })),
 *   HttpRouter.use(
 *     HttpLock.make({
 *       key: (request) => `tenant:${request.headers["x-tenant"] ?? "none"}`,
 *       ttl: "10 seconds",
 *       name: "tenant"
 *     })
 *   )
 * )
 * ```
 *
 * @since 0.1.0
 * @category constructors
 */
export const make = <E = never, R = never, R1 = never, R2 = never, R3 = never>({
  key,
  onLost,
  onUnavailable,
  onUnreachable,
  waitAtMost,
  ...options
}: Options<E, R, R1, R2, R3>): Middleware<E, R | R1 | R2 | R3> => {
  const keyOf = (request: HttpServerRequest.HttpServerRequest): Effect.Effect<string, E, R> =>
    Effect.suspend(() => {
      const found = key(request)
      return Effect.isEffect(found) ? found : Effect.succeed(found)
    })
  const turns = new Turns()
  const unavailable = answering(answerUnavailable(turns), onUnavailable)
  const unreachable = answering(answerUnreachable, onUnreachable)
  const lost = answering(answerLost, onLost)
  return (app) =>
    Effect.gen(function* () {
      const request = yield* currentRequest
      const store = yield* LockStore
      const services = yield* Effect.context<R3>()
      const key = yield* keyOf(request)
      const wait =
        waitAtMost === undefined ? (store.defaults?.waitAtMost ?? "10 seconds") : waitAtMost
      // a server runs its app uninterruptibly outside of the routes: a wait must be interruptible
      const acquired = Effect.interruptible(
        Lock.acquire(key, { ...options, waitAtMost: wait })
      ).pipe(
        Effect.catchSomeDefect((defect) =>
          Option.map(Option.fromNullable(ImpossibleKey.in(key, defect)), Effect.fail)
        )
      )
      return yield* Effect.matchEffect(acquired, {
        onFailure: (error): HttpApp.Default<never, R1 | R2> =>
          error._tag === "LockUnavailable"
            ? unavailable(error)
            : error._tag === "ImpossibleKey"
              ? Effect.map(answerImpossible(error), responseOf)
              : unreachable(error),
        onSuccess: (lease) =>
          Effect.zipRight(
            turns.measure(store.clock),
            handle(lease, request, Effect.provideService(app, CurrentLease, lease), (error) =>
              Effect.provide(lost(error), services)
            )
          )
      })
    })
}

/** The application's answer, where it has one, and as long as that does not die. */
const answering =
  <Error, R>(
    problem: (error: Error) => Effect.Effect<Problem>,
    own: Answer<Error, R> | undefined
  ) =>
  (error: Error): Effect.Effect<HttpServerResponse.HttpServerResponse, never, R> => {
    const standard = Effect.map(problem(error), responseOf)
    return own === undefined
      ? standard
      : Effect.flatMap(standard, (response) =>
          Effect.suspend(() => own(error, response)).pipe(
            Effect.flatMap(toResponse),
            Effect.catchAllCause((cause) =>
              Cause.isInterruptedOnly(cause)
                ? Effect.failCause(cause)
                : Effect.as(
                    Effect.logError("An answer of HttpLock's options failed", cause),
                    response
                  )
            )
          )
        )
  }
