/** What freeing a key by force promises, over every store and kind. */
import { describe, expect, layer } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Chunk from "effect/Chunk"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import {
  type Lease,
  Lock,
  type LockError,
  LockStore,
  ReadWriteLock,
  Semaphore
} from "effect-redis-lock"
import { currentHolds } from "../src/internal/face/currentHolds.js"
import { ask, expectFreeNow, freshKey, quiet, storesOf, untilAsked } from "./support/stores.js"

// ---------------------------------------------------------------- helpers

/** Each kind, where one holder has all of it, who hears of what becomes of it within some 20 ms. */
const options = { ttl: 2_000, renewEvery: 20 }
type Take = (
  key: string
) => Effect.Effect<
  Lease.Lease,
  LockError.LockUnavailable | LockError.LockStoreError,
  LockStore.LockStore | Scope.Scope
>
const ways: Readonly<Record<LockStore.Kind, Take>> = {
  lock: (key) => Lock.acquire(key, options),
  semaphore: (key) => Semaphore.acquire(key, { ...options, limit: 3, permits: 3 }),
  readWriteLock: (key) => ReadWriteLock.writeLock(key, options)
}

const lookAt = (key: string) =>
  Effect.flatMap(LockStore.LockStore, ({ look }) => Effect.orDie(look!(key, 100)))

/** The numbers of the holders, as operators see them. */
const numbersOf = (key: string) =>
  Effect.map(lookAt(key), ({ held }) => held.map(({ fencingToken }) => fencingToken!))

/** In a fiber that holds nothing, and does not come from one that does; until so many have asked. */
const waiting = <A, E, R>(holder: Lease.Lease, count: number, take: Effect.Effect<A, E, R>) =>
  Effect.zipLeft(
    Effect.forkScoped(Effect.locally(take, currentHolds, undefined)),
    untilAsked(holder, count)
  )

const revoked = (lease: { readonly key: string; readonly fencingToken: number }) =>
  expect.objectContaining({
    _tag: "LockLost",
    reason: "Revoked",
    key: lease.key,
    fencingToken: lease.fencingToken
  })

const defectOf = <A, E>(exit: Exit.Exit<A, E>): unknown =>
  Exit.isFailure(exit) ? Chunk.toReadonlyArray(Cause.defects(exit.cause))[0] : exit

// ---------------------------------------------------------------- tests

for (const kind of ["lock", "semaphore", "readWriteLock"] as const) {
  const take = ways[kind]
  describe.each(storesOf(kind))(`%s: ${kind}`, (_, rawStore) => {
    layer(Layer.merge(rawStore, quiet), { excludeTestServices: true })("by force", (it) => {
      it.scoped("frees the key: the next one enters, and the holder's work ends, Revoked", () =>
        Effect.gen(function* () {
          const key = freshKey()
          const lease = yield* take(key)
          const working = yield* Effect.fork(Effect.exit(lease.guard(Effect.never)))
          const lost = yield* Effect.fork(Effect.flip(lease.awaitLost))
          const behind = yield* waiting(lease, 2, take(key))
          expect(yield* numbersOf(key)).toEqual([lease.fencingToken])

          expect(yield* Lock.forceRelease(key, lease.fencingToken)).toBe(true)

          const next = yield* Fiber.join(behind)
          expect(next.fencingToken).toBeGreaterThan(lease.fencingToken)
          const exit = yield* Fiber.join(working)
          expect(Exit.isFailure(exit) && Cause.squash(exit.cause)).toEqual(revoked(lease))
          expect(yield* Fiber.join(lost)).toEqual(revoked(lease))
          expect(lease.signal.aborted).toBe(true)
          expect(yield* lease.isHeld).toBe(false)
          expect(yield* Effect.flip(lease.verify)).toEqual(revoked(lease))
          expect(yield* Effect.flip(lease.release)).toEqual(revoked(lease))
          // what the old holder does takes nothing from the new one
          yield* next.verify
          expect(yield* numbersOf(key)).toEqual([next.fencingToken])
        })
      )

      it.scoped("of a key that nobody waits for: it is free, and a release says Revoked", () =>
        Effect.gen(function* () {
          const key = freshKey()
          const grant = yield* ask(key, {
            kind,
            ...(kind === "lock" ? {} : { share: 3, limit: 3 })
          })
          expect(yield* Lock.forceRelease(key, grant.fencingToken)).toBe(true)
          expect(yield* lookAt(key)).toMatchObject({ kind: undefined, heldCount: 0, inUse: 0 })
          expect(yield* grant.verify).toBe("Revoked")
          expect(yield* grant.renew).toEqual({ _tag: "NotOurs", reason: "Revoked" })
          expect(yield* grant.release).toBe("Revoked")
          yield* expectFreeNow(key)
        })
      )

      it.scoped("with a number that is not the holder's changes nothing, and says so", () =>
        Effect.gen(function* () {
          const key = freshKey()
          expect(yield* Lock.forceRelease(key, 1)).toBe(false)
          const first = yield* take(key)
          yield* first.release
          expect(yield* Lock.forceRelease(key, first.fencingToken)).toBe(false)
          const lease = yield* take(key)
          const behind = yield* waiting(lease, 3, take(key))
          const before = yield* lookAt(key)
          for (const number of [
            1,
            first.fencingToken,
            lease.fencingToken - 1,
            lease.fencingToken + 1,
            Number.MAX_SAFE_INTEGER
          ]) {
            expect(yield* Lock.forceRelease(key, number)).toBe(false)
          }
          expect(yield* lookAt(key)).toMatchObject({
            held: before.held.map(({ fencingToken }) => ({ fencingToken })),
            heldCount: 1,
            pendingCount: before.pendingCount
          })
          yield* lease.verify
          // (longer than a process passes a lock on without asking: then the number is another one)
          yield* Effect.sleep(30)
          yield* lease.release
          const next = yield* Fiber.join(behind)
          // the one that was seen has gone: the next one is not hit
          expect(yield* Lock.forceRelease(key, lease.fencingToken)).toBe(false)
          yield* next.verify
        })
      )

      it.scoped("a second time, it has ended already", () =>
        Effect.gen(function* () {
          const key = freshKey()
          const lease = yield* take(key)
          expect(yield* Lock.forceRelease(key, lease.fencingToken)).toBe(true)
          expect(yield* Lock.forceRelease(key, lease.fencingToken)).toBe(false)
        })
      )

      it.scoped("a body fails with the loss, also if it would have succeeded", () =>
        Effect.gen(function* () {
          const key = freshKey()
          const error = yield* Effect.flip(
            Effect.scoped(
              Effect.flatMap(take(key), (lease) =>
                lease.guard(
                  Effect.zipRight(
                    Effect.orDie(Lock.forceRelease(key, lease.fencingToken)),
                    Effect.uninterruptible(Effect.exit(lease.awaitLost))
                  )
                )
              )
            )
          )
          expect(error).toMatchObject({ _tag: "LockLost", reason: "Revoked" })
          expect(error.message).toContain("freed the key by force")
          yield* expectFreeNow(key)
        })
      )

      it.scoped("an impossible number or key is a defect that names it, and nothing is asked", () =>
        Effect.gen(function* () {
          const key = freshKey()
          for (const bad of [0, -1, 1.5, Number.NaN, 2 ** 53, Number.POSITIVE_INFINITY, "7"]) {
            const exit = yield* Effect.exit(Lock.forceRelease(key, bad as number))
            expect(defectOf(exit)).toSatisfy(Cause.isIllegalArgumentException)
            expect(defectOf(exit)).toMatchObject({
              message: expect.stringContaining(
                `fencingToken: ${typeof bad === "string" ? JSON.stringify(bad) : bad}`
              ) as string
            })
          }
          const exit = yield* Effect.exit(Lock.forceRelease("", 1))
          expect(defectOf(exit)).toMatchObject({
            message: expect.stringContaining('key: ""') as string
          })
        })
      )
    })
  })
}

describe.each(storesOf("semaphore"))("%s: several holders", (_, rawStore) => {
  layer(Layer.merge(rawStore, quiet), { excludeTestServices: true })("by force", (it) => {
    it.scoped("ends one holder's permits, and nobody else's; as many enter as fit", () =>
      Effect.gen(function* () {
        const key = freshKey()
        const permits = (count: number) =>
          Semaphore.acquire(key, { ...options, limit: 4, permits: count })
        const [one, two, three] = [yield* permits(1), yield* permits(2), yield* permits(1)]
        const behind = [
          yield* waiting(one, 4, permits(1)),
          yield* waiting(one, 5, permits(1)),
          yield* waiting(one, 6, permits(1))
        ]
        const number = (yield* numbersOf(key))[1]!
        expect(yield* Lock.forceRelease(key, number)).toBe(true)
        expect(yield* Effect.flip(two.awaitLost)).toEqual(revoked(two))
        const entered = [yield* Fiber.join(behind[0]!), yield* Fiber.join(behind[1]!)]
        expect(yield* Semaphore.inUse(key)).toBe(4)
        for (const lease of [one, three, ...entered]) yield* lease.verify
        expect(yield* Fiber.poll(behind[2]!)).toMatchObject({ _tag: "None" })
        yield* one.release
        yield* Fiber.join(behind[2]!)
      })
    )

    it.scoped("ends what the store knows by the number: of readers that share it, all", () =>
      Effect.gen(function* () {
        const key = freshKey()
        const reads = yield* Effect.all([
          ReadWriteLock.readLock(key, options),
          ReadWriteLock.readLock(key, options),
          ReadWriteLock.readLock(key, options)
        ])
        const writer = yield* waiting(reads[0], 4, ReadWriteLock.writeLock(key, options))
        for (const number of yield* numbersOf(key)) {
          expect(yield* Lock.forceRelease(key, number)).toBe(true)
        }
        for (const read of reads) {
          expect(yield* Effect.flip(read.awaitLost)).toEqual(revoked(read))
        }
        yield* Effect.flatMap(Fiber.join(writer), ({ verify }) => verify)
      })
    )
  })
})

describe("a store that cannot", () => {
  layer(storesOf("lock")[0]![1], { excludeTestServices: true })("says so", (it) => {
    it.effect("where it says that it cannot, and where it has nothing to do it with", () =>
      Effect.gen(function* () {
        const { acquire, clock, ...store } = yield* LockStore.LockStore
        const has: ReadonlyArray<LockStore.LockStore> = [
          { acquire, clock },
          { ...store, acquire, clock, capabilities: new Set(["look"]) },
          { acquire, clock, capabilities: new Set(["revoke"]) }
        ]
        for (const one of has) {
          const error = yield* Effect.flip(
            Effect.provideService(Lock.forceRelease("key", 7), LockStore.LockStore, one)
          )
          expect(error).toMatchObject({
            _tag: "LockStoreError",
            operation: "revoke",
            key: "key",
            transient: false,
            detail: expect.stringContaining("no revoke") as string
          })
        }
      })
    )
  })
})
