/**
 * The bridge to the HTTP servers of `@effect/platform`: a middleware that handles one request at a
 * time per key, in all processes that share the lock's store.
 *
 * A request waits for its turn and is answered 423 (Locked) with `Retry-After` when it has waited
 * for too long, 503 when the store cannot be asked. It has the lock until its response has been
 * sent, streamed bodies included, and gives it back at once when its client disconnects.
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
 * This module has a path of its own, and is not part of the package's index, so that
 * `@effect/platform` is loaded by those who use it.
 *
 * @since 0.1.0
 */
import type * as HttpApp from "@effect/platform/HttpApp"
import * as HttpServerRequest from "@effect/platform/HttpServerRequest"
import * as HttpServerRespondable from "@effect/platform/HttpServerRespondable"
import type * as HttpServerResponse from "@effect/platform/HttpServerResponse"
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import {
  answerImpossible,
  answerLost,
  answerUnavailable,
  answerUnreachable,
  handle,
  ImpossibleKey,
  Turns
} from "./internal/httpLock.js"
import type { Lease } from "./Lease.js"
import * as Lock from "./Lock.js"
import type { LockLost, LockStoreError, LockUnavailable } from "./LockError.js"
import { LockStore } from "./LockStore.js"

/**
 * The lease that the request is handled under, a service for the handler: its `fencingToken` goes
 * along with every write, its `signal` into Promise APIs. The handler itself is already guarded,
 * and the lease is released behind it: neither is left to do.
 *
 * @since 0.1.0
 * @category tags
 */
export class CurrentLease extends Context.Tag("effect-redis-lock/HttpLock/CurrentLease")<
  CurrentLease,
  Lease
>() {}

/**
 * An answer in the application's own words. `standard` is what would be sent without it: its
 * `Retry-After` can be kept (`standard.headers["retry-after"]`), or its body be replaced
 * (`HttpServerResponse.setBody`). It is asked for once for each request; where it dies, that is logged,
 * and `standard` is sent.
 *
 * @since 0.1.0
 * @category models
 */
export type Answer<Error, R = never> = (
  error: Error,
  standard: HttpServerResponse.HttpServerResponse
) => Effect.Effect<HttpServerRespondable.Respondable, never, R>

/**
 * @since 0.1.0
 * @category models
 */
export interface Options<E = never, R = never, R1 = never, R2 = never, R3 = never>
  extends Lock.WaitOptions {
  /**
   * What the request locks. An effect where it depends on the route (`HttpRouter.params`,
   * `HttpRouter.schemaPathParams`) or on other services; if that fails, the request fails with its
   * error, and nothing is locked. A key that is impossible (empty, too long, half of a surrogate
   * pair) is answered 400; one that is not a string is a defect, and the answer a 500.
   *
   * Keys that are made of what clients send want a prefix of their own, and clients that may send
   * it: put authentication outside of the lock.
   */
  readonly key: (
    request: HttpServerRequest.HttpServerRequest
  ) => string | Effect.Effect<string, E, R>
  /**
   * How long a request waits while others have its key, before it is answered 423; `0` for not at
   * all. Keep it below what clients and proxies wait for an answer. Default: the store's, or 10 seconds.
   */
  readonly waitAtMost?: Duration.DurationInput | undefined
  /** The application's own answer where others had the key for `waitAtMost`, instead of the 423. */
  readonly onUnavailable?: Answer<LockUnavailable, R1> | undefined
  /** The application's own answer where the store did not answer, or refused, instead of the 503. */
  readonly onUnreachable?: Answer<LockStoreError, R2> | undefined
  /**
   * The application's own answer where the lease was lost before the headers were sent, instead of
   * the 500. The handler was interrupted, or had finished, and the finalizers of its scope have run.
   */
  readonly onLost?: Answer<LockLost, R3> | undefined
}

/**
 * Provides the `CurrentLease` to an app: a router's routes, one route's handler, or all that a
 * server serves. `E` and `R` are the key's.
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
 * `HttpServer.serve`. Apply it as near to the handlers as possible: only what is inside of it has
 * the lease, and what is outside (authentication, logging) runs without waiting for the lock.
 *
 * **Its answers**, where the application has none (`onUnavailable`, `onUnreachable`, `onLost`), are problems as in RFC 9457 (`application/problem+json`), with a `code`
 * to tell them from others, and without the key or the holder's name, which are not the client's
 * business (the log has them: at DEBUG for a 423, as a warning otherwise):
 *
 * - `400`, `"code": "ImpossibleKey"`: there can be no lock of that key. The handler did not run.
 * - `423`, `"code": "LockUnavailable"`: others had the key for `waitAtMost`. The handler did not
 *   run. `Retry-After` is an estimate in whole seconds: how long requests have had the lock of late,
 *   in this process and middleware, times the number of those who are before: of this process, and
 *   one for each other process that waits. (`waitAtMost: 0` counts the holder alone.) As long as no request
 *   has had it, it is when the holder's lease ends if it is not renewed, or else the time that this
 *   request has waited. To that comes a random part, as long again and 2 seconds at least, so that
 *   those who were turned away together do not come back together.
 * - `503`, `"code": "LockStoreError"`: the store did not answer, or refused. The handler did not
 *   run. `Retry-After` is 3 or 4 seconds.
 * - `500`, `"code": "LockLost"`: the lease was lost before the headers were sent, whatever the
 *   handler had to say. It was interrupted, or had finished, under a lock that somebody else may
 *   have had as well. Not a 503, which clients and proxies take for "nothing has happened, send it
 *   again": what was done, only the application can tell.
 *
 * **How long the lease is held.** Until the request's scope closes, which the server does when the
 * body's last byte has been handed to the connection; finalizers that the handler left in that
 * scope run before. A client that disconnects ends the wait, the handler or the stream, and then
 * the lease. (Node's server does not hear of a disconnect behind the unread part of a large request
 * body: such a request waits to its limit, or is handled until it reads.) A client that stays and
 * does not read its response keeps the lock: give the server's connections an idle timeout.
 *
 * **A lease that is lost while the body is sent** cannot change the status any more. A streamed
 * body is interrupted, its finalizers run, and the connection is closed (on Node; elsewhere the
 * body fails), so that the client sees a response that was cut off and not one that looks
 * complete. A body that was ready in memory is sent to its end.
 *
 * **What is forked.** Fibers that the handler or its stream forks (`Effect.fork`, `forkScoped`, a
 * `FiberSet`) live until the response has been sent and the finalizers in the request's scope have
 * run. They are interrupted before the lease is released, and at a loss. The scope that the handler
 * is given is closed at a loss as well, once the handler and its stream have ended. A daemon
 * (`forkDaemon`) belongs to nobody, and goes on.
 *
 * The wait can be interrupted by a disconnect in an uninterruptible route, too; the handler is as
 * interruptible there as without this middleware. Of the bodies that are not Effect's streams, a
 * Node `Readable` is treated like one; what `HttpApp.toWebHandler` only passes on (a `raw` web
 * stream) is out of reach: use `HttpServerResponse.stream`.
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
      const request = yield* HttpServerRequest.HttpServerRequest
      const store = yield* LockStore
      const services = yield* Effect.context<R3>()
      const key = yield* keyOf(request)
      const wait =
        waitAtMost === undefined ? (store.defaults?.waitAtMost ?? "10 seconds") : waitAtMost
      // a server runs its app uninterruptibly outside of the routes: who only waits may always go
      const acquired = Effect.interruptible(
        Lock.acquire(key, { ...options, waitAtMost: wait })
      ).pipe(Effect.catchSomeDefect((defect) => ImpossibleKey.of(key, defect)))
      return yield* Effect.matchEffect(acquired, {
        onFailure: (error): HttpApp.Default<never, R1 | R2> =>
          error._tag === "LockUnavailable"
            ? unavailable(error)
            : error._tag === "ImpossibleKey"
              ? answerImpossible(error)
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
    standard: (error: Error) => Effect.Effect<HttpServerResponse.HttpServerResponse>,
    own: Answer<Error, R> | undefined
  ) =>
  (error: Error): Effect.Effect<HttpServerResponse.HttpServerResponse, never, R> =>
    own === undefined
      ? standard(error)
      : Effect.flatMap(standard(error), (response) =>
          Effect.suspend(() => own(error, response)).pipe(
            Effect.flatMap(HttpServerRespondable.toResponse),
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
