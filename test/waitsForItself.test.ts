/** A fiber that waits for what it holds, or a fiber holds that it was forked from, is told. */
import { describe, expect, layer } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as FiberRef from "effect/FiberRef"
import * as Logger from "effect/Logger"
import * as Scope from "effect/Scope"
import { type Lease, type LockError, Lock, LockStore, Semaphore } from "effect-redis-lock"
import { freshKey, stores } from "./support/stores.js"

/** The warnings of an effect that they are about something that is waited for by who has it. */
const warningsOf = <A, E, R>(effect: Effect.Effect<A, E, R>) => {
  const told: Array<string> = []
  const logger = Logger.make(({ message }) => {
    const text = [message].flat().map(String).join(" ")
    if (text.includes("waits for itself")) told.push(text)
  })
  return effect.pipe(
    Effect.exit,
    Effect.provide(Logger.replace(Logger.defaultLogger, logger)),
    Effect.as(told)
  )
}

type Wait = (
  key: string
) => Effect.Effect<
  unknown,
  LockError.LockLost | LockError.LockUnavailable | LockError.LockStoreError,
  LockStore.LockStore | Scope.Scope
>

const own = FiberRef.unsafeMake(0)

const again: Wait = (key) => Lock.withLock(key, { waitAtMost: 30 })(Effect.void)
const acquireAgain: Wait = (key) => Lock.acquire(key, { waitAtMost: 30 })

const itself: Record<string, Wait> = {
  "withLock in withLock": (key) => Lock.withLock(key)(again(key)),
  "withLock in withLockIfAvailable": (key) => Lock.withLockIfAvailable(key)(again(key)),
  "acquire in withLock": (key) => Lock.withLock(key)(acquireAgain(key)),
  "withLock behind acquire": (key) => Effect.zipRight(Lock.acquire(key), again(key)),
  "acquire behind tryAcquire": (key) => Effect.zipRight(Lock.tryAcquire(key), acquireAgain(key)),
  "in lease.guard": (key) =>
    Effect.flatMap(Lock.acquire(key), (lease) =>
      lease.guard(Effect.zipRight(Effect.yieldNow(), again(key)))
    ),
  "behind another lock": (key) =>
    Lock.withLock(key)(Lock.withLock(freshKey())(Effect.zipRight(Effect.sleep(1), again(key)))),
  "in a fork": (key) => Lock.withLock(key)(Effect.flatMap(Effect.fork(again(key)), Fiber.join)),
  "in a daemon's fork": (key) =>
    Lock.withLock(key)(
      Effect.flatMap(
        Effect.forkDaemon(Effect.flatMap(Effect.fork(again(key)), Fiber.join)),
        Fiber.join
      )
    ),
  "of several at once": (key) =>
    Lock.withLock(key)(Effect.all([Effect.void, again(key)], { concurrency: "unbounded" })),
  "what was taken beside a fork": (key) =>
    Effect.gen(function* () {
      const scope = yield* Effect.scope
      const fork = yield* Effect.fork(Scope.extend(Lock.acquire(freshKey()), scope))
      yield* Lock.acquire(key)
      yield* Fiber.join(fork)
      return yield* again(key)
    }),
  "what is held around a fork that has given back its own": (key) =>
    Lock.withLock(key)(
      Effect.zipRight(
        Effect.flatMap(Effect.fork(Effect.scoped(Lock.acquire(freshKey()))), Fiber.join),
        again(key)
      )
    )
}

/** In Effect 4, what a fiber has does not come to the one that joins it. */
const flowsBack = "inheritAll" in Fiber

const ofJoined: Record<string, Wait> = {
  "what one of several has taken": (key) =>
    Effect.zipRight(
      Effect.all([Lock.acquire(key), Lock.acquire(freshKey())], { concurrency: "unbounded" }),
      again(key)
    ),
  "what a joined fiber has taken": (key) =>
    Effect.flatMap(Effect.scope, (scope) =>
      Effect.fork(Scope.extend(Lock.acquire(key), scope)).pipe(
        Effect.flatMap(Fiber.join),
        Effect.zipRight(again(key))
      )
    )
}

const others: Record<string, Wait> = {
  "another key": (key) =>
    Effect.zipRight(
      Effect.fork(Lock.withLock(key)(Effect.sleep(100))),
      Lock.withLock(freshKey())(Effect.zipRight(Effect.sleep(10), again(key)))
    ),
  siblings: (key) =>
    Effect.all([Lock.withLock(key)(Effect.sleep(20)), again(key), again(key)], {
      concurrency: "unbounded"
    }),
  "one after the other": (key) =>
    Effect.zipRight(
      Effect.scoped(Effect.zipRight(Lock.acquire(key), Lock.withLock(freshKey())(Effect.void))),
      Effect.flatMap(Effect.fork(Lock.withLock(key)(Effect.sleep(50))), (holder) =>
        Effect.zipRight(Effect.zipRight(Effect.sleep(10), again(key)), Fiber.interrupt(holder))
      )
    ),
  "behind a release": (key) =>
    Effect.flatMap(Lock.acquire(key), (lease) =>
      Effect.zipRight(
        lease.release,
        Effect.flatMap(Effect.forkDaemon(Lock.withLock(key)(Effect.sleep(50))), () =>
          Effect.zipRight(Effect.sleep(10), again(key))
        )
      )
    ),
  "what somebody else holds, and guards something here": (key) =>
    Effect.gen(function* () {
      const scope = yield* Effect.scope
      const other = yield* Effect.fork(
        Effect.zipRight(Effect.yieldNow(), Scope.extend(Lock.acquire(key), scope))
      )
      const { value: lease } = yield* Fiber.await(other) as Effect.Effect<{
        readonly value: Lease.Lease
      }>
      yield* lease.guard(Effect.annotateLogs(FiberRef.set(own, 1), "a", 1))
      return yield* again(key)
    }),
  "a single attempt": (key) =>
    Lock.withLock(key)(Effect.zip(Effect.exit(Effect.scoped(Lock.tryAcquire(key))), Effect.void)),
  "where nobody wants warnings": (key) =>
    Lock.withLock(key)(
      Lock.withLock(key, { waitAtMost: 30, warnAfter: Duration.infinity })(Effect.void)
    )
}

describe.each(stores)("%s", (_, store) => {
  layer(store, { excludeTestServices: true })("a wait for oneself", (it) => {
    for (const [what, wait] of Object.entries({ ...itself, ...(flowsBack ? ofJoined : {}) })) {
      it.scoped(`is told once, at once: ${what}`, () =>
        Effect.gen(function* () {
          const key = freshKey()
          const told = yield* warningsOf(Effect.scoped(wait(key)))
          expect(told).toHaveLength(1)
          expect(told[0]).toContain(`Lock "${key}": a caller waits for itself`)
          expect(told[0]).toContain("this wait ends only after 30 ms")
        })
      )
    }

    it.scoped("of a semaphore says what it is", () =>
      Effect.gen(function* () {
        const key = freshKey()
        const permits = Semaphore.withPermits(key, { limit: 1, waitAtMost: 30 })
        const [told] = yield* warningsOf(permits(permits(Effect.void)))
        expect(told).toContain(`Semaphore "${key}": a caller waits for itself`)
        expect(told).toContain("instead of asking for permits again")
      })
    )

    for (const [what, wait] of Object.entries(others)) {
      it.scoped(`is something else: ${what}`, () =>
        Effect.gen(function* () {
          expect(yield* warningsOf(Effect.scoped(wait(freshKey())))).toEqual([])
        })
      )
    }

    it.scoped("is told before it is over", () =>
      Effect.gen(function* () {
        const key = freshKey()
        const told = yield* warningsOf(
          Lock.withLock(key)(Effect.timeout(Lock.withLock(key)(Effect.void), "200 millis"))
        )
        expect(told[0]).toContain("this wait lasts for ever")
      })
    )

    it.scoped("another store's lock of the same name is another lock", () =>
      Effect.gen(function* () {
        const key = freshKey()
        const store = yield* LockStore.LockStore
        yield* Effect.fork(Lock.withLock(key)(Effect.sleep(100)))
        yield* Effect.sleep(20)
        const told = yield* warningsOf(
          // (a store in which everything is free)
          Lock.withLock(key)(Effect.provideService(again(key), LockStore.LockStore, store)).pipe(
            Effect.scoped,
            Effect.provideService(LockStore.LockStore, {
              ...store,
              acquire: (claim, restore) =>
                store.acquire({ ...claim, key: `${claim.key}-elsewhere` }, restore)
            })
          )
        )
        expect(told).toEqual([])
      })
    )
  })
})
