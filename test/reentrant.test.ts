/** The option `reentrant`: what a fiber has that takes what it has already. */
import { describe, expect, layer } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Chunk from "effect/Chunk"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as FiberRef from "effect/FiberRef"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
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
import { currentHolds } from "../src/internal/face/currentHolds.js"
import { finalizerCount } from "./redis/support.js"
import { refusal } from "./support/kinds.js"
import { freshKeys, isPending, lookAt, untilFree, warnings } from "./support/several.js"
import { freshKey, lose, quiet, StoreControls, stores } from "./support/stores.js"

// ---------------------------------------------------------------- helpers

const reentrant = { reentrant: true } as const
const soon = { waitAtMost: 30 } as const
const unavailable = expect.objectContaining({ _tag: "LockUnavailable" })
const released = expect.objectContaining({ _tag: "LockLost", reason: "Released" })

const fenceOf = ({ fencingToken, token }: Lease.Lease) => Effect.succeed({ fencingToken, token })

/** As in a fiber that holds nothing, and was forked from nobody who does. */
const elsewhere = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.locally(effect, currentHolds, undefined)

const failuresOf = <A, E>(exit: Exit.Exit<A, E>): ReadonlyArray<E> =>
  Exit.isFailure(exit) ? Chunk.toReadonlyArray(Cause.failures(exit.cause)) : []

const expectDefect = (exit: Exit.Exit<unknown, unknown>, ...texts: ReadonlyArray<string>) => {
  const [defect] = Exit.isFailure(exit) ? Chunk.toReadonlyArray(Cause.defects(exit.cause)) : []
  expect(defect, `${String(exit)}`).toSatisfy(Cause.isIllegalArgumentException)
  for (const text of texts) expect((defect as Error).message).toContain(text)
}

type Errors = LockError.LockError
type Needs = LockStore.LockStore | Scope.Scope
interface Had {
  readonly fencingToken: number
  readonly token: string
}

type Outer = (
  key: string
) => <A, E, R>(
  body: (lease: Lease.Lease) => Effect.Effect<A, E, R>
) => Effect.Effect<A, E | Errors, R | Needs>

/** The ways to be inside of a lease. */
const outers: Record<string, Outer> = {
  withLock: (key) => Lock.withLock(key),
  withLockIfAvailable: (key) => (body) =>
    Effect.map(Lock.withLockIfAvailable(key)(body), Option.getOrThrow),
  "the guard of acquire": (key) => (body) =>
    Effect.flatMap(Lock.acquire(key), (lease) => lease.guard(body(lease))),
  "the guard of tryAcquire": (key) => (body) =>
    Effect.flatMap(Lock.tryAcquire(key), (lease) => lease.guard(body(lease)))
}

/** The ways to take it again. */
const inners: Record<string, (key: string) => Effect.Effect<Had, Errors, Needs>> = {
  withLock: (key) => Lock.withLock(key, { ...reentrant, ...soon })(fenceOf),
  "withLock, the body first": (key) => Lock.withLock(fenceOf, key, { ...reentrant, ...soon }),
  withLockIfAvailable: (key) =>
    Effect.map(Lock.withLockIfAvailable(key, reentrant)(fenceOf), Option.getOrThrow),
  acquire: (key) => Effect.flatMap(Lock.acquire(key, { ...reentrant, ...soon }), fenceOf),
  tryAcquire: (key) => Effect.flatMap(Lock.tryAcquire(key, reentrant), fenceOf),
  "withLocks of the one key": (key) =>
    MultiLock.withLocks([key], { ...reentrant, ...soon })(({ leases }) => fenceOf(leases[0]!))
}

/** The fibers from which it is taken. */
const fibers: Record<string, <A, E, R>(inner: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>> = {
  "the fiber itself": (inner) => inner,
  "after it was suspended": (inner) => Effect.zipRight(Effect.sleep(1), inner),
  "a fork": (inner) => Effect.flatMap(Effect.fork(inner), Fiber.join),
  "a daemon": (inner) => Effect.flatMap(Effect.forkDaemon(inner), Fiber.join),
  "a fork of a fork": (inner) =>
    Effect.flatMap(
      Effect.fork(
        Effect.flatMap(Effect.fork(Effect.zipRight(Effect.yieldNow(), inner)), Fiber.join)
      ),
      Fiber.join
    ),
  "one of several": (inner) =>
    Effect.map(Effect.all([inner, Effect.void], { concurrency: "unbounded" }), ([had]) => had),
  "with a timeout": (inner) =>
    Effect.map(Effect.timeoutOption(inner, "5 seconds"), Option.getOrThrow),
  "a finalizer": (inner) =>
    Effect.gen(function* () {
      const ended = yield* Deferred.make<
        Effect.Effect.Success<typeof inner>,
        Effect.Effect.Error<typeof inner>
      >()
      yield* Effect.ensuring(Effect.void, Effect.intoDeferred(inner, ended))
      return yield* Deferred.await(ended)
    })
}

// ---------------------------------------------------------------- tests

describe.each(stores)("%s", (_, rawStore) => {
  const store = Layer.merge(rawStore, quiet)

  layer(store, { excludeTestServices: true })("a lock inside of itself", (it) => {
    for (const [outer, take] of Object.entries(outers)) {
      for (const [inner, again] of Object.entries(inners)) {
        it.scoped(`is the same one: ${inner} in ${outer}`, () =>
          Effect.gen(function* () {
            const key = freshKey()
            const { count } = yield* StoreControls
            yield* take(key)((lease) =>
              Effect.gen(function* () {
                for (const fiber of Object.values(fibers)) {
                  const { fencingToken, token } = lease
                  expect(yield* fiber(again(key))).toEqual({ fencingToken, token })
                  yield* Effect.scoped(again(key))
                }
                // nothing was asked of the store, and nothing given back
                expect(count(key, "acquire")).toBe(1)
                expect(count(key, "release")).toBe(0)
                yield* lease.verify
                expect(yield* Effect.flip(elsewhere(Effect.scoped(Lock.tryAcquire(key))))).toEqual(
                  unavailable
                )
              })
            )
          })
        )
      }
    }

    it.scoped("is another one without the option, also where the outer one has it", () =>
      Effect.gen(function* () {
        const key = freshKey()
        const errors = yield* Lock.withLock(
          key,
          reentrant
        )(() =>
          Effect.all([
            Effect.flip(Lock.withLock(key, soon)(Effect.void)),
            Effect.flip(Lock.withLock(key, { ...soon, reentrant: false })(Effect.void)),
            Effect.flip(Effect.scoped(Lock.tryAcquire(key, { reentrant: undefined })))
          ])
        )
        expect(errors).toEqual([unavailable, unavailable, unavailable])
      })
    )

    it.scoped("is another one behind a scoped acquire by itself, which its fiber is told", () =>
      Effect.gen(function* () {
        const key = freshKey()
        const { layer, lines } = warnings()
        yield* Lock.acquire(key)
        const again = Lock.withLock(key, { ...reentrant, ...soon })(Effect.void)
        expect(yield* Effect.flip(Effect.provide(again, layer))).toEqual(unavailable)
        expect(lines[0]).toContain("waits for itself")
      })
    )

    it.scoped("of another key, or in another store, is another one", () =>
      Effect.gen(function* () {
        const [key, other] = [freshKey(), freshKey()]
        yield* Lock.withLock(key)((outer) =>
          Effect.gen(function* () {
            const beside = yield* Lock.withLock(other, reentrant)(fenceOf)
            expect(beside.token).not.toBe(outer.token)
            const there = yield* Lock.withLock(
              key,
              reentrant
            )(fenceOf).pipe(Effect.provide(Layer.fresh(MemoryLockStore.layer)))
            expect(there.token).not.toBe(outer.token)
          })
        )
      })
    )

    it.scoped("after the outer one has ended it is another one", () =>
      Effect.gen(function* () {
        const key = freshKey()
        const goOn = yield* Deferred.make<void>()
        const [daemon, outer] = yield* Lock.withLock(key)((outer) =>
          Effect.map(
            Effect.forkDaemon(
              Effect.zipRight(
                Deferred.await(goOn),
                Lock.withLock(
                  key,
                  reentrant
                )((lease) =>
                  Effect.zip(
                    fenceOf(lease),
                    Effect.flip(elsewhere(Effect.scoped(Lock.tryAcquire(key))))
                  )
                )
              )
            ),
            (daemon) => [daemon, outer] as const
          )
        )
        yield* Deferred.succeed(goOn, undefined)
        const [inner, error] = yield* Fiber.join(daemon)
        expect(inner.fencingToken).toBeGreaterThan(outer.fencingToken)
        expect(error).toEqual(unavailable)
        yield* untilFree(key)
      })
    )

    it.scoped("ends with the outer one: a daemon that is in it then is interrupted", () =>
      Effect.gen(function* () {
        const key = freshKey()
        const inside = yield* Deferred.make<void>()
        const cleaned = yield* Deferred.make<void>()
        const daemon = yield* Lock.withLock(key)(() =>
          Effect.zipLeft(
            Effect.forkDaemon(
              Lock.withLock(
                key,
                reentrant
              )(
                Effect.zipRight(Deferred.succeed(inside, undefined), Effect.never).pipe(
                  Effect.onInterrupt(() => Deferred.succeed(cleaned, undefined))
                )
              )
            ),
            Deferred.await(inside)
          )
        )
        expect(yield* Effect.flip(Fiber.join(daemon))).toEqual(released)
        expect(yield* Deferred.isDone(cleaned)).toBe(true)
        yield* untilFree(key)
      })
    )

    it.scoped("several at once do not exclude each other", () =>
      Effect.gen(function* () {
        const key = freshKey()
        const inside = [yield* Deferred.make<void>(), yield* Deferred.make<void>()] as const
        // (each waits until the other is in as well)
        const meet = (own: 0 | 1) =>
          Lock.withLock(key, { ...reentrant, ...soon })(
            Effect.zipRight(
              Deferred.succeed(inside[own], undefined),
              Deferred.await(inside[own === 0 ? 1 : 0])
            )
          )
        yield* Lock.withLock(key)(
          Effect.all([meet(0), meet(1)], { concurrency: "unbounded" }).pipe(
            Effect.timeout("5 seconds")
          )
        )
      })
    )

    it.scoped("has the ttl of the outer one, and says what is impossible all the same", () =>
      Effect.gen(function* () {
        const key = freshKey()
        yield* Lock.withLock(key, { ttl: "5 seconds" })(
          Effect.gen(function* () {
            const remaining = yield* Lock.withLock(key, { ...reentrant, ttl: "1 minute" })(
              (lease) => lease.remaining
            )
            expect(Duration.toMillis(remaining)).toBeGreaterThan(0)
            expect(Duration.toMillis(remaining)).toBeLessThan(5_000)
            const again = (options: object) =>
              Effect.exit(Lock.withLock(key, { ...reentrant, ...options })(Effect.die("ran")))
            expectDefect(yield* again({ ttl: 0 }), "option ttl: 0 ms")
            expectDefect(yield* again({ waitAtMost: -1 }), "option waitAtMost: -1 ms")
            expectDefect(yield* again({ reentrant: 1 }), "option reentrant: 1")
          })
        )
      })
    )

    it.scoped("is lost with the outer one", () =>
      Effect.gen(function* () {
        const key = freshKey()
        const seen: Array<Exit.Exit<unknown, unknown>> = []
        const exit = yield* Effect.exit(
          Lock.withLock(key)((outer) =>
            Lock.withLock(
              key,
              reentrant
            )((inner) =>
              lose(outer).pipe(
                Effect.zipRight(Effect.never),
                Effect.onInterrupt(() =>
                  Effect.map(inner.isHeld, (held) => expect(held).toBe(false))
                )
              )
            ).pipe(Effect.onExit((exit) => Effect.sync(() => seen.push(exit))))
          )
        )
        expect(failuresOf(exit)).toMatchObject([{ _tag: "LockLost", reason: "Missing", key }])
        expect(seen).toHaveLength(1)
        expect(Exit.isFailure(seen[0]!)).toBe(true)
      })
    )

    it.scoped("fails with a loss also where its body succeeds, and then is another one", () =>
      Effect.gen(function* () {
        const key = freshKey()
        const exit = yield* Effect.exit(
          Lock.withLock(key)((outer) =>
            Effect.uninterruptible(
              Effect.gen(function* () {
                const lost = yield* Effect.flip(Lock.withLock(key, reentrant)(() => lose(outer)))
                expect(lost).toMatchObject({ _tag: "LockLost", reason: "Missing", key })
                const own = yield* Lock.withLock(key, reentrant)(fenceOf)
                expect(own.fencingToken).toBeGreaterThan(outer.fencingToken)
              })
            )
          )
        )
        expect(failuresOf(exit)).toMatchObject([{ _tag: "LockLost", reason: "Missing", key }])
        yield* untilFree(key)
      })
    )

    it.scoped("of a lease whose proof ended while the process was stopped, it is another one", () =>
      Effect.gen(function* () {
        const key = freshKey()
        const exit = yield* Effect.exit(
          Lock.withLock(key, { ttl: 100 })((outer) =>
            Effect.uninterruptible(
              Effect.suspend(() => {
                const until = performance.now() + 150
                while (performance.now() < until);
                // (no timer has told of it yet)
                return Effect.map(Lock.withLock(key, reentrant)(fenceOf), (own) =>
                  expect(own.fencingToken).toBeGreaterThan(outer.fencingToken)
                )
              })
            )
          )
        )
        expect(failuresOf(exit)).toMatchObject([{ _tag: "LockLost", reason: "Unreachable", key }])
        yield* untilFree(key)
      })
    )

    it.scoped("an inner release, or the end of its scope, ends the inner use alone", () =>
      Effect.gen(function* () {
        const key = freshKey()
        yield* Lock.withLock(key)((outer) =>
          Effect.gen(function* () {
            const inner = yield* Lock.acquire(key, reentrant)
            const { signal } = inner
            expect(signal.aborted).toBe(false)
            yield* inner.release
            yield* inner.release
            expect(signal.reason).toEqual(released)
            expect(yield* inner.isHeld).toBe(false)
            expect(yield* Effect.flip(inner.guard(Effect.die("ran")))).toEqual(released)
            const left = yield* Effect.scoped(Lock.acquire(key, reentrant))
            expect(yield* left.isHeld).toBe(false)
            yield* outer.verify
            expect(yield* outer.isHeld).toBe(true)
          })
        )
        yield* untilFree(key)
      })
    )

    it.scoped("an inner one that has ended is not told of a loss of the outer one", () =>
      Effect.gen(function* () {
        const key = freshKey()
        const outer = yield* Lock.acquire(key)
        const take = outer.guard(Lock.acquire(key, reentrant))
        const [first, second] = [yield* take, yield* take]
        const ended = yield* Effect.fork(first.awaitLost)
        const going = yield* Effect.fork(second.awaitLost)
        yield* Effect.yieldNow()
        yield* first.release
        yield* lose(outer)
        expect(yield* Effect.flip(Fiber.join(going))).toMatchObject({ reason: "Missing", key })
        expect(yield* isPending(ended)).toBe(true)
      })
    )

    it.scoped("leaves nothing in a long-lived scope after an early release", () =>
      Effect.gen(function* () {
        const key = freshKey()
        yield* Lock.withLock(key)(
          Effect.gen(function* () {
            const scope = yield* Scope.make()
            for (let n = 0; n < 10; n++) {
              const lease = yield* Scope.extend(Lock.acquire(key, reentrant), scope)
              yield* lease.release
            }
            expect(finalizerCount(scope)).toBe(0)
            yield* Scope.close(scope, Exit.void)
          })
        )
      })
    )

    it.scoped("an interruption of its caller waits for it", () =>
      Effect.gen(function* () {
        const key = freshKey()
        const events: Array<string> = []
        yield* Lock.withLock(key)(
          Effect.gen(function* () {
            const inside = yield* Deferred.make<void>()
            const fiber = yield* Effect.fork(
              Lock.withLock(
                key,
                reentrant
              )(
                Effect.zipRight(Deferred.succeed(inside, undefined), Effect.never).pipe(
                  Effect.onInterrupt(() =>
                    Effect.zipRight(
                      Effect.sleep(10),
                      Effect.sync(() => events.push("cleaned"))
                    )
                  )
                )
              )
            )
            yield* Deferred.await(inside)
            yield* Fiber.interrupt(fiber)
            expect(events).toEqual(["cleaned"])
          })
        )
      })
    )

    it.scoped("as deep as one likes", () =>
      Effect.gen(function* () {
        const key = freshKey()
        const { count } = yield* StoreControls
        const down = (depth: number): Effect.Effect<number, Errors, LockStore.LockStore> =>
          depth === 0
            ? Effect.succeed(0)
            : Effect.map(
                Lock.withLock(key, reentrant)(Effect.suspend(() => down(depth - 1))),
                (n) => n + 1
              )
        expect(yield* down(2_000)).toBe(2_000)
        expect(count(key, "acquire")).toBe(1)
        yield* untilFree(key)
      })
    )

    it.scoped("what a fiber knows of a lease that has ended does not keep the lease", () =>
      Effect.gen(function* () {
        const known = yield* Effect.scoped(
          Effect.gen(function* () {
            yield* Lock.acquire(freshKey())
            const known = yield* FiberRef.get(currentHolds)
            expect(known?.hold.lease).toBeDefined()
            return known
          })
        )
        expect(known?.hold.lease).toBeUndefined()
      })
    )

    it.scoped("in a store without the controls of these tests", () =>
      Effect.gen(function* () {
        const { bare } = yield* StoreControls
        const [a, b] = freshKeys(2) as [string, string]
        yield* MultiLock.withLocks([b, a])((outer) =>
          Effect.gen(function* () {
            for (const { fencingToken, key, token } of outer.leases) {
              const inner = yield* Lock.withLock(key, { ...reentrant, ...soon })(fenceOf)
              expect(inner).toEqual({ fencingToken, token })
              yield* MultiLock.withLocks([key], reentrant)(({ verify }) => verify)
            }
          })
        ).pipe(Effect.provideService(LockStore.LockStore, bare))
        const again = Lock.withLock(a, { ...reentrant, ...soon })(fenceOf)
        const same = Lock.withLock(a)(({ token }) =>
          Effect.map(again, (inner) => inner.token === token)
        )
        expect(yield* Effect.provideService(same, LockStore.LockStore, bare)).toBe(true)
        // the same server, and another store
        const other = Lock.withLock(a)(
          Effect.flip(Effect.provideService(again, LockStore.LockStore, bare))
        )
        expect(yield* other).toEqual(unavailable)
        yield* untilFree(a)
        yield* untilFree(b)
      })
    )
  })

  layer(store, { excludeTestServices: true })("permits inside of permits", (it) => {
    it.scoped("are some of the same ones, up to as many", () =>
      Effect.gen(function* () {
        const key = freshKey()
        const { count } = yield* StoreControls
        const options = { limit: 3, ...reentrant, ...soon }
        yield* Semaphore.withPermits(key, { limit: 3, permits: 2 })((outer) =>
          Effect.gen(function* () {
            for (const permits of [undefined, 1, 2]) {
              const inner = yield* Semaphore.withPermits(key, { ...options, permits })((lease) =>
                Effect.succeed(lease)
              )
              expect(inner.permits).toBe(permits ?? 1)
              expect(inner.token).toBe(outer.token)
              expect(inner.fencingToken).toBe(outer.fencingToken)
              expect(inner.fencingFloor).toBe(outer.fencingFloor)
            }
            const scoped = yield* Semaphore.tryAcquire(key, { limit: 3, permits: 2, ...reentrant })
            expect(yield* scoped.isHeld).toBe(true)
            const maybe = Semaphore.withPermitsIfAvailable(key, { limit: 3, ...reentrant })
            expect(yield* maybe(Effect.succeed(1))).toEqual(Option.some(1))
            expect(yield* Semaphore.inUse(key)).toBe(2)
            expect(count(key, "acquire")).toBe(1)
            // without the option they are others
            yield* Semaphore.withPermits(key, { limit: 3, ...soon })(({ token }) =>
              Effect.map(Semaphore.inUse(key), (inUse) => {
                expect(inUse).toBe(3)
                expect(token).not.toBe(outer.token)
              })
            )
          })
        )
        yield* untilFree(key)
      })
    )

    it.scoped("more of them than the outer lease has are a defect that says so", () =>
      Effect.gen(function* () {
        const key = freshKey()
        const { count } = yield* StoreControls
        const more = { limit: 3, permits: 3, ...reentrant }
        const attempts: ReadonlyArray<Effect.Effect<unknown, unknown, LockStore.LockStore>> = [
          Semaphore.withPermits(key, more)(Effect.die("ran")),
          Semaphore.withPermitsIfAvailable(key, more)(Effect.die("ran")),
          Effect.scoped(Semaphore.acquire(key, more)),
          Effect.scoped(Semaphore.tryAcquire(key, more))
        ]
        yield* Semaphore.withPermits(key, { limit: 3, permits: 2 })((outer) =>
          Effect.gen(function* () {
            for (const attempt of attempts) {
              expectDefect(
                yield* Effect.exit(attempt),
                "option permits: 3",
                JSON.stringify(key),
                "are 2"
              )
            }
            yield* outer.verify
          })
        )
        expect(count(key, "acquire")).toBe(1)
      })
    )

    it.scoped(
      "with another limit share as well: the outer one's counts, and that is warned about",
      () =>
        Effect.gen(function* () {
          const key = freshKey()
          const { layer, lines } = warnings()
          const inner = Semaphore.withPermits(key, { limit: 1, ...reentrant, ...soon })(fenceOf)
          yield* Semaphore.withPermits(key, { limit: 3 })(({ token }) =>
            Effect.map(Effect.zip(inner, inner), ([first, second]) => {
              expect([first.token, second.token]).toEqual([token, token])
            })
          ).pipe(Effect.zipLeft(Effect.sleep(1)), Effect.provide(layer))
          expect(lines).toHaveLength(1)
          expect(lines[0]).toContain("asked for with a limit of 1, and a holder has a limit of 3")
          expect(lines[0]).toContain("the holder's limit counts")
        })
    )
  })

  layer(store, { excludeTestServices: true })("readers and writers inside of each other", (it) => {
    const { withReadLock, withWriteLock } = ReadWriteLock
    const outsiderReads = (key: string) =>
      elsewhere(Effect.exit(Effect.scoped(ReadWriteLock.tryReadLock(key))))

    it.scoped("a write in a write is the same one, and so is a read in a write", () =>
      Effect.gen(function* () {
        const key = freshKey()
        const { count } = yield* StoreControls
        yield* withWriteLock(key)((outer) =>
          Effect.gen(function* () {
            const { fencingToken, token } = outer
            const options = { ...reentrant, ...soon }
            const seen = [
              yield* withWriteLock(key, options)(fenceOf),
              yield* withReadLock(key, options)(fenceOf),
              yield* Effect.flatMap(ReadWriteLock.writeLock(key, options), fenceOf),
              yield* Effect.flatMap(ReadWriteLock.tryWriteLock(key, reentrant), fenceOf),
              yield* Effect.flatMap(ReadWriteLock.readLock(key, options), fenceOf),
              yield* withWriteLock(
                key,
                options
              )(withReadLock(key, options)(withWriteLock(key, options)(fenceOf)))
            ]
            for (const inner of seen) expect(inner).toEqual({ fencingToken, token })
            const maybe = ReadWriteLock.withWriteLockIfAvailable(key, reentrant)(Effect.succeed(1))
            expect(yield* maybe).toEqual(Option.some(1))
            expect(count(key, "acquire")).toBe(1)
            // without the option they are others
            expect(yield* Effect.flip(withReadLock(key, soon)(Effect.void))).toEqual(unavailable)
            expect(yield* Effect.flip(withWriteLock(key, soon)(Effect.void))).toEqual(unavailable)
            yield* outer.verify
          })
        )
        yield* untilFree(key)
      })
    )

    it.scoped("a write in a read is an upgrade, with the option as well", () =>
      Effect.gen(function* () {
        const key = freshKey()
        const write = Effect.exit(withWriteLock(key, reentrant)(Effect.die("ran")))
        yield* withReadLock(key)(() =>
          Effect.map(write, (exit) => expectDefect(exit, "Impossible upgrade"))
        )
        yield* withWriteLock(key)(({ downgrade }) =>
          Effect.map(Effect.zipRight(downgrade, write), (exit) =>
            expectDefect(exit, "Impossible upgrade")
          )
        )
      })
    )

    it.scoped(
      "an inner downgrade is of the inner use alone, and what is inside of that reads",
      () =>
        Effect.gen(function* () {
          const key = freshKey()
          // as it is written for those who call it by itself
          const publish = withWriteLock(
            key,
            reentrant
          )((lease) =>
            Effect.gen(function* () {
              yield* lease.downgrade
              expect(yield* Effect.flip(lease.downgrade)).toMatchObject({
                operation: "reshare",
                transient: false
              })
              const nested = yield* withReadLock(key, soon)(fenceOf)
              expect(nested.token).toBe(lease.token)
              const write = withWriteLock(key, reentrant)(Effect.die("ran"))
              expectDefect(yield* Effect.exit(write), "Impossible upgrade")
              return yield* outsiderReads(key)
            })
          )
          expect(Exit.isSuccess(yield* publish)).toBe(true)
          yield* withWriteLock(key)((outer) =>
            Effect.gen(function* () {
              expect(failuresOf(yield* publish)).toEqual([unavailable])
              const { inner } = outer as unknown as { readonly inner: ReadonlySet<unknown> }
              expect(inner.size).toBe(0)
              // the outer one writes still
              yield* withWriteLock(key, reentrant)(Effect.void)
              yield* outer.verify
              expect(failuresOf(yield* outsiderReads(key))).toEqual([unavailable])
            })
          )
          yield* untilFree(key)
        })
    )

    it.scoped("a downgrade of the outer one ends the writes inside, and not the reads", () =>
      Effect.gen(function* () {
        const key = freshKey()
        yield* withWriteLock(key)((outer) =>
          Effect.gen(function* () {
            const stay = (
              ways: typeof withReadLock | typeof withWriteLock,
              first: Effect.Effect<void>
            ) =>
              Effect.gen(function* () {
                const inside = yield* Deferred.make<void>()
                const body = first.pipe(
                  Effect.zipRight(Deferred.succeed(inside, undefined)),
                  Effect.zipRight(Effect.never)
                )
                const fiber = yield* Effect.fork(ways(key, reentrant)(body))
                yield* Deferred.await(inside)
                return fiber
              })
            const write = yield* stay(withWriteLock, Effect.void)
            const read = yield* stay(withReadLock, Effect.void)
            const scoped = yield* ReadWriteLock.writeLock(key, reentrant)
            const down = yield* ReadWriteLock.writeLock(key, reentrant)
            yield* down.downgrade
            yield* outer.downgrade
            expect(yield* Effect.flip(Fiber.join(write))).toEqual(released)
            expect(yield* scoped.isHeld).toBe(false)
            expect(yield* Effect.flip(scoped.downgrade)).toEqual(released)
            expect(yield* isPending(read)).toBe(true)
            expect(yield* down.isHeld).toBe(true)
            expect(Exit.isSuccess(yield* outsiderReads(key))).toBe(true)
            yield* outer.verify
          })
        )
        yield* untilFree(key)
      })
    )
  })

  layer(store, { excludeTestServices: true })("several keys inside of each other", (it) => {
    it.scoped("some of the outer ones are the same ones", () =>
      Effect.gen(function* () {
        const keys = freshKeys(3)
        const [a, b, c] = keys as [string, string, string]
        const { count } = yield* StoreControls
        yield* MultiLock.withLocks(keys)((outer) =>
          Effect.gen(function* () {
            const options = { ...reentrant, ...soon }
            const tokens = Object.fromEntries(outer.leases.map(({ key, token }) => [key, token]))
            for (const some of [[c, a], [b], [b, b], keys]) {
              const seen = yield* MultiLock.withLocks(
                some,
                options
              )((inner) => {
                for (const key of some) {
                  expect(inner.fencingToken(key)).toBe(outer.fencingToken(key))
                }
                if (!some.includes(b))
                  expect(() => inner.fencingToken(b)).toThrow("not among those")
                return Effect.zipRight(inner.verify, Effect.succeed(inner.leases))
              })
              expect(seen.map(({ key }) => key)).toEqual(some)
              expect(seen.map(({ token }) => token)).toEqual(some.map((key) => tokens[key]))
            }
            const single = yield* Lock.withLock(b, options)(fenceOf)
            expect(single).toEqual({ fencingToken: outer.fencingToken(b), token: tokens[b] })
            const scoped = yield* MultiLock.acquire([c], options)
            yield* scoped.leases[0]!.release
            expect(yield* scoped.isHeld).toBe(false)
            const maybe = MultiLock.withLocksIfAvailable([a], reentrant)(Effect.succeed(1))
            expect(yield* maybe).toEqual(Option.some(1))
            expect(keys.map((key) => count(key, "acquire"))).toEqual([1, 1, 1])
            yield* outer.verify
          })
        )
        for (const key of keys) yield* untilFree(key)
      })
    )

    it.scoped("that no one lease has are a defect that names them; others are taken as ever", () =>
      Effect.gen(function* () {
        const [a, b, c] = freshKeys(3) as [string, string, string]
        const attempts = (
          keys: ReadonlyArray<string>
        ): ReadonlyArray<Effect.Effect<unknown, unknown, LockStore.LockStore>> => [
          MultiLock.withLocks(keys, reentrant)(Effect.die("ran")),
          MultiLock.withLocksIfAvailable(keys, reentrant)(Effect.die("ran")),
          Effect.scoped(MultiLock.acquire(keys, reentrant)),
          Effect.scoped(MultiLock.tryAcquire(keys, reentrant))
        ]
        const { count } = yield* StoreControls
        // (whichever of them it is in the order in which they are taken)
        yield* Lock.withLock(c)(
          Effect.gen(function* () {
            for (const attempt of attempts([a, c])) {
              expectDefect(yield* Effect.exit(attempt), "option keys: ", JSON.stringify([a, c]))
            }
          })
        )
        yield* Lock.withLock(a)(
          Effect.gen(function* () {
            for (const attempt of attempts([b, a])) {
              expectDefect(yield* Effect.exit(attempt), "option keys: ", JSON.stringify([b, a]))
            }
            yield* Lock.withLock(b)(
              Effect.gen(function* () {
                for (const attempt of attempts([a, b])) {
                  expectDefect(yield* Effect.exit(attempt), "option keys: ", JSON.stringify([a, b]))
                }
              })
            )
            const other = yield* MultiLock.withLocks(
              [c],
              reentrant
            )(({ leases }) => fenceOf(leases[0]!))
            expect(other.fencingToken).toBeGreaterThan(0)
          })
        )
        expect([a, b, c].map((key) => count(key, "acquire"))).toEqual([1, 1, 2])
        expectDefect(
          yield* Effect.exit(MultiLock.withLocks([], reentrant)(Effect.void)),
          "option keys: []"
        )
      })
    )

    it.scoped("end with the outer ones, whichever of these is lost", () =>
      Effect.gen(function* () {
        const [a, b] = freshKeys(2) as [string, string]
        const exit = yield* Effect.exit(
          MultiLock.withLocks([a, b])(({ leases }) =>
            Lock.withLock(a, reentrant)(() => Effect.zipRight(lose(leases[1]!), Effect.never))
          )
        )
        expect(failuresOf(exit)).toMatchObject([{ _tag: "LockLost", reason: "Missing", key: b }])
        for (const key of [a, b]) yield* untilFree(key)
      })
    )
  })

  layer(store, { excludeTestServices: true })("another kind", (it) => {
    it.scoped("of the same key is refused as without the option, and changes nothing", () =>
      Effect.gen(function* () {
        const key = freshKey()
        yield* Lock.withLock(key)((outer) =>
          Effect.gen(function* () {
            const permits = Semaphore.withPermits(key, { limit: 2, ...reentrant })(Effect.void)
            expect(yield* Effect.flip(permits)).toEqual(refusal(key, "lock", "semaphore"))
            const read = ReadWriteLock.withReadLock(key, reentrant)(Effect.void)
            expect(yield* Effect.flip(read)).toEqual(refusal(key, "lock", "read-write lock"))
            yield* outer.verify
          })
        )
        yield* Semaphore.withPermits(key, { limit: 2 })((outer) =>
          Effect.gen(function* () {
            const lock = Lock.withLock(key, reentrant)(Effect.void)
            expect(yield* Effect.flip(lock)).toEqual(refusal(key, "semaphore", "lock"))
            expect(yield* lookAt(key)).toMatchObject({ heldCount: 1, pendingCount: 0 })
            yield* outer.verify
          })
        )
        yield* untilFree(key)
      })
    )
  })
})
