/** Where Effect 4 is not as Effect 3: what the locks promise all the same. docs/architecture.md states it. */
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Logger from "effect/Logger"
import * as Metric from "effect/Metric"
import * as References from "effect/References"
import * as Scheduler from "effect/Scheduler"
import * as Scope from "effect/Scope"
import { Lock, LockStore, MemoryLockStore } from "effect-redis-lock/effect4"
import { describe, expect, it } from "vitest"
import type { Lease } from "../../src/Lease.js"

/** Effect 4.1 itself never ends with less: a fiber yields again before it goes on. */
const afterEachStep = 3

const quiet = Logger.layer([])

/** Runs it as it is, and with fibers that yield after each step. */
const check = (
  name: string,
  test: Effect.Effect<unknown, unknown, LockStore.LockStore | Scope.Scope>
): void => {
  for (const [how, maxOps] of [
    ["", 2048],
    [", with fibers that yield after each step", afterEachStep]
  ] as const) {
    it(`${name}${how}`, async () => {
      const ended = Effect.scoped(Effect.as(test, "ended")).pipe(
        Effect.provide(MemoryLockStore.layer),
        Effect.provide(quiet),
        Effect.provideService(Scheduler.MaxOpsBeforeYield, maxOps)
      )
      expect(await Effect.runPromise(ended)).toBe("ended")
    })
  }
}

/** Ends the lease behind its holder's back, who hears of it at once. */
const lose = ({ fencingToken, key }: Lease) => Effect.orDie(Lock.forceRelease(key, fencingToken))

const expectFreeNow = (key: string) => Effect.asVoid(Effect.scoped(Lock.tryAcquire(key)))

const reasonsOf = <A, E>(exit: Exit.Exit<A, E>): ReadonlyArray<unknown> =>
  Exit.isSuccess(exit)
    ? []
    : exit.cause.reasons.map((reason) =>
        Cause.isFailReason(reason)
          ? (reason.error as { readonly _tag?: string })._tag
          : Cause.isDieReason(reason)
            ? reason.defect
            : "interrupted"
      )

/** Waits until the fiber cannot go on by itself. */
const settled = Effect.promise(() => new Promise((resolve) => setTimeout(resolve, 10)))

describe("a loss", () => {
  for (const [name, run] of [
    [
      "withLock",
      (body: (lease: Lease) => Effect.Effect<never, never, LockStore.LockStore>) =>
        Lock.withLock("k")(body)
    ],
    [
      "guard",
      (body: (lease: Lease) => Effect.Effect<never, never, LockStore.LockStore>) =>
        Effect.scoped(Effect.flatMap(Lock.acquire("k"), (lease) => lease.guard(body(lease))))
    ]
  ] as const) {
    check(
      `of ${name} tells what the body's finalizers died of`,
      Effect.gen(function* () {
        const exit = yield* Effect.exit(
          run((lease) =>
            Effect.andThen(lose(lease), Effect.never).pipe(Effect.ensuring(Effect.die("finalizer")))
          )
        )
        expect(reasonsOf(exit)).toEqual(["finalizer", "LockLost"])
      })
    )
  }

  check(
    "waits for a body that cannot be interrupted, and is told when that has ended",
    Effect.gen(function* () {
      const latch = yield* Deferred.make<void>()
      let finished = false
      const fiber = yield* Effect.forkChild(
        Effect.exit(
          Effect.uninterruptible(
            Lock.withLock("k")((lease) =>
              lose(lease).pipe(
                Effect.andThen(Deferred.await(latch)),
                Effect.andThen(Effect.sync(() => (finished = true)))
              )
            )
          )
        )
      )
      yield* settled
      expect(fiber.pollUnsafe()).toBeUndefined()
      yield* Deferred.succeed(latch, undefined)
      const exit = yield* Fiber.join(fiber)
      expect(finished).toBe(true)
      expect(reasonsOf(exit)).toEqual(["LockLost"])
    })
  )

  check(
    "cuts the parts of such a body that can be interrupted",
    Effect.gen(function* () {
      let finished = false
      const exit = yield* Effect.exit(
        Effect.uninterruptible(
          Lock.withLock("k")((lease) =>
            Effect.exit(Effect.interruptible(Effect.andThen(lose(lease), Effect.never))).pipe(
              Effect.andThen(Effect.sync(() => (finished = true)))
            )
          )
        )
      )
      expect(finished).toBe(true)
      expect(reasonsOf(exit)).toEqual(["LockLost"])
    })
  )
})

describe("an interruption", () => {
  check(
    "reaches the parts that can be interrupted of a body that cannot",
    Effect.gen(function* () {
      const begun = yield* Deferred.make<void>()
      let seen: Exit.Exit<never> | undefined
      let finished = false
      const fiber = yield* Effect.forkChild(
        Effect.uninterruptible(
          Lock.withLock("k")(
            Effect.interruptible(
              Effect.andThen(Deferred.succeed(begun, undefined), Effect.never)
            ).pipe(
              Effect.exit,
              Effect.andThen((exit) =>
                Effect.sync(() => {
                  seen = exit
                  finished = true
                })
              )
            )
          )
        )
      )
      yield* Deferred.await(begun)
      yield* Fiber.interrupt(fiber)
      expect(seen).toSatisfy(Exit.hasInterrupts)
      expect(finished).toBe(true)
      yield* expectFreeNow("k")
    })
  )

  check(
    "tells what the body's finalizers died of",
    Effect.gen(function* () {
      const begun = yield* Deferred.make<void>()
      const fiber = yield* Effect.forkChild(
        Effect.andThen(Deferred.succeed(begun, undefined), Effect.never).pipe(
          Effect.ensuring(Effect.die("finalizer")),
          Lock.withLock("k")
        )
      )
      yield* Deferred.await(begun)
      yield* Fiber.interrupt(fiber)
      expect(reasonsOf(yield* Fiber.await(fiber))).toEqual(["interrupted", "finalizer"])
      yield* expectFreeNow("k")
    })
  )

  check(
    "that came before the body keeps it from beginning",
    Effect.gen(function* () {
      let begun = false
      const fiber = yield* Effect.forkChild(
        Effect.uninterruptibleMask((restore) =>
          Effect.andThen(settled, restore(Lock.withLock("k")(Effect.sync(() => (begun = true)))))
        ),
        { startImmediately: true }
      )
      yield* Fiber.interrupt(fiber)
      expect(begun).toBe(false)
      yield* expectFreeNow("k")
    })
  )
})

/**
 * Each step of the fiber is a turn of the event loop: it is interrupted after none of them, after one,
 * and so on, until it ends before that.
 */
const afterEverySteps = (
  begin: Effect.Effect<unknown, unknown, LockStore.LockStore>,
  between: Effect.Effect<unknown, unknown, LockStore.LockStore>
) =>
  Effect.gen(function* () {
    let interrupted = 0
    for (let steps = 0; ; steps++) {
      const fiber = yield* Effect.forkDetach(begin).pipe(
        Effect.provideService(Scheduler.MaxOpsBeforeYield, afterEachStep)
      )
      for (let step = 0; step < steps; step++) yield* Effect.yieldNow
      const exit = fiber.pollUnsafe()
      if (exit !== undefined) {
        expect(Exit.isSuccess(exit)).toBe(true)
        break
      }
      yield* Fiber.interrupt(fiber)
      interrupted++
      yield* between
    }
    expect(interrupted).toBeGreaterThan(5)
  })

describe("an interruption leaves nothing behind, after however many steps it comes", () => {
  const ways = [
    ["withLock", Lock.withLock("k")(Effect.void)],
    ["withLockIfAvailable", Lock.withLockIfAvailable("k")(Effect.void)],
    ["acquire", Effect.scoped(Lock.acquire("k"))],
    [
      "acquire with a guard",
      Effect.scoped(Effect.flatMap(Lock.acquire("k"), (lease) => lease.guard(Effect.yieldNow)))
    ],
    [
      "acquire with a release",
      Effect.scoped(Effect.flatMap(Lock.acquire("k"), (lease) => lease.release))
    ]
  ] as const
  for (const [name, way] of ways) {
    check(`${name}, of a free lock`, afterEverySteps(way, expectFreeNow("k")))
  }

  // the lock is given back in the step before the interruption: the grant is in flight
  for (const [name, way] of ways) {
    if (name === "withLockIfAvailable") continue
    check(
      `${name}, of a lock that is handed over`,
      Effect.gen(function* () {
        const store = yield* LockStore.LockStore
        yield* whileHandedOver(way)
        expect(yield* Effect.orDie(store.look!("k", 10))).toMatchObject({ held: [], pending: [] })
      })
    )
  }
})

/** The same, where the fiber waits first, and its steps are counted from the handoff on. */
const whileHandedOver = (way: Effect.Effect<unknown, unknown, LockStore.LockStore>) =>
  Effect.gen(function* () {
    let interrupted = 0
    for (let steps = 0; ; steps++) {
      const held = yield* Scope.make()
      yield* Effect.provideService(Lock.acquire("k"), Scope.Scope, held)
      const fiber = yield* Effect.forkDetach(way).pipe(
        Effect.provideService(Scheduler.MaxOpsBeforeYield, afterEachStep)
      )
      yield* settled
      yield* settled
      yield* Scope.close(held, Exit.void)
      for (let step = 0; step < steps; step++) yield* Effect.yieldNow
      const exit = fiber.pollUnsafe()
      if (exit !== undefined) break
      yield* Fiber.interrupt(fiber)
      interrupted++
      yield* expectFreeNow("k")
    }
    expect(interrupted).toBeGreaterThan(3)
  })

describe("stacks", () => {
  const many = 5_000

  it("a key is passed on through thousands of callers, in order", () =>
    Effect.gen(function* () {
      const held = yield* Lock.acquire("k")
      const order: Array<number> = []
      const fibers: Array<Fiber.Fiber<void, unknown>> = []
      for (let i = 0; i < many; i++) {
        const body = Effect.sync(() => void order.push(i))
        fibers.push(
          yield* Effect.forkDetach(Lock.withLock("k", { warnAfter: "1 hour" })(body), {
            startImmediately: true
          })
        )
      }
      yield* held.release
      yield* Effect.forEach(fibers, Fiber.join)
      expect(order).toEqual(Array.from({ length: many }, (_, i) => i))
    }).pipe(
      Effect.scoped,
      Effect.provide(MemoryLockStore.layer),
      Effect.provide(quiet),
      Effect.runPromise
    ))

  it("thousands of locks nest", () => {
    const nest = (depth: number): Effect.Effect<number, unknown, LockStore.LockStore> =>
      depth === 0
        ? Effect.succeed(many)
        : Effect.suspend(() => Lock.withLock(`k${depth}`)(nest(depth - 1)))
    return nest(many).pipe(
      Effect.tap((depth) => Effect.sync(() => expect(depth).toBe(many))),
      Effect.provide(MemoryLockStore.layer),
      Effect.runPromise
    )
  })
})

describe("references and scopes", () => {
  const Request = Context.Reference<string>("test/Request", { defaultValue: () => "none" })

  check(
    "a body has its caller's references; what it puts into its fiber's context stays there",
    Effect.gen(function* () {
      const body = Effect.withFiber((fiber) => {
        const seen = fiber.getRef(Request)
        fiber.setContext(Context.add(fiber.context, Request, "the body's"))
        return Effect.succeed(seen)
      })
      const seen = yield* Effect.gen(function* () {
        const inLock = yield* Lock.withLock("k")(body)
        const lease = yield* Lock.acquire("k")
        const inGuard = yield* lease.guard(body)
        return [inLock, inGuard, yield* Request]
      }).pipe(Effect.provideService(Request, "the caller's"))
      expect(seen).toEqual(["the caller's", "the caller's", "the caller's"])
      expect(yield* Request).toBe("none")
    })
  )

  check(
    "a finalizer that a body adds is of its caller's scope, and so runs after the release of withLock",
    Effect.gen(function* () {
      const order: Array<string> = []
      yield* Effect.scoped(
        Effect.gen(function* () {
          yield* Lock.withLock("k")(
            Effect.addFinalizer(() => Effect.sync(() => order.push("finalizer")))
          )
          yield* expectFreeNow("k")
          order.push("free")
        })
      )
      expect(order).toEqual(["free", "finalizer"])
    })
  )

  check(
    "an early release takes its finalizer out of the scope",
    Effect.gen(function* () {
      const scope = yield* Scope.make()
      for (let i = 0; i < 3; i++) {
        const lease = yield* Effect.provideService(Lock.acquire("k"), Scope.Scope, scope)
        expect(scope.state._tag).toBe("Open")
        yield* lease.release
        expect(scope.state._tag).toBe("Empty")
      }
    })
  )

  check(
    "a scope that closes all at once still stops the renewal before the release",
    Effect.gen(function* () {
      const scope = yield* Scope.make("parallel")
      const lease = yield* Effect.provideService(Lock.acquire("k"), Scope.Scope, scope)
      yield* Scope.close(scope, Exit.void)
      expect(yield* lease.isHeld).toBe(false)
      yield* expectFreeNow("k")
    })
  )
})

it("a wall clock that is set changes nothing of a lease", () =>
  Effect.gen(function* () {
    const clock = yield* Clock.Clock
    let ahead = 0n
    const settable: Clock.Clock = {
      currentTimeMillisUnsafe: () => clock.currentTimeMillisUnsafe() + Number(ahead / 1_000_000n),
      currentTimeMillis: Effect.sync(() => settable.currentTimeMillisUnsafe()),
      currentTimeNanosUnsafe: () => clock.currentTimeNanosUnsafe() + ahead,
      currentTimeNanos: Effect.sync(() => settable.currentTimeNanosUnsafe()),
      monotonicTimeNanosUnsafe: () => clock.monotonicTimeNanosUnsafe(),
      monotonicTimeNanos: clock.monotonicTimeNanos,
      sleep: (duration) => clock.sleep(duration)
    }
    yield* Effect.gen(function* () {
      const lease = yield* Lock.acquire("k", { ttl: "30 seconds" })
      ahead = 3_600_000_000_000n
      expect(yield* lease.isHeld).toBe(true)
      yield* lease.verify
    }).pipe(
      Effect.scoped,
      Effect.provide(MemoryLockStore.layer),
      Effect.provideService(Clock.Clock, settable)
    )
  }).pipe(Effect.runPromise))

describe("metrics", () => {
  it("begin at zero with the first use of a name, for each registry and each set of attributes", () =>
    Effect.gen(function* () {
      const use = Lock.withLock("k", { name: "begins" })(Effect.void)
      for (const registry of [new Map(), new Map()] as const) {
        for (const attributes of [{}, { tenant: "a" }]) {
          const seen = yield* Effect.andThen(use, Metric.snapshot).pipe(
            Effect.provideService(Metric.MetricRegistry, registry),
            Effect.provideService(Metric.CurrentMetricAttributes, attributes)
          )
          const own = seen.filter(
            (metric) => metric.attributes?.["tenant"] === (attributes as { tenant?: string }).tenant
          )
          const lost = own.filter(({ id }) => id === "effect_redis_lock_lost")
          expect(lost.map((metric) => metric.attributes?.["reason"]).sort()).toEqual([
            "MaxHold",
            "Missing",
            "Released",
            "Revoked",
            "Taken",
            "Unreachable"
          ])
          for (const { state } of lost) expect(state).toEqual({ count: 0, incremental: true })
          expect(own.find(({ id }) => id === "effect_redis_lock_held")?.state).toEqual({ value: 0 })
        }
      }
    }).pipe(Effect.provide(MemoryLockStore.layer), Effect.runPromise))

  it("have the boundaries that they have with Effect 3", () =>
    Effect.gen(function* () {
      yield* Lock.withLock("k", { name: "boundaries" })(Effect.void)
      const wait = (yield* Metric.snapshot).find(({ id }) => id === "effect_redis_lock_wait_millis")
      const { buckets } = wait!.state as Metric.HistogramState
      const millis = buckets.map(([boundary]) => boundary)
      expect(millis).toEqual([
        ...Array.from({ length: 16 }, (_, i) => 2 ** i),
        Number.POSITIVE_INFINITY
      ])
    }).pipe(
      Effect.provide(MemoryLockStore.layer),
      Effect.provideService(Metric.MetricRegistry, new Map()),
      Effect.runPromise
    ))
})

it("a renewal runs where the lease was asked for", () => {
  const logged: Array<unknown> = []
  const logger = Logger.make(({ fiber, message }) => {
    logged.push([String(message).slice(0, 24), fiber.getRef(References.CurrentLogAnnotations)])
  })
  return Effect.gen(function* () {
    const memory = yield* LockStore.LockStore
    const failing: LockStore.LockStore = {
      ...memory,
      acquire: (claim, restore) =>
        Effect.map(memory.acquire(claim, restore), (grant) => ({
          ...grant,
          renew: Effect.die("no renewal")
        }))
    }
    const lost = yield* Lock.withLock("k", { ttl: "100 millis" })(Effect.never).pipe(
      Effect.annotateLogs("request", 7),
      Effect.provideService(LockStore.LockStore, failing),
      Effect.exit
    )
    expect(reasonsOf(lost)).toEqual(["LockLost"])
    expect(logged.length).toBeGreaterThan(1)
    for (const [, annotations] of logged as Array<[string, unknown]>) {
      expect(annotations).toMatchObject({ request: 7, "lock.key": "k" })
    }
  }).pipe(
    Effect.provideService(References.MinimumLogLevel, "Debug"),
    Effect.provide(Logger.layer([logger])),
    Effect.provide(MemoryLockStore.layer),
    Effect.runPromise
  )
})
