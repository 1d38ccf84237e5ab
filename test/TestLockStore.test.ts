/** The store for tests: what can be done to it, and that it is a store like the others otherwise. */
import { describe, expect, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Chunk from "effect/Chunk"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as DateTime from "effect/DateTime"
import * as Deferred from "effect/Deferred"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/TestClock"
import {
  CronJob,
  Leader,
  type Lease,
  Lock,
  LockError,
  LockStore,
  MultiLock,
  ReadWriteLock,
  Semaphore
} from "effect-redis-lock"
import * as LockStoreContract from "effect-redis-lock/LockStoreContract"
import * as TestLockStore from "effect-redis-lock/TestLockStore"
import { currentHolds } from "../src/internal/face/currentHolds.js"
import { forkSettled, settle, stateOf } from "./support/fibers.js"
import { ask, allCapabilities, quiet } from "./support/stores.js"
import { undisturbed } from "./redis/support.js"

// ---------------------------------------------------------------- helpers

const test = Layer.merge(TestLockStore.layer, quiet)

interface Kind {
  /** What its holder reads when somebody else has the key. */
  readonly taken: "Taken" | "Missing"
  readonly acquire: (
    key: string,
    options?: Lock.WaitOptions
  ) => Effect.Effect<Lease.Lease, LockError.LockError, LockStore.LockStore | Scope.Scope>
  readonly under: <A, E, R>(
    key: string,
    body: Effect.Effect<A, E, R>
  ) => Effect.Effect<A, E | LockError.LockError, R | LockStore.LockStore>
}

const kinds: Record<string, Kind> = {
  lock: {
    taken: "Taken",
    acquire: Lock.acquire,
    under: (key, body) => Lock.withLock(body, key)
  },
  semaphore: {
    taken: "Missing",
    acquire: (key, options) => Semaphore.acquire(key, { ...options, limit: 3, permits: 2 }),
    under: (key, body) => Semaphore.withPermits(body, key, { limit: 3 })
  },
  "read lock": {
    taken: "Missing",
    acquire: ReadWriteLock.readLock,
    under: (key, body) => ReadWriteLock.withReadLock(body, key)
  },
  "write lock": {
    taken: "Missing",
    acquire: ReadWriteLock.writeLock,
    under: (key, body) => ReadWriteLock.withWriteLock(body, key)
  },
  "several locks": {
    taken: "Taken",
    acquire: (key, options) =>
      Effect.map(MultiLock.acquire([key, "another"], options), ({ leases }) => leases[0]!),
    under: (key, body) => MultiLock.withLocks(body, [key, "another"])
  }
}

const lost = (reason: LockError.LossReason) =>
  expect.objectContaining({ _tag: "LockLost", reason, key: "key" })
const busy = expect.objectContaining({ _tag: "LockUnavailable", key: "key" })
const failed = (operation: LockError.LockStoreOperation, more?: object) =>
  expect.objectContaining({ _tag: "LockStoreError", operation, transient: true, ...more })

/** A lease of somebody who does not let it go. */
const holder = (
  acquire: Effect.Effect<
    Lease.Lease,
    LockError.LockError,
    LockStore.LockStore | Scope.Scope
  > = Lock.acquire("key")
) => Effect.flatMap(Scope.make(), (scope) => Scope.extend(acquire, scope))

const statesOf = Effect.map(TestLockStore.grants, (grants) => grants.map(({ state }) => state))

// ---------------------------------------------------------------- tests

describe.each(Object.entries(kinds))("a key that is stolen from a %s", (_, kind) => {
  it.effect("interrupts the body at once, without any time that passes", () =>
    Effect.gen(function* () {
      const log: Array<string> = []
      const body = Effect.onInterrupt(Effect.never, () => Effect.sync(() => log.push("cleaned")))
      const work = yield* forkSettled(kind.under("key", body))
      yield* TestLockStore.steal("key")
      expect(yield* Effect.flip(Fiber.join(work))).toEqual(lost(kind.taken))
      expect(log).toEqual(["cleaned"])
    }).pipe(Effect.provide(test))
  )

  it.scoped("tells a scoped lease, which is not held any more", () =>
    Effect.gen(function* () {
      const lease = yield* kind.acquire("key")
      const guarded = yield* forkSettled(lease.guard(Effect.never))
      yield* TestLockStore.steal("key")
      expect(yield* lease.isHeld).toBe(false)
      expect(yield* Effect.flip(Fiber.join(guarded))).toEqual(lost(kind.taken))
      expect(yield* Effect.flip(lease.verify)).toEqual(lost(kind.taken))
      expect(yield* Effect.flip(lease.release)).toEqual(lost(kind.taken))
      expect(yield* Effect.flip(kind.acquire("key", { waitAtMost: 0 }))).toEqual(busy)
    }).pipe(Effect.provide(test))
  )

  it.scoped("a key that nobody holds is busy for it, until it expires", () =>
    Effect.gen(function* () {
      yield* TestLockStore.steal("key")
      expect(yield* Effect.flip(kind.acquire("key", { waitAtMost: 0 }))).toMatchObject({
        _tag: "LockUnavailable",
        holder: { owner: "somebody else", foreign: false },
        retryAfter: undefined
      })
      const waiter = yield* forkSettled(kind.acquire("key", { waitAtMost: "2 minutes" }))
      yield* TestClock.adjust("1 minute")
      expect(stateOf(waiter)).toBe("waiting")
      yield* TestLockStore.expire("key")
      expect(yield* (yield* Fiber.join(waiter)).isHeld).toBe(true)
    }).pipe(Effect.provide(test))
  )

  it.scoped("who waits goes on waiting, and is served when the theft expires", () =>
    Effect.gen(function* () {
      const lease = yield* holder(kind.acquire("key"))
      // (a read waits for a write alone; and a fiber that holds a read is refused one)
      const next = kind === kinds["read lock"] ? kinds["write lock"]! : kind
      const scope = yield* Scope.make()
      const waiter = yield* forkSettled(
        Effect.locally(Scope.extend(next.acquire("key"), scope), currentHolds, undefined)
      )
      expect(stateOf(waiter)).toBe("waiting")
      yield* TestLockStore.steal("key")
      yield* TestClock.adjust("1 minute")
      expect(stateOf(waiter)).toBe("waiting")
      yield* TestLockStore.expire("key")
      const { fencingToken } = yield* Fiber.join(waiter)
      expect(fencingToken).toBeGreaterThan(lease.fencingToken + 1)
    }).pipe(Effect.provide(test))
  )
})

describe("a key that is stolen", () => {
  it.effect("was granted to somebody: fencing tokens go on behind that", () =>
    Effect.gen(function* () {
      const first = yield* holder()
      yield* TestLockStore.steal("key")
      yield* TestLockStore.steal("key")
      yield* TestLockStore.expire("key")
      const second = yield* holder()
      expect(second.fencingToken).toBeGreaterThanOrEqual(first.fencingToken + 3)
    }).pipe(Effect.provide(test))
  )

  it.effect("as whatever it was: another kind is refused as before", () =>
    Effect.gen(function* () {
      yield* holder(Semaphore.acquire("key", { limit: 3 }))
      yield* TestLockStore.steal("key")
      expect(yield* Effect.flip(Effect.scoped(Lock.tryAcquire("key")))).toMatchObject({
        _tag: "LockStoreError",
        transient: false
      })
      yield* TestLockStore.steal("free")
      yield* Effect.flip(Effect.scoped(Semaphore.tryAcquire("free", { limit: 3 })))
      expect(yield* Effect.flip(Effect.scoped(Lock.tryAcquire("free")))).toMatchObject({
        _tag: "LockStoreError",
        transient: false
      })
    }).pipe(Effect.provide(test))
  )

  it.effect("as a whole: nobody else has any permits left, however many there were", () =>
    Effect.gen(function* () {
      const leases = [
        yield* holder(Semaphore.acquire("key", { limit: 3 })),
        yield* holder(Semaphore.acquire("key", { limit: 5 }))
      ]
      yield* TestLockStore.steal("key")
      for (const lease of leases) expect(yield* Effect.flip(lease.verify)).toEqual(lost("Missing"))
      for (const limit of [1, 3, 5]) {
        expect(yield* Effect.flip(Effect.scoped(Semaphore.tryAcquire("key", { limit })))).toEqual(
          busy
        )
      }
      expect(yield* Semaphore.inUse("key")).toBe(3)
    }).pipe(Effect.provide(test))
  )
})

describe("a key that expires", () => {
  it.effect.each(Object.entries(kinds))("ends the leases of a %s: Missing", ([, kind]) =>
    Effect.gen(function* () {
      const work = yield* forkSettled(kind.under("key", Effect.never))
      yield* TestLockStore.expire("key")
      expect(yield* Effect.flip(Fiber.join(work))).toEqual(lost("Missing"))
      yield* Effect.scoped(kind.acquire("key", { waitAtMost: 0 }))
    }).pipe(Effect.provide(test))
  )

  it.effect("serves the first who waits, who has taken the lock: Taken", () =>
    Effect.gen(function* () {
      const lease = yield* holder()
      const [second, third] = [yield* forkSettled(holder()), yield* forkSettled(holder())]
      yield* TestLockStore.expire("key")
      yield* settle
      expect([second, third].map(stateOf)).toEqual(["granted", "waiting"])
      expect(yield* Effect.flip(lease.verify)).toEqual(lost("Taken"))
      expect((yield* Fiber.join(second)).fencingToken).toBeGreaterThan(lease.fencingToken)
    }).pipe(Effect.provide(test))
  )

  it.effect("and that nobody holds, is as it was", () =>
    Effect.gen(function* () {
      yield* TestLockStore.expire("key")
      yield* holder(Semaphore.acquire("key", { limit: 3 }))
      yield* TestLockStore.expire("other")
      expect(yield* Semaphore.inUse("key")).toBe(1)
    }).pipe(Effect.provide(test))
  )
})

describe("silence", () => {
  it.effect.each(Object.entries(kinds))(
    "a lease of a %s is lost when its margin begins, and no earlier",
    ([, kind]) =>
      Effect.gen(function* () {
        const log: Array<number> = []
        const { clock } = yield* LockStore.LockStore
        const body = Effect.onInterrupt(Effect.never, () =>
          Effect.sync(() => log.push(clock.unsafeNow()))
        )
        const work = yield* forkSettled(kind.under("key", body))
        yield* TestLockStore.silence
        // the ttl less the drift, 52 ms, and the margin, 500 ms; its release is not answered either
        yield* TestClock.adjust("4447 millis")
        expect(log).toEqual([])
        yield* TestClock.adjust("10 seconds")
        expect(yield* Effect.flip(Fiber.join(work))).toMatchObject({
          _tag: "LockLost",
          reason: "Unreachable"
        })
        expect(log).toEqual([4_448])
      }).pipe(Effect.provide(test))
  )

  it.scoped("who asks fails when commandTimeout is over, and has locked nothing", () =>
    Effect.gen(function* () {
      yield* TestLockStore.silence
      const asked = [
        yield* forkSettled(Lock.acquire("key")),
        yield* forkSettled(Lock.tryAcquire("key")),
        yield* forkSettled(Semaphore.withPermits(Effect.void, "other", { limit: 3 }))
      ]
      yield* TestClock.adjust(1_999)
      expect(asked.map(stateOf)).toEqual(["waiting", "waiting", "waiting"])
      yield* TestClock.adjust(1)
      for (const fiber of asked) {
        expect(yield* Effect.flip(Fiber.join<unknown, unknown>(fiber))).toEqual(
          failed("acquire", {
            detail: "The store did not answer within 2000 ms: a test has silenced it."
          })
        )
      }
      yield* TestLockStore.restore
      yield* settle
      expect(yield* TestLockStore.grants).toEqual([])
    }).pipe(Effect.provide(test))
  )

  it.effect(
    "every operation: renewals, releases, verifying, looking, listing, revoking, handing over",
    () =>
      Effect.gen(function* () {
        const store = yield* LockStore.LockStore
        const grant = yield* ask("key", { kind: "semaphore", share: 2, limit: 3, ttlMillis: 9_000 })
        yield* TestLockStore.silence
        const operations = {
          renew: grant.renew,
          verify: grant.verify,
          reshare: grant.reshare!(1),
          look: store.look!("key", 1),
          keys: Stream.runCollect(store.keys!("")),
          revoke: store.revoke!("key", grant.fencingToken),
          handOver: grant.handOver!,
          release: grant.release
        }
        const fibers: Record<string, Fiber.RuntimeFiber<unknown, unknown>> = {}
        for (const [name, operation] of Object.entries(operations)) {
          fibers[name] = yield* forkSettled<unknown, unknown, never>(operation)
        }
        yield* TestClock.adjust("2 seconds")
        for (const [name, fiber] of Object.entries(fibers)) {
          expect(yield* Effect.flip(Fiber.join(fiber))).toEqual(
            failed(name as LockError.LockStoreOperation)
          )
        }
        // nothing of it came about
        yield* TestLockStore.restore
        expect(yield* grant.verify).toBe("Ours")
        expect((yield* store.look!("key", 1)).inUse).toBe(2)
      }).pipe(Effect.provide(test))
  )

  it.effect("what was asked is answered by restore, if that comes in time", () =>
    Effect.gen(function* () {
      const lease = yield* holder(Lock.acquire("held"))
      yield* TestLockStore.silence
      const [verifying, first] = [yield* forkSettled(lease.verify), yield* forkSettled(holder())]
      yield* TestClock.adjust("1 second")
      const second = yield* forkSettled(holder())
      expect([verifying, first, second].map(stateOf)).toEqual(["waiting", "waiting", "waiting"])
      yield* TestLockStore.restore
      yield* settle
      // in the order in which it was asked
      expect([verifying, first, second].map(stateOf)).toEqual(["granted", "granted", "waiting"])
      yield* TestClock.adjust("1 minute")
      expect(stateOf(second)).toBe("waiting")
      expect(yield* lease.isHeld).toBe(true)
    }).pipe(Effect.provide(test))
  )

  it.effect("who waits already fails when it has lasted for commandTimeout", () =>
    Effect.gen(function* () {
      yield* holder()
      const waiter = yield* forkSettled(holder())
      yield* TestClock.adjust("10 seconds")
      yield* TestLockStore.silence
      yield* TestClock.adjust(1_999)
      expect(stateOf(waiter)).toBe("waiting")
      yield* TestClock.adjust(1)
      expect(yield* Effect.flip(Fiber.join(waiter))).toEqual(failed("acquire"))
      yield* TestLockStore.restore
      yield* TestLockStore.expire("key")
      yield* Effect.scoped(Lock.tryAcquire("key"))
    }).pipe(Effect.provide(test))
  )

  it.effect("who waits already keeps its place, once, if it is over in time", () =>
    Effect.gen(function* () {
      const { look } = yield* LockStore.LockStore
      const lease = yield* holder()
      const waiter = yield* forkSettled(holder())
      yield* TestLockStore.silence
      yield* TestClock.adjust("1 second")
      yield* TestLockStore.restore
      yield* TestClock.adjust("1 minute")
      expect(stateOf(waiter)).toBe("waiting")
      expect((yield* look!("key", 10)).pendingCount).toBe(1)
      yield* lease.release
      yield* (yield* Fiber.join(waiter)).release
      expect(yield* statesOf).toEqual(["released", "released"])
    }).pipe(Effect.provide(test))
  )

  it.effect("a grant that comes meanwhile is told by restore, and given back if that is late", () =>
    Effect.gen(function* () {
      for (const millis of [1_000, 3_000]) {
        yield* ask("key", { ttlMillis: 500 })
        const waiter = yield* forkSettled(ask("key", { waitMillis: 60_000, ttlMillis: 60_000 }))
        yield* TestLockStore.silence
        yield* TestClock.adjust(millis)
        expect(stateOf(waiter)).toBe(millis < 2_000 ? "waiting" : "failed")
        yield* TestLockStore.restore
        yield* settle
        if (millis > 2_000) expect(yield* ask("key")).toMatchObject({ contention: undefined })
        else yield* (yield* Fiber.join(waiter)).release
      }
      expect(yield* statesOf).toEqual(["expired", "released", "expired", "released", "held"])
    }).pipe(Effect.provide(test))
  )

  it.effect("a theft is told by the first renewal after it", () =>
    Effect.gen(function* () {
      const lease = yield* holder(Lock.acquire("key", { ttl: "10 seconds" }))
      yield* TestLockStore.silence
      yield* TestLockStore.steal("key")
      yield* TestClock.adjust("4 seconds")
      expect(yield* lease.isHeld).toBe(true)
      yield* TestLockStore.restore
      expect(yield* lease.isHeld).toBe(true)
      yield* TestClock.adjust("1 second")
      expect(yield* Effect.flip(lease.awaitLost)).toEqual(lost("Taken"))
    }).pipe(Effect.provide(test))
  )

  it.effect("whoever is interrupted meanwhile leaves nothing behind", () =>
    Effect.gen(function* () {
      yield* holder()
      const waiter = yield* forkSettled(holder())
      yield* TestLockStore.silence
      const asked = yield* forkSettled(holder(Lock.acquire("free")))
      yield* Fiber.interruptAll([waiter, asked])
      yield* TestLockStore.restore
      yield* TestLockStore.expire("key")
      for (const key of ["key", "free"]) yield* Effect.scoped(Lock.tryAcquire(key))
      expect(yield* statesOf).toEqual(["expired", "released", "released"])
    }).pipe(Effect.provide(test))
  )

  it.effect("a scope that closes waits once, however many leases it has", () =>
    Effect.gen(function* () {
      const scope = yield* Scope.make()
      for (let i = 0; i < 50; i++) yield* Scope.extend(Lock.acquire(`key-${i}`), scope)
      yield* TestLockStore.silence
      const closing = yield* forkSettled(Scope.close(scope, Exit.void))
      yield* TestClock.adjust(2_100)
      expect(stateOf(closing)).toBe("granted")
      // they end by their ttl
      expect(new Set(yield* statesOf)).toEqual(new Set(["held"]))
      yield* TestClock.adjust(2_900)
      expect(new Set(yield* statesOf)).toEqual(new Set(["expired"]))
    }).pipe(Effect.provide(test))
  )

  it.live("the same by the live clock", () =>
    Effect.gen(function* () {
      yield* TestLockStore.silence
      const error = yield* Effect.flip(Effect.scoped(Lock.acquire("key")))
      expect(error).toEqual(failed("acquire"))
      yield* TestLockStore.restore
      yield* Effect.scoped(Lock.acquire("key"))
    }).pipe(Effect.provide(TestLockStore.layerWith({ commandTimeout: "50 millis" })))
  )
})

describe("a store that refuses", () => {
  it.effect("fails every operation, at once, with that error", () =>
    Effect.gen(function* () {
      const store = yield* LockStore.LockStore
      const grant = yield* ask("key", { kind: "semaphore", share: 2, limit: 3 })
      const cause = new Error("why")
      yield* TestLockStore.refuse({ detail: "No.", transient: false, cause })
      const operations: ReadonlyArray<
        readonly [LockError.LockStoreOperation, string | undefined, Effect.Effect<unknown, unknown>]
      > = [
        ["acquire", "other", Effect.provideService(ask("other"), LockStore.LockStore, store)],
        ["renew", "key", grant.renew],
        ["verify", "key", grant.verify],
        ["reshare", "key", grant.reshare!(1)],
        ["look", "key", store.look!("key", 1)],
        ["keys", undefined, Stream.runCollect(store.keys!(""))],
        ["revoke", "key", store.revoke!("key", grant.fencingToken)],
        ["handOver", "key", grant.handOver!],
        ["release", "key", grant.release]
      ]
      for (const [operation, key, effect] of operations) {
        expect(yield* Effect.flip(effect)).toEqual(
          failed(operation, { key, detail: "No.", transient: false, cause })
        )
      }
      yield* TestLockStore.restore
      expect(yield* grant.verify).toBe("Ours")
      expect(yield* TestLockStore.grants).toHaveLength(1)
    }).pipe(Effect.provide(test))
  )

  it.effect("says so, where the test has not said why; a LockStoreError says it, too", () =>
    Effect.gen(function* () {
      yield* TestLockStore.refuse()
      expect(yield* Effect.flip(Effect.scoped(Lock.acquire("key")))).toEqual(
        failed("acquire", { detail: "The store refuses everything: a test has told it to." })
      )
      yield* TestLockStore.refuse(
        new LockError.LockStoreError({ operation: "look", detail: "Mine.", transient: false })
      )
      expect(yield* Effect.flip(Effect.scoped(Lock.acquire("key")))).toEqual(
        failed("acquire", { key: "key", detail: "Mine.", transient: false })
      )
    }).pipe(Effect.provide(test))
  )

  it.effect("fails those who wait, and those who have had no answer", () =>
    Effect.gen(function* () {
      yield* holder()
      const waiter = yield* forkSettled(holder())
      yield* TestLockStore.silence
      const asked = yield* forkSettled(holder(Lock.acquire("free")))
      yield* TestLockStore.refuse()
      for (const fiber of [waiter, asked]) {
        expect(yield* Effect.flip(Fiber.join(fiber))).toEqual(failed("acquire"))
      }
      yield* TestLockStore.restore
      yield* TestLockStore.expire("key")
      for (const key of ["key", "free"]) yield* Effect.scoped(Lock.tryAcquire(key))
    }).pipe(Effect.provide(test))
  )

  it.effect("a lease is lost when its margin begins, with the error as its cause", () =>
    Effect.gen(function* () {
      const lease = yield* holder()
      yield* TestLockStore.refuse({ detail: "No." })
      yield* TestClock.adjust("4447 millis")
      expect(yield* lease.isHeld).toBe(true)
      yield* TestClock.adjust("1 millis")
      expect(yield* Effect.flip(lease.awaitLost)).toMatchObject({
        reason: "Unreachable",
        cause: { _tag: "LockStoreError", operation: "renew", detail: "No." }
      })
    }).pipe(Effect.provide(test))
  )

  it.effect("and answers again in time, loses nothing", () =>
    Effect.gen(function* () {
      const lease = yield* holder()
      for (const fault of [TestLockStore.refuse(), TestLockStore.silence]) {
        yield* fault
        yield* TestClock.adjust("1500 millis")
        yield* TestLockStore.restore
        yield* TestClock.adjust("1 minute")
      }
      yield* lease.verify
    }).pipe(Effect.provide(test))
  )
})

describe("grants", () => {
  it.effect("say who was granted what, and what became of it", () =>
    Effect.gen(function* () {
      const store = yield* LockStore.LockStore
      yield* TestClock.adjust("1 second")
      const tokens = [
        (yield* holder(Lock.acquire("stolen", { owner: "worker 1" }))).fencingToken,
        (yield* holder(Lock.acquire("expired"))).fencingToken,
        (yield* ask("expires", { ttlMillis: 500 })).fencingToken,
        (yield* holder(Lock.acquire("revoked"))).fencingToken,
        yield* Effect.scoped(
          Effect.map(Lock.acquire("released"), ({ fencingToken }) => fencingToken)
        ),
        (yield* holder(Semaphore.acquire("held", { limit: 3, permits: 2 }))).fencingToken
      ]
      yield* TestLockStore.steal("stolen")
      yield* TestLockStore.expire("expired")
      yield* store.revoke!("revoked", tokens[3]!)
      yield* TestClock.adjust("1 second")
      yield* Effect.flip(Effect.scoped(Lock.tryAcquire("stolen")))
      const lock = { kind: "lock", share: 1, limit: 1, owner: undefined, since: 1_000 }
      expect(yield* TestLockStore.grants).toEqual([
        { ...lock, key: "stolen", owner: "worker 1", fencingToken: tokens[0], state: "stolen" },
        { ...lock, key: "expired", fencingToken: tokens[1], state: "expired" },
        { ...lock, key: "expires", fencingToken: tokens[2], state: "expired" },
        { ...lock, key: "revoked", fencingToken: tokens[3], state: "revoked" },
        { ...lock, key: "released", fencingToken: tokens[4], state: "released" },
        {
          ...lock,
          key: "held",
          kind: "semaphore",
          share: 2,
          limit: 3,
          fencingToken: tokens[5],
          state: "held"
        }
      ])
    }).pipe(Effect.provide(test))
  )

  it.effect("of readers and writers: a downgrade is seen", () =>
    Effect.gen(function* () {
      const lease = yield* holder(ReadWriteLock.writeLock("key"))
      yield* (lease as ReadWriteLock.WriteLease).downgrade
      yield* holder(ReadWriteLock.readLock("key"))
      const shares = (yield* TestLockStore.grants).map(({ share, state }) => [share, state])
      expect(shares).toEqual([
        [1, "held"],
        [1, "held"]
      ])
    }).pipe(Effect.provide(test))
  )
})

/** And what the time sets off has happened. */
const advance = (time: Duration.DurationInput) => Effect.zipRight(TestClock.adjust(time), settle)

describe("a leader", () => {
  /** Its terms, and when each began and ended. */
  const candidate = (log: Array<readonly [event: string, at: number, term: number]>) =>
    Effect.flatMap(LockStore.LockStore, ({ clock }) => {
      const note = (event: string, term: number) =>
        Effect.sync(() => log.push([event, clock.unsafeNow(), term]))
      return forkSettled(
        Leader.run("key", { ttl: "5 seconds" })(({ fencingToken }) =>
          Effect.zipRight(
            note("leads", fencingToken),
            Effect.onInterrupt(Effect.never, () => note("ended", fencingToken))
          )
        )
      )
    })

  for (const [name, fault] of [
    ["is silent", TestLockStore.silence],
    ["refuses", TestLockStore.refuse()]
  ] as const) {
    it.scoped(`ends while the store ${name}, and leads again after that`, () =>
      Effect.gen(function* () {
        const log: Array<readonly [string, number, number]> = []
        const candidates = [yield* candidate(log), yield* candidate(log)]
        const some = expect.any(Number) as number
        expect(log).toEqual([["leads", 0, some]])
        yield* fault
        yield* advance("20 seconds")
        // (4,448 ms: the margin before the end of its proof)
        expect(log.slice(1)).toEqual([["ended", 4_448, log[0]![2]]])
        yield* TestLockStore.restore
        yield* advance("10 seconds")
        expect(log.slice(2)).toEqual([["leads", some, some]])
        expect(log[2]![1]).toBeLessThan(23_000)
        expect(log[2]![2]).toBeGreaterThan(log[0]![2])
        yield* Fiber.interruptAll(candidates)
        yield* Effect.scoped(Lock.tryAcquire("key"))
      }).pipe(Effect.provide(test))
    )

    it.scoped(`goes on where the store ${name} for a moment`, () =>
      Effect.gen(function* () {
        const log: Array<readonly [string, number, number]> = []
        yield* candidate(log)
        yield* advance("1 second")
        yield* fault
        yield* advance("3 seconds")
        yield* TestLockStore.restore
        yield* advance("1 minute")
        expect(log).toHaveLength(1)
        expect(yield* statesOf).toEqual(["held"])
      }).pipe(Effect.provide(test))
    )
  }
})

describe("a job", () => {
  /** In seconds: which ticks were run, and when. */
  const process = (
    log: Array<readonly [tick: number, at: number]>,
    work: Effect.Effect<void> = Effect.void
  ) =>
    forkSettled(
      CronJob.run("key", { cron: "*/10 * * * * *", ttl: "5 seconds" })(({ scheduledAt }) =>
        Effect.zipRight(
          Effect.map(Clock.currentTimeMillis, (now) =>
            log.push([DateTime.toEpochMillis(scheduledAt) / 1_000, now / 1_000])
          ),
          work
        )
      )
    )

  for (const [name, fault] of [
    ["is silent", TestLockStore.silence],
    ["refuses", TestLockStore.refuse()]
  ] as const) {
    it.scoped(`that is due while the store ${name} is run after that, once`, () =>
      Effect.gen(function* () {
        const log: Array<readonly [number, number]> = []
        yield* advance("5 seconds")
        yield* process(log)
        yield* process(log)
        // (what was due before is run late)
        expect(log).toEqual([[0, 5]])
        yield* advance("5 seconds")
        yield* fault
        yield* advance("14 seconds")
        // 20 is the latest by now, and 10 was run before that
        expect(log).toEqual([
          [0, 5],
          [10, 10]
        ])
        yield* TestLockStore.restore
        yield* advance("5 seconds")
        expect(log.slice(2)).toEqual([[20, expect.any(Number)]])
        expect(log[2]![1]).toBeGreaterThanOrEqual(24)
        yield* advance("2 seconds")
        // (pauses are no whole milliseconds)
        expect(log.slice(3)).toEqual([[30, expect.closeTo(30, 2)]])
        expect(yield* statesOf).toEqual(["released", "released", "released", "released"])
      }).pipe(Effect.provide(test))
    )

    it.scoped(`that loses its lease because the store ${name} is not run again for its tick`, () =>
      Effect.gen(function* () {
        const log: Array<readonly [number, number]> = []
        yield* process(log, Effect.never)
        yield* process(log, Effect.never)
        expect(log).toEqual([[0, 0]])
        yield* fault
        yield* advance("8 seconds")
        yield* TestLockStore.restore
        yield* advance("1999 millis")
        expect(log).toEqual([[0, 0]])
        expect(yield* statesOf).toEqual(["expired"])
        yield* advance("1 millis")
        expect(log.slice(1)).toEqual([[10, 10]])
      }).pipe(Effect.provide(test))
    )
  }

  it.scoped("a grant that comes in a silence, and is told too late, leaves its tick", () =>
    Effect.gen(function* () {
      yield* ask("key", { ttlMillis: 500 })
      const waiter = yield* forkSettled(ask("key", { tick: 1, waitMillis: 60_000 }))
      yield* TestLockStore.silence
      yield* advance("2 seconds")
      expect(yield* Effect.flip(Fiber.join(waiter))).toEqual(failed("acquire"))
      yield* TestLockStore.restore
      yield* (yield* ask("key", { tick: 1 })).release
      expect(yield* Effect.flip(ask("key", { tick: 1 }))).toMatchObject({ lastTick: 1 })
      // what was taken away behind it, too
      yield* TestLockStore.steal("key")
      yield* TestLockStore.expire("key")
      expect(yield* Effect.flip(ask("key", { tick: 1 }))).toMatchObject({ lastTick: 1 })
    }).pipe(Effect.provide(test))
  )
})

describe("a lease with maxHold", () => {
  it.effect("ends by the margin before it, and says why", () =>
    Effect.gen(function* () {
      const options = { ttl: 1_000, renewEvery: 400, margin: 100, maxHold: 2_500 }
      const work = yield* forkSettled(Lock.withLock(Effect.never, "key", options))
      yield* TestClock.adjust(2_399)
      expect(stateOf(work)).toBe("waiting")
      yield* TestClock.adjust(1)
      expect(yield* Effect.flip(Fiber.join(work))).toEqual(lost("MaxHold"))
    }).pipe(Effect.provide(test))
  )

  it.effect("has the time of its grant, though that was told later", () =>
    Effect.gen(function* () {
      yield* ask("key", { ttlMillis: 500 })
      const options = { ttl: 4_000, renewEvery: 400, margin: 100, maxHold: 5_000 }
      const work = yield* forkSettled(Lock.withLock(Effect.never, "key", options))
      yield* TestLockStore.silence
      yield* TestClock.adjust(1_500)
      yield* TestLockStore.restore
      // (granted at 500, it ends at 5,400; a proof is a little shorter than what it proves)
      yield* TestClock.adjust(3_850)
      expect(stateOf(work)).toBe("waiting")
      yield* TestClock.adjust(50)
      expect(yield* Effect.flip(Fiber.join(work))).toEqual(lost("MaxHold"))
    }).pipe(Effect.provide(test))
  )

  it.effect("in a silence ends earlier: Unreachable", () =>
    Effect.gen(function* () {
      const options = { ttl: 1_000, renewEvery: 400, margin: 100, maxHold: 2_500 }
      const work = yield* forkSettled(Lock.withLock(Effect.never, "key", options))
      yield* TestLockStore.silence
      yield* TestClock.adjust("3 seconds")
      expect(yield* Effect.flip(Fiber.join(work))).toEqual(lost("Unreachable"))
    }).pipe(Effect.provide(test))
  )
})

describe("a lease with holdAtLeast", () => {
  const holdAtLeast = "1 minute"

  it.effect("that is released is released, though its key is busy, whatever becomes of that", () =>
    Effect.gen(function* () {
      yield* Lock.withLock(Effect.void, "key", { holdAtLeast })
      expect(yield* Effect.flip(Effect.scoped(Lock.tryAcquire("key")))).toEqual(busy)
      expect(yield* statesOf).toEqual(["released"])
      yield* TestLockStore.steal("key")
      yield* TestLockStore.expire("key")
      yield* Lock.withLock(Effect.void, "key", { holdAtLeast })
      const [, second] = yield* TestLockStore.grants
      expect(yield* Lock.forceRelease("key", second!.fencingToken)).toBe(true)
      yield* Lock.withLock(Effect.void, "key", { holdAtLeast })
      yield* TestLockStore.expire("key")
      yield* Effect.scoped(Lock.tryAcquire("key"))
      expect(new Set(yield* statesOf)).toEqual(new Set(["released"]))
    }).pipe(Effect.provide(test))
  )

  it.effect("whose release is not answered ends when it is over", () =>
    Effect.gen(function* () {
      const work = yield* forkSettled(
        Lock.withLock(Effect.sleep(1_000), "key", { ttl: "5 seconds", holdAtLeast })
      )
      yield* TestLockStore.silence
      yield* TestClock.adjust("4 seconds")
      expect(stateOf(work)).toBe("granted")
      yield* TestLockStore.restore
      yield* TestClock.adjust(55_999)
      expect(yield* Effect.flip(Effect.scoped(Lock.tryAcquire("key")))).toEqual(busy)
      yield* TestClock.adjust(1)
      yield* Effect.scoped(Lock.tryAcquire("key"))
      expect(yield* statesOf).toEqual(["expired", "released"])
    }).pipe(Effect.provide(test))
  )

  it.effect("of several, which was not used, is given back at once", () =>
    Effect.gen(function* () {
      yield* TestLockStore.steal("b")
      const all = MultiLock.withLocks(Effect.void, ["a", "b", "c"], { holdAtLeast, waitAtMost: 0 })
      expect(yield* Effect.flip(all)).toMatchObject({ _tag: "LockUnavailable", key: "b" })
      for (const key of ["a", "c"]) yield* Effect.scoped(Lock.tryAcquire(key))
    }).pipe(Effect.provide(test))
  )
})

describe("a lease that is handed over", () => {
  const handedOver = Effect.flatMap(holder(), ({ handOver }) => handOver)

  it.scoped("is adopted, and told as such", () =>
    Effect.gen(function* () {
      const handle = yield* handedOver
      expect(yield* statesOf).toEqual(["held"])
      const adopted = yield* Lock.adopt(handle)
      expect(adopted.fencingToken).toBeGreaterThan(handle.fencingToken)
      expect(yield* statesOf).toEqual(["adopted", "held"])
      yield* adopted.release
      expect(yield* statesOf).toEqual(["adopted", "released"])
    }).pipe(Effect.provide(test))
  )

  it.scoped("is not, and goes on, while the store does not answer", () =>
    Effect.gen(function* () {
      const lease = yield* holder()
      yield* TestLockStore.silence
      const handing = yield* forkSettled(lease.handOver)
      yield* TestClock.adjust("2 seconds")
      expect(yield* Effect.flip(Fiber.join(handing))).toEqual(failed("handOver"))
      yield* TestLockStore.restore
      yield* lease.verify
      const handle = yield* lease.handOver
      yield* TestLockStore.refuse({ detail: "No." })
      expect(yield* Effect.flip(Lock.adopt(handle))).toMatchObject({
        _tag: "LockStoreError",
        detail: "No."
      })
      yield* TestLockStore.restore
      yield* Effect.flatMap(Lock.adopt(handle), ({ verify }) => verify)
      expect(yield* statesOf).toEqual(["adopted", "held"])
    }).pipe(Effect.provide(test))
  )

  it.scoped("and was stolen, or has expired, is not adopted", () =>
    Effect.gen(function* () {
      const stolen = yield* handedOver
      yield* TestLockStore.steal("key")
      expect(yield* Effect.flip(Lock.adopt(stolen))).toEqual(lost("Taken"))
      yield* TestLockStore.expire("key")
      const expired = yield* handedOver
      yield* TestLockStore.expire("key")
      expect(yield* Effect.flip(Lock.adopt(expired))).toEqual(lost("Missing"))
      expect(yield* statesOf).toEqual(["stolen", "expired"])
    }).pipe(Effect.provide(test))
  )
})

describe("the store", () => {
  it.effect("is made without a layer as well, and apart from others", () =>
    Effect.gen(function* () {
      const [one, other] = [yield* TestLockStore.make, yield* TestLockStore.make]
      const inOne = Effect.provideService(LockStore.LockStore, one.store)
      const work = yield* forkSettled(inOne(Lock.withLock(Effect.never, "key")))
      yield* other.steal("key")
      yield* other.silence
      yield* other.refuse()
      yield* TestClock.adjust("1 minute")
      expect(stateOf(work)).toBe("waiting")
      expect(yield* other.grants).toEqual([])
      expect(yield* one.grants).toMatchObject([{ key: "key", state: "held" }])
      yield* one.expire("key")
      expect(yield* Effect.flip(Fiber.join(work))).toEqual(lost("Missing"))
    }).pipe(Effect.provide(quiet))
  )

  it.effect("has defaults for options, which a test can shorten", () =>
    Effect.gen(function* () {
      const lease = yield* holder()
      yield* TestLockStore.silence
      yield* TestClock.adjust("1 second")
      expect(yield* Effect.flip(lease.awaitLost)).toEqual(lost("Unreachable"))
    }).pipe(
      Effect.provide(TestLockStore.layerWith({ defaults: { ttl: "1 second" } })),
      Effect.provide(quiet)
    )
  )

  it.effect("can be wrapped: a copy with members replaced is as silent, and loses as much", () =>
    Effect.gen(function* () {
      const { silence, steal, store } = yield* TestLockStore.make
      const started = yield* Deferred.make<void>()
      const copy: LockStore.LockStore = {
        ...store,
        acquire: (claim, restore) =>
          Effect.map(store.acquire(claim, restore), (grant) => ({ ...grant }))
      }
      const inCopy = Effect.provideService(LockStore.LockStore, copy)
      const work = yield* Effect.fork(
        inCopy(
          Lock.withLock("key")(Effect.zipRight(Deferred.succeed(started, undefined), Effect.never))
        )
      )
      yield* Deferred.await(started)
      yield* steal("key")
      expect(yield* Effect.flip(Fiber.join(work))).toEqual(lost("Taken"))
      yield* silence
      const asked = yield* forkSettled(inCopy(Effect.scoped(Lock.tryAcquire("key"))))
      yield* TestClock.adjust("2 seconds")
      expect(yield* Effect.flip(Fiber.join(asked))).toEqual(failed("acquire"))
    }).pipe(Effect.provide(quiet))
  )

  it.effect("impossible options and keys are defects that name them, and change nothing", () =>
    Effect.gen(function* () {
      const test = yield* TestLockStore.make
      const impossible: ReadonlyArray<readonly [string, Effect.Effect<unknown>]> = [
        ["commandTimeout: 0", TestLockStore.makeWith({ commandTimeout: 0 })],
        ["commandTimeout: -1", TestLockStore.makeWith({ commandTimeout: -1 })],
        [
          'commandTimeout: "soon"',
          TestLockStore.makeWith({ commandTimeout: "soon" as "1 second" })
        ],
        ["commandTimeout: Infinity", TestLockStore.makeWith({ commandTimeout: Infinity })],
        ["commandTimeout: NaN", TestLockStore.makeWith({ commandTimeout: Number.NaN })],
        ["defaults.ttl: 0 ms", TestLockStore.makeWith({ defaults: { ttl: 0 } })],
        ['key: ""', test.steal("")],
        ['key: ""', test.expire("")],
        ["key: undefined", test.steal(undefined as never)]
      ]
      for (const [what, effect] of impossible) {
        const exit = yield* Effect.exit(effect)
        const [defect] = Exit.isFailure(exit)
          ? Chunk.toReadonlyArray(Cause.defects(exit.cause))
          : []
        expect(Cause.isIllegalArgumentException(defect)).toBe(true)
        expect((defect as Error).message).toContain(`${what}. `)
      }
      expect([...(yield* Stream.runCollect(test.store.keys!("")))]).toEqual([])
    })
  )

  it.effect("is found in the context under both names", () =>
    Effect.gen(function* () {
      const context = yield* Effect.context<LockStore.LockStore | TestLockStore.TestLockStore>()
      const { store } = Context.get(context, TestLockStore.TestLockStore)
      expect(Context.get(context, LockStore.LockStore)).toBe(store)
      expect(Option.isSome(yield* Effect.serviceOption(TestLockStore.TestLockStore))).toBe(true)
    }).pipe(Effect.provide(test))
  )
})

describe.concurrent("keeps the contract of stores", () => {
  for (const { effect, name, timeoutMillis } of LockStoreContract.cases({
    capabilities: allCapabilities
  })) {
    it.live(name, () => undisturbed(30, Effect.provide(effect, test)), 3 * timeoutMillis)
  }
})
