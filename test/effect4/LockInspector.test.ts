/** On both stores: what is told of a key, of all keys, and of what changes. */
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Queue from "effect/Queue"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/testing/TestClock"
import {
  Lock,
  LockError,
  LockInspector,
  LockStore,
  MemoryLockStore,
  RedisLockStore
} from "effect-redis-lock/effect4"
import { describe, expect, it } from "vitest"
import { redisServer, run, storeOf } from "./support.js"

const inMemory = <A, E>(test: Effect.Effect<A, E, LockStore.LockStore | Scope.Scope>) =>
  run(Effect.provide(test, Layer.provideMerge(MemoryLockStore.layer, TestClock.layer())))

const inRedis = <A, E>(test: Effect.Effect<A, E, LockStore.LockStore | Scope.Scope>) =>
  run(
    Effect.gen(function* () {
      const server = yield* redisServer()
      const { use } = yield* storeOf(RedisLockStore.layer({ url: server.url, prefix: "locks:" }))
      return yield* use(test)
    })
  )

/** Takes something that is given back by the effect that this succeeds with. */
const taken = <A, E, R>(acquire: Effect.Effect<A, E, R>) =>
  Effect.gen(function* () {
    const scope = yield* Effect.acquireRelease(Scope.make(), (scope) =>
      Scope.close(scope, Exit.void)
    )
    const lease = yield* Scope.provide(acquire, scope)
    return { lease, giveBack: Scope.close(scope, Exit.void) }
  })

const waiting = (key: string, options: Lock.WaitOptions) =>
  Effect.forkScoped(Effect.scoped(Effect.andThen(Lock.acquire(key, options), Effect.never)), {
    startImmediately: true
  })

const listedKeys = (options?: LockInspector.ListOptions) =>
  Effect.map(Stream.runCollect(LockInspector.list(options)), (all) =>
    all.map(({ key }) => key).sort()
  )

const long = { ttl: "1 minute" } as const

const stores = [
  ["in memory", inMemory],
  ["in Redis", inRedis]
] as const

describe.each(stores)("%s", (_, inStore) => {
  it("a key has who holds it, since when, and how many wait", () =>
    inStore(
      Effect.gen(function* () {
        const { giveBack, lease } = yield* taken(Lock.acquire("k", { ...long, owner: "a" }))
        yield* waiting("k", { ...long, owner: "b" })
        let seen = yield* LockInspector.inspect("k")
        while (seen.waitingHere === 0) {
          yield* Effect.yieldNow
          seen = yield* LockInspector.inspect("k")
        }
        expect(seen).toMatchObject({
          key: "k",
          kind: "lock",
          inUse: undefined,
          heldCount: 1,
          held: [
            { owner: "a", mode: "exclusive", fencingToken: lease.fencingToken, foreign: false }
          ],
          waitingHere: 1
        })
        const [holder] = seen.held
        expect(Duration.toMillis(holder!.ttlLeft!)).toBeGreaterThan(30_000)
        expect(holder!.since!.epochMilliseconds).toBe(
          seen.at.epochMilliseconds - Duration.toMillis(holder!.heldFor!)
        )
        expect(JSON.stringify(seen)).not.toContain(lease.token)
        yield* giveBack
        expect(yield* LockInspector.inspect("free")).toMatchObject({ kind: undefined, held: [] })
      })
    ))

  it("a list has all keys that begin with the prefix", () =>
    inStore(
      Effect.gen(function* () {
        expect(yield* listedKeys()).toEqual([])
        for (let n = 0; n < 600; n++) yield* Lock.acquire(`many:${n}`, long)
        yield* Lock.acquire("many*", long)
        expect(yield* listedKeys()).toHaveLength(601)
        expect(yield* listedKeys({ prefix: "many*" })).toEqual(["many*"])
        expect(yield* listedKeys({ prefix: "none" })).toEqual([])
      })
    ))
})

/** Watches; the changes come out of a queue. */
const watching = (options?: LockInspector.WatchOptions) =>
  Effect.gen(function* () {
    const queue = yield* Queue.unbounded<LockInspector.Change>()
    const fiber = yield* Effect.forkScoped(
      Stream.runForEach(LockInspector.watch(options), (change) => Queue.offer(queue, change)),
      { startImmediately: true }
    )
    return { fiber, queue }
  })

const shown = (change: LockInspector.Change): string => {
  const { owner } = "held" in change ? change.held : change.pending
  return `${change.initial ? "! " : ""}${change._tag} ${change.key} ${owner}`
}

describe("changes", () => {
  it("come with each look, by the clock, and tell how a lease has ended", () =>
    inMemory(
      Effect.gen(function* () {
        const first = yield* taken(Lock.acquire("k", { ...long, owner: "a" }))
        yield* waiting("k", { ...long, owner: "b" })
        const { queue } = yield* watching({ every: "1 second" })
        const look = Effect.andThen(
          TestClock.adjust("1 second"),
          Effect.map(Queue.clear(queue), (changes) => changes.map(shown))
        )
        expect(yield* look).toEqual(["! Granted k a", "! Queued k b"])
        expect(yield* look).toEqual([])
        yield* first.giveBack
        expect(yield* look).toEqual(["Released k a", "Granted k b"])
        const [holder] = (yield* LockInspector.inspect("k")).held
        yield* Lock.forceRelease("k", holder!.fencingToken!)
        expect(yield* look).toEqual(["Lost k b"])
        const { acquire } = yield* LockStore.LockStore
        yield* acquire(
          {
            key: "k",
            kind: "lock",
            share: 1,
            limit: 1,
            ttlMillis: 1_500,
            waitMillis: 0,
            owner: "c"
          },
          (effect) => effect
        )
        expect(yield* look).toEqual(["Granted k c"])
        expect(yield* look).toEqual(["Expired k c"])
      })
    ))

  it("in Redis are those that the server saw", () =>
    inRedis(
      Effect.gen(function* () {
        const { queue } = yield* watching({ every: "10 millis" })
        const { giveBack } = yield* taken(Lock.acquire("k", { ...long, owner: "a" }))
        const granted = yield* Queue.take(queue)
        expect(granted).toMatchObject({ _tag: "Granted", key: "k", kind: "lock" })
        yield* giveBack
        expect(shown(yield* Queue.take(queue))).toBe("Released k a")
      })
    ))

  it("are asked for while they are read, and no longer", () =>
    inMemory(
      Effect.gen(function* () {
        const store = yield* LockStore.LockStore
        let asked = 0
        const counting: LockStore.LockStore = {
          ...store,
          keys: (prefix) => Stream.suspend(() => (asked++, store.keys!(prefix)))
        }
        const fiber = yield* Stream.runDrain(LockInspector.watch()).pipe(
          Effect.provideService(LockStore.LockStore, counting),
          Effect.forkScoped({ startImmediately: true })
        )
        // (whatever can go on without the clock does)
        const settled = Effect.map(Effect.repeat(Effect.yieldNow, { times: 100 }), () => asked)
        expect(yield* settled).toBe(1)
        yield* TestClock.adjust("2 seconds")
        expect(yield* settled).toBe(3)
        yield* Fiber.interrupt(fiber)
        yield* TestClock.adjust("1 minute")
        expect(yield* settled).toBe(3)
      })
    ))
})

it("a store that is silent for a while is waited for, and an error that stays ends the changes", () =>
  inMemory(
    Effect.gen(function* () {
      const store = yield* LockStore.LockStore
      let failure: "none" | "passing" | "lasting" = "none"
      const asked = yield* Deferred.make<void>()
      const failing: LockStore.LockStore = {
        ...store,
        keys: (prefix) =>
          failure === "none"
            ? store.keys!(prefix)
            : Stream.fromEffect(
                Effect.andThen(
                  Deferred.succeed(asked, undefined),
                  Effect.fail(
                    new LockError.LockStoreError({
                      operation: "keys",
                      detail: failure,
                      transient: failure === "passing"
                    })
                  )
                )
              )
      }
      const { fiber, queue } = yield* Effect.provideService(
        watching(),
        LockStore.LockStore,
        failing
      )
      failure = "passing"
      yield* TestClock.adjust("5 seconds")
      expect(yield* Deferred.isDone(asked)).toBe(true)
      failure = "none"
      yield* Lock.acquire("k", { ...long, owner: "a" })
      yield* TestClock.adjust("1 second")
      expect((yield* Queue.clear(queue)).map(shown)).toEqual(["Granted k a"])
      failure = "lasting"
      yield* TestClock.adjust("1 second")
      expect(yield* Effect.flip(Fiber.join(fiber))).toMatchObject({ detail: "lasting" })
    })
  ))

it("what cannot be asked is a defect that names the option, or a failure of the store", () =>
  inMemory(
    Effect.gen(function* () {
      const defectOf = (effect: Effect.Effect<unknown, unknown, LockStore.LockStore>) =>
        Effect.map(Effect.exit(effect), String)
      const prefix = 7 as unknown as string
      expect(yield* defectOf(LockInspector.inspect(""))).toContain('option key: ""')
      expect(yield* defectOf(listedKeys({ prefix }))).toContain("option prefix: 7")
      expect(yield* defectOf(Stream.runDrain(LockInspector.watch({ every: 5 })))).toContain(
        "option every: 5 ms"
      )
      const store = yield* LockStore.LockStore
      const error = yield* listedKeys().pipe(
        Effect.provideService(LockStore.LockStore, {
          ...store,
          capabilities: new Set(["look" as const])
        }),
        Effect.flip
      )
      expect(error).toMatchObject({ _tag: "LockStoreError", operation: "keys", transient: false })
    })
  ))
