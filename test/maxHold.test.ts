/** `maxHold`: a lease ends then, however often it is renewed, and whatever its body does. */
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
  LockError,
  LockStore,
  MemoryLockStore,
  MultiLock,
  ReadWriteLock,
  Semaphore
} from "effect-redis-lock"
import { exitOf, forkSettled, stateOf } from "./support/fibers.js"
import { ask, freshKey, quiet, StoreControls, stores } from "./support/stores.js"

const now = () => performance.now()

const kinds = [
  ["a lock", { kind: "lock", share: 1, limit: 1 }],
  ["a semaphore", { kind: "semaphore", share: 2, limit: 3 }],
  ["a reader", { kind: "readWriteLock", share: 1, limit: 1_000_000 }],
  ["a writer", { kind: "readWriteLock", share: 1_000_000, limit: 1_000_000 }]
] as const

/** Every way to take a lease, with a body that does not end. */
const ways: ReadonlyArray<
  readonly [
    string,
    (
      key: string,
      options: Lease.Options,
      body: Effect.Effect<never>
    ) => Effect.Effect<never, LockError.LockError, LockStore.LockStore>
  ]
> = [
  ["withLock", (key, options, body) => Lock.withLock(body, key, options)],
  [
    "withPermits",
    (key, options, body) => Semaphore.withPermits(body, key, { ...options, limit: 2 })
  ],
  ["withReadLock", (key, options, body) => ReadWriteLock.withReadLock(body, key, options)],
  ["withWriteLock", (key, options, body) => ReadWriteLock.withWriteLock(body, key, options)],
  ["withLocks", (key, options, body) => MultiLock.withLocks(body, [key, `${key}-2`], options)],
  [
    "acquire, and guard",
    (key, options, body) =>
      Effect.scoped(Effect.flatMap(Lock.acquire(key, options), (lease) => lease.guard(body)))
  ]
]

const lostOf = <E>(exit: Exit.Exit<unknown, E>): LockError.LockLost => {
  const [error] = Exit.isFailure(exit) ? [...Cause.failures(exit.cause)] : []
  expect(error).toBeInstanceOf(LockError.LockLost)
  return error as unknown as LockError.LockLost
}

describe.concurrent.each(stores)("%s", (_, store) => {
  layer(store, { excludeTestServices: true })((it) => {
    it.scoped("an impossible maxHold is a defect, before anything is asked", () =>
      Effect.gen(function* () {
        const { count } = yield* StoreControls
        const key = freshKey()
        const impossible: ReadonlyArray<readonly [Lease.Options, string]> = [
          [
            { maxHold: "4999 millis" },
            "maxHold: 4999 ms. It must be finite, and at least the ttl, which is 5000 ms"
          ],
          [{ maxHold: 99, ttl: 100 }, "maxHold: 99 ms."],
          [{ maxHold: Duration.infinity }, "maxHold: Infinity ms."],
          [{ maxHold: 0 }, "maxHold: 0 ms."],
          [{ maxHold: 1e16 }, "maxHold: 10000000000000000 ms."],
          [{ maxHold: Number.NaN }, "maxHold: "],
          [{ maxHold: "soon" as never }, 'maxHold: "soon"'],
          [{ maxHold: null as never }, "maxHold: null"]
        ]
        for (const [options, words] of impossible) {
          for (const [, take] of ways) {
            const exit = yield* Effect.exit(take(key, options, Effect.die("ran") as never))
            const [defect] = Exit.isFailure(exit) ? [...Cause.defects(exit.cause)] : []
            expect(Cause.isIllegalArgumentException(defect)).toBe(true)
            expect((defect as Error).message).toContain(words)
          }
        }
        expect(count(key, "acquire")).toBe(0)
      })
    )

    for (const [kind, share] of kinds) {
      it.scoped(`no renewal reaches beyond it: ${kind}`, () =>
        Effect.gen(function* () {
          const key = freshKey()
          const { clock } = yield* LockStore.LockStore
          const [asked, askedAt] = [clock.unsafeNow(), now()]
          const grant = yield* ask(key, { ...share, ttlMillis: 500, maxHoldMillis: 900 })
          const granted = clock.unsafeNow()
          // (to a fraction of a millisecond on the server)
          expect(grant.holdUntil).toBeGreaterThanOrEqual(asked + 900 - 2)
          expect(grant.holdUntil).toBeLessThanOrEqual(granted + 900 + 2)
          expect(grant.validUntil).toBeLessThan(granted + 500)
          let renewals = 0
          for (;;) {
            const renewal = yield* grant.renew
            if (renewal._tag === "NotOurs") break
            renewals++
            expect(renewal.validUntil).toBeLessThanOrEqual(granted + 900 + 2)
            yield* Effect.sleep(20)
          }
          const heldFor = now() - askedAt
          expect(renewals).toBeGreaterThan(3)
          expect(heldFor).toBeGreaterThan(850)
          // as long as it, and not for a ttl more
          expect(heldFor).toBeLessThan(900 + 400)
          yield* (yield* ask(key, share)).release
        })
      )
    }

    for (const [way, take] of ways) {
      it.scoped(`ends the body, by the margin before it, and says why: ${way}`, () =>
        quietly(
          Effect.gen(function* () {
            const key = freshKey()
            const startedAt = now()
            let [interruptedAt, wasHeld] = [0, false]
            const body = Effect.onInterrupt(Effect.never, () =>
              Effect.gen(function* () {
                interruptedAt = now()
                // nobody else can have it: its finalizers run under the lock
                const another = yield* Effect.exit(Effect.scoped(Lock.tryAcquire(key)))
                wasHeld = Exit.isFailure(another)
              }).pipe(Effect.provide(context))
            )
            const context = yield* Effect.context<LockStore.LockStore>()
            const options = { ttl: 600, renewEvery: 150, margin: 200, maxHold: 1_000 }
            const exit = yield* Effect.exit(take(key, options, body))
            const lost = lostOf(exit)
            expect(lost.reason).toBe("MaxHold")
            // (of several, the one that ends first)
            expect([key, `${key}-2`]).toContain(lost.key)
            expect(lost.message).toContain("it was held for as long as its maxHold allows")
            expect(interruptedAt - startedAt).toBeGreaterThan(700)
            expect(interruptedAt - startedAt).toBeLessThan(1_000 + 100)
            expect(wasHeld).toBe(true)
            yield* Effect.scoped(Lock.tryAcquire(`${key}-2`))
          })
        )
      )
    }

    it.scoped("a waiter enters then, also where the body cannot be interrupted", () =>
      quietly(
        Effect.gen(function* () {
          const key = freshKey()
          const options = { ttl: 600, renewEvery: 150, margin: 50, maxHold: 800 }
          const startedAt = now()
          const stubborn = yield* Effect.fork(
            Effect.exit(Lock.withLock(Effect.uninterruptible(Effect.sleep(1_800)), key, options))
          )
          yield* Effect.sleep(100)
          yield* Effect.scoped(Lock.acquire(key, { ttl: 600 }))
          const waited = now() - startedAt
          expect(waited).toBeGreaterThan(750)
          expect(waited).toBeLessThan(1_700)
          expect(exitOf(stubborn)).toBeNull()
          expect(lostOf(yield* Fiber.join(stubborn)).reason).toBe("MaxHold")
        })
      )
    )

    it.scoped("a body that ends before it knows nothing of it", () =>
      Effect.gen(function* () {
        const key = freshKey()
        const body = Effect.as(Effect.sleep(700), "done")
        const options = { ttl: 500, renewEvery: 100, maxHold: 60_000 }
        expect(yield* Lock.withLock(body, key, options)).toBe("done")
        yield* Effect.scoped(Lock.tryAcquire(key))
      })
    )

    it.scoped("a lease that could not be renewed is Unreachable, and not at its maxHold", () =>
      quietly(
        Effect.gen(function* () {
          const key = freshKey()
          const { silenceRenewals } = yield* StoreControls
          silenceRenewals(key)
          const options = { ttl: 400, renewEvery: 100, maxHold: 5_000 }
          const exit = yield* Effect.exit(Lock.withLock(Effect.never, key, options))
          expect(lostOf(exit).reason).toBe("Unreachable")
        })
      )
    )

    it.scoped("each caller of a key has its own time, counted from its own grant", () =>
      Effect.gen(function* () {
        const key = freshKey()
        const claim = {
          ttlMillis: 5_000,
          maxHoldMillis: 5_000,
          waitMillis: Number.POSITIVE_INFINITY
        }
        const { clock } = yield* LockStore.LockStore
        const first = yield* ask(key, claim)
        const next = yield* Effect.fork(ask(key, claim))
        yield* Effect.sleep(300)
        yield* first.release
        const releasedAt = clock.unsafeNow()
        const second = yield* Fiber.join(next)
        expect(second.token).not.toBe(first.token)
        expect(second.fencingToken).toBeGreaterThan(first.fencingToken)
        expect(second.holdUntil).toBeGreaterThan(first.holdUntil! + 250)
        expect(second.holdUntil).toBeGreaterThan(releasedAt + 5_000 - 100)
        expect(second.holdUntil).toBeLessThan(clock.unsafeNow() + 5_000 + 2)
        expect(second.validUntil).toBeLessThan(second.holdUntil!)
        yield* second.release
      })
    )

    it.scoped("a writer that becomes a reader has the time of its grant", () =>
      Effect.gen(function* () {
        const key = freshKey()
        const grant = yield* ask(key, { ...kinds[3][1], ttlMillis: 500, maxHoldMillis: 900 })
        const grantedAt = now()
        yield* Effect.sleep(300)
        const reshared = yield* grant.reshare!(1)
        expect(reshared).toMatchObject({ _tag: "Renewed" })
        for (;;) {
          const renewal = yield* grant.renew
          if (renewal._tag === "NotOurs") break
          yield* Effect.sleep(20)
        }
        expect(now() - grantedAt).toBeLessThan(900 + 400)
        yield* (yield* ask(key, kinds[3][1])).release
      })
    )

    it.scoped("with the store as it is, and with one that somebody has wrapped", () =>
      quietly(
        Effect.gen(function* () {
          const { bare } = yield* StoreControls
          const options = { ttl: 400, renewEvery: 100, margin: 50, maxHold: 600 }
          const holding = Lock.withLock(Effect.never, freshKey(), options)
          const wrapped = yield* Effect.exit(holding)
          const asIs = yield* Effect.exit(Effect.provideService(holding, LockStore.LockStore, bare))
          for (const exit of [wrapped, asIs]) expect(lostOf(exit).reason).toBe("MaxHold")
        })
      )
    )

    it.scoped(
      "MultiLock: while another key is waited for, what is held ends, and is taken anew",
      () =>
        quietly(
          Effect.gen(function* () {
            const key = freshKey()
            const [a, b] = [`${key}-a`, `${key}-b`]
            const inTheWay = yield* ask(b, { ttlMillis: 5_000 })
            const options = { ttl: 300, renewEvery: 80, margin: 20, maxHold: 400 }
            const work = yield* Effect.fork(
              MultiLock.withLocks(Effect.succeed("done"), [a, b], {
                ...options,
                waitAtMost: 10_000
              })
            )
            yield* Effect.sleep(1_200)
            yield* inTheWay.release
            expect(yield* Fiber.join(work)).toBe("done")
            for (const one of [a, b]) yield* (yield* ask(one)).release
          })
        )
    )
  })
})

const quietly = <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.provide(effect, quiet)

describe("in memory, to the millisecond", () => {
  const options = { ttl: 1_000, renewEvery: 400, margin: 100, maxHold: 2_500 }
  const testClock = <A, E>(effect: Effect.Effect<A, E, LockStore.LockStore>) =>
    effect.pipe(
      Effect.provide(MemoryLockStore.layer),
      Effect.provide(TestContext.TestContext),
      quietly
    )

  it.effect("the body is interrupted the margin before it", () =>
    testClock(
      Effect.gen(function* () {
        const body = yield* forkSettled(Lock.withLock(Effect.never, "key", options))
        yield* TestClock.adjust(2_399)
        expect(stateOf(body)).toBe("waiting")
        yield* TestClock.adjust(1)
        expect(lostOf(yield* Fiber.await(body)).reason).toBe("MaxHold")
      })
    )
  )

  it.effect("and a waiter enters at that moment, where the body stays", () =>
    testClock(
      Effect.gen(function* () {
        const body = yield* forkSettled(
          Lock.withLock(Effect.uninterruptible(Effect.sleep(9_000)), "key", options)
        )
        const next = yield* forkSettled(Effect.scoped(Lock.acquire("key")))
        yield* TestClock.adjust(2_499)
        expect(stateOf(next)).toBe("waiting")
        yield* TestClock.adjust(1)
        expect(stateOf(next)).toBe("granted")
        yield* TestClock.adjust(6_500)
        expect(lostOf(yield* Fiber.await(body)).reason).toBe("MaxHold")
      })
    )
  )

  it.effect("a lease whose maxHold is its ttl is not renewed at all", () =>
    testClock(
      Effect.gen(function* () {
        const body = yield* forkSettled(
          Lock.withLock(Effect.never, "key", { ttl: 1_000, margin: 100, maxHold: 1_000 })
        )
        yield* TestClock.adjust(887)
        expect(stateOf(body)).toBe("waiting")
        yield* TestClock.adjust(1)
        expect(lostOf(yield* Fiber.await(body)).reason).toBe("MaxHold")
      })
    )
  )

  it.effect(
    "a store of somebody else's that has it is asked with it; one that has not, not at all",
    () =>
      testClock(
        Effect.gen(function* () {
          const { acquire, clock } = yield* LockStore.LockStore
          const claims: Array<LockStore.Claim> = []
          const run = (capabilities: ReadonlyArray<LockStore.Capability>, keys = ["key"]) =>
            MultiLock.withLocks(Effect.never, keys, options).pipe(
              Effect.provideService(LockStore.LockStore, {
                clock,
                capabilities: new Set(capabilities),
                acquire: (claim, restore) => {
                  claims.push(claim)
                  return Effect.map(acquire(claim, restore), (grant) => ({
                    ...grant,
                    holdUntil: undefined
                  }))
                }
              })
            )
          expect(yield* Effect.flip(run([]))).toMatchObject({
            _tag: "LockStoreError",
            detail: expect.stringContaining("no maxHold") as string
          })
          expect(claims).toEqual([])
          const body = yield* forkSettled(run(["maxHold"], ["a", "b"]))
          expect(claims.map(({ maxHoldMillis }) => maxHoldMillis)).toEqual([2_500, 2_500])
          yield* TestClock.adjust(2_399)
          expect(stateOf(body)).toBe("waiting")
          yield* TestClock.adjust(1)
          expect(lostOf(yield* Fiber.await(body)).reason).toBe("MaxHold")
        })
      )
  )
})
