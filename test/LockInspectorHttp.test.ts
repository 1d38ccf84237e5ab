/** The page's server, over real HTTP: what it answers, to whom, and what it costs the store. */
import * as HttpApi from "@effect/platform/HttpApi"
import * as HttpApiBuilder from "@effect/platform/HttpApiBuilder"
import * as HttpApiMiddleware from "@effect/platform/HttpApiMiddleware"
import type * as HttpApp from "@effect/platform/HttpApp"
import * as HttpServer from "@effect/platform/HttpServer"
import * as HttpServerRequest from "@effect/platform/HttpServerRequest"
import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
import { describe, expect, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import * as Scope from "effect/Scope"
import { Lock, MemoryLockStore } from "effect-redis-lock"
import * as LockInspectorHttp from "effect-redis-lock/LockInspectorHttp"
import * as Fs from "node:fs"
import * as Http from "node:http"
import type { AddressInfo } from "node:net"
import { text } from "node:stream/consumers"
import { gzipSync } from "node:zlib"
import { buildPage, moduleOf, target } from "../scripts/build-page.js"
import * as Changes from "./support/Changes.js"
import { quiet } from "./support/stores.js"

const memory = Layer.merge(MemoryLockStore.layer, quiet)

/** On a port of its own, until the scope closes. */
const serve = <E, R>(app: HttpApp.Default<E, R>) =>
  Effect.gen(function* () {
    const node = Http.createServer()
    const server = yield* NodeHttpServer.make(() => node, { port: 0, host: "127.0.0.1" })
    yield* Effect.addFinalizer(() => Effect.sync(() => node.closeAllConnections()))
    yield* Effect.provideService(HttpServer.serveEffect(app), HttpServer.HttpServer, server)
    return (server.address as HttpServer.TcpAddress).port
  }).pipe(Effect.provide(NodeHttpServer.layerContext))

const started = (options?: LockInspectorHttp.Options) =>
  Effect.flatMap(LockInspectorHttp.make(options), serve)

interface Answer {
  readonly status: number
  readonly headers: Http.IncomingHttpHeaders
  readonly body: string
}

const ask = (
  port: number,
  path: string,
  {
    body,
    headers = {},
    method = "GET"
  }: Pick<Http.RequestOptions, "method"> & {
    readonly headers?: Record<string, string>
    readonly body?: string
  } = {}
): Effect.Effect<Answer> =>
  Effect.promise(
    () =>
      new Promise((resolve, reject) => {
        const options = { host: "127.0.0.1", port, path, method, headers, agent: false }
        const request = Http.request(options, (message) => {
          text(message).then(
            (body) => resolve({ status: message.statusCode!, headers: message.headers, body }),
            reject
          )
        })
        request.on("error", reject)
        request.end(body)
      })
  )

interface Update {
  readonly reset: boolean
  readonly rows: ReadonlyArray<{ readonly key: string; readonly pendingCount: number }>
  readonly gone: ReadonlyArray<string>
  readonly events: ReadonlyArray<{ readonly what: string; readonly key: string }>
  readonly trouble: { readonly detail: string } | null
}

/** Listens to the events, as long as the scope is open, or until it is told to `leave`. */
const listen = (port: number) =>
  Effect.gen(function* () {
    const changes = Changes.make()
    const heard: Array<Update> = []
    let rest = ""
    const request = Http.request({ host: "127.0.0.1", port, path: "/api/events", agent: false })
    let stream: Http.IncomingMessage | undefined
    request.on("response", (message) => {
      stream = message
      message.on("data", (chunk: Buffer) => {
        const parts = (rest + chunk.toString()).split("\n\n")
        rest = parts.pop()!
        for (const part of parts) heard.push(JSON.parse(part.replace(/^data: /, "")) as Update)
        changes.announce()
      })
      message.on("error", () => {})
    })
    request.on("error", () => {})
    request.end()
    const leave = Effect.sync(() => request.destroy())
    yield* Effect.addFinalizer(() => leave)
    return {
      heard,
      leave,
      /** Reads nothing, as a browser does that sleeps. */
      sleep: Effect.sync(() => stream!.pause()),
      wake: Effect.sync(() => stream!.resume()),
      until: (holds: (heard: ReadonlyArray<Update>) => boolean) => changes.until(() => holds(heard))
    }
  })

const keysOf = (updates: ReadonlyArray<Update>): ReadonlyArray<string> =>
  updates.flatMap(({ rows }) => rows.map(({ key }) => key))

const json = (method: string, body: unknown, headers: Record<string, string>) => ({
  method,
  body: JSON.stringify(body),
  headers: { "content-type": "application/json", ...headers }
})

/** What two lines of callers of one process are: the second one waits. */
const waiting = (key: string, owner: string) =>
  Effect.forkScoped(Effect.scoped(Effect.zipRight(Lock.acquire(key, { owner }), Effect.never)))

describe("the page", () => {
  it("is one file that needs nothing else, and is what its sources say", () => {
    const page = buildPage()
    expect(Fs.readFileSync(target, "utf8")).toBe(moduleOf(page))
    expect(gzipSync(page.html).length).toBeLessThan(60_000)
    // (an icon of its own, and the name of a format)
    const addresses = page.html.match(/(?:https?:)?\/\/[\w.]+\.\w+[^"'`\s]*/g) ?? []
    expect(addresses.filter((it) => !it.startsWith("http://www.w3.org/"))).toEqual([])
    expect(page.html.match(/<script|<link|<style/g)).toEqual(["<link", "<style", "<script"])
  })

  it.scopedLive("is served, and forbids what is not its own", () =>
    Effect.gen(function* () {
      const port = yield* started()
      const { body, headers, status } = yield* ask(port, "/")
      expect([status, headers["content-type"]]).toEqual([200, "text/html; charset=utf-8"])
      expect(body).toContain('<div id="app">')
      expect(headers["content-security-policy"]).toContain(
        "default-src 'none'; script-src 'sha256-"
      )
      expect(headers).toMatchObject({ "x-frame-options": "DENY", "cache-control": "no-store" })
      expect(headers).not.toHaveProperty("access-control-allow-origin")
    }).pipe(Effect.provide(memory))
  )
})

describe("its API", () => {
  it.scopedLive("tells who has a key and who waits, and what happened while somebody watched", () =>
    Effect.gen(function* () {
      const port = yield* started({ every: "100 millis" })
      const inspect = (key: string) =>
        Effect.map(ask(port, `/api/lock?${new URLSearchParams({ key })}`), ({ body }) =>
          JSON.parse(body)
        )
      const events = yield* listen(port)
      yield* events.until(([first]) => first?.reset === true)
      const key = "<b>\u202E&key=1\n"
      const lease = yield* Lock.acquire(key, { owner: "<i>one" })
      yield* waiting(key, "two")
      yield* events.until((heard) => heard.some(({ rows }) => rows[0]?.pendingCount === 1))

      const { body } = yield* ask(port, "/api/locks")
      expect(JSON.parse(body)).toMatchObject({
        locks: [{ key, kind: "lock", first: { owner: "<i>one" }, heldCount: 1, pendingCount: 1 }]
      })
      expect(yield* inspect(key)).toMatchObject({
        key,
        held: [{ owner: "<i>one", fencingToken: lease.fencingToken, foreign: false }],
        pending: [{ owner: "two" }],
        history: [
          { what: "held", owner: "<i>one", to: null, end: null },
          { what: "waited", owner: "two", to: null, end: null }
        ]
      })
      yield* lease.release
      yield* events.until((heard) =>
        heard.some(({ events }) => events.some(({ what }) => what === "released"))
      )
      expect(yield* inspect(key)).toMatchObject({
        held: [{ owner: "two" }],
        pendingCount: 0,
        history: [
          { owner: "<i>one", end: "released" },
          { what: "waited", owner: "two", end: "granted" },
          { what: "held", owner: "two", end: null }
        ]
      })
      expect(yield* ask(port, "/api/lock?key=")).toMatchObject({ status: 400 })
      expect(yield* ask(port, "/api/lock")).toMatchObject({ status: 400 })
      // nobody is told a token
      expect(JSON.stringify(events.heard)).not.toContain(lease.token)
    }).pipe(Effect.provide(memory))
  )

  it.scopedLive("answers under its own names only, where they are given", () =>
    Effect.gen(function* () {
      const port = yield* started({ hosts: ["Ops.example.com"] })
      for (const path of ["/", "/api/locks", "/api/lock?key=k", "/api/events"]) {
        expect(yield* ask(port, path)).toMatchObject({ status: 403 })
        const headers = { host: "evil.example.com" }
        expect(yield* ask(port, path, { headers })).toMatchObject({ status: 403 })
      }
      const usual = yield* started({ hosts: ["ops.example.com:443", "127.0.0.1:80"] })
      for (const host of ["ops.example.com", "127.0.0.1"]) {
        expect(yield* ask(usual, "/", { headers: { host } })).toMatchObject({ status: 200 })
      }
      const headers = { host: "ops.example.COM" }
      expect(yield* ask(port, "/api/locks", { headers })).toMatchObject({ status: 200 })
    }).pipe(Effect.provide(memory))
  )

  it.scopedLive("frees nothing unless it was told that it may", () =>
    Effect.gen(function* () {
      const port = yield* started()
      const lease = yield* Lock.acquire("k")
      const { fencingToken, isHeld } = lease
      const origin = `http://127.0.0.1:${port}`
      const answer = yield* ask(
        port,
        "/api/release",
        json("POST", { key: "k", fencingToken }, { origin })
      )
      expect([answer.status, JSON.parse(answer.body)]).toEqual([
        403,
        { _tag: "Refused", detail: expect.stringContaining("allowRelease") }
      ])
      expect(yield* isHeld).toBe(true)
    }).pipe(Effect.provide(memory))
  )

  it.scopedLive("frees what its own page asks for, of the holder that was seen", () =>
    Effect.gen(function* () {
      const port = yield* started({ allowRelease: true })
      const { fencingToken, verify } = yield* Lock.acquire("k")
      const own = `http://127.0.0.1:${port}`
      const release = (
        headers: Record<string, string>,
        body: unknown = { key: "k", fencingToken }
      ) =>
        Effect.map(ask(port, "/api/release", json("POST", body, headers)), ({ body, status }) => [
          status,
          body
        ])
      const refused = [403, expect.stringContaining("Refused")]
      // no site, another one, another port, one that a browser calls another one, and no JSON
      expect(yield* release({})).toEqual(refused)
      expect(yield* release({ origin: "null" })).toEqual(refused)
      expect(yield* release({ origin: "http://evil.example.com" })).toEqual(refused)
      expect(yield* release({ origin: `http://127.0.0.1:${port + 1}` })).toEqual(refused)
      expect(yield* release({ origin: own, "sec-fetch-site": "cross-site" })).toEqual(refused)
      const asText = yield* release({ origin: own, "content-type": "text/plain" })
      expect(asText[0]).toBeGreaterThanOrEqual(400)
      expect(yield* ask(port, `/api/release?key=k&fencingToken=${fencingToken}`)).toMatchObject({
        status: 404
      })
      expect(
        yield* ask(port, "/api/release", { method: "OPTIONS", headers: { origin: own } })
      ).toMatchObject({ status: 404 })
      yield* verify

      const other = { key: "k", fencingToken: fencingToken + 1 }
      expect(yield* release({ origin: own }, other)).toEqual([200, '{"freed":false}'])
      const none = { key: "", fencingToken }
      expect(yield* release({ origin: own }, none)).toMatchObject([400, expect.any(String)])
      yield* verify
      expect(yield* release({ origin: own, "sec-fetch-site": "same-origin" })).toEqual([
        200,
        '{"freed":true}'
      ])
      expect(Exit.isFailure(yield* Effect.exit(verify))).toBe(true)
    }).pipe(Effect.provide(memory))
  )

  it.scopedLive(
    "behind a proxy that has its own Host, it knows both names where they are given",
    () =>
      Effect.gen(function* () {
        const hosts = ["ops.example.com", "inside:3000"]
        const port = yield* started({ allowRelease: true, hosts })
        const { fencingToken } = yield* Lock.acquire("k")
        const release = (origin: string) =>
          ask(
            port,
            "/api/release",
            json("POST", { key: "k", fencingToken }, { host: "inside:3000", origin })
          )
        expect(yield* release("https://evil.example.com")).toMatchObject({ status: 403 })
        expect(yield* release("https://ops.example.com")).toMatchObject({
          status: 200,
          body: '{"freed":true}'
        })
      }).pipe(Effect.provide(memory))
  )

  it.scopedLive("of a request that it refuses, it does not read the body", () =>
    Effect.gen(function* () {
      const port = yield* started({ allowRelease: true, hosts: ["ops.example.com"] })
      const closed = yield* started()
      const own = { host: "ops.example.com", origin: "https://ops.example.com" }
      const text = { "content-type": "text/plain" }
      const json = { "content-type": "application/json" }
      for (const [at, headers] of [
        [port, { ...own, ...text, origin: "https://evil.example.com" }],
        [port, { ...own, ...text }],
        [port, { ...own, ...json, origin: "https://evil.example.com" }],
        [port, { ...own, ...json, host: "evil.example.com" }],
        [closed, { ...json, origin: `http://127.0.0.1:${closed}` }]
      ] as const) {
        // (a body is announced, and does not come)
        const status = yield* Effect.async<number | undefined>((resume) => {
          const path = "/api/release"
          const long = { ...headers, "content-length": "1000000000" }
          const options = { host: "127.0.0.1", port: at, path, method: "POST", headers: long }
          const request = Http.request({ ...options, agent: false })
          request.on("response", ({ statusCode }) => resume(Effect.succeed(statusCode)))
          request.on("error", (error) => resume(Effect.die(error)))
          request.flushHeaders()
          return Effect.sync(() => request.destroy())
        })
        expect(status).toBe(403)
      }
    }).pipe(Effect.provide(memory))
  )

  it.scopedLive("reads no more than a request can be, and says what is wrong with it", () =>
    Effect.gen(function* () {
      const port = yield* started({ allowRelease: true })
      const { fencingToken, verify } = yield* Lock.acquire("k")
      const headers = { origin: `http://127.0.0.1:${port}`, "content-type": "application/json" }
      const release = (body: string) => ask(port, "/api/release", { method: "POST", headers, body })
      for (const body of ["", "{", "null", "[]", '{"key":"k"}', '{"key":"k","fencingToken":"1"}']) {
        const { body: said, status } = yield* release(body)
        expect([body, status, JSON.parse(said)]).toMatchObject([body, 400, { _tag: "Impossible" }])
      }
      const long = JSON.stringify({ key: "k", fencingToken, more: "x".repeat(600_000) })
      // (it hangs up, or has answered before)
      const exit = yield* Effect.exit(release(long))
      expect(Exit.isSuccess(exit) ? exit.value.status : 400).toBe(400)
      yield* verify
      // the longest key there can be, as it is written at its longest
      const key = "\u0001".repeat(65_536)
      const lease = yield* Lock.acquire(key)
      expect(
        yield* release(JSON.stringify({ key, fencingToken: lease.fencingToken }))
      ).toMatchObject({ status: 200, body: '{"freed":true}' })
    }).pipe(Effect.provide(memory))
  )

  it.scopedLive("is not kept by anybody on the way, nor read as something else", () =>
    Effect.gen(function* () {
      const port = yield* started()
      for (const path of ["/", "/api/locks", "/api/lock?key=k"]) {
        const { headers, status } = yield* ask(port, path)
        expect([path, status, headers]).toMatchObject([
          path,
          200,
          {
            "cache-control": "no-store",
            "x-content-type-options": "nosniff",
            "cross-origin-resource-policy": "same-origin"
          }
        ])
      }
    }).pipe(Effect.provide(memory))
  )

  it.scopedLive("a reader that sleeps is told all that has changed meanwhile", () =>
    Effect.gen(function* () {
      const port = yield* started({ every: "100 millis" })
      const events = yield* listen(port)
      yield* events.until(({ length }) => length > 0)
      yield* events.sleep
      yield* Lock.acquire("k")
      const other = yield* listen(port)
      yield* other.until((heard) => keysOf(heard).includes("k"))
      yield* events.wake
      yield* events.until((heard) => keysOf(heard).includes("k"))
    }).pipe(Effect.provide(memory))
  )

  it.scopedLive("says what is wrong with an option", () =>
    Effect.gen(function* () {
      for (const [options, message] of [
        [{ every: "10 millis" }, "every"],
        [{ every: "no time" as never }, "every"],
        [{ idleAfter: "no time" as never }, "idleAfter"],
        [{ prefix: "\uD800" }, "prefix"],
        [{ hosts: ["ops.example.com", "https://evil/"] }, "hosts"],
        [{ hosts: ["ops.example.com/admin"] }, "hosts"],
        [{ hosts: ["user@ops.example.com"] }, "hosts"],
        [{ hosts: [""] }, "hosts"]
      ] as const) {
        const exit = yield* Effect.exit(LockInspectorHttp.make(options))
        const said = Exit.isFailure(exit) ? [...Cause.defects(exit.cause)].map(String).join() : ""
        expect(said).toContain(message)
      }
    }).pipe(Effect.provide(memory))
  )
})

class Denied extends Schema.TaggedError<Denied>()("Denied", {}) {}

class OnlyAdmin extends HttpApiMiddleware.Tag<OnlyAdmin>()("test/OnlyAdmin", { failure: Denied }) {}

const OnlyAdminLive = Layer.succeed(
  OnlyAdmin,
  Effect.flatMap(HttpServerRequest.HttpServerRequest, ({ headers }) =>
    headers["authorization"] === "admin" ? Effect.void : new Denied()
  )
)

describe("in a server of a user's own", () => {
  it.scopedLive("has a prefix, and stands behind their middleware", () =>
    Effect.gen(function* () {
      const api = HttpApi.make("mine").add(
        LockInspectorHttp.Group.middleware(OnlyAdmin).prefix("/admin/locks")
      )
      const live = HttpApiBuilder.api(api).pipe(
        Layer.provide(LockInspectorHttp.layer(api)),
        Layer.provide(OnlyAdminLive),
        Layer.provideMerge(Layer.merge(HttpApiBuilder.Router.Live, HttpApiBuilder.Middleware.layer))
      )
      const context = yield* Layer.build(live)
      const port = yield* serve(yield* Effect.provide(HttpApiBuilder.httpApp, context))
      const headers = { authorization: "admin" }
      yield* Lock.acquire("k")
      for (const path of [
        "/admin/locks/",
        "/admin/locks/api/locks",
        "/admin/locks/api/lock?key=k"
      ]) {
        expect((yield* ask(port, path)).status).not.toBe(200)
        expect(yield* ask(port, path, { headers })).toMatchObject({ status: 200 })
      }
      expect(yield* ask(port, "/api/locks", { headers })).toMatchObject({ status: 404 })
    }).pipe(Effect.provide(memory))
  )

  it.scopedLive("does not keep that server from stopping while somebody has the page open", () =>
    Effect.gen(function* () {
      const api = HttpApi.make("mine").add(LockInspectorHttp.Group)
      const node = Http.createServer()
      const live = HttpApiBuilder.serve().pipe(
        Layer.provide(HttpApiBuilder.api(api)),
        Layer.provide(LockInspectorHttp.layer(api)),
        Layer.provide(NodeHttpServer.layer(() => node, { port: 0, host: "127.0.0.1" }))
      )
      const server = yield* Scope.make()
      yield* Scope.extend(Layer.build(live), server)
      const events = yield* listen((node.address() as AddressInfo).port)
      yield* events.until(({ length }) => length > 0)
      yield* Scope.close(server, Exit.void)
      expect(node.listening).toBe(false)
    }).pipe(Effect.provide(memory))
  )

  it.scopedLive("tells of its API in OpenAPI's words", () =>
    Effect.gen(function* () {
      const port = yield* started()
      const { body } = yield* ask(port, "/openapi.json")
      const { components, paths } = JSON.parse(body)
      expect(Object.keys(paths).sort()).toEqual([
        "/api/events",
        "/api/lock",
        "/api/locks",
        "/api/release"
      ])
      expect(components.schemas).toMatchObject({ LockDetails: { type: "object" } })
    }).pipe(Effect.provide(memory))
  )
})
