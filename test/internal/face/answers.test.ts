/** A store whose answers come between two steps of the fiber that asks. */
import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type * as Scheduler from "effect/Scheduler"
import { Lock, LockStore } from "effect-redis-lock"
import type { Store } from "../../../src/internal/engine.js"
import { publicStore } from "../../../src/internal/face/publicStore.js"
import { MemoryStore } from "../../../src/internal/memory/store.js"
import { processClock } from "../../../src/internal/common/timers.js"

/** It answers in the next turn of the event loop. */
const later = (inner: Store): Store => ({
  clock: inner.clock,
  capabilities: inner.capabilities,
  acquire: (claim, onExit) => {
    let cancel = () => {}
    setImmediate(() => {
      cancel = inner.acquire(claim, onExit)
    })
    return () => cancel()
  },
  close: (onClosed) => inner.close(onClosed)
})

/** So many steps at a time, and the next ones after that turn. */
const late = (steps: number): Scheduler.Scheduler => ({
  shouldYield: (fiber) => (fiber.currentOpCount > steps ? 0 : false),
  scheduleTask: (task) => {
    setTimeout(task, 3)
  }
})

const ways = {
  withLock: Lock.withLock("k")(Effect.succeed("in")),
  acquire: Effect.scoped(Effect.as(Lock.acquire("k"), "in")),
  tryAcquire: Effect.scoped(Effect.as(Lock.tryAcquire("k"), "in"))
}

describe("an answer that comes before its fiber waits for it", () => {
  for (const [way, locked] of Object.entries(ways)) {
    it.live(`is heard: ${way}`, () =>
      Effect.gen(function* () {
        const store = publicStore(later(new MemoryStore(processClock, Date.now)), undefined)
        for (let steps = 12; steps <= 40; steps++) {
          const done = yield* locked.pipe(
            Effect.withScheduler(late(steps)),
            Effect.provideService(LockStore.LockStore, store)
          )
          expect([steps, done]).toEqual([steps, "in"])
        }
      })
    )
  }
})
