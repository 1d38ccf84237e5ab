/** Who holds a key, and who waits: of stores in memory, where a `TestClock` moves the time. */
import { describe, expect, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Chunk from "effect/Chunk"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Queue from "effect/Queue"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/TestClock"
import {
  Lock,
  LockInspector,
  LockStore,
  MemoryLockStore,
  ReadWriteLock,
  Semaphore
} from "effect-redis-lock"
import * as TestLockStore from "effect-redis-lock/TestLockStore"
import { quiet } from "./support/stores.js"

const memory = Layer.merge(MemoryLockStore.layer, quiet)
const testStore = Layer.merge(TestLockStore.layer, quiet)

const millis = (duration: Duration.Duration | undefined) => duration && Duration.toMillis(duration)

const list = (options?: LockInspector.ListOptions) =>
  Effect.map(Stream.runCollect(LockInspector.list(options)), Chunk.toReadonlyArray)

/** Keys, in the order of their names: a list has none. */
const listedKeys = (options?: LockInspector.ListOptions) =>
  Effect.map(list(options), (snapshots) => snapshots.map(({ key }) => key).sort())

/** Takes something that is given back by the effect that this succeeds with. */
const taken = <A, E, R>(acquire: Effect.Effect<A, E, R>) =>
  Effect.gen(function* () {
    const scope = yield* Effect.acquireRelease(Scope.make(), (scope) =>
      Scope.close(scope, Exit.void)
    )
    const lease = yield* Scope.extend(acquire, scope)
    return { lease, giveBack: Scope.close(scope, Exit.void) }
  })

/** A caller in a fiber of its own: it waits, and then holds. */
const inFiber = <A, E, R>(acquire: Effect.Effect<A, E, R>) =>
  Effect.tap(Effect.forkScoped(Effect.scoped(Effect.zipRight(acquire, Effect.never))), () =>
    Effect.yieldNow()
  )

const defectOf = (exit: Exit.Exit<unknown, unknown>): string =>
  Exit.isFailure(exit) ? [...Cause.defects(exit.cause)].map(String).join() : "none"

describe("a look at one key", () => {
  it.scoped("says who holds a lock, since when, and how long without a renewal", () =>
    Effect.gen(function* () {
      yield* TestClock.setTime(1_000_000)
      const { lease } = yield* taken(Lock.acquire("key", { owner: "web-3", ttl: 60_000 }))
      yield* TestClock.adjust(5_000)
      const { at, held, ...more } = yield* LockInspector.inspect("key")
      expect(more).toEqual({
        key: "key",
        kind: "lock",
        inUse: undefined,
        limit: undefined,
        heldCount: 1,
        pending: [],
        pendingCount: 0,
        waitingHere: 0
      })
      expect(at.epochMillis).toBe(1_005_000)
      const [holder] = held
      expect(holder).toMatchObject({
        owner: "web-3",
        mode: "exclusive",
        permits: undefined,
        limit: undefined,
        fencingToken: lease.fencingToken,
        foreign: false,
        isLeft: false
      })
      expect(holder!.since!.epochMillis).toBe(1_000_000)
      expect(millis(holder!.heldFor)).toBe(5_000)
      expect(millis(holder!.ttlLeft)).toBe(55_000)
      // a renewal is none of the grant
      yield* TestClock.adjust(30_000)
      const [later] = (yield* LockInspector.inspect("key")).held
      expect(later).toMatchObject({ id: holder!.id, since: holder!.since })
      expect(millis(later!.ttlLeft)).toBe(55_000)
    }).pipe(Effect.provide(memory))
  )

  it.scoped("lists who waits in order, and never shows a token", () =>
    Effect.gen(function* () {
      const { giveBack, lease } = yield* taken(Lock.acquire("key"))
      for (const owner of ["a", "b", "c"]) {
        yield* inFiber(Lock.acquire("key", { owner, ttl: 60_000 }))
        yield* TestClock.adjust(100)
      }
      const before = yield* LockInspector.inspect("key")
      expect(before.pending.map(({ owner }) => owner)).toEqual(["a", "b", "c"])
      expect(before.pending.map(({ waited }) => millis(waited))).toEqual([300, 200, 100])
      expect(before.pending.map(({ since }) => before.at.epochMillis - since!.epochMillis)).toEqual(
        [300, 200, 100]
      )
      expect([before.pendingCount, before.waitingHere]).toEqual([3, 3])
      const shown = JSON.stringify(before)
      expect(shown).not.toContain(lease.token)
      expect(shown).not.toContain(lease.token.split(".")[1])
      yield* giveBack
      yield* TestClock.adjust(0)
      const after = yield* LockInspector.inspect("key")
      expect(after.held.map(({ owner }) => owner)).toEqual(["a"])
      expect(after.pending.map(({ owner }) => owner)).toEqual(["b", "c"])
      // who waited is the one who holds
      expect(after.held[0]!.id).toBe(before.pending[0]!.id)
      expect(after.held[0]!.incarnation).toBe(before.pending[0]!.incarnation)
    }).pipe(Effect.provide(memory))
  )

  it.scoped("has one entry for each who holds permits of a semaphore", () =>
    Effect.gen(function* () {
      yield* taken(Semaphore.acquire("pool", { permits: 2, limit: 5, owner: "a" }))
      yield* taken(Semaphore.acquire("pool", { permits: 1, limit: 4, owner: "b" }))
      yield* inFiber(Semaphore.acquire("pool", { permits: 3, limit: 5, owner: "c" }))
      const found = yield* LockInspector.inspect("pool")
      expect(found).toMatchObject({ kind: "semaphore", inUse: 3, limit: 4, heldCount: 2 })
      expect(found.held).toMatchObject([
        { owner: "a", mode: "shared", permits: 2, limit: 5 },
        { owner: "b", mode: "shared", permits: 1, limit: 4 }
      ])
      expect(found.pending).toMatchObject([{ owner: "c", mode: "shared", permits: 3, limit: 5 }])
    }).pipe(Effect.provide(memory))
  )

  it.scoped("tells readers from a writer", () =>
    Effect.gen(function* () {
      yield* inFiber(ReadWriteLock.readLock("config", { owner: "reader" }))
      yield* inFiber(ReadWriteLock.writeLock("config", { owner: "writer" }))
      const found = yield* LockInspector.inspect("config")
      expect(found).toMatchObject({ kind: "readWriteLock", inUse: undefined, limit: undefined })
      expect(found.held).toMatchObject([{ owner: "reader", mode: "shared", permits: undefined }])
      expect(found.pending).toMatchObject([{ owner: "writer", mode: "exclusive" }])
    }).pipe(Effect.provide(memory))
  )

  it.scoped("lists nobody whose ttl is over, and says of whom has left that it has", () =>
    Effect.gen(function* () {
      // (a claim of the store's: nothing renews it)
      const { acquire } = yield* LockStore.LockStore
      yield* acquire(
        {
          key: "key",
          kind: "semaphore",
          share: 1,
          limit: 2,
          ttlMillis: 1_000,
          waitMillis: 0,
          owner: "dead"
        },
        (effect) => effect
      )
      yield* taken(Semaphore.acquire("key", { limit: 2, owner: "alive" }))
      expect((yield* LockInspector.inspect("key")).heldCount).toBe(2)
      yield* TestClock.adjust(1_000)
      const found = yield* LockInspector.inspect("key")
      expect(found.held.map(({ owner }) => owner)).toEqual(["alive"])
      expect(found).toMatchObject({ heldCount: 1, inUse: 1 })
      yield* Effect.scoped(Lock.acquire("job", { holdAtLeast: 10_000 }))
      const [left] = (yield* LockInspector.inspect("job")).held
      expect(left).toMatchObject({ isLeft: true })
    }).pipe(Effect.provide(memory))
  )

  it.effect("of a key that nobody has says so", () =>
    Effect.gen(function* () {
      yield* TestClock.setTime(7_000)
      const { at, ...more } = yield* LockInspector.inspect("free")
      expect(at.epochMillis).toBe(7_000)
      expect(more).toEqual({
        key: "free",
        kind: undefined,
        inUse: undefined,
        limit: undefined,
        held: [],
        heldCount: 0,
        pending: [],
        pendingCount: 0,
        waitingHere: 0
      })
    }).pipe(Effect.provide(memory))
  )

  it.scoped("lists a hundred of each, and counts all", () =>
    Effect.gen(function* () {
      for (let n = 0; n < 130; n++) {
        yield* taken(Semaphore.acquire("pool", { limit: 130, owner: `holder ${n}` }))
      }
      for (let n = 0; n < 120; n++) {
        yield* inFiber(Semaphore.acquire("pool", { limit: 130, owner: `waiter ${n}` }))
      }
      const found = yield* LockInspector.inspect("pool")
      expect([found.heldCount, found.pendingCount, found.waitingHere]).toEqual([130, 120, 120])
      const first = (who: string) => Array.from({ length: 100 }, (_, n) => `${who} ${n}`)
      expect(found.held.map(({ owner }) => owner)).toEqual(first("holder"))
      expect(found.pending.map(({ owner }) => owner)).toEqual(first("waiter"))
    }).pipe(Effect.provide(memory))
  )
})

describe("a list", () => {
  const names = ["a", "a*", "a*b", "a?", "a[b]", "a\\", "b", "ab"]

  it.scoped("has what begins with the prefix, whose characters are what they are", () =>
    Effect.gen(function* () {
      for (const key of names) yield* taken(Lock.acquire(key))
      yield* inFiber(Lock.acquire("b"))
      expect(yield* listedKeys()).toEqual([...names].sort())
      expect(yield* listedKeys({ prefix: "" })).toEqual([...names].sort())
      expect(yield* listedKeys({ prefix: "a*" })).toEqual(["a*", "a*b"])
      expect(yield* listedKeys({ prefix: "a[b]" })).toEqual(["a[b]"])
      expect(yield* listedKeys({ prefix: "a\\" })).toEqual(["a\\"])
      expect(yield* listedKeys({ prefix: "?" })).toEqual([])
      const [b] = yield* list({ prefix: "b" })
      expect(b).toEqual(yield* LockInspector.inspect("b"))
    }).pipe(Effect.provide(memory))
  )

  it.scoped("has no key that was given back, and none of another store", () =>
    Effect.gen(function* () {
      const { giveBack } = yield* taken(Lock.acquire("gone"))
      yield* taken(Lock.acquire("kept"))
      yield* giveBack
      expect(yield* listedKeys()).toEqual(["kept"])
      expect(yield* Effect.provide(listedKeys(), MemoryLockStore.layerWith({}))).toEqual([])
    }).pipe(Effect.provide(memory))
  )
})

// ---------------------------------------------------------------- changes

/** `Granted key owner`, and `!` for what was so from the beginning. */
const shown = (change: LockInspector.Change): string => {
  const { mode, owner } = "held" in change ? change.held : change.pending
  const how = mode === "shared" && "held" in change ? " (shared)" : ""
  return `${change.initial ? "! " : ""}${change._tag} ${change.key} ${owner}${how}`
}

/** Watches, and tells what has changed after each `look`, which the test's clock brings about. */
const watching = (options?: LockInspector.WatchOptions) =>
  Effect.gen(function* () {
    const queue = yield* Queue.unbounded<LockInspector.Change>()
    const fiber = yield* Effect.forkScoped(
      Stream.runForEach(LockInspector.watch({ every: 1_000, ...options }), (change) =>
        Queue.offer(queue, change)
      )
    )
    const taken = Effect.map(Queue.takeAll(queue), Chunk.toReadonlyArray)
    yield* TestClock.adjust(0)
    return {
      fiber,
      /** So far, in full. */
      changes: taken,
      so: Effect.map(taken, (changes) => changes.map(shown)),
      look: Effect.zipRight(
        TestClock.adjust(1_000),
        Effect.map(taken, (changes) => changes.map(shown))
      )
    }
  })

const long = { ttl: 60_000 }

describe("changes", () => {
  it.scoped("are what is held and waited for at first, then what comes and goes", () =>
    Effect.gen(function* () {
      const first = yield* taken(Lock.acquire("key", { ...long, owner: "a" }))
      yield* inFiber(Lock.acquire("key", { ...long, owner: "b" }))
      const { look, so } = yield* watching()
      expect(yield* so).toEqual(["! Granted key a", "! Queued key b"])
      expect(yield* look).toEqual([])
      const third = yield* inFiber(Lock.acquire("key", { ...long, owner: "c" }))
      expect(yield* look).toEqual(["Queued key c"])
      yield* first.giveBack
      // (who is granted does not leave the queue)
      expect(yield* look).toEqual(["Released key a", "Granted key b"])
      yield* Fiber.interrupt(third)
      expect(yield* look).toEqual(["Left key c"])
      expect(yield* look).toEqual([])
    }).pipe(Effect.provide(memory))
  )

  it.scoped(
    "tell a lease that was given back from one that ended by its ttl, and one by force",
    () =>
      Effect.gen(function* () {
        const { acquire } = yield* LockStore.LockStore
        const claim = (key: string, ttlMillis: number) =>
          acquire(
            { key, kind: "lock", share: 1, limit: 1, ttlMillis, waitMillis: 0, owner: key },
            (effect) => effect
          )
        const { look } = yield* watching()
        yield* claim("dead", 2_500)
        const released = yield* claim("released", 2_500)
        const { lease } = yield* taken(Lock.acquire("freed", { ...long, owner: "freed" }))
        expect(yield* look).toEqual([
          "Granted dead dead",
          "Granted released released",
          "Granted freed freed"
        ])
        yield* released.release
        yield* Lock.forceRelease("freed", lease.fencingToken)
        expect((yield* look).sort()).toEqual(["Lost freed freed", "Released released released"])
        expect(yield* look).toEqual(["Expired dead dead"])
      }).pipe(Effect.provide(memory))
  )

  it.scoped("tell what a holder left held by nobody as given back, once", () =>
    Effect.gen(function* () {
      const { look } = yield* watching()
      const job = yield* taken(Lock.acquire("job", { ...long, owner: "a", holdAtLeast: 5_000 }))
      expect(yield* look).toEqual(["Granted job a"])
      yield* job.giveBack
      expect(yield* look).toEqual(["Released job a"])
      expect((yield* LockInspector.inspect("job")).heldCount).toBe(1)
      for (let n = 0; n < 5; n++) expect(yield* look).toEqual([])
      expect((yield* LockInspector.inspect("job")).heldCount).toBe(0)
    }).pipe(Effect.provide(memory))
  )

  it.scoped("add up, also where there are more holders than are listed", () =>
    Effect.gen(function* () {
      const pool = (owner: string) => Semaphore.acquire("pool", { ...long, limit: 110, owner })
      const holders = yield* Effect.forEach(Array.from({ length: 110 }), () =>
        taken(pool("holder"))
      )
      const waiters = yield* Effect.forEach(Array.from({ length: 5 }), () =>
        inFiber(pool("waiter"))
      )
      const { changes } = yield* watching()
      const there = { Granted: 0, Queued: 0 }
      const add = Effect.map(changes, (all) => {
        for (const { _tag } of all) {
          if (_tag === "Granted") there.Granted++
          else if (_tag === "Queued") there.Queued++
          else if (_tag === "Left") there.Queued--
          else there.Granted--
        }
        return { ...there }
      })
      expect(yield* add).toEqual({ Granted: 100, Queued: 5 })
      // they enter, behind the first hundred, and leave
      for (const { giveBack } of holders.slice(105)) yield* giveBack
      yield* TestClock.adjust(1_000)
      expect(yield* add).toEqual({ Granted: 100, Queued: 5 })
      for (const waiter of waiters) yield* Fiber.interrupt(waiter)
      for (const { giveBack } of holders) yield* giveBack
      yield* TestClock.adjust(1_000)
      expect(yield* add).toEqual({ Granted: 0, Queued: 0 })
    }).pipe(Effect.provide(memory))
  )

  it.scoped("of a writer that becomes a reader are a grant, of the same fencing token", () =>
    Effect.gen(function* () {
      const { lease } = yield* taken(ReadWriteLock.writeLock("config", { ...long, owner: "a" }))
      const { changes, look, so } = yield* watching()
      expect(yield* so).toEqual(["! Granted config a"])
      yield* lease.downgrade
      yield* TestClock.adjust(1_000)
      const [change, ...more] = yield* changes
      expect(more).toEqual([])
      expect(change).toMatchObject({
        _tag: "Granted",
        initial: false,
        held: { mode: "shared", fencingToken: lease.fencingToken }
      })
      expect(yield* look).toEqual([])
    }).pipe(Effect.provide(memory))
  )

  it.scoped("have the keys of the prefix alone, and the times of the store", () =>
    Effect.gen(function* () {
      yield* TestClock.setTime(1_000_000)
      const { changes } = yield* watching({ prefix: "mine:" })
      yield* taken(Lock.acquire("mine:1", long))
      yield* TestClock.adjust(500)
      yield* taken(Lock.acquire("other", long))
      yield* TestClock.adjust(500)
      const [change, ...more] = yield* changes
      expect(more).toEqual([])
      expect(change).toMatchObject({ key: "mine:1", kind: "lock" })
      expect(change!.at.epochMillis).toBe(1_001_000)
      expect("held" in change! && change.held.since!.epochMillis).toBe(1_000_000)
    }).pipe(Effect.provide(memory))
  )

  it.scoped("cost nothing while nobody reads them, and nothing more after that", () =>
    Effect.gen(function* () {
      const store = yield* LockStore.LockStore
      let asked = 0
      const counting: LockStore.LockStore = {
        ...store,
        keys: (prefix) => Stream.suspend(() => (asked++, store.keys!(prefix))),
        look: (...question) => Effect.suspend(() => (asked++, store.look!(...question)))
      }
      const inside = Effect.provideService(LockStore.LockStore, counting)
      yield* taken(Lock.acquire("key", long))
      const stream = LockInspector.watch({ every: 1_000 })
      yield* TestClock.adjust(10_000)
      expect(asked).toBe(0)
      const fiber = yield* Effect.fork(inside(Stream.runDrain(stream)))
      yield* TestClock.adjust(2_000)
      // three looks: at the keys, and at the one that there is
      expect(asked).toBe(6)
      yield* Fiber.interrupt(fiber)
      yield* TestClock.adjust(10_000)
      expect(asked).toBe(6)
      // one that has read enough stops as well
      yield* inside(Stream.runDrain(Stream.take(stream, 1)))
      yield* TestClock.adjust(10_000)
      expect(asked).toBe(8)
    }).pipe(Effect.provide(memory))
  )

  it.scoped("wait while the store is silent, and are told when it answers again", () =>
    Effect.gen(function* () {
      const first = yield* taken(Lock.acquire("key", { ...long, owner: "a" }))
      const { fiber, look, so } = yield* watching()
      expect(yield* so).toEqual(["! Granted key a"])
      yield* TestLockStore.silence
      expect(yield* look).toEqual([])
      yield* TestClock.adjust(5_000)
      expect(yield* so).toEqual([])
      yield* TestLockStore.restore
      yield* first.giveBack
      yield* TestClock.adjust(3_000)
      expect(yield* so).toEqual(["Released key a"])
      yield* TestLockStore.steal("key")
      expect(yield* look).toEqual(["Granted key somebody else"])
      yield* TestLockStore.refuse({ transient: false, detail: "for good" })
      yield* TestClock.adjust(2_000)
      const error = yield* Effect.flip(Fiber.join(fiber))
      expect(error).toMatchObject({ _tag: "LockStoreError", detail: "for good" })
    }).pipe(Effect.provide(testStore))
  )
})

describe("what cannot be asked", () => {
  it.effect("is a defect that names the option and its value", () =>
    Effect.gen(function* () {
      const none = undefined as unknown as string
      const of = (effect: Effect.Effect<unknown, unknown, LockStore.LockStore>) =>
        Effect.map(Effect.exit(effect), defectOf)
      expect(yield* of(LockInspector.inspect(""))).toContain('Impossible lock option key: ""')
      expect(yield* of(LockInspector.inspect(none))).toContain("option key: undefined")
      const prefix = (prefix: unknown) => of(list({ prefix: prefix as string }))
      expect(yield* prefix(7)).toContain("Impossible lock option prefix: 7. It must be a string.")
      expect(yield* prefix("\ud800")).toContain("half of a surrogate pair")
      expect(yield* prefix("x".repeat(65_537))).toContain("at most 65536 characters")
      const every = (every: unknown) =>
        of(Stream.runDrain(LockInspector.watch({ every: every as number })))
      expect(yield* every(5)).toContain("Impossible lock option every: 5 ms")
      expect(yield* every("soon")).toContain('Impossible lock option every: "soon"')
      expect(yield* every(Number.POSITIVE_INFINITY)).toContain("option every: Infinity")
    }).pipe(Effect.provide(memory))
  )

  it.scoped(
    "of a store that does not say what it sees fails, and works without what it need not say",
    () =>
      Effect.gen(function* () {
        yield* TestClock.setTime(1_000_000)
        const store = yield* LockStore.LockStore
        const as = (more: Partial<LockStore.LockStore>) =>
          Effect.provideService(LockStore.LockStore, { ...store, ...more })
        const error = { _tag: "LockStoreError", transient: false }
        const blind = as({ capabilities: new Set(["keys"]) })
        expect(yield* blind(Effect.flip(LockInspector.inspect("key")))).toMatchObject(error)
        expect(yield* blind(Effect.flip(list()))).toMatchObject({ ...error, operation: "keys" })
        const unlisted = as({ capabilities: new Set(["look"]) })
        expect(yield* unlisted(Effect.flip(list()))).toMatchObject(error)
        expect(yield* unlisted(Effect.flip(Stream.runDrain(LockInspector.watch())))).toMatchObject(
          error
        )

        // a store of somebody's own, which says the least
        const plain = as({
          look: (key, atMost) =>
            Effect.map(
              store.look!(key, atMost),
              ({ held, heldCount, inUse, kind, limit, pending, pendingCount }): LockStore.Look => ({
                kind,
                limit,
                inUse,
                held: held.map(({ foreign, heldFor, limit, owner, share, ttlLeft }) => ({
                  foreign,
                  heldFor,
                  limit,
                  owner,
                  share,
                  ttlLeft,
                  fencingToken: 7
                })),
                heldCount,
                pending: pending.map(({ limit, owner, share, waited }) => ({
                  limit,
                  owner,
                  share,
                  waited
                })),
                pendingCount
              })
            )
        })
        const { giveBack } = yield* taken(Lock.acquire("key", { ...long, owner: "a" }))
        yield* inFiber(Lock.acquire("key", { ...long, owner: "b" }))
        const found = yield* plain(LockInspector.inspect("key"))
        expect(found.waitingHere).toBe(undefined)
        expect(found.at.epochMillis).toBe(1_000_000)
        expect(found.held[0]!.since!.epochMillis).toBe(1_000_000)
        // of those who wait without a name, nothing is told
        const { look, so } = yield* plain(watching())
        expect(yield* so).toEqual(["! Granted key a"])
        yield* TestClock.adjust(0)
        yield* giveBack
        expect(yield* look).toEqual([])
      }).pipe(Effect.provide(memory))
  )
})
