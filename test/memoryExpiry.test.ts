/** The memory store between the moment in which a lease runs out, and its timer. */
import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as TestClock from "effect/TestClock"
import { LockStore, MemoryLockStore } from "effect-redis-lock"
import { blockEventLoop } from "./redis/support.js"

const ask = (ttlMillis: number, more?: Partial<LockStore.Claim>) =>
  Effect.flatMap(LockStore.LockStore, (store) =>
    Effect.uninterruptibleMask((restore) =>
      store.acquire(
        { key: "key", ttlMillis, waitMillis: Number.POSITIVE_INFINITY, owner: undefined, ...more },
        restore
      )
    )
  )

/** Lets every fiber run that can. */
const settle = Effect.replicateEffect(Effect.yieldNow(), 20, { discard: true })

const forkSettled = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.zipLeft(Effect.fork(effect), settle)

const stateOf = (fiber: Fiber.RuntimeFiber<unknown, unknown>) => {
  const exit = fiber.unsafePoll()
  return exit === null ? "waiting" : Exit.isSuccess(exit) ? "granted" : "failed"
}

describe("between a lease's end and its timer, which counts whole milliseconds", () => {
  /** A holder until 100.5 ms, whose waiter's timer fires at 101 ms. */
  const held = Effect.gen(function* () {
    yield* TestClock.adjust(0.5)
    yield* ask(100)
    yield* TestClock.adjust(0.5)
    const waiter = yield* forkSettled(ask(100))
    yield* TestClock.adjust(99.7)
    expect(stateOf(waiter)).toBe("waiting")
    return waiter
  })

  it.effect("another one that waits forgets nobody: both are served, in order", () =>
    Effect.gen(function* () {
      const first = yield* held
      const second = yield* forkSettled(ask(100))
      yield* TestClock.adjust(1)
      expect([first, second].map(stateOf)).toEqual(["granted", "waiting"])
      yield* TestClock.adjust(100)
      expect(stateOf(second)).toBe("granted")
    }).pipe(Effect.provide(MemoryLockStore.layer))
  )

  it.effect("another one that does not wait does not step in, and forgets nobody", () =>
    Effect.gen(function* () {
      const first = yield* held
      expect(yield* Effect.flip(ask(100, { waitMillis: 0 }))).toMatchObject({
        _tag: "LockUnavailable"
      })
      yield* TestClock.adjust(1)
      expect(stateOf(first)).toBe("granted")
    }).pipe(Effect.provide(MemoryLockStore.layer))
  )

  it.effect("a waiter that leaves forgets nobody behind it", () =>
    Effect.gen(function* () {
      const first = yield* held
      const second = yield* forkSettled(ask(100))
      const third = yield* forkSettled(ask(100))
      yield* Fiber.interrupt(second)
      yield* TestClock.adjust(1)
      expect([first, third].map(stateOf)).toEqual(["granted", "waiting"])
      yield* TestClock.adjust(100)
      expect(stateOf(third)).toBe("granted")
    }).pipe(Effect.provide(MemoryLockStore.layer))
  )
})

describe("after a stall of the event loop that outlasts a lease", () => {
  it.live("one that joins before the timers run forgets nobody", () =>
    Effect.gen(function* () {
      yield* ask(50)
      const first = yield* forkSettled(ask(100))
      blockEventLoop(80)
      const second = yield* Effect.fork(ask(100))
      yield* Effect.timeout(Fiber.join(first), "5 seconds")
      yield* Effect.timeout(Fiber.join(second), "5 seconds")
    }).pipe(Effect.provide(MemoryLockStore.layer))
  )
})
