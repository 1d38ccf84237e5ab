/** What several locks as one promise, over every store; and that of a store that somebody wrote. */
import { describe, expect, layer } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import {
  Lock,
  type LockError,
  LockStore,
  MemoryLockStore,
  MultiLock,
  RedisLockStore,
  Semaphore
} from "effect-redis-lock"
import { inspect } from "node:util"
import * as RedisServer from "./support/RedisServer.js"
import { expectFree, expectFreeNow, memory, quiet, redis } from "./support/stores.js"
import {
  freshKeys,
  holder,
  isPending,
  lookAt,
  takeAwayOf,
  unavailable,
  untilFree,
  waiter
} from "./support/several.js"

const plainRedis = Layer.unwrapEffect(
  Effect.map(RedisServer.RedisServer, ({ url }) => RedisLockStore.layer({ url }))
).pipe(Layer.provideMerge(RedisServer.layer()))

// (with controls, they are copies, as a store is that somebody else wrote)
const plain = [
  ["memory", MemoryLockStore.layer],
  ["redis", plainRedis]
] as const
const controlled = [
  ["memory, as a user's store", memory],
  ["redis, as a user's store", redis]
] as const

// ---------------------------------------------------------------- tests

describe.concurrent.each<
  readonly [string, Layer.Layer<LockStore.LockStore, LockError.LockStoreError>]
>([...plain, ...controlled])("%s", (_, rawStore) => {
  const store = Layer.merge(rawStore, quiet)

  layer(store, { excludeTestServices: true })("several locks", (it) => {
    it.scoped("are held together, by the body, and by nobody after it", () =>
      Effect.gen(function* () {
        const keys = freshKeys(3)
        const seen = yield* MultiLock.withLocks(keys)(
          Effect.forEach(keys, (key) => Effect.flip(Effect.scoped(Lock.tryAcquire(key))))
        )
        expect(seen).toEqual(keys.map(unavailable))
        yield* Effect.forEach(keys, expectFreeNow)
      })
    )

    it.scoped("the body can come first, and be a function of the lease", () =>
      Effect.gen(function* () {
        const [a, b] = freshKeys(2) as [string, string]
        const seen = yield* MultiLock.withLocks(
          (lease: MultiLock.MultiLease) => Effect.succeed(lease.leases.map(({ key }) => key)),
          [b, a]
        )
        expect(seen).toEqual([b, a])
        const some = yield* Effect.succeed("done").pipe(MultiLock.withLocksIfAvailable([a, b]))
        expect(some).toEqual(Option.some("done"))
      })
    )

    it.scoped("have a lease: of each key, in the order in which they were named", () =>
      Effect.gen(function* () {
        const [a, b, c] = freshKeys(3) as [string, string, string]
        const lease = yield* MultiLock.acquire([c, a, b, a], { ttl: "10 seconds" })
        expect(lease.leases.map(({ key }) => key)).toEqual([c, a, b, a])
        expect(lease.leases[1]).toBe(lease.leases[3])
        expect(new Set(lease.leases.map(({ token }) => token)).size).toBe(3)
        for (const one of lease.leases) {
          expect(lease.fencingToken(one.key)).toBe(one.fencingToken)
          expect(yield* one.isHeld).toBe(true)
        }
        expect(() => lease.fencingToken("another")).toThrow(/"another" is not among those/)
        expect(Duration.toMillis(yield* lease.remaining)).toBeLessThanOrEqual(10_000 - 102)
        expect(Duration.toMillis(yield* lease.remaining)).toBeGreaterThan(5_000)
        expect(yield* lease.isHeld).toBe(true)
        yield* lease.verify
        for (const { token } of lease.leases) {
          expect(JSON.stringify(lease) + inspect(lease) + inspect(lease.leases)).not.toContain(
            token
          )
        }
        yield* lease.release
        yield* lease.release
        expect(yield* lease.isHeld).toBe(false)
        expect(lease.signal.aborted).toBe(true)
        expect(yield* Effect.flip(lease.guard(Effect.void))).toMatchObject({
          _tag: "LockLost",
          reason: "Released"
        })
        yield* Effect.forEach([a, b, c], expectFreeNow)
      })
    )

    it.scoped("the fencing token of a key grows from lock to lock, of whichever module", () =>
      Effect.gen(function* () {
        const [a, b] = freshKeys(2) as [string, string]
        const tokens: Array<number> = []
        yield* Lock.withLock(a)(({ fencingToken }) => Effect.sync(() => tokens.push(fencingToken)))
        yield* MultiLock.withLocks([b, a])((lease) =>
          Effect.sync(() => tokens.push(lease.fencingToken(a)))
        )
        yield* Lock.withLock(a)(({ fencingToken }) => Effect.sync(() => tokens.push(fencingToken)))
        expect(tokens).toEqual([...new Set(tokens)].sort((x, y) => x - y))
        expect(tokens.length).toBe(3)
      })
    )

    it.scoped("if one is not free, the error names it, and none is held", () =>
      Effect.gen(function* () {
        const keys = freshKeys(4)
        const taken = yield* holder(keys[2]!, { owner: "somebody" })
        const failed = [
          Effect.scoped(MultiLock.tryAcquire(keys)),
          Effect.scoped(MultiLock.acquire([...keys].reverse(), { waitAtMost: 0 })),
          Effect.scoped(MultiLock.acquire(keys, { waitAtMost: 30 }))
        ]
        for (const [index, one] of failed.entries()) {
          const error = yield* Effect.flip(one)
          expect(error).toMatchObject({
            _tag: "LockUnavailable",
            key: keys[2],
            holder: { owner: "somebody", foreign: false }
          })
          if (error._tag !== "LockUnavailable") return
          const waited = Duration.toMillis(error.waited)
          expect(waited === 0).toBe(index < 2)
          for (const key of [keys[0], keys[1], keys[3]]) yield* expectFreeNow(key!)
        }
        expect(yield* MultiLock.withLocksIfAvailable(keys)(Effect.void)).toEqual(Option.none())
        for (const key of [keys[0], keys[1], keys[3]]) yield* expectFreeNow(key!)
        yield* taken.release
        expect(yield* MultiLock.withLocksIfAvailable(keys)(Effect.void)).toEqual(
          Option.some(undefined)
        )
      })
    )

    it.scoped("while one is waited for, those before it are held, and none behind it", () =>
      Effect.gen(function* () {
        const keys = freshKeys(4)
        const second = yield* holder(keys[1]!)
        const fourth = yield* holder(keys[3]!)
        // named in another order than that in which they are taken
        const { fiber: waits, waitsFor } = yield* waiter((options) =>
          Effect.scoped(Effect.asVoid(MultiLock.acquire([...keys].reverse(), options)))
        )
        yield* waitsFor(keys[1]!)
        expect((yield* lookAt(keys[0]!)).heldCount).toBe(1)
        yield* expectFree(keys[2]!)
        yield* second.release
        yield* waitsFor(keys[3]!)
        for (const key of keys.slice(0, 3)) expect((yield* lookAt(key)).heldCount).toBe(1)
        expect(yield* isPending(waits)).toBe(true)
        yield* fourth.release
        yield* Fiber.join(waits)
        yield* Effect.forEach(keys, expectFreeNow)
      })
    )

    it.scoped("one deadline for all: what was got by then is given back", () =>
      Effect.gen(function* () {
        const keys = freshKeys(3)
        const first = yield* holder(keys[0]!)
        yield* holder(keys[1]!)
        const { fiber: waits, waitsFor } = yield* waiter((options) =>
          Effect.scoped(Effect.flip(MultiLock.acquire(keys, { ...options, waitAtMost: 500 })))
        )
        yield* waitsFor(keys[0]!)
        yield* first.release
        const error = yield* Fiber.join(waits)
        expect(error).toEqual(unavailable(keys[1]!))
        if (error._tag !== "LockUnavailable") return
        // of the whole wait, and not of the last part of it
        expect(Duration.toMillis(error.waited)).toBeGreaterThanOrEqual(490)
        yield* expectFreeNow(keys[0]!)
        yield* expectFreeNow(keys[2]!)
      })
    )

    it.scoped("an interrupted wait leaves nothing", () =>
      Effect.gen(function* () {
        const keys = freshKeys(3)
        yield* holder(keys[2]!)
        const { fiber, waitsFor } = yield* waiter((options) =>
          Effect.scoped(MultiLock.acquire(keys, options))
        )
        yield* waitsFor(keys[2]!)
        yield* Fiber.interrupt(fiber)
        yield* expectFreeNow(keys[0]!)
        yield* expectFreeNow(keys[1]!)
        expect((yield* lookAt(keys[2]!)).pendingCount).toBe(0)
      })
    )

    it.scoped("nobody is overtaken: who waits for a key has it before later ones", () =>
      Effect.gen(function* () {
        const [a, b] = freshKeys(2) as [string, string]
        const order: Array<string> = []
        const inOrder = (name: string) => Effect.sync(() => order.push(name))
        const held = yield* holder(b)
        const first = yield* waiter((options) =>
          MultiLock.withLocks([b, a], options)(inOrder("both"))
        )
        yield* first.waitsFor(b)
        const second = yield* waiter((options) => Lock.withLock(b, options)(inOrder("b")))
        yield* second.waitsFor(b)
        const third = yield* waiter((options) => Lock.withLock(a, options)(inOrder("a")))
        yield* third.waitsFor(a)
        yield* held.release
        yield* Fiber.joinAll([first.fiber, second.fiber, third.fiber])
        expect(order[0]).toBe("both")
        expect(order.length).toBe(3)
      })
    )

    it.scoped("a crowd that names keys in all orders gets on, and never meets", () =>
      Effect.gen(function* () {
        const keys = freshKeys(4)
        const inside = new Map<string, number>()
        let done = 0
        const visit = (some: ReadonlyArray<string>) =>
          Effect.acquireUseRelease(
            Effect.sync(() => {
              for (const key of some) inside.set(key, (inside.get(key) ?? 0) + 1)
              return some.map((key) => inside.get(key))
            }),
            (counts) =>
              Effect.zipRight(
                Effect.yieldNow(),
                Effect.sync(() => expect(counts.every((count) => count === 1)).toBe(true))
              ),
            () =>
              Effect.sync(() => {
                for (const key of some) inside.set(key, inside.get(key)! - 1)
                done++
              })
          )
        yield* Effect.forEach(
          Array.from({ length: 200 }, (_, index) => index),
          (index) => {
            const shuffled = [...keys].sort(() => Math.random() - 0.5)
            const some = shuffled.slice(0, 1 + (index % 4))
            return index % 3 === 0
              ? Lock.withLock(some[0]!)(visit([some[0]!]))
              : MultiLock.withLocks(some)(visit(some))
          },
          { concurrency: "unbounded", discard: true }
        )
        expect(done).toBe(200)
        yield* Effect.forEach(keys, expectFree)
      })
    )

    it.scoped("a semaphore among the keys: the error names key and kinds, and none is held", () =>
      Effect.gen(function* () {
        const keys = freshKeys(3)
        yield* Semaphore.acquire(keys[1]!, { limit: 2 })
        for (const one of [
          MultiLock.tryAcquire(keys),
          MultiLock.acquire([...keys].reverse()),
          MultiLock.acquire(keys, { waitAtMost: 50 })
        ]) {
          const error = yield* Effect.flip(Effect.scoped(one))
          expect(error).toMatchObject({ _tag: "LockStoreError", key: keys[1], transient: false })
          expect(error.message).toContain(keys[1])
          expect(error.message).toMatch(/semaphore.*lock/)
          yield* expectFreeNow(keys[0]!)
          yield* expectFreeNow(keys[2]!)
        }
        // it is waited for last, and found out only then
        const [a, b] = freshKeys(2) as [string, string]
        const held = yield* holder(a)
        const { fiber: waits, waitsFor } = yield* waiter((options) =>
          Effect.scoped(Effect.flip(MultiLock.acquire([a, b], options)))
        )
        yield* waitsFor(a)
        yield* Semaphore.acquire(b, { limit: 2 })
        yield* held.release
        expect(yield* Fiber.join(waits)).toMatchObject({ _tag: "LockStoreError", key: b })
        yield* expectFree(a)
      })
    )

    it.scoped("a body's failure, defect and interruption give all back", () =>
      Effect.gen(function* () {
        const keys = freshKeys(3)
        for (const body of [Effect.fail("no"), Effect.die("no"), Effect.interrupt]) {
          const exit = yield* Effect.exit(MultiLock.withLocks(keys)(body))
          expect(Exit.isFailure(exit)).toBe(true)
          yield* Effect.forEach(keys, expectFreeNow)
        }
      })
    )

    it.scoped("a lost key interrupts the body, which is told the key; all are given back", () =>
      Effect.gen(function* () {
        const keys = freshKeys(3)
        const store = yield* LockStore.LockStore
        let finalized = false
        const entered = yield* Deferred.make<MultiLock.MultiLease>()
        const body = (lease: MultiLock.MultiLease) =>
          Effect.zipRight(Deferred.succeed(entered, lease), Effect.never).pipe(
            Effect.ensuring(Effect.sync(() => (finalized = true)))
          )
        const fiber = yield* Effect.fork(Effect.flip(MultiLock.withLocks(keys)(body)))
        const lease = yield* Deferred.await(entered)
        const awaited = yield* Effect.fork(Effect.flip(lease.awaitLost))
        yield* takeAwayOf(store, lease.leases[1]!.key, lease.fencingToken(keys[1]!))
        yield* Effect.exit(lease.verify)
        const lost = yield* Fiber.join(fiber)
        expect(lost).toMatchObject({
          _tag: "LockLost",
          key: keys[1],
          fencingToken: lease.fencingToken(keys[1]!)
        })
        expect(finalized).toBe(true)
        expect(yield* Fiber.join(awaited)).toBe(lost)
        expect(lease.signal.reason).toBe(lost)
        expect(yield* lease.isHeld).toBe(false)
        yield* Effect.forEach(keys, expectFreeNow)
      })
    )

    it.scoped("the release of one of the leases is that of all", () =>
      Effect.gen(function* () {
        const keys = freshKeys(2)
        const lease = yield* MultiLock.acquire(keys)
        yield* lease.leases[1]!.release
        expect(yield* lease.isHeld).toBe(false)
        yield* Effect.forEach(keys, expectFreeNow)
      })
    )

    it.scoped("interrupted at any moment, they leave nothing", () =>
      Effect.gen(function* () {
        const keys = freshKeys(4)
        let entered = 0
        // others, so that all states are met
        const others = yield* Effect.fork(
          Effect.forever(
            Effect.suspend(() =>
              Effect.zipRight(
                Lock.withLock(keys[Math.floor(Math.random() * 4)]!)(Effect.sleep(Math.random())),
                Effect.yieldNow()
              )
            )
          )
        )
        for (let round = 0; round < 60; round++) {
          yield* Effect.forEach(
            Array.from({ length: 25 }, (_, index) => index),
            (index) =>
              Effect.gen(function* () {
                const some = [...keys].sort(() => Math.random() - 0.5).slice(0, 2 + (index % 3))
                const fiber = yield* Effect.fork(
                  MultiLock.withLocks(some, { ttl: "1 minute" })(
                    Effect.zipRight(
                      Effect.sync(() => entered++),
                      Effect.yieldNow()
                    )
                  )
                )
                const steps = Math.floor(Math.random() * 30)
                if (index % 2 === 0) yield* Effect.sleep(Math.random() ** 3 * 60)
                else for (let step = 0; step < steps; step++) yield* Effect.yieldNow()
                // (some have their turn, however slow the machine is)
                yield* index % 5 === 0 ? Fiber.join(fiber) : Fiber.interrupt(fiber)
              }),
            { concurrency: "unbounded", discard: true }
          )
        }
        yield* Fiber.interrupt(others)
        expect(entered).toBeGreaterThanOrEqual(300)
        // (what is on its way to Redis is undone behind it)
        yield* Effect.forEach(keys, untilFree)
      })
    )
  })
})
