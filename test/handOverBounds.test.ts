/** Leases with `maxHold` or `holdAtLeast` that are handed over: both are counted from the first grant. */
import { describe, expect, it, layer } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import * as TestClock from "effect/TestClock"
import * as TestContext from "effect/TestContext"
import {
  type Lease,
  Lock,
  type LockError,
  LockStore,
  MemoryLockStore,
  ReadWriteLock,
  Semaphore
} from "effect-redis-lock"
import { Handle } from "effect-redis-lock/Handle"
import type { Claim, Store } from "../src/internal/engine.js"
import { forkSettled, stateOf } from "./support/fibers.js"
import { inside } from "./support/inside.js"
import {
  ask,
  claimOf,
  expectFree,
  freshKey,
  quiet,
  StoreControls,
  storesOf
} from "./support/stores.js"

// ---------------------------------------------------------------- helpers

type Taken<E> = Effect.Effect<Lease.Lease, E, LockStore.LockStore | Scope.Scope>

interface Way {
  readonly claim: Pick<LockStore.Claim, "kind" | "share" | "limit">
  /** What does not fit beside it. */
  readonly other: Pick<LockStore.Claim, "kind" | "share" | "limit">
  readonly take: (
    key: string,
    options?: Lease.Options
  ) => Taken<LockError.LockUnavailable | LockError.LockStoreError>
  readonly adopt: (
    handle: Handle,
    options?: Lease.Options
  ) => Taken<LockError.LockLost | LockError.LockStoreError>
}

const all = 1_000_000
const write = { kind: "readWriteLock", share: all, limit: all } as const

const ways: Readonly<Record<string, Way>> = {
  "a lock": {
    claim: { kind: "lock", share: 1, limit: 1 },
    other: { kind: "lock", share: 1, limit: 1 },
    take: Lock.acquire,
    adopt: Lock.adopt
  },
  permits: {
    claim: { kind: "semaphore", share: 2, limit: 3 },
    other: { kind: "semaphore", share: 2, limit: 3 },
    take: (key, options) => Semaphore.acquire(key, { ...options, limit: 3, permits: 2 }),
    adopt: Semaphore.adopt
  },
  "a read": {
    claim: { ...write, share: 1 },
    other: write,
    take: ReadWriteLock.readLock,
    adopt: ReadWriteLock.adoptRead
  },
  "a write": {
    claim: write,
    other: { ...write, share: 1 },
    take: ReadWriteLock.writeLock,
    adopt: ReadWriteLock.adoptWrite
  }
}

const Json = Schema.parseJson(Handle)

/** As the other process has it. */
const sent = (handle: Handle) =>
  Effect.flatMap(Schema.encode(Json)(handle), (text) => Schema.decode(Json)(text))

const now = () => performance.now()

const lossOf = <A, E>(exit: Exit.Exit<A, E>) =>
  Exit.isFailure(exit) ? [...Cause.failures(exit.cause)][0] : exit

const overMaxHold = expect.objectContaining({ _tag: "LockLost", reason: "MaxHold" })

const defectOf = <A, E>(exit: Exit.Exit<A, E>): string => {
  const [defect] = Exit.isFailure(exit) ? [...Cause.defects(exit.cause)] : []
  expect(Cause.isIllegalArgumentException(defect)).toBe(true)
  return (defect as Error).message
}

// ---------------------------------------------------------------- tests

for (const [name, { adopt, claim, other, take }] of Object.entries(ways)) {
  describe.concurrent.each(storesOf(claim.kind, "handOver"))(`%s: ${name}`, (_, rawStore) => {
    layer(Layer.merge(rawStore, quiet), { excludeTestServices: true })("handed over", (it) => {
      it.scoped(
        "with maxHold: the last adopter loses it when it is over since the first grant",
        () =>
          Effect.gen(function* () {
            const key = freshKey()
            const startedAt = now()
            const lease = yield* take(key, { ttl: 1_000, maxHold: 1_600 })
            const first = yield* lease.handOver
            expect(first.maxHold).toEqual(Duration.millis(1_600))
            expect(first.holdAtLeast).toBeUndefined()
            expect(first.firstFencingToken).toBeUndefined()
            yield* Effect.sleep(400)
            const second = yield* Effect.flatMap(
              Effect.flatMap(sent(first), (handle) => adopt(handle)),
              ({ handOver }) => handOver
            )
            expect(second.maxHold).toEqual(first.maxHold)
            expect(second.firstFencingToken).toBe(lease.fencingToken)
            yield* Effect.sleep(400)
            const last = yield* Effect.flatMap(sent(second), (handle) => adopt(handle))
            expect(lossOf(yield* Effect.exit(last.guard(Effect.never)))).toEqual(overMaxHold)
            const heldFor = now() - startedAt
            // renewed up to then, and no further
            expect(heldFor).toBeGreaterThan(1_600 - 200)
            expect(heldFor).toBeLessThan(1_600 + 350)
            yield* (yield* ask(key, { ...other, waitMillis: 1_000 })).release
          })
      )

      it.scoped("no renewal of an adopter reaches beyond maxHold", () =>
        Effect.gen(function* () {
          const key = freshKey()
          const bounds = { ...claim, ttlMillis: 400, maxHoldMillis: 900 }
          const grant = yield* ask(key, bounds)
          const until = grant.holdUntil!
          yield* grant.handOver!
          yield* Effect.sleep(100)
          const second = yield* ask(key, { ...bounds, adopt: grant })
          yield* second.handOver!
          yield* Effect.sleep(100)
          const { fencingToken, token } = second
          const adopted = yield* ask(key, {
            ...bounds,
            adopt: { token, fencingToken, firstFencingToken: grant.fencingToken }
          })
          // (to the milliseconds that an answer takes)
          expect(adopted.holdUntil).toBeLessThan(until + 90)
          expect(adopted.holdUntil).toBeGreaterThan(until - 90)
          let renewals = 0
          for (;;) {
            const renewal = yield* adopted.renew
            if (renewal._tag === "NotOurs") break
            renewals++
            expect(renewal.validUntil).toBeLessThan(until + 90)
            yield* Effect.sleep(20)
          }
          expect(renewals).toBeGreaterThan(3)
          yield* (yield* ask(key, other)).release
        })
      )

      it.scoped("adopted when maxHold is over: LockLost, and nothing is held", () =>
        Effect.gen(function* () {
          const key = freshKey()
          const lease = yield* take(key, { ttl: 600, maxHold: 1_000 })
          yield* Effect.sleep(600)
          const handle = yield* lease.handOver
          yield* Effect.sleep(500)
          const error = yield* Effect.flip(adopt(handle))
          expect(error).toEqual(overMaxHold)
          expect(error).toMatchObject({ key, fencingToken: lease.fencingToken })
          yield* (yield* ask(key, other)).release
        })
      )

      it.scoped("with holdAtLeast: a release by the adopter leaves it held until then", () =>
        Effect.gen(function* () {
          const key = freshKey()
          const startedAt = now()
          const lease = yield* take(key, { ttl: 300, holdAtLeast: 1_200 })
          const handle = yield* lease.handOver
          expect(handle.holdAtLeast).toEqual(Duration.millis(1_200))
          // (longer than the ttl, for which a lease without it would be there)
          yield* Effect.sleep(600)
          const adopted = yield* Effect.flatMap(sent(handle), (one) => adopt(one))
          yield* adopted.release
          expect(yield* Effect.flip(ask(key, other))).toMatchObject({ _tag: "LockUnavailable" })
          // nor does the handle bring it back
          expect(yield* Effect.flip(adopt(handle))).toMatchObject({ _tag: "LockLost" })
          const next = yield* ask(key, { ...other, waitMillis: 5_000 })
          expect(now() - startedAt).toBeGreaterThan(1_200 - 5)
          expect(now() - startedAt).toBeLessThan(1_200 + 500)
          yield* next.release
        })
      )

      it.scoped("with holdAtLeast: an adopter that crashes leaves that much as well", () =>
        Effect.gen(function* () {
          const key = freshKey()
          const startedAt = now()
          const bounds = { ...claim, ttlMillis: 100, holdAtLeastMillis: 900 }
          const grant = yield* ask(key, bounds)
          yield* grant.handOver!
          yield* Effect.sleep(200)
          const crashed = yield* ask(key, { ...bounds, adopt: grant })
          const next = yield* ask(key, { ...other, waitMillis: 5_000 })
          expect(now() - startedAt).toBeGreaterThan(900 - 5)
          expect(now() - startedAt).toBeLessThan(900 + 500)
          yield* next.release
          // (or the store warns of it at its close)
          yield* Effect.exit(crashed.release)
        })
      )

      it.scoped("with holdAtLeast: what is held by nobody is not adopted", () =>
        Effect.gen(function* () {
          const key = freshKey()
          const bounds = { ...claim, ttlMillis: 100, holdAtLeastMillis: 600 }
          const grant = yield* ask(key, bounds)
          yield* grant.release
          expect(yield* Effect.flip(ask(key, { ...bounds, adopt: grant }))).toMatchObject({
            _tag: "LockLost",
            reason: claim.kind === "lock" ? "Taken" : "Missing"
          })
          expect(yield* Effect.flip(ask(key, other))).toMatchObject({ _tag: "LockUnavailable" })
        })
      )

      it.scoped("with holdAtLeast: a release when it is over frees the key at once", () =>
        Effect.gen(function* () {
          const key = freshKey()
          const lease = yield* take(key, { ttl: 5_000, holdAtLeast: 300 })
          const handle = yield* lease.handOver
          yield* Effect.sleep(350)
          yield* Effect.flatMap(adopt(handle), ({ release }) => release)
          yield* (yield* ask(key, other)).release
        })
      )

      it.scoped("with holdAtLeast: what did not come to its adopter is held as well", () =>
        Effect.gen(function* () {
          const key = freshKey()
          const { bare } = yield* StoreControls
          const bounds = { ...claim, ttlMillis: 100, holdAtLeastMillis: 900 }
          const startedAt = now()
          const grant = yield* ask(key, bounds)
          yield* grant.handOver!
          yield* Effect.async<void>((resume) => {
            const adopting = claimOf(key, { ...bounds, adopt: grant })
            const cancel = inside<Store>(bare).acquire(adopting as Claim, (exit) => {
              expect(exit._tag).toBe("Granted")
              queueMicrotask(() => {
                cancel()
                resume(Effect.void)
              })
            })
          })
          const next = yield* ask(key, { ...other, waitMillis: 5_000 })
          expect(now() - startedAt).toBeGreaterThan(900 - 5)
          yield* next.release
        })
      )

      it.scoped("the options of the adopter are checked with those of the handle", () =>
        Effect.gen(function* () {
          const key = freshKey()
          const lease = yield* take(key, { ttl: 5_000, maxHold: 8_000, holdAtLeast: 10 })
          const handle = yield* lease.handOver
          for (const [options, words] of [
            [
              { maxHold: 9_000 },
              "maxHold: 9000 ms. A lease that is adopted cannot have one of its own"
            ],
            [
              { holdAtLeast: 1 },
              "holdAtLeast: 1 ms. A lease that is adopted cannot have one of its own"
            ],
            [
              { ttl: 8_001 },
              "maxHold: 8000 ms. It must be finite, and at least the ttl, which is 8001"
            ]
          ] as const) {
            expect(defectOf(yield* Effect.exit(adopt(handle, options)))).toContain(words)
          }
          const encoded = yield* Schema.encode(Handle)(handle)
          for (const change of [
            { maxHold: 8_001 },
            { maxHold: undefined },
            { holdAtLeast: 9 },
            { holdAtLeast: undefined },
            { firstFencingToken: handle.fencingToken }
          ]) {
            const decoded = Schema.decodeUnknown(Handle)({ ...encoded, ...change })
            expect((yield* Effect.flip(decoded))._tag).toBe("ParseError")
            const changed = { ...handle, ...(change as object) } as Handle
            expect(defectOf(yield* Effect.exit(adopt(changed)))).toContain("handle.seal")
          }
          yield* Effect.flatMap(adopt(handle, { ttl: 8_000 }), ({ verify }) => verify)
        })
      )

      it.scoped("of a store that has it not: it is refused before it is asked", () =>
        Effect.gen(function* () {
          const key = freshKey()
          const lease = yield* take(key, { maxHold: 8_000, holdAtLeast: 10 })
          const handle = yield* lease.handOver
          const store = yield* LockStore.LockStore
          for (const missing of ["maxHold", "holdAtLeast"] as const) {
            const capabilities = new Set([...store.capabilities!].filter((one) => one !== missing))
            expect(
              yield* Effect.flip(
                Effect.provideService(adopt(handle), LockStore.LockStore, {
                  ...store,
                  capabilities
                })
              )
            ).toMatchObject({ _tag: "LockStoreError", operation: "adopt", key })
          }
          yield* Effect.flatMap(adopt(handle), ({ verify }) => verify)
        })
      )
    })
  })
}

describe.concurrent.each(storesOf("readWriteLock", "handOver"))(
  "%s: a write that became a read",
  (_, rawStore) => {
    layer(Layer.merge(rawStore, quiet), { excludeTestServices: true })((it) => {
      it.scoped("is handed over as one, with the time of the write's grant", () =>
        Effect.gen(function* () {
          const key = freshKey()
          const startedAt = now()
          const options = { ttl: 600, maxHold: 1_600, holdAtLeast: 1_500 }
          const lease = yield* ReadWriteLock.writeLock(key, options)
          const held = yield* Effect.flatMap(lease.handOver, (handle) =>
            ReadWriteLock.adoptWrite(handle)
          )
          yield* held.downgrade
          yield* Effect.sleep(300)
          const handle = yield* held.handOver
          expect(handle).toMatchObject({ share: 1, firstFencingToken: lease.fencingToken })
          const read = yield* ReadWriteLock.adoptRead(yield* sent(handle))
          yield* (yield* ask(key, { ...write, share: 1 })).release
          expect(lossOf(yield* Effect.exit(read.guard(Effect.never)))).toEqual(overMaxHold)
          expect(now() - startedAt).toBeGreaterThan(1_600 - 200)
          expect(now() - startedAt).toBeLessThan(1_600 + 250)
        })
      )
    })
  }
)

describe.concurrent.each(storesOf("lock", "handOver"))("%s: a lease for a tick", (_, rawStore) => {
  layer(Layer.merge(rawStore, quiet), { excludeTestServices: true })((it) => {
    it.scoped("is not handed over, and goes on", () =>
      Effect.gen(function* () {
        const key = freshKey()
        const grant = yield* ask(key, { tick: 7, maxHoldMillis: 60_000 })
        expect(yield* Effect.flip(grant.handOver!)).toMatchObject({
          _tag: "LockStoreError",
          operation: "handOver",
          transient: false,
          detail: expect.stringContaining("run of a job") as string
        })
        expect(yield* grant.renew).toMatchObject({ _tag: "Renewed" })
        expect(yield* grant.release).toBe("Ours")
        yield* expectFree(key)
      })
    )
  })
})

describe("in memory, to the millisecond", () => {
  const onTestClock = <A, E>(effect: Effect.Effect<A, E, LockStore.LockStore | Scope.Scope>) =>
    Effect.scoped(effect).pipe(
      Effect.provide(Layer.merge(MemoryLockStore.layer, quiet)),
      Effect.provide(TestContext.TestContext)
    )

  it.effect("the time between the two steps counts, and the body ends the margin before", () =>
    onTestClock(
      Effect.gen(function* () {
        const lease = yield* Lock.acquire("key", { ttl: 2_000, maxHold: 10_000 })
        yield* TestClock.adjust(2_000)
        const handle = yield* lease.handOver
        yield* TestClock.adjust(1_500)
        const adopted = yield* Lock.adopt(handle, { margin: 100 })
        const next = yield* forkSettled(Effect.scoped(Lock.acquire("key")))
        const body = yield* forkSettled(adopted.guard(Effect.never))
        yield* TestClock.adjust(6_399)
        expect([body, next].map(stateOf)).toEqual(["waiting", "waiting"])
        yield* TestClock.adjust(1)
        expect(lossOf(yield* Fiber.await(body))).toEqual(overMaxHold)
        yield* TestClock.adjust(99)
        expect(stateOf(next)).toBe("waiting")
        yield* TestClock.adjust(1)
        expect(stateOf(next)).toBe("granted")
      })
    )
  )

  it.effect("holdAtLeast is counted through two adopters", () =>
    onTestClock(
      Effect.gen(function* () {
        const lease = yield* Lock.acquire("key", { ttl: 1_000, holdAtLeast: 10_000 })
        const first = yield* lease.handOver
        yield* TestClock.adjust(3_000)
        const second = yield* Effect.flatMap(Lock.adopt(first), ({ handOver }) => handOver)
        yield* TestClock.adjust(3_000)
        yield* Effect.flatMap(Lock.adopt(second), ({ release }) => release)
        const next = yield* forkSettled(Effect.scoped(Lock.acquire("key")))
        yield* TestClock.adjust(3_999)
        expect(stateOf(next)).toBe("waiting")
        yield* TestClock.adjust(1)
        expect(stateOf(next)).toBe("granted")
      })
    )
  )
})
