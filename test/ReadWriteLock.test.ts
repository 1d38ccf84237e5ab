/** What read-write locks promise, over every store that has them. */
import { describe, expect, layer } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Chunk from "effect/Chunk"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import { type Lease, Lock, LockStore, ReadWriteLock, Semaphore } from "effect-redis-lock"
import { currentHolds } from "../src/internal/face/currentHolds.js"
import { refusal } from "./support/kinds.js"
import { ask, freshKey, quiet, StoreControls, storesOf } from "./support/stores.js"

// ---------------------------------------------------------------- helpers

const isPending = (fiber: Fiber.Fiber<unknown, unknown>) =>
  Effect.map(Fiber.poll(fiber), Option.isNone)

/** A lease that is kept until told otherwise, taken by a fiber that others do not come from. */
const held = <L extends Lease.Lease, E, R>(acquire: Effect.Effect<L, E, R>) =>
  Effect.gen(function* () {
    const scope = yield* Effect.acquireRelease(Scope.make(), (scope) =>
      Scope.close(scope, Exit.void)
    )
    const exit = yield* Fiber.await(yield* Effect.fork(Scope.extend(acquire, scope)))
    return { lease: yield* exit, release: Scope.close(scope, Exit.void) }
  })

const reader = (key: string, options?: ReadWriteLock.WaitOptions) =>
  held(ReadWriteLock.readLock(key, options))
const writer = (key: string, options?: ReadWriteLock.WaitOptions) =>
  held(ReadWriteLock.writeLock(key, options))

/** Waits until something is so; a test that waits in vain runs into its timeout. */
const until = <R>(condition: Effect.Effect<boolean, never, R>): Effect.Effect<void, never, R> =>
  Effect.asVoid(
    Effect.repeat(Effect.zipLeft(condition, Effect.sleep(2)), { while: (holds) => !holds })
  )

/** Waits behind those who came before, in a store where so many entries wait then. */
const waiting = <A, E, R>(key: string, entries: number, acquire: Effect.Effect<A, E, R>) =>
  Effect.zipLeft(
    Effect.forkDaemon(acquire),
    until(Effect.map(lookAt(key), ({ pendingCount }) => pendingCount >= entries))
  )

const lookAt = (key: string) =>
  Effect.flatMap(LockStore.LockStore, ({ look }) => Effect.orDie(look!(key, 100)))

/** Fails unless nobody has any of it, nor waits. */
const expectNothing = (key: string) =>
  until(
    Effect.map(lookAt(key), (look) => {
      return look.heldCount === 0 && look.pendingCount === 0 && look.kind === undefined
    })
  )

/** As in a fiber that holds nothing, and was forked from nobody who does. */
const elsewhere = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.locally(effect, currentHolds, undefined)

const unavailable = expect.objectContaining({ _tag: "LockUnavailable" })
const theWrite = { kind: "readWriteLock", share: 1_000_000, limit: 1_000_000 } as const
const aRead = { ...theWrite, share: 1 } as const

const defectsOf = <A, E>(exit: Exit.Exit<A, E>): ReadonlyArray<unknown> =>
  Exit.isFailure(exit) ? Chunk.toReadonlyArray(Cause.defects(exit.cause)) : []

// ---------------------------------------------------------------- tests

describe.each(storesOf("readWriteLock"))("%s", (_, rawStore) => {
  const store = Layer.merge(rawStore, quiet)

  layer(store, { excludeTestServices: true })("readers and writers", (it) => {
    it.scoped("many read at a time, each with a lease of its own", () =>
      Effect.gen(function* () {
        const key = freshKey()
        const readers = [yield* reader(key), yield* reader(key), yield* reader(key)]
        const fences = readers.map(({ lease }) => lease.fencingToken)
        expect(fences).toEqual([...new Set(fences)].sort((a, b) => a - b))
        yield* readers[0]!.release
        yield* readers[2]!.release
        expect(yield* readers[0]!.lease.isHeld).toBe(false)
        yield* readers[1]!.lease.verify
        expect(yield* Effect.flip(Effect.scoped(ReadWriteLock.tryWriteLock(key)))).toEqual(
          unavailable
        )
        yield* readers[1]!.release
        yield* expectNothing(key)
      })
    )

    it.scoped("a writer is alone", () =>
      Effect.gen(function* () {
        const key = freshKey()
        const { lease, release } = yield* writer(key)
        const tries = [
          Effect.scoped(ReadWriteLock.tryReadLock(key)),
          Effect.scoped(ReadWriteLock.tryWriteLock(key)),
          Effect.scoped(ReadWriteLock.readLock(key, { waitAtMost: 30 })),
          ReadWriteLock.withWriteLock(key, { waitAtMost: 30 })(Effect.void)
        ]
        for (const attempt of tries) expect(yield* Effect.flip(attempt)).toEqual(unavailable)
        for (const attempt of [
          ReadWriteLock.withReadLockIfAvailable(key)(Effect.die("ran")),
          ReadWriteLock.withWriteLockIfAvailable(key)(Effect.die("ran"))
        ]) {
          expect(yield* attempt).toEqual(Option.none())
        }
        yield* lease.verify
        yield* release
        const free = ReadWriteLock.withWriteLockIfAvailable
        expect(yield* free(({ fencingToken }) => Effect.succeed(fencingToken), key)).toEqual(
          Option.some(expect.any(Number))
        )
        expect(yield* ReadWriteLock.withReadLockIfAvailable(Effect.succeed(1), key)).toEqual(
          Option.some(1)
        )
        yield* expectNothing(key)
      })
    )

    it.scoped("the body comes first or last, and may be a function of the lease", () =>
      Effect.gen(function* () {
        const key = freshKey()
        const { withReadLock, withWriteLock } = ReadWriteLock
        const fence = (lease: Lease.Lease) => Effect.succeed(lease.fencingToken)
        const first = yield* withReadLock(fence, key)
        const second = yield* withWriteLock(key, { ttl: "3 seconds" })(fence)
        expect(second).toBeGreaterThan(first)
        expect(yield* Effect.succeed("a").pipe(withWriteLock(key))).toBe("a")
        expect(yield* withReadLock(Effect.succeed("b"), key, { ttl: "1 second" })).toBe("b")
        yield* expectNothing(key)
      })
    )

    it.scoped("a waiting writer stops later readers, and waits only for those inside", () =>
      Effect.gen(function* () {
        const key = freshKey()
        const inside = yield* reader(key)
        const write = yield* waiting(key, 1, writer(key))
        expect(yield* Effect.flip(Effect.scoped(ReadWriteLock.tryReadLock(key)))).toEqual(
          unavailable
        )
        const late = yield* Effect.fork(reader(key))
        yield* Effect.sleep(50)
        expect(yield* isPending(late)).toBe(true)
        expect(yield* isPending(write)).toBe(true)
        yield* inside.release
        const { lease, release } = yield* Fiber.join(write)
        yield* Effect.sleep(30)
        expect(yield* isPending(late)).toBe(true)
        yield* release
        const { lease: read } = yield* Fiber.join(late)
        expect(read.fencingToken).toBeGreaterThan(lease.fencingToken)
      })
    )

    it.scoped("readers that stand together at the head enter together, up to the next writer", () =>
      Effect.gen(function* () {
        const key = freshKey()
        const first = yield* writer(key)
        const crowd = [
          yield* Effect.fork(reader(key)),
          yield* Effect.fork(reader(key)),
          yield* Effect.fork(reader(key))
        ]
        yield* until(Effect.map(lookAt(key), ({ pendingCount }) => pendingCount === 3))
        const second = yield* Effect.fork(writer(key))
        const last = yield* Effect.fork(reader(key))
        yield* Effect.sleep(30)
        yield* first.release
        const inside = [
          yield* Fiber.join(crowd[0]!),
          yield* Fiber.join(crowd[1]!),
          yield* Fiber.join(crowd[2]!)
        ]
        // all of them, before anybody has left
        for (const { lease } of inside) yield* lease.verify
        expect(yield* isPending(second)).toBe(true)
        for (const { release } of inside) yield* release
        const { lease, release } = yield* Fiber.join(second)
        expect(lease.fencingToken).toBeGreaterThan(
          Math.max(...inside.map(({ lease }) => lease.fencingToken))
        )
        yield* Effect.sleep(20)
        expect(yield* isPending(last)).toBe(true)
        yield* release
        yield* Fiber.join(last)
      })
    )

    it.scoped("a writer that gives up, or is interrupted, lets the readers behind it in", () =>
      Effect.gen(function* () {
        const key = freshKey()
        yield* reader(key)
        const impatient = yield* waiting(key, 1, writer(key, { waitAtMost: 150 }))
        const behind = yield* Effect.fork(reader(key))
        expect(yield* Effect.flip(Fiber.join(impatient))).toEqual(unavailable)
        yield* Fiber.join(behind)
        const cut = yield* waiting(key, 1, writer(key))
        const next = yield* Effect.fork(reader(key))
        yield* Effect.sleep(20)
        expect(yield* isPending(next)).toBe(true)
        yield* Fiber.interrupt(cut)
        yield* Fiber.join(next)
      })
    )

    it.scoped("a lost read interrupts its body, and no other reader's", () =>
      Effect.gen(function* () {
        const key = freshKey()
        const { takeAway } = yield* StoreControls
        const other = yield* ask(key, aRead)
        // (so long after each other, callers of one process have a lease of their own)
        yield* Effect.sleep(50)
        const inside = yield* Deferred.make<Lease.Lease>()
        const body = yield* Effect.fork(
          ReadWriteLock.withReadLock(key)((lease) =>
            Effect.zipRight(Deferred.succeed(inside, lease), Effect.never)
          )
        )
        const lease = yield* Deferred.await(inside)
        yield* takeAway(lease)
        yield* Effect.exit(lease.verify)
        expect(yield* Effect.flip(Fiber.join(body))).toMatchObject({
          _tag: "LockLost",
          reason: "Missing"
        })
        expect(yield* other.verify).toBe("Ours")
        yield* other.release
        yield* expectNothing(key)
      })
    )
  })

  layer(store, { excludeTestServices: true })("downgrade", (it) => {
    it.scoped("lets the readers behind in at once, and the next writer not", () =>
      Effect.gen(function* () {
        const key = freshKey()
        const { lease, release } = yield* writer(key, { ttl: "5 seconds" })
        const read = yield* Effect.fork(reader(key))
        yield* until(Effect.map(lookAt(key), ({ pendingCount }) => pendingCount === 1))
        const { fencingToken, token } = lease
        yield* lease.downgrade
        const inside = yield* Fiber.join(read)
        expect(lease).toMatchObject({ fencingToken, token })
        expect(inside.lease.fencingToken).toBeGreaterThan(fencingToken)
        yield* lease.verify
        const write = yield* waiting(key, 1, writer(key))
        yield* inside.release
        yield* Effect.sleep(30)
        expect(yield* isPending(write)).toBe(true)
        yield* release
        yield* Fiber.join(write)
      })
    )

    it.scoped("no writer that waits gets in between", () =>
      Effect.gen(function* () {
        const key = freshKey()
        const { lease, release } = yield* writer(key)
        // (in the process's own line, in no queue yet)
        const next = yield* Effect.fork(writer(key))
        yield* Effect.sleep(30)
        yield* lease.downgrade
        // in order: nobody passes the writer either
        const late = yield* Effect.fork(reader(key))
        yield* Effect.sleep(50)
        expect(yield* isPending(next)).toBe(true)
        expect(yield* isPending(late)).toBe(true)
        yield* release
        yield* (yield* Fiber.join(next)).release
        yield* Fiber.join(late)
      })
    )

    it.scoped("the lease is renewed as a read from then on", () =>
      Effect.gen(function* () {
        const key = freshKey()
        const { until } = yield* StoreControls
        const { lease } = yield* writer(key, { ttl: 500, renewEvery: 50 })
        yield* lease.downgrade
        yield* Effect.raceFirst(until(key, "renewed", 15), lease.awaitLost)
        yield* lease.verify
        expect((yield* lookAt(key)).inUse).toBe(1)
        yield* Effect.scoped(ReadWriteLock.tryReadLock(key))
      })
    )

    it.scoped("twice: an error that says so, and the read goes on", () =>
      Effect.gen(function* () {
        const key = freshKey()
        const { lease } = yield* writer(key)
        yield* lease.downgrade
        expect(yield* Effect.flip(lease.downgrade)).toMatchObject({
          _tag: "LockStoreError",
          operation: "reshare",
          key,
          transient: false,
          detail: expect.stringContaining("downgraded already") as string
        })
        yield* lease.verify
        yield* Effect.scoped(ReadWriteLock.tryReadLock(key))
      })
    )

    it.scoped("after a release, or a loss: LockLost, and nothing stays locked", () =>
      Effect.gen(function* () {
        const key = freshKey()
        const { takeAway } = yield* StoreControls
        const released = yield* writer(key)
        yield* released.lease.release
        expect(yield* Effect.flip(released.lease.downgrade)).toMatchObject({
          _tag: "LockLost",
          reason: "Released",
          key
        })
        const lost = yield* writer(key)
        yield* takeAway(lost.lease)
        // the store says so
        expect(yield* Effect.flip(lost.lease.downgrade)).toMatchObject({
          _tag: "LockLost",
          reason: "Missing",
          key
        })
        expect(yield* lost.lease.isHeld).toBe(false)
        expect(yield* Effect.flip(lost.lease.downgrade)).toMatchObject({ _tag: "LockLost" })
        yield* Effect.scoped(ReadWriteLock.tryWriteLock(key))
        yield* expectNothing(key)
      })
    )

    it.scoped("inside of withWriteLock, for the rest of the body", () =>
      Effect.gen(function* () {
        const key = freshKey()
        const down = yield* Deferred.make<void>()
        const end = yield* Deferred.make<void>()
        const body = yield* Effect.fork(
          ReadWriteLock.withWriteLock(key)((lease) =>
            lease.downgrade.pipe(
              Effect.zipRight(Deferred.succeed(down, undefined)),
              Effect.zipRight(Deferred.await(end)),
              Effect.as(lease.fencingToken)
            )
          )
        )
        yield* Deferred.await(down)
        const { lease, release } = yield* reader(key)
        yield* Deferred.succeed(end, undefined)
        expect(yield* Fiber.join(body)).toBeLessThan(lease.fencingToken)
        yield* release
        yield* expectNothing(key)
      })
    )

    it.scoped("a bare grant's share: from the whole to one, and never more", () =>
      Effect.gen(function* () {
        const key = freshKey()
        const grant = yield* ask(key, theWrite)
        expect(yield* Effect.flip(ask(key, aRead))).toEqual(unavailable)
        expect(yield* grant.reshare!(1)).toMatchObject({ _tag: "Renewed" })
        const read = yield* ask(key, aRead)
        expect(yield* grant.reshare!(1)).toMatchObject({ _tag: "Renewed" })
        expect(yield* grant.renew).toMatchObject({ _tag: "Renewed" })
        expect((yield* lookAt(key)).inUse).toBe(2)
        yield* grant.release
        expect(yield* grant.reshare!(1)).toEqual({ _tag: "NotOurs", reason: "Missing" })
        expect((yield* lookAt(key)).inUse).toBe(1)
        yield* read.release
        yield* expectNothing(key)
      })
    )
  })

  layer(store, { excludeTestServices: true })("nested reads", (it) => {
    it.scoped("share the outer one, also while a writer waits for it", () =>
      Effect.gen(function* () {
        const key = freshKey()
        const { count } = yield* StoreControls
        const nested = ReadWriteLock.withReadLock(key)((outer) =>
          Effect.gen(function* () {
            const write = yield* elsewhere(waiting(key, 1, writer(key)))
            const asked = count(key, "acquire")
            const inner = yield* ReadWriteLock.withReadLock(key)((lease) =>
              Effect.map(lease.verify, () => lease.fencingToken)
            )
            expect(inner).toBe(outer.fencingToken)
            const forked = yield* Effect.fork(
              Effect.scoped(Effect.map(ReadWriteLock.readLock(key), ({ token }) => token))
            )
            expect(yield* Fiber.join(forked)).toBe(outer.token)
            yield* Effect.scoped(ReadWriteLock.tryReadLock(key))
            expect(yield* ReadWriteLock.withReadLockIfAvailable(key)(Effect.succeed(1))).toEqual(
              Option.some(1)
            )
            // nothing was asked of the store, and nothing given back
            expect(count(key, "acquire")).toBe(asked)
            expect(count(key, "release")).toBe(0)
            yield* outer.verify
            return write
          })
        )
        const write = yield* nested
        const { release } = yield* Fiber.join(write)
        yield* release
        yield* expectNothing(key)
      })
    )

    it.scoped("under the guard of a scoped read as well", () =>
      Effect.gen(function* () {
        const key = freshKey()
        const outer = yield* ReadWriteLock.readLock(key)
        const write = yield* elsewhere(waiting(key, 1, writer(key)))
        const inner = yield* outer.guard(
          ReadWriteLock.withReadLock(key)(({ token }) => Effect.succeed(token))
        )
        expect(inner).toBe(outer.token)
        yield* outer.release
        yield* Fiber.join(write)
      })
    )

    it.scoped("after a downgrade, they share what the write has become", () =>
      Effect.gen(function* () {
        const key = freshKey()
        const [outer, inner] = yield* ReadWriteLock.withWriteLock(key)((lease) =>
          Effect.zipRight(
            lease.downgrade,
            Effect.map(
              ReadWriteLock.withReadLock(key, { waitAtMost: "2 seconds" })((inner) =>
                Effect.succeed(inner.token)
              ),
              (token) => [lease.token, token] as const
            )
          )
        )
        expect(inner).toBe(outer)
      })
    )

    it.scoped("of another key, or of a fiber that is not in it, they do not", () =>
      Effect.gen(function* () {
        const [key, other] = [freshKey(), freshKey()]
        yield* ReadWriteLock.withReadLock(key)((outer) =>
          Effect.gen(function* () {
            const { token } = yield* Effect.scoped(ReadWriteLock.readLock(other))
            expect(token).not.toBe(outer.token)
          })
        )
        // (the fiber of the test has none)
        const first = yield* ReadWriteLock.withReadLock(key)(({ fencingToken }) =>
          Effect.succeed(fencingToken)
        )
        const second = yield* ReadWriteLock.withReadLock(key)(({ fencingToken }) =>
          Effect.succeed(fencingToken)
        )
        expect(second).toBeGreaterThan(first)
      })
    )

    it.scoped("end with the outer one: whoever was forked and goes on is interrupted", () =>
      Effect.gen(function* () {
        const key = freshKey()
        const inside = yield* Deferred.make<void>()
        const left = yield* ReadWriteLock.withReadLock(key)(
          Effect.zipLeft(
            Effect.forkDaemon(
              ReadWriteLock.withReadLock(key)(
                Effect.zipRight(Deferred.succeed(inside, undefined), Effect.never)
              )
            ),
            Deferred.await(inside)
          )
        )
        expect(yield* Effect.flip(Fiber.join(left))).toMatchObject({
          _tag: "LockLost",
          reason: "Released"
        })
        yield* expectNothing(key)
      })
    )

    it.scoped("an inner release ends the inner use alone, and so does an inner scope", () =>
      Effect.gen(function* () {
        const key = freshKey()
        yield* ReadWriteLock.withReadLock(key)((outer) =>
          Effect.gen(function* () {
            const lost = yield* Effect.scoped(
              Effect.gen(function* () {
                const inner = yield* ReadWriteLock.readLock(key)
                const { signal } = inner
                expect(yield* inner.isHeld).toBe(true)
                yield* inner.release
                yield* inner.release
                expect(signal.aborted).toBe(true)
                expect(yield* inner.isHeld).toBe(false)
                return yield* Effect.flip(inner.guard(Effect.void))
              })
            )
            expect(lost).toMatchObject({ _tag: "LockLost", reason: "Released" })
            const escaped = yield* Effect.scoped(ReadWriteLock.readLock(key))
            expect(yield* escaped.isHeld).toBe(false)
            expect(yield* outer.isHeld).toBe(true)
          })
        )
        yield* expectNothing(key)
      })
    )

    it.scoped("a loss of the outer one is a loss of the inner one", () =>
      Effect.gen(function* () {
        const key = freshKey()
        const { takeAway } = yield* StoreControls
        const exit = yield* Effect.exit(
          ReadWriteLock.withReadLock(key)((outer) =>
            Effect.gen(function* () {
              const inner = yield* Effect.exit(
                ReadWriteLock.withReadLock(key)(
                  takeAway(outer).pipe(
                    Effect.zipRight(Effect.exit(outer.verify)),
                    Effect.zipRight(Effect.never)
                  )
                )
              )
              return inner
            })
          )
        )
        expect(Exit.isFailure(exit)).toBe(true)
        expect(
          Exit.isFailure(exit) && Chunk.toReadonlyArray(Cause.failures(exit.cause))[0]
        ).toMatchObject({ _tag: "LockLost", reason: "Missing" })
      })
    )

    it.scoped("impossible options are a defect there as well", () =>
      Effect.gen(function* () {
        const key = freshKey()
        const exits = yield* ReadWriteLock.withReadLock(key)(
          Effect.all([
            Effect.exit(ReadWriteLock.withReadLock(key, { ttl: 0 })(Effect.void)),
            Effect.exit(Effect.scoped(ReadWriteLock.readLock(key, { ttl: 0 })))
          ])
        )
        for (const exit of exits) {
          expect(String(defectsOf<unknown, unknown>(exit)[0])).toMatch(
            /Impossible lock option ttl: 0/
          )
        }
      })
    )
  })

  layer(store, { excludeTestServices: true })("an upgrade", (it) => {
    const isUpgrade = (exit: Exit.Exit<unknown, unknown>, key: string) => {
      const [defect] = defectsOf(exit)
      expect(Cause.isIllegalArgumentException(defect)).toBe(true)
      expect(String((defect as Error).message)).toContain(
        `Impossible upgrade of the read-write lock ${JSON.stringify(key)}`
      )
    }

    it.scoped("is a defect at once, however the write is asked for; the read goes on", () =>
      Effect.gen(function* () {
        const key = freshKey()
        const { count } = yield* StoreControls
        const writes: ReadonlyArray<Effect.Effect<unknown, unknown, LockStore.LockStore>> = [
          ReadWriteLock.withWriteLock(key)(Effect.die("ran")),
          ReadWriteLock.withWriteLockIfAvailable(key)(Effect.die("ran")),
          Effect.scoped(ReadWriteLock.writeLock(key)),
          Effect.scoped(ReadWriteLock.tryWriteLock(key))
        ]
        yield* ReadWriteLock.withReadLock(key)((outer) =>
          Effect.gen(function* () {
            for (const write of writes) {
              isUpgrade(yield* Effect.exit(write), key)
              isUpgrade(yield* Fiber.await(yield* Effect.fork(write)), key)
            }
            yield* outer.verify
          })
        )
        expect(count(key, "acquire")).toBe(1)
        yield* expectNothing(key)
        yield* Effect.scoped(ReadWriteLock.tryWriteLock(key))
      })
    )

    it.scoped("of a scoped read, of a downgraded write, of a nested read: the same", () =>
      Effect.gen(function* () {
        const key = freshKey()
        const write = Effect.exit(ReadWriteLock.withWriteLock(key)(Effect.void))
        const scoped = Effect.scoped(Effect.zipRight(ReadWriteLock.readLock(key), write))
        isUpgrade(yield* scoped, key)
        isUpgrade(
          yield* ReadWriteLock.withWriteLock(key)(({ downgrade }) =>
            Effect.zipRight(downgrade, write)
          ),
          key
        )
        isUpgrade(
          yield* ReadWriteLock.withReadLock(key)(ReadWriteLock.withReadLock(key)(write)),
          key
        )
        // a read that has ended does not count
        expect(Exit.isSuccess(yield* write)).toBe(true)
        yield* expectNothing(key)
      })
    )
  })

  layer(store, { excludeTestServices: true })("kinds that meet on one key", (it) => {
    const asLock = (key: string) => [
      Effect.scoped(Lock.tryAcquire(key)),
      Lock.withLock(key)(Effect.void)
    ]
    const asSemaphore = (key: string) => [
      Effect.scoped(Semaphore.tryAcquire(key, { limit: 3 })),
      Semaphore.withPermits(key, { limit: 3 })(Effect.void)
    ]
    const asReadWrite = (key: string) => [
      Effect.scoped(ReadWriteLock.tryReadLock(key)),
      Effect.scoped(ReadWriteLock.tryWriteLock(key)),
      ReadWriteLock.withReadLock(key)(Effect.void),
      ReadWriteLock.withWriteLock(key)(Effect.void)
    ]

    it.scoped("held, or only waited for, as another: refused, and nothing changes", () =>
      Effect.gen(function* () {
        const holders = [
          ["semaphore", (key: string) => held(Semaphore.acquire(key, { limit: 1 }))],
          ["lock", (key: string) => held(Lock.acquire(key))],
          ["read-write lock", reader],
          ["read-write lock", writer]
        ] as const
        const askers = [
          ["semaphore", asSemaphore],
          ["lock", asLock],
          ["read-write lock", asReadWrite]
        ] as const
        for (const [found, hold] of holders) {
          for (const [asked, attempts] of askers) {
            if (found === asked) continue
            const key = freshKey()
            const { lease, release } = yield* hold(key)
            for (const attempt of attempts(key)) {
              expect(yield* Effect.flip(attempt)).toEqual(refusal(key, found, asked))
            }
            expect(yield* lookAt(key)).toMatchObject({ heldCount: 1, pendingCount: 0 })
            yield* lease.verify
            yield* release
            for (const attempt of attempts(key)) yield* attempt
            yield* expectNothing(key)
          }
        }
      })
    )
  })
})
