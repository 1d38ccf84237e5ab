/** Whoever waits for a lock goes on in its own async context: what an `AsyncLocalStorage` holds there. */
import { describe, expect, layer } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Runtime from "effect/Runtime"
import * as Scope from "effect/Scope"
import { type Lease, Lock, LockStore } from "effect-redis-lock"
import { AsyncLocalStorage } from "node:async_hooks"
import { freshKey, lose, StoreControls, stores } from "./support/stores.js"
import { undisturbed } from "./redis/support.js"

const storage = new AsyncLocalStorage<number>()
const here = Effect.sync(() => storage.getStore())

const requests = Array.from({ length: 40 }, (_, index) => index)

/** Each in an async context of its own, all begun in one turn. */
const each = <A, E, R>(effect: (request: number) => Effect.Effect<A, E, R>) =>
  Effect.flatMap(Effect.runtime<R>(), (runtime) =>
    Effect.promise(() =>
      Promise.all(
        requests.map((request) =>
          storage.run(request, () => Runtime.runPromise(runtime)(effect(request)))
        )
      )
    )
  )

describe.each(stores)("%s", (_, rawStore) => {
  const logged: Array<number | undefined> = []
  const store = Layer.merge(
    rawStore,
    Logger.replace(
      Logger.defaultLogger,
      Logger.make(() => void logged.push(storage.getStore()))
    )
  )

  layer(store, { excludeTestServices: true })("in its own async context", (it) => {
    it.scoped("runs who takes a free lock, and what comes after it", () =>
      Effect.gen(function* () {
        const keys = requests.map(freshKey)
        const ways = {
          withLock: (key: string) => Lock.withLock(key)(here),
          tryAcquire: (key: string) =>
            Effect.scoped(
              Effect.flatMap(Lock.tryAcquire(key), ({ verify }) => Effect.zipRight(verify, here))
            )
        }
        for (const way of Object.values(ways)) {
          const seen = yield* each((request) => Effect.all([way(keys[request]!), here]))
          expect(seen).toEqual(requests.map((request) => [request, request]))
        }
      })
    )

    it.scoped("runs who waits for its turn, from this process or another", () =>
      Effect.gen(function* () {
        const keys = [freshKey(), freshKey(), freshKey()]
        const seen = yield* each((request) =>
          Effect.all([
            Lock.withLock(keys[request % 3]!)(Effect.zipLeft(here, Effect.sleep(1))),
            here
          ])
        )
        expect(seen).toEqual(requests.map((request) => [request, request]))
      })
    )

    it.scoped("runs who waits for no longer than it may", () =>
      Effect.gen(function* () {
        const key = freshKey()
        yield* Lock.acquire(key)
        const seen = yield* each(() =>
          Effect.zipRight(Effect.exit(Effect.scoped(Lock.acquire(key, { waitAtMost: 50 }))), here)
        )
        expect(seen).toEqual(requests)
      })
    )

    it.scoped("ends whatever a loss ends, by a deadline or by what somebody else finds", () =>
      Effect.gen(function* () {
        const { silenceRenewals } = yield* StoreControls
        const ways: Record<
          string,
          (
            lease: Lease.Lease,
            tell: (seen: number | undefined) => void
          ) => Effect.Effect<unknown, unknown>
        > = {
          guard: (lease, tell) =>
            lease.guard(Effect.onInterrupt(Effect.never, () => Effect.map(here, tell))),
          awaitLost: (lease, tell) =>
            Effect.zipRight(Effect.exit(lease.awaitLost), Effect.map(here, tell)),
          signal: (lease, tell) =>
            Effect.async<void>((resume) => {
              lease.signal.addEventListener("abort", () => {
                tell(storage.getStore())
                resume(Effect.void)
              })
            })
        }
        const causes: Record<
          string,
          (lease: Lease.Lease) => Effect.Effect<void, never, StoreControls>
        > = {
          deadline: ({ key }) => Effect.sync(() => silenceRenewals(key)),
          "somebody else": (lease) => Effect.asVoid(Effect.fork(storage.exit(() => lose(lease))))
        }
        for (const [cause, end] of Object.entries(causes)) {
          for (const [way, wait] of Object.entries(ways)) {
            const leases: Array<Lease.Lease> = []
            const all = yield* Deferred.make<void>()
            const seen: Array<number | undefined> = []
            const waiting = yield* Effect.fork(
              each((request) =>
                Effect.scoped(
                  Effect.gen(function* () {
                    const lease = yield* Lock.acquire(freshKey(), { ttl: 300 })
                    leases.push(lease)
                    if (leases.length === requests.length) yield* Deferred.succeed(all, undefined)
                    yield* Effect.exit(wait(lease, (context) => (seen[request] = context)))
                  })
                )
              )
            )
            yield* Deferred.await(all)
            yield* Effect.forEach(leases, end)
            yield* Fiber.join(waiting)
            expect([cause, way, seen]).toEqual([cause, way, requests])
          }
        }
      })
    )

    it.scoped("renews, and logs what was lost", () =>
      undisturbed(
        30,
        Effect.gen(function* () {
          const inner = yield* LockStore.LockStore
          const renewals = new Map<string, Array<number | undefined>>()
          const tell = (key: string) =>
            Effect.map(here, (seen) => renewals.set(key, [...(renewals.get(key) ?? []), seen]))
          const watched: LockStore.LockStore = {
            ...inner,
            acquire: (claim, restore) =>
              Effect.map(inner.acquire(claim, restore), (grant) => ({
                ...grant,
                renew: Effect.zipRight(
                  tell(claim.key),
                  Effect.zipLeft(grant.renew, tell(claim.key))
                )
              }))
          }
          const keys = requests.map(freshKey)
          logged.length = 0
          yield* each((request) =>
            Lock.withLock(keys[request]!, { ttl: 300, renewEvery: 50 })((lease) =>
              Effect.sleep(180).pipe(Effect.zipRight(storage.exit(() => lose(lease))))
            ).pipe(Effect.exit, Effect.provideService(LockStore.LockStore, watched))
          )
          for (const request of requests) {
            const seen = renewals.get(keys[request]!)!
            expect(seen.length).toBeGreaterThan(2)
            expect(new Set(seen)).toEqual(new Set([request]))
          }
          expect([...logged].sort((a, b) => a! - b!)).toEqual(requests)
        })
      )
    )

    it.scoped("logs that a wait is long, and that it is for oneself", () =>
      Effect.gen(function* () {
        const inner = yield* LockStore.LockStore
        // a store may find out anywhere that a claim has to wait
        const elsewhere: LockStore.LockStore = {
          ...inner,
          acquire: (claim, restore) => {
            const whenWaiting: LockStore.Claim["whenWaiting"] = (contention) =>
              storage.run(-1, () => claim.whenWaiting?.(contention))
            return inner.acquire({ ...claim, whenWaiting }, restore)
          }
        }
        const wait = (key: string) =>
          Effect.exit(Lock.withLock(key, { waitAtMost: 150, warnAfter: 100 })(Effect.void))
        const common = freshKey()
        const holder = yield* Effect.fork(Lock.withLock(common)(Effect.never))
        yield* Effect.sleep(50)
        logged.length = 0
        yield* Effect.provideService(
          each(() => wait(common)),
          LockStore.LockStore,
          elsewhere
        )
        expect([...logged].sort((a, b) => a! - b!)).toEqual(requests)
        yield* Fiber.interrupt(holder)
        logged.length = 0
        yield* Effect.provideService(
          each(() => {
            const own = freshKey()
            return Lock.withLock(own)(wait(own))
          }),
          LockStore.LockStore,
          elsewhere
        )
        // for itself at once, and long
        expect([...logged].sort((a, b) => a! - b!)).toEqual(requests.flatMap((one) => [one, one]))
      })
    )

    it.scoped("goes on who asks for a release that somebody else has begun", () =>
      Effect.gen(function* () {
        const scope = yield* Scope.make()
        const lease = yield* Scope.extend(Lock.acquire(freshKey()), scope)
        const seen = yield* each(() => Effect.zipRight(Effect.exit(lease.release), here))
        expect(seen).toEqual(requests)
      })
    )
  })
})
