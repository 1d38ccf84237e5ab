/** The layer of a store ends while there are those that wait, and those that hold. */
import { expect, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Scope from "effect/Scope"
import { Lock, RedisLockStore } from "effect-redis-lock"
import { awaitQueued, caller, idle, queuedCaller, queueOf } from "../support/Queue.js"
import {
  collectWarnings,
  connectedClient,
  environment,
  failure,
  FaultProxy,
  leftovers,
  quietly,
  RedisServer,
  storeOf,
  timed,
  touching,
  turns,
  unhandledErrors
} from "./support.js"

const closed = {
  _tag: "LockStoreError",
  operation: "acquire",
  detail: "The store is closed: its layer's scope has ended."
}

/** What is said at once comes far sooner than the command deadline. */
const atOnce = 1_000
const commandTimeout = 5_000

for (const kind of ["own client", "user's client"] as const) {
  layer(RedisServer.layer(), { excludeTestServices: true })(
    `a store that closes (${kind})`,
    (it) => {
      /** The store of another process, and the one that closes. */
      const start = Effect.gen(function* () {
        const other = yield* environment()
        const proxy = yield* FaultProxy.make(other.server.port)
        const client = yield* connectedClient(proxy.port)
        const store = yield* storeOf(
          kind === "own client"
            ? RedisLockStore.layer({ url: proxy.url, commandTimeout })
            : RedisLockStore.layerFromClient(client, { commandTimeout })
        )
        return { other, server: other.server, proxy, client, ...store }
      })

      it.scoped("fails all waiters at once, and gives up their places", () =>
        quietly(
          Effect.gen(function* () {
            const { close, other, server, store, use } = yield* start
            const unhandled = yield* unhandledErrors
            const held = yield* caller(other.use, "remote", { ttl: 30_000 })
            yield* held.lease
            const mine = yield* caller(use, "mine", { ttl: 30_000 })
            yield* mine.lease
            const waiters = yield* Effect.forEach(["remote", "remote", "mine", "mine"], (key) =>
              caller(use, key, { ttl: 30_000 })
            )
            yield* awaitQueued(server, "remote", 1)
            const third = {
              server,
              ...(yield* storeOf(RedisLockStore.layer({ url: server.url })))
            }
            const behind = yield* queuedCaller(third, "remote", 1, { ttl: 30_000 })
            // (the callers of a line that have no place of their own)
            yield* Effect.sleep(20)
            const { millis } = yield* timed(close)
            const exits = yield* Effect.forEach(waiters, ({ fiber }) => timed(Fiber.await(fiber)))
            expect(millis).toBeLessThan(atOnce)
            for (const { exit, millis } of exits) {
              expect(millis).toBeLessThan(atOnce)
              expect(failure(Exit.flatten(exit))).toMatchObject(closed)
            }
            // nobody's turn goes to one that has gone
            expect(yield* queueOf(server, "remote")).toHaveLength(1)
            expect(yield* queueOf(server, "mine")).toHaveLength(0)
            const handoff = timed(Effect.zipRight(held.release, behind.lease))
            expect((yield* handoff).millis).toBeLessThan(atOnce)
            yield* Effect.exit((yield* mine.lease).release)
            yield* idle(store)
            expect(unhandled).toEqual([])
          })
        )
      )

      it.scoped("gives back what an attempt under way brings, and refuses it", () =>
        quietly(
          Effect.gen(function* () {
            const { close, proxy, server, use } = yield* start
            yield* Lock.withLock("first")(Effect.void).pipe(use)
            proxy.holdReplies()
            const attempt = yield* Effect.fork(
              Lock.withLockIfAvailable("k", { ttl: 30_000 })(Effect.void).pipe(use)
            )
            yield* proxy.awaitReply(touching("k"))
            const closing = yield* Effect.fork(timed(close))
            yield* turns(5)
            proxy.releaseReplies()
            expect((yield* Fiber.join(closing)).millis).toBeLessThan(atOnce)
            const exit = yield* Fiber.await(attempt)
            expect(failure(exit)).toMatchObject({ ...closed, key: "k" })
            expect(yield* leftovers(server)).toEqual([])
          })
        )
      )

      it.scoped("gives back a lease that is being passed on to a caller, who is told", () =>
        quietly(
          Effect.gen(function* () {
            const { close, proxy, server, use } = yield* start
            const first = yield* caller(use, "k", { ttl: 30_000 })
            yield* first.lease
            const second = yield* caller(use, "k", { ttl: 30_000 })
            // (it stands in the line)
            yield* Effect.sleep(20)
            proxy.forget()
            proxy.holdReplies()
            const releasing = yield* Effect.fork(first.release)
            yield* proxy.awaitReply(touching("k"))
            const closing = yield* Effect.fork(timed(close))
            yield* turns(5)
            proxy.releaseReplies()
            expect((yield* Fiber.join(closing)).millis).toBeLessThan(atOnce)
            yield* Fiber.join(releasing)
            expect(failure(yield* Fiber.await(second.fiber))).toMatchObject(closed)
            expect(yield* leftovers(server)).toEqual([])
          })
        )
      )

      it.scoped("tells whoever comes later, without asking Redis", () =>
        quietly(
          Effect.gen(function* () {
            const { close, proxy, store, use } = yield* start
            yield* Lock.withLock("k")(Effect.void).pipe(use)
            yield* close
            proxy.forget()
            for (const late of [
              Effect.scoped(Lock.acquire("k")),
              Effect.scoped(Lock.tryAcquire("k")),
              Lock.withLock("k")(Effect.void),
              Lock.withLockIfAvailable("k")(Effect.void)
            ]) {
              const { exit, millis } = yield* timed(use(late as Effect.Effect<unknown>))
              expect(millis).toBeLessThan(atOnce)
              expect(failure(exit)).toMatchObject({ ...closed, key: "k" })
            }
            yield* idle(store)
            expect(proxy.commands).toEqual([])
          })
        )
      )

      it.scoped("does not keep a lease from ending: its release fails at once", () =>
        quietly(
          Effect.gen(function* () {
            const { close, use } = yield* start
            const scope = yield* Scope.make()
            const lease = yield* Lock.acquire("k", { ttl: 30_000 }).pipe(use, Scope.extend(scope))
            yield* close
            const { exit, millis } = yield* timed(lease.release)
            expect(millis).toBeLessThan(atOnce)
            expect(failure(exit)).toMatchObject({ _tag: "LockStoreError", operation: "release" })
            expect((yield* timed(Scope.close(scope, Exit.void))).millis).toBeLessThan(atOnce)
          })
        )
      )

      it.scoped("warns of the locks that are held still, and of no other", () =>
        collectWarnings((warnings) =>
          Effect.gen(function* () {
            const { close, use } = yield* start
            const options = { ttl: 30_000 }
            yield* Lock.withLock("done", options)(Effect.void).pipe(use)
            yield* Effect.scoped(Lock.tryAcquire("given back", options)).pipe(use)
            const held = yield* Effect.forEach(["one", "another"], (key) =>
              Lock.acquire(key, options).pipe(use)
            )
            yield* close
            expect(warnings).toHaveLength(1)
            expect(warnings[0]).toContain('closed while 2 of its locks are held ("one", …)')
            yield* Effect.forEach(held, ({ release }) => Effect.exit(release))
          })
        )
      )

      it.scoped("says nothing to Redis any more, and has no listener left", () =>
        quietly(
          Effect.gen(function* () {
            const { client, close, other, proxy, server, use } = yield* start
            const listeners = client.listenerCount("close")
            const held = yield* caller(other.use, "remote", { ttl: 300 })
            yield* held.lease
            const lease = yield* caller(use, "mine", { ttl: 600 })
            yield* lease.lease
            const waiting = yield* caller(use, "remote", { ttl: 300 })
            yield* awaitQueued(server, "remote", 1)
            yield* close
            yield* Fiber.await(waiting.fiber)
            proxy.forget()
            // several heartbeats, and renewals, and the end of the lease
            yield* Effect.sleep(800)
            expect(proxy.commands).toEqual([])
            expect(yield* (yield* lease.lease).isHeld).toBe(false)
            expect(client.listenerCount("close")).toBe(
              kind === "own client" ? listeners : listeners - 1
            )
            if (kind === "user's client")
              expect(yield* Effect.promise(() => client.ping())).toBe("PONG")
          })
        )
      )
    }
  )
}
