/** The store contract, run on Effect 4 over the store in memory, with all that it can do. */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import { describe, expect, it } from "vitest"
import { LockStore, MemoryLockStore } from "../../src/effect4/index.js"
import * as LockStoreContract from "../../src/effect4/LockStoreContract.js"

const capabilities = [
  "semaphore",
  "readWriteLock",
  "reshare",
  "look",
  "keys",
  "revoke",
  "tick",
  "maxHold",
  "holdAtLeast",
  "handOver"
] as const

// (cases may share a store, and run at the same time)
describe.concurrent("the store in memory", () => {
  const store = Effect.runSync(MemoryLockStore.make)
  const cases = LockStoreContract.cases({ capabilities })
  const { timeoutMillis } = cases[0]!
  it.each(cases.map(({ effect, name }) => [name, effect] as const))(
    "%s",
    async (_, effect) => {
      const run = Effect.provideService(effect, LockStore.LockStore, store)
      expect(await Effect.runPromiseExit(run)).toEqual(Exit.void)
    },
    timeoutMillis
  )
})
