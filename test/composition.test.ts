/** Locks among the other things that Effect programs are made of. */
import { describe, expect, layer } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Chunk from "effect/Chunk"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as ManagedRuntime from "effect/ManagedRuntime"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import * as Stream from "effect/Stream"
import { type Lease, Lock, LockStore } from "effect-redis-lock"
import {
  expectFree,
  expectFreeNow,
  freshKey,
  quiet,
  StoreControls,
  everyStore,
  untilAsked
} from "./support/stores.js"

describe.each(everyStore)("%s", (_, rawStore) => {
  const store = Layer.merge(rawStore, quiet)

  layer(store, { excludeTestServices: true })("timeouts and retries", (it) => {
    it.scoped("a timeout around a wait cuts the wait, on time, and leaves nothing", () =>
      Effect.gen(function* () {
        const key = freshKey()
        const holding = yield* Lock.acquire(key)
        const { clock } = yield* LockStore.LockStore
        const before = clock.unsafeNow()
        const option = yield* Lock.withLock(key)(Effect.void).pipe(
          Effect.timeoutOption("100 millis")
        )
        expect(Option.isNone(option)).toBe(true)
        expect(clock.unsafeNow() - before).toBeLessThan(1_500)
        yield* holding.release
        yield* expectFreeNow(key)
      })
    )

    it.scoped("a timeout around withLock cuts the body as well, and gives the lock back", () =>
      Effect.gen(function* () {
        const key = freshKey()
        let begun = false
        let finalized = false
        const error = yield* Effect.suspend(() => {
          begun = true
          return Effect.never
        }).pipe(
          Effect.ensuring(Effect.sync(() => (finalized = begun))),
          Lock.withLock(key),
          Effect.timeout("50 millis"),
          Effect.flip
        )
        expect(error).toMatchObject({ _tag: expect.stringMatching(/^Timeout(Exception|Error)$/) })
        // (a machine can be too slow for the body)
        expect(finalized).toBe(begun)
        yield* expectFreeNow(key)
      })
    )

    it.scoped("a timeout within the body is the body's own", () =>
      Effect.gen(function* () {
        const key = freshKey()
        const value = yield* Effect.never.pipe(
          Effect.timeoutTo({ duration: "20 millis", onSuccess: () => "", onTimeout: () => "late" }),
          Lock.withLock(key)
        )
        expect(value).toBe("late")
        yield* expectFreeNow(key)
      })
    )

    it.scoped("a timeout around guard leaves the lease as it was", () =>
      Effect.gen(function* () {
        const lease = yield* Lock.acquire(freshKey())
        const option = yield* lease.guard(Effect.never).pipe(Effect.timeoutOption("20 millis"))
        expect(Option.isNone(option)).toBe(true)
        yield* lease.verify
        expect(yield* lease.guard(Effect.succeed(1))).toBe(1)
      })
    )

    it.scoped("tryAcquire with a schedule gets the lock when it is free", () =>
      Effect.gen(function* () {
        const key = freshKey()
        const { count, until } = yield* StoreControls
        const holder = yield* Lock.acquire(key)
        const trying = yield* Effect.forkScoped(
          Lock.tryAcquire(key).pipe(
            Effect.retry(
              Schedule.exponential("5 millis").pipe(
                Schedule.jittered,
                Schedule.union(Schedule.spaced("20 millis"))
              )
            )
          )
        )
        yield* until(key, "not granted", 3)
        yield* holder.release
        const lease = yield* Fiber.join(trying)
        expect(lease.fencingToken).toBeGreaterThan(holder.fencingToken)
        expect(count(key, "acquire")).toBeGreaterThanOrEqual(5)
      })
    )

    it.scoped("a schedule can tell the errors apart, and use what they say", () =>
      Effect.gen(function* () {
        const key = freshKey()
        yield* Lock.acquire(key, { ttl: "20 seconds" })
        const seen: Array<number> = []
        const error = yield* Effect.scoped(Lock.tryAcquire(key)).pipe(
          Effect.tapErrorTag("LockUnavailable", ({ retryAfter }) =>
            Effect.sync(() => seen.push(Duration.toMillis(retryAfter!)))
          ),
          Effect.retry({ times: 2, while: (error) => error._tag === "LockUnavailable" }),
          Effect.flip
        )
        expect(error._tag).toBe("LockUnavailable")
        expect(seen).toHaveLength(3)
        for (const millis of seen) expect(millis).toBeGreaterThan(10_000)
      })
    )

    it.scoped(
      "a body that is retried under the lock keeps it; a retried withLock takes it anew",
      () =>
        Effect.gen(function* () {
          const key = freshKey()
          const { count } = yield* StoreControls
          let failures = 0
          const body = Effect.suspend(() =>
            ++failures % 3 === 0 ? Effect.succeed(failures) : Effect.fail("again")
          )
          yield* body.pipe(Effect.retry(Schedule.recurs(3)), Lock.withLock(key))
          expect(count(key, "granted")).toBe(1)
          yield* body.pipe(Lock.withLock(key), Effect.retry(Schedule.recurs(3)))
          expect(count(key, "granted")).toBe(4)
          expect(count(key, "released")).toBe(4)
        })
    )

    it.scoped("a loss can be caught, and the work be done again under a new lease", () =>
      Effect.gen(function* () {
        const key = freshKey()
        const { takeAway } = yield* StoreControls
        const fences: Array<number> = []
        const value = yield* Lock.withLock(key)((lease) =>
          Effect.suspend(() => {
            fences.push(lease.fencingToken)
            return fences.length === 1
              ? Effect.zipRight(takeAway(lease), Effect.as(Effect.exit(lease.verify), "lost"))
              : Effect.succeed("done")
          })
        ).pipe(Effect.retry({ while: (error) => error._tag === "LockLost" }))
        expect(value).toBe("done")
        expect(fences[1]).toBeGreaterThan(fences[0]!)
      })
    )
  })

  layer(store, { excludeTestServices: true })("races", (it) => {
    for (const [name, race] of [
      ["race", Effect.race],
      ["raceFirst", Effect.raceFirst]
    ] as const) {
      it.scoped(
        `${name}: the loser's body ends and its lock is free, the winner's result counts`,
        () =>
          Effect.gen(function* () {
            const [slow, fast] = [freshKey(), freshKey()]
            const held = yield* Deferred.make<void>()
            const value = yield* race(
              Lock.withLock(slow)(Effect.zipRight(Deferred.succeed(held, undefined), Effect.never)),
              Lock.withLock(fast)(Effect.as(Deferred.await(held), "fast"))
            )
            expect(value).toBe("fast")
            yield* expectFreeNow(slow)
            yield* expectFreeNow(fast)
          })
      )

      it.scoped(`${name}: two contenders for one key, one of them wins, and nothing is left`, () =>
        Effect.gen(function* () {
          const key = freshKey()
          for (let i = 0; i < 10; i++) {
            const winner = yield* race(
              Lock.withLock(key, { waitAtMost: "3 seconds" })(Effect.succeed("one")),
              Lock.withLock(key, { waitAtMost: "3 seconds" })(Effect.succeed("two"))
            )
            expect(["one", "two"]).toContain(winner)
          }
          yield* expectFree(key)
        })
      )
    }

    it.scoped("raceFirst with awaitLost ends work that is not guarded", () =>
      Effect.gen(function* () {
        const { takeAway } = yield* StoreControls
        const lease = yield* Lock.acquire(freshKey())
        const fiber = yield* Effect.fork(Effect.raceFirst(Effect.never, lease.awaitLost))
        yield* takeAway(lease)
        yield* Effect.exit(lease.verify)
        expect(yield* Effect.flip(Fiber.join(fiber))).toMatchObject({ _tag: "LockLost" })
      })
    )

    it.scoped("a losing acquisition leaves no finalizer's work behind: the scope is shared", () =>
      Effect.gen(function* () {
        const [taken, free] = [freshKey(), freshKey()]
        const holder = yield* Lock.acquire(taken)
        const lease = yield* Effect.scoped(
          Effect.race(
            Lock.acquire(taken),
            Effect.zipLeft(Lock.acquire(free), untilAsked(holder, 2))
          )
        )
        expect(lease.key).toBe(free)
        yield* holder.release
        yield* expectFreeNow(taken)
        yield* expectFreeNow(free)
      })
    )
  })

  layer(store, { excludeTestServices: true })("many at once", (it) => {
    it.scoped("Effect.all over many keys holds them all, and gives all of them back", () =>
      Effect.gen(function* () {
        const keys = Array.from({ length: 50 }, freshKey)
        yield* Effect.scoped(
          Effect.gen(function* () {
            const leases = yield* Effect.all(
              keys.map((key) => Lock.acquire(key)),
              { concurrency: "unbounded" }
            )
            expect(leases.map((lease) => lease.key)).toEqual(keys)
            yield* Effect.forEach(leases, (lease) => lease.verify, { concurrency: "unbounded" })
          })
        )
        yield* Effect.forEach(keys, expectFreeNow, { concurrency: "unbounded" })
      })
    )

    it.scoped("one that fails among many takes the others with it", () =>
      Effect.gen(function* () {
        const keys = Array.from({ length: 20 }, freshKey)
        let running = 0
        const all = yield* Deferred.make<void>()
        const exit = yield* Effect.forEach(
          keys,
          (key, i) =>
            Effect.suspend(() =>
              ++running === keys.length ? Deferred.succeed(all, undefined) : Effect.void
            ).pipe(
              Effect.zipRight(Deferred.await(all)),
              Effect.zipRight(i === 7 ? Effect.fail("seven") : Effect.never),
              Lock.withLock(key)
            ),
          { concurrency: "unbounded" }
        ).pipe(Effect.exit)
        expect(Exit.isFailure(exit) && Chunk.toReadonlyArray(Cause.failures(exit.cause))).toEqual([
          "seven"
        ])
        yield* Effect.forEach(keys, expectFreeNow, { concurrency: "unbounded" })
      })
    )

    it.scoped("nested scopes give back in the reverse order", () =>
      Effect.gen(function* () {
        const order: Array<string> = []
        const [outer, inner] = [freshKey(), freshKey()]
        const take = (key: string, name: string) =>
          Effect.zipRight(
            Effect.addFinalizer(() =>
              Effect.zipRight(
                expectFreeNow(key),
                Effect.sync(() => order.push(name))
              )
            ),
            Lock.acquire(key)
          )
        yield* Effect.scoped(
          Effect.gen(function* () {
            const lease = yield* take(outer, "outer")
            yield* Effect.scoped(take(inner, "inner"))
            yield* expectFreeNow(inner)
            yield* lease.verify
          })
        )
        expect(order).toEqual(["inner", "outer"])
      })
    )

    it.scoped("a lease outlives the fiber that took it, as long as its scope is open", () =>
      Effect.gen(function* () {
        const scope = yield* Effect.scope
        const key = freshKey()
        const fiber = yield* Effect.fork(
          Effect.provideService(
            Lock.acquire(key),
            Context.GenericTag<typeof scope>("effect/Scope"),
            scope
          )
        )
        const lease = yield* Fiber.join(fiber)
        yield* lease.verify
        yield* lease.guard(Effect.sleep(1))
      })
    )

    it.scoped("a stream under a lock: the lock is held as long as it is consumed", () =>
      Effect.gen(function* () {
        const key = freshKey()
        const seen = yield* Stream.unwrapScoped(
          Effect.map(Lock.acquire(key), (lease) =>
            Stream.fromIterable([1, 2, 3]).pipe(
              Stream.mapEffect((n) => lease.guard(Effect.as(lease.verify, n)))
            )
          )
        ).pipe(Stream.runCollect)
        expect(Chunk.toReadonlyArray(seen)).toEqual([1, 2, 3])
        yield* expectFreeNow(key)
      })
    )
  })

  layer(store, { excludeTestServices: true })("layers", (it) => {
    it.scoped("a service that holds a lock as long as its layer lives", () =>
      Effect.gen(function* () {
        const key = freshKey()
        class Leader extends Context.Tag("test/Leader")<Leader, Lease.Lease>() {
          static readonly layer = Layer.scoped(Leader, Lock.acquire(key))
        }
        const fence = yield* Effect.gen(function* () {
          const lease = yield* Leader
          yield* lease.verify
          expect(yield* Effect.flip(Effect.scoped(Lock.tryAcquire(key)))).toMatchObject({
            _tag: "LockUnavailable"
          })
          return lease.fencingToken
        }).pipe(Effect.provide(Leader.layer))
        expect(fence).toBeGreaterThan(0)
        yield* expectFreeNow(key)
      })
    )

    it.scoped("a layer that cannot have its lock fails, and builds nothing", () =>
      Effect.gen(function* () {
        const key = freshKey()
        yield* Lock.acquire(key)
        class Leader extends Context.Tag("test/Leader")<Leader, Lease.Lease>() {
          static readonly layer = Layer.scoped(Leader, Lock.tryAcquire(key))
        }
        const error = yield* Effect.flip(Effect.provide(Leader, Leader.layer))
        expect(error).toMatchObject({ _tag: "LockUnavailable", key })
      })
    )
  })

  layer(store, { excludeTestServices: true })("runtimes", (it) => {
    it.scoped("disposing of a ManagedRuntime gives back what its layers hold", () =>
      Effect.gen(function* () {
        const key = freshKey()
        const context = yield* Effect.context<LockStore.LockStore>()
        class Leader extends Context.Tag("test/Leader")<Leader, Lease.Lease>() {}
        const runtime = ManagedRuntime.make(
          Layer.scoped(Leader, Lock.acquire(key)).pipe(Layer.provide(Layer.succeedContext(context)))
        )
        const lease = yield* Effect.promise(() => runtime.runPromise(Leader))
        yield* lease.verify
        yield* Effect.promise(() => runtime.dispose())
        expect(yield* lease.isHeld).toBe(false)
        yield* expectFreeNow(key)
      })
    )

    it.scoped("an aborted runPromise gives the lock back", () =>
      Effect.gen(function* () {
        const key = freshKey()
        const context = yield* Effect.context<LockStore.LockStore>()
        const { until } = yield* StoreControls
        const abort = new AbortController()
        const running = Effect.runPromiseExit(
          Effect.provide(Lock.withLock(key)(Effect.never), context),
          { signal: abort.signal }
        )
        yield* until(key, "granted")
        abort.abort()
        const exit = yield* Effect.promise(() => running)
        expect(Exit.isInterrupted(exit)).toBe(true)
        yield* expectFreeNow(key)
      })
    )

    it.scoped("the signal ends a promise that Effect knows nothing of", () =>
      Effect.gen(function* () {
        const { takeAway } = yield* StoreControls
        const lease = yield* Lock.acquire(freshKey())
        const aborted = new Promise<unknown>((resolve) =>
          lease.signal.addEventListener("abort", () => resolve(lease.signal.reason))
        )
        yield* takeAway(lease)
        yield* Effect.exit(lease.verify)
        expect(yield* Effect.promise(() => aborted)).toMatchObject({ _tag: "LockLost" })
      })
    )
  })
})
