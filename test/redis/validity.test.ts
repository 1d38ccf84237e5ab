/** Rules 4 and 7: validity is proven, from before the command was sent, and by no wall clock. */
import { expect, layer } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import { Lock } from "effect-redis-lock"
import { vi } from "vitest"
import {
  answered,
  environment,
  failure,
  foreign,
  leftovers,
  pttl,
  quietly,
  RedisServer,
  sent,
  serverMicros,
  timed,
  touching
} from "./support.js"

/** 1 % of the ttl and 2 ms, as documented. */
const drift = (ttl: number) => ttl * 0.01 + 2

layer(RedisServer.layer(), { excludeTestServices: true })("validity", (it) => {
  for (const way of ["toServer", "toClient"] as const) {
    it.scoped(`counts from before the acquire was sent (${way} takes 300 ms)`, () =>
      Effect.gen(function* () {
        const { proxy, server, use } = yield* environment()
        yield* Effect.scoped(Lock.acquire("k")).pipe(use)
        proxy.delay({ [way]: 300 })
        const lease = yield* Lock.acquire("k", { ttl: 3_000, renewEvery: 2_900 }).pipe(use)
        const remaining = Duration.toMillis(yield* lease.remaining)
        expect(remaining).toBeLessThanOrEqual(3_000 - 300 - drift(3_000))
        expect(remaining).toBeGreaterThan(1_500)
        // what is proven here is never more than what the server will keep
        const left = yield* pttl(server, "k")
        expect(Duration.toMillis(yield* lease.remaining)).toBeLessThanOrEqual(left)
      })
    )

    it.scoped(`counts from before a renewal was sent (${way} takes 300 ms)`, () =>
      Effect.gen(function* () {
        const { proxy, server, use } = yield* environment()
        const lease = yield* Lock.acquire("k", { ttl: 3_000, renewEvery: 200 }).pipe(use)
        proxy.forget()
        proxy.delay({ [way]: 300 })
        yield* proxy.until(() => answered(proxy, "k") >= 1)
        for (let i = 0; i < 60; i++) {
          const remaining = Duration.toMillis(yield* lease.remaining)
          const left = yield* pttl(server, "k")
          // the server counts from when it applied the command, we from before it was sent
          expect(remaining).toBeLessThanOrEqual(left + (way === "toServer" ? -300 + 5 : 0) + 50)
          expect(remaining).toBeLessThanOrEqual(3_000 - 300 - drift(3_000) + 300)
          yield* Effect.sleep(10)
        }
        expect(yield* lease.isHeld).toBe(true)
      })
    )
  }

  it.scoped("never says more than the server does, at any moment of a lease", () =>
    Effect.gen(function* () {
      const { proxy, server, use } = yield* environment()
      proxy.delay({ toClient: 20 })
      const lease = yield* Lock.acquire("k", { ttl: 400 }).pipe(use)
      for (let i = 0; i < 150; i++) {
        // asked first here, then there: what passes in between only helps the first
        const left = yield* pttl(server, "k")
        const remaining = Duration.toMillis(yield* lease.remaining)
        // a renewal's answer can come between the two
        if (remaining > left) {
          expect(remaining).toBeLessThanOrEqual(yield* pttl(server, "k"))
        }
        yield* Effect.sleep(5)
      }
      expect(yield* lease.isHeld).toBe(true)
    })
  )

  it.scoped("an acquire answered after its own validity has failed, and is given back", () =>
    Effect.gen(function* () {
      const { proxy, server, use } = yield* environment()
      yield* Effect.scoped(Lock.acquire("k")).pipe(use)
      proxy.forget()
      proxy.holdRequests()
      const acquiring = yield* Effect.fork(
        Effect.exit(Effect.scoped(Lock.acquire("k", { ttl: 1_000 })).pipe(use))
      )
      yield* proxy.awaitCommand(touching("k"))
      yield* Effect.sleep(1_050)
      // applied now: on the server it has a whole ttl before it
      const appliedAt = performance.now()
      proxy.releaseRequests()
      const error = failure(yield* Fiber.join(acquiring))
      expect(error).toMatchObject({ _tag: "LockStoreError", operation: "acquire", key: "k" })
      yield* proxy.until(() => answered(proxy, "k") >= 2)
      expect(yield* leftovers(server)).toEqual([])
      // gone before it could expire
      expect(performance.now() - appliedAt).toBeLessThan(1_000)
    })
  )

  it.scoped("says how long Redis took when the answer came too late for a short ttl", () =>
    Effect.gen(function* () {
      const { proxy, use } = yield* environment({ commandTimeout: 5_000 })
      yield* Effect.scoped(Lock.acquire("k")).pipe(use)
      proxy.delay({ toClient: 150 })
      const { exit } = yield* timed(Effect.scoped(Lock.acquire("k", { ttl: 100 })).pipe(use))
      const error = failure(exit)
      expect(error).toMatchObject({ _tag: "LockStoreError", operation: "acquire" })
      // it did answer within five seconds: the ttl was too short
      expect(error.message).not.toContain("within 5000 ms")
    })
  )

  it.scoped("a renewal answered after the lease was given up does not bring it back", () =>
    quietly(
      Effect.gen(function* () {
        const { proxy, use } = yield* environment()
        const lease = yield* Lock.acquire("k", { ttl: 400 }).pipe(use)
        proxy.holdReplies()
        expect(yield* Effect.flip(lease.awaitLost)).toMatchObject({ reason: "Unreachable" })
        proxy.releaseReplies()
        yield* proxy.until(() => answered(proxy, "k") >= 2)
        yield* Effect.sleep(500)
        expect(yield* lease.isHeld).toBe(false)
        expect(Duration.toMillis(yield* lease.remaining)).toBe(0)
        expect(yield* Effect.flip(lease.guard(Effect.void))).toMatchObject({
          reason: "Unreachable"
        })
      })
    )
  )
})

layer(RedisServer.layer(), { excludeTestServices: true })("the wall clock of a client", (it) => {
  const clock = Effect.acquireRelease(
    Effect.sync(() => {
      vi.useFakeTimers({ toFake: ["Date"] })
      return (offset: number) =>
        vi.setSystemTime(performance.timeOrigin + performance.now() + offset)
    }),
    () => Effect.sync(() => vi.useRealTimers())
  )
  const hour = 3_600_000

  for (const [direction, offset] of [
    ["ahead", 1_000 * hour],
    ["behind", -1_000 * hour]
  ] as const) {
    it.scoped(`moved ${direction} while a lease is held, changes nothing`, () =>
      Effect.gen(function* () {
        const { proxy, server, use } = yield* environment()
        const set = yield* clock
        const lease = yield* Lock.acquire("k", { ttl: 600 }).pipe(use)
        const before = Duration.toMillis(yield* lease.remaining)
        set(offset)
        const after = Duration.toMillis(yield* lease.remaining)
        expect(yield* lease.isHeld).toBe(true)
        expect(after).toBeLessThanOrEqual(before)
        expect(after).toBeGreaterThan(0)
        proxy.forget()
        yield* proxy.until(() => answered(proxy, "k") >= 2)
        const left = yield* pttl(server, "k")
        expect(left).toBeGreaterThan(0)
        expect(left).toBeLessThanOrEqual(600)
        expect(yield* lease.isHeld).toBe(true)
        expect(yield* lease.guard(Effect.succeed("still"))).toBe("still")
        yield* lease.release
      })
    )

    it.scoped(`${direction} of the server's, neither breaks in nor blocks`, () =>
      Effect.gen(function* () {
        const { server, use } = yield* environment()
        const set = yield* clock
        yield* foreign(server).lock("k", "go-1", 30_000)
        set(offset)
        const error = yield* Effect.flip(Effect.scoped(Lock.tryAcquire("k")).pipe(use))
        expect(error).toMatchObject({ _tag: "LockUnavailable" })
        yield* server.command("DEL", "k")
        const lease = yield* Lock.acquire("k", { ttl: 30_000 }).pipe(use)
        const left = yield* pttl(server, "k")
        expect(left).toBeGreaterThan(25_000)
        expect(left).toBeLessThanOrEqual(30_000)
        // the fencing token is by the server's clock
        const now = yield* serverMicros(server)
        expect(Math.abs(now - lease.fencingToken)).toBeLessThan(60_000_000)
        const held = yield* Effect.flip(Effect.scoped(Lock.tryAcquire("k")).pipe(use))
        if (held._tag !== "LockUnavailable") throw held
        expect(Duration.toMillis(held.holder.heldFor!)).toBeLessThan(10_000)
      })
    )
  }

  it.scoped("never comes to the server: no argument is a time of this client", () =>
    Effect.gen(function* () {
      const { proxy, use } = yield* environment()
      const set = yield* clock
      set(7 * hour)
      yield* Effect.flatMap(Lock.acquire("k", { ttl: 30_000 }), (lease) => lease.verify).pipe(
        Effect.scoped,
        use
      )
      expect(sent(proxy, "k")).toBe(3)
      const day = String(Date.now()).slice(0, 5)
      for (const args of proxy.commands.filter(touching("k"))) {
        for (const arg of args.slice(2)) expect(arg).not.toMatch(new RegExp(`^${day}\\d{5,}`))
      }
    })
  )
})
