/** Several locks as time goes by: what waits, is renewed, is lost, and is warned of. */
import { describe, expect, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import * as TestClock from "effect/TestClock"
import { Lock, LockStore, MemoryLockStore, MultiLock } from "effect-redis-lock"
import { forkSettled, settle as settled } from "./support/fibers.js"
import {
  freshKeys,
  holder,
  isPending,
  lookAt,
  takeAwayOf,
  unavailable,
  warnings
} from "./support/several.js"
import { expectFreeNow, freshKey, memory, quiet, StoreControls } from "./support/stores.js"

describe.each<readonly [string, Layer.Layer<LockStore.LockStore>]>([
  ["memory", MemoryLockStore.layer],
  ["memory, as a user's store", memory]
])("%s, as time goes by", (_, rawStore) => {
  const provided = <A, E>(
    effect: Effect.Effect<A, E, LockStore.LockStore | Scope.Scope>
  ): Effect.Effect<A, E, Scope.Scope> => Effect.provide(effect, Layer.merge(rawStore, quiet))

  it.scoped("what is held is renewed while another key is waited for", () =>
    Effect.gen(function* () {
      const [a, b] = freshKeys(2) as [string, string]
      const held = yield* holder(b)
      const fiber = yield* forkSettled(MultiLock.withLocks([b, a], { ttl: 1_000 })(Effect.never))
      for (let second = 0; second < 20; second++) {
        yield* TestClock.adjust(1_000)
        expect((yield* lookAt(a)).heldCount).toBe(1)
      }
      yield* held.release
      yield* settled
      expect((yield* lookAt(b)).heldCount).toBe(1)
      yield* TestClock.adjust(20_000)
      for (const key of [a, b]) expect((yield* lookAt(key)).heldCount).toBe(1)
      yield* Fiber.interrupt(fiber)
      for (const key of [a, b]) yield* expectFreeNow(key)
    }).pipe(provided)
  )

  it.scoped("a loss while another key is waited for: all is taken anew, in the same order", () =>
    Effect.gen(function* () {
      const [a, b] = freshKeys(2) as [string, string]
      const store = yield* LockStore.LockStore
      const held = yield* holder(b)
      const fiber = yield* forkSettled(
        MultiLock.withLocks([a, b], { ttl: 1_000 })((lease) =>
          Effect.succeed(lease.fencingToken(a))
        )
      )
      const [first] = (yield* lookAt(a)).held
      yield* takeAwayOf(store, a, first!.fencingToken!)
      // somebody is there before it notices, if it does not at once
      const other = yield* Effect.option(Lock.tryAcquire(a, { ttl: 60_000 }))
      yield* TestClock.adjust(1_000)
      // whoever had to find out waits behind the other one now, and for nothing else
      if (Option.isSome(other)) {
        expect((yield* lookAt(a)).pendingCount).toBe(1)
        expect((yield* lookAt(b)).pendingCount).toBe(0)
        yield* other.value.release
        yield* settled
      }
      yield* held.release
      yield* settled
      expect(yield* Fiber.join(fiber)).toBeGreaterThan(first!.fencingToken!)
      for (const key of [a, b]) yield* expectFreeNow(key)
    }).pipe(provided)
  )

  it.scoped("a loss while another key is waited for is no reason to wait for longer", () =>
    Effect.gen(function* () {
      const [a, b] = freshKeys(2) as [string, string]
      const store = yield* LockStore.LockStore
      yield* holder(b)
      const fiber = yield* forkSettled(
        Effect.flip(MultiLock.withLocks([a, b], { ttl: 1_000, waitAtMost: 10_000 })(Effect.void))
      )
      for (let second = 0; second < 9; second++) {
        const [mine] = (yield* lookAt(a)).held
        yield* takeAwayOf(store, a, mine!.fencingToken!)
        yield* TestClock.adjust(1_000)
      }
      expect(yield* isPending(fiber)).toBe(true)
      yield* TestClock.adjust(1_000)
      const error = yield* Fiber.join(fiber)
      expect(error).toEqual(unavailable(b))
      if (error._tag === "LockUnavailable") expect(Duration.toMillis(error.waited)).toBe(10_000)
      yield* expectFreeNow(a)
    }).pipe(provided)
  )

  it.scoped("whoever waits long is warned of, ever less often, with the key of the moment", () =>
    Effect.gen(function* () {
      const [a, b] = freshKeys(2) as [string, string]
      const { layer, lines } = warnings()
      const first = yield* holder(a, { owner: "first" })
      yield* holder(b, { owner: "second" })
      yield* forkSettled(Effect.provide(MultiLock.withLocks([b, a])(Effect.void), layer))
      yield* TestClock.adjust("15 seconds")
      yield* first.release
      yield* settled
      yield* TestClock.adjust("65 seconds")
      // (the holder is this fiber)
      const still = lines.filter((line) => !line.includes("waits for itself"))
      expect(still.map((line) => /Lock "([^"]+)"/.exec(line)?.[1])).toEqual([a, b, b, b])
      expect(still[0]).toContain("held by first")
      expect(still[3]).toContain("held by second")
      expect(still[3]).toMatch(/1m 20s/)
    }).pipe(provided)
  )

  it.scoped(
    "whoever waits for itself is told at once: of any of the keys, in either direction",
    () =>
      Effect.gen(function* () {
        const [a, b] = freshKeys(2) as [string, string]
        const { layer, lines } = warnings()
        const told = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
          Effect.gen(function* () {
            lines.length = 0
            const fiber = yield* forkSettled(Effect.provide(Effect.exit(effect), layer))
            yield* TestClock.adjust(200)
            yield* Fiber.join(fiber)
            return lines.filter((line) => line.includes("waits for itself"))
          })
        const wait = { waitAtMost: 100 }
        const inMulti = MultiLock.withLocks([a, b])
        expect(yield* told(inMulti(Lock.withLock(b, wait)(Effect.void)))).toEqual([
          expect.stringContaining(b)
        ])
        const inLock = Lock.withLock(b)
        expect(yield* told(inLock(MultiLock.withLocks([a, b], wait)(Effect.void)))).toEqual([
          expect.stringContaining(b)
        ])
        const scoped = Effect.zipRight(MultiLock.acquire([a, b]), Lock.acquire(a, wait))
        expect(yield* told(Effect.scoped(scoped))).toEqual([expect.stringContaining(a)])
        // a key twice is one lock
        expect(yield* told(MultiLock.withLocks([a, b, a], wait)(Effect.void))).toEqual([])
        // what was tried and not waited for is held by nobody
        expect(yield* told(inMulti(Lock.withLock(freshKey(), wait)(Effect.void)))).toEqual([])
      }).pipe(provided)
  )
})

it.scoped("impossible options are defects that name the option, and nothing is asked for", () =>
  Effect.gen(function* () {
    const { events } = yield* StoreControls
    const key = freshKey()
    const impossible: ReadonlyArray<readonly [unknown, object, RegExp]> = [
      [[], {}, /option keys: \[\]\. There must be at least one key/],
      [undefined, {}, /option keys: undefined\. They must be an array/],
      [key, {}, /option keys: .*They must be an array/],
      [[key, ""], {}, /option key: ""/],
      [[key, 7], {}, /option key: 7/],
      [[key, Symbol("x")], {}, /option key: Symbol/],
      [[key], { ttl: 0 }, /option ttl: 0 ms/],
      [[key], { waitAtMost: -1 }, /option waitAtMost/]
    ]
    for (const [keys, options, message] of impossible) {
      for (const taken of [
        Effect.scoped(MultiLock.acquire(keys as never, options)),
        Effect.scoped(MultiLock.acquire(keys as never, { ...options, owner: "somebody" })),
        MultiLock.withLocks(keys as never, options)(Effect.void)
      ]) {
        const exit = yield* Effect.exit(taken)
        const defect = Exit.isFailure(exit) ? Option.getOrThrow(Cause.dieOption(exit.cause)) : exit
        expect(Cause.isIllegalArgumentException(defect)).toBe(true)
        expect(String((defect as Error).message)).toMatch(message)
      }
    }
    expect(events(key)).toEqual([])
  }).pipe(Effect.provide(memory))
)

describe("one of several", () => {
  it.scoped("without renewals, all are lost in time, and not renewed any more", () =>
    Effect.gen(function* () {
      const keys = freshKeys(3)
      const { count, silenceRenewals } = yield* StoreControls
      const lost = yield* forkSettled(
        Effect.flip(
          MultiLock.withLocks(keys, { ttl: 1_000 })(
            // its finalizers take long
            Effect.onInterrupt(Effect.never, () => Effect.sleep(5_000))
          )
        )
      )
      yield* TestClock.adjust(3_000)
      expect(yield* isPending(lost)).toBe(true)
      silenceRenewals(keys[1]!)
      yield* TestClock.adjust(1_000)
      const renewed = count(keys[0]!, "renew")
      yield* TestClock.adjust(1_000)
      expect(count(keys[0]!, "renew")).toBe(renewed)
      yield* TestClock.adjust(4_000)
      expect(yield* Fiber.join(lost)).toMatchObject({
        _tag: "LockLost",
        key: keys[1],
        reason: "Unreachable"
      })
      yield* Effect.forEach(keys, expectFreeNow)
    }).pipe(Effect.provide(Layer.merge(memory, quiet)))
  )

  it.scoped("whose renewal fails, is renewed again with the others, and is no loss", () =>
    Effect.gen(function* () {
      const keys = freshKeys(3)
      const { failRenewals, heal } = yield* StoreControls
      const lease = yield* MultiLock.acquire(keys, { ttl: 1_000 })
      yield* TestClock.adjust(400)
      failRenewals(keys[2]!)
      yield* TestClock.adjust(300)
      heal(keys[2]!)
      yield* TestClock.adjust(5_000)
      yield* lease.verify
      failRenewals(keys[2]!)
      yield* TestClock.adjust(2_000)
      const error = yield* Effect.flip(lease.guard(Effect.void))
      expect(error).toMatchObject({ _tag: "LockLost", key: keys[2], reason: "Unreachable" })
      expect(error.message).toContain("made to fail by a test")
    }).pipe(Effect.provide(Layer.merge(memory, quiet)))
  )

  it.scoped("that the store does not give back: an error that names it, and the others are", () =>
    Effect.gen(function* () {
      const keys = freshKeys(3)
      const { failReleases } = yield* StoreControls
      const lease = yield* MultiLock.acquire(keys, { ttl: 1_000 })
      failReleases(keys[1]!)
      const error = yield* Effect.flip(lease.release)
      expect(error).toMatchObject({ _tag: "LockStoreError", operation: "release", key: keys[1] })
      yield* expectFreeNow(keys[0]!)
      yield* expectFreeNow(keys[2]!)
      yield* TestClock.adjust(1_000)
      yield* expectFreeNow(keys[1]!)
    }).pipe(Effect.provide(Layer.merge(memory, quiet)))
  )
})
