/**
 * A page to look at in a browser, and its HTTP API: who has a key, who waits for it, and what happened. For those
 * who run the software. It is a group of an `HttpApi` of `@effect/platform`, for a server of your own, behind
 * your own authentication; the command line has it alone (`effect-redis-lock ui`).
 *
 * @example
 * ```ts
 * import { HttpApi, HttpApiBuilder } from "@effect/platform"
 * import { Layer } from "effect"
 * import { RedisLockStore } from "effect-redis-lock"
 * import * as LockInspectorHttp from "effect-redis-lock/LockInspectorHttp"
 *
 * // the page is at /admin/locks/
 * const Api = HttpApi.make("operations").add(LockInspectorHttp.Group.prefix("/admin/locks"))
 *
 * const ApiLive = HttpApiBuilder.api(Api).pipe(
 *   Layer.provide(LockInspectorHttp.layer(Api)),
 *   Layer.provide(RedisLockStore.layer({ url: "redis://127.0.0.1:6379" }))
 * )
 * ```
 *
 * Whoever can open it sees the names of all keys and owners. It changes nothing, unless `allowRelease` says so.
 *
 * This module has an import path of its own, and is not part of the package's index, so that only programs
 * that use it load `@effect/platform`, and the page.
 *
 * @since 0.1.0
 */
import "./internal/with-effect-4-import/effect-redis-lock/effect4.js"
import type * as Etag from "@effect/platform/Etag"
import type * as FileSystem from "@effect/platform/FileSystem"
import * as HttpApi from "@effect/platform/HttpApi"
import * as HttpApiBuilder from "@effect/platform/HttpApiBuilder"
import * as HttpApiEndpoint from "@effect/platform/HttpApiEndpoint"
import * as HttpApiGroup from "@effect/platform/HttpApiGroup"
import * as HttpApiSchema from "@effect/platform/HttpApiSchema"
import type * as HttpApp from "@effect/platform/HttpApp"
import type * as HttpPlatform from "@effect/platform/HttpPlatform"
import type * as HttpServerRequest from "@effect/platform/HttpServerRequest"
import * as OpenApi from "@effect/platform/OpenApi"
import type * as Path from "@effect/platform/Path"
import * as Cause from "effect/Cause"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { badHost, badOrigin, jsonOf } from "./internal/inspector/requests.js"
import { eventsResponse, jsonResponse, pageResponse } from "./internal/inspector/responses.js"
import { makeLooks } from "./internal/inspector/looks.js"
import { decodeTerms } from "./internal/inspector/terms.js"
import { Details, Listing, Release, Released } from "./internal/inspector/wire.js"
import * as Lock from "./Lock.js"
import type { LockStoreError } from "./LockError.js"
import * as LockInspector from "./LockInspector.js"
import { LockStore } from "./LockStore.js"

// -----------------------------------------------------------------------------
// models
// -----------------------------------------------------------------------------

/**
 * What the page shows, how often it looks, and what it allows.
 *
 * @since 0.1.0
 * @category models
 */
export interface Options {
  /** The keys that begin with that, character by character. Default: all keys of the store. */
  readonly prefix?: string | undefined
  /**
   * How long to wait after a look before the next one. What is shorter can be missed. At least 100 ms. Default:
   * 1 second.
   */
  readonly every?: Duration.DurationInput | undefined
  /**
   * For how long it goes on looking when nobody has the page open any more, so that what happens meanwhile is in
   * the history. `Duration.infinity`: always, also before somebody opens it. While it does not look, it costs nothing.
   * A tab that is hidden asks once a minute at least, until the browser stops it. Default: 2 minutes.
   */
  readonly idleAfter?: Duration.DurationInput | undefined
  /**
   * Whether a key can be freed by force (`Lock.forceRelease`). Whoever can open the page can do it then.
   * Default: `false`.
   */
  readonly allowRelease?: boolean | undefined
  /**
   * Under which names a browser reaches the page, with the port where it is not the usual one:
   * `["ops.example.com"]`. Requests for another `Host` are refused, and a release must come from a page of one of
   * them. Default: any `Host`, and a release must come from a page of the same one. Give them where there is no
   * authentication. Where a proxy replaces `Host`, give both: what it puts there, and the name that browsers use.
   */
  readonly hosts?: ReadonlyArray<string> | undefined
  /**
   * What the keys of your `Leader`s begin with: they are shown as leaders, with their terms. (To the store a lead is
   * a lock as any other.) Jobs of a `CronJob` are known by themselves.
   */
  readonly leaders?: ReadonlyArray<string> | undefined
}

/**
 * The request is of another site, or this is not allowed here.
 *
 * @since 0.1.0
 * @category errors
 */
export class Refused extends Schema.TaggedError<Refused>("effect-redis-lock/Refused")(
  "Refused",
  { detail: Schema.String },
  HttpApiSchema.annotations({ status: 403 })
) {}

/**
 * There can be no lock of that key, or that is no request.
 *
 * @since 0.1.0
 * @category errors
 */
export class Impossible extends Schema.TaggedError<Impossible>("effect-redis-lock/Impossible")(
  "Impossible",
  { detail: Schema.String },
  HttpApiSchema.annotations({ status: 400 })
) {}

/**
 * The store did not answer, or refused: a `LockStoreError`.
 *
 * @since 0.1.0
 * @category errors
 */
export class Unavailable extends Schema.TaggedError<Unavailable>("effect-redis-lock/Unavailable")(
  "Unavailable",
  { detail: Schema.String },
  HttpApiSchema.annotations({ status: 503 })
) {}

// -----------------------------------------------------------------------------
// the group
// -----------------------------------------------------------------------------

/**
 * The page and what it asks for:
 *
 * - `GET /`: the page, one file that needs nothing else.
 * - `GET /api/locks`: all keys that somebody holds or waits for.
 * - `GET /api/lock?key=…`: a key: its holders, those who wait, and what was seen of it while somebody watched.
 * - `GET /api/events`: server-sent events: all keys, and then what changes.
 * - `POST /api/release`: frees a key, where `allowRelease` says so; the fencing token says whose.
 *
 * Add it to an `HttpApi`, with a `prefix`, and with `middleware` of yours for authentication.
 *
 * @since 0.1.0
 * @category group
 */
export const Group = HttpApiGroup.make("lockInspector")
  .add(
    HttpApiEndpoint.get("page", "/")
      .addSuccess(HttpApiSchema.Text({ contentType: "text/html" }))
      .annotate(OpenApi.Exclude, true)
  )
  .add(
    HttpApiEndpoint.get("locks", "/api/locks")
      .addSuccess(Listing)
      .addError(Unavailable)
      .annotate(OpenApi.Summary, "All keys that somebody holds or waits for")
  )
  .add(
    HttpApiEndpoint.get("lock", "/api/lock")
      .setUrlParams(Schema.Struct({ key: Schema.String }))
      .addSuccess(Details)
      .addError(Impossible)
      .addError(Unavailable)
      .annotate(OpenApi.Summary, "Who holds a key, who waits for it, and what was seen of it")
  )
  .add(
    HttpApiEndpoint.get("events", "/api/events")
      .addSuccess(HttpApiSchema.Text({ contentType: "text/event-stream" }))
      .annotate(OpenApi.Summary, "All keys, and then what changes: each event is a LockUpdate")
  )
  .add(
    HttpApiEndpoint.post("release", "/api/release")
      .setPayload(Release)
      .addSuccess(Released)
      .addError(Impossible)
      .addError(Unavailable)
      .annotate(OpenApi.Summary, "Frees a key by force, if that holder has it")
  )
  .addError(Refused)
  .annotate(OpenApi.Title, "Locks")

/**
 * An API that has nothing but the group.
 *
 * @example
 * ```ts
 * import { HttpApiClient } from "@effect/platform"
 * import { Effect } from "effect"
 * import * as LockInspectorHttp from "effect-redis-lock/LockInspectorHttp"
 *
 * // a client of a page that runs somewhere
 * const locks = HttpApiClient.make(LockInspectorHttp.Api, { baseUrl: "http://127.0.0.1:8080" }).pipe(
 *   Effect.flatMap(({ lockInspector }) => lockInspector.locks())
 * )
 * ```
 *
 * @since 0.1.0
 * @category group
 */
export const Api = HttpApi.make("effect-redis-lock").add(Group)

// -----------------------------------------------------------------------------
// what answers
// -----------------------------------------------------------------------------

/**
 * What answers for the group in that API, which has it with its prefix and its middleware. An impossible
 * option is a defect of the layer.
 *
 * @since 0.1.0
 * @category layers
 */
export const layer = <Id extends string, Groups extends HttpApiGroup.HttpApiGroup.Any, E, R>(
  api: HttpApi.HttpApi<Id, Groups, E, R>,
  options: Options = {}
): Layer.Layer<
  HttpApiGroup.ApiGroup<Id, "lockInspector">,
  never,
  LockStore | HttpApiGroup.HttpApiGroup.MiddlewareWithName<Groups, "lockInspector">
> =>
  HttpApiBuilder.group(
    // (the group is one of its groups, whatever else the type of the API says)
    api as unknown as HttpApi.HttpApi<Id, typeof Group, never, never>,
    "lockInspector",
    (handlers) =>
      Effect.gen(function* () {
        const terms = yield* decodeTerms(options)
        const store = yield* LockStore
        const looks = yield* makeLooks(terms)
        const { allowRelease, hosts, prefix } = terms

        /** Of requests that may be answered. */
        const answer = <A, E1>(
          request: HttpServerRequest.HttpServerRequest,
          effect: Effect.Effect<A, E1, LockStore>
        ): Effect.Effect<A, E1 | Refused> => {
          const detail = badHost(request, hosts)
          return detail === undefined
            ? Effect.provideService(effect, LockStore, store)
            : new Refused({ detail })
        }

        return (
          handlers
            .handleRaw("page", ({ request }) => answer(request, Effect.succeed(pageResponse)))
            .handleRaw("locks", ({ request }) =>
              answer(
                request,
                available(Stream.runCollect(LockInspector.list({ prefix }))).pipe(
                  Effect.map(looks.listingOf),
                  Effect.flatMap(jsonResponse(Listing))
                )
              )
            )
            .handleRaw("lock", ({ request, urlParams: { key } }) =>
              answer(
                request,
                available(LockInspector.inspect(key)).pipe(
                  possible,
                  Effect.map(looks.detailsOf),
                  Effect.flatMap(jsonResponse(Details))
                )
              )
            )
            .handleRaw("events", ({ request }) =>
              answer(request, Effect.succeed(eventsResponse(looks.updates)))
            )
            // (raw: of a request that is refused, the body is not read)
            .handleRaw("release", ({ request }) =>
              answer(
                request,
                Effect.gen(function* () {
                  const refused = allowRelease
                    ? badOrigin(request, hosts)
                    : "Keys cannot be freed here (allowRelease)."
                  if (refused !== undefined) return yield* new Refused({ detail: refused })
                  const { fencingToken, key } = yield* Effect.mapError(
                    jsonOf(request, Release),
                    (detail) => new Impossible({ detail })
                  )
                  const freed = yield* possible(available(Lock.forceRelease(key, fencingToken)))
                  yield* Effect.logInfo(
                    freed
                      ? "Somebody freed a lock by force, from the page"
                      : "Somebody tried to free a lock by force, which that holder did not have"
                  ).pipe(Effect.annotateLogs({ key, fencingToken }))
                  return yield* jsonResponse(Released)({ freed })
                })
              )
            )
        )
      })
  )

const available = <A, R>(effect: Effect.Effect<A, LockStoreError, R>) =>
  Effect.mapError(effect, ({ detail }) => new Unavailable({ detail }))

/** A key or a fencing token that cannot be. */
const possible = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.catchSomeDefect(effect, (defect) =>
    Cause.isIllegalArgumentException(defect)
      ? Option.some(new Impossible({ detail: defect.message }))
      : Option.none()
  )

/**
 * The page and its API as an app, for a server that has no `HttpApi`. It also has `GET /openapi.json`.
 *
 * @example
 * ```ts
 * import { HttpRouter } from "@effect/platform"
 * import { Effect } from "effect"
 * import * as LockInspectorHttp from "effect-redis-lock/LockInspectorHttp"
 *
 * const routes = Effect.map(LockInspectorHttp.make({ prefix: "jobs:" }), (app) =>
 *   HttpRouter.empty.pipe(HttpRouter.mountApp("/locks", app))
 * )
 * ```
 *
 * @since 0.1.0
 * @category constructors
 */
export const make = (
  options: Options = {}
): Effect.Effect<
  HttpApp.Default<
    never,
    HttpPlatform.HttpPlatform | Etag.Generator | FileSystem.FileSystem | Path.Path
  >,
  never,
  LockStore | Scope.Scope
> =>
  Effect.gen(function* () {
    const live = Layer.mergeAll(HttpApiBuilder.api(Api), HttpApiBuilder.middlewareOpenApi()).pipe(
      Layer.provideMerge(HttpApiBuilder.api(Api)),
      Layer.provide(layer(Api, options)),
      Layer.provideMerge(
        Layer.mergeAll(HttpApiBuilder.Router.Live, HttpApiBuilder.Middleware.layer)
      )
    )
    const context = yield* Layer.build(Layer.fresh(live))
    return yield* Effect.provide(HttpApiBuilder.httpApp, context)
  })
