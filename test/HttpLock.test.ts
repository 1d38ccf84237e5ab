/** Over real HTTP, on a server of `@effect/platform-node`. */
import * as HttpApp from "@effect/platform/HttpApp"
import * as HttpBody from "@effect/platform/HttpBody"
import * as HttpMiddleware from "@effect/platform/HttpMiddleware"
import * as HttpRouter from "@effect/platform/HttpRouter"
import * as HttpServer from "@effect/platform/HttpServer"
import * as HttpServerRequest from "@effect/platform/HttpServerRequest"
import * as HttpServerRespondable from "@effect/platform/HttpServerRespondable"
import * as HttpServerResponse from "@effect/platform/HttpServerResponse"
import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
import { describe, expect, expectTypeOf, layer } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Data from "effect/Data"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as FiberSet from "effect/FiberSet"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Queue from "effect/Queue"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as Take from "effect/Take"
import { type Lease, type Lock, LockError, LockStore, RedisLockStore } from "effect-redis-lock"
import * as HttpLock from "effect-redis-lock/HttpLock"
import * as Http from "node:http"
import { Readable } from "node:stream"
import { text } from "node:stream/consumers"
import * as Changes from "./support/Changes.js"
import * as FaultProxy from "./support/FaultProxy.js"
import * as RedisServer from "./support/RedisServer.js"
import { freshKey, lose, memory, quiet, StoreControls } from "./support/stores.js"

// -----------------------------------------------------------------------------
// a server and its clients
// -----------------------------------------------------------------------------

/** A server on a port of its own, until the scope closes. */
const server = Effect.map(
  NodeHttpServer.make(() => Http.createServer(), { port: 0, host: "127.0.0.1" }),
  (server) => ({
    port: (server.address as HttpServer.TcpAddress).port,
    provide: Effect.provideService(HttpServer.HttpServer, server)
  })
)

const serve = <E, R>(app: HttpApp.Default<E, R>) =>
  Effect.gen(function* () {
    const { port, provide } = yield* server
    yield* provide(HttpServer.serveEffect(app))
    return port
  })

interface Answer {
  readonly status: number | undefined
  readonly headers: Http.IncomingHttpHeaders
  /** The rest of the body; fails where it was cut off. */
  readonly rest: Effect.Effect<string, Error>
  /** The next bytes of the body. */
  readonly more: Effect.Effect<string>
}

interface Exchange {
  /** As soon as the headers are there. */
  readonly answer: Effect.Effect<Answer, Error>
  readonly disconnect: Effect.Effect<void>
}

/** Sends a request on a connection of its own; nothing of the body is read before it is asked for. */
const send = (port: number, path: string, method = "GET"): Exchange => {
  const request = Http.request({ host: "127.0.0.1", port, path, method, agent: false })
  const answer = new Promise<Http.IncomingMessage>((resolve, reject) => {
    request.on("response", resolve)
    request.on("error", reject)
  })
  answer.catch(() => {})
  request.end()
  const attempt = <A>(promise: () => Promise<A>) =>
    Effect.tryPromise({ try: promise, catch: (error) => error as Error })
  return {
    answer: Effect.map(
      attempt(() => answer),
      (message) => ({
        status: message.statusCode,
        headers: message.headers,
        rest: attempt(() => text(message)),
        more: Effect.async<string>((resume) => {
          const read = () => {
            const chunk = message.read() as Buffer | null
            if (chunk !== null) resume(Effect.succeed(chunk.toString()))
            else message.once("readable", read)
          }
          read()
        })
      })
    ),
    disconnect: Effect.async<void>((resume) => {
      request.on("error", () => {})
      request.once("close", () => resume(Effect.void))
      request.destroy()
    })
  }
}

/** Status and text. */
const received = ({ answer }: Exchange) =>
  Effect.flatMap(answer, ({ rest, status }) => Effect.map(rest, (body) => [status, body] as const))

const problemOf = ({ answer }: Exchange) =>
  Effect.gen(function* () {
    const { headers, rest, status } = yield* answer
    expect(headers["content-type"]).toBe("application/problem+json")
    const body = JSON.parse(yield* rest)
    expect(Object.keys(body).sort()).toEqual(["code", "detail", "status", "title"])
    expect(body.status).toBe(status)
    return { status, code: body.code as unknown, headers, text: JSON.stringify(body) }
  })

// -----------------------------------------------------------------------------
// a handler that the test leads
// -----------------------------------------------------------------------------

interface Stage {
  /** The handler's part: leaves its lease, and waits to be let go. */
  readonly play: Effect.Effect<void, never, HttpLock.CurrentLease>
  readonly leases: ReadonlyArray<Lease.Lease>
  readonly entered: (times?: number) => Effect.Effect<void>
  readonly go: Effect.Effect<void>
}

const makeStage = Effect.gen(function* () {
  const changes = Changes.make()
  const gate = yield* Effect.makeLatch()
  const leases: Array<Lease.Lease> = []
  const stage: Stage = {
    play: Effect.flatMap(HttpLock.CurrentLease, (lease) => {
      leases.push(lease)
      changes.announce()
      return gate.await
    }),
    leases,
    entered: (times = 1) => changes.until(() => leases.length >= times),
    go: gate.open
  }
  return stage
})

/** The path's first part is the key. */
const byPath = (options?: Lock.WaitOptions) =>
  HttpLock.make({
    ...options,
    key: () => Effect.map(HttpRouter.params, ({ key }) => String(key))
  })

const routed = <E, R>(handler: HttpRouter.Route.Handler<E, R>) =>
  HttpRouter.empty.pipe(HttpRouter.all("/:key", handler))

/** Runs an effect when the server has heard of its client's end. */
const onDisconnect = (effect: Effect.Effect<unknown>) =>
  Effect.map(HttpServerRequest.HttpServerRequest, ({ source }) => {
    const { socket } = source as Http.IncomingMessage
    socket.once("close", () => Effect.runFork(effect))
  })

const ok = HttpServerResponse.text("ok")
const bytes = (text: string) => new TextEncoder().encode(text)

class NoSuchAccount extends Data.TaggedError("NoSuchAccount") {
  [HttpServerRespondable.symbol]() {
    return HttpServerResponse.text("no such account", { status: 404 })
  }
}

const logged: Array<string> = []
const logs = Logger.replace(
  Logger.defaultLogger,
  Logger.map(Logger.logfmtLogger, (line) => void logged.push(line))
)

layer(Layer.merge(memory, logs), { excludeTestServices: true })("HttpLock", (it) => {
  // ---------------------------------------------------------------------------
  describe("a turn", () => {
    it.scoped("is held by one request of a key at a time, in the order in which they came", () =>
      Effect.gen(function* () {
        const { until } = yield* StoreControls
        const [key, other] = [freshKey(), freshKey()]
        const stage = yield* makeStage
        let inside = 0
        const order: Array<string> = []
        const port = yield* serve(
          routed(
            Effect.gen(function* () {
              const params = yield* HttpRouter.params
              if (params["key"] === other) return ok
              expect(++inside).toBe(1)
              yield* stage.play
              const lease = yield* HttpLock.CurrentLease
              expect(lease.key).toBe(key)
              expect(yield* lease.isHeld).toBe(true)
              order.push((yield* HttpRouter.RouteContext).params["n"] ?? "")
              inside--
              return HttpServerResponse.text(String(lease.fencingToken))
            }).pipe(byPath())
          )
        )
        const requests: Array<Exchange> = []
        for (let n = 1; n <= 5; n++) {
          requests.push(send(port, `/${key}`, "POST"))
          yield* until(key, "acquire", n)
        }
        // others have the server to themselves
        expect(yield* received(send(port, `/${other}`))).toEqual([200, "ok"])
        expect(stage.leases).toHaveLength(1)
        yield* stage.go
        const answers = yield* Effect.forEach(requests, received)
        const tokens = answers.map(([, token]) => Number(token))
        expect(answers.map(([status]) => status)).toEqual([200, 200, 200, 200, 200])
        expect(tokens).toEqual([...new Set(tokens)].sort((a, b) => a - b))
        expect(tokens).toEqual(stage.leases.map((lease) => lease.fencingToken))
        yield* until(key, "released", 5)
      })
    )

    it.scoped("that does not come is answered 423, and the handler does not run", () =>
      Effect.gen(function* () {
        const { until } = yield* StoreControls
        const key = freshKey()
        const stage = yield* makeStage
        const port = yield* serve(
          Effect.as(stage.play, ok).pipe(
            byPath({ ttl: "1 minute", waitAtMost: "30 millis", owner: "secret-host" }),
            routed
          )
        )
        const first = send(port, `/${key}`)
        yield* stage.entered()
        const { code, headers, status, text } = yield* problemOf(send(port, `/${key}`))
        expect([status, code]).toEqual([423, "LockUnavailable"])
        // the lease's minute, and as much again at most: no turn has ended yet
        expect(Number(headers["retry-after"])).toBeGreaterThan(30)
        expect(Number(headers["retry-after"])).toBeLessThanOrEqual(120)
        // neither is the client's business
        expect(text).not.toContain(key)
        expect(text).not.toContain("secret-host")
        const head = yield* send(port, `/${key}`, "HEAD").answer
        expect([head.status, yield* head.rest]).toEqual([423, ""])
        yield* stage.go
        expect(yield* received(first)).toEqual([200, "ok"])
        expect(stage.leases).toHaveLength(1)
        yield* until(key, "released")
      })
    )

    it.scoped("is said to come in whole seconds, one at least, and not the same for all", () =>
      Effect.gen(function* () {
        interface Case {
          readonly retryAfter?: number
          readonly ahead?: number
          readonly waited: number
          /** How long the turn before took, in milliseconds. */
          readonly turn?: number
          readonly from: number
          readonly to: number
        }
        const cases: ReadonlyArray<Case> = [
          // nobody has had a turn: the holder's lease
          { retryAfter: 2_500, waited: 10_000, from: 3, to: 5 },
          { retryAfter: 200, waited: 10_000, from: 1, to: 3 },
          { retryAfter: 0, waited: 0, from: 1, to: 2 },
          { retryAfter: 8_000, waited: 10_000, from: 8, to: 16 },
          // a key without a ttl
          { waited: 3_500, from: 4, to: 7 },
          { waited: 0, from: 1, to: 2 },
          { waited: 1e9, from: 3_600, to: 3_600 },
          // turns are known: short ones under a long lease, and long ones under a short one
          { turn: 20, retryAfter: 60_000, waited: 1, from: 1, to: 3 },
          { turn: 20, ahead: 9, retryAfter: 60_000, waited: 1, from: 1, to: 3 },
          { turn: 1_300, retryAfter: 10, waited: 1, from: 2, to: 4 },
          { turn: 1_300, ahead: 3, retryAfter: 10, waited: 1, from: 6, to: 11 }
        ]
        const inner = yield* LockStore.LockStore
        yield* Effect.forEach(
          cases,
          ({ ahead, from, retryAfter, to, turn, waited }) =>
            Effect.gen(function* () {
              let free = turn !== undefined
              const store: LockStore.LockStore = {
                clock: inner.clock,
                acquire: (claim, restore) => {
                  if (free) return inner.acquire(claim, restore)
                  return Effect.fail(
                    new LockError.LockUnavailable({
                      key: claim.key,
                      retryAfter:
                        retryAfter === undefined ? undefined : Duration.millis(retryAfter),
                      ahead,
                      waited: Duration.millis(waited),
                      holder: { owner: undefined, heldFor: undefined, foreign: false }
                    })
                  )
                }
              }
              const slowly = Effect.delay(Effect.succeed(ok), turn ?? 0)
              const port = yield* serve(routed(byPath()(slowly))).pipe(
                Effect.provideService(LockStore.LockStore, store)
              )
              const path = `/${freshKey()}`
              const began = performance.now()
              if (free) expect(yield* received(send(port, path))).toEqual([200, "ok"])
              free = false
              // (how long a turn took on a busy machine counts as well)
              const late = Math.max(0, performance.now() - began - (turn ?? 0))
              const most = to + Math.floor((2 * late * (1 + (ahead ?? 0))) / 1_000)
              const said = new Set<number>()
              for (let i = 0; i < 40; i++) {
                const { headers, status } = yield* problemOf(send(port, path))
                expect(status).toBe(423)
                said.add(Number(headers["retry-after"]))
              }
              expect({
                ahead,
                retryAfter,
                turn,
                waited,
                from: Math.min(from, ...said),
                most: Math.max(most, ...said),
                same: said.size === 1
              }).toEqual({ ahead, retryAfter, turn, waited, from, most, same: from === to })
            }),
          { concurrency: "unbounded" }
        )
      })
    )

    it.scoped("is answered as the application says, with what would be said otherwise", () =>
      Effect.gen(function* () {
        class Words extends Context.Tag("test/Words")<Words, string>() {}
        const key = freshKey()
        const stage = yield* makeStage
        const unavailable: Array<LockError.LockUnavailable> = []
        const port = yield* serve(
          Effect.as(stage.play, ok).pipe(
            HttpLock.make({
              key: () => key,
              waitAtMost: 0,
              onUnavailable: (error, standard) =>
                Effect.map(Words, (words) => {
                  unavailable.push(error)
                  return HttpServerResponse.text(words, {
                    status: 409,
                    headers: { "retry-after": standard.headers["retry-after"]! }
                  })
                }),
              onLost: ({ reason }, standard) =>
                Effect.map(Words, (words) =>
                  HttpServerResponse.setBody(standard, HttpBody.text(`${words}: ${reason}`))
                )
            }),
            routed,
            Effect.provideService(Words, "one moment")
          )
        )
        const first = send(port, "/")
        yield* stage.entered()
        const { headers, rest, status } = yield* send(port, "/").answer
        expect([status, yield* rest]).toEqual([409, "one moment"])
        expect(Number(headers["retry-after"])).toBeGreaterThanOrEqual(1)
        expect(unavailable.map((error) => error.key)).toEqual([key])
        yield* lose(stage.leases[0]!)
        expect(yield* received(first)).toEqual([500, "one moment: Missing"])
      })
    )

    for (const outcome of ["succeeds", "dies", "throws"] as const) {
      it.scoped(`an application's answer that ${outcome} is asked for once`, () =>
        Effect.gen(function* () {
          const key = freshKey()
          const stage = yield* makeStage
          let asked = 0
          const answers: ReadonlyArray<[Answer["status"], string | undefined]> = [
            [418, "lost"],
            [500, undefined]
          ]
          const port = yield* serve(
            Effect.as(stage.play, ok).pipe(
              HttpLock.make({
                key: () => key,
                onLost: () => {
                  asked++
                  if (outcome === "throws") throw new Error("own")
                  return outcome === "dies"
                    ? Effect.die("own")
                    : Effect.succeed(HttpServerResponse.text("lost", { status: 418 }))
                }
              }),
              routed,
              Effect.provide(quiet)
            )
          )
          const first = send(port, "/")
          yield* stage.entered()
          yield* lose(stage.leases[0]!)
          const [status, text] = yield* received(first)
          const [expected, own] = answers[outcome === "succeeds" ? 0 : 1]!
          expect(status).toBe(expected)
          if (own === undefined) expect(text).toContain("LockLost")
          else expect(text).toBe(own)
          expect(asked).toBe(1)
        })
      )
    }

    it.scoped("is answered as the application says where the store cannot be asked", () =>
      Effect.gen(function* () {
        const { clock } = yield* LockStore.LockStore
        const store: LockStore.LockStore = {
          clock,
          acquire: () =>
            Effect.fail(
              new LockError.LockStoreError({
                operation: "acquire",
                detail: "away",
                transient: true
              })
            )
        }
        const port = yield* serve(
          HttpLock.make({
            key: () => "k",
            onUnreachable: ({ detail, transient }) =>
              Effect.succeed(HttpServerResponse.text(`${detail}, ${transient}`, { status: 502 }))
          })(Effect.succeed(ok))
        ).pipe(Effect.provideService(LockStore.LockStore, store))
        expect(yield* received(send(port, "/"))).toEqual([502, "away, true"])
      })
    )

    it.scoped("is waited for 10 seconds where nothing is said, and options are the lock's", () =>
      Effect.gen(function* () {
        const store = yield* LockStore.LockStore
        const claims: Array<LockStore.Claim> = []
        const recorded: LockStore.LockStore = {
          clock: store.clock,
          acquire: (claim, restore) => {
            claims.push(claim)
            return store.acquire(claim, restore)
          }
        }
        const key = freshKey()
        const options = { ttl: "7 seconds", owner: "me" } as const
        const port = yield* serve(
          HttpRouter.empty.pipe(
            HttpRouter.get("/default/:key", byPath()(ok)),
            HttpRouter.get("/undefined/:key", byPath({ waitAtMost: undefined })(ok)),
            HttpRouter.get("/own/:key", byPath({ ...options, waitAtMost: 0 })(ok))
          )
        ).pipe(Effect.provideService(LockStore.LockStore, recorded))
        for (const path of ["default", "undefined", "own"]) {
          expect(yield* received(send(port, `/${path}/${key}`))).toEqual([200, "ok"])
        }
        const whole = { key, kind: "lock", share: 1, limit: 1 }
        const whenWaiting: unknown = expect.any(Function)
        expect(claims).toEqual([
          { ...whole, ttlMillis: 5_000, waitMillis: 10_000, owner: undefined, whenWaiting },
          { ...whole, ttlMillis: 5_000, waitMillis: 10_000, owner: undefined, whenWaiting },
          { ...whole, ttlMillis: 7_000, waitMillis: 0, owner: "me" }
        ])
      })
    )
  })

  // ---------------------------------------------------------------------------
  describe("the lease is held until the response has been sent", () => {
    const bodies: Record<string, () => HttpServerResponse.HttpServerResponse> = {
      empty: () => HttpServerResponse.empty(),
      text: () => HttpServerResponse.text("abc"),
      bytes: () => HttpServerResponse.uint8Array(bytes("abc")),
      raw: () => HttpServerResponse.raw("abc"),
      readable: () => HttpServerResponse.raw(Readable.from(["a", "bc"])),
      form: () => {
        const form = new FormData()
        form.set("abc", "abc")
        return HttpServerResponse.formData(form)
      },
      stream: () => HttpServerResponse.stream(Stream.make(bytes("a"), bytes("bc"))),
      sized: () => HttpServerResponse.stream(Stream.make(bytes("abc")), { contentLength: 3 })
    }
    for (const [kind, make] of Object.entries(bodies)) {
      it.scoped(`with a body of the kind ${kind}`, () =>
        Effect.gen(function* () {
          const { until } = yield* StoreControls
          const key = freshKey()
          const port = yield* serve(routed(byPath()(Effect.sync(make))))
          const plain = yield* serve(routed(Effect.sync(make)))
          const withoutBoundary = (text: string) => text.replaceAll(/-+formdata-\S+/g, "")
          for (const [n, method] of ["GET", "HEAD", "POST"].entries()) {
            const answer = yield* send(port, `/${key}`, method).answer
            const expected = yield* send(plain, `/${key}`, method).answer
            expect(answer.status).toBe(expected.status)
            expect(answer.headers["content-length"]).toBe(expected.headers["content-length"])
            expect(withoutBoundary(yield* answer.rest)).toBe(withoutBoundary(yield* expected.rest))
            yield* until(key, "released", n + 1)
          }
        })
      )
    }

    it.scoped(
      "but not for a stream that a HEAD asked for, of which only the headers are sent",
      () =>
        Effect.gen(function* () {
          const { until } = yield* StoreControls
          const runtime = yield* Effect.runtime<LockStore.LockStore>()
          type App = HttpApp.Default<never, LockStore.LockStore>
          const onNode = (app: App, path: string) =>
            Effect.gen(function* () {
              const answer = yield* send(yield* serve(app), path, "HEAD").answer
              const { date: _, ...headers } = answer.headers
              return [answer.status, headers, yield* answer.rest]
            })
          const onWeb = (app: App, path: string) =>
            Effect.promise(async () => {
              const request = new Request(`http://localhost${path}`, { method: "HEAD" })
              const answer = await HttpApp.toWebHandlerRuntime(runtime)(app)(request)
              return [answer.status, Object.fromEntries(answer.headers), await answer.text()]
            })
          const endless = Stream.concat(Stream.make(bytes("a")), Stream.never)
          const sized = { status: 203, contentType: "text/csv", contentLength: 7 }
          for (const options of [undefined, { ...sized, headers: { "x-total": "7" } }]) {
            const body = HttpServerResponse.stream(endless, options)
            for (const answer of [onNode, onWeb]) {
              const key = freshKey()
              const locked = Effect.orDie(routed(byPath()(body)))
              const plain = Effect.orDie(routed(body))
              expect(yield* answer(locked, `/${key}`)).toEqual(yield* answer(plain, `/${key}`))
              yield* until(key, "released")
            }
          }
        })
    )

    it.scoped("to the last chunk of a stream", () =>
      Effect.gen(function* () {
        const { count, until } = yield* StoreControls
        const key = freshKey()
        const [middle, end] = [yield* Effect.makeLatch(), yield* Effect.makeLatch()]
        let finalized = false
        const body = Stream.make("a").pipe(
          Stream.concat(Stream.fromEffect(Effect.as(middle.await, "b"))),
          Stream.concat(Stream.fromEffect(Effect.as(end.await, "c"))),
          Stream.ensuring(
            Effect.sync(() => {
              expect(count(key, "release")).toBe(0)
              finalized = true
            })
          ),
          Stream.encodeText
        )
        const port = yield* serve(
          HttpRouter.empty.pipe(
            HttpRouter.get("/:key", byPath()(HttpServerResponse.stream(body))),
            HttpRouter.post("/:key", byPath()(ok))
          )
        )
        const answer = yield* send(port, `/${key}`).answer
        expect(yield* answer.more).toBe("a")
        const next = send(port, `/${key}`, "POST")
        yield* until(key, "acquire", 2)
        yield* middle.open
        expect(yield* answer.more).toBe("b")
        expect(count(key, "release")).toBe(0)
        yield* end.open
        expect(yield* answer.rest).toBe("c")
        expect(yield* received(next)).toEqual([200, "ok"])
        expect(finalized).toBe(true)
        yield* until(key, "released", 2)
      })
    )

    it.scoped("to the end of a Readable", () =>
      Effect.gen(function* () {
        const { count, until } = yield* StoreControls
        const key = freshKey()
        const readable = new Readable({ read: () => {} })
        readable.push("a")
        const port = yield* serve(routed(byPath()(HttpServerResponse.raw(readable))))
        const answer = yield* send(port, `/${key}`).answer
        expect(yield* answer.more).toBe("a")
        expect(count(key, "release")).toBe(0)
        readable.push(null)
        expect(yield* answer.rest).toBe("")
        yield* until(key, "released")
      })
    )

    it.scoped("to the last byte that a slow client takes, and to its end if it is lost", () =>
      Effect.gen(function* () {
        const { count, until } = yield* StoreControls
        const key = freshKey()
        const stage = yield* makeStage
        yield* stage.go
        // more than the system's buffers take
        const size = 32 * 1024 * 1024
        const body = HttpServerResponse.uint8Array(new Uint8Array(size))
        const port = yield* serve(routed(byPath()(Effect.as(stage.play, body))))
        for (const lost of [false, true]) {
          const answer = yield* send(port, `/${key}`).answer
          expect(count(key, "release")).toBe(lost ? 1 : 0)
          if (lost) yield* lose(stage.leases[1]!)
          expect((yield* answer.rest).length).toBe(size)
          yield* until(key, "released", lost ? 2 : 1)
        }
      })
    )

    it.scoped("and the handler's own finalizers have run", () =>
      Effect.gen(function* () {
        const { count, until } = yield* StoreControls
        const key = freshKey()
        const released: Array<number> = []
        const handler = Effect.as(
          Effect.addFinalizer(() => Effect.sync(() => released.push(count(key, "release")))),
          ok
        )
        const port = yield* serve(routed(byPath()(handler)))
        expect(yield* received(send(port, `/${key}`))).toEqual([200, "ok"])
        yield* until(key, "released")
        expect(released).toEqual([0])
      })
    )
  })

  // ---------------------------------------------------------------------------
  describe("a client that disconnects", () => {
    for (const uninterruptible of [false, true]) {
      it.scoped(
        `while it waits leaves nobody in the queue${uninterruptible ? ", in an uninterruptible route, too" : ""}`,
        () =>
          Effect.gen(function* () {
            const { until } = yield* StoreControls
            const key = freshKey()
            const stage = yield* makeStage
            const handler = byPath({ waitAtMost: Infinity })(Effect.as(stage.play, ok))
            const port = yield* serve(
              HttpRouter.empty.pipe(HttpRouter.all("/:key", handler, { uninterruptible }))
            )
            const first = send(port, `/${key}`)
            yield* stage.entered()
            const second = send(port, `/${key}`)
            yield* until(key, "acquire", 2)
            const third = send(port, `/${key}`)
            yield* until(key, "acquire", 3)
            yield* second.disconnect
            yield* until(key, "not granted")
            yield* stage.go
            expect(yield* received(first)).toEqual([200, "ok"])
            expect(yield* received(third)).toEqual([200, "ok"])
            expect(stage.leases).toHaveLength(2)
            yield* until(key, "released", 2)
          })
      )
    }

    it.scoped("while it is handled ends the handler, then the lease", () =>
      Effect.gen(function* () {
        const { count, until } = yield* StoreControls
        const key = freshKey()
        const stage = yield* makeStage
        const interrupted: Array<number> = []
        const port = yield* serve(
          Effect.as(stage.play, ok).pipe(
            Effect.onInterrupt(() => Effect.sync(() => interrupted.push(count(key, "release")))),
            byPath(),
            routed
          )
        )
        const request = send(port, `/${key}`)
        yield* stage.entered()
        yield* request.disconnect
        yield* until(key, "released")
        expect(interrupted).toEqual([0])
      })
    )

    it.scoped("does not end a handler that is uninterruptible, and has the lock until then", () =>
      Effect.gen(function* () {
        const { count, until } = yield* StoreControls
        const key = freshKey()
        const stage = yield* makeStage
        const disconnected = yield* Effect.makeLatch()
        const held: Array<boolean> = []
        const finish = Effect.flatMap(HttpLock.CurrentLease, (lease) =>
          Effect.map(lease.isHeld, (isHeld) => {
            held.push(isHeld)
            return ok
          })
        )
        const port = yield* serve(
          HttpRouter.empty.pipe(
            HttpRouter.get(
              "/:key",
              Effect.zipRight(
                onDisconnect(disconnected.open),
                byPath()(Effect.zipRight(stage.play, finish))
              ),
              { uninterruptible: true }
            )
          )
        )
        const request = send(port, `/${key}`)
        yield* stage.entered()
        yield* request.disconnect
        yield* disconnected.await
        expect(count(key, "release")).toBe(0)
        yield* stage.go
        yield* until(key, "released")
        expect(held).toEqual([true])
      })
    )

    it.scoped("while it is sent a stream ends the stream, then the lease", () =>
      Effect.gen(function* () {
        const { count, until } = yield* StoreControls
        const key = freshKey()
        const finalized: Array<number> = []
        const body = Stream.concat(Stream.make(bytes("a")), Stream.never).pipe(
          Stream.ensuring(Effect.sync(() => finalized.push(count(key, "release"))))
        )
        const port = yield* serve(routed(byPath()(HttpServerResponse.stream(body))))
        const request = send(port, `/${key}`)
        const answer = yield* request.answer
        expect(yield* answer.more).toBe("a")
        yield* request.disconnect
        yield* until(key, "released")
        expect(finalized).toEqual([0])
      })
    )
  })

  // ---------------------------------------------------------------------------
  describe("a lease that is lost", () => {
    it.scoped("while the request is handled interrupts the handler, and the answer is a 500", () =>
      Effect.gen(function* () {
        const key = freshKey()
        const stage = yield* makeStage
        let interrupted = false
        const port = yield* serve(
          Effect.as(stage.play, ok).pipe(
            Effect.onInterrupt(() => Effect.sync(() => (interrupted = true))),
            byPath(),
            routed
          )
        )
        const request = send(port, `/${key}`)
        yield* stage.entered()
        yield* lose(stage.leases[0]!)
        const { code, headers, status, text } = yield* problemOf(request)
        expect([status, code]).toEqual([500, "LockLost"])
        expect(headers).not.toHaveProperty("retry-after")
        expect(text).not.toContain(key)
        expect(interrupted).toBe(true)
      })
    )

    for (const outcome of ["succeeds", "fails", "dies"] as const) {
      it.scoped(`is told to the client of a handler that ${outcome} in spite of it, too`, () =>
        Effect.gen(function* () {
          const key = freshKey()
          const stage = yield* makeStage
          const outcomes = {
            succeeds: Effect.succeed(ok),
            fails: Effect.fail(new NoSuchAccount()),
            dies: Effect.die("a bug")
          }
          const handler = Effect.zipRight(stage.play, outcomes[outcome])
          const port = yield* serve(routed(byPath()(Effect.uninterruptible(handler))))
          const request = send(port, `/${key}`)
          yield* stage.entered()
          yield* lose(stage.leases[0]!)
          yield* stage.go
          const { code, status } = yield* problemOf(request)
          expect([status, code]).toEqual([500, "LockLost"])
          // what the client is not told
          const alsoFailed = logged.filter((line) => line.includes("A handler failed")).join()
          if (outcome === "fails") expect(alsoFailed).toContain("NoSuchAccount")
          if (outcome === "dies") expect(alsoFailed).toContain("a bug")
          logged.length = 0
          expect(alsoFailed === "").toBe(outcome === "succeeds")
        })
      )
    }

    it.scoped(
      "between the handler and the headers is told, with what others add to a response",
      () =>
        Effect.gen(function* () {
          const key = freshKey()
          const stage = yield* makeStage
          yield* stage.go
          const controls = yield* StoreControls
          const port = yield* serve(
            Effect.as(stage.play, ok).pipe(
              byPath(),
              // the handler has ended well by then
              Effect.tap(() => Effect.suspend(() => lose(stage.leases[0]!))),
              Effect.provideService(StoreControls, controls),
              routed,
              HttpMiddleware.cors()
            )
          )
          const { code, headers, status } = yield* problemOf(send(port, `/${key}`))
          expect([status, code]).toEqual([500, "LockLost"])
          expect(headers["access-control-allow-origin"]).toBe("*")
        })
    )

    const bodies = {
      "of unknown length": {},
      "of a stated length": { contentLength: 1_000 }
    }
    for (const [name, options] of Object.entries(bodies)) {
      it.scoped(`while a stream ${name} is sent cuts the response off`, () =>
        Effect.gen(function* () {
          const key = freshKey()
          const stage = yield* makeStage
          yield* stage.go
          let finalized = false
          const body = Stream.concat(Stream.make(bytes("a")), Stream.never).pipe(
            Stream.ensuring(Effect.sync(() => (finalized = true)))
          )
          const port = yield* serve(
            HttpRouter.empty.pipe(
              HttpRouter.get(
                "/:key",
                byPath()(Effect.as(stage.play, HttpServerResponse.stream(body, options)))
              ),
              HttpRouter.post("/:key", byPath()(ok))
            )
          )
          const answer = yield* send(port, `/${key}`).answer
          expect([answer.status, yield* answer.more]).toEqual([200, "a"])
          yield* lose(stage.leases[0]!)
          const error = yield* Effect.flip(answer.rest)
          expect(error).toMatchObject({ code: "ECONNRESET" })
          // nothing of it is left
          expect(yield* received(send(port, `/${key}`, "POST"))).toEqual([200, "ok"])
          expect(finalized).toBe(true)
        })
      )
    }

    it.scoped("while a Readable is sent destroys it, and cuts the response off", () =>
      Effect.gen(function* () {
        const { until } = yield* StoreControls
        const key = freshKey()
        const stage = yield* makeStage
        yield* stage.go
        const readable = new Readable({ read: () => {} })
        readable.push("a")
        const body = HttpServerResponse.raw(readable)
        const port = yield* serve(routed(byPath()(Effect.as(stage.play, body))))
        const answer = yield* send(port, `/${key}`).answer
        expect(yield* answer.more).toBe("a")
        yield* lose(stage.leases[0]!)
        expect(yield* Effect.flip(answer.rest)).toMatchObject({ code: "ECONNRESET" })
        yield* until(key, "released")
        expect(readable.destroyed).toBe(true)
      })
    )

    it.scoped("ends a stream that nobody reads, and fails its next step", () =>
      Effect.gen(function* () {
        const { count, until } = yield* StoreControls
        const key = freshKey()
        const stage = yield* makeStage
        yield* stage.go
        const begun = yield* Effect.makeLatch()
        const finalized = yield* Effect.makeLatch()
        const body = Stream.make(bytes("a"), bytes("b"), bytes("c")).pipe(
          Stream.rechunk(1),
          Stream.tap(() => begun.open),
          Stream.ensuring(finalized.open)
        )
        // a web handler has no connection that could be cut
        const handle = HttpApp.toWebHandlerRuntime(yield* Effect.runtime<LockStore.LockStore>())(
          routed(byPath()(Effect.as(stage.play, HttpServerResponse.stream(body))))
        )
        const response = yield* Effect.promise(() => handle(new Request(`http://localhost/${key}`)))
        expect(response.status).toBe(200)
        yield* begun.await
        expect(count(key, "release")).toBe(0)
        yield* lose(stage.leases[0]!)
        yield* finalized.await
        const error = yield* Effect.flip(
          Effect.tryPromise({ try: () => response.text(), catch: (error) => error })
        )
        expect(error).toBeInstanceOf(LockError.LockLost)
        yield* until(key, "released")
      })
    )
  })

  // ---------------------------------------------------------------------------
  describe("what a request forks", () => {
    /** Numbers for a stream, one by one; tells of its end. */
    const makeProducer = Effect.gen(function* () {
      const queue = yield* Queue.unbounded<Take.Take<Uint8Array>>()
      const ended: Array<"whole" | "interrupted"> = []
      const produce = Effect.gen(function* () {
        for (const text of ["0", "1", "2"]) {
          yield* Effect.sleep(10)
          yield* Queue.offer(queue, Take.of(bytes(text)))
        }
        yield* Queue.offer(queue, Take.end)
        ended.push("whole")
      }).pipe(Effect.onInterrupt(() => Effect.sync(() => ended.push("interrupted"))))
      return { produce, ended, stream: Stream.flattenTake(Stream.fromQueue(queue)) }
    })
    const forks: Record<
      string,
      (effect: Effect.Effect<void>) => Effect.Effect<unknown, never, Scope.Scope>
    > = {
      fork: Effect.fork,
      forkScoped: Effect.forkScoped,
      forkDaemon: Effect.forkDaemon,
      "a FiberSet": (effect) => Effect.flatMap(FiberSet.make(), (set) => FiberSet.run(set, effect)),
      "fork, twice over": (effect) => Effect.fork(Effect.flatMap(Effect.fork(effect), Fiber.join))
    }

    for (const [name, fork] of Object.entries(forks)) {
      it.scoped(`in the handler feeds its stream (${name})`, () =>
        Effect.gen(function* () {
          const { ended, produce, stream } = yield* makeProducer
          const handler = Effect.as(fork(produce), HttpServerResponse.stream(stream))
          const port = yield* serve(routed(byPath()(handler)))
          expect(yield* received(send(port, `/${freshKey()}`))).toEqual([200, "012"])
          expect(ended).toEqual(["whole"])
        })
      )

      it.scoped(`in the stream feeds it (${name})`, () =>
        Effect.gen(function* () {
          const { ended, produce, stream } = yield* makeProducer
          const body = Stream.unwrapScoped(Effect.as(fork(produce), stream))
          const port = yield* serve(routed(byPath()(HttpServerResponse.stream(body))))
          expect(yield* received(send(port, `/${freshKey()}`))).toEqual([200, "012"])
          expect(ended).toEqual(["whole"])
        })
      )
    }

    for (const [name, change] of Object.entries<
      (stream: Stream.Stream<Uint8Array>) => Stream.Stream<Uint8Array>
    >({
      buffered: Stream.buffer({ capacity: 1 }),
      merged: (stream) =>
        Stream.merge(stream, Stream.fromEffect(Effect.as(Effect.sleep(5), bytes("-")))),
      unwrapped: (stream) => Stream.unwrap(Effect.as(Effect.sleep(5), stream)),
      "mapped in parallel": Stream.mapEffect((chunk) => Effect.as(Effect.sleep(5), chunk), {
        concurrency: 2
      }),
      broadcast: (stream) =>
        Stream.unwrapScoped(Effect.map(Stream.broadcast(stream, 1, 4), ([only]) => only)),
      grouped: (stream) => Stream.flattenChunks(Stream.groupedWithin(stream, 2, "20 millis"))
    })) {
      it.scoped(`by a stream that is ${name} is sent whole`, () =>
        Effect.gen(function* () {
          const parts = Stream.make("0", "1", "2").pipe(
            Stream.mapEffect((text) => Effect.as(Effect.sleep(5), bytes(text)))
          )
          const port = yield* serve(routed(byPath()(HttpServerResponse.stream(change(parts)))))
          const [status, text] = yield* received(send(port, `/${freshKey()}`))
          expect([status, text.replace("-", "")]).toEqual([200, "012"])
        })
      )
    }

    it.scoped("has ended when the lock is free, after what the handler left in its scope", () =>
      Effect.gen(function* () {
        const { count, until } = yield* StoreControls
        const key = freshKey()
        const ended: Array<unknown> = []
        const told = (name: string) => Effect.sync(() => ended.push([name, count(key, "release")]))
        const handler = Effect.gen(function* () {
          yield* Effect.fork(
            Effect.onInterrupt(Effect.never, () => Effect.zipRight(Effect.sleep(10), told("fork")))
          )
          yield* Effect.addFinalizer(() => told("finalizer"))
          return ok
        })
        const port = yield* serve(routed(byPath()(handler)))
        expect(yield* received(send(port, `/${key}`))).toEqual([200, "ok"])
        yield* until(key, "released")
        expect(ended).toEqual([
          ["finalizer", 0],
          ["fork", 0]
        ])
      })
    )

    const inScope = new Set(["forkScoped", "a FiberSet"])
    const owned = Object.entries(forks).filter(([name]) => name !== "forkDaemon")
    for (const [name, fork] of owned) {
      const unending = (ended: Array<string>, announce = () => {}) =>
        Effect.onInterrupt(Effect.never, () =>
          Effect.sync(() => {
            ended.push("interrupted")
            announce()
          })
        )

      it.scoped(`is interrupted at a loss before the answer is sent (${name})`, () =>
        Effect.gen(function* () {
          const key = freshKey()
          const stage = yield* makeStage
          const ended: Array<string> = []
          const answered: Array<number> = []
          const port = yield* serve(
            fork(unending(ended)).pipe(
              Effect.zipRight(stage.play),
              Effect.as(ok),
              byPath(),
              Effect.tap(() => Effect.sync(() => answered.push(ended.length))),
              routed
            )
          )
          const request = send(port, `/${key}`)
          yield* stage.entered()
          yield* lose(stage.leases[0]!)
          expect((yield* problemOf(request)).status).toBe(500)
          expect(answered).toEqual([1])
        })
      )

      it.scoped(`is interrupted at a loss though its handler is uninterruptible (${name})`, () =>
        Effect.gen(function* () {
          const key = freshKey()
          const stage = yield* makeStage
          const changes = Changes.make()
          const ended: Array<string> = []
          const handler = Effect.gen(function* () {
            yield* fork(Effect.interruptible(unending(ended, changes.announce)))
            yield* stage.play
            return ok
          })
          const port = yield* serve(routed(byPath()(Effect.uninterruptible(handler))))
          const request = send(port, `/${key}`)
          yield* stage.entered()
          yield* lose(stage.leases[0]!)
          // what is in a scope may have a use until the handler has ended
          if (!inScope.has(name)) yield* changes.until(() => ended.length > 0)
          yield* stage.go
          expect((yield* problemOf(request)).status).toBe(500)
          expect(ended).toEqual(["interrupted"])
        })
      )

      for (const [where, inStream] of [
        ["in the handler", false],
        ["in the stream", true]
      ] as const) {
        it.scoped(`${where} is interrupted at a loss while the stream is sent (${name})`, () =>
          Effect.gen(function* () {
            const key = freshKey()
            const stage = yield* makeStage
            yield* stage.go
            const begun = yield* Effect.makeLatch()
            const changes = Changes.make()
            const ended: Array<string> = []
            const forked = fork(unending(ended, changes.announce))
            const steps = Stream.concat(
              Stream.tap(Stream.make(bytes("a")), () => begun.open),
              Stream.never
            )
            const body = inStream ? Stream.unwrapScoped(Effect.as(forked, steps)) : steps
            const handler = Effect.gen(function* () {
              if (!inStream) yield* forked
              yield* stage.play
              return HttpServerResponse.stream(body)
            })
            const port = yield* serve(routed(byPath()(handler)))
            const answer = yield* send(port, `/${key}`).answer
            expect(answer.status).toBe(200)
            yield* begun.await
            expect(ended).toEqual([])
            yield* lose(stage.leases[0]!)
            yield* changes.until(() => ended.length > 0)
          })
        )
      }
    }

    it.scoped("is interrupted at a loss where no connection can be cut, and nobody reads", () =>
      Effect.gen(function* () {
        const key = freshKey()
        const stage = yield* makeStage
        yield* stage.go
        const begun = yield* Effect.makeLatch()
        const ended = yield* Effect.makeLatch()
        const handler = Effect.gen(function* () {
          yield* Effect.forkScoped(Effect.onInterrupt(Effect.never, () => ended.open))
          yield* stage.play
          return HttpServerResponse.stream(
            Stream.make(bytes("a"), bytes("b"), bytes("c")).pipe(
              Stream.rechunk(1),
              Stream.tap(() => begun.open)
            )
          )
        })
        const handle = HttpApp.toWebHandlerRuntime(yield* Effect.runtime<LockStore.LockStore>())(
          routed(byPath()(handler))
        )
        const response = yield* Effect.promise(() => handle(new Request(`http://localhost/${key}`)))
        yield* begun.await
        yield* lose(stage.leases[0]!)
        yield* ended.await
        yield* Effect.ignore(Effect.tryPromise(() => response.body!.cancel()))
      })
    )
  })

  // ---------------------------------------------------------------------------
  describe("what is not the lock's", () => {
    it.scoped("the errors of a handler are answered as without it, and the lock is free", () =>
      Effect.gen(function* () {
        const { until } = yield* StoreControls
        const key = freshKey()
        const port = yield* serve(
          HttpRouter.empty.pipe(
            HttpRouter.get("/fails/:key", byPath()(Effect.fail(new NoSuchAccount()))),
            HttpRouter.get("/dies/:key", byPath()(Effect.die("a bug"))),
            // of a lock that the handler takes itself
            HttpRouter.get(
              "/other/:key",
              byPath()(
                Effect.fail(
                  new LockError.LockLost({ key: "other", reason: "Missing", fencingToken: 1 })
                )
              )
            )
          )
        )
        expect(yield* received(send(port, `/fails/${key}`))).toEqual([404, "no such account"])
        expect(yield* received(send(port, `/dies/${key}`))).toEqual([500, ""])
        expect(yield* received(send(port, `/other/${key}`))).toEqual([500, ""])
        yield* until(key, "released", 3)
      })
    )

    it.scoped("a key that cannot be had fails the request, and nothing is locked", () =>
      Effect.gen(function* () {
        const { events } = yield* StoreControls
        let ran = 0
        const handler = Effect.sync(() => {
          ran++
          return ok
        })
        const lockedBy = (key: () => string | Effect.Effect<string, NoSuchAccount>) =>
          HttpLock.make({ key })(handler)
        const port = yield* serve(
          HttpRouter.empty.pipe(
            HttpRouter.get(
              "/throws",
              lockedBy(() => {
                throw new Error("a bug in the key")
              })
            ),
            HttpRouter.get(
              "/undefined",
              lockedBy(() => undefined as never)
            ),
            HttpRouter.get(
              "/empty",
              lockedBy(() => "")
            ),
            HttpRouter.get(
              "/long",
              lockedBy(() => "x".repeat(65_537))
            ),
            HttpRouter.get(
              "/half",
              lockedBy(() => "a\ud83d")
            ),
            HttpRouter.get("/option", HttpLock.make({ key: freshKey, ttl: 0 })(handler)),
            HttpRouter.get(
              "/fails",
              lockedBy(() => Effect.fail(new NoSuchAccount()))
            ),
            HttpMiddleware.logger
          )
        )
        logged.length = 0
        expect(yield* received(send(port, "/throws"))).toEqual([500, ""])
        expect(logged.join()).toContain("a bug in the key")
        expect(yield* received(send(port, "/undefined"))).toEqual([500, ""])
        expect(logged.join()).toContain("Impossible lock option key: undefined")
        for (const path of ["/empty", "/long", "/half"]) {
          const { code, status } = yield* problemOf(send(port, path))
          expect([status, code]).toEqual([400, "ImpossibleKey"])
        }
        // an option is not the client's doing
        expect(yield* received(send(port, "/option"))).toEqual([500, ""])
        expect(yield* received(send(port, "/fails"))).toEqual([404, "no such account"])
        expect(ran).toBe(0)
        expect(events("")).toEqual([])
      })
    )

    it.scoped("a lock inside of another: the loss of the outer one ends both", () =>
      Effect.gen(function* () {
        const { until } = yield* StoreControls
        const [tenant, account] = [freshKey(), freshKey()]
        const stage = yield* makeStage
        const outer: Array<Lease.Lease> = []
        const seen = Effect.map(HttpLock.CurrentLease, (lease) => outer.push(lease))
        const port = yield* serve(
          HttpRouter.empty.pipe(
            HttpRouter.get("/", HttpLock.make({ key: () => account })(Effect.as(stage.play, ok))),
            HttpRouter.use((app) => Effect.zipRight(seen, app)),
            HttpRouter.use(HttpLock.make({ key: () => tenant }))
          )
        )
        const request = send(port, "/")
        yield* stage.entered()
        expect([outer[0]!.key, stage.leases[0]!.key]).toEqual([tenant, account])
        yield* lose(outer[0]!)
        expect((yield* problemOf(request)).code).toBe("LockLost")
        yield* until(account, "released")
        yield* until(tenant, "released")
      })
    )
  })

  // ---------------------------------------------------------------------------
  describe("in every place that a middleware can have", () => {
    const byUrl = HttpLock.make({ key: (request) => request.url.slice(1), waitAtMost: "1 minute" })
    const places: Record<
      string,
      (
        handler: HttpApp.Default<never, HttpLock.CurrentLease>
      ) => Effect.Effect<number, never, LockStore.LockStore | Scope.Scope>
    > = {
      "a route's handler": (handler) =>
        Effect.orDie(serve(HttpRouter.empty.pipe(HttpRouter.get("/*", byUrl(handler))))),
      "a router": (handler) =>
        Effect.orDie(
          serve(HttpRouter.empty.pipe(HttpRouter.get("/*", handler), HttpRouter.use(byUrl)))
        ),
      "a server": (handler) =>
        Effect.orDie(
          Effect.gen(function* () {
            const { port, provide } = yield* server
            const app = HttpRouter.empty.pipe(HttpRouter.get("/*", handler))
            yield* provide(HttpServer.serveEffect(app, byUrl))
            return port
          })
        )
    }
    for (const [place, start] of Object.entries(places)) {
      it.scoped(`${place}: waits, gives way to those who leave, and says what was lost`, () =>
        Effect.gen(function* () {
          const { until } = yield* StoreControls
          const key = freshKey()
          const stage = yield* makeStage
          const port = yield* start(Effect.as(stage.play, ok))
          const first = send(port, `/${key}`)
          yield* stage.entered(1)
          const second = send(port, `/${key}`)
          yield* until(key, "acquire", 2)
          const third = send(port, `/${key}`)
          yield* until(key, "acquire", 3)
          // one that waits, then one that is handled
          yield* second.disconnect
          yield* until(key, "not granted", 1)
          yield* first.disconnect
          yield* until(key, "released", 1)
          yield* stage.entered(2)
          yield* lose(stage.leases[1]!)
          expect((yield* problemOf(third)).code).toBe("LockLost")
          yield* stage.go
          expect(yield* received(send(port, `/${key}`))).toEqual([200, "ok"])
          yield* until(key, "released", 3)
        })
      )

      it.scoped(`${place}: cuts off a stream whose lease is lost`, () =>
        Effect.gen(function* () {
          const key = freshKey()
          const stage = yield* makeStage
          yield* stage.go
          const body = Stream.concat(Stream.make(bytes("a")), Stream.never)
          const port = yield* start(Effect.as(stage.play, HttpServerResponse.stream(body)))
          const answer = yield* send(port, `/${key}`).answer
          expect(yield* answer.more).toBe("a")
          yield* lose(stage.leases[0]!)
          expect(yield* Effect.flip(answer.rest)).toMatchObject({ code: "ECONNRESET" })
        })
      )
    }

    it.scoped("a web handler: holds a stream's lease until it is read, or given up", () =>
      Effect.gen(function* () {
        const { count, until } = yield* StoreControls
        const key = freshKey()
        const body = Stream.concat(Stream.make(bytes("a")), Stream.never)
        const handle = HttpApp.toWebHandlerRuntime(yield* Effect.runtime<LockStore.LockStore>())(
          byUrl(HttpServerResponse.stream(body))
        )
        const response = yield* Effect.promise(() => handle(new Request(`http://localhost/${key}`)))
        const reader = response.body!.getReader()
        const { value } = yield* Effect.promise(() => reader.read())
        expect(new TextDecoder().decode(value)).toBe("a")
        expect(count(key, "release")).toBe(0)
        yield* Effect.promise(() => reader.cancel())
        yield* until(key, "released")
      })
    )

    it.effect("takes the lease, and nothing else, from what the app requires", () =>
      Effect.sync(() => {
        const needs = Effect.as(Effect.zipRight(HttpLock.CurrentLease, HttpRouter.params), ok)
        const app = HttpLock.make({ key: () => Effect.as(RedisServer.RedisServer, "k") })(needs)
        expectTypeOf<Effect.Effect.Context<typeof app>>().toEqualTypeOf<
          | HttpRouter.RouteContext
          | RedisServer.RedisServer
          | LockStore.LockStore
          | Scope.Scope
          | Effect.Effect.Context<HttpApp.HttpApp>
        >()
        expectTypeOf<Effect.Effect.Error<typeof app>>().toEqualTypeOf<never>()
        expectTypeOf<
          Effect.Effect.Success<typeof app>
        >().toEqualTypeOf<HttpServerResponse.HttpServerResponse>()
      })
    )
  })
})

layer(Layer.merge(RedisServer.layer(), logs), { excludeTestServices: true })(
  "HttpLock on Redis",
  (it) => {
    const options = { ttl: "400 millis" } as const
    const commandTimeout = "200 millis"

    it.scoped("a store that is out of reach loses the lease of who is handled: 500", () =>
      Effect.gen(function* () {
        const redis = yield* RedisServer.RedisServer
        const proxy = yield* FaultProxy.make(redis.port)
        const stage = yield* makeStage
        let interrupted = false
        const key = freshKey()
        const port = yield* serve(
          Effect.as(stage.play, ok).pipe(
            Effect.onInterrupt(() => Effect.sync(() => (interrupted = true))),
            byPath(options),
            routed
          )
        ).pipe(
          Effect.provide(
            yield* Layer.build(RedisLockStore.layer({ url: proxy.url, commandTimeout }))
          )
        )
        const first = send(port, `/${key}`)
        yield* stage.entered()
        proxy.blackHole({ drop: true })
        expect(yield* problemOf(first)).toMatchObject({ status: 500, code: "LockLost" })
        expect(interrupted).toBe(true)
        // and everybody else's cannot be asked for
        const { code, headers, status } = yield* problemOf(send(port, `/${key}`))
        expect([status, code]).toEqual([503, "LockStoreError"])
        expect(["3", "4"]).toContain(headers["retry-after"])
        expect(stage.leases).toHaveLength(1)
      })
    )

    it.scoped("a server that has stopped: 503, and the operator reads why", () =>
      Effect.gen(function* () {
        const redis = yield* RedisServer.make()
        const stage = yield* makeStage
        yield* stage.go
        const port = yield* serve(routed(byPath(options)(Effect.as(stage.play, ok)))).pipe(
          Effect.provide(
            yield* Layer.build(RedisLockStore.layer({ url: redis.url, commandTimeout }))
          )
        )
        expect(yield* received(send(port, "/k"))).toEqual([200, "ok"])
        yield* redis.kill
        logged.length = 0
        expect(yield* problemOf(send(port, "/k"))).toMatchObject({
          status: 503,
          code: "LockStoreError"
        })
        expect(stage.leases).toHaveLength(1)
        expect(logged.join()).toMatch(/level=WARN .*The lock store failed \(acquire of lock/)
      })
    )
  }
)
