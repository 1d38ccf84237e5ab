/** Rule 1: nothing is left behind. */
import { expect, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as FiberId from "effect/FiberId"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import { Lock, type LockStore, RedisLockStore } from "effect-redis-lock"
import {
  allEnded,
  answered,
  collectWarnings,
  connectedClient,
  environment,
  failure,
  FaultProxy,
  finalizerCount,
  leftovers,
  listeners,
  nothingLeft,
  quietly,
  RedisServer,
  seeded,
  sent,
  storeOf,
  supervised,
  timed,
  touching
} from "./support.js"

// longer than any test: what disappears was given back, it did not expire
const ttl = "5 minutes"

layer(RedisServer.layer(), { excludeTestServices: true })("nothing is left behind", (it) => {
  /** Starts many attempts and interrupts each at a moment of its own. */
  const interruptMany = (
    proxy: FaultProxy.FaultProxy,
    seed: number,
    count: number,
    attempt: (index: number) => Effect.Effect<unknown, unknown>
  ) => {
    const random = seeded(seed)
    return Effect.forEach(
      Array.from({ length: count }, (_, index) => index),
      (index) =>
        Effect.gen(function* () {
          if (index % 40 === 0) {
            proxy.delay({ toServer: Math.floor(random() * 3), toClient: Math.floor(random() * 6) })
          }
          const patience = random() * 12
          const fiber = yield* Effect.fork(attempt(index))
          if (index % 7 !== 0) yield* Effect.sleep(patience)
          yield* Fiber.interrupt(fiber)
        }),
      { concurrency: 40, discard: true }
    )
  }

  it.scoped("by 1000 attempts that are interrupted before, during and after their command", () =>
    Effect.gen(function* () {
      const { close, proxy, server, use } = yield* environment()
      const random = seeded(11)
      let granted = 0
      const [, running] = yield* supervised(
        interruptMany(proxy, 1, 1000, (index) => {
          const attempt = Lock.tryAcquire(`attempt-${index}`, { ttl }).pipe(
            Effect.tap(() => {
              granted++
            })
          )
          // every third one is granted in any case, and held for a moment
          return index % 3 === 0
            ? attempt.pipe(
                Effect.zipRight(Effect.sleep(random() * 5)),
                Effect.scoped,
                use,
                Effect.uninterruptible
              )
            : attempt.pipe(Effect.zipRight(Effect.never), Effect.scoped, use)
        })
      )
      proxy.delay({})
      yield* nothingLeft(server)
      yield* allEnded(running)
      expect(granted).toBeGreaterThanOrEqual(250)
      yield* close
      expect(yield* leftovers(server)).toEqual([])
    })
  )

  it.scoped("by leases that were held for a while: neither a key, nor a fiber, nor a timer", () =>
    quietly(
      Effect.gen(function* () {
        const { server, use } = yield* environment()
        const hold = Effect.sleep(30)
        const lose = Effect.zipRight(server.command("SET", "k", "thief", "PX", 1), hold)
        const ends: ReadonlyArray<Effect.Effect<unknown, unknown, LockStore.LockStore>> = [
          Lock.withLock("k", { ttl })(hold),
          Lock.withLock("k", { ttl })(Effect.zipRight(hold, Effect.fail("error"))),
          Lock.withLock("k", { ttl })(Effect.never).pipe(Effect.timeout(30)),
          Effect.scoped(Effect.zipRight(Lock.acquire("k", { ttl }), hold)),
          Effect.scoped(
            Effect.flatMap(Lock.acquire("k", { ttl }), (lease) =>
              Effect.zipRight(hold, lease.release)
            )
          ),
          // lost by a renewal's answer, by its silence, and by the release's answer
          Lock.withLock("k", { ttl, renewEvery: 20 })(Effect.zipRight(lose, Effect.never)),
          Lock.withLock("k", { ttl })(lose)
        ]
        const [, running] = yield* supervised(
          Effect.forEach(ends, (end) => Effect.exit(end.pipe(use)), { discard: true })
        )
        yield* allEnded(running)
        yield* nothingLeft(server)
      })
    )
  )

  it.scoped("by 700 callers of three keys that are interrupted while they wait or hold", () =>
    Effect.gen(function* () {
      const { close, proxy, server, use } = yield* environment({ foreignPollEvery: 5 })
      const [, running] = yield* supervised(
        interruptMany(proxy, 2, 700, (index) =>
          Effect.sleep(2).pipe(Lock.withLock(`busy-${index % 3}`, { ttl }), use)
        )
      )
      proxy.delay({})
      yield* nothingLeft(server)
      yield* allEnded(running)
      yield* close
      expect(yield* leftovers(server)).toEqual([])
      yield* RedisServer.eventually(Effect.map(server.clientCount, (count) => count === 0))
    })
  )

  it.scoped("by 700 timeouts around locks on a client of the user's, nor on the client", () =>
    Effect.gen(function* () {
      const { proxy, server } = yield* environment()
      const client = yield* connectedClient(proxy.port)
      // (those who waited for the connection have gone)
      yield* Effect.sleep(1)
      const before = listeners(client)
      const { close, use } = yield* storeOf(RedisLockStore.layerFromClient(client))
      const random = seeded(3)
      const [, running] = yield* supervised(
        Effect.forEach(
          Array.from({ length: 700 }, (_, index) => index),
          (index) =>
            Effect.suspend(() => {
              if (index % 30 === 0) proxy.delay({ toClient: Math.floor(random() * 6) })
              return Effect.sleep(random() * 4).pipe(
                Lock.withLock(`timeout-${index}`, { ttl }),
                Effect.timeout(random() * 10),
                Effect.option,
                use
              )
            }),
          { concurrency: 40, discard: true }
        )
      )
      proxy.delay({})
      yield* nothingLeft(server)
      yield* allEnded(running)
      yield* close
      expect(yield* leftovers(server)).toEqual([])
      expect(listeners(client)).toEqual(before)
      expect(yield* Effect.promise(() => client.ping())).toBe("PONG")
    })
  )

  it.scoped("by an interruption while the server's reply is under way", () =>
    Effect.gen(function* () {
      const { proxy, server, use } = yield* environment()
      proxy.holdReplies()
      const fiber = yield* Effect.fork(Effect.scoped(Lock.acquire("k", { ttl })).pipe(use))
      // the client's greeting waits for its reply, too
      yield* proxy.heldReplies
      proxy.releaseReplies()
      yield* Fiber.join(fiber)
      proxy.forget()

      proxy.holdReplies()
      const held = yield* Effect.fork(Effect.scoped(Lock.acquire("k", { ttl })).pipe(use))
      yield* proxy.awaitReply(touching("k"))
      yield* proxy.heldReplies
      expect(yield* leftovers(server)).toContain("k")
      // at once: the caller does not wait for the clean-up
      const exit = yield* Fiber.interrupt(held)
      expect(Exit.isInterrupted(exit)).toBe(true)
      expect(yield* leftovers(server)).toContain("k")
      proxy.releaseReplies()
      yield* nothingLeft(server)
    })
  )

  it.scoped("by an interruption in the tick in which the reply arrives, or in one beside it", () =>
    Effect.gen(function* () {
      const server = yield* RedisServer.RedisServer
      yield* server.flush
      const client = yield* connectedClient(server.port)
      const { close, use } = yield* storeOf(RedisLockStore.layerFromClient(client))
      const outer = yield* Scope.make()
      let onReply = () => {}
      for (const method of ["eval", "evalsha"] as const) {
        const original = client[method].bind(client) as (
          ...args: Array<unknown>
        ) => Promise<unknown>
        client[method] = ((...args: Array<unknown>) => {
          const react = onReply
          onReply = () => {}
          return original(...args).finally(react)
        }) as never
      }
      const later = (microtasks: number, run: () => void): void =>
        microtasks === 0 ? run() : queueMicrotask(() => later(microtasks - 1, run))
      let interrupted = 0
      for (let distance = 0; distance < 60; distance++) {
        const key = `tick-${distance}`
        const fiber = yield* Effect.fork(
          Lock.tryAcquire(key, { ttl }).pipe(
            Effect.zipRight(Effect.never),
            Scope.extend(outer),
            Effect.interruptible,
            use,
            Effect.onInterrupt(() => Effect.void)
          )
        )
        onReply = () =>
          later(distance % 30, () => {
            interrupted++
            const interrupt = () => fiber.unsafeInterruptAsFork(FiberId.none)
            // a turn of the event loop later in every other round
            if (distance < 30) interrupt()
            else setImmediate(interrupt)
          })
        yield* Fiber.await(fiber)
      }
      expect(interrupted).toBe(60)
      yield* Scope.close(outer, Exit.void)
      yield* nothingLeft(server)
      yield* close
      expect(yield* leftovers(server)).toEqual([])
    })
  )

  it.scoped("when the store closes while a clean-up is pending: the close waits for it", () =>
    Effect.gen(function* () {
      const { close, proxy, server, use } = yield* environment()
      yield* Effect.scoped(Lock.acquire("first", { ttl })).pipe(use)
      proxy.holdReplies()
      const fiber = yield* Effect.fork(Effect.scoped(Lock.acquire("k", { ttl })).pipe(use))
      yield* proxy.awaitReply(touching("k"))
      yield* Fiber.interrupt(fiber)
      const closing = yield* Effect.fork(close)
      yield* Effect.sleep(50)
      expect(Option.isNone(yield* Fiber.poll(closing))).toBe(true)
      proxy.releaseReplies()
      yield* Fiber.join(closing)
      expect(yield* leftovers(server)).toEqual([])
    })
  )

  it.scoped("of a store whose clean-up is never answered: its close ends in time", () =>
    Effect.gen(function* () {
      const { close, proxy, server, use } = yield* environment({ commandTimeout: 500 })
      yield* Effect.scoped(Lock.acquire("first", { ttl })).pipe(use)
      proxy.holdReplies()
      const fiber = yield* Effect.fork(Effect.scoped(Lock.acquire("k", { ttl })).pipe(use))
      yield* proxy.awaitReply(touching("k"))
      yield* Fiber.interrupt(fiber)
      const { millis } = yield* timed(close)
      expect(millis).toBeGreaterThan(400)
      expect(millis).toBeLessThan(1_500)
      yield* RedisServer.eventually(Effect.map(server.clientCount, (count) => count === 0))
    })
  )

  it.scoped("when the server has forgotten the acquire: the release does not overtake it", () =>
    Effect.gen(function* () {
      const { close, proxy, server, use } = yield* environment()
      yield* Effect.scoped(Lock.acquire("k", { ttl })).pipe(use)
      for (let round = 0; round < 10; round++) {
        const other = yield* Lock.acquire("other", { ttl }).pipe(use)
        yield* server.command("SCRIPT", "FLUSH")
        // the server knows how to release again, and not how to acquire
        yield* other.release
        proxy.forget()
        proxy.holdReplies()
        const fiber = yield* Effect.fork(Effect.scoped(Lock.acquire("k", { ttl })).pipe(use))
        yield* proxy.awaitReply(touching("k"))
        yield* Fiber.interrupt(fiber)
        // time for a clean-up that does not wait
        yield* Effect.sleep(5)
        proxy.releaseReplies()
        // NOSCRIPT, the acquire again, the release
        yield* proxy.until(() => answered(proxy, "k") >= 3)
        yield* nothingLeft(server)
      }
      yield* close
      expect(yield* leftovers(server)).toEqual([])
    })
  )

  it.scoped("by an acquire that reaches the server after its caller was refused", () =>
    Effect.gen(function* () {
      const { close, proxy, server, use } = yield* environment({ commandTimeout: 300 })
      yield* Effect.scoped(Lock.acquire("k", { ttl })).pipe(use)
      proxy.forget()
      proxy.holdRequests({ afterClose: "deliver" })
      const { exit, millis } = yield* timed(Effect.scoped(Lock.acquire("k", { ttl })).pipe(use))
      expect(failure(exit)).toMatchObject({ _tag: "LockStoreError", operation: "acquire" })
      expect(millis).toBeLessThan(1_500)
      proxy.releaseRequests()
      yield* proxy.until(() => answered(proxy, "k") >= 2)
      yield* close
      expect(yield* leftovers(server)).toEqual([])
    })
  )

  it.scoped(
    "by an acquire whose reply is lost on a client that sends nothing again",
    () =>
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
        const lost = proxy.resetAfterApply(touching("k"))
        const { exit } = yield* timed(Effect.scoped(Lock.tryAcquire("k", { ttl })).pipe(use))
        yield* lost.fired
        expect(failure(exit)).toMatchObject({ _tag: "LockStoreError", operation: "acquire" })
        yield* nothingLeft(server)
      }),
    10_000
  )

  it.scoped("by a waiter that is interrupted in the pause between two attempts", () =>
    Effect.gen(function* () {
      const { close, proxy, server, use } = yield* environment({ foreignPollEvery: "1 minute" })
      yield* server.command("SET", "k", "foreign", "PX", 600_000)
      const waiting = yield* Effect.fork(Effect.scoped(Lock.acquire("k", { ttl })).pipe(use))
      yield* proxy.until(() => answered(proxy, "k") >= 1)
      yield* server.command("DEL", "k")
      yield* Effect.sleep(50)
      yield* Fiber.interrupt(waiting)
      yield* close
      expect(yield* leftovers(server)).toEqual([])
    })
  )

  it.scoped("in a long-lived scope: attempts that failed, releases before its end", () =>
    Effect.gen(function* () {
      const { server, use } = yield* environment()
      yield* server.command("SET", "taken", "x", "PX", 60_000)
      const outer = yield* Scope.make()
      const within = <A, E, R>(effect: Effect.Effect<A, E, R | Scope.Scope>) =>
        Scope.extend(effect, outer).pipe(Effect.exit)
      const [, running] = yield* supervised(
        Effect.gen(function* () {
          for (let i = 0; i < 50; i++) {
            const refused = yield* within(Lock.tryAcquire("taken", { ttl }).pipe(use))
            expect(failure(refused)._tag).toBe("LockUnavailable")
            const late = yield* within(Lock.acquire("taken", { ttl, waitAtMost: 1 }).pipe(use))
            expect(failure(late)._tag).toBe("LockUnavailable")
            const early = yield* within(
              Effect.flatMap(Lock.acquire("k", { ttl }), (lease) => lease.release).pipe(use)
            )
            expect(Exit.isSuccess(early)).toBe(true)
          }
        })
      )
      expect(finalizerCount(outer)).toBe(0)
      yield* allEnded(running)
      expect(yield* leftovers(server)).toEqual(["taken"])
      yield* Scope.close(outer, Exit.void)
    })
  )

  it.scoped("by a body that fails, dies, or is interrupted", () =>
    Effect.gen(function* () {
      const { server, use } = yield* environment()
      const bodies = [
        Effect.fail("error"),
        Effect.die("defect"),
        Effect.interrupt,
        Effect.sync(() => {
          throw new Error("thrown")
        })
      ]
      for (const body of bodies) {
        const exit = yield* Effect.exit(Lock.withLock("k", { ttl })(body).pipe(use))
        expect(Exit.isFailure(exit)).toBe(true)
        expect(yield* leftovers(server)).toEqual([])
      }
    })
  )

  it.scoped("in the order of finalizers: the lock goes last, also from a parallel scope", () =>
    Effect.gen(function* () {
      const { server, use } = yield* environment()
      const seen: Array<ReadonlyArray<string>> = []
      yield* Effect.gen(function* () {
        yield* Lock.acquire("k", { ttl: 200 })
        yield* Effect.addFinalizer(() =>
          Effect.map(leftovers(server), (keys) => void seen.push(keys))
        )
      }).pipe(Effect.scoped, use)
      expect(seen).toEqual([["k"]])
      // the renewal stops before the release: none finds the key gone, which would be warned of
      yield* collectWarnings((warnings) =>
        Effect.gen(function* () {
          for (let i = 0; i < 20; i++) {
            yield* Effect.forEach(
              [1, 2, 3],
              (n) => Lock.acquire(`p-${n}`, { ttl: 5_000, renewEvery: 1 }),
              { discard: true }
            ).pipe(Effect.parallelFinalizers, Effect.scoped, use)
          }
          expect(warnings).toEqual([])
        })
      )
      expect(yield* leftovers(server)).toEqual([])
    })
  )

  it.scoped("when the store closes before its leases: they end by their ttl, with a warning", () =>
    collectWarnings((warnings) =>
      Effect.gen(function* () {
        const { close, server, use } = yield* environment({ commandTimeout: 300 })
        const scope = yield* Scope.make()
        yield* Lock.acquire("k", { ttl: 400 }).pipe(Scope.extend(scope), use)
        yield* close
        const { millis } = yield* timed(Scope.close(scope, Exit.void))
        expect(millis).toBeLessThan(1_500)
        expect(warnings.join("\n")).toContain('"k"')
        yield* nothingLeft(server)
      })
    )
  )

  it.scoped("by commands: one acquire that is interrupted costs one command to undo", () =>
    quietly(
      Effect.gen(function* () {
        const { close, proxy, use } = yield* environment()
        yield* Effect.scoped(Lock.acquire("k", { ttl })).pipe(use)
        proxy.forget()
        proxy.holdReplies()
        const fiber = yield* Effect.fork(Effect.scoped(Lock.acquire("k", { ttl })).pipe(use))
        yield* proxy.awaitReply(touching("k"))
        yield* Fiber.interrupt(fiber)
        proxy.releaseReplies()
        yield* close
        expect(sent(proxy, "k")).toBe(2)
      })
    )
  )

  it.scoped("where giving back fails, too, it is tried less and less often", () =>
    Effect.gen(function* () {
      const { proxy, server, use } = yield* environment()
      yield* server.command("HSET", "k", "not", "a lock")
      const callers = 20
      for (let i = 0; i < callers; i++) {
        const attempt = Lock.withLockIfAvailable("k", { ttl })(Effect.void).pipe(use)
        expect(failure(yield* Effect.exit(attempt))).toMatchObject({ _tag: "LockStoreError" })
      }
      proxy.forget()
      yield* Effect.sleep(2_500)
      // after 0.2, 0.6, 1.4 seconds; five times a second would be twelve
      expect(sent(proxy, "k") / callers).toBeLessThan(6)
      expect(sent(proxy, "k") / callers).toBeGreaterThan(0)
    })
  )
})
