/** Rule 5, and what a lock of a Go program does by itself: a default ttl, renewals, an end to them. */
import { expect } from "@effect/vitest"
import { atOnce } from "../support/atOnce.js"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import { Lock, RedisLockStore } from "effect-redis-lock"
import {
  answered,
  collectWarnings,
  connectedClient,
  environment,
  failure,
  FaultProxy,
  leftovers,
  nothingLeft,
  pttl,
  quietly,
  RedisServer,
  sent,
  storeOf,
  timed,
  touching,
  undisturbed
} from "./support.js"

atOnce(RedisServer.layer())("a lock renews itself", (it) => {
  it.scoped("its default ttl is five seconds, on the server too", () =>
    Effect.gen(function* () {
      const { server, use } = yield* environment()
      const lease = yield* Lock.acquire("k").pipe(use)
      const left = yield* pttl(server, "k")
      expect(left).toBeLessThanOrEqual(5_000)
      expect(left).toBeGreaterThan(4_000)
      const remaining = Duration.toMillis(yield* lease.remaining)
      expect(remaining).toBeLessThanOrEqual(5_000 - 52)
      expect(remaining).toBeGreaterThan(4_000)
    })
  )

  it.scoped("by default every half ttl: its ttl on the server never falls below that", () =>
    Effect.gen(function* () {
      const { server, use } = yield* environment()
      const monitor = yield* server.monitor
      yield* Lock.acquire("k", { ttl: 600 }).pipe(use)
      const renewals = Effect.map(monitor.commands, (commands) =>
        commands.filter(
          ({ args, from }) => from !== "lua" && touching("k")(args as ReadonlyArray<string>)
        )
      )
      yield* RedisServer.eventually(Effect.map(renewals, (list) => list.length >= 6))
      const times = (yield* renewals).map(({ time }) => time * 1_000)
      const gaps = times.slice(1).map((time, index) => time - times[index]!)
      // timers may be a few milliseconds early; how late one is, and how much closer the next one then
      // comes, is the machine's affair
      for (const gap of gaps) {
        expect(gap).toBeGreaterThan(150)
        expect(gap).toBeLessThan(600)
      }
      expect(times.at(-1)! - times[0]!).toBeGreaterThan(gaps.length * (300 - 15))
      expect(Math.min(...gaps)).toBeLessThan(300 + 60)
      expect(yield* pttl(server, "k")).toBeGreaterThan(0)
    })
  )

  it.scoped("a renewal gives the whole ttl again, and validity follows", () =>
    Effect.gen(function* () {
      const { proxy, server, use } = yield* environment()
      const lease = yield* Lock.acquire("k", { ttl: 10_000, renewEvery: 150 }).pipe(use)
      for (let i = 0; i < 3; i++) {
        yield* server.command("PEXPIRE", "k", 5_000)
        proxy.forget()
        yield* proxy.until(() => answered(proxy, "k") >= 1)
        expect(yield* pttl(server, "k")).toBeGreaterThan(9_000)
        yield* Effect.sleep(5)
        expect(Duration.toMillis(yield* lease.remaining)).toBeGreaterThan(9_000)
      }
    })
  )

  it.scoped("for many times its ttl, and nobody else gets it", () =>
    undisturbed(
      200,
      Effect.gen(function* () {
        const { server, use } = yield* environment()
        const lease = yield* Lock.acquire("k", { ttl: 1_500 }).pipe(use)
        const until = performance.now() + 5_000
        let turnedAt = performance.now()
        let stall = 0
        while (performance.now() < until) {
          const stolen = yield* server.command("SET", "k", "thief", "NX", "PX", 1_000)
          stall = Math.max(stall, performance.now() - turnedAt)
          turnedAt = performance.now()
          expect({ stolen, held: yield* lease.isHeld, stall }).toMatchObject({
            stolen: null,
            held: true
          })
          yield* Effect.sleep(10)
        }
        yield* lease.release
      })
    )
  )

  for (const end of ["release", "the scope's end", "withLock's end"] as const) {
    it.scoped(`renewals stop at ${end}: nothing more is sent`, () =>
      Effect.gen(function* () {
        const { proxy, server, use } = yield* environment()
        const options = { ttl: 5_000, renewEvery: 20 }
        const someRenewals = proxy.until(() => answered(proxy, "k") >= 4)
        if (end === "withLock's end") {
          yield* Lock.withLock("k", options)(someRenewals).pipe(use)
        } else {
          yield* Effect.scoped(
            Effect.gen(function* () {
              const lease = yield* Lock.acquire("k", options)
              yield* someRenewals
              if (end === "release") {
                yield* lease.release
                const after = sent(proxy, "k")
                yield* Effect.sleep(150)
                expect(sent(proxy, "k")).toBe(after)
              }
            })
          ).pipe(use)
        }
        expect(yield* leftovers(server)).toEqual([])
        const after = sent(proxy, "k")
        yield* Effect.sleep(150)
        expect(sent(proxy, "k")).toBe(after)
        expect(yield* leftovers(server)).toEqual([])
      })
    )
  }

  it.scoped("tryAcquire says at once whether it got the lock, and when to ask again", () =>
    Effect.gen(function* () {
      const { server, use } = yield* environment({ owner: "billing@host-1" })
      yield* Effect.scoped(
        Effect.gen(function* () {
          yield* Lock.tryAcquire("k", { ttl: 10_000 })
          const { exit, millis } = yield* timed(Effect.scoped(Lock.tryAcquire("k")))
          const error = failure(exit)
          expect(error).toMatchObject({
            _tag: "LockUnavailable",
            key: "k",
            holder: { owner: "billing@host-1", foreign: false }
          })
          if (error._tag !== "LockUnavailable") throw error
          const retryAfter = Duration.toMillis(error.retryAfter!)
          expect(retryAfter).toBeGreaterThan(8_000)
          expect(retryAfter).toBeLessThanOrEqual(10_000)
          expect(error.message).toContain("billing@host-1")
          expect(millis).toBeLessThan(500)
          expect(yield* Lock.withLockIfAvailable("k")(Effect.void)).toEqual(Option.none())
        })
      ).pipe(use)
      expect(yield* Lock.withLockIfAvailable("k")(Effect.succeed(1)).pipe(use)).toEqual(
        Option.some(1)
      )
      expect(yield* leftovers(server)).toEqual([])
    })
  )

  it.scoped("an acquire waits for the holder, and waitAtMost ends the wait, not the work", () =>
    Effect.gen(function* () {
      const { server, use } = yield* environment()
      const holder = yield* Effect.fork(Lock.withLock("k", { ttl: 300 })(Effect.never).pipe(use))
      yield* RedisServer.eventually(Effect.map(leftovers(server), (keys) => keys.includes("k")))
      const { exit, millis } = yield* timed(
        Lock.withLock("k", { waitAtMost: 200 })(Effect.void).pipe(use)
      )
      const error = failure(exit)
      expect(error._tag).toBe("LockUnavailable")
      expect(millis).toBeGreaterThan(180)
      expect(millis).toBeLessThan(1_000)
      if (error._tag !== "LockUnavailable") throw error
      expect(Duration.toMillis(error.waited)).toBeGreaterThan(150)
      const waiting = yield* Effect.fork(
        Lock.withLock("k", { waitAtMost: 3_000, ttl: 10_000 })(
          Effect.as(Effect.sleep(50), "worked")
        ).pipe(use)
      )
      yield* Effect.sleep(30)
      yield* Fiber.interrupt(holder)
      expect(yield* Fiber.join(waiting)).toBe("worked")
    })
  )
})

atOnce(RedisServer.layer())("a server that refuses renewals", (it) => {
  for (const [answer, rules] of [
    [/NOPERM/, ["-evalsha", "-eval"]],
    // (in a script: up to Redis 7.0, and after it)
    [/can't run this command|ACL failure in script: .*'pexpire'/, ["-pexpire"]]
  ] as const) {
    it.scoped(
      `with "${answer.source}" (${rules.join(" ")}): the loss says so, and not that it did not answer`,
      () =>
        collectWarnings((warnings) =>
          Effect.gen(function* () {
            const { server, use } = yield* environment()
            const error = yield* Effect.flip(
              Lock.withLock("k", { ttl: 1_000, renewEvery: 100 })(() =>
                Effect.zipRight(
                  Effect.acquireRelease(server.command("ACL", "SETUSER", "default", ...rules), () =>
                    server.command("ACL", "SETUSER", "default", "+@all")
                  ),
                  Effect.never
                )
              ).pipe(use)
            )
            expect(error).toMatchObject({
              _tag: "LockLost",
              reason: "Unreachable",
              cause: { _tag: "LockStoreError", operation: "renew", transient: false }
            })
            expect(error.message).toMatch(answer)
            expect(error.message).toContain("The ACL gives")
            expect(error.message).not.toContain("did not answer")
            expect(warnings[0]).toBe(error.message)
          })
        )
    )
  }
})

atOnce(RedisServer.layer())("a blip harms nothing", (it) => {
  /** Holds a lock of one second through a disturbance; says how the body ended. */
  const through = (
    disturb: (env: {
      readonly proxy: FaultProxy.FaultProxy
      readonly server: RedisServer.RedisProcess
    }) => Effect.Effect<void>,
    options: Lock.Options & { readonly store?: RedisLockStore.Options } = {}
  ) =>
    undisturbed(
      // (a new connection has 60 ms, in one of the tests, to be made and answer)
      25,
      collectWarnings((warnings) =>
        Effect.gen(function* () {
          const { proxy, server, use } = yield* environment(options.store)
          const result = yield* Lock.withLock("k", { ttl: 1_000, ...options })((lease) =>
            Effect.gen(function* () {
              yield* disturb({ proxy, server })
              // a renewal that began after the disturbance
              proxy.forget()
              yield* proxy.until(() => answered(proxy, "k") >= 2)
              yield* lease.verify
              return "done"
            })
          ).pipe(use)
          expect(result).toBe("done")
          expect(yield* leftovers(server)).toEqual([])
          expect(warnings).toEqual([])
        })
      )
    )

  it.scoped("connections cut again and again", () =>
    through(({ proxy }) =>
      Effect.gen(function* () {
        for (let i = 0; i < 15; i++) {
          proxy.cutAll()
          yield* Effect.sleep(60)
        }
      })
    )
  )

  it.scoped("CLIENT KILL by the server, in every phase of a renewal", () =>
    through(({ server }) =>
      Effect.gen(function* () {
        for (let i = 0; i < 15; i++) {
          yield* server.command("CLIENT", "KILL", "USER", "default")
          yield* Effect.sleep(70)
        }
      })
    )
  )

  it.scoped("nobody listens while a renewal is due", () =>
    through(
      ({ proxy }) =>
        Effect.gen(function* () {
          proxy.refuse()
          proxy.cutAll()
          // from before the renewal at 500 ms to after it
          yield* Effect.sleep(620)
          proxy.accept()
        }),
      // an old client tries again some 150 ms later, whatever this machine adds
      { ttl: 3_000, renewEvery: 500 }
    )
  )

  it.scoped("the server refuses to renew for a while", () =>
    through(
      ({ proxy, server }) =>
        Effect.gen(function* () {
          proxy.forget()
          yield* server.command("CONFIG", "SET", "min-replicas-to-write", 1)
          // refused, and asked again
          yield* proxy.until(() => answered(proxy, "k") >= 3)
          yield* server.command("CONFIG", "SET", "min-replicas-to-write", 0)
        }),
      { ttl: 3_000, renewEvery: 300 }
    )
  )

  it.scoped("the server stops for less than the validity", () =>
    through(({ server }) =>
      Effect.gen(function* () {
        yield* Effect.sleep(350)
        yield* server.stop
        yield* Effect.sleep(300)
        yield* server.cont
      })
    )
  )

  it.scoped("the server has forgotten the scripts", () =>
    through(({ server }) => Effect.asVoid(server.command("SCRIPT", "FLUSH")))
  )

  it.scoped("packets are late, and come in the end", () =>
    through(({ proxy }) =>
      Effect.gen(function* () {
        yield* Effect.sleep(350)
        proxy.blackHole()
        yield* Effect.sleep(300)
        proxy.heal()
      })
    )
  )

  it.scoped("packets are lost in silence: the connection is replaced in time (short ttl)", () =>
    through(
      ({ proxy }) =>
        Effect.gen(function* () {
          proxy.forget()
          proxy.blackHole({ drop: true })
          yield* proxy.awaitCommand(touching("k"))
          yield* Effect.sleep(100)
          proxy.heal()
        }),
      { ttl: 2_000, renewEvery: 300 }
    )
  )

  it.scoped("packets are lost in silence: the connection is replaced in time (default ttl)", () =>
    through(
      ({ proxy }) =>
        Effect.gen(function* () {
          proxy.forget()
          proxy.blackHole({ drop: true })
          // the renewal at 2.5 s, of a validity that ends at 4.95 s
          yield* proxy.awaitCommand(touching("k"))
          yield* Effect.sleep(100)
          proxy.heal()
        }),
      { ttl: "5 seconds" }
    )
  )

  it.scoped("a first connection that came late does not make a silent one trusted for longer", () =>
    undisturbed(
      100,
      collectWarnings((warnings) =>
        Effect.gen(function* () {
          const server = yield* RedisServer.RedisServer
          yield* server.flush
          const proxy = yield* FaultProxy.make(server.port)
          proxy.blackHole()
          const { use } = yield* storeOf(RedisLockStore.layer({ url: proxy.url }))
          yield* Effect.fork(
            Effect.delay(
              Effect.sync(() => proxy.heal()),
              800
            )
          )
          const result = yield* Lock.withLock("k", { ttl: 3_000 })((lease) =>
            Effect.gen(function* () {
              const late = proxy.connections.map(({ id }) => id)
              proxy.forget()
              proxy.blackHole({ drop: true, where: ({ id }) => late.includes(id) })
              // the renewal at 1.5 s, of a validity that ends at 2.97 s
              yield* proxy.until(() => answered(proxy, "k") >= 1)
              yield* lease.verify
              return "done"
            })
          ).pipe(use)
          expect(result).toBe("done")
          expect(warnings).toEqual([])
        })
      )
    )
  )

  it.scoped("a lost reply on a client that sends nothing again costs one renewal", () =>
    Effect.gen(function* () {
      const server = yield* RedisServer.RedisServer
      yield* server.flush
      const proxy = yield* FaultProxy.make(server.port)
      const client = yield* connectedClient(proxy.port, {
        autoResendUnfulfilledCommands: false,
        retryStrategy: () => 20
      })
      const { use } = yield* storeOf(
        RedisLockStore.layerFromClient(client, { commandTimeout: 300 })
      )
      const lease = yield* Lock.acquire("k", { ttl: 3_000, renewEvery: 500 }).pipe(use)
      const lost = proxy.resetAfterApply(touching("k"))
      yield* lost.fired
      proxy.forget()
      const again = proxy.until(() => answered(proxy, "k") >= 2)
      const outcome = yield* Effect.raceFirst(
        Effect.as(again, "renewed again"),
        Effect.flip(lease.awaitLost)
      )
      expect(outcome).toBe("renewed again")
    })
  )

  it.scoped("never more than one renewal is on its way for a lease", () =>
    quietly(
      Effect.gen(function* () {
        const { proxy, use } = yield* environment()
        const lease = yield* Lock.acquire("k", { ttl: 1_000, renewEvery: 100 }).pipe(use)
        let most = 0
        const watch = yield* Effect.fork(
          proxy.until(() => {
            const live = new Set(proxy.connections.map(({ id }) => id))
            const unanswered = proxy.requests.filter(
              ({ args, connection, replied }) =>
                !replied && live.has(connection) && touching("k")(args)
            )
            most = Math.max(most, unanswered.length)
            return false
          })
        )
        proxy.holdRequests()
        expect(yield* Effect.flip(lease.awaitLost)).toMatchObject({ reason: "Unreachable" })
        expect(most).toBe(1)
        yield* Fiber.interrupt(watch)
        proxy.releaseRequests()
      })
    )
  )

  it.scoped(
    "an error that stays ends the lease as Unreachable, and is not asked in a hot loop",
    () =>
      quietly(
        Effect.gen(function* () {
          const { proxy, server, use } = yield* environment()
          const lease = yield* Lock.acquire("k", { ttl: 1_000, renewEvery: 200 }).pipe(use)
          proxy.forget()
          yield* server.command("CONFIG", "SET", "min-replicas-to-write", 1)
          const startedAt = performance.now()
          const { exit } = yield* timed(lease.awaitLost)
          yield* server.command("CONFIG", "SET", "min-replicas-to-write", 0)
          expect(failure(exit)).toMatchObject({ _tag: "LockLost", reason: "Unreachable" })
          expect(performance.now() - startedAt).toBeLessThan(1_500)
          const renewals = sent(proxy, "k")
          expect(renewals).toBeGreaterThan(3)
          // some 700 ms at 20 ms and more
          expect(renewals).toBeLessThan(100)
        })
      )
  )

  it.scoped("a connection that hangs ends the lease as Unreachable: no reply is waited for", () =>
    quietly(
      Effect.gen(function* () {
        const { proxy, server, use } = yield* environment({ commandTimeout: "10 seconds" })
        const lease = yield* Lock.acquire("k", { ttl: 500 }).pipe(use)
        yield* server.stop
        const { exit, millis } = yield* timed(lease.awaitLost)
        yield* server.cont
        expect(failure(exit)).toMatchObject({ _tag: "LockLost", reason: "Unreachable" })
        expect(millis).toBeLessThan(1_000)
        // and one beside it, which gets no answer either
        expect(proxy.connections.length).toBeLessThanOrEqual(2)
      })
    )
  )

  it.scoped(
    "a store works again after a silence of any length, over a new connection",
    () =>
      quietly(
        Effect.gen(function* () {
          const { proxy, server, use } = yield* environment({ commandTimeout: 300 })
          yield* Effect.scoped(Lock.acquire("k", { ttl: 1_000 })).pipe(use)
          proxy.blackHole({ drop: true })
          const attempt = Effect.exit(Effect.scoped(Lock.tryAcquire("k", { ttl: 1_000 })).pipe(use))
          // the first connection is given up, and others that never get an answer to their greeting
          for (let i = 0; i < 4; i++) expect(Exit.isFailure(yield* attempt)).toBe(true)
          proxy.heal()
          const { millis } = yield* timed(
            RedisServer.eventually(Effect.map(attempt, Exit.isSuccess))
          )
          expect(millis).toBeLessThan(5_000)
          yield* nothingLeft(server)
        })
      ),
    10_000
  )
})
