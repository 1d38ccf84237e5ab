/** What a store cannot do is refused before it is asked. */
import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { Lock, LockStore, MemoryLockStore, ReadWriteLock, Semaphore } from "effect-redis-lock"
import { lacking } from "../src/internal/engine.js"
import { claimOf } from "./support/stores.js"

/** A store of somebody's own, which has plain locks, and whatever else is said. */
const plain = (capabilities?: ReadonlySet<LockStore.Capability>) =>
  Effect.map(MemoryLockStore.make, ({ acquire, clock, look }) => {
    let asked = 0
    const store: LockStore.LockStore = {
      clock,
      capabilities,
      ...(capabilities === undefined || look === undefined ? {} : { look }),
      acquire: (claim, restore) => {
        asked++
        return acquire(claim, restore)
      }
    }
    return { store, asked: () => asked }
  })

describe("a store without capabilities", () => {
  it.effect.each([undefined, new Set<LockStore.Capability>()])(
    "has locks, and refuses semaphores before it is asked (%s)",
    (capabilities) =>
      Effect.gen(function* () {
        const { asked, store } = yield* plain(capabilities)
        const provided = Effect.provideService(LockStore.LockStore, store)
        yield* provided(Lock.withLock("key")(Effect.void))
        expect(asked()).toBe(1)
        const options = { limit: 3 }
        const attempts: ReadonlyArray<Effect.Effect<unknown, unknown, LockStore.LockStore>> = [
          Effect.scoped(Semaphore.acquire("key", options)),
          Effect.scoped(Semaphore.tryAcquire("key", options)),
          Semaphore.withPermits("key", options)(Effect.die("ran")),
          Semaphore.withPermitsIfAvailable("key", options)(Effect.die("ran"))
        ]
        for (const attempt of attempts) {
          expect(yield* Effect.flip(provided(attempt))).toMatchObject({
            _tag: "LockStoreError",
            operation: "acquire",
            key: "key",
            transient: false,
            detail: expect.stringContaining("no semaphore")
          })
        }
        expect(yield* Effect.flip(provided(Semaphore.inUse("key")))).toMatchObject({
          _tag: "LockStoreError",
          operation: "look",
          key: "key",
          transient: false,
          detail: expect.stringContaining("no look")
        })
        expect(asked()).toBe(1)
      })
  )

  it.effect("refuses read-write locks, and downgrades where it has them without that", () =>
    Effect.gen(function* () {
      const none = yield* plain()
      const attempts: ReadonlyArray<Effect.Effect<unknown, unknown, LockStore.LockStore>> = [
        Effect.scoped(ReadWriteLock.readLock("key")),
        Effect.scoped(ReadWriteLock.tryWriteLock("key")),
        ReadWriteLock.withReadLockIfAvailable("key")(Effect.die("ran")),
        ReadWriteLock.withWriteLock("key")(Effect.die("ran"))
      ]
      for (const attempt of attempts) {
        expect(
          yield* Effect.flip(Effect.provideService(attempt, LockStore.LockStore, none.store))
        ).toMatchObject({
          _tag: "LockStoreError",
          operation: "acquire",
          key: "key",
          transient: false,
          detail: expect.stringContaining("no readWriteLock") as string
        })
      }
      expect(none.asked()).toBe(0)

      const { acquire, clock } = yield* MemoryLockStore.make
      const some: LockStore.LockStore = {
        clock,
        capabilities: new Set(["readWriteLock"]),
        acquire: (claim, restore) =>
          Effect.map(acquire(claim, restore), (grant) => {
            const copy: { reshare?: unknown } & LockStore.Grant = { ...grant }
            delete copy.reshare
            return copy
          })
      }
      const write = ReadWriteLock.withWriteLock("key")(({ downgrade, verify }) =>
        Effect.zipLeft(Effect.flip(downgrade), verify)
      )
      expect(yield* Effect.provideService(write, LockStore.LockStore, some)).toMatchObject({
        _tag: "LockStoreError",
        operation: "reshare",
        key: "key",
        transient: false,
        detail: expect.stringContaining("no reshare") as string
      })
    })
  )

  it.effect("a store that says that it has them has them", () =>
    Effect.gen(function* () {
      const { asked, store } = yield* plain(new Set(["semaphore", "look"]))
      const permits = yield* Semaphore.withPermits(Semaphore.inUse("key"), "key", {
        limit: 3,
        permits: 2
      }).pipe(Effect.provideService(LockStore.LockStore, store))
      expect(permits).toBe(2)
      expect(asked()).toBe(1)
    })
  )

  it("every member of a claim that needs something needs that, and a plain lock nothing", () => {
    const needs: ReadonlyArray<readonly [Partial<LockStore.Claim>, LockStore.Capability]> = [
      [{ kind: "semaphore" }, "semaphore"],
      [{ kind: "readWriteLock" }, "readWriteLock"],
      [{ adopt: { token: "token", fencingToken: 1 } }, "handOver"],
      [{ holdAtLeastMillis: 0 }, "holdAtLeast"],
      [{ maxHoldMillis: 1 }, "maxHold"],
      [{ tick: 0 }, "tick"]
    ]
    const all = new Set(needs.map(([, capability]) => capability))
    expect(lacking(claimOf("key"), undefined)).toBeUndefined()
    for (const [more, capability] of needs) {
      const { key: _, whenWaiting: __, ...claim } = claimOf("key", more)
      const others = new Set([...all].filter((other) => other !== capability))
      expect(lacking(claim, undefined)).toBe(capability)
      expect(lacking(claim, others)).toBe(capability)
      expect(lacking(claim, new Set([capability]))).toBeUndefined()
    }
  })
})
