/** A long wait is logged, whatever ends it, and whatever the log is made of. */
import { describe, expect, layer } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as FiberRef from "effect/FiberRef"
import * as Logger from "effect/Logger"
import * as Metric from "effect/Metric"
import { Lock, LockStore } from "effect-redis-lock"
import { everyStore, expectFree, freshKey, quiet } from "./support/stores.js"

const waiting = (lock: string) =>
  Effect.map(Metric.snapshot, (pairs) => {
    const found = pairs.find(
      ({ metricKey }) =>
        metricKey.name === "effect_redis_lock_waiting" &&
        [...metricKey.tags].some(({ value }) => value === lock)
    )
    return (found?.metricState as { readonly value?: number } | undefined)?.value
  })

describe.each(everyStore)("%s", (_, store) => {
  layer(store, { excludeTestServices: true })("a long wait", (it) => {
    it.scoped("that ends when the next warning is due ends without it", () =>
      Effect.gen(function* () {
        const told: Array<string> = []
        const logger = Logger.make(({ message }) => void told.push([message].flat().join(" ")))
        const key = freshKey()
        const held = yield* Deferred.make<void>()
        yield* Effect.fork(
          Lock.withLock(key)(Effect.zipRight(Deferred.succeed(held, undefined), Effect.never))
        )
        yield* Deferred.await(held)
        for (const times of [2, 4]) {
          told.length = 0
          const waits = Array.from({ length: 40 }, (_, index) => {
            const warnAfter = 40 + index / 4
            return Effect.delay(
              Effect.flip(
                Effect.scoped(Lock.acquire(key, { warnAfter, waitAtMost: times * warnAfter }))
              ),
              index / 3
            )
          })
          const errors = yield* Effect.all(waits, { concurrency: "unbounded" }).pipe(
            Effect.provide(Logger.replace(Logger.defaultLogger, logger))
          )
          expect(new Set(errors.map(({ _tag }) => _tag))).toEqual(new Set(["LockUnavailable"]))
          expect(told).toHaveLength(40 * Math.log2(times))
        }
      })
    )

    it.scoped("can be asked what it waits for after its end, too", () =>
      Effect.gen(function* () {
        const inner = yield* LockStore.LockStore
        const key = freshKey()
        const taken = yield* Lock.acquire(key)
        const questions: Array<() => LockStore.Contention> = []
        yield* Effect.flip(Effect.scoped(Lock.acquire(key, { waitAtMost: 30 }))).pipe(
          Effect.provideService(LockStore.LockStore, {
            ...inner,
            acquire: (claim, restore) =>
              inner.acquire(
                { ...claim, whenWaiting: (contention) => void questions.push(contention) },
                restore
              )
          })
        )
        expect(questions.map((ask) => ask().ahead)).toEqual([0])
        yield* taken.release
        expect(questions.map((ask) => ask().ahead)).toEqual([0])
      })
    )

    it.scoped("is no worse where what makes the warning throws", () =>
      Effect.gen(function* () {
        const key = freshKey()
        const options = { warnAfter: 20, waitAtMost: 60, name: freshKey() }
        let throws = false
        const angry = FiberRef.unsafeMake(0, {
          fork: (value) => {
            if (throws) throw new Error("no fork")
            return value
          }
        })
        const error = yield* Lock.withLock(key)(
          Effect.flip(
            Effect.locally(
              Effect.suspend(() => {
                throws = true
                return Effect.scoped(Lock.acquire(key, options))
              }),
              angry,
              1
            ).pipe(Effect.ensuring(Effect.sync(() => (throws = false))))
          )
        )
        expect(error._tag).toBe("LockUnavailable")
        expect(yield* waiting(options.name)).toBe(0)
        yield* expectFree(key)
      }).pipe(Effect.provide(quiet))
    )
  })
})
