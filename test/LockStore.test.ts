/** The store contract, and what locks and leases promise over every store. */
import { describe, expect, layer } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Chunk from "effect/Chunk"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as ExecutionStrategy from "effect/ExecutionStrategy"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as FiberRef from "effect/FiberRef"
import * as HashMap from "effect/HashMap"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import * as Scope from "effect/Scope"
import { type Lease, Lock, type LockError, LockStore } from "effect-redis-lock"
import * as LockStoreContract from "effect-redis-lock/LockStoreContract"
import { inspect } from "node:util"
import {
  ask as askOfKind,
  claimOf as claimOfKind,
  expectFree,
  expectFreeNow,
  freshKey,
  kindsOf,
  lose,
  quiet,
  StoreControls,
  everyStore,
  untilAsked
} from "./support/stores.js"
import { undisturbed } from "./redis/support.js"

// ---------------------------------------------------------------- helpers

const causeOf = <A, E>(exit: Exit.Exit<A, E>): Cause.Cause<E> =>
  Exit.isFailure(exit) ? exit.cause : Cause.empty

const failuresOf = <A, E>(exit: Exit.Exit<A, E>) =>
  Chunk.toReadonlyArray(Cause.failures(causeOf(exit)))

const lossOf = (reason: LockError.LossReason, lease: Lease.Lease) =>
  expect.objectContaining({
    _tag: "LockLost",
    reason,
    key: lease.key,
    fencingToken: lease.fencingToken
  })

const finalizersOf = (scope: Scope.Scope): number => {
  const { state } = scope as unknown as {
    readonly state: { readonly _tag: string; readonly finalizers: ReadonlyMap<object, unknown> }
  }
  return state._tag === "Open" ? state.finalizers.size : 0
}

const isPending = (fiber: Fiber.Fiber<unknown, unknown>) =>
  Effect.map(Fiber.poll(fiber), Option.isNone)

class Tariff extends Context.Tag("test/Tariff")<Tariff, number>() {}

describe.concurrent.each(everyStore)("%s", (_, rawStore, capabilities) => {
  const store = Layer.merge(rawStore, quiet)

  // -------------------------------------------------------------- the store itself

  layer(store, { excludeTestServices: true })("the store", (it) => {
    // (mostly they sleep)
    describe.concurrent("keeps the contract", () => {
      for (const { effect, name, timeoutMillis } of LockStoreContract.cases({ capabilities })) {
        it.effect(name, () => undisturbed(30, effect), 3 * timeoutMillis)
      }
    })

    // of the stores here more is promised
    describe.each(kindsOf(capabilities))("of a %s", (kind) => {
      /** With all of the capacity, as whatever kind. */
      const claimOf = (key: string, more?: Partial<LockStore.Claim>) =>
        claimOfKind(key, { kind, ...more })
      const ask = (key: string, more?: Partial<LockStore.Claim>) =>
        askOfKind(key, { kind, ...more })
      /** Of a lock, whoever has it can only have taken it. */
      const gone = kind === "lock" ? "Taken" : "Missing"

      it.effect("a token cannot be guessed, and a proof leaves out what clocks may differ", () =>
        Effect.gen(function* () {
          const { clock } = yield* LockStore.LockStore
          const before = clock.unsafeNow()
          const grant = yield* ask(freshKey(), { ttlMillis: 10_000 })
          const after = clock.unsafeNow()
          expect(grant.token.length).toBeGreaterThanOrEqual(22)
          // 1 % of the ttl and 2 ms are left to clocks that differ
          expect(grant.validUntil).toBeLessThanOrEqual(after + 10_000 - 102)
          expect(grant.validUntil).toBeGreaterThanOrEqual(before + 10_000 - 102)
          yield* grant.release
        })
      )

      it.effect("a holder is told whether its key is gone, or taken", () =>
        Effect.gen(function* () {
          const key = freshKey()
          const first = yield* ask(key)
          yield* first.release
          expect(yield* first.release).toBe("Missing")
          const second = yield* ask(key)
          expect(yield* first.verify).toBe(gone)
          expect(yield* first.renew).toEqual({ _tag: "NotOurs", reason: gone })
          expect(yield* first.release).toBe(gone)
          yield* second.release

          const expired = yield* ask(key, { ttlMillis: 100 })
          const third = yield* ask(key, { waitMillis: 10_000 })
          expect(yield* expired.verify).toBe(gone)
          yield* third.release
        })
      )

      it.effect("who is in the way is known by its owner", () =>
        Effect.gen(function* () {
          const key = freshKey()
          yield* ask(key, { owner: "the holder", ttlMillis: 100 })
          expect(yield* Effect.flip(ask(key))).toMatchObject({ holder: { owner: "the holder" } })
          const grant = yield* ask(key, { waitMillis: 5_000 })
          expect(grant.contention).toMatchObject({ holder: { owner: "the holder" } })
          yield* grant.release
        })
      )

      it.scoped("and its grants can be copied with members replaced, and show nothing", () =>
        Effect.gen(function* () {
          const { bare: inner } = yield* StoreControls
          const key = freshKey()
          const wrapped: LockStore.LockStore = {
            ...inner,
            acquire: (claim, restore) =>
              Effect.map(inner.acquire(claim, restore), (grant) => ({
                ...grant,
                renew: Effect.never
              }))
          }
          const [exit, ownership] = yield* Effect.gen(function* () {
            const grant = yield* wrapped.acquire(
              claimOf(key, { ttlMillis: 5_000 }),
              (effect) => effect
            )
            const ownership = [yield* grant.verify, yield* grant.release, yield* grant.verify]
            // nobody renews it
            const lost = Lock.withLock(key, { ttl: 200 })(Effect.never)
            return [yield* Effect.exit(lost), ownership] as const
          }).pipe(Effect.provideService(LockStore.LockStore, wrapped))
          expect(ownership).toEqual(["Ours", "Ours", "Missing"])
          expect(failuresOf(exit)).toMatchObject([{ _tag: "LockLost", reason: "Unreachable" }])
          yield* expectFreeNow(key)
          for (const shown of [inspect({ ...inner }), JSON.stringify({ ...inner })]) {
            expect(shown).toMatch(/LockStore/)
            expect(shown.length).toBeLessThan(100)
          }
        })
      )
    })
  })

  // -------------------------------------------------------------- taking a lock

  layer(store, { excludeTestServices: true })("taking a lock", (it) => {
    it.scoped("one at a time, and fencing tokens grow with every grant", () =>
      Effect.gen(function* () {
        const key = freshKey()
        const tokens: Array<number> = []
        let inside = 0
        const section = Lock.withLock(key, { ttl: "2 seconds" })((lease: Lease.Lease) =>
          Effect.gen(function* () {
            expect(++inside).toBe(1)
            tokens.push(lease.fencingToken)
            yield* Effect.sleep(1)
            expect(yield* lease.isHeld).toBe(true)
            expect(--inside).toBe(0)
          })
        )
        yield* Effect.all(
          Array.from({ length: 5 }, () => section),
          { concurrency: "unbounded" }
        )
        expect(tokens).toHaveLength(5)
        expect(tokens).toEqual([...new Set(tokens)].sort((a, b) => a - b))
      })
    )

    it.scoped("fencing tokens also grow without contention, faster than a clock can tell", () =>
      Effect.gen(function* () {
        const key = freshKey()
        const tokens = yield* Effect.replicateEffect(
          Effect.scoped(Effect.map(Lock.tryAcquire(key), (lease) => lease.fencingToken)),
          50
        )
        expect(tokens).toEqual([...new Set(tokens)].sort((a, b) => a - b))
      })
    )

    it.scoped("a lease says its key, a token, its fencing token and what is left of it", () =>
      Effect.gen(function* () {
        const key = freshKey()
        const lease = yield* Lock.acquire(key, { ttl: "10 seconds" })
        expect(lease.key).toBe(key)
        expect(lease.token).not.toBe("")
        expect(Number.isSafeInteger(lease.fencingToken)).toBe(true)
        expect(yield* lease.isHeld).toBe(true)
        const left = Duration.toMillis(yield* lease.remaining)
        expect(left).toBeGreaterThan(5_000)
        expect(left).toBeLessThanOrEqual(10_000 - 102)
        yield* lease.verify
      })
    )

    it.scoped("a lock that is taken fails tryAcquire with who holds it and until when", () =>
      Effect.gen(function* () {
        const key = freshKey()
        const { clock } = yield* LockStore.LockStore
        const before = clock.unsafeNow()
        yield* Lock.acquire(key, { ttl: "20 seconds", owner: "worker 7" })
        yield* Effect.sleep(20)
        const error = yield* Effect.flip(Lock.tryAcquire(key, { owner: "worker 8" }))
        const most = clock.unsafeNow() - before
        if (error._tag !== "LockUnavailable") throw error
        expect(error).toMatchObject({ key, holder: { owner: "worker 7", foreign: false } })
        expect(Duration.toMillis(error.waited)).toBeLessThanOrEqual(most)
        expect(Duration.toMillis(error.retryAfter!)).toBeGreaterThan(10_000)
        expect(Duration.toMillis(error.retryAfter!)).toBeLessThanOrEqual(20_000)
        expect(Duration.toMillis(error.holder.heldFor!)).toBeGreaterThan(10)
        expect(Duration.toMillis(error.holder.heldFor!)).toBeLessThanOrEqual(most + 5)
        expect(error.message).toContain(`Lock "${key}" is not available`)
        expect(error.message).toContain("held by worker 7")
      })
    )

    it.scoped("a waiter gets the lock when its holder's scope closes", () =>
      Effect.gen(function* () {
        const key = freshKey()
        const scope = yield* Scope.make()
        const holder = yield* Scope.extend(Lock.acquire(key, { ttl: "2 seconds" }), scope)
        const waiter = yield* Effect.forkScoped(Effect.scoped(Lock.acquire(key)))
        yield* untilAsked(holder, 2)
        expect(yield* isPending(waiter)).toBe(true)
        yield* Scope.close(scope, Exit.void)
        const lease = yield* Fiber.join(waiter)
        expect(lease.fencingToken).toBeGreaterThan(holder.fencingToken)
      })
    )

    it.scoped("waitAtMost bounds the wait, and says how long it was", () =>
      Effect.gen(function* () {
        const key = freshKey()
        const { clock } = yield* LockStore.LockStore
        yield* Lock.acquire(key)
        const before = clock.unsafeNow()
        const error = yield* Effect.flip(
          Effect.scoped(Lock.acquire(key, { waitAtMost: "150 millis" }))
        )
        const waited = clock.unsafeNow() - before
        if (error._tag !== "LockUnavailable") throw error
        expect(waited).toBeGreaterThanOrEqual(140)
        expect(waited).toBeLessThan(2_000)
        expect(Duration.toMillis(error.waited)).toBeGreaterThanOrEqual(140)
        expect(Duration.toMillis(error.waited)).toBeLessThanOrEqual(waited + 1)
        expect(error.message).toContain("after waiting")
      })
    )

    it.scoped("waitAtMost does not bound the body", () =>
      Effect.gen(function* () {
        const value = yield* Effect.sleep(60).pipe(
          Effect.as("done"),
          Lock.withLock(freshKey(), { waitAtMost: "10 millis" })
        )
        expect(value).toBe("done")
      })
    )

    it.scoped("a waiter whose time was over leaves nothing behind", () =>
      Effect.gen(function* () {
        const key = freshKey()
        const scope = yield* Scope.make()
        yield* Scope.extend(Lock.acquire(key), scope)
        yield* Effect.flip(Effect.scoped(Lock.acquire(key, { waitAtMost: "30 millis" })))
        yield* Scope.close(scope, Exit.void)
        yield* expectFreeNow(key)
      })
    )

    it.scoped("a waiter that is interrupted leaves nothing behind", () =>
      Effect.gen(function* () {
        const key = freshKey()
        const scope = yield* Scope.make()
        const holder = yield* Scope.extend(Lock.acquire(key), scope)
        const waiter = yield* Effect.fork(Effect.scoped(Lock.acquire(key)))
        yield* untilAsked(holder, 2)
        const exit = yield* Fiber.interrupt(waiter)
        expect(Exit.isInterrupted(exit)).toBe(true)
        yield* Scope.close(scope, Exit.void)
        yield* expectFreeNow(key)
      })
    )

    it.scoped("a waiter behind one that was interrupted gets the lock", () =>
      Effect.gen(function* () {
        const key = freshKey()
        const scope = yield* Scope.make()
        const holder = yield* Scope.extend(Lock.acquire(key, { ttl: "2 seconds" }), scope)
        const first = yield* Effect.fork(Effect.scoped(Lock.acquire(key)))
        yield* untilAsked(holder, 2)
        const second = yield* Effect.fork(Effect.scoped(Lock.acquire(key)))
        yield* untilAsked(holder, 3)
        yield* Fiber.interrupt(first)
        yield* Scope.close(scope, Exit.void)
        yield* Fiber.join(second)
        yield* expectFree(key)
      })
    )

    it.scoped("an acquisition that is interrupted at any moment leaves nothing behind", () =>
      Effect.gen(function* () {
        const keys = Array.from({ length: 60 }, freshKey)
        yield* Effect.forEach(
          keys,
          (key, i) =>
            Effect.gen(function* () {
              const fiber = yield* Effect.fork(
                Effect.scoped(Effect.zipRight(Lock.acquire(key, { ttl: "1 minute" }), Effect.never))
              )
              // from before it begins to some milliseconds later
              if (i < 20) yield* Effect.replicateEffect(Effect.yieldNow(), i)
              else yield* Effect.sleep((i - 20) / 10)
              yield* Fiber.interrupt(fiber)
            }),
          { concurrency: "unbounded" }
        )
        yield* Effect.forEach(keys, expectFree, { concurrency: "unbounded" })
      })
    )

    it.scoped(
      "waiters that are interrupted just as the lock becomes free leave nothing behind",
      () =>
        Effect.gen(function* () {
          const keys = Array.from({ length: 20 }, freshKey)
          yield* Effect.forEach(
            keys,
            (key, i) =>
              Effect.gen(function* () {
                const scope = yield* Scope.make()
                const holder = yield* Scope.extend(Lock.acquire(key, { ttl: "1 minute" }), scope)
                const waiter = yield* Effect.fork(
                  Effect.scoped(
                    Effect.zipRight(Lock.acquire(key, { ttl: "1 minute" }), Effect.never)
                  )
                )
                yield* untilAsked(holder, 2)
                const closing = yield* Effect.fork(Scope.close(scope, Exit.void))
                yield* i < 10 ? Effect.replicateEffect(Effect.yieldNow(), i) : Effect.sleep(i / 10)
                yield* Fiber.interrupt(waiter)
                yield* Fiber.join(closing)
              }),
            { concurrency: "unbounded" }
          )
          yield* Effect.forEach(keys, expectFree, { concurrency: "unbounded" })
        })
    )

    it.scoped(
      "waiters whose request crosses the release, and who are interrupted, leave nothing",
      () =>
        Effect.gen(function* () {
          const { until } = yield* StoreControls
          const keys = Array.from({ length: 20 }, freshKey)
          yield* Effect.forEach(
            keys,
            (key, i) =>
              Effect.gen(function* () {
                const scope = yield* Scope.make()
                yield* Scope.extend(Lock.acquire(key, { ttl: "1 minute" }), scope)
                const waiter = yield* Effect.fork(
                  Effect.scoped(
                    Effect.zipRight(Lock.acquire(key, { ttl: "1 minute" }), Effect.never)
                  )
                )
                yield* until(key, "acquire", 2)
                yield* Scope.close(scope, Exit.void)
                yield* Effect.sleep(i * 2)
                yield* Fiber.interrupt(waiter)
              }),
            { concurrency: "unbounded" }
          )
          yield* Effect.forEach(keys, expectFree, { concurrency: "unbounded" })
        })
    )

    it.scoped("withLockIfAvailable runs the body where the lock is free: some", () =>
      Effect.gen(function* () {
        const key = freshKey()
        const some = yield* Effect.succeed(1).pipe(Lock.withLockIfAvailable(key))
        expect(some).toEqual(Option.some(1))
        const ofLease = yield* Lock.withLockIfAvailable(key)((lease) => Effect.succeed(lease.key))
        expect(ofLease).toEqual(Option.some(key))
        yield* expectFreeNow(key)
      })
    )

    it.scoped("withLockIfAvailable does not run the body where it is not: none", () =>
      Effect.gen(function* () {
        const key = freshKey()
        yield* Lock.acquire(key)
        let ran = false
        const none = yield* Effect.sync(() => (ran = true)).pipe(Lock.withLockIfAvailable(key))
        expect(none).toEqual(Option.none())
        expect(ran).toBe(false)
      })
    )

    it.scoped("withLockIfAvailable does not take a LockUnavailable of the body for its own", () =>
      Effect.gen(function* () {
        const other = freshKey()
        yield* Lock.acquire(other)
        const error = yield* Effect.scoped(Lock.tryAcquire(other)).pipe(
          Lock.withLockIfAvailable(freshKey()),
          Effect.flip
        )
        expect(error).toMatchObject({ _tag: "LockUnavailable", key: other })
      })
    )

    it.scoped("a tryAcquire that fails, also with retries, leaves no finalizer in the scope", () =>
      Effect.gen(function* () {
        const key = freshKey()
        yield* Lock.acquire(key)
        const scope = yield* Scope.make()
        yield* Lock.tryAcquire(key).pipe(
          Effect.retry(Schedule.recurs(5)),
          Scope.extend(scope),
          Effect.flip
        )
        expect(finalizersOf(scope)).toBe(0)
      })
    )

    it.scoped("an acquire that is interrupted leaves no finalizer in the scope", () =>
      Effect.gen(function* () {
        const key = freshKey()
        const holder = yield* Lock.acquire(key)
        const scope = yield* Scope.make()
        const waiter = yield* Effect.fork(Scope.extend(Lock.acquire(key), scope))
        yield* untilAsked(holder, 2)
        yield* Fiber.interrupt(waiter)
        expect(finalizersOf(scope)).toBe(0)
      })
    )

    it.scoped("an early release leaves no finalizer in a long-lived scope", () =>
      Effect.gen(function* () {
        const key = freshKey()
        const scope = yield* Scope.make()
        for (let i = 0; i < 3; i++) {
          const lease = yield* Scope.extend(Lock.acquire(key), scope)
          expect(finalizersOf(scope)).toBe(1)
          yield* lease.release
          expect(finalizersOf(scope)).toBe(0)
        }
      })
    )

    it.scoped("an early release of a lease that was lost leaves no finalizer either", () =>
      Effect.gen(function* () {
        const scope = yield* Scope.make()
        const lease = yield* Scope.extend(Lock.acquire(freshKey()), scope)
        yield* lose(lease)
        yield* Effect.exit(lease.release)
        expect(finalizersOf(scope)).toBe(0)
      })
    )

    it.scoped("a lock that is acquired into a scope that is closed already is given back", () =>
      Effect.gen(function* () {
        const key = freshKey()
        const scope = yield* Scope.make()
        yield* Scope.close(scope, Exit.void)
        yield* Effect.exit(Scope.extend(Lock.acquire(key), scope))
        yield* expectFree(key)
      })
    )
  })

  // -------------------------------------------------------------- giving it back

  layer(store, { excludeTestServices: true })("giving it back", (it) => {
    it.scoped("the scope's close releases, and renews no more", () =>
      Effect.gen(function* () {
        const key = freshKey()
        const { events, until } = yield* StoreControls
        const scope = yield* Scope.make()
        yield* Scope.extend(Lock.acquire(key, { ttl: "2 seconds", renewEvery: "10 millis" }), scope)
        yield* until(key, "renewed", 2)
        yield* Scope.close(scope, Exit.void)
        const atClose = [...events(key)]
        expect(atClose.slice(-2)).toEqual(["release", "released"])
        yield* expectFreeNow(key)
        yield* Effect.sleep(50)
        expect(events(key).slice(0, atClose.length)).toEqual(atClose)
        expect(events(key).slice(atClose.length)).not.toContain("renew")
      })
    )

    it.scoped("a scope that closes in parallel releases as well, and renews no more", () =>
      Effect.gen(function* () {
        const key = freshKey()
        const { count, events, until } = yield* StoreControls
        const scope = yield* Scope.make(ExecutionStrategy.parallel)
        const order: Array<string> = []
        yield* Scope.addFinalizer(
          scope,
          Effect.sync(() => order.push("before"))
        )
        yield* Scope.extend(Lock.acquire(key, { ttl: "2 seconds", renewEvery: "5 millis" }), scope)
        yield* Scope.addFinalizer(
          scope,
          Effect.sync(() => order.push("after"))
        )
        yield* until(key, "renewed", 2)
        yield* Scope.close(scope, Exit.void)
        expect(order.sort()).toEqual(["after", "before"])
        expect(count(key, "released")).toBe(1)
        expect(events(key).slice(events(key).indexOf("release"))).not.toContain("renew")
        yield* expectFreeNow(key)
      })
    )

    it.scoped("releasing twice, or many times at once, is releasing once", () =>
      Effect.gen(function* () {
        const key = freshKey()
        const { count } = yield* StoreControls
        const scope = yield* Scope.make()
        const lease = yield* Scope.extend(Lock.acquire(key), scope)
        yield* Effect.replicateEffect(lease.release, 5, { concurrency: "unbounded" })
        yield* lease.release
        yield* Scope.close(scope, Exit.void)
        yield* lease.release
        expect(count(key, "release")).toBe(1)
        yield* expectFreeNow(key)
      })
    )

    it.scoped("whoever releases waits until it is released", () =>
      Effect.gen(function* () {
        const key = freshKey()
        const lease = yield* Lock.acquire(key)
        yield* Effect.fork(lease.release)
        yield* Effect.yieldNow()
        yield* lease.release
        yield* expectFreeNow(key)
      })
    )

    it.scoped("a release that is interrupted is a release all the same", () =>
      Effect.gen(function* () {
        const key = freshKey()
        const lease = yield* Lock.acquire(key)
        const releasing = yield* Effect.fork(lease.release)
        yield* Effect.yieldNow()
        yield* Fiber.interrupt(releasing)
        yield* lease.release
        yield* expectFree(key)
      })
    )

    it.scoped("after a release the lease is not held, and nobody calls it lost", () =>
      Effect.gen(function* () {
        const lease = yield* Lock.acquire(freshKey())
        const before = yield* Effect.fork(lease.awaitLost)
        yield* Effect.yieldNow()
        yield* lease.release
        const after = yield* Effect.fork(lease.awaitLost)
        yield* Effect.sleep(20)
        expect(yield* isPending(before)).toBe(true)
        expect(yield* isPending(after)).toBe(true)
        yield* Fiber.interruptAll([before, after])
        expect(yield* lease.isHeld).toBe(false)
        expect(Duration.toMillis(yield* lease.remaining)).toBe(0)
        expect(yield* Effect.flip(lease.verify)).toEqual(lossOf("Released", lease))
      })
    )

    it.scoped("a stale holder's release does not release the next one's lease", () =>
      Effect.gen(function* () {
        const { giveToAnother } = yield* StoreControls
        const lease = yield* Lock.acquire(freshKey())
        const other = yield* giveToAnother(lease)
        expect(yield* Effect.flip(lease.release)).toEqual(lossOf("Taken", lease))
        expect(yield* other.verify).toBe("Ours")
      })
    )

    it.scoped("releasing a lease that was gone fails with LockLost, every time", () =>
      Effect.gen(function* () {
        const { takeAway } = yield* StoreControls
        const lease = yield* Lock.acquire(freshKey())
        yield* takeAway(lease)
        expect(yield* Effect.flip(lease.release)).toEqual(lossOf("Missing", lease))
        expect(yield* Effect.flip(lease.release)).toEqual(lossOf("Missing", lease))
      })
    )

    it.scoped("releasing a lease after its loss was known fails with that loss", () =>
      Effect.gen(function* () {
        const { giveToAnother } = yield* StoreControls
        const lease = yield* Lock.acquire(freshKey())
        const other = yield* giveToAnother(lease)
        const loss = yield* Effect.flip(lease.verify)
        expect(loss).toEqual(lossOf("Taken", lease))
        expect(yield* Effect.flip(lease.release)).toBe(loss)
        expect(yield* other.verify).toBe("Ours")
      })
    )

    it.scoped("a lease that only this process gave up is still released in the store", () =>
      Effect.gen(function* () {
        const key = freshKey()
        const { failRenewals } = yield* StoreControls
        failRenewals(key)
        const lease = yield* Lock.acquire(key, {
          ttl: "2 seconds",
          renewEvery: "50 millis",
          margin: "1800 millis"
        })
        expect(yield* Effect.flip(lease.awaitLost)).toEqual(lossOf("Unreachable", lease))
        expect(yield* Effect.flip(lease.release)).toEqual(lossOf("Unreachable", lease))
        yield* expectFreeNow(key)
      })
    )

    it.scoped("a release that the store did not confirm fails with LockStoreError", () =>
      Effect.gen(function* () {
        const key = freshKey()
        const { failReleases } = yield* StoreControls
        failReleases(key)
        const lease = yield* Lock.acquire(key, { ttl: "100 millis" })
        const error = yield* Effect.flip(lease.release)
        expect(error).toMatchObject({ _tag: "LockStoreError", operation: "release", key })
        expect(yield* lease.isHeld).toBe(false)
        // not renewed any more: the ttl ends it
        yield* Effect.scoped(Lock.acquire(key))
      })
    )

    it.scoped("neither the close of a scope nor withLock fails when only the release did", () =>
      Effect.gen(function* () {
        const key = freshKey()
        const { count, failReleases } = yield* StoreControls
        failReleases(key)
        yield* Effect.scoped(Lock.acquire(key, { ttl: "300 millis" }))
        expect(yield* Effect.succeed(1).pipe(Lock.withLock(key, { ttl: "300 millis" }))).toBe(1)
        expect(count(key, "release")).toBe(2)
      })
    )

    it.scoped("the close of a scope does not fail because the lease was lost", () =>
      Effect.gen(function* () {
        const { takeAway } = yield* StoreControls
        const value = yield* Effect.scoped(
          Effect.tap(Lock.acquire(freshKey()), (lease) => takeAway(lease))
        )
        expect(value.key).toMatch(/^key-/)
      })
    )
  })

  // -------------------------------------------------------------- keeping it

  layer(store, { excludeTestServices: true })("keeping it", (it) => {
    it.scoped("renewals keep a lease past its ttl", () =>
      Effect.gen(function* () {
        const key = freshKey()
        const { clock } = yield* LockStore.LockStore
        const { until } = yield* StoreControls
        const granted = clock.unsafeNow()
        const lease = yield* Lock.acquire(key, { ttl: "500 millis", renewEvery: "100 millis" })
        yield* until(key, "renewed", 6)
        expect(clock.unsafeNow() - granted).toBeGreaterThan(500)
        yield* lease.verify
        expect(yield* lease.isHeld).toBe(true)
        expect(yield* Effect.flip(Effect.scoped(Lock.tryAcquire(key)))).toMatchObject({
          _tag: "LockUnavailable"
        })
      })
    )

    it.scoped("a lease is renewed every half of its ttl, unless told otherwise", () =>
      Effect.gen(function* () {
        const key = freshKey()
        const { clock } = yield* LockStore.LockStore
        const { until } = yield* StoreControls
        const granted = clock.unsafeNow()
        yield* Lock.acquire(key, { ttl: "600 millis" })
        yield* until(key, "renew", 2)
        expect(clock.unsafeNow() - granted).toBeGreaterThan(560)
        expect(clock.unsafeNow() - granted).toBeLessThan(1_000)
      })
    )

    it.scoped("renewals that fail are tried again soon, and a blip loses nothing", () =>
      Effect.gen(function* () {
        const key = freshKey()
        const { count, failRenewals, heal, until } = yield* StoreControls
        const lease = yield* Lock.acquire(key, { ttl: "2 seconds", renewEvery: "50 millis" })
        failRenewals(key)
        yield* until(key, "renew", 4)
        expect(count(key, "renewed")).toBe(0)
        heal(key)
        yield* until(key, "renewed", 2)
        yield* lease.verify
        expect(yield* lease.isHeld).toBe(true)
      })
    )

    it.scoped("never more than one renewal is under way", () =>
      Effect.gen(function* () {
        const key = freshKey()
        const { count, silenceRenewals } = yield* StoreControls
        silenceRenewals(key)
        const lease = yield* Lock.acquire(key, { ttl: "300 millis", renewEvery: "20 millis" })
        expect(yield* Effect.flip(lease.awaitLost)).toEqual(lossOf("Unreachable", lease))
        expect(count(key, "renew")).toBe(1)
      })
    )

    for (const fault of ["silenceRenewals", "failRenewals"] as const) {
      it.scoped(`the body is interrupted before anyone else has the lock (${fault})`, () =>
        Effect.gen(function* () {
          const key = freshKey()
          const controls = yield* StoreControls
          const log: Array<string> = []
          // a busy machine may be late by most of the margin
          const options = {
            ttl: "1 second",
            renewEvery: "100 millis",
            margin: "500 millis"
          } as const
          const body = Lock.withLock(
            key,
            options
          )((lease) => {
            controls[fault](key)
            return Effect.never.pipe(
              Effect.onInterrupt(() =>
                Effect.zipRight(
                  Effect.sync(() => log.push("interrupted")),
                  Effect.map(Effect.sleep(5), () => log.push(`cleaned up, ${lease.key === key}`))
                )
              )
            )
          })
          const running = yield* Effect.fork(body)
          yield* controls.until(key, "granted")
          const other = yield* Lock.acquire(key)
          log.push("somebody else")
          const exit = yield* Fiber.await(running)
          expect(log).toEqual(["interrupted", "cleaned up, true", "somebody else"])
          const [loss] = failuresOf(exit)
          expect(loss).toMatchObject({ _tag: "LockLost", reason: "Unreachable", key })
          expect(other.fencingToken).toBeGreaterThan((loss as LockError.LockLost).fencingToken)
        })
      )
    }

    it.scoped("finalizers of an interrupted body run while the lease is still proven", () =>
      Effect.gen(function* () {
        const key = freshKey()
        const { silenceRenewals } = yield* StoreControls
        silenceRenewals(key)
        const held: Array<boolean> = []
        const left: Array<number> = []
        const exit = yield* Effect.exit(
          Lock.withLock(key, { ttl: "800 millis", renewEvery: "50 millis", margin: "500 millis" })(
            (lease) =>
              Effect.never.pipe(
                Effect.ensuring(
                  Effect.gen(function* () {
                    held.push(yield* lease.isHeld)
                    left.push(Duration.toMillis(yield* lease.remaining))
                  })
                )
              )
          )
        )
        expect(failuresOf(exit)).toMatchObject([{ _tag: "LockLost", reason: "Unreachable" }])
        expect(held).toEqual([true])
        expect(left[0]).toBeGreaterThan(0)
        expect(left[0]).toBeLessThanOrEqual(510)
      })
    )

    it.scoped("a lease that was lost and is given back in its margin is not held any more", () =>
      Effect.gen(function* () {
        const key = freshKey()
        const { heal, silenceRenewals } = yield* StoreControls
        silenceRenewals(key)
        const lease = yield* Lock.acquire(key, { ttl: "8 seconds", renewEvery: 50, margin: 7_500 })
        yield* Effect.flip(lease.awaitLost)
        expect(yield* lease.isHeld).toBe(true)
        heal(key)
        yield* Effect.exit(lease.release)
        const other = yield* Lock.tryAcquire(key)
        expect(yield* other.isHeld).toBe(true)
        expect(yield* lease.isHeld).toBe(false)
        expect(Duration.toMillis(yield* lease.remaining)).toBe(0)
      })
    )

    it.scoped("a renewal that finds the key gone is a loss: Missing", () =>
      Effect.gen(function* () {
        const { takeAway } = yield* StoreControls
        const lease = yield* Lock.acquire(freshKey(), { ttl: "5 seconds", renewEvery: "20 millis" })
        yield* takeAway(lease)
        expect(yield* Effect.flip(lease.awaitLost)).toEqual(lossOf("Missing", lease))
        expect(yield* lease.isHeld).toBe(false)
        expect(Duration.toMillis(yield* lease.remaining)).toBe(0)
      })
    )

    it.scoped("a renewal that finds another token is a loss: Taken", () =>
      Effect.gen(function* () {
        const key = freshKey()
        const { failRenewals, giveToAnother, heal } = yield* StoreControls
        // none may come between the end of one lease and the begin of the other
        failRenewals(key)
        const lease = yield* Lock.acquire(key, { ttl: "5 seconds", renewEvery: "20 millis" })
        const other = yield* giveToAnother(lease)
        heal(key)
        expect(yield* Effect.flip(lease.awaitLost)).toEqual(lossOf("Taken", lease))
        expect(other.fencingToken).toBeGreaterThan(lease.fencingToken)
        expect(yield* other.verify).toBe("Ours")
      })
    )

    it.scoped("verify asks the store: a loss that it finds is a loss for everyone", () =>
      Effect.gen(function* () {
        const { takeAway } = yield* StoreControls
        const lease = yield* Lock.acquire(freshKey(), { ttl: "1 minute" })
        const guarded = yield* Effect.fork(lease.guard(Effect.never))
        const awaiting = yield* Effect.fork(lease.awaitLost)
        yield* lease.verify
        yield* takeAway(lease)
        expect(yield* lease.isHeld).toBe(true)
        const loss = yield* Effect.flip(lease.verify)
        expect(loss).toEqual(lossOf("Missing", lease))
        expect(yield* lease.isHeld).toBe(false)
        expect(yield* Effect.flip(Fiber.join(awaiting))).toBe(loss)
        expect(yield* Effect.flip(Fiber.join(guarded))).toBe(loss)
        expect(yield* Effect.flip(lease.verify)).toBe(loss)
      })
    )

    it.scoped("awaitLost fails at once when the lease was lost before", () =>
      Effect.gen(function* () {
        const lease = yield* Lock.acquire(freshKey())
        yield* lose(lease)
        expect(yield* Effect.flip(lease.awaitLost)).toEqual(lossOf("Missing", lease))
      })
    )

    it.scoped("what a lease has can be taken off it", () =>
      Effect.gen(function* () {
        const { awaitLost, guard, isHeld, release, remaining, signal, verify } =
          yield* Lock.acquire(freshKey())
        expect(yield* Effect.succeed("done").pipe(guard)).toBe("done")
        yield* verify
        expect(yield* isHeld).toBe(true)
        expect(Duration.toMillis(yield* remaining)).toBeGreaterThan(0)
        const lost = yield* Effect.fork(Effect.flip(guard(Effect.never)))
        yield* release
        expect(yield* Fiber.join(lost)).toMatchObject({ _tag: "LockLost", reason: "Released" })
        expect(signal.aborted).toBe(true)
        expect(yield* Effect.exit(Effect.timeout(awaitLost, 20))).toMatchObject({ _tag: "Failure" })
      })
    )

    it.scoped("the signal has room for many listeners", () =>
      Effect.gen(function* () {
        const { signal } = yield* Lock.acquire(freshKey())
        const warnings: Array<Error> = []
        const onWarning = (warning: Error) => warnings.push(warning)
        process.on("warning", onWarning)
        for (let i = 0; i < 50; i++) signal.addEventListener("abort", () => {})
        yield* Effect.sleep(20)
        process.off("warning", onWarning)
        expect(warnings).toEqual([])
      })
    )

    it.scoped("the signal is aborted at a loss, with the loss as its reason", () =>
      Effect.gen(function* () {
        const lease = yield* Lock.acquire(freshKey())
        const { signal } = lease
        expect(signal.aborted).toBe(false)
        yield* lose(lease)
        expect(signal.aborted).toBe(true)
        expect(signal.reason).toEqual(lossOf("Missing", lease))
        expect(lease.signal).toBe(signal)
      })
    )

    it.scoped("the signal is aborted at a release, also for who asks for it later", () =>
      Effect.gen(function* () {
        const early = yield* Lock.acquire(freshKey())
        const { signal } = early
        yield* early.release
        expect(signal.aborted).toBe(true)
        expect(signal.reason).toEqual(lossOf("Released", early))
        const late = yield* Lock.acquire(freshKey())
        yield* late.release
        expect(late.signal.aborted).toBe(true)
        expect(late.signal.reason).toEqual(lossOf("Released", late))
      })
    )

    it.scoped("a listener of the signal that throws harms nobody", () =>
      Effect.gen(function* () {
        const lease = yield* Lock.acquire(freshKey())
        const guarded = yield* Effect.fork(lease.guard(Effect.never))
        yield* Effect.yieldNow()
        // an event target reports it as an uncaught exception, which is not ours to swallow
        yield* Effect.acquireRelease(
          Effect.sync(() => {
            const listeners = process.listeners("uncaughtException")
            process.removeAllListeners("uncaughtException")
            return listeners
          }),
          (listeners) =>
            Effect.sync(() => {
              for (const listener of listeners) process.on("uncaughtException", listener)
            })
        )
        const reported = new Promise((resolve) => process.once("uncaughtException", resolve))
        lease.signal.addEventListener("abort", () => {
          throw new Error("a listener's own")
        })
        yield* lose(lease)
        expect(yield* Effect.flip(Fiber.join(guarded))).toEqual(lossOf("Missing", lease))
        expect(yield* Effect.promise(() => reported)).toMatchObject({ message: "a listener's own" })
      })
    )
  })

  // -------------------------------------------------------------- guarded code

  layer(store, { excludeTestServices: true })("guarded code", (it) => {
    it.scoped("gives what the effect gives: a value, a failure, a defect", () =>
      Effect.gen(function* () {
        const lease = yield* Lock.acquire(freshKey())
        for (const effect of [
          Effect.succeed(1),
          Effect.as(Effect.sleep(1), 2),
          Effect.fail("sync"),
          Effect.zipRight(Effect.sleep(1), Effect.fail("async")),
          Effect.die("sync"),
          Effect.zipRight(Effect.sleep(1), Effect.die("async"))
        ] as ReadonlyArray<Effect.Effect<number, string>>) {
          expect(yield* Effect.exit(lease.guard(effect))).toEqual(yield* Effect.exit(effect))
        }
      })
    )

    it.scoped("is not run on a lease that was released, or lost", () =>
      Effect.gen(function* () {
        let ran = false
        const effect = Effect.sync(() => (ran = true))
        const released = yield* Lock.acquire(freshKey())
        yield* released.release
        expect(yield* Effect.flip(released.guard(effect))).toEqual(lossOf("Released", released))
        const lost = yield* Lock.acquire(freshKey())
        yield* lose(lost)
        expect(yield* Effect.flip(lost.guard(effect))).toEqual(lossOf("Missing", lost))
        expect(ran).toBe(false)
      })
    )

    it.scoped("is interrupted by a release, and fails with LockLost: Released", () =>
      Effect.gen(function* () {
        const key = freshKey()
        const lease = yield* Lock.acquire(key)
        const started = yield* Deferred.make<void>()
        let finalized = false
        const guarded = yield* Effect.fork(
          Effect.exit(
            lease.guard(
              Effect.zipRight(Deferred.succeed(started, undefined), Effect.never).pipe(
                Effect.ensuring(Effect.sync(() => (finalized = true)))
              )
            )
          )
        )
        yield* Deferred.await(started)
        yield* lease.release
        const exit = yield* Fiber.join(guarded)
        expect(finalized).toBe(true)
        expect(exit).toEqual(Exit.fail(lossOf("Released", lease)))
      })
    )

    it.scoped("that succeeded although the lease was lost meanwhile fails with LockLost", () =>
      Effect.gen(function* () {
        for (const pause of [Effect.void, Effect.sleep(1)]) {
          const lease = yield* Lock.acquire(freshKey())
          const exit = yield* Effect.exit(
            lease.guard(
              Effect.uninterruptible(
                Effect.zipRight(pause, Effect.zipRight(lose(lease), Effect.succeed("done")))
              )
            )
          )
          expect(exit).toEqual(Exit.fail(lossOf("Missing", lease)))
        }
      })
    )

    it.scoped("that releases its own lease ends with LockLost: Released", () =>
      Effect.gen(function* () {
        const key = freshKey()
        let after = false
        const exit = yield* Effect.exit(
          Lock.withLock(key)((lease) =>
            lease.release.pipe(
              Effect.zipRight(Effect.sleep(1)),
              Effect.map(() => (after = true))
            )
          )
        )
        expect(failuresOf(exit)).toMatchObject([{ _tag: "LockLost", reason: "Released" }])
        expect(after).toBe(false)
        yield* expectFreeNow(key)
      })
    )

    it.scoped("is interrupted wherever it runs: nested, and several at once", () =>
      Effect.gen(function* () {
        const lease = yield* Lock.acquire(freshKey())
        const interrupted: Array<string> = []
        let started = 0
        const all = yield* Deferred.make<void>()
        const endless = (name: string) =>
          Effect.suspend(() =>
            ++started === 3 ? Deferred.succeed(all, undefined) : Effect.void
          ).pipe(
            Effect.zipRight(Effect.never),
            Effect.onInterrupt(() => Effect.sync(() => interrupted.push(name)))
          )
        const fibers = yield* Effect.forEach(
          [
            lease.guard(endless("one")),
            lease.guard(endless("two")),
            lease.guard(lease.guard(endless("nested")))
          ],
          (effect) => Effect.fork(Effect.exit(effect))
        )
        yield* Deferred.await(all)
        yield* lose(lease)
        const exits = yield* Effect.forEach(fibers, Fiber.join)
        for (const exit of exits) {
          expect(Exit.isFailure(exit) && Cause.isInterrupted(exit.cause)).toBe(false)
          expect(new Set(failuresOf(exit))).toEqual(new Set([lossOf("Missing", lease)]))
        }
        expect(interrupted.sort()).toEqual(["nested", "one", "two"])
      })
    )

    it.scoped("may be nested and concurrent, and leaves the lease as it was", () =>
      Effect.gen(function* () {
        const lease = yield* Lock.acquire(freshKey())
        const values = yield* Effect.all(
          [
            lease.guard(lease.guard(Effect.as(Effect.sleep(5), 1))),
            lease.guard(Effect.as(Effect.sleep(5), 2)),
            lease.guard(Effect.succeed(3))
          ],
          { concurrency: "unbounded" }
        )
        expect(values).toEqual([1, 2, 3])
        yield* lease.verify
      })
    )

    it.scoped("whose caller is interrupted has cleaned up before the lock is free", () =>
      Effect.gen(function* () {
        const key = freshKey()
        const { count } = yield* StoreControls
        const started = yield* Deferred.make<void>()
        const releases: Array<number> = []
        const fiber = yield* Effect.fork(
          Effect.zipRight(Deferred.succeed(started, undefined), Effect.never).pipe(
            Effect.ensuring(
              Effect.zipRight(
                Effect.sleep(20),
                Effect.sync(() => releases.push(count(key, "release")))
              )
            ),
            Lock.withLock(key)
          )
        )
        yield* Deferred.await(started)
        const exit = yield* Fiber.interrupt(fiber)
        expect(Exit.isFailure(exit) && Cause.isInterruptedOnly(exit.cause)).toBe(true)
        expect(releases).toEqual([0])
        yield* expectFreeNow(key)
      })
    )

    it.scoped("whose caller is interrupted keeps the defects of its finalizers", () =>
      Effect.gen(function* () {
        const started = yield* Deferred.make<void>()
        const fiber = yield* Effect.fork(
          Effect.zipRight(Deferred.succeed(started, undefined), Effect.never).pipe(
            Effect.ensuring(Effect.die("in a finalizer")),
            Lock.withLock(freshKey())
          )
        )
        yield* Deferred.await(started)
        const exit = yield* Fiber.interrupt(fiber)
        expect(Chunk.toReadonlyArray(Cause.defects(causeOf(exit)))).toEqual(["in a finalizer"])
        expect(Cause.isInterrupted(causeOf(exit))).toBe(true)
      })
    )
  })

  // -------------------------------------------------------------- withLock

  layer(store, { excludeTestServices: true })("withLock", (it) => {
    it.scoped("takes a body that is an effect, or a function of the lease", () =>
      Effect.gen(function* () {
        const key = freshKey()
        expect(yield* Effect.succeed(1).pipe(Lock.withLock(key))).toBe(1)
        expect(yield* Lock.withLock(key)(Effect.as(Effect.sleep(1), 2))).toBe(2)
        const ofLease = yield* Lock.withLock(key)((lease) =>
          Effect.map(lease.verify, () => lease.fencingToken)
        )
        expect(ofLease).toBeGreaterThan(0)
        yield* expectFreeNow(key)
      })
    )

    it.scoped("takes a body that is an effect and a function at once: a Tag class", () =>
      Effect.gen(function* () {
        const key = freshKey()
        const tariff = yield* Tariff.pipe(Lock.withLock(key), Effect.provideService(Tariff, 42))
        expect(tariff).toBe(42)
        const some = yield* Tariff.pipe(
          Lock.withLockIfAvailable(key),
          Effect.provideService(Tariff, 43)
        )
        expect(some).toEqual(Option.some(43))
      })
    )

    it.scoped("a body that fails fails with its own error, and the lock is free", () =>
      Effect.gen(function* () {
        const key = freshKey()
        for (const body of [
          Effect.fail("own"),
          Effect.zipRight(Effect.sleep(1), Effect.fail("own"))
        ]) {
          expect(yield* Effect.exit(Lock.withLock(key)(body))).toEqual(Exit.fail("own"))
          yield* expectFreeNow(key)
        }
      })
    )

    it.scoped("defects stay defects, and the lock is free", () =>
      Effect.gen(function* () {
        const key = freshKey()
        const thrown = new Error("thrown")
        for (const body of [
          Effect.die(thrown),
          Effect.zipRight(Effect.sleep(1), Effect.die(thrown)),
          () => {
            throw thrown
          }
        ]) {
          const exit = yield* Effect.exit(Lock.withLock(key)(body))
          expect(failuresOf(exit)).toEqual([])
          expect(Chunk.toReadonlyArray(Cause.defects(causeOf(exit)))).toEqual([thrown])
          yield* expectFreeNow(key)
        }
      })
    )

    it.scoped("a body that interrupts itself is an interruption, and the lock is free", () =>
      Effect.gen(function* () {
        const key = freshKey()
        for (const body of [Effect.interrupt, Effect.zipRight(Effect.sleep(1), Effect.interrupt)]) {
          const exit = yield* Effect.exit(Lock.withLock(key)(body))
          expect(Cause.isInterruptedOnly(causeOf(exit))).toBe(true)
          expect(Cause.isEmpty(causeOf(exit))).toBe(false)
          yield* expectFreeNow(key)
        }
      })
    )

    it.scoped("a body that was interrupted by a loss fails with LockLost alone", () =>
      Effect.gen(function* () {
        const exit = yield* Effect.exit(
          Lock.withLock(freshKey())((lease) => Effect.zipRight(lose(lease), Effect.never))
        )
        expect(causeOf(exit)._tag).not.toBe("Empty")
        expect(failuresOf(exit)).toMatchObject([{ _tag: "LockLost", reason: "Missing" }])
        expect(Cause.isInterrupted(causeOf(exit))).toBe(false)
      })
    )

    it.scoped("a body that succeeded after the lease was lost fails with LockLost", () =>
      Effect.gen(function* () {
        let finished = false
        const exit = yield* Effect.exit(
          Lock.withLock(freshKey())((lease) =>
            Effect.uninterruptible(
              Effect.zipRight(
                lose(lease),
                Effect.sync(() => (finished = true))
              )
            )
          )
        )
        expect(finished).toBe(true)
        expect(failuresOf(exit)).toMatchObject([{ _tag: "LockLost", reason: "Missing" }])
        expect(Cause.isInterrupted(causeOf(exit))).toBe(false)
      })
    )

    it.scoped("a body that succeeded before anyone noticed the loss fails with LockLost", () =>
      Effect.gen(function* () {
        const { giveToAnother, takeAway } = yield* StoreControls
        const missing = yield* Effect.exit(Lock.withLock(freshKey())((lease) => takeAway(lease)))
        expect(failuresOf(missing)).toMatchObject([{ _tag: "LockLost", reason: "Missing" }])
        const taken = yield* Effect.exit(Lock.withLock(freshKey())((lease) => giveToAnother(lease)))
        expect(failuresOf(taken)).toMatchObject([{ _tag: "LockLost", reason: "Taken" }])
        const some = yield* Effect.exit(
          Lock.withLockIfAvailable(freshKey())((lease) => takeAway(lease))
        )
        expect(failuresOf(some)).toMatchObject([{ _tag: "LockLost", reason: "Missing" }])
      })
    )

    it.scoped("a body that failed as well: both errors, its own first, no interruption", () =>
      Effect.gen(function* () {
        const { takeAway } = yield* StoreControls
        const noticed = yield* Effect.exit(
          Lock.withLock(freshKey())((lease) =>
            Effect.uninterruptible(Effect.zipRight(lose(lease), Effect.fail("own")))
          )
        )
        const unnoticed = yield* Effect.exit(
          Lock.withLock(freshKey())((lease) => Effect.zipRight(takeAway(lease), Effect.fail("own")))
        )
        for (const exit of [noticed, unnoticed]) {
          expect(failuresOf(exit)).toEqual([
            "own",
            expect.objectContaining({ _tag: "LockLost", reason: "Missing" })
          ])
          expect(Cause.isInterrupted(causeOf(exit))).toBe(false)
        }
      })
    )

    it.scoped(
      "a defect in a finalizer of the interrupted body is in the cause, before the loss",
      () =>
        Effect.gen(function* () {
          const exit = yield* Effect.exit(
            Lock.withLock(freshKey())((lease) =>
              Effect.zipRight(lose(lease), Effect.never).pipe(
                Effect.ensuring(Effect.die("in a finalizer"))
              )
            )
          )
          const cause = causeOf(exit)
          expect(Chunk.toReadonlyArray(Cause.defects(cause))).toEqual(["in a finalizer"])
          expect(failuresOf(exit)).toMatchObject([{ _tag: "LockLost", reason: "Missing" }])
          expect(Cause.isInterrupted(cause)).toBe(false)
          const order = Cause.reduce(cause, [] as Array<string>, (seen, next) =>
            next._tag === "Die" || next._tag === "Fail"
              ? Option.some([...seen, next._tag])
              : Option.none()
          )
          expect(order).toEqual(["Die", "Fail"])
        })
    )

    it.scoped("an uninterruptible body sees that it does not hold the lock any more", () =>
      Effect.gen(function* () {
        const seen: Array<unknown> = []
        const exit = yield* Effect.exit(
          Lock.withLock(freshKey())((lease) =>
            Effect.gen(function* () {
              seen.push(yield* lease.isHeld, lease.signal.aborted)
              yield* lose(lease)
              seen.push(yield* lease.isHeld, lease.signal.aborted)
              seen.push(Duration.toMillis(yield* lease.remaining))
            }).pipe(Effect.uninterruptible)
          )
        )
        expect(seen).toEqual([true, false, false, true, 0])
        expect(failuresOf(exit)).toMatchObject([{ _tag: "LockLost" }])
      })
    )

    it.scoped("FiberRefs flow into the body and out of it", () =>
      Effect.gen(function* () {
        const ref = yield* FiberRef.make("outside")
        const key = freshKey()
        const write = (value: string) =>
          Effect.flatMap(FiberRef.getAndSet(ref, value), (before) => Effect.succeed(before))
        for (const pause of [Effect.void, Effect.sleep(1)]) {
          yield* FiberRef.set(ref, "before")
          const seen = yield* Effect.zipLeft(write("body"), pause).pipe(Lock.withLock(key))
          expect(seen).toBe("before")
          expect(yield* FiberRef.get(ref)).toBe("body")
          // as of any effect that fails
          yield* Effect.zipRight(write("failed"), pause).pipe(
            Effect.zipRight(Effect.fail("own")),
            Lock.withLock(key),
            Effect.flip
          )
          expect(yield* FiberRef.get(ref)).toBe("failed")
          const local = yield* Effect.zipRight(pause, FiberRef.get(ref)).pipe(
            Lock.withLock(key),
            Effect.locally(ref, "local")
          )
          expect(local).toBe("local")
        }
      })
    )

    it.scoped("services, log annotations and spans flow into the body", () =>
      Effect.gen(function* () {
        const body = Effect.gen(function* () {
          const annotations = yield* Effect.logAnnotations
          const span = yield* Effect.currentSpan
          return [yield* Tariff, Option.getOrNull(HashMap.get(annotations, "request")), span.name]
        })
        for (const pause of [Effect.void, Effect.sleep(1)]) {
          const seen = yield* Effect.zipRight(pause, body).pipe(
            Lock.withLock(freshKey()),
            Effect.provideService(Tariff, 7),
            Effect.annotateLogs("request", "r-1"),
            Effect.withSpan("outer")
          )
          expect(seen).toEqual([7, "r-1", "outer"])
        }
      })
    )

    it.scoped("the body is as interruptible as its caller", () =>
      Effect.gen(function* () {
        const check = Effect.checkInterruptible((flag) => Effect.succeed(flag))
        for (const pause of [Effect.void, Effect.sleep(1)]) {
          const body = Lock.withLock(freshKey())(Effect.zipRight(pause, check))
          expect(yield* body).toBe(true)
          expect(yield* Effect.uninterruptible(body)).toBe(false)
          expect(yield* Effect.interruptible(Effect.uninterruptible(body))).toBe(false)
          expect(yield* Effect.uninterruptible(Effect.interruptible(body))).toBe(true)
        }
      })
    )

    it.scoped("what the body forks and does not join ends with it, before the lock is free", () =>
      Effect.gen(function* () {
        const { events } = yield* StoreControls
        const key = freshKey()
        let atItsEnd: ReadonlyArray<string> = []
        yield* Effect.never.pipe(
          Effect.onInterrupt(() =>
            Effect.zipRight(
              Effect.sleep(20),
              Effect.sync(() => {
                atItsEnd = [...events(key)]
              })
            )
          ),
          Effect.fork,
          Effect.zipLeft(Effect.yieldNow()),
          Lock.withLock(key)
        )
        expect(atItsEnd).not.toEqual([])
        expect(atItsEnd).not.toContain("release")
        expect(events(key)).toContain("released")
      })
    )

    it.scoped("and what the body forks into another scope lives as long as that", () =>
      Effect.gen(function* () {
        const scope = yield* Scope.make()
        const fork = {
          daemon: Effect.forkDaemon,
          "in a scope": Effect.forkIn(scope)
        }
        for (const way of Object.values(fork)) {
          const fiber = yield* Lock.withLock(freshKey())(way(Effect.as(Effect.sleep(20), "whole")))
          expect(yield* Fiber.join(fiber)).toBe("whole")
        }
        yield* Scope.close(scope, Exit.void)
      })
    )

    it.scoped("a lock inside a lock of another key", () =>
      Effect.gen(function* () {
        const [outer, inner] = [freshKey(), freshKey()]
        const value = yield* Effect.succeed(1).pipe(Lock.withLock(inner), Lock.withLock(outer))
        expect(value).toBe(1)
        yield* expectFreeNow(inner)
        yield* expectFreeNow(outer)
      })
    )

    it.scoped("a nest of thousands does not overflow, and leaves nothing", () =>
      Effect.gen(function* () {
        const { events } = yield* StoreControls
        const keys = Array.from({ length: 3_000 }, freshKey)
        const nested = keys.reduce<Effect.Effect<string, unknown, LockStore.LockStore>>(
          (inner, key) =>
            Effect.suspend(() => Lock.withLock(key, { ttl: "1 hour", waitAtMost: 0 })(inner)),
          Effect.succeed("innermost")
        )
        expect(yield* nested).toBe("innermost")
        expect(keys.filter((key) => events(key).at(-1) !== "released")).toEqual([])
      })
    )

    it.scoped("one description of a locked effect may run many times", () =>
      Effect.gen(function* () {
        const key = freshKey()
        const locked = Lock.withLock(key)((lease) => Effect.succeed(lease.fencingToken))
        const [first, second] = [yield* locked, yield* locked]
        expect(second).toBeGreaterThan(first)
      })
    )
  })
})
