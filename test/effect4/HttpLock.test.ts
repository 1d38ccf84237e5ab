/** Through a web handler. */
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as FiberSet from "effect/FiberSet"
import * as HttpEffect from "effect/http/HttpEffect"
import * as HttpMiddleware from "effect/http/HttpMiddleware"
import * as HttpRouter from "effect/http/HttpRouter"
import * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Layer from "effect/Layer"
import * as Queue from "effect/Queue"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import {
  type Lease,
  Lock,
  LockError,
  LockInspector,
  LockStore,
  MemoryLockStore,
  RedisLockStore
} from "effect-redis-lock/effect4"
import * as HttpLock from "effect-redis-lock/effect4/HttpLock"
import { describe, expect, it } from "vitest"
import { logsTo, redisServer, run, storeOf } from "./support.js"

type Response = HttpServerResponse.HttpServerResponse
type Requirements = LockStore.LockStore | Scope.Scope | HttpServerRequest.HttpServerRequest
type App<E> = Effect.Effect<Response, E, Requirements>

const inMemory = <A, E>(test: Effect.Effect<A, E, LockStore.LockStore | Scope.Scope>) =>
  run(Effect.provide(test, MemoryLockStore.layer))

/** Sends requests to that app: path, and how to disconnect. */
const serve = <E>(app: App<E>) =>
  Effect.map(Effect.context<LockStore.LockStore>(), (context) => {
    const handle = HttpEffect.toWebHandlerWith<LockStore.LockStore, Requirements>(context)(app)
    return (path = "/k", init?: RequestInit) => {
      const client = new AbortController()
      const request = new Request(`http://localhost${path}`, { ...init, signal: client.signal })
      const response = handle(request)
      return {
        response: Effect.promise(() => response),
        received: Effect.promise(async () => {
          const { body, status } = await response.then(async (response) => ({
            status: response.status,
            body: await response.text()
          }))
          return [status, body] as const
        }),
        disconnect: Effect.sync(() => client.abort())
      }
    }
  })

const problemOf = (response: globalThis.Response) =>
  Effect.promise(async () => {
    expect(response.headers.get("content-type")).toBe("application/problem+json")
    const text = await response.text()
    const body = JSON.parse(text) as Record<string, unknown>
    expect(Object.keys(body).sort()).toEqual(["code", "detail", "status", "title"])
    expect(body["status"]).toBe(response.status)
    return [response.status, body["code"], text] as const
  })

/** The path is the key. */
const byPath = (options?: Lock.WaitOptions) => HttpLock.make({ ...options, key: ({ url }) => url })

const until = <E, R>(holds: Effect.Effect<boolean, E, R>): Effect.Effect<void, E, R> =>
  Effect.flatMap(holds, (done) =>
    done ? Effect.void : Effect.andThen(Effect.sleep(1), until(holds))
  )

const waiting = (key: string, times: number) =>
  until(Effect.map(LockInspector.inspect(key), ({ waitingHere }) => waitingHere === times))

const free = (key: string) =>
  until(Effect.map(LockInspector.inspect(key), ({ heldCount }) => heldCount === 0))

const lose = ({ fencingToken, key }: Lease.Lease) => Lock.forceRelease(key, fencingToken)

/** The handler's part: it leaves its lease, and waits to be let go. */
const makeStage = Effect.sync(() => {
  const gate = Deferred.makeUnsafe<void>()
  const leases: Array<Lease.Lease> = []
  return {
    leases,
    play: Effect.flatMap(HttpLock.CurrentLease, (lease) => {
      leases.push(lease)
      return Deferred.await(gate)
    }),
    entered: until(Effect.sync(() => leases.length > 0)),
    go: Deferred.succeed(gate, undefined)
  }
})

const ok = HttpServerResponse.text("ok")
const bytes = (text: string) => new TextEncoder().encode(text)

describe("a turn", () => {
  const takesTurns = Effect.gen(function* () {
    const stage = yield* makeStage
    let inside = 0
    const send = yield* serve(
      Effect.gen(function* () {
        expect(++inside).toBe(1)
        yield* stage.play
        const { fencingToken, isHeld } = yield* HttpLock.CurrentLease
        expect(yield* isHeld).toBe(true)
        inside--
        return HttpServerResponse.text(String(fencingToken))
      }).pipe(byPath())
    )
    const requests = []
    for (let n = 0; n < 4; n++) {
      requests.push(send())
      yield* n === 0 ? stage.entered : waiting("/k", n)
    }
    expect(stage.leases).toHaveLength(1)
    yield* stage.go
    const answers = yield* Effect.forEach(requests, ({ received }) => received)
    expect(answers.map(([status]) => status)).toEqual([200, 200, 200, 200])
    // in the order in which they came
    const tokens = answers.map(([, token]) => Number(token))
    expect(tokens).toEqual([...new Set(tokens)].sort((a, b) => a - b))
    yield* free("/k")
  })

  it("is held by one request of a key at a time, in order", () =>
    expect(inMemory(takesTurns)).resolves.toBe(undefined))

  it("is held by one request in all processes that have the same Redis", () =>
    run(
      Effect.gen(function* () {
        const server = yield* redisServer()
        const here = yield* storeOf(RedisLockStore.layer({ url: server.url }))
        const there = yield* storeOf(RedisLockStore.layer({ url: server.url }))
        yield* here.use(takesTurns)
        const lease = yield* there.use(Lock.acquire("/k"))
        const send = yield* here.use(serve(byPath({ waitAtMost: 0 })(Effect.succeed(ok))))
        const [status, code] = yield* Effect.flatMap(send().response, problemOf)
        expect([status, code]).toEqual([423, "LockUnavailable"])
        yield* lease.release
        expect(yield* send().received).toEqual([200, "ok"])
        yield* here.use(free("/k"))
      })
    ))

  it("that does not come is answered 423 with Retry-After, and the handler does not run", () =>
    inMemory(
      Effect.gen(function* () {
        const stage = yield* makeStage
        const send = yield* serve(
          byPath({ ttl: "1 minute", waitAtMost: "10 millis", owner: "secret-host" })(
            Effect.as(stage.play, ok)
          )
        )
        const first = send()
        yield* stage.entered
        const response = yield* send().response
        const [status, code, text] = yield* problemOf(response)
        expect([status, code]).toEqual([423, "LockUnavailable"])
        // the lease's minute, and as much again at most: no turn has ended yet
        const seconds = Number(response.headers.get("retry-after"))
        expect(seconds).toBeGreaterThan(30)
        expect(seconds).toBeLessThanOrEqual(120)
        expect(text).not.toContain("/k")
        expect(text).not.toContain("secret-host")
        yield* stage.go
        expect(yield* first.received).toEqual([200, "ok"])
        expect(stage.leases).toHaveLength(1)
      })
    ))

  it("that the store cannot give is answered 503 with Retry-After", () =>
    run(
      Effect.gen(function* () {
        const { store } = yield* storeOf(MemoryLockStore.layer)
        const failing: LockStore.LockStore = {
          ...store,
          acquire: () =>
            Effect.fail(
              new LockError.LockStoreError({
                operation: "acquire",
                detail: "it is away",
                transient: true
              })
            )
        }
        const send = yield* Effect.provideService(
          serve(byPath()(Effect.succeed(ok))),
          LockStore.LockStore,
          failing
        )
        const response = yield* send().response
        const [status, code, text] = yield* problemOf(response)
        expect([status, code]).toEqual([503, "LockStoreError"])
        expect(text).not.toContain("away")
        expect(["3", "4"]).toContain(response.headers.get("retry-after"))
      })
    ))

  it("of an impossible key is answered 400; a key that fails fails the request", () =>
    inMemory(
      Effect.gen(function* () {
        const long = yield* serve(
          HttpLock.make({ key: () => "x".repeat(70_000) })(Effect.succeed(ok))
        )
        expect((yield* Effect.flatMap(long().response, problemOf)).slice(0, 2)).toEqual([
          400,
          "ImpossibleKey"
        ])
        const failing = yield* serve(
          HttpLock.make({ key: () => Effect.fail("no key" as const) })(Effect.succeed(ok)).pipe(
            Effect.catch((error) => Effect.succeed(HttpServerResponse.text(error)))
          )
        )
        expect(yield* failing().received).toEqual([200, "no key"])
        const noText = yield* serve(
          HttpLock.make({ key: () => 7 as unknown as string })(Effect.succeed(ok))
        )
        expect((yield* noText().response).status).toBe(500)
      })
    ))

  it("is answered as the application says, with what would be said otherwise", () =>
    inMemory(
      Effect.gen(function* () {
        class Words extends Context.Service<Words, { readonly text: string }>()("Words") {}
        const lease = yield* Lock.acquire("/k")
        const locked = HttpLock.make({
          key: () => "/k",
          waitAtMost: 0,
          onUnavailable: () => Effect.die("a bug")
        })
        const own = HttpLock.make({
          key: () => "/k",
          waitAtMost: 0,
          onUnavailable: ({ key }, standard) =>
            Effect.map(Words, ({ text }) =>
              HttpServerResponse.text(`${text} ${key}`, {
                status: 429,
                headers: { "retry-after": standard.headers["retry-after"]! }
              })
            )
        })
        const send = yield* serve(
          Effect.provideService(own(Effect.succeed(ok)), Words, { text: "busy:" })
        )
        const response = yield* send().response
        expect(Number(response.headers.get("retry-after"))).toBeGreaterThan(0)
        expect(yield* send().received).toEqual([429, "busy: /k"])
        const dying = yield* serve(locked(Effect.succeed(ok)))
        expect((yield* Effect.flatMap(dying().response, problemOf)).slice(0, 2)).toEqual([
          423,
          "LockUnavailable"
        ])
        yield* lease.release
      })
    ))
})

describe("the lease is held until the response has been sent", () => {
  it("to the last chunk of a stream, and after what the handler left in its scope", () =>
    inMemory(
      Effect.gen(function* () {
        const last = Deferred.makeUnsafe<void>()
        const ended: Array<string> = []
        const held = Effect.map(LockInspector.inspect("/k"), ({ heldCount }) => heldCount)
        const told = (name: string) =>
          Effect.flatMap(Effect.orDie(held), (count) =>
            Effect.sync(() => ended.push(`${name}, held by ${count}`))
          )
        const store = yield* LockStore.LockStore
        const send = yield* serve(
          Effect.gen(function* () {
            yield* Effect.addFinalizer(() => told("finalizer"))
            yield* Effect.forkChild(
              Effect.onInterrupt(Effect.never, () => told("child")),
              {
                startImmediately: true
              }
            )
            return HttpServerResponse.stream(
              Stream.concat(
                Stream.make(bytes("a")),
                Stream.fromEffect(Effect.as(Deferred.await(last), bytes("b")))
              )
            )
          }).pipe(byPath(), Effect.provideService(LockStore.LockStore, store))
        )
        const response = yield* send().response
        expect(yield* held).toBe(1)
        yield* Deferred.succeed(last, undefined)
        expect(yield* Effect.promise(() => response.text())).toBe("ab")
        yield* free("/k")
        expect(ended).toEqual(["finalizer, held by 1", "child, held by 1"])
      })
    ))

  it("and no longer, with a body in memory, an empty one, an error, and a HEAD", () =>
    inMemory(
      Effect.gen(function* () {
        const apps = [
          [Effect.succeed(ok), 200],
          [Effect.succeed(HttpServerResponse.empty()), 204],
          [Effect.fail("an error"), 500],
          [Effect.die("a defect"), 500],
          [Effect.interrupt, 503],
          [Effect.succeed(HttpServerResponse.stream(Stream.never)), 200]
        ] as const
        for (const [app, status] of apps) {
          const send = yield* serve(byPath()(app))
          const response = yield* send("/k", { method: "HEAD" }).response
          expect(response.status).toBe(status)
          yield* free("/k")
        }
      })
    ))
})

describe("a client that disconnects", () => {
  it("while it waits leaves the queue, and its handler does not run", () =>
    inMemory(
      Effect.gen(function* () {
        const stage = yield* makeStage
        const send = yield* serve(byPath()(Effect.as(stage.play, ok)))
        const first = send()
        yield* stage.entered
        const second = send()
        yield* waiting("/k", 1)
        yield* second.disconnect
        yield* waiting("/k", 0)
        yield* stage.go
        expect(yield* first.received).toEqual([200, "ok"])
        expect(stage.leases).toHaveLength(1)
      })
    ))

  it("while it is handled ends the handler, if that can be interrupted, then the lease", () =>
    inMemory(
      Effect.gen(function* () {
        for (const interruptible of [true, false]) {
          const stage = yield* makeStage
          let ended: "interrupted" | "whole" | undefined
          const handler = stage.play.pipe(
            Effect.andThen(Effect.sync(() => (ended = "whole"))),
            Effect.onInterrupt(() => Effect.sync(() => (ended = "interrupted"))),
            Effect.as(ok)
          )
          // (a server runs its app uninterruptibly, and a router its routes interruptibly)
          const app = byPath()(handler)
          const send = yield* serve(interruptible ? Effect.interruptible(app) : app)
          const request = send()
          yield* stage.entered
          yield* request.disconnect
          const { heldCount } = yield* LockInspector.inspect("/k")
          const meanwhile = interruptible ? [1, undefined] : [heldCount, ended]
          expect(meanwhile).toEqual([1, undefined])
          if (!interruptible) yield* stage.go
          yield* free("/k")
          expect(ended).toBe(interruptible ? "interrupted" : "whole")
        }
      })
    ))

  it("and a timeout around the middleware end the handler before anything else is done", () =>
    inMemory(
      Effect.gen(function* () {
        const done: Array<string> = []
        const tell = (what: string) => Effect.sync(() => done.push(what))
        const handler = Effect.onInterrupt(Effect.never, () =>
          Effect.andThen(Effect.sleep(5), tell("handler"))
        )
        const send = yield* serve(
          Effect.interruptible(
            Effect.timeoutOrElse(byPath()(handler), {
              duration: 10,
              orElse: () => Effect.as(tell("timeout"), HttpServerResponse.empty({ status: 504 }))
            })
          )
        )
        expect((yield* send().response).status).toBe(504)
        expect(done).toEqual(["handler", "timeout"])
        yield* free("/k")
      })
    ))

  it("while it is sent a stream ends the stream, then the lease", () =>
    inMemory(
      Effect.gen(function* () {
        let finalized = false
        const body = Stream.concat(Stream.make(bytes("a")), Stream.never).pipe(
          Stream.ensuring(Effect.sync(() => (finalized = true)))
        )
        const send = yield* serve(byPath()(Effect.succeed(HttpServerResponse.stream(body))))
        for (const leave of ["disconnect", "cancel"] as const) {
          finalized = false
          const request = send()
          const response = yield* request.response
          const reader = response.body!.getReader()
          yield* Effect.promise(() => reader.read())
          yield* leave === "cancel" ? Effect.promise(() => reader.cancel()) : request.disconnect
          yield* free("/k")
          expect(finalized).toBe(true)
          yield* Effect.promise(() => reader.read().catch(() => {}))
        }
      })
    ))
})

describe("a lease that is lost", () => {
  it("while the request is handled interrupts the handler, and the answer is a 500", () =>
    inMemory(
      Effect.gen(function* () {
        for (const outcome of ["interrupted", "succeeds", "fails", "dies"] as const) {
          const stage = yield* makeStage
          const ended: Array<string> = []
          const end = (name: string) => Effect.sync(() => ended.push(name))
          const logged: Array<string> = []
          const outcomes = {
            interrupted: Effect.never,
            succeeds: Effect.succeed(ok),
            fails: Effect.fail("an error"),
            dies: Effect.die("a bug")
          }
          const handler = Effect.gen(function* () {
            yield* Effect.forkChild(
              Effect.onInterrupt(Effect.never, () => end("child")),
              {
                startImmediately: true
              }
            )
            yield* Effect.addFinalizer(() => end("finalizer"))
            yield* stage.play
            return yield* outcomes[outcome]
          })
          const app = HttpLock.make({
            key: () => "/k",
            onLost: (_, standard) => Effect.as(end("answer"), standard)
          })
          const send = yield* serve(
            app(
              outcome === "interrupted"
                ? Effect.interruptible(handler)
                : Effect.uninterruptible(handler)
            )
          ).pipe(Effect.provide(logsTo(logged)))
          const request = send()
          yield* stage.entered
          yield* lose(stage.leases[0]!)
          if (outcome !== "interrupted") yield* stage.go
          const response = yield* request.response
          // once, and after all of the handler
          expect(ended).toEqual(["child", "finalizer", "answer"])
          const [status, code, text] = yield* problemOf(response)
          expect([status, code]).toEqual([500, "LockLost"])
          expect(response.headers.has("retry-after")).toBe(false)
          expect(text).not.toContain("/k")
          // what the client is not told
          const failures = { interrupted: [], succeeds: [], fails: ["an error"], dies: ["a bug"] }
          const told = logged.filter((line) => line.includes("A handler failed"))
          expect(told.map((line) => /an error|a bug/.exec(line)?.[0])).toEqual(failures[outcome])
        }
      })
    ))

  it("between the handler and the headers is told, with what others add to a response", () =>
    inMemory(
      Effect.gen(function* () {
        const stage = yield* makeStage
        yield* stage.go
        let answers = 0
        const app = stage.play.pipe(
          Effect.as(HttpServerResponse.text("ok", { headers: { etag: "1" } })),
          HttpLock.make({
            key: () => "/k",
            onLost: (_, standard) => Effect.sync(() => (answers++, standard))
          }),
          // the handler has ended well by then
          Effect.tap(() => Effect.suspend(() => lose(stage.leases[0]!))),
          HttpMiddleware.cors({ allowedOrigins: ["https://a.example"] }),
          (app) =>
            Effect.andThen(
              HttpEffect.appendPreResponseHandler((_, response) =>
                Effect.succeed(HttpServerResponse.setHeader(response, "content-encoding", "gzip"))
              ),
              app
            )
        )
        const send = yield* serve(app)
        const response = yield* send("/k", { headers: { origin: "https://a.example" } }).response
        expect((yield* problemOf(response)).slice(0, 2)).toEqual([500, "LockLost"])
        expect(response.headers.get("access-control-allow-origin")).toBe("https://a.example")
        // (of the body that is not sent)
        expect(response.headers.has("etag")).toBe(false)
        expect(response.headers.has("content-encoding")).toBe(false)
        expect(answers).toBe(1)
      })
    ))

  it("while a stream is sent ends it, its scope and the handler's, also if nobody reads", () =>
    inMemory(
      Effect.gen(function* () {
        for (const reads of [true, false]) {
          const stage = yield* makeStage
          yield* stage.go
          const ended: Array<string> = []
          const end = (name: string) => Effect.sync(() => ended.push(name))
          let steps = 0
          const body = Stream.make(bytes("a"), bytes("b"), bytes("c")).pipe(
            Stream.rechunk(1),
            Stream.tap(() => Effect.sync(() => steps++)),
            reads ? Stream.concat(Stream.never) : (stream) => stream,
            Stream.ensuring(end("stream"))
          )
          const send = yield* serve(
            Effect.gen(function* () {
              yield* Effect.forkScoped(
                Effect.onInterrupt(Effect.never, () => end("scoped")),
                {
                  startImmediately: true
                }
              )
              yield* stage.play
              return HttpServerResponse.stream(body)
            }).pipe(byPath())
          )
          const response = yield* send().response
          const reader = response.body!.getReader()
          const read = () => reader.read()
          if (reads) for (let n = 0; n < 3; n++) yield* Effect.promise(read)
          else yield* Effect.promise(read)
          // (one step is asked for ahead of the reader, and then none)
          yield* until(Effect.sync(() => steps === (reads ? 3 : 2)))
          expect(ended).toEqual([])
          const next = reads
            ? read().then(
                () => "more",
                (error: unknown) => error
              )
            : undefined
          yield* lose(stage.leases[0]!)
          yield* until(Effect.sync(() => ended.length === 2))
          expect(ended).toEqual(["stream", "scoped"])
          // (one step can have been asked for before)
          let error = next === undefined ? undefined : yield* Effect.promise(() => next)
          for (let n = 0; n < 2 && error === undefined; n++) {
            error = yield* Effect.promise(() =>
              read().then(
                () => undefined,
                (error) => error
              )
            )
          }
          expect(error).toBeInstanceOf(LockError.LockLost)
          yield* free("/k")
        }
      })
    ))

  it("closes the connection of a server on Node", () =>
    inMemory(
      Effect.gen(function* () {
        const stage = yield* makeStage
        yield* stage.go
        let destroyed = 0
        const onNode = (request: HttpServerRequest.HttpServerRequest) =>
          Object.assign(Object.create(request) as typeof request, {
            source: Object.assign(Object.create(request.source) as object, {
              socket: { destroy: () => destroyed++ }
            })
          })
        const stream = HttpServerResponse.stream(
          Stream.concat(Stream.make(bytes("a")), Stream.never)
        )
        const send = yield* serve(
          Effect.as(stage.play, stream).pipe(
            byPath(),
            Effect.updateService(HttpServerRequest.HttpServerRequest, onNode)
          )
        )
        const response = yield* send().response
        yield* Effect.promise(() => response.body!.getReader().read())
        expect(destroyed).toBe(0)
        yield* lose(stage.leases[0]!)
        expect(destroyed).toBe(1)
        yield* free("/k")
      })
    ))
})

describe("what a request forks lives as long as its response", () => {
  const forks: Record<
    string,
    (effect: Effect.Effect<void>) => Effect.Effect<unknown, never, Scope.Scope>
  > = {
    forkChild: Effect.forkChild,
    forkScoped: Effect.forkScoped,
    "a FiberSet": (effect) => Effect.flatMap(FiberSet.make(), (set) => FiberSet.run(set, effect)),
    "forkChild, twice over": (effect) =>
      Effect.forkChild(Effect.flatMap(Effect.forkChild(effect), Fiber.join))
  }
  const makeProducer = Effect.map(Queue.unbounded<Uint8Array>(), (queue) => ({
    produce: Effect.gen(function* () {
      for (const text of ["0", "1", "2"]) {
        yield* Effect.sleep(5)
        yield* Queue.offer(queue, bytes(text))
      }
    }),
    stream: Stream.take(Stream.fromQueue(queue), 3)
  }))

  it.each(Object.entries(forks))("%s", (_, fork) =>
    inMemory(
      Effect.gen(function* () {
        for (const inStream of [false, true]) {
          const { produce, stream } = yield* makeProducer
          const handler = inStream
            ? Effect.succeed(
                HttpServerResponse.stream(
                  Stream.scoped(Stream.unwrap(Effect.as(fork(produce), stream)))
                )
              )
            : Effect.as(fork(produce), HttpServerResponse.stream(stream))
          const send = yield* serve(byPath()(handler))
          expect(yield* send().received).toEqual([200, "012"])
          yield* free("/k")
        }
      })
    )
  )
})

describe("in a router", () => {
  it("locks by the route, as a handler's wrapper and as a middleware, and requires no more", () =>
    run(
      Effect.gen(function* () {
        const { store } = yield* storeOf(MemoryLockStore.layer)
        const byId = HttpLock.make({
          key: () => Effect.map(HttpRouter.params, ({ id }) => `account:${id}`),
          waitAtMost: 0
        })
        const key = Effect.map(HttpLock.CurrentLease, ({ key }) => HttpServerResponse.text(key))
        const byTenant = HttpLock.make({
          key: (request) => `tenant:${request.headers["x-tenant"] ?? "none"}`
        })
        const perTenant = HttpRouter.middleware<{ provides: HttpLock.CurrentLease }>()(
          Effect.map(
            LockStore.LockStore,
            (store) => (app) => Effect.provideService(byTenant(app), LockStore.LockStore, store)
          )
        )
        const routes = Layer.mergeAll(
          HttpRouter.add("GET", "/accounts/:id", byId(key)),
          HttpRouter.add("GET", "/tenant", key).pipe(Layer.provide(perTenant.layer)),
          HttpRouter.add("GET", "/health", ok)
        )
        const { dispose, handler } = HttpRouter.toWebHandler(
          Layer.provide(
            HttpRouter.provideRequest(Layer.succeed(LockStore.LockStore, store))(routes),
            Layer.succeed(LockStore.LockStore, store)
          ),
          { disableLogger: true }
        )
        yield* Effect.addFinalizer(() => Effect.promise(dispose))
        const get = (path: string, headers: Record<string, string> = {}) =>
          Effect.promise(async () => {
            const response = await handler(new Request(`http://localhost${path}`, { headers }))
            return [response.status, await response.text()] as const
          })
        expect(yield* get("/accounts/7")).toEqual([200, "account:7"])
        expect(yield* get("/tenant", { "x-tenant": "a" })).toEqual([200, "tenant:a"])
        yield* Effect.scoped(
          Effect.gen(function* () {
            yield* Lock.acquire("account:7")
            expect((yield* get("/accounts/7"))[0]).toBe(423)
            expect(yield* get("/accounts/8")).toEqual([200, "account:8"])
            expect(yield* get("/health")).toEqual([200, "ok"])
          })
        ).pipe(Effect.provideService(LockStore.LockStore, store))
      })
    ))
})

it("a turn's usual length is what Retry-After is made of", () =>
  inMemory(
    Effect.gen(function* () {
      const send = yield* serve(byPath({ waitAtMost: 0 })(Effect.succeed(ok)))
      expect(yield* send().received).toEqual([200, "ok"])
      yield* free("/k")
      const lease = yield* Lock.acquire("/k", { ttl: Duration.hours(1) })
      const response = yield* send().response
      // (by the ttl it would be 3600)
      expect(Number(response.headers.get("retry-after"))).toBeLessThan(60)
      yield* lease.release
    })
  ))
