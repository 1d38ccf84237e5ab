/** What handing a lease over to another process promises, over every store and kind. */
import { describe, expect, layer } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Chunk from "effect/Chunk"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Ref from "effect/Ref"
import * as Schema from "effect/Schema"
import * as Scope from "effect/Scope"
import {
  type Lease,
  Lock,
  type LockError,
  LockStore,
  MemoryLockStore,
  MultiLock,
  ReadWriteLock,
  Semaphore
} from "effect-redis-lock"
import { Handle } from "effect-redis-lock/Handle"
import { currentHolds } from "../src/internal/face/currentHolds.js"
import { finalizerCount } from "./redis/support.js"
import {
  ask,
  expectFree,
  expectFreeNow,
  freshKey,
  quiet,
  StoreControls,
  storesOf,
  untilAsked
} from "./support/stores.js"
import { writtenHandle } from "./support/writtenHandle.js"

// ---------------------------------------------------------------- helpers

type Taken<E> = Effect.Effect<Lease.Lease, E, LockStore.LockStore | Scope.Scope>

/** Each kind, where one holder has all of it. */
interface Way {
  readonly take: (
    key: string,
    options?: Lease.Options
  ) => Taken<LockError.LockUnavailable | LockError.LockStoreError>
  readonly adopt: (
    handle: Handle,
    options?: Lease.AdoptOptions
  ) => Taken<LockError.LockLost | LockError.LockStoreError>
}

const ways: Readonly<Record<LockStore.Kind, Way>> = {
  lock: { take: Lock.acquire, adopt: Lock.adopt },
  semaphore: {
    take: (key, options) => Semaphore.acquire(key, { ...options, limit: 3, permits: 3 }),
    adopt: Semaphore.adopt
  },
  readWriteLock: { take: ReadWriteLock.writeLock, adopt: ReadWriteLock.adoptWrite }
}

const Json = Schema.parseJson(Handle)

/** As the other process has it. */
const sent = (handle: Handle) =>
  Effect.flatMap(Schema.encode(Json)(handle), (text) => Schema.decode(Json)(text))

/** In a fiber that holds nothing, and does not come from one that does; until so many have asked. */
const waiting = <A, E, R>(holder: Lease.Lease, count: number, take: Effect.Effect<A, E, R>) =>
  Effect.zipLeft(
    Effect.forkScoped(Effect.locally(take, currentHolds, undefined)),
    untilAsked(holder, count)
  )

const isWaiting = (fiber: Fiber.Fiber<unknown, unknown>) =>
  Effect.map(Fiber.poll(fiber), Option.isNone)

const lost = expect.objectContaining({ _tag: "LockLost" })
const released = expect.objectContaining({ _tag: "LockLost", reason: "Released" })

const defectOf = <A, E>(exit: Exit.Exit<A, E>): unknown =>
  Exit.isFailure(exit) ? Chunk.toReadonlyArray(Cause.defects(exit.cause))[0] : exit

const impossible = (...parts: ReadonlyArray<string>) =>
  expect.objectContaining({
    _tag: expect.stringMatching(/^IllegalArgument(Exception|Error)$/) as string,
    message: expect.stringMatching(
      new RegExp(parts.map((part) => part.replace(/[.*+?^${}()|[\]\\]/g, "\\$&")).join(".*"))
    ) as string
  })

const storeError = (operation: string, detail: string) =>
  expect.objectContaining({
    _tag: "LockStoreError",
    operation,
    transient: false,
    detail: expect.stringContaining(detail) as string
  })

// ---------------------------------------------------------------- tests

for (const kind of ["lock", "semaphore", "readWriteLock"] as const) {
  const { adopt, take } = ways[kind]
  describe.each(storesOf(kind, "handOver"))(`%s: ${kind}`, (_, rawStore) => {
    layer(Layer.merge(rawStore, quiet), { excludeTestServices: true })("handed over", (it) => {
      it.scoped("goes on elsewhere, before whoever waits, and has ended here", () =>
        Effect.gen(function* () {
          const key = freshKey()
          const lease = yield* take(key, { ttl: 20_000 })
          const working = yield* Effect.fork(Effect.exit(lease.guard(Effect.never)))
          const behind = yield* waiting(lease, 2, take(key))

          const handle = yield* lease.handOver
          expect(handle).toMatchObject({ key, kind, fencingToken: lease.fencingToken })
          expect(Duration.toMillis(handle.ttl)).toBe(20_000)

          // here everything is as after a release
          const exit = yield* Fiber.join(working)
          expect(Exit.isFailure(exit) && Cause.squash(exit.cause)).toEqual(released)
          expect(lease.signal.aborted).toBe(true)
          expect(yield* lease.isHeld).toBe(false)
          expect(Duration.toMillis(yield* lease.remaining)).toBe(0)
          expect(yield* Effect.flip(lease.verify)).toEqual(released)
          expect(yield* Effect.flip(lease.guard(Effect.void))).toEqual(released)
          expect(yield* Effect.flip(lease.handOver)).toEqual(released)
          // nothing is given back any more
          yield* lease.release
          expect(yield* isWaiting(behind)).toBe(true)

          const adopted = yield* adopt(yield* sent(handle))
          expect(adopted.key).toBe(key)
          expect(adopted.fencingToken).toBeGreaterThan(lease.fencingToken)
          expect(adopted.token).not.toBe(lease.token)
          expect(Duration.toMillis(yield* adopted.remaining)).toBeGreaterThan(15_000)
          yield* adopted.guard(adopted.verify)
          expect(yield* isWaiting(behind)).toBe(true)

          yield* adopted.release
          const next = yield* Fiber.join(behind)
          expect(next.fencingToken).toBeGreaterThan(adopted.fencingToken)
        })
      )

      it.scoped(
        "is renewed by the adopter, with its own options, and given back by its scope",
        () =>
          Effect.gen(function* () {
            const key = freshKey()
            const lease = yield* take(key, { ttl: 2_000 })
            const handle = yield* lease.handOver
            yield* Effect.scoped(
              Effect.gen(function* () {
                const { count, until } = yield* StoreControls
                const adopted = yield* adopt(handle, { ttl: "1 minute", renewEvery: 20 })
                yield* until(key, "renewed", count(key, "renewed") + 3)
                expect(Duration.toMillis(yield* adopted.remaining)).toBeGreaterThan(30_000)
                yield* adopted.verify
              })
            )
            yield* expectFreeNow(key)
          })
      )

      it.scoped("the close of the old scope gives nothing back, and a long one keeps nothing", () =>
        Effect.gen(function* () {
          const key = freshKey()
          const scope = yield* Scope.make()
          const before = finalizerCount(scope)
          const lease = yield* Scope.extend(take(key), scope)
          const handle = yield* lease.handOver
          expect(finalizerCount(scope)).toBe(before)
          yield* Scope.close(scope, Exit.void)
          yield* Effect.flatMap(adopt(handle), ({ verify }) => verify)
        })
      )

      it.scoped("a handle that is used twice: LockLost", () =>
        Effect.gen(function* () {
          const key = freshKey()
          const handle = yield* Effect.flatMap(take(key), ({ handOver }) => handOver)
          const adopted = yield* adopt(handle)
          const error = yield* Effect.flip(adopt(handle))
          expect(error).toEqual(lost)
          expect(error).toMatchObject({ key, fencingToken: handle.fencingToken })
          yield* adopted.verify
          yield* adopted.release
          expect(yield* Effect.flip(adopt(handle))).toMatchObject({ reason: "Missing" })
        })
      )

      it.scoped("a handle that comes late: LockLost, and the next one has entered", () =>
        Effect.gen(function* () {
          const key = freshKey()
          const lease = yield* take(key, { ttl: 600 })
          const behind = yield* waiting(lease, 2, take(key))
          const handle = yield* lease.handOver
          // nobody adopts it: its ttl ends it
          const next = yield* Fiber.join(behind)
          expect(yield* Effect.flip(adopt(handle))).toEqual(lost)
          yield* next.verify
          yield* next.release
          const alone = yield* take(key, { ttl: 400 })
          const late = yield* alone.handOver
          yield* Effect.sleep(450)
          expect(yield* Effect.flip(adopt(late))).toMatchObject({ reason: "Missing" })
          yield* expectFree(key)
        })
      )

      it.scoped("a handle after the lease was freed by force: LockLost", () =>
        Effect.gen(function* () {
          const key = freshKey()
          const lease = yield* take(key)
          const handle = yield* lease.handOver
          expect(yield* Lock.forceRelease(key, lease.fencingToken)).toBe(true)
          expect(yield* Effect.flip(adopt(handle))).toEqual(lost)
          const next = yield* take(key)
          expect(yield* Effect.flip(adopt(handle))).toEqual(lost)
          yield* next.verify
        })
      )

      it.scoped("a lease that is lost is not handed over", () =>
        Effect.gen(function* () {
          const key = freshKey()
          const lease = yield* take(key)
          yield* Lock.forceRelease(key, lease.fencingToken)
          expect(yield* Effect.flip(lease.handOver)).toMatchObject({ reason: "Revoked" })
          yield* expectFreeNow(key)
        })
      )

      it.scoped("an interruption waits for it, and what follows in its region runs", () =>
        Effect.gen(function* () {
          const key = freshKey()
          const lease = yield* take(key)
          const kept = yield* Ref.make(Option.none<Handle>())
          const handing = yield* Effect.fork(
            Effect.uninterruptible(
              Effect.flatMap(lease.handOver, (handle) => Ref.set(kept, Option.some(handle)))
            )
          )
          yield* Effect.yieldNow()
          yield* Fiber.interrupt(handing)
          const handle = Option.getOrThrow(yield* Ref.get(kept))
          yield* Effect.flatMap(adopt(handle), ({ verify }) => verify)
        })
      )

      it.scoped("a second time meanwhile fails, and a release meanwhile waits for it", () =>
        Effect.gen(function* () {
          const key = freshKey()
          const lease = yield* take(key)
          const [first, second, release] = yield* Effect.all(
            [Effect.exit(lease.handOver), Effect.exit(lease.handOver), Effect.exit(lease.release)],
            { concurrency: "unbounded" }
          )
          expect(Exit.isSuccess(first)).toBe(true)
          expect(Exit.isSuccess(second)).toBe(false)
          expect(Exit.isSuccess(release)).toBe(true)
          const handle = yield* first
          yield* Effect.flatMap(adopt(handle), ({ verify }) => verify)
        })
      )

      it.scoped("what was changed is no handle: a ParseError, and a defect where it is used", () =>
        Effect.gen(function* () {
          const key = freshKey()
          const lease = yield* take(key)
          const handle = yield* lease.handOver
          const encoded = yield* Schema.encode(Handle)(handle)
          const changes: ReadonlyArray<Record<string, unknown>> = [
            { key: `${key}-other` },
            { token: `${encoded.token}x` },
            { fencingToken: encoded.fencingToken + 1 },
            { share: encoded.share + 1 },
            { limit: encoded.limit + 1 },
            { ttl: encoded.ttl + 1 },
            { ttl: -1 },
            { store: "elsewhere" },
            { maxHold: 1 },
            { holdAtLeast: 1 },
            { firstFencingToken: 1 },
            { seal: "x" },
            { version: 2 },
            { kind: kind === "lock" ? "semaphore" : "lock" },
            { kind: "other" },
            { fencingToken: "1" }
          ]
          for (const change of changes) {
            const decoded = Schema.decodeUnknown(Handle)({ ...encoded, ...change })
            expect([change, yield* Effect.flip(decoded)]).toEqual([
              change,
              expect.objectContaining({ _tag: "ParseError" })
            ])
          }
          const wrong = [
            [{ ...handle, key: "other" }, impossible("handle.seal", handle.seal)],
            [{ ...handle, ttl: Duration.seconds(7) }, impossible("handle.seal")],
            [encoded, impossible("handle:", "effect-redis-lock/Handle")],
            ["text", impossible("handle:", '"text"')],
            [null, impossible("handle:", "null")]
          ] as const
          for (const [bad, expected] of wrong) {
            expect(defectOf(yield* Effect.exit(adopt(bad as unknown as Handle)))).toEqual(expected)
          }
          // (whoever does not use types may give them)
          for (const [option, bad] of [
            ["maxHold", "1 minute"],
            ["holdAtLeast", 0]
          ] as const) {
            const exit = yield* Effect.exit(adopt(handle, { [option]: bad }))
            expect(defectOf(exit)).toEqual(
              impossible(`option ${option}:`, JSON.stringify(bad), "adopted cannot have one")
            )
          }
          // nothing of that has touched it
          yield* Effect.flatMap(adopt(handle), ({ verify }) => verify)
        })
      )

      it.scoped("a handle of another kind is a defect that names it, and nothing is asked", () =>
        Effect.gen(function* () {
          const key = freshKey()
          const handle = yield* Effect.flatMap(take(key), ({ handOver }) => handOver)
          for (const [other, way] of Object.entries(ways)) {
            if (other === kind) continue
            const exit = yield* Effect.exit(way.adopt(handle))
            expect(defectOf(exit)).toEqual(impossible("handle.kind", `"${kind}"`, other))
          }
          const bad = yield* Effect.exit(adopt(handle, { ttl: 1 }))
          expect(defectOf(bad)).toEqual(impossible("ttl: 1 ms"))
          yield* Effect.flatMap(adopt(handle), ({ verify }) => verify)
        })
      )

      it.scoped("a handle of another store is refused, in words", () =>
        Effect.gen(function* () {
          const key = freshKey()
          const handle = yield* Effect.flatMap(take(key), ({ handOver }) => handOver)
          const other = yield* MemoryLockStore.make
          const error = yield* Effect.flip(
            Effect.provideService(adopt(handle), LockStore.LockStore, other)
          )
          expect(error).toEqual(storeError("adopt", "another store"))
          expect(error).toMatchObject({ key })
          yield* Effect.flatMap(adopt(handle), ({ verify }) => verify)
        })
      )

      it.scoped("the token is not shown, and is in the JSON of the schema alone", () =>
        Effect.gen(function* () {
          const lease = yield* take(freshKey())
          const handle = yield* lease.handOver
          expect(Redacted.value(handle.token)).toBe(lease.token)
          expect(`${JSON.stringify(handle)}${String(handle)}`).not.toContain(lease.token)
          const text = yield* Schema.encode(Json)(handle)
          expect(text).toContain(lease.token)
          yield* adopt(handle)
        })
      )

      it.scoped("of a store that cannot: neither is done, and the lease is held", () =>
        Effect.gen(function* () {
          const store = yield* LockStore.LockStore
          const { acquire, ...others } = store
          const plain: LockStore.LockStore = {
            ...others,
            capabilities: new Set([...store.capabilities!].filter((one) => one !== "handOver")),
            acquire: (claim, restore) =>
              Effect.map(acquire(claim, restore), (grant) => {
                const copy: { handOver?: unknown } & LockStore.Grant = { ...grant }
                delete copy.handOver
                return copy
              })
          }
          const key = freshKey()
          const lease = yield* Effect.provideService(take(key), LockStore.LockStore, plain)
          expect(yield* Effect.flip(lease.handOver)).toEqual(storeError("handOver", "no handOver"))
          expect(yield* lease.isHeld).toBe(true)
          yield* lease.verify
          yield* lease.release
          const handle = yield* Effect.flatMap(take(key), ({ handOver }) => handOver)
          expect(
            yield* Effect.flip(Effect.provideService(adopt(handle), LockStore.LockStore, plain))
          ).toEqual(storeError("adopt", "no handOver"))
        })
      )

      it.scoped("what a store is asked itself: a claim that adopts, without waiting", () =>
        Effect.gen(function* () {
          const key = freshKey()
          const more = {
            kind,
            ...(kind === "lock" ? {} : { share: 3, limit: 3 }),
            ttlMillis: 500
          }
          const grant = yield* ask(key, more)
          expect(yield* grant.handOver!).toMatchObject({ _tag: "Renewed" })
          const adopted = yield* ask(key, { ...more, adopt: grant, waitMillis: 10_000 })
          expect(adopted.fencingToken).toBeGreaterThan(grant.fencingToken)
          expect(yield* grant.verify).not.toBe("Ours")
          expect(yield* grant.renew).toMatchObject({ _tag: "NotOurs" })
          const again = yield* Effect.flip(ask(key, { ...more, adopt: grant, waitMillis: 10_000 }))
          expect(again).toMatchObject({ _tag: "LockLost", key, fencingToken: grant.fencingToken })
          expect(yield* adopted.release).toBe("Ours")
        })
      )
    })
  })
}

describe.each(storesOf("semaphore", "handOver"))("%s: several holders", (_, rawStore) => {
  layer(Layer.merge(rawStore, quiet), { excludeTestServices: true })("handed over", (it) => {
    it.scoped("permits stay in use, as many as they were, of the same limit", () =>
      Effect.gen(function* () {
        const key = freshKey()
        const permits = (count: number) => Semaphore.acquire(key, { limit: 4, permits: count })
        const other = yield* permits(1)
        const lease = yield* permits(2)
        const handle = yield* lease.handOver
        expect(handle).toMatchObject({ share: 2, limit: 4 })
        expect(yield* Semaphore.inUse(key)).toBe(3)
        const adopted = yield* Semaphore.adopt(yield* sent(handle))
        expect(yield* Semaphore.inUse(key)).toBe(3)
        expect(adopted.permits).toBe(2)
        expect(adopted.fencingFloor).toBe(other.fencingToken)
        yield* other.verify
        expect(
          yield* Effect.flip(Effect.scoped(Semaphore.tryAcquire(key, { limit: 4, permits: 2 })))
        ).toMatchObject({ _tag: "LockUnavailable" })
        yield* permits(1)
        yield* adopted.release
        expect(yield* Semaphore.inUse(key)).toBe(2)
      })
    )

    it.scoped("a write is adopted as one, and can be downgraded; a read as a read", () =>
      Effect.gen(function* () {
        const key = freshKey()
        const write = yield* ReadWriteLock.writeLock(key)
        const ofWrite = yield* write.handOver
        expect(defectOf(yield* Effect.exit(ReadWriteLock.adoptRead(ofWrite)))).toEqual(
          impossible("handle.share", "1000000")
        )
        const adopted = yield* ReadWriteLock.adoptWrite(ofWrite)
        yield* adopted.downgrade
        yield* Effect.scoped(Effect.locally(ReadWriteLock.readLock(key), currentHolds, undefined))
        const ofRead = yield* adopted.handOver
        expect(ofRead.share).toBe(1)
        expect(defectOf(yield* Effect.exit(ReadWriteLock.adoptWrite(ofRead)))).toEqual(
          impossible("handle.share", "1")
        )
        const read = yield* ReadWriteLock.adoptRead(ofRead)
        yield* Effect.scoped(Effect.locally(ReadWriteLock.readLock(key), currentHolds, undefined))
        yield* read.verify
      })
    )
  })
})

describe.each(storesOf("lock", "handOver"))("%s: what cannot be handed over", (_, rawStore) => {
  layer(Layer.merge(rawStore, quiet), { excludeTestServices: true })("by itself", (it) => {
    it.scoped("one of several keys, and a nested read: the whole goes on", () =>
      Effect.gen(function* () {
        const key = freshKey()
        const all = yield* MultiLock.acquire([key, `${key}-2`])
        expect(yield* Effect.flip(all.leases[0]!.handOver)).toEqual(
          storeError("handOver", "part of another lease")
        )
        yield* all.verify
        yield* all.release
        expect(yield* Effect.flip(all.leases[0]!.handOver)).toEqual(released)
        const nested = yield* ReadWriteLock.withReadLock(key)((outer) =>
          ReadWriteLock.withReadLock(key)((inner) =>
            Effect.zipLeft(Effect.flip(inner.handOver), outer.verify)
          )
        )
        expect(nested).toEqual(storeError("handOver", "part of another lease"))
      })
    )

    it.effect("is read as it was written once, and written the same", () =>
      Effect.gen(function* () {
        const handle = yield* Schema.decode(Json)(writtenHandle)
        expect(handle.key).toBe("invoice:42")
        expect(JSON.parse(yield* Schema.encode(Json)(handle))).toEqual(JSON.parse(writtenHandle))
      })
    )

    it.scoped("the body of a withLock takes the lock away from itself, as with a release", () =>
      Effect.gen(function* () {
        const key = freshKey()
        const kept = yield* Ref.make(Option.none<Handle>())
        const error = yield* Effect.flip(
          Lock.withLock(key)((lease) =>
            Effect.zipRight(
              Effect.uninterruptible(
                Effect.flatMap(lease.handOver, (handle) => Ref.set(kept, Option.some(handle)))
              ),
              Effect.never
            )
          )
        )
        expect(error).toEqual(released)
        yield* Effect.flatMap(
          Lock.adopt(Option.getOrThrow(yield* Ref.get(kept))),
          (lease) => lease.verify
        )
      })
    )
  })
})
