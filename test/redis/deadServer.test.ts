/** Rule 8: every command is bounded, and every release observable. */
import { expect } from "@effect/vitest"
import { atOnce } from "../support/atOnce.js"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Scope from "effect/Scope"
import { Lock, RedisLockStore } from "effect-redis-lock"
import {
  collectWarnings,
  connectedClient,
  environment,
  failure,
  FaultProxy,
  nothingLeft,
  quietly,
  RedisServer,
  storeOf,
  timed,
  unhandledErrors
} from "./support.js"

const ttl = "1 minute"
const commandTimeout = 500
/** For a machine that is busy with something else. */
const tolerance = 700

atOnce(RedisServer.layer())("when Redis does not answer", (it) => {
  /** A server of this test's own, which it may stop or kill; it goes on at the end in any case. */
  const victim = Effect.gen(function* () {
    const server = yield* RedisServer.RedisServer
    yield* server.flush
    yield* Effect.addFinalizer(() => (server.isRunning ? server.cont : server.restart))
    return server
  })
  const faults = {
    "is stopped": (server: RedisServer.RedisProcess) => server.stop,
    "is gone": (server: RedisServer.RedisProcess) => server.kill
  }

  for (const kind of ["own client", "user's client"] as const) {
    const start = (server: RedisServer.RedisProcess) =>
      Effect.gen(function* () {
        const stay = yield* Effect.acquireRelease(Scope.make(), (scope) =>
          Scope.close(scope, Exit.void)
        )
        if (kind === "own client") {
          return yield* storeOf(RedisLockStore.layer({ url: server.url, commandTimeout }))
        }
        const client = yield* connectedClient(server.port).pipe(Scope.extend(stay))
        return yield* storeOf(RedisLockStore.layerFromClient(client, { commandTimeout }))
      })

    for (const [name, fault] of Object.entries(faults)) {
      it.scoped(`the close of a scope ends in time, with a warning: Redis ${name} (${kind})`, () =>
        collectWarnings((warnings) =>
          Effect.gen(function* () {
            const server = yield* victim
            const { use } = yield* start(server)
            const scope = yield* Scope.make()
            yield* Lock.acquire("k", { ttl }).pipe(Scope.extend(scope), use)
            yield* fault(server)
            const { exit, millis } = yield* timed(Scope.close(scope, Exit.void))
            expect(exit).toEqual(Exit.void)
            expect(millis).toBeLessThan(commandTimeout + tolerance)
            expect(warnings).toHaveLength(1)
            expect(warnings[0]).toContain('release of lock "k"')
          })
        )
      )

      it.scoped(`release, verify and acquire fail in time: Redis ${name} (${kind})`, () =>
        quietly(
          Effect.gen(function* () {
            const server = yield* victim
            const { close, use } = yield* start(server)
            const lease = yield* Lock.acquire("k", { ttl }).pipe(use)
            yield* fault(server)
            const [verified, acquired, tried] = yield* Effect.all(
              [
                timed(lease.verify),
                timed(Effect.scoped(Lock.acquire("other", { ttl })).pipe(use)),
                timed(Lock.withLockIfAvailable("another")(Effect.void).pipe(use))
              ],
              { concurrency: "unbounded" }
            )
            const released = yield* timed(lease.release)
            for (const [{ exit, millis }, operation, key] of [
              [verified, "verify", "k"],
              [acquired, "acquire", "other"],
              [tried, "acquire", "another"],
              [released, "release", "k"]
            ] as const) {
              const error = failure<unknown>(exit)
              expect(error).toMatchObject({ _tag: "LockStoreError", operation, key })
              expect(String(error)).toContain(`${operation} of lock "${key}"`)
              expect(millis).toBeLessThan(commandTimeout + tolerance)
            }
            // asked again, it says the same at once
            const again = yield* timed(lease.release)
            expect(failure(again.exit)).toBe(failure(released.exit))
            expect(again.millis).toBeLessThan(100)
            // and the store lets go
            const closed = yield* timed(close)
            expect(closed.millis).toBeLessThan(commandTimeout + tolerance)
          })
        )
      )
    }
  }

  it.scoped("withLock has its body's result, with a warning, in time", () =>
    collectWarnings((warnings) =>
      Effect.gen(function* () {
        const server = yield* victim
        const { use } = yield* storeOf(RedisLockStore.layer({ url: server.url, commandTimeout }))
        const { exit, millis } = yield* timed(
          Lock.withLock("k", { ttl })(Effect.as(server.stop, "done")).pipe(use)
        )
        expect(exit).toEqual(Exit.succeed("done"))
        expect(millis).toBeLessThan(commandTimeout + tolerance)
        expect(warnings.join()).toContain('release of lock "k"')
      })
    )
  )

  it.scoped("a hundred leases are closed in the time of one", () =>
    quietly(
      Effect.gen(function* () {
        const errors = yield* unhandledErrors
        const server = yield* victim
        const { use } = yield* storeOf(RedisLockStore.layer({ url: server.url, commandTimeout }))
        const holders = yield* Effect.forEach(
          Array.from({ length: 100 }, (_, index) => `k-${index}`),
          (key) => Effect.fork(Lock.withLock(key, { ttl })(Effect.never).pipe(use))
        )
        yield* RedisServer.eventually(
          Effect.map(
            server.dump,
            (keys) => keys.filter((key) => key.startsWith("k-")).length === 100
          )
        )
        yield* server.stop
        const { millis } = yield* timed(Fiber.interruptAll(holders))
        expect(millis).toBeLessThan(commandTimeout + tolerance)
        // not even a warning of Node
        yield* Effect.sleep(20)
        expect(errors).toEqual([])
      })
    )
  )

  it.scoped("a release is bounded as a whole, also if it is tried again", () =>
    quietly(
      Effect.gen(function* () {
        const server = yield* victim
        const { use } = yield* storeOf(
          RedisLockStore.layer({ url: server.url, commandTimeout: 2_000 })
        )
        const lease = yield* Lock.acquire("k", { ttl }).pipe(use)
        // an answer that says: in a moment, perhaps. And then none.
        yield* server.command("REPLICAOF", "127.0.0.1", 1)
        const releasing = yield* Effect.fork(timed(lease.release))
        yield* Effect.sleep(1_600)
        yield* server.stop
        const { exit, millis } = yield* Fiber.join(releasing)
        yield* server.cont
        yield* server.command("REPLICAOF", "NO", "ONE")
        expect(failure(exit)).toMatchObject({ _tag: "LockStoreError", operation: "release" })
        expect(millis).toBeLessThan(2_000 + tolerance)
      })
    )
  )

  it.scoped("an interruption of the release does not make it longer, nor lose it", () =>
    quietly(
      Effect.gen(function* () {
        const server = yield* victim
        const { use } = yield* storeOf(RedisLockStore.layer({ url: server.url, commandTimeout }))
        const holding = yield* Effect.fork(Lock.withLock("k", { ttl })(server.stop).pipe(use))
        yield* Effect.sleep(100)
        const { millis } = yield* timed(Fiber.interrupt(holding))
        expect(millis).toBeLessThan(commandTimeout + tolerance)
        yield* server.cont
        // what was sent arrives
        yield* nothingLeft(server)
      })
    )
  )

  it.scoped("a lease outlives a release that was not confirmed by its ttl at most", () =>
    quietly(
      Effect.gen(function* () {
        const { proxy, server, use } = yield* environment({ commandTimeout: 200 })
        const lease = yield* Lock.acquire("k", { ttl: 600 }).pipe(use)
        proxy.blackHole({ drop: true })
        expect(yield* Effect.flip(lease.release)).toMatchObject({ _tag: "LockStoreError" })
        const { millis } = yield* timed(nothingLeft(server))
        expect(millis).toBeLessThan(600 + tolerance)
      })
    )
  )

  it.scoped("no error is left unhandled while it stops and starts", () =>
    quietly(
      Effect.gen(function* () {
        const errors = yield* unhandledErrors
        const server = yield* victim
        const proxy = yield* FaultProxy.make(server.port)
        const { close, use } = yield* storeOf(
          RedisLockStore.layer({ url: proxy.url, commandTimeout: 100 })
        )
        const lease = yield* Lock.acquire("k", { ttl: 300 }).pipe(use)
        proxy.refuse()
        proxy.cutAll()
        yield* Effect.exit(lease.awaitLost)
        yield* Effect.exit(lease.release)
        proxy.accept()
        yield* RedisServer.eventually(
          Effect.map(
            Effect.exit(Effect.scoped(Lock.acquire("k", { ttl: 1_000 })).pipe(use)),
            Exit.isSuccess
          )
        )
        yield* server.kill
        yield* Effect.exit(Effect.scoped(Lock.acquire("k", { ttl: 1_000 })).pipe(use))
        yield* close
        yield* Effect.exit(Effect.scoped(Lock.acquire("k", { ttl: 1_000 })).pipe(use))
        yield* Effect.sleep(50)
        expect(errors).toEqual([])
      })
    )
  )
})
