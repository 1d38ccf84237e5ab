/** What is slow is not silent: a slow network, and a process that had no time to look. */
import { expect, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import { Lock, LockStore, RedisLockStore } from "effect-redis-lock"
import { claimOf } from "../support/stores.js"
import {
  caller,
  environments,
  onClient,
  queuedCaller,
  strict,
  subscribed
} from "../support/Queue.js"
import {
  answered,
  blockEventLoop,
  connectedClient,
  type Environment,
  FaultProxy,
  quietly,
  RedisServer,
  storeOf,
  undisturbed
} from "./support.js"

layer(RedisServer.layer(), { excludeTestServices: true })("a network that is slow", (it) => {
  const warm = ({ use }: Environment) => Lock.withLock("warm")(Effect.void).pipe(use)
  const commandConnections = ({ proxy }: Environment) =>
    proxy.connections.filter(({ subscriber }) => !subscriber).length

  /** Several ttls of a lease, renewed early enough for a machine that is busy. */
  const held = (slow: Environment, ttl: number, ttls: number) =>
    Effect.map(
      Lock.withLock(`k${ttl}`, { ttl, renewEvery: ttl / 4 })(Effect.sleep(ttls * ttl)).pipe(
        slow.use,
        Effect.exit
      ),
      (exit) => ({ exit, connections: commandConnections(slow) })
    )

  it.scoped("keeps its leases, over the one connection that there is", () =>
    quietly(
      undisturbed(
        40,
        Effect.gen(function* () {
          const [a, b, c] = yield* environments([{}, {}, {}])
          yield* Effect.forEach([a, b, c], warm)
          a.proxy.delay({ toServer: 60, toClient: 60 })
          b.proxy.delay({ toServer: 200, toClient: 200 })
          const becomesSlow = Effect.delay(
            Effect.sync(() => c.proxy.delay({ toServer: 75, toClient: 75 })),
            "100 millis"
          )
          const outcomes = yield* Effect.all(
            [
              held(a, 600, 8),
              held(b, 2_000, 3),
              Effect.zipLeft(held(c, 1_800, 3), becomesSlow, { concurrent: true })
            ],
            { concurrency: "unbounded" }
          )
          const kept = { exit: Exit.void, connections: 1 }
          expect(outcomes).toEqual([kept, kept, kept])
        })
      )
    )
  )
})

layer(RedisServer.layer(), { excludeTestServices: true })("a process that stood still", (it) => {
  const commandTimeout = 300
  const stall = 450

  const connectionsOf = (server: RedisServer.RedisProcess) =>
    Effect.map(server.command("INFO", "stats"), (stats) =>
      Number(/total_connections_received:(\d+)/.exec(String(stats))![1])
    )

  /** As soon as what was asked for is on its way; its answer comes meanwhile. */
  const stalled = Effect.async<void>((resume) => {
    setImmediate(() => {
      blockEventLoop(stall)
      resume(Effect.void)
    })
  })

  const grant = (ttlMillis: number) =>
    Effect.flatMap(LockStore.LockStore, (store) =>
      Effect.uninterruptibleMask((restore) => store.acquire(claimOf("k", { ttlMillis }), restore))
    )

  type Question = Effect.Effect<unknown, unknown, LockStore.LockStore>
  const questions: Record<string, Effect.Effect<Question, unknown, LockStore.LockStore>> = {
    "an acquire": Effect.succeed(Effect.scoped(Lock.acquire("k", { ttl: 30_000 }))),
    "an attempt": Effect.succeed(Effect.scoped(Lock.tryAcquire("k", { ttl: 30_000 }))),
    "a hundred acquires at once": Effect.succeed(
      Effect.forEach(
        Array.from({ length: 100 }, (_, i) => `k${i}`),
        (key) => Effect.scoped(Lock.acquire(key, { ttl: 30_000 })),
        { concurrency: "unbounded" }
      )
    ),
    "a verification": Effect.map(grant(30_000), ({ verify }) => verify),
    "a release": Effect.map(grant(30_000), ({ release }) => release),
    // its patience is shorter than the command deadline: 200 ms
    "a renewal": Effect.map(grant(1_200), ({ renew }) => renew)
  }

  for (const [name, prepare] of Object.entries(questions)) {
    it.scoped(`looks for its answer before it calls the connection silent: ${name}`, () =>
      quietly(
        // (a server that is not run for long enough is silent)
        undisturbed(
          0,
          Effect.gen(function* () {
            const server = yield* RedisServer.RedisServer
            yield* server.flush
            // no proxy: that would stand still as well
            const { use } = yield* storeOf(
              RedisLockStore.layer({ url: server.url, commandTimeout })
            )
            yield* Lock.withLock("warm")(Effect.void).pipe(use)
            const question = yield* use(prepare)
            const before = yield* connectionsOf(server)
            const asked = yield* Effect.fork(Effect.exit(use(question)))
            yield* stalled
            expect(Exit.isSuccess(yield* Fiber.join(asked))).toBe(true)
            yield* Effect.sleep(100)
            expect(yield* connectionsOf(server)).toBe(before)
          })
        )
      )
    )
  }

  it.scoped("looks for the answer to a heartbeat before it calls a wait a failure", () =>
    quietly(
      Effect.gen(function* () {
        const [a] = yield* environments([strict])
        const { server } = a
        // not of our own, which would be connected anew; no proxy: that would stand still as well
        const client = yield* connectedClient(server.port)
        const b = yield* onClient(a, client, { ...strict, commandTimeout })
        const held = yield* caller(a.use, "k", { ttl: 60_000 })
        yield* held.lease
        // a heartbeat of 500 ms, a window of 1500
        const waiting = yield* queuedCaller(b, "k", 0, { ttl: 1_500 })
        yield* subscribed(b)
        // the answer comes after the command deadline, while this process stands still
        yield* server.command("CLIENT", "PAUSE", 1_600, "ALL")
        yield* Effect.sleep(1_000)
        blockEventLoop(1_500)
        yield* held.release
        yield* waiting.lease
      })
    )
  )

  it.scoped("does not give up a wait for the first heartbeat that fails", () =>
    quietly(
      Effect.gen(function* () {
        const [a] = yield* environments([strict])
        const proxy = yield* FaultProxy.make(a.server.port)
        const client = yield* connectedClient(proxy.port, { maxRetriesPerRequest: 0 })
        const b = yield* onClient(a, client)
        const held = yield* caller(a.use, "k", { ttl: 60_000 })
        yield* held.lease
        // a heartbeat of 600 ms, a window of 1800
        const waiting = yield* queuedCaller(b, "k", 0, { ttl: 1_800 })
        yield* subscribed(b)
        proxy.cutWhere((connection) => !connection.subscriber)
        proxy.forget()
        blockEventLoop(2_600)
        yield* proxy.until(() => answered(proxy, "k") >= 1)
        yield* held.release
        yield* waiting.lease
      })
    )
  )
})
