/** Readers and writers in random stories, among stores; against the model of a key's queue: capacity.test.ts. */
import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Random from "effect/Random"
import { type Lease, type LockStore, ReadWriteLock } from "effect-redis-lock"
import { environments, strict } from "./support/Queue.js"
import * as RedisServer from "./support/RedisServer.js"
import { freshKey } from "./support/stores.js"
import { nothingLeft, quietly } from "./redis/support.js"

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
