/**
 * The order in which claims of all kinds are served, told to the memory store in random stories; to Redis:
 * test/redis/capacity.test.ts.
 */
import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/TestClock"
import * as TestContext from "effect/TestContext"
import { MemoryLockStore } from "effect-redis-lock"
import type { Stories } from "./support/capacityModel.js"
import { play, tellStories } from "./support/capacityPlayer.js"
import { settle } from "./support/fibers.js"
import { runs } from "./support/queueModel.js"

const inMemory = (commands: Parameters<typeof play>[0]) =>
  Effect.gen(function* () {
    const store = yield* MemoryLockStore.make
    const played = yield* play(commands, {
      stores: [store],
      keyOf: (key) => `key-${key}`,
      settled: () => settle,
      advance: TestClock.adjust,
      tellsInOrder: true,
      vanish: (key, fencingToken) => Effect.orDie(store.revoke!(key, fencingToken))
    })
    expect([...(yield* Stream.runCollect(store.keys!("")))]).toEqual([])
    return played
  }).pipe(Effect.orDie, Effect.provide(TestContext.TestContext))

const tell = (options: Stories) =>
  tellStories(options, { numRuns: runs(60), atLeast: 300 }, (commands) =>
    Effect.runPromise(inMemory(commands))
  )

describe("a key's capacity in memory", () => {
  it.live(
    "is given to claims in their order, whatever they weigh, and whoever leaves, dies or expires",
    () => tell({ kinds: ["semaphore"], withTime: true, withShares: false }),
    runs(60_000)
  )

  it.live(
    "also where kinds meet, and shares are made smaller",
    () => tell({ kinds: ["readWriteLock", "semaphore", "lock"], withTime: true, withShares: true }),
    runs(60_000)
  )
})

describe("readers and writers in memory", () => {
  it.live(
    "are served in order, whoever is downgraded, leaves, dies or expires",
    () => tell({ kinds: ["readWriteLock"], withTime: true, withShares: true }),
    runs(60_000)
  )
})
