/** Claims with a tick: each tick of a key is granted once, and after it only later ones. */
import { describe, expect, it, layer } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Exit from "effect/Exit"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/TestClock"
import * as TestContext from "effect/TestContext"
import { LockError, LockInspector, LockStore, MemoryLockStore } from "effect-redis-lock"
import { exitOf } from "./support/fibers.js"
import { underLease, underLeaseIfAvailable } from "../src/internal/face/body.js"
import { ownLockAt } from "../src/internal/face/share.js"
import type { Claim, Store } from "../src/internal/engine.js"
import { inside } from "./support/inside.js"
import { ask, claimOf, expectFreeNow, freshKey, StoreControls, stores } from "./support/stores.js"

/** One attempt, for a tick. */
const attempt = (key: string, tick: number, more?: Partial<LockStore.Claim>) =>
  ask(key, { tick, ...more })

/** With patience. */
const waiting = (key: string, tick: number, more?: Partial<LockStore.Claim>) =>
  attempt(key, tick, { waitMillis: Number.POSITIVE_INFINITY, ...more })

/** What such an attempt is told of the last tick; dies if it was granted. */
const lastTick = <E, R>(asked: Effect.Effect<LockStore.Grant, E, R>) =>
  Effect.map(Effect.orDieWith(Effect.flip(asked), String), (error) => {
    expect(error).toBeInstanceOf(LockError.LockUnavailable)
    return (error as LockError.LockUnavailable).lastTick
  })

/** Waits until so many stand in the queue, or more. */
const queued = (key: string, count: number): Effect.Effect<void, unknown, LockStore.LockStore> =>
  Effect.flatMap(LockStore.LockStore, (store) =>
    Effect.flatMap(store.look!(key, 0), ({ pendingCount }) =>
      (count === 0 ? pendingCount === 0 : pendingCount >= count)
        ? Effect.void
        : Effect.delay(queued(key, count), 5)
    )
  )

describe.concurrent.each(stores)("%s", (_, store) => {
  layer(store, { excludeTestServices: true })((it) => {
    it.scoped("a tick is granted once, and then only a later one", () =>
      Effect.gen(function* () {
        const key = freshKey()
        yield* (yield* attempt(key, 5)).release
        expect(yield* lastTick(attempt(key, 5))).toBe(5)
        expect(yield* lastTick(attempt(key, 4))).toBe(5)
        expect(yield* lastTick(waiting(key, 5))).toBe(5)
        // nobody holds it
        yield* expectFreeNow(key)
        const next = yield* attempt(key, 6)
        expect(yield* next.verify).toBe("Ours")
        expect(yield* lastTick(attempt(key, 6))).toBe(6)
        // this one may have it, when it is free
        expect(yield* lastTick(attempt(key, 7))).toBeUndefined()
        yield* next.release
        yield* (yield* attempt(key, 7)).release
        expect(yield* lastTick(attempt(key, 6))).toBe(7)
      })
    )

    it.scoped("ticks are of one key, whole numbers, and may be below zero", () =>
      Effect.gen(function* () {
        const [key, other] = [freshKey(), freshKey()]
        for (const tick of [-7, -1, 0, 3, Date.now(), Number.MAX_SAFE_INTEGER]) {
          yield* (yield* attempt(key, tick)).release
          expect(yield* lastTick(attempt(key, tick))).toBe(tick)
        }
        yield* (yield* attempt(other, 1)).release
      })
    )

    it.scoped("people who look are told the last one, also when nobody has the key", () =>
      Effect.gen(function* () {
        const key = freshKey()
        const seen = Effect.map(LockInspector.inspect(key), ({ heldCount, lastTick }) => ({
          heldCount,
          lastTick
        }))
        const keys = Effect.flatMap(LockStore.LockStore, (store) =>
          Effect.map(Stream.runCollect(store.keys!(key)), (found) => [...new Set(found)])
        )
        expect(yield* seen).toEqual({ heldCount: 0, lastTick: undefined })
        for (const tick of [-3, 1_795_964_400_000]) {
          const grant = yield* attempt(key, tick)
          expect(yield* seen).toEqual({ heldCount: 1, lastTick: tick })
          yield* grant.release
          expect(yield* seen).toEqual({ heldCount: 0, lastTick: tick })
        }
        expect(yield* keys).toEqual([key])
        // (nobody holds it)
        expect([...(yield* Stream.runCollect(LockInspector.list({ prefix: key })))]).toEqual([])
      })
    )

    it.scoped("of those who wait for a tick one gets it, and the others are told then", () =>
      Effect.gen(function* () {
        const key = freshKey()
        const first = yield* attempt(key, 1)
        const asked = yield* Effect.forEach([2, 2, 2, 3], (tick) => Effect.fork(waiting(key, tick)))
        // (in Redis, callers of one process that ask for one tick have one place)
        yield* queued(key, 2)
        yield* Effect.sleep(50)
        expect(asked.map((fiber) => exitOf(fiber))).toEqual([null, null, null, null])
        yield* first.release
        // while it is held, and the later one still waits
        const exits = yield* Effect.forEach(asked.slice(0, 3), Fiber.await)
        const granted = exits.filter(Exit.isSuccess)
        expect(granted.length).toBe(1)
        for (const { cause } of exits.filter(Exit.isFailure)) {
          expect(Cause.squash(cause)).toMatchObject({ _tag: "LockUnavailable", lastTick: 2 })
        }
        expect(exitOf(asked[3]!)).toBeNull()
        yield* granted[0]!.value.release
        const last = yield* Fiber.join(asked[3]!)
        expect(last.fencingToken).toBeGreaterThan(granted[0]!.value.fencingToken)
        yield* last.release
      })
    )

    it.scoped("who waits for an earlier tick than one that is granted meanwhile is told so", () =>
      Effect.gen(function* () {
        const key = freshKey()
        const holder = yield* ask(key)
        const later = yield* Effect.fork(waiting(key, 4))
        yield* queued(key, 1)
        const earlier = yield* Effect.fork(lastTick(waiting(key, 3)))
        yield* queued(key, 2)
        yield* holder.release
        expect(yield* Fiber.join(earlier)).toBe(4)
        const grant = yield* Fiber.join(later)
        expect(yield* grant.verify).toBe("Ours")
        yield* grant.release
      })
    )

    it.scoped("a grant that did not come to its caller leaves its tick to another one", () =>
      Effect.gen(function* () {
        const key = freshKey()
        const { bare } = yield* StoreControls
        yield* (yield* attempt(key, 1)).release
        for (const waitMillis of [0, Number.POSITIVE_INFINITY]) {
          const claim = claimOf(key, { tick: 2, waitMillis })
          yield* Effect.async<void>((resume) => {
            const cancel = inside<Store>(bare).acquire(claim as Claim, (exit) => {
              expect(exit._tag).toBe("Granted")
              queueMicrotask(() => {
                cancel()
                resume(Effect.void)
              })
            })
          })
        }
        // the tick before it is known still
        expect(yield* lastTick(attempt(key, 1))).toBe(1)
        yield* (yield* waiting(key, 2)).release
        expect(yield* lastTick(attempt(key, 2))).toBe(2)
      })
    )

    it.scoped("a plain lock of the key excludes, and changes nothing of its ticks", () =>
      Effect.gen(function* () {
        const key = freshKey()
        yield* (yield* attempt(key, 8)).release
        const plain = yield* ask(key)
        expect(yield* lastTick(attempt(key, 9))).toBeUndefined()
        const next = yield* Effect.fork(waiting(key, 9))
        yield* queued(key, 1)
        const behind = yield* Effect.fork(ask(key, { waitMillis: Number.POSITIVE_INFINITY }))
        yield* queued(key, 2)
        yield* plain.release
        const grant = yield* Fiber.join(next)
        expect(exitOf(behind)).toBeNull()
        yield* grant.release
        yield* (yield* Fiber.join(behind)).release
        expect(yield* lastTick(attempt(key, 9))).toBe(9)
      })
    )

    it.scoped("a holder of a tick that crashes loses that tick, and not the next one", () =>
      Effect.gen(function* () {
        const key = freshKey()
        yield* attempt(key, 1, { ttlMillis: 150 })
        const next = yield* Effect.fork(waiting(key, 2, { ttlMillis: 1_000 }))
        const same = yield* Effect.fork(Effect.flip(waiting(key, 1)))
        expect(yield* Fiber.join(same)).toMatchObject({ lastTick: 1 })
        yield* (yield* Fiber.join(next)).release
      })
    )

    it.scoped("a waiter that goes away leaves its tick to another one", () =>
      Effect.gen(function* () {
        const key = freshKey()
        const holder = yield* attempt(key, 1)
        const gone = yield* Effect.fork(waiting(key, 2))
        yield* queued(key, 1)
        yield* Fiber.interrupt(gone)
        yield* queued(key, 0)
        yield* holder.release
        yield* (yield* attempt(key, 2)).release
      })
    )

    it.scoped("waits no longer than it may", () =>
      Effect.gen(function* () {
        const key = freshKey()
        const holder = yield* attempt(key, 1)
        expect(yield* lastTick(waiting(key, 2, { waitMillis: 50 }))).toBeUndefined()
        yield* holder.release
        yield* (yield* attempt(key, 2)).release
      })
    )

    it.scoped("ticks are of locks: another kind is refused", () =>
      Effect.gen(function* () {
        const key = freshKey()
        for (const kind of ["semaphore", "readWriteLock"] as const) {
          expect(yield* Effect.flip(attempt(key, 1, { kind, limit: 3 }))).toMatchObject({
            _tag: "LockStoreError",
            operation: "acquire",
            transient: false,
            detail: expect.stringContaining("no tick") as string
          })
        }
        yield* (yield* attempt(key, 1)).release
      })
    )

    it.scoped("a lease of a tick is renewed, guards its work, and ends as any other", () =>
      Effect.gen(function* () {
        const key = freshKey()
        const at = (tick: number) => ownLockAt(tick, 60_000)
        const work = Effect.as(Effect.sleep(1_200), "done")
        const done = yield* underLease(key, at(1), { ttl: 800, renewEvery: 200 }, work)
        expect(done).toBe("done")
        const again = yield* Effect.flip(underLease(key, at(1), {}, Effect.die("ran twice")))
        expect(again).toMatchObject({ _tag: "LockUnavailable", lastTick: 1 })
        expect(again.message).toContain("the same tick, or a later one, was granted before")
        expect(yield* underLeaseIfAvailable(key, at(1), {}, Effect.die("ran twice"))).toMatchObject(
          { _tag: "None" }
        )
        expect(yield* underLease(key, at(2), {}, (lease) => Effect.as(lease.verify, 2))).toBe(2)
      })
    )
  })
})

describe("a store of somebody else's", () => {
  it.effect("is asked with the tick, if it has ticks", () =>
    Effect.gen(function* () {
      const { acquire, clock } = yield* MemoryLockStore.make
      const run = (capabilities: ReadonlyArray<LockStore.Capability>) =>
        underLease("key", ownLockAt(1, 1_000), {}, Effect.succeed("ran")).pipe(
          Effect.provideService(LockStore.LockStore, {
            clock,
            capabilities: new Set(capabilities),
            acquire: (claim, restore) => acquire(claim, restore)
          })
        )
      expect(yield* Effect.flip(run([]))).toMatchObject({ _tag: "LockStoreError" })
      expect(yield* run(["tick"])).toBe("ran")
      expect(yield* Effect.flip(run(["tick"]))).toMatchObject({ lastTick: 1 })
    })
  )
})

describe("in memory", () => {
  it.effect("a tick is remembered for as long as the claim says", () =>
    Effect.gen(function* () {
      for (const tick of [3, 3]) {
        yield* (yield* attempt("key", tick, { tickKeptMillis: 5_000 })).release
        yield* TestClock.adjust(4_999)
        expect(yield* lastTick(attempt("key", tick))).toBe(tick)
        yield* TestClock.adjust(1)
      }
      // a day, where it does not
      yield* (yield* attempt("key", 4)).release
      yield* TestClock.adjust(24 * 3_600_000 - 1)
      expect(yield* lastTick(attempt("key", 4))).toBe(4)
      yield* TestClock.adjust(1)
      yield* (yield* attempt("key", 4)).release
    }).pipe(Effect.provide(MemoryLockStore.layer), Effect.provide(TestContext.TestContext))
  )
})
