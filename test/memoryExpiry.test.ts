/** The memory store between the moment in which a lease runs out, and its timer. */
import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as TestClock from "effect/TestClock"
import { type LockStore, MemoryLockStore } from "effect-redis-lock"
import { forkSettled, stateOf } from "./support/fibers.js"
import { blockEventLoop } from "./redis/support.js"
import { ask } from "./support/stores.js"

/** With patience. */
const claim = (ttlMillis: number, more?: Partial<LockStore.Claim>) =>
  ask("key", { ttlMillis, waitMillis: Number.POSITIVE_INFINITY, ...more })

describe("between a lease's end and its timer, which counts whole milliseconds", () => {
  /** A holder until 100.5 ms, whose waiter's timer fires at 101 ms. */
  const held = Effect.gen(function* () {
    yield* TestClock.adjust(0.5)
    yield* claim(100)
    yield* TestClock.adjust(0.5)
    const waiter = yield* forkSettled(claim(100))
    yield* TestClock.adjust(99.7)
    expect(stateOf(waiter)).toBe("waiting")
    return waiter
  })

  it.effect("another one that waits forgets nobody: both are served, in order", () =>
    Effect.gen(function* () {
      const first = yield* held
      const second = yield* forkSettled(claim(100))
      yield* TestClock.adjust(1)
      expect([first, second].map(stateOf)).toEqual(["granted", "waiting"])
      yield* TestClock.adjust(100)
      expect(stateOf(second)).toBe("granted")
    }).pipe(Effect.provide(MemoryLockStore.layer))
  )

  it.effect("another one that does not wait does not step in, and forgets nobody", () =>
    Effect.gen(function* () {
      const first = yield* held
      expect(yield* Effect.flip(claim(100, { waitMillis: 0 }))).toMatchObject({
        _tag: "LockUnavailable"
      })
      yield* TestClock.adjust(1)
      expect(stateOf(first)).toBe("granted")
    }).pipe(Effect.provide(MemoryLockStore.layer))
  )

  it.effect("the key is only queued for, and that is enough to refuse another kind", () =>
    Effect.gen(function* () {
      const first = yield* held
      const semaphore = { kind: "semaphore", limit: 3 } as const
      for (const waitMillis of [0, 1_000]) {
        expect(yield* Effect.flip(claim(100, { ...semaphore, waitMillis }))).toMatchObject({
          _tag: "LockStoreError",
          key: "key",
          transient: false,
          detail: expect.stringMatching(/as a lock, .* as a semaphore/)
        })
      }
      yield* TestClock.adjust(1)
      expect(stateOf(first)).toBe("granted")
    }).pipe(Effect.provide(MemoryLockStore.layer))
  )

  it.effect("a waiter that leaves forgets nobody behind it", () =>
    Effect.gen(function* () {
      const first = yield* held
      const second = yield* forkSettled(claim(100))
      const third = yield* forkSettled(claim(100))
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
      yield* claim(50)
      const first = yield* forkSettled(claim(100))
      blockEventLoop(80)
      const second = yield* Effect.fork(claim(100))
      yield* Effect.timeout(Fiber.join(first), "5 seconds")
      yield* Effect.timeout(Fiber.join(second), "5 seconds")
    }).pipe(Effect.provide(MemoryLockStore.layer))
  )
})
