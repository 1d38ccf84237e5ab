/** Slow is not dead, and dead is found out: what a store's own connection does about either. */
import { expect } from "@effect/vitest"
import { atOnce } from "../support/atOnce.js"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Scope from "effect/Scope"
import { Lock, RedisLockStore } from "effect-redis-lock"
import * as LyingProxy from "../support/LyingProxy.js"
import { awaitQueued, caller, queuedCaller } from "../support/Queue.js"
import {
  collectWarnings,
  connectedClient,
  type Environment,
  environment,
  failure,
  FaultProxy,
  nothingLeft,
  quietly,
  RedisServer,
  storeOf,
  timed,
  touching,
  undisturbed
} from "./support.js"

const ttl = "1 minute"

atOnce(RedisServer.layer())("answers that become slow", (it) => {
  for (const [ttl, latency] of [
    [1_000, 200],
    [1_000, 300],
    [5_000, 900]
  ] as const) {
    it.scoped(`lose no lease of ${ttl} ms: ${latency} ms from one moment on`, () =>
      Effect.gen(function* () {
        const { proxy, use } = yield* environment()
        const lease = yield* Lock.acquire("k", { ttl }).pipe(use)
        proxy.link({ toClient: latency })
        const lost = yield* Effect.raceFirst(
          Effect.flip(lease.awaitLost),
          Effect.as(Effect.sleep(2.2 * ttl), undefined)
        )
        expect(lost).toBe(undefined)
        yield* lease.release
      })
    )
  }

  it.scoped("fail no waiter: it has its turn", () =>
    Effect.gen(function* () {
      const a = yield* environment()
      const proxy = yield* FaultProxy.make(a.server.port)
      const b = { server: a.server, ...(yield* storeOf(RedisLockStore.layer({ url: proxy.url }))) }
      const holder = yield* caller(a.use, "k", { ttl: 60_000 })
      yield* holder.lease
      const waiter = yield* queuedCaller(b, "k", 0, { ttl: 1_000 })
      proxy.link({ toClient: 400 })
      // several heartbeats, each of them slow
      yield* Effect.sleep(2_500)
      yield* holder.release
      yield* waiter.lease
    })
  )

  it.scoped("cost some connections at first, and then none", () =>
    Effect.gen(function* () {
      const { proxy, use } = yield* environment()
      yield* Lock.acquire("k", { ttl: 600 }).pipe(use)
      proxy.link({ toClient: 140 })
      yield* Effect.sleep(3_000)
      const made = proxy.opened
      expect(made).toBeLessThan(8)
      yield* Effect.sleep(3_000)
      expect(proxy.opened - made).toBeLessThan(3)
      expect(proxy.connections).toHaveLength(1)
    })
  )
})

atOnce(RedisServer.layer())("a connection that died idle", (it) => {
  it.scoped("is bridged within a command deadline, for any number of callers", () =>
    Effect.gen(function* () {
      const { proxy, server, use } = yield* environment()
      for (const callers of [1, 2, 50]) {
        yield* Lock.withLock("warm")(Effect.void).pipe(use)
        proxy.abandon()
        const { exit, millis } = yield* timed(
          Effect.forEach(
            Array.from({ length: callers }, (_, i) => i),
            (i) => Lock.withLock(`k${i}`, { ttl, waitAtMost: "10 seconds" })(Effect.void).pipe(use),
            { concurrency: "unbounded" }
          )
        )
        expect(Exit.isSuccess(exit)).toBe(true)
        expect(millis).toBeLessThan(2_000)
      }
      yield* nothingLeft(server)
    })
  )

  it.scoped("does not lose what was held", () =>
    Effect.gen(function* () {
      const { proxy, use } = yield* environment()
      const lease = yield* Lock.acquire("k", { ttl: 2_000 }).pipe(use)
      proxy.abandon()
      yield* Effect.raceFirst(lease.awaitLost, Effect.sleep(4_000))
      yield* lease.release
    })
  )

  it.scoped("answers late, and that harms nobody", () =>
    Effect.gen(function* () {
      const { proxy, server, use } = yield* environment()
      yield* Lock.withLock("warm")(Effect.void).pipe(use)
      const [old] = proxy.connections
      proxy.holdReplies({ where: ({ id }) => id === old!.id, afterClose: "deliver" })
      yield* Lock.withLock("k", { ttl })(Effect.void).pipe(use)
      proxy.releaseReplies()
      yield* nothingLeft(server)
    })
  )

  it.scoped("of a user's client is left alone, and the error says what to set", () =>
    Effect.gen(function* () {
      const server = yield* RedisServer.RedisServer
      const proxy = yield* FaultProxy.make(server.port)
      const client = yield* connectedClient(proxy.port)
      const { use } = yield* storeOf(
        RedisLockStore.layerFromClient(client, { commandTimeout: 300 })
      )
      yield* Lock.withLock("warm")(Effect.void).pipe(use)
      proxy.abandon()
      const exit = yield* Effect.exit(Lock.withLock("k", { ttl })(Effect.void).pipe(use))
      expect(String(failure(exit))).toContain("set socketTimeout in the client's options")
      expect(proxy.opened).toBe(1)
    })
  )
})

atOnce(RedisServer.layer())("an outage in which leases end", (it) => {
  it.scoped("is over one handshake after the server is back, on a slow network", () =>
    quietly(
      Effect.gen(function* () {
        const { proxy, use } = yield* environment({ commandTimeout: 500 })
        const scope = yield* Scope.make()
        yield* Effect.forEach(
          Array.from({ length: 20 }, (_, i) => i),
          (i) => Lock.acquire(`k${i}`, { ttl }).pipe(use, Scope.extend(scope)),
          { concurrency: "unbounded" }
        )
        proxy.link({ toClient: 150 })
        proxy.refuse()
        proxy.cutAll()
        yield* Scope.close(scope, Exit.void)
        yield* Effect.sleep(500)
        proxy.accept()
        // (in the longest pause: one second and a quarter, and the handshake)
        yield* Effect.sleep(2_500)
        const made = proxy.opened
        const { exit, millis } = yield* timed(Lock.withLock("again")(Effect.void).pipe(use))
        expect(Exit.isSuccess(exit)).toBe(true)
        expect(millis).toBeLessThan(480)
        // (one beside it, while it is not known how slow the network is)
        expect(proxy.opened - made).toBeLessThan(2)
      })
    )
  )

  it.scoped("leaves nothing to give back whose ttl is over", () =>
    quietly(
      Effect.gen(function* () {
        const { proxy, use } = yield* environment({ commandTimeout: 200 })
        const lease = yield* Lock.acquire("k", { ttl: 600 }).pipe(use)
        proxy.refuse()
        proxy.cutAll()
        yield* Effect.exit(lease.release)
        yield* Effect.sleep(1_500)
        proxy.forget()
        proxy.accept()
        yield* Effect.retry(Lock.withLock("next")(Effect.void).pipe(use), { times: 20 })
        expect(proxy.commands.filter(touching("k"))).toEqual([])
      })
    )
  )
})

atOnce(RedisServer.layer())("what closes together", (it) => {
  const commandTimeout = 500
  const leases = (count: number) => Array.from({ length: count }, (_, i) => `k${i}`)
  /** A scope that has them all. */
  const scopeOf = (keys: ReadonlyArray<string>, use: Environment["use"]) =>
    Effect.tap(Scope.make(), (scope) =>
      Effect.forEach(keys, (key) => Lock.acquire(key, { ttl }).pipe(use, Scope.extend(scope)), {
        concurrency: "unbounded"
      })
    )

  it.scoped("has one deadline, and one warning: the leases of a scope", () =>
    collectWarnings((warnings) =>
      Effect.gen(function* () {
        const { proxy, server, use } = yield* environment({ commandTimeout })
        const scope = yield* scopeOf(leases(40), use)
        proxy.blackHole()
        const { millis } = yield* timed(Scope.close(scope, Exit.void))
        expect(millis).toBeLessThan(2 * commandTimeout)
        expect(warnings).toHaveLength(1)
        proxy.heal()
        // in the background
        yield* nothingLeft(server)
      })
    )
  )

  it.scoped("has one deadline on a network that is slow, too", () =>
    quietly(
      Effect.gen(function* () {
        const { proxy, server, use } = yield* environment({ commandTimeout })
        const scope = yield* scopeOf(leases(40), use)
        // answered each, but forty times
        proxy.link({ toClient: 100 })
        const { millis } = yield* timed(Scope.close(scope, Exit.void))
        expect(millis).toBeLessThan(2 * commandTimeout)
        yield* nothingLeft(server)
      })
    )
  )

  it.scoped("has one deadline: the ends of nested locks", () =>
    collectWarnings((warnings) =>
      Effect.gen(function* () {
        const { proxy, server, use } = yield* environment({ commandTimeout })
        const body = Effect.sync(() => proxy.blackHole())
        const nest = leases(20).reduce<Effect.Effect<void, unknown>>(
          (inner, key) =>
            Lock.withLock(key, { ttl })(Effect.zipRight(Effect.yieldNow(), inner)).pipe(use),
          body
        )
        const { exit, millis } = yield* timed(nest)
        expect(Exit.isSuccess(exit)).toBe(true)
        expect(millis).toBeLessThan(2 * commandTimeout + 300)
        expect(warnings).toHaveLength(1)
        proxy.heal()
        yield* nothingLeft(server)
      })
    )
  )

  it.scoped("and what closes later has its own", () =>
    quietly(
      Effect.gen(function* () {
        const { proxy, use } = yield* environment({ commandTimeout })
        const first = yield* Lock.acquire("k1", { ttl }).pipe(use)
        const second = yield* Lock.acquire("k2", { ttl }).pipe(use)
        proxy.link({ toClient: 100 })
        yield* first.release
        yield* Effect.sleep(200)
        yield* second.verify
        // one answer was between them
        const { exit } = yield* timed(second.release)
        expect(Exit.isSuccess(exit)).toBe(true)
      })
    )
  )

  for (const how of ["quit", "disconnect"] as const) {
    it.scoped(`does not wait for a client that has ended: ${how}`, () =>
      undisturbed(
        100,
        collectWarnings((warnings) =>
          Effect.gen(function* () {
            const server = yield* RedisServer.RedisServer
            const client = yield* connectedClient(server.port)
            const { use } = yield* storeOf(RedisLockStore.layerFromClient(client))
            const scope = yield* Scope.make()
            yield* Effect.forEach(leases(10), (key) =>
              Lock.acquire(`${how}-${key}`, { ttl }).pipe(use, Scope.extend(scope))
            )
            if (how === "quit") yield* Effect.promise(() => client.quit())
            else client.disconnect()
            yield* RedisServer.eventually(Effect.sync(() => client.status === "end"))
            const { millis } = yield* timed(Scope.close(scope, Exit.void))
            expect(millis).toBeLessThan(300)
            expect(warnings).toHaveLength(1)
            yield* server.flush
          })
        )
      )
    )
  }
})

atOnce(RedisServer.layer())("a release that is late", (it) => {
  it.scoped("behind work that ended in its time is not confirmed, and no loss", () =>
    collectWarnings((warnings) =>
      Effect.gen(function* () {
        const { proxy, server, use } = yield* environment()
        const done = yield* Lock.withLock("k", { ttl: 400 })(
          Effect.sync(() => {
            // it comes to the server when the ttl is over
            proxy.holdRequests()
            return "done"
          })
        ).pipe(
          use,
          Effect.raceFirst(
            Effect.zipRight(
              proxy.heldRequests,
              Effect.zipRight(
                RedisServer.eventually(Effect.map(server.command("EXISTS", "k"), (n) => n === 0)),
                Effect.zipRight(
                  Effect.sync(() => proxy.releaseRequests()),
                  Effect.never
                )
              )
            )
          )
        )
        expect(done).toBe("done")
        expect(warnings).toHaveLength(1)
        expect(warnings[0]).toContain("it is not confirmed")
      })
    )
  )
})

atOnce(RedisServer.layer())("what is refused for good", (it) => {
  it.scoped("is not tried again: the layer closes at once", () =>
    quietly(
      Effect.gen(function* () {
        const { close, server, use } = yield* environment()
        yield* server.command("LPUSH", "k", "x")
        yield* Effect.exit(Lock.withLock("k")(Effect.void).pipe(use))
        const { millis } = yield* timed(close)
        expect(millis).toBeLessThan(500)
        yield* server.flush
      })
    )
  )

  it.scoped("INFO that was renamed away: the error names the option", () =>
    quietly(
      Effect.gen(function* () {
        const server = yield* RedisServer.RedisServer
        const proxy = yield* LyingProxy.make(server.port)
        proxy.lie(([name]) =>
          /^info$/i.test(name!)
            ? "-ERR unknown command 'info', with args beginning with:\r\n"
            : undefined
        )
        const { use } = yield* storeOf(
          RedisLockStore.layer({ url: proxy.url, commandTimeout: 300 })
        )
        const exit = yield* Effect.exit(Lock.withLock("k")(Effect.void).pipe(use))
        expect(String(failure(exit))).toContain("enableReadyCheck: false")
        const other = yield* storeOf(
          RedisLockStore.layer({ url: proxy.url, redis: { enableReadyCheck: false } })
        )
        yield* Lock.withLock("k")(Effect.void).pipe(other.use)
      })
    )
  )
})

atOnce(RedisServer.layer())("a subscriber that is refused", (it) => {
  it.scoped("costs few connections, one warning, and is back when it can be", () =>
    collectWarnings((warnings) =>
      Effect.gen(function* () {
        const a = yield* environment({ localHandoff: 0 })
        const proxy = yield* FaultProxy.make(a.server.port)
        const b = {
          server: a.server,
          ...(yield* storeOf(RedisLockStore.layer({ url: proxy.url, localHandoff: 0 })))
        }
        yield* Lock.withLock("warm")(Effect.void).pipe(b.use)
        const before = proxy.opened
        yield* a.server.command("ACL", "SETUSER", "default", "-subscribe")
        yield* Effect.addFinalizer(() =>
          a.server.command("ACL", "SETUSER", "default", "+subscribe")
        )
        const holder = yield* caller(a.use, "k", { ttl: 60_000 })
        yield* holder.lease
        const waiting = yield* Effect.fork(Lock.withLock("k")(Effect.succeed("in")).pipe(b.use))
        yield* awaitQueued(a.server, "k", 1)
        yield* Effect.sleep(3_000)
        expect(proxy.opened - before).toBeLessThan(9)
        expect(warnings).toHaveLength(1)
        expect(warnings[0]).toContain("+subscribe")
        yield* holder.release
        expect(yield* Effect.timeout(Fiber.join(waiting), "2 seconds")).toBe("in")
        yield* a.server.command("ACL", "SETUSER", "default", "+subscribe")
        const again = yield* caller(a.use, "k", { ttl: 60_000 })
        yield* again.lease
        const next = yield* Effect.fork(Lock.withLock("k")(Effect.succeed("in")).pipe(b.use))
        yield* proxy.until(() => proxy.connections.some(({ subscriber }) => subscriber))
        yield* again.release
        expect(yield* Fiber.join(next)).toBe("in")
        expect(warnings).toHaveLength(1)
      })
    )
  )
})
