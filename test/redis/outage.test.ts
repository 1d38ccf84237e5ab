/** Redis is away for a while: what nobody wants any more is not sent when it is back. */
import { expect } from "@effect/vitest"
import { atOnce } from "../support/atOnce.js"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import { Lock, RedisLockStore } from "effect-redis-lock"
import { probeAll, probeOne } from "../../src/internal/redis/scripts.js"
import { Redis, type RedisOptions } from "ioredis"
import {
  connectedClient,
  type Environment,
  failure,
  FaultProxy,
  nothingLeft,
  quietly,
  RedisServer,
  storeOf,
  timed,
  touching,
  turns
} from "./support.js"

// longer than any test: what disappears was given back, it did not expire
const ttl = "5 minutes"
const commandTimeout = 1_000
/** What is said at once comes far sooner than this. */
const long = 10_000
const immediately = 3_000

const theirs: Readonly<Record<string, Omit<RedisOptions, "replyMapping">>> = {
  "user's client": {},
  "user's client that retries for ever": { maxRetriesPerRequest: null }
}
const kinds = ["own client", ...Object.keys(theirs)]

/** A client that says nothing of its troubles. */
const clientOf = (port: number, options: Omit<RedisOptions, "replyMapping">) =>
  Effect.map(connectedClient(port, options), (client) => client.on("error", () => {}))

/** A server that may be killed: it runs again at the end in any case. */
const victim = Effect.gen(function* () {
  const server = yield* RedisServer.RedisServer
  yield* server.flush
  yield* Effect.addFinalizer(() => (server.isRunning ? Effect.void : server.restart))
  return { server, proxy: yield* FaultProxy.make(server.port) }
})

/** Without those that find out whether locks may travel together. */
const scriptsOf = (proxy: FaultProxy.FaultProxy) =>
  proxy.commands.filter(
    ([name, text]) =>
      /^(eval|evalsha)$/i.test(name!) &&
      ![probeOne, probeAll].some(({ lua, sha }) => text === lua || text === sha)
  )

/** The server is gone, and the client knows it: it tries to connect. */
const outage = ({ proxy, server }: Pick<Environment, "proxy" | "server">) =>
  Effect.suspend(() => {
    const last = Math.max(...proxy.connections.map(({ id }) => id))
    const triesAgain = proxy.until(() => proxy.connections.some(({ id }) => id > last))
    return Effect.zipRight(server.kill, triesAgain)
  })

const askFor = (use: Environment["use"], key: string, index: number) =>
  Effect.asVoid(
    index % 2 === 0
      ? Lock.withLock(key, { ttl })(Effect.void).pipe(use)
      : Lock.withLockIfAvailable(key, { ttl })(Effect.void).pipe(use)
  )

/** Two hundred acquires and attempts, on twenty keys; how each of them ended. */
const twoHundred = (use: Environment["use"]) =>
  Effect.forEach(
    Array.from({ length: 200 }, (_, index) => index),
    (index) => Effect.exit(askFor(use, `job-${index % 20}`, index)),
    { concurrency: "unbounded" }
  )

atOnce(RedisServer.layer())("when Redis was away", (it) => {
  for (const kind of kinds) {
    it.scoped(`nothing is sent for those who gave up meanwhile (${kind})`, () =>
      quietly(
        Effect.gen(function* () {
          const { proxy, server } = yield* victim
          const { use } = yield* storeOf(
            kind === "own client"
              ? RedisLockStore.layer({ url: proxy.url, commandTimeout })
              : RedisLockStore.layerFromClient(yield* clientOf(proxy.port, theirs[kind]!), {
                  commandTimeout
                })
          )
          yield* Effect.retry(askFor(use, "warm", 0), { times: 10 })
          proxy.holdReplies()
          const flying = yield* Effect.fork(askFor(use, "flying", 1))
          yield* proxy.awaitReply(touching("flying"))
          yield* outage({ proxy, server })
          for (const exit of yield* twoHundred(use)) {
            expect(failure(exit)).toMatchObject({ _tag: "LockStoreError", operation: "acquire" })
          }
          yield* Fiber.await(flying)
          proxy.forget()
          proxy.releaseReplies()
          yield* server.restart
          yield* Lock.withLock("next", { ttl })(Effect.void).pipe(
            Effect.retry({ while: ({ _tag }) => _tag === "LockStoreError" }),
            use
          )
          // what was asked for afterwards, and what was in flight
          const strange = (args: ReadonlyArray<string>) =>
            !touching("next")(args) && !touching("flying")(args)
          expect(scriptsOf(proxy).filter(strange)).toEqual([])
          // and none of those has a lock
          const had = yield* Lock.withLockIfAvailable("job-0", { ttl })(Effect.void).pipe(use)
          expect(had).toEqual(Option.some(undefined))
          yield* nothingLeft(server)
        })
      )
    )
  }

  for (const [kind, options] of Object.entries(theirs)) {
    it.scoped(`nothing is sent for a store that has closed meanwhile (${kind})`, () =>
      quietly(
        Effect.gen(function* () {
          const { proxy, server } = yield* victim
          const client = yield* clientOf(proxy.port, options)
          const { close, use } = yield* storeOf(
            RedisLockStore.layerFromClient(client, { commandTimeout })
          )
          const lease = yield* Lock.acquire("held", { ttl }).pipe(use, Effect.retry({ times: 10 }))
          yield* outage({ proxy, server })
          yield* twoHundred(use)
          yield* Effect.exit(lease.release)
          const waiting = yield* Effect.fork(twoHundred(use))
          yield* turns(5)
          yield* close
          expect((yield* Fiber.join(waiting)).every(Exit.isFailure)).toBe(true)
          proxy.forget()
          yield* server.restart
          // what the client had kept would come before this
          expect(yield* Effect.promise(() => client.ping())).toBe("PONG")
          expect(scriptsOf(proxy)).toEqual([])
        })
      )
    )
  }

  it.scoped("nothing is given back on a client that does not keep commands", () =>
    quietly(
      Effect.gen(function* () {
        const { proxy, server } = yield* victim
        const client = yield* clientOf(proxy.port, { enableOfflineQueue: false })
        let calls = 0
        for (const method of ["eval", "evalsha"] as const) {
          const original = client[method].bind(client) as (...args: Array<unknown>) => unknown
          client[method] = ((...args: Array<unknown>) => {
            calls++
            return original(...args)
          }) as never
        }
        const { use } = yield* storeOf(
          RedisLockStore.layerFromClient(client, { commandTimeout: long })
        )
        yield* askFor(use, "warm", 0)
        yield* outage({ proxy, server })
        calls = 0
        const { exit, millis } = yield* timed(twoHundred(use))
        // it says so at once
        expect(millis).toBeLessThan(immediately)
        for (const one of yield* exit) {
          expect(String(failure(one))).toContain("Stream isn't writeable")
        }
        expect(calls).toBeGreaterThan(0)
        calls = 0
        yield* Effect.sleep(700)
        expect(calls).toBe(0)
      })
    )
  )

  it.scoped("a client that has ended fails at once, also what was asked for before", () =>
    quietly(
      Effect.gen(function* () {
        const { proxy, server } = yield* victim
        let over = false
        const client = yield* clientOf(proxy.port, {
          retryStrategy: () => (over ? null : 50)
        })
        const { close, use } = yield* storeOf(
          RedisLockStore.layerFromClient(client, { commandTimeout: long })
        )
        yield* askFor(use, "warm", 0)
        yield* outage({ proxy, server })
        const before = yield* Effect.fork(timed(twoHundred(use)))
        yield* turns(5)
        over = true
        const asked = [yield* Fiber.join(before), yield* timed(twoHundred(use))]
        expect(client.status).toBe("end")
        for (const { exit, millis } of asked) {
          expect(millis).toBeLessThan(immediately)
          for (const one of yield* exit) {
            expect(String(failure(one))).toContain("Connection is closed.")
          }
        }
        // nothing can be given back there
        expect((yield* timed(close)).millis).toBeLessThan(immediately)
      })
    )
  )
})

atOnce(RedisServer.layer())("a first connection", (it) => {
  const start = (kind: string, options: Omit<RedisOptions, "replyMapping">) =>
    Effect.gen(function* () {
      const { proxy } = yield* victim
      // nothing passes, as long as it is being made
      proxy.blackHole()
      const client = Effect.acquireRelease(
        Effect.sync(() => new Redis({ port: proxy.port, ...options })),
        (client) => Effect.sync(() => client.disconnect())
      )
      const { use } = yield* storeOf(
        kind === "own client"
          ? RedisLockStore.layer({ url: proxy.url, commandTimeout: long, redis: options })
          : RedisLockStore.layerFromClient(yield* client, { commandTimeout: long })
      )
      return { proxy, use }
    })

  for (const kind of ["own client", "user's client"]) {
    it.scoped(`that is being made is what the commands wait for (${kind})`, () =>
      Effect.gen(function* () {
        const { proxy, use } = yield* start(kind, {})
        yield* proxy.until(() => proxy.connections.length === 1)
        const asking = yield* Effect.fork(twoHundred(use))
        yield* turns(5)
        expect(scriptsOf(proxy)).toEqual([])
        proxy.heal()
        expect((yield* Fiber.join(asking)).filter(isUnanswered)).toEqual([])
      })
    )

    it.scoped(`that is lazy is made by the first lock (${kind})`, () =>
      Effect.gen(function* () {
        const { proxy, use } = yield* start(kind, { lazyConnect: true })
        yield* Effect.sleep(100)
        expect(proxy.connections).toEqual([])
        const asking = yield* Effect.fork(twoHundred(use))
        yield* proxy.until(() => proxy.connections.length === 1)
        // by a command that the client keeps, with others behind it
        const later = yield* Effect.fork(twoHundred(use))
        yield* turns(5)
        expect(scriptsOf(proxy)).toEqual([])
        proxy.heal()
        for (const asked of [asking, later]) {
          expect((yield* Fiber.join(asked)).filter(isUnanswered)).toEqual([])
        }
      })
    )
  }

  /** (An attempt on a key that somebody has is answered as well.) */
  const isUnanswered = (exit: Exit.Exit<void, { readonly _tag: string }>): boolean =>
    Exit.isFailure(exit) && failure(exit)._tag !== "LockUnavailable"
})
