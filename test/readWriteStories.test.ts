/** Readers and writers in random stories: against the model of a key's queue, and among processes. */
import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Random from "effect/Random"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/TestClock"
import * as TestContext from "effect/TestContext"
import { type Lease, type LockStore, MemoryLockStore, ReadWriteLock } from "effect-redis-lock"
import * as fc from "fast-check"
import { environments, strict } from "./support/Queue.js"
import * as RedisServer from "./support/RedisServer.js"
import { stories } from "./support/capacityModel.js"
import { play } from "./support/capacityPlayer.js"
import { settle } from "./support/fibers.js"
import { replay, runs } from "./support/queueModel.js"
import { freshKey } from "./support/stores.js"
import { nothingLeft, quietly } from "./redis/support.js"

describe("readers and writers in memory", () => {
  it.live(
    "are served in order, whoever is downgraded, leaves, dies or expires",
    () =>
      Effect.promise(async () => {
        let [grants, together] = [0, 0]
        await fc.assert(
          fc.asyncProperty(
            stories({ kinds: ["readWriteLock"], withTime: true, withShares: true }),
            (commands) =>
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
                grants += played.grants
                together += played.together
              }).pipe(Effect.orDie, Effect.provide(TestContext.TestContext), Effect.runPromise)
          ),
          { numRuns: runs(60), endOnFailure: replay().path === undefined, ...replay() }
        )
        if (replay().path !== undefined) return
        expect(grants).toBeGreaterThan(300)
        expect(together).toBeGreaterThan(100)
      }),
    runs(60_000)
  )
})

/** What is protected: it knows who is inside, and refuses as the documentation says. */
const makeResource = () => {
  const seen = { all: 0, writer: 0 }
  let [readers, writers] = [0, 0]
  const wrong: Array<string> = []
  const enter = (fence: number, isWriter: boolean) => {
    if (isWriter ? readers + writers > 0 : writers > 0) {
      wrong.push(
        `${isWriter ? "a writer" : "a reader"} beside ${writers} writers, ${readers} readers`
      )
    }
    if (fence < (isWriter ? seen.all : seen.writer)) wrong.push(`${fence} was refused`)
    if (isWriter) {
      writers++
      seen.writer = fence
    } else readers++
    seen.all = Math.max(seen.all, fence)
  }
  const leave = (isWriter: boolean) => {
    if (isWriter) writers--
    else readers--
  }
  return {
    wrong,
    read: (lease: Lease.Lease, stay: Effect.Effect<void>) =>
      Effect.acquireUseRelease(
        Effect.sync(() => enter(lease.fencingToken, false)),
        () => stay,
        () => Effect.sync(() => leave(false))
      ),
    write: (lease: ReadWriteLock.WriteLease, stay: Effect.Effect<void>) =>
      Effect.acquireUseRelease(
        Effect.sync(() => enter(lease.fencingToken, true)),
        () => stay,
        () => Effect.sync(() => leave(true))
      )
  }
}

describe("readers and writers of several processes", () => {
  it.live(
    "whatever comes between: writers are alone, and no holder is refused by the fence",
    () =>
      Effect.gen(function* () {
        const stores = yield* environments([{}, { localHandoff: "1 second" }, strict, {}])
        const key = freshKey()
        const { read, wrong, write } = makeResource()
        const stay = Effect.flatMap(Random.nextIntBetween(0, 5), (millis) =>
          millis < 2 ? Effect.yieldNow() : Effect.sleep(millis)
        )
        const one: Effect.Effect<void, unknown, LockStore.LockStore> = Effect.flatMap(
          Random.nextIntBetween(0, 20),
          (kind) =>
            kind < 14
              ? ReadWriteLock.withReadLock(key)((lease) => read(lease, stay))
              : kind < 15
                ? Effect.asVoid(
                    ReadWriteLock.withReadLockIfAvailable(key)((lease) => read(lease, stay))
                  )
                : kind < 18
                  ? ReadWriteLock.withWriteLock(key)((lease) => write(lease, stay))
                  : ReadWriteLock.withWriteLock(key)((lease) =>
                      Effect.zipRight(
                        write(lease, stay),
                        Effect.zipRight(lease.downgrade, read(lease, stay))
                      )
                    )
        )
        const caller = (index: number) =>
          Effect.forEach(
            Array.from({ length: 12 }),
            () =>
              Effect.flatMap(Random.nextIntBetween(0, 10), (luck) =>
                luck > 1
                  ? one
                  : // cut at any moment
                    Effect.flatMap(Effect.fork(one), (fiber) =>
                      Effect.zipRight(stay, Fiber.interrupt(fiber))
                    )
              ),
            { discard: true }
          ).pipe(stores[index % 4]!.use)
        yield* Effect.forEach(Array.from({ length: 40 }), (_, index) => caller(index), {
          concurrency: "unbounded",
          discard: true
        })
        expect(wrong).toEqual([])
        yield* nothingLeft(stores[0].server)
      }).pipe(quietly, Effect.scoped, Effect.provide(RedisServer.layer())),
    120_000
  )
})
