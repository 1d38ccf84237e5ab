/** Rule 2: commands that are sent twice have the effect of one. */
import { expect } from "@effect/vitest"
import { atOnce } from "../support/atOnce.js"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import { Lock, RedisLockStore } from "effect-redis-lock"
import {
  connectedClient,
  environment,
  failures,
  FaultProxy,
  leftovers,
  nothingLeft,
  RedisServer,
  replies,
  sent,
  storeOf,
  timed,
  touching
} from "./support.js"

const ttl = "1 minute"

atOnce(RedisServer.layer())("commands that are sent twice", (it) => {
  for (const kind of ["own client", "user's client"] as const) {
    const start = Effect.gen(function* () {
      const { proxy, server, use } = yield* environment()
      if (kind === "own client") return { proxy, server, use }
      const client = yield* connectedClient(proxy.port)
      const { use: useClient } = yield* storeOf(RedisLockStore.layerFromClient(client))
      return { proxy, server, use: useClient }
    })

    for (const warm of [false, true]) {
      it.scoped(
        `an acquire whose reply was lost has the lock, and its fencing token (${kind}, ${warm ? "EVALSHA" : "EVAL"})`,
        () =>
          Effect.gen(function* () {
            const { proxy, server, use } = yield* start
            if (warm) yield* Effect.scoped(Lock.acquire("k", { ttl })).pipe(use)
            proxy.forget()
            const lost = proxy.resetAfterApply(touching("k"))
            const { exit, millis } = yield* timed(Lock.acquire("k", { ttl }).pipe(use))
            yield* lost.fired
            if (Exit.isFailure(exit)) throw new Error(String(exit))
            // promptly: neither after the ttl, nor after a wait for "another" holder
            expect(millis).toBeLessThan(1_000)
            const lease = exit.value
            expect(yield* server.command("GET", "k")).toBe(lease.token)
            // what the lost reply said
            const [first] = replies(proxy, "k")
            expect(String(first)).toBe(String(lease.fencingToken))
            yield* lease.verify
            yield* lease.release
            expect(yield* leftovers(server)).toEqual([])
          })
      )
    }

    it.scoped(`an acquire that never reached the server has the lock (${kind})`, () =>
      Effect.gen(function* () {
        const { proxy, server, use } = yield* start
        const lost = proxy.resetBeforeApply(touching("k"))
        const { exit, millis } = yield* timed(Lock.tryAcquire("k", { ttl }).pipe(use))
        yield* lost.fired
        expect(failures(exit)).toEqual([])
        expect(millis).toBeLessThan(1_000)
        expect(yield* leftovers(server)).toEqual(["k"])
      })
    )

    it.scoped(`a release whose reply was lost is not a loss (${kind})`, () =>
      Effect.gen(function* () {
        const { proxy, server, use } = yield* start
        const lease = yield* Lock.acquire("k", { ttl }).pipe(use)
        const lost = proxy.resetAfterApply(touching("k"))
        const { exit, millis } = yield* timed(lease.release)
        yield* lost.fired
        expect(failures(exit)).toEqual([])
        expect(millis).toBeLessThan(1_000)
        expect(yield* leftovers(server)).toEqual([])
      })
    )

    it.scoped(`a withLock whose release's reply was lost has the body's result (${kind})`, () =>
      Effect.gen(function* () {
        const { proxy, use } = yield* start
        const trap = { fired: Effect.void as Effect.Effect<unknown> }
        const result = yield* Lock.withLock("k", { ttl })(
          Effect.sync(() => {
            trap.fired = proxy.resetAfterApply(touching("k")).fired
            return 42
          })
        ).pipe(use)
        yield* trap.fired
        expect(result).toBe(42)
      })
    )

    it.scoped(`a release sent again finds the successor, and leaves it alone (${kind})`, () =>
      Effect.gen(function* () {
        const { proxy, server, use } = yield* start
        const lease = yield* Lock.acquire("k", { ttl }).pipe(use)
        const lost = proxy.resetAfterApply(touching("k"))
        proxy.refuse()
        const releasing = yield* Effect.fork(lease.release)
        yield* lost.fired
        expect(yield* server.command("SET", "k", "successor", "NX", "PX", 60_000)).toBe("OK")
        proxy.accept()
        yield* Fiber.join(releasing)
        expect(yield* server.command("GET", "k")).toBe("successor")
        // and was never given a shorter or a longer life
        expect(Number(yield* server.command("PTTL", "k"))).toBeLessThanOrEqual(60_000)
        expect(Number(yield* server.command("PTTL", "k"))).toBeGreaterThan(50_000)
      })
    )

    it.scoped(`a renewal whose reply was lost is one: the lease is held on (${kind})`, () =>
      Effect.gen(function* () {
        const { proxy, server, use } = yield* start
        const lease = yield* Lock.acquire("k", { ttl: 2_000, renewEvery: 300 }).pipe(use)
        const lost = proxy.resetAfterApply(touching("k"))
        yield* lost.fired
        const before = sent(proxy, "k")
        // the one that is sent again, and the next
        yield* proxy.until(() => sent(proxy, "k") >= before + 2)
        expect(yield* lease.isHeld).toBe(true)
        expect(Duration.toMillis(yield* lease.remaining)).toBeGreaterThan(1_000)
        yield* lease.verify
        yield* lease.release
        expect(yield* leftovers(server)).toEqual([])
      })
    )
  }

  it.scoped("releases that travelled together, and whose reply was lost, are no loss", () =>
    Effect.gen(function* () {
      const { proxy, server } = yield* environment()
      const client = yield* connectedClient(proxy.port)
      const { use } = yield* storeOf(RedisLockStore.layerFromClient(client))
      const both = Effect.all([Lock.acquire("a", { ttl }), Lock.acquire("b", { ttl })], {
        concurrency: "unbounded"
      })
      const together = () =>
        proxy.commands.some((command) => touching("a")(command) && touching("b")(command))
      // (until it is seen that locks can travel together)
      yield* Effect.scoped(both).pipe(use, Effect.repeat({ until: together }))
      const leases = yield* both.pipe(use)
      const lost = proxy.resetAfterApply(touching("a"))
      const exits = yield* Effect.all(
        leases.map(({ release }) => Effect.exit(release)),
        { concurrency: "unbounded" }
      )
      // ioredis sends the batch again by itself, which finds nothing to give back
      expect((yield* lost.fired).filter((arg) => arg === "a" || arg === "b")).toEqual(["a", "b"])
      expect(exits.flatMap(failures)).toEqual([])
      expect(yield* leftovers(server)).toEqual([])
    })
  )

  it.scoped("an acquire sent again after its key was taken by another does not have the lock", () =>
    Effect.gen(function* () {
      const { proxy, server, use } = yield* environment()
      const lost = proxy.resetAfterApply(touching("k"))
      proxy.holdRequests({ where: () => false })
      yield* Effect.scoped(Lock.acquire("other", { ttl })).pipe(use)
      proxy.refuse()
      const fiber = yield* Effect.fork(Effect.exit(Lock.tryAcquire("k", { ttl }).pipe(use)))
      yield* lost.fired
      yield* server.command("SET", "k", "thief", "PX", 60_000)
      proxy.accept()
      const exit = yield* Fiber.join(fiber)
      expect(failures(exit)).toMatchObject([{ _tag: "LockUnavailable", holder: { foreign: true } }])
      expect(yield* server.command("GET", "k")).toBe("thief")
    })
  )

  it.scoped(
    "a release that finds another's token, not sent twice, says that the lock was lost",
    () =>
      Effect.gen(function* () {
        const { proxy, server, use } = yield* environment()
        const lease = yield* Lock.acquire("k", { ttl }).pipe(use)
        // a reconnection before the release must not hide a theft
        proxy.cutAll()
        yield* lease.verify
        yield* server.command("SET", "k", "thief", "PX", 60_000)
        const { exit } = yield* timed(lease.release)
        expect(failures(exit)).toMatchObject([{ _tag: "LockLost", reason: "Taken" }])
        expect(yield* server.command("GET", "k")).toBe("thief")
      })
  )

  it.scoped(
    "hundreds of locks over a connection that is cut again and again: one holder each",
    () =>
      Effect.gen(function* () {
        const { server } = yield* environment()
        const proxy = yield* FaultProxy.make(server.port)
        const { close, use } = yield* storeOf(
          RedisLockStore.layer({ url: proxy.url, commandTimeout: "10 seconds" })
        )
        const holders = new Map<string, number>()
        let overlaps = 0
        const cycle = (key: string) =>
          Effect.acquireUseRelease(
            Effect.sync(() => {
              const inside = (holders.get(key) ?? 0) + 1
              holders.set(key, inside)
              if (inside > 1) overlaps++
            }),
            () => Effect.yieldNow(),
            () => Effect.sync(() => holders.set(key, holders.get(key)! - 1))
          ).pipe(Lock.withLock(key, { ttl }), use)
        const cutter = yield* Effect.fork(
          Effect.gen(function* () {
            for (let i = 0; i < 12; i++) {
              yield* proxy.resetAfterApply((args) => /^eval/i.test(args[0]!), 1).fired
              yield* Effect.sleep(20)
            }
          })
        )
        yield* Effect.forEach(
          Array.from({ length: 16 }, (_, index) => index),
          (index) =>
            Effect.gen(function* () {
              while (cutter.unsafePoll() === null) yield* cycle(`key-${index % 16}`)
            }),
          { concurrency: "unbounded", discard: true }
        )
        yield* Fiber.join(cutter)
        expect(overlaps).toBe(0)
        yield* nothingLeft(server)
        yield* close
      })
  )
})
