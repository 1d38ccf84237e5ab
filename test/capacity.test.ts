/** The order in which claims of all kinds are served, told to the memory store in random stories. */
import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/TestClock"
import * as TestContext from "effect/TestContext"
import { MemoryLockStore } from "effect-redis-lock"
import * as fc from "fast-check"
import { stories, type Stories } from "./support/capacityModel.js"
import { play } from "./support/capacityPlayer.js"
import { settle } from "./support/fibers.js"
import { replay, runs } from "./support/queueModel.js"

const inMemory = (commands: Parameters<typeof play>[0]) =>
  Effect.gen(function* () {
    const store = yield* MemoryLockStore.make
    const played = yield* play(commands, {
      stores: [store],
      keyOf: (key) => `key-${key}`,
      settled: settle,
      advance: TestClock.adjust,
      vanish: (key, fencingToken) => Effect.orDie(store.revoke!(key, fencingToken))
    })
    expect([...(yield* Stream.runCollect(store.keys!("")))]).toEqual([])
    return played
  }).pipe(Effect.orDie, Effect.provide(TestContext.TestContext))

const tell = (options: Stories, atLeast: number) =>
  Effect.promise(async () => {
    let [grants, together] = [0, 0]
    await fc.assert(
      fc.asyncProperty(stories(options), async (commands) => {
        const played = await Effect.runPromise(inMemory(commands))
        grants += played.grants
        together += played.together
      }),
      // (made smaller when it is told again, by its seed and path)
      { numRuns: runs(60), endOnFailure: replay().path === undefined, ...replay() }
    )
    if (replay().path !== undefined) return
    expect(grants).toBeGreaterThan(atLeast)
    expect(together).toBeGreaterThan(atLeast / 3)
  })

describe("a key's capacity in memory", () => {
  it.live(
    "is given to claims in their order, whatever they weigh, and whoever leaves, dies or expires",
    () => tell({ kinds: ["semaphore"], withTime: true, withShares: false }, 300),
    runs(60_000)
  )

  it.live(
    "also where kinds meet, and shares are made smaller",
    () =>
      tell(
        { kinds: ["readWriteLock", "semaphore", "lock"], withTime: true, withShares: true },
        300
      ),
    runs(60_000)
  )
})
