/** `holdAtLeast`: a release before that time leaves the key held until then, by nobody. */
import { describe, expect, it, layer } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as TestClock from "effect/TestClock"
import * as TestContext from "effect/TestContext"
import {
  type Lease,
  Lock,
  LockStore,
  MemoryLockStore,
  MultiLock,
  ReadWriteLock,
  Semaphore
} from "effect-redis-lock"
import type { Claim, Store } from "../src/internal/engine.js"
import { exitOf, forkSettled, stateOf } from "./support/fibers.js"
import { inside } from "./support/inside.js"
import {
  ask,
  claimOf,
  expectFreeNow,
  freshKey,
  quiet,
  StoreControls,
  stores
} from "./support/stores.js"

const now = () => performance.now()

const writer = { kind: "readWriteLock", share: 1_000_000, limit: 1_000_000 } as const

/** What is taken, and what does not fit beside it. */
const kinds = [
  ["a lock", { kind: "lock", share: 1, limit: 1 }, { kind: "lock", share: 1, limit: 1 }],
  [
    "a semaphore",
    { kind: "semaphore", share: 2, limit: 3 },
    { kind: "semaphore", share: 2, limit: 3 }
  ],
  ["a reader", { ...writer, share: 1 }, writer],
  ["a writer", writer, { ...writer, share: 1 }]
] as const

/** Every way to take a lease. */
const ways: ReadonlyArray<
  readonly [
    string,
    (key: string, options: Lease.Options) => Effect.Effect<unknown, unknown, LockStore.LockStore>
  ]
> = [
  ["withLock", (key, options) => Lock.withLock(Effect.void, key, options)],
  [
    "withPermits",
    (key, options) => Semaphore.withPermits(Effect.void, key, { ...options, limit: 1 })
  ],
  ["withReadLock", (key, options) => ReadWriteLock.withReadLock(Effect.void, key, options)],
  ["withWriteLock", (key, options) => ReadWriteLock.withWriteLock(Effect.void, key, options)],
  ["withLocks", (key, options) => MultiLock.withLocks(Effect.void, [key, `${key}-2`], options)],
  ["acquire, and release", (key, options) => Effect.scoped(Lock.acquire(key, options))]
]

describe.concurrent.each(stores)("%s", (_, store) => {
  layer(store, { excludeTestServices: true })((it) => {
    it.scoped("an impossible holdAtLeast is a defect, before anything is asked", () =>
      Effect.gen(function* () {
        const { count } = yield* StoreControls
        const key = freshKey()
        const impossible: ReadonlyArray<readonly [Lease.Options, string]> = [
          [
            { holdAtLeast: "6001 millis", maxHold: 6_000 },
            "holdAtLeast: 6001 ms. It must be at most maxHold, which is 6000 ms"
          ],
          [{ holdAtLeast: Duration.infinity }, "holdAtLeast: Infinity ms."],
          [{ holdAtLeast: 1e16 }, "holdAtLeast: 10000000000000000 ms."],
          [{ holdAtLeast: "soon" as never }, 'holdAtLeast: "soon"'],
          [{ holdAtLeast: null as never }, "holdAtLeast: null"]
        ]
        for (const [options, words] of impossible) {
          for (const [, take] of ways) {
            const exit = yield* Effect.exit(take(key, options))
            const [defect] = Exit.isFailure(exit) ? [...Cause.defects(exit.cause)] : []
            expect(Cause.isIllegalArgumentException(defect)).toBe(true)
            expect((defect as Error).message).toContain(words)
          }
        }
        expect(count(key, "acquire")).toBe(0)
        // none
        yield* Lock.withLock(Effect.void, key, { holdAtLeast: 0, ttl: 60_000 })
        yield* expectFreeNow(key)
      })
    )

    for (const [kind, share, other] of kinds) {
      it.scoped(`a release before it leaves the key held until then, by nobody: ${kind}`, () =>
        Effect.gen(function* () {
          const key = freshKey()
          const startedAt = now()
          const claim = { ...share, ttlMillis: 300, holdAtLeastMillis: 900, owner: "me" }
          const grant = yield* ask(key, claim)
          expect(grant.validUntil).toBeLessThan(
            (yield* LockStore.LockStore).clock.unsafeNow() + 300
          )
          const grantedAt = now()
          const look = (yield* LockStore.LockStore).look!
          expect((yield* look(key, 5)).held).toMatchObject([{ isLeft: false }])
          expect(yield* grant.release).toBe("Ours")
          // a release that is sent again
          expect(yield* grant.release).toBe("Ours")
          expect((yield* grant.renew)._tag).toBe("NotOurs")
          expect(yield* grant.verify).not.toBe("Ours")
          const left = {
            owner: "me",
            fencingToken: grant.fencingToken,
            share: share.share,
            isLeft: true
          }
          expect(yield* look(key, 5)).toMatchObject({
            inUse: share.share,
            heldCount: 1,
            held: [left]
          })
          const busy = yield* Effect.flip(ask(key, other))
          expect(busy).toMatchObject({ _tag: "LockUnavailable", holder: { owner: "me" } })
          // (with patience: it enters when that time is over)
          const next = yield* ask(key, { ...other, waitMillis: 10_000 })
          expect(now() - startedAt).toBeGreaterThan(900 - 5)
          expect(now() - grantedAt).toBeLessThan(900 + 500)
          expect(next.fencingToken).toBeGreaterThan(grant.fencingToken)
          yield* next.release
        })
      )

      it.scoped(`the next caller of the same process waits for as long: ${kind}`, () =>
        Effect.gen(function* () {
          const key = freshKey()
          const claim = { ...other, ttlMillis: 300, holdAtLeastMillis: 700 }
          const startedAt = now()
          const grant = yield* ask(key, { ...claim, ...share })
          const next = yield* Effect.fork(ask(key, { ...claim, waitMillis: 10_000 }))
          const last = yield* Effect.fork(ask(key, { ...claim, ...share, waitMillis: 10_000 }))
          yield* Effect.sleep(100)
          yield* grant.release
          const second = yield* Fiber.join(next)
          expect(now() - startedAt).toBeGreaterThan(700 - 5)
          yield* second.release
          const third = yield* Fiber.join(last)
          expect(now() - startedAt).toBeGreaterThan(1_400 - 10)
          yield* third.release
        })
      )

      it.scoped(`a holder that crashes leaves that much as well: ${kind}`, () =>
        Effect.gen(function* () {
          const key = freshKey()
          const startedAt = now()
          yield* ask(key, { ...share, ttlMillis: 100, holdAtLeastMillis: 800 })
          const grantedAt = now()
          const next = yield* ask(key, { ...other, waitMillis: 10_000 })
          expect(now() - startedAt).toBeGreaterThan(800 - 5)
          expect(now() - grantedAt).toBeLessThan(800 + 500)
          yield* next.release
        })
      )

      it.scoped(`a release after it is as any other: ${kind}`, () =>
        Effect.gen(function* () {
          const key = freshKey()
          const grant = yield* ask(key, { ...share, ttlMillis: 60_000, holdAtLeastMillis: 300 })
          const next = yield* Effect.fork(ask(key, { ...other, waitMillis: 10_000 }))
          yield* Effect.sleep(400)
          expect(exitOf(next)).toBeNull()
          expect((yield* grant.renew)._tag).toBe("Renewed")
          expect(yield* grant.release).toBe("Ours")
          yield* (yield* Fiber.join(next)).release
        })
      )
    }

    for (const [way, take] of ways) {
      it.scoped(`takes no longer for its holder, and the key is held: ${way}`, () =>
        Effect.gen(function* () {
          const key = freshKey()
          const startedAt = now()
          yield* take(key, { ttl: 400, renewEvery: 100, holdAtLeast: 3_000 })
          // (less than it, on a busy machine as well)
          expect(now() - startedAt).toBeLessThan(2_500)
          const { look } = yield* LockStore.LockStore
          expect((yield* look!(key, 1)).heldCount).toBe(1)
        })
      )
    }

    it.scoped("beside others: each share stays in use for its own time", () =>
      Effect.gen(function* () {
        const key = freshKey()
        const permits = { kind: "semaphore", share: 1, limit: 3, ttlMillis: 30_000 } as const
        const { look } = yield* LockStore.LockStore
        const inUse = Effect.map(look!(key, 9), (seen) => [seen.inUse, seen.heldCount])
        const [a, b] = [
          yield* ask(key, permits),
          yield* ask(key, { ...permits, holdAtLeastMillis: 600 })
        ]
        const c = yield* ask(key, { ...permits, holdAtLeastMillis: 30_000 })
        yield* b.release
        yield* c.release
        expect(yield* inUse).toEqual([3, 3])
        yield* a.release
        expect(yield* inUse).toEqual([2, 2])
        const two = yield* ask(key, { ...permits, share: 2, waitMillis: 10_000 })
        expect(yield* inUse).toEqual([3, 2])
        yield* two.release
        expect(yield* inUse).toEqual([1, 1])
      })
    )

    it.scoped("a lease with it is renewed, and lost, as any other", () =>
      Effect.provide(
        Effect.gen(function* () {
          const [key, other] = [freshKey(), freshKey()]
          const { count, silenceRenewals } = yield* StoreControls
          const options = { ttl: 600, renewEvery: 100, holdAtLeast: 2_000 }
          yield* Lock.withLock(Effect.sleep(1_000), key, options)
          expect(count(key, "renewed")).toBeGreaterThan(3)
          silenceRenewals(other)
          const lost = yield* Effect.flip(Lock.withLock(Effect.never, other, options))
          expect(lost).toMatchObject({ _tag: "LockLost", reason: "Unreachable" })
        }),
        quiet
      )
    )

    it.scoped("with maxHold: held until then at most, and at least", () =>
      Effect.provide(
        Effect.gen(function* () {
          const key = freshKey()
          const startedAt = now()
          const options = { ttl: 300, renewEvery: 80, margin: 50, holdAtLeast: 900, maxHold: 900 }
          const lost = yield* Effect.flip(Lock.withLock(Effect.never, key, options))
          expect(lost).toMatchObject({ _tag: "LockLost", reason: "MaxHold" })
          yield* (yield* ask(key, { waitMillis: 10_000 })).release
          expect(now() - startedAt).toBeGreaterThan(900 - 5)
          expect(now() - startedAt).toBeLessThan(900 + 500)
        }),
        quiet
      )
    )

    it.scoped("what did not come to its caller, or was not used, is not held", () =>
      Effect.gen(function* () {
        const key = freshKey()
        const { bare } = yield* StoreControls
        for (const waitMillis of [0, Number.POSITIVE_INFINITY]) {
          const claim = claimOf(key, { holdAtLeastMillis: 60_000, waitMillis })
          yield* Effect.async<void>((resume) => {
            const cancel = inside<Store>(bare).acquire(claim as Claim, (exit) => {
              expect(exit._tag).toBe("Granted")
              queueMicrotask(() => {
                cancel()
                resume(Effect.void)
              })
            })
          })
          yield* (yield* ask(key, { waitMillis: 5_000 })).release
        }
      })
    )

    it.scoped("MultiLock: what was got before all were is given back at once", () =>
      Effect.gen(function* () {
        const key = freshKey()
        const [a, b, c] = [`${key}-a`, `${key}-b`, `${key}-c`]
        const { bare } = yield* StoreControls
        const inTheWay = yield* ask(b)
        const take = (waitAtMost: number) =>
          MultiLock.withLocks(Effect.void, [a, b, c], { holdAtLeast: "1 minute", waitAtMost }).pipe(
            Effect.provideService(LockStore.LockStore, bare)
          )
        for (const waitAtMost of [0, 300]) {
          expect(yield* Effect.flip(take(waitAtMost))).toMatchObject({ _tag: "LockUnavailable" })
          for (const one of [a, c]) yield* (yield* ask(one, { waitMillis: 5_000 })).release
        }
        yield* inTheWay.release
        yield* take(5_000)
        for (const one of [a, b, c]) {
          expect(yield* Effect.flip(ask(one))).toMatchObject({ _tag: "LockUnavailable" })
        }
      })
    )
  })
})

describe("in memory, to the millisecond", () => {
  it.effect("the next waiter enters when the time is over, counted from the grant", () =>
    Effect.gen(function* () {
      const body = yield* forkSettled(
        Lock.withLock(Effect.sleep(700), "key", { ttl: 500, holdAtLeast: 2_000 })
      )
      const next = yield* forkSettled(Effect.scoped(Lock.acquire("key")))
      yield* TestClock.adjust(700)
      expect([body, next].map(stateOf)).toEqual(["granted", "waiting"])
      yield* TestClock.adjust(1_299)
      expect(stateOf(next)).toBe("waiting")
      yield* TestClock.adjust(1)
      expect(stateOf(next)).toBe("granted")
      // after its time: as any other
      const late = yield* forkSettled(
        Lock.withLock(Effect.sleep(2_001), "key", { ttl: 500, holdAtLeast: 2_000 })
      )
      const last = yield* forkSettled(Effect.scoped(Lock.acquire("key")))
      yield* TestClock.adjust(2_000)
      expect([late, last].map(stateOf)).toEqual(["waiting", "waiting"])
      yield* TestClock.adjust(1)
      expect([late, last].map(stateOf)).toEqual(["granted", "granted"])
    }).pipe(Effect.provide(MemoryLockStore.layer), Effect.provide(TestContext.TestContext))
  )

  it.effect("a store that has it not refuses before it is asked", () =>
    Effect.gen(function* () {
      const { acquire, clock } = yield* MemoryLockStore.make
      let asked = 0
      const run = (capabilities: ReadonlyArray<LockStore.Capability>) =>
        MultiLock.withLocks(Effect.void, ["a", "b"], { holdAtLeast: "1 second" }).pipe(
          Effect.provideService(LockStore.LockStore, {
            clock,
            capabilities: new Set(capabilities),
            acquire: (claim, restore) => {
              asked++
              expect(claim.holdAtLeastMillis).toBe(1_000)
              return acquire(claim, restore)
            }
          })
        )
      expect(yield* Effect.flip(run([]))).toMatchObject({
        _tag: "LockStoreError",
        detail: expect.stringContaining("no holdAtLeast") as string
      })
      expect(asked).toBe(0)
      yield* run(["holdAtLeast"])
      expect(asked).toBe(2)
    })
  )
})
