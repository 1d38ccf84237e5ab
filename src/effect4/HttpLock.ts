/**
 * The bridge to the HTTP servers of Effect 4 (`effect/http`): a middleware that handles one request at a
 * time per key, in all processes that share the lock's store. See `effect-redis-lock/HttpLock`, whose
 * answers, and whose rules for how long the lease is held, are those of this module as well.
 *
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import { HttpRouter, HttpServerResponse } from "effect/http"
 * import * as HttpLock from "effect-redis-lock/effect4/HttpLock"
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
 * const routes = HttpRouter.add("POST", "/accounts/:id/withdraw", oneAtATime(withdraw))
 * ```
 *
 * @since 0.1.0
 */
import "../internal/with-effect-3-import/effect-redis-lock.js"
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type * as HttpServerRequest from "effect/http/HttpServerRequest"
import type * as HttpServerResponse from "effect/http/HttpServerResponse"
import type * as Scope from "effect/Scope"
import { currentRequest, handle, responseOf } from "../internal/face4/httpLock.js"
import {
  answerImpossible,
  answerLost,
  answerUnavailable,
  answerUnreachable,
  ImpossibleKey,
  type Problem,
  Turns
} from "../internal/faces/httpAnswers.js"
import type { DurationInput, Lease } from "../Lease.js"
import type { LockLost, LockStoreError, LockUnavailable } from "../LockError.js"
import * as Lock from "./Lock.js"
import { LockStore } from "./LockStore.js"

/**
 * The lease under which the request is handled, as a service for the handler. Send its
 * `fencingToken` along with every write, and pass its `signal` to Promise APIs. The handler is
 * already guarded, and the lease is released after it: the handler must do neither itself.
 *
 * @since 0.1.0
 * @category tags
 */
export class CurrentLease extends Context.Service<CurrentLease, Lease>()(
  "effect-redis-lock/HttpLock/CurrentLease"
) {}

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
) => Effect.Effect<HttpServerResponse.HttpServerResponse, never, R>

/**
 * Which key a request locks, how long it waits, and what is answered otherwise; with the options of a lock.
 *
 * @since 0.1.0
 * @category models
 */
export interface Options<E = never, R = never, R1 = never, R2 = never, R3 = never>
  extends Lock.WaitOptions {
  /**
   * The key that the request locks, or an effect that finds it out, for example of the route
   * (`HttpRouter.params`). If the effect fails, the request fails with its error, and nothing is locked. An
   * impossible key (empty, too long, half of a surrogate pair) is answered 400. A key that is not a string
   * is a defect.
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
 * Provides the `CurrentLease` to a handler, or to all that a server serves. `E` and `R` are the error and
 * the requirements of `key` and of the application's own answers.
 *
 * @since 0.1.0
 * @category models
 */
export interface Middleware<E = never, R = never> {
  <EApp, RApp>(
    app: Effect.Effect<HttpServerResponse.HttpServerResponse, EApp, RApp>
  ): Effect.Effect<
    HttpServerResponse.HttpServerResponse,
    EApp | E,
    Exclude<RApp, CurrentLease> | R | LockStore | Scope.Scope | HttpServerRequest.HttpServerRequest
  >
}

/**
 * Makes a middleware for a single route's handler, for `HttpRouter.middleware`, or for a whole app
 * (`HttpServer.serve`, `HttpEffect.toWebHandler`). Only code inside of it has the lease; code outside of it
 * does not wait for the lock.
 *
 * Without answers of the application's own, it answers problem details (RFC 9457): 423 with
 * `Retry-After` if others had the key for `waitAtMost`, 503 with `Retry-After` if the store did not answer or
 * refused, 400 for an impossible key, 500 if the lease was lost before the headers were sent.
 *
 * The lease is held until the server closes the request's scope, which it does when the response has been
 * sent, or the client has gone; then what the handler or its stream has forked is interrupted, and the lease is
 * released. If the lease is lost while a stream is sent, the stream is interrupted, and the connection is closed
 * (on Node; elsewhere the body fails). A body that was complete in memory is sent to its end. Children of an
 * uninterruptible handler are interrupted when it has ended, also at a loss.
 *
 * @example
 * ```ts
 * import { Effect, Layer } from "effect"
 * import { HttpRouter, HttpServerResponse } from "effect/http"
 * import { LockStore } from "effect-redis-lock/effect4"
 * import * as HttpLock from "effect-redis-lock/effect4/HttpLock"
 *
 * // several routes, one request at a time per tenant; the middleware's layer has the store
 * const byTenant = HttpLock.make({
 *   key: (request) => `tenant:${request.headers["x-tenant"] ?? "none"}`,
 *   name: "tenant"
 * })
 * const OneAtATime = HttpRouter.middleware<{ provides: HttpLock.CurrentLease }>()(
 *   Effect.map(
 *     LockStore.LockStore,
 *     (store) => (app) => Effect.provideService(byTenant(app), LockStore.LockStore, store)
 *   )
 * )
 *
 * const routes = HttpRouter.add("POST", "/import", HttpServerResponse.empty({ status: 204 })).pipe(
 *   Layer.provide(OneAtATime.layer)
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
        Effect.catchDefect((defect) => {
          const impossible = ImpossibleKey.in(key, defect)
          return impossible === undefined ? Effect.die(defect) : Effect.fail(impossible)
        })
      )
      return yield* Effect.matchEffect(acquired, {
        onFailure: (error): Effect.Effect<HttpServerResponse.HttpServerResponse, never, R1 | R2> =>
          error._tag === "LockUnavailable"
            ? unavailable(error)
            : error._tag === "ImpossibleKey"
              ? Effect.map(answerImpossible(error), responseOf)
              : unreachable(error),
        onSuccess: (lease) =>
          Effect.andThen(
            turns.measure(store.clock),
            handle(lease, request, Effect.provideService(app, CurrentLease, lease), (error) =>
              Effect.provideContext(lost(error), services)
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
            Effect.catchCause((cause) =>
              Cause.hasInterruptsOnly(cause)
                ? Effect.failCause(cause)
                : Effect.as(
                    Effect.logError("An answer of HttpLock's options failed", cause),
                    response
                  )
            )
          )
        )
  }
