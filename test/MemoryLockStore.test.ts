import { expect, it } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import { identity } from "effect/Function"
import * as Logger from "effect/Logger"
import * as Scope from "effect/Scope"
import * as TestClock from "effect/TestClock"
import * as TestContext from "effect/TestContext"
import { Lock, LockStore, MemoryLockStore } from "effect-redis-lock"
import * as fc from "fast-check"
import { describe } from "vitest"
import { supervised } from "./redis/support.js"
import { forkSettled, settle, stateOf } from "./support/fibers.js"
import { ask, claimOf, memory, StoreControls } from "./support/stores.js"

/** With patience. */
const claim = (key: string, more?: Partial<LockStore.Claim>) =>
  ask(key, { ttlMillis: 1_000, waitMillis: Number.POSITIVE_INFINITY, ...more })

describe("under a TestClock", () => {
  it.effect("a lease that nobody renews ends with its ttl, to the millisecond", () =>
    Effect.gen(function* () {
      const first = yield* claim("key", { ttlMillis: 1_000 })
      yield* TestClock.adjust(999)
      expect(yield* first.verify).toBe("Ours")
      yield* TestClock.adjust(1)
      expect(yield* first.verify).toBe("Missing")
      expect((yield* claim("key", { waitMillis: 0 })).contention).toBeUndefined()
    }).pipe(Effect.provide(MemoryLockStore.layer))
  )

  it.effect("an expiry hands the key to the first waiter at that very moment", () =>
    Effect.gen(function* () {
      yield* claim("key", { ttlMillis: 1_000 })
      const second = yield* forkSettled(claim("key", { ttlMillis: 500 }))
      const third = yield* forkSettled(claim("key"))
      yield* TestClock.adjust(999)
      expect([second, third].map(stateOf)).toEqual(["waiting", "waiting"])
      yield* TestClock.adjust(1)
      expect([second, third].map(stateOf)).toEqual(["granted", "waiting"])
      // and that one's ttl counts from then
      yield* TestClock.adjust(499)
      expect(stateOf(third)).toBe("waiting")
      yield* TestClock.adjust(1)
      expect(stateOf(third)).toBe("granted")
    }).pipe(Effect.provide(MemoryLockStore.layer))
  )

  it.effect("also where the clock says a date, of which a number cannot hold the nanoseconds", () =>
    Effect.gen(function* () {
      const start = 1_767_225_600_000
      yield* TestClock.setTime(start)
      const ttls = Array.from({ length: 300 }, (_, index) => 5_000 + index)
      const waiters = yield* Effect.forEach(ttls, (ttlMillis) =>
        Effect.zipRight(
          claim(`key-${ttlMillis}`, { ttlMillis }),
          Effect.fork(Effect.zipRight(claim(`key-${ttlMillis}`), Clock.currentTimeMillis))
        )
      )
      yield* settle
      yield* TestClock.adjust("6 seconds")
      const served = yield* Fiber.join(Fiber.all(waiters))
      expect(served.map((at) => at - start)).toEqual(ttls)
    }).pipe(Effect.provide(MemoryLockStore.layer))
  )

  it.effect("fencing tokens are whole, and grow, at whatever nanosecond", () =>
    Effect.gen(function* () {
      let last = 0
      for (const step of [1_500n, 1n, 333n, 1_000n, 1_234_567n]) {
        yield* TestClock.adjust(Duration.nanos(step))
        const { fencingToken, release } = yield* claim("key")
        expect(Number.isSafeInteger(fencingToken)).toBe(true)
        expect(fencingToken).toBeGreaterThan(last)
        last = fencingToken
        yield* release
      }
    }).pipe(Effect.provide(MemoryLockStore.layer))
  )

  it.effect("several expiries within one step of the clock are served in their order", () =>
    Effect.gen(function* () {
      const granted: Array<number> = []
      yield* claim("key", { ttlMillis: 100 })
      for (const i of [1, 2, 3]) {
        yield* forkSettled(Effect.map(claim("key", { ttlMillis: 100 }), () => granted.push(i)))
      }
      yield* TestClock.adjust(300)
      expect(granted).toEqual([1, 2, 3])
    }).pipe(Effect.provide(MemoryLockStore.layer))
  )

  it.effect("a renewal of the holder postpones the waiter's turn", () =>
    Effect.gen(function* () {
      const first = yield* claim("key", { ttlMillis: 1_000 })
      const second = yield* forkSettled(claim("key"))
      yield* TestClock.adjust(700)
      yield* first.renew
      yield* TestClock.adjust(999)
      expect(stateOf(second)).toBe("waiting")
      yield* TestClock.adjust(1)
      expect(stateOf(second)).toBe("granted")
    }).pipe(Effect.provide(MemoryLockStore.layer))
  )

  it.effect("waiters are served in the order in which they came, those that left aside", () =>
    Effect.gen(function* () {
      const served: Array<number> = []
      const scope = yield* Scope.make()
      yield* Scope.extend(Lock.acquire("key"), scope)
      const fibers = []
      for (let i = 0; i < 6; i++) {
        fibers.push(
          yield* forkSettled(
            Effect.sync(() => served.push(i)).pipe(
              Lock.withLock("key", i === 3 ? { waitAtMost: "1 second" } : {})
            )
          )
        )
      }
      yield* Fiber.interrupt(fibers[1]!)
      yield* TestClock.adjust("1 second")
      yield* Scope.close(scope, Exit.void)
      yield* settle
      expect(served).toEqual([0, 2, 4, 5])
      expect(yield* Effect.flip(Fiber.join(fibers[3]!))).toMatchObject({ _tag: "LockUnavailable" })
    }).pipe(Effect.provide(MemoryLockStore.layer))
  )

  it.effect("a release serves the waiter before it ends, so that nobody can step in", () =>
    Effect.gen(function* () {
      const first = yield* claim("key")
      const second = yield* forkSettled(claim("key"))
      yield* first.release
      expect(yield* Effect.flip(claim("key", { waitMillis: 0 }))).toMatchObject({
        _tag: "LockUnavailable"
      })
      yield* Fiber.join(second)
    }).pipe(Effect.provide(MemoryLockStore.layer))
  )

  it.effect("waitAtMost ends the wait to the millisecond", () =>
    Effect.gen(function* () {
      yield* Lock.acquire("key", { ttl: "20 seconds" })
      const waiter = yield* forkSettled(
        Effect.scoped(Lock.acquire("key", { waitAtMost: "7 seconds" }))
      )
      yield* TestClock.adjust(6_999)
      expect(stateOf(waiter)).toBe("waiting")
      yield* TestClock.adjust(1)
      expect(stateOf(waiter)).toBe("failed")
      const error = yield* Effect.flip(Fiber.join(waiter))
      expect(error).toMatchObject({ _tag: "LockUnavailable", waited: Duration.seconds(7) })
    }).pipe(Effect.scoped, Effect.provide(MemoryLockStore.layer))
  )

  it.effect("LockUnavailable says exactly since when and until when", () =>
    Effect.gen(function* () {
      yield* Lock.acquire("key", { ttl: "20 seconds", owner: "worker 7" })
      yield* TestClock.adjust("3 seconds")
      const error = yield* Effect.flip(Lock.tryAcquire("key"))
      expect(error).toMatchObject({
        retryAfter: Duration.seconds(17),
        holder: { owner: "worker 7", heldFor: Duration.seconds(3), foreign: false },
        waited: Duration.zero
      })
      expect(error.message).toBe(
        'Lock "key" is not available: held by worker 7, for 3s so far. It expires in 17s unless it is renewed.'
      )
    }).pipe(Effect.scoped, Effect.provide(MemoryLockStore.layer))
  )

  it.effect(
    "a holder that gave no owner is one without a name, also in the warning of a wait",
    () =>
      Effect.gen(function* () {
        const messages: Array<string> = []
        const logger = Logger.make(({ message }) => void messages.push(String(message)))
        for (const owner of [undefined, ""]) {
          yield* Effect.scoped(
            Effect.gen(function* () {
              yield* Effect.forkScoped(
                Lock.withLock("key", { ttl: "20 seconds", owner })(Effect.never)
              )
              yield* TestClock.adjust("3 seconds")
              const error = yield* Effect.flip(Lock.tryAcquire("key"))
              expect(error.message).toBe(
                'Lock "key" is not available: held by a holder without a name, for 3s so far. It expires in 17s unless it is renewed.'
              )
              yield* Effect.forkScoped(Lock.acquire("key", { warnAfter: "1 second" }))
              yield* TestClock.adjust("1 second")
              expect(messages.pop()).toBe(
                'Still waiting. Lock "key" is not available after waiting 1s: held by a holder without a name, for 4s so far. It expires in 16s unless it is renewed.'
              )
            })
          ).pipe(Effect.provide(Logger.replace(Logger.defaultLogger, logger)))
        }
      }).pipe(Effect.provide(MemoryLockStore.layer))
  )

  it.effect("renewals come at every half of the ttl, and keep the lease for hours", () =>
    Effect.gen(function* () {
      const { count } = yield* StoreControls
      const lease = yield* Lock.acquire("key", { ttl: "1 minute" })
      yield* TestClock.adjust(29_999)
      expect(count("key", "renew")).toBe(0)
      yield* TestClock.adjust(1)
      expect(count("key", "renew")).toBe(1)
      yield* TestClock.adjust("30 seconds")
      expect(count("key", "renew")).toBe(2)
      yield* TestClock.adjust("2 hours")
      expect(count("key", "renew")).toBe(242)
      yield* lease.verify
      expect(Duration.toMillis(yield* lease.remaining)).toBe(60_000 - 602)
    }).pipe(Effect.scoped, Effect.provide(memory))
  )

  it.effect("renewEvery is obeyed", () =>
    Effect.gen(function* () {
      const { count } = yield* StoreControls
      yield* Lock.acquire("key", { ttl: "1 minute", renewEvery: "5 seconds" })
      yield* TestClock.adjust(61_000)
      expect(count("key", "renewed")).toBe(12)
    }).pipe(Effect.scoped, Effect.provide(memory))
  )

  for (const [name, build] of Object.entries({
    "an uninterruptible region": Effect.uninterruptible(MemoryLockStore.make),
    "the acquire half of a resource": Effect.acquireRelease(MemoryLockStore.make, () => Effect.void)
  })) {
    it.scoped(`a store that is made in ${name} keeps its leases, and loses what it must`, () =>
      Effect.gen(function* () {
        const store = yield* build
        const roots = new Set(yield* Fiber.roots)
        const held = yield* Lock.withLock("key", { ttl: 200 })(
          Effect.as(Effect.sleep(1_000), "held")
        ).pipe(Effect.provideService(LockStore.LockStore, store), Effect.fork)
        yield* Effect.zipRight(settle, TestClock.adjust(1_000))
        expect(yield* Fiber.join(held)).toBe("held")
        yield* settle
        expect([...(yield* Fiber.roots)].filter((fiber) => !roots.has(fiber))).toEqual([])
        // a waiter's deadline that is not reached, and an expiry that is
        yield* store.acquire(claimOf("other", { ttlMillis: 500 }), identity)
        const waiter = yield* forkSettled(
          store.acquire(claimOf("other", { ttlMillis: 500, waitMillis: 600 }), identity)
        )
        yield* TestClock.adjust(500)
        expect(stateOf(waiter)).toBe("granted")
        yield* TestClock.adjust(500)
        expect(stateOf(waiter)).toBe("granted")
      })
    )
  }

  it.effect("without an answer the body is interrupted a margin before the validity ends", () =>
    Effect.gen(function* () {
      const { silenceRenewals } = yield* StoreControls
      silenceRenewals("key")
      const held: Array<readonly [string, boolean, number]> = []
      const note = (what: string, lease: Effect.Effect.Success<ReturnType<typeof Lock.acquire>>) =>
        Effect.zipWith(lease.isHeld, lease.remaining, (isHeld, left) => {
          held.push([what, isHeld, Math.round(Duration.toMillis(left))])
        })
      const fiber = yield* forkSettled(
        Lock.withLock("key", { ttl: "10 seconds", margin: "3 seconds" })((lease) =>
          Effect.never.pipe(
            Effect.onInterrupt(() =>
              Effect.gen(function* () {
                yield* note("at the loss", lease)
                yield* Effect.sleep(2_999)
                yield* note("in the margin", lease)
                yield* Effect.sleep(2)
                yield* note("after it", lease)
              })
            )
          )
        )
      )
      const next = yield* forkSettled(claim("key"))
      // 10 s less 1 % and 2 ms, less the margin
      yield* TestClock.adjust(6_897)
      expect(held).toEqual([])
      yield* TestClock.adjust(1)
      expect(held).toEqual([["at the loss", true, 3_000]])
      yield* TestClock.adjust(3_001)
      expect(held.slice(1)).toEqual([
        ["in the margin", true, 1],
        ["after it", false, 0]
      ])
      expect(yield* Effect.flip(Fiber.join(fiber))).toMatchObject({
        _tag: "LockLost",
        reason: "Unreachable"
      })
      // the release at the end of withLock freed it
      expect(stateOf(next)).toBe("granted")
    }).pipe(Effect.provide(memory))
  )

  it.effect("renewals that fail are tried again every few moments, not in a hot loop", () =>
    Effect.gen(function* () {
      const { count, failRenewals } = yield* StoreControls
      failRenewals("key")
      const lease = yield* Lock.acquire("key", { ttl: "10 seconds" })
      const lost = yield* forkSettled(Effect.flip(lease.awaitLost))
      yield* TestClock.adjust("10 seconds")
      expect(yield* Fiber.join(lost)).toMatchObject({ reason: "Unreachable" })
      // from 5 s to 8.9 s, every 100 to 300 ms
      expect(count("key", "renew")).toBeGreaterThan(8)
      expect(count("key", "renew")).toBeLessThan(60)
    }).pipe(Effect.scoped, Effect.provide(memory))
  )

  it.effect("a process that stood still compares clocks before anything else", () =>
    Effect.gen(function* () {
      const { count, silenceRenewals } = yield* StoreControls
      silenceRenewals("key")
      const lease = yield* Lock.acquire("key", { ttl: "10 seconds" })
      yield* TestClock.adjust("11 seconds")
      expect(yield* lease.isHeld).toBe(false)
      let ran = false
      const guarded = lease.guard(Effect.sync(() => (ran = true)))
      expect(yield* Effect.flip(guarded)).toMatchObject({ _tag: "LockLost" })
      expect(yield* Effect.flip(lease.verify)).toMatchObject({ _tag: "LockLost" })
      expect(ran).toBe(false)
      expect(count("key", "verify")).toBe(0)
    }).pipe(Effect.scoped, Effect.provide(memory))
  )

  it.effect("no fiber is left, nor a timer, when everybody has gone", () =>
    Effect.gen(function* () {
      const body = Effect.sleep("12 seconds").pipe(Lock.withLock("key", { waitAtMost: "1 minute" }))
      const [fibers, left] = yield* supervised(Effect.forEach([1, 2, 3], () => forkSettled(body)))
      expect((yield* left).length).toBeGreaterThan(0)
      yield* TestClock.adjust("15 seconds")
      yield* Fiber.interrupt(fibers[2]!)
      yield* TestClock.adjust("15 seconds")
      yield* Fiber.joinAll(fibers.slice(0, 2))
      yield* settle
      expect((yield* left).length).toBe(0)
    }).pipe(Effect.provide(MemoryLockStore.layer))
  )

  it.effect("fencing tokens grow where the clock stands still", () =>
    Effect.gen(function* () {
      const tokens = yield* Effect.replicateEffect(
        Effect.tap(claim("key"), (grant) => grant.release),
        5
      )
      const fences = tokens.map((grant) => grant.fencingToken)
      expect(fences).toEqual([...new Set(fences)].sort((a, b) => a - b))
    }).pipe(Effect.provide(MemoryLockStore.layer))
  )

  it.effect("two stores know nothing of each other", () =>
    Effect.gen(function* () {
      const [one, two] = [yield* MemoryLockStore.make, yield* MemoryLockStore.make]
      yield* Effect.provideService(Lock.tryAcquire("key"), LockStore.LockStore, one)
      yield* Effect.provideService(Lock.tryAcquire("key"), LockStore.LockStore, two)
    }).pipe(Effect.scoped)
  )
})

// ---------------------------------------------------------------- against a model

/**
 * Times are multiples of 10, but for the ends of waits, which lie between: so no two things happen
 * in the same moment whose order is not fixed.
 */
type Command =
  | { readonly _tag: "Arrive"; readonly ttl: number; readonly wait: number }
  | { readonly _tag: "Cancel"; readonly who: number }
  | { readonly _tag: "Release"; readonly who: number }
  | { readonly _tag: "Renew"; readonly who: number }
  | { readonly _tag: "Advance"; readonly millis: number }

const tens = (max: number) => fc.integer({ min: 1, max }).map((n) => n * 10)
const who = fc.nat({ max: 20 })
const command: fc.Arbitrary<Command> = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.record({
      _tag: fc.constant("Arrive" as const),
      ttl: tens(10),
      wait: fc.oneof(
        fc.constant(0),
        fc.constant(Number.POSITIVE_INFINITY),
        tens(20).map((n) => n + 5)
      )
    })
  },
  { weight: 1, arbitrary: fc.record({ _tag: fc.constant("Cancel" as const), who }) },
  { weight: 2, arbitrary: fc.record({ _tag: fc.constant("Release" as const), who }) },
  { weight: 2, arbitrary: fc.record({ _tag: fc.constant("Renew" as const), who }) },
  { weight: 3, arbitrary: fc.record({ _tag: fc.constant("Advance" as const), millis: tens(12) }) }
)

type State = "waiting" | "granted" | "unavailable" | "cancelled"

interface Caller {
  readonly ttl: number
  readonly deadline: number
  state: State
}

/** One key, as anyone would describe it. */
class Model {
  now = 0
  readonly callers: Array<Caller> = []
  readonly queue: Array<number> = []
  readonly grants: Array<number> = []
  holder: { readonly who: number; expiresAt: number } | undefined = undefined

  arrive(ttl: number, wait: number): void {
    const caller: Caller = { ttl, deadline: this.now + wait, state: "waiting" }
    const who = this.callers.push(caller) - 1
    if (wait === 0 && this.holder !== undefined) caller.state = "unavailable"
    else this.queue.push(who)
    this.serve()
  }

  cancel(who: number): void {
    if (this.callers[who]?.state === "waiting") this.leave(who, "cancelled")
  }

  release(who: number): void {
    if (this.holder?.who === who) this.holder = undefined
    this.serve()
  }

  renew(who: number): void {
    if (this.holder?.who === who) this.holder.expiresAt = this.now + this.callers[who]!.ttl
  }

  advance(millis: number): void {
    for (const end = this.now + millis; this.now < end;) {
      this.now += 5
      const late = this.queue.filter((who) => this.callers[who]!.deadline <= this.now)
      for (const who of late) this.leave(who, "unavailable")
      if (this.holder !== undefined && this.holder.expiresAt <= this.now) this.holder = undefined
      this.serve()
    }
  }

  private leave(who: number, state: State): void {
    this.queue.splice(this.queue.indexOf(who), 1)
    this.callers[who]!.state = state
  }

  private serve(): void {
    const who = this.holder === undefined ? this.queue.shift() : undefined
    if (who === undefined) return
    const caller = this.callers[who]!
    caller.state = "granted"
    this.holder = { who, expiresAt: this.now + caller.ttl }
    this.grants.push(who)
  }
}

const observe = (fiber: Fiber.RuntimeFiber<unknown, unknown>): State => {
  const exit = fiber.unsafePoll()
  if (exit === null) return "waiting"
  return Exit.isSuccess(exit) ? "granted" : Exit.isInterrupted(exit) ? "cancelled" : "unavailable"
}

const play = (commands: ReadonlyArray<Command>) =>
  Effect.gen(function* () {
    const model = new Model()
    const fibers: Array<Fiber.RuntimeFiber<LockStore.Grant, unknown>> = []
    const fences: Array<number> = []
    const grantOf = (who: number) => {
      const exit = fibers[who]?.unsafePoll()
      return exit !== undefined && exit !== null && Exit.isSuccess(exit) ? exit.value : undefined
    }
    for (const command of commands) {
      switch (command._tag) {
        case "Arrive": {
          model.arrive(command.ttl, command.wait)
          fibers.push(
            yield* forkSettled(
              Effect.tap(
                claim("key", { ttlMillis: command.ttl, waitMillis: command.wait }),
                (grant) => Effect.sync(() => fences.push(grant.fencingToken))
              )
            )
          )
          break
        }
        case "Cancel": {
          model.cancel(command.who)
          const fiber = fibers[command.who]
          if (fiber !== undefined) yield* Fiber.interrupt(fiber)
          break
        }
        case "Release": {
          const ours = model.holder?.who === command.who
          model.release(command.who)
          const grant = grantOf(command.who)
          if (grant !== undefined) expect((yield* grant.release) === "Ours").toBe(ours)
          break
        }
        case "Renew": {
          const ours = model.holder?.who === command.who
          model.renew(command.who)
          const grant = grantOf(command.who)
          if (grant !== undefined) expect((yield* grant.renew)._tag === "Renewed").toBe(ours)
          break
        }
        case "Advance":
          model.advance(command.millis)
          yield* TestClock.adjust(command.millis)
      }
      yield* settle
      expect(fibers.map(observe)).toEqual(model.callers.map((caller) => caller.state))
      const owners: Array<number> = []
      for (const who of fibers.keys()) {
        if ((yield* grantOf(who)?.verify ?? Effect.succeed("Missing")) === "Ours") owners.push(who)
      }
      expect(owners).toEqual(model.holder === undefined ? [] : [model.holder.who])
      expect(fences).toHaveLength(model.grants.length)
      expect(fences).toEqual([...new Set(fences)].sort((a, b) => a - b))
    }
  })

describe("against a model", () => {
  it("arrivals, cancellations, releases, renewals and expiries in any order", async () => {
    let played = 0
    await fc.assert(
      fc.asyncProperty(fc.array(command, { maxLength: 40, size: "max" }), (commands) => {
        played += commands.length
        return Effect.runPromise(
          play(commands).pipe(
            Effect.provide(MemoryLockStore.layer),
            Effect.provide(TestContext.TestContext)
          )
        )
      }),
      { numRuns: 75 }
    )
    expect(played).toBeGreaterThan(500)
  })
})
