import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import { type Lease, type Lock, type LockError, type LockStore, Semaphore } from "effect-redis-lock"
import { describe, expectTypeOf, it } from "vitest"

class Body extends Context.Tag("Body")<Body, boolean>() {}
declare const body: Effect.Effect<number, "own", Body>

type Store = LockStore.LockStore
type Unavailable = LockError.LockUnavailable
type Lost = LockError.LockLost
type StoreError = LockError.LockStoreError

type Locked = Effect.Effect<number, "own" | Unavailable | Lost | StoreError, Body | Store>
type Maybe = Effect.Effect<Option.Option<number>, "own" | Lost | StoreError, Body | Store>

describe("Semaphore", () => {
  it("acquire and tryAcquire need a limit, a store and a scope", () => {
    type Acquired = Effect.Effect<
      Semaphore.SemaphoreLease,
      Unavailable | StoreError,
      Store | Scope.Scope
    >
    expectTypeOf(Semaphore.acquire("key", { limit: 3 })).toEqualTypeOf<Acquired>()
    expectTypeOf(
      Semaphore.acquire("key", { limit: 3, permits: 2, waitAtMost: "1 second" })
    ).toEqualTypeOf<Acquired>()
    expectTypeOf(Semaphore.tryAcquire("key", { limit: 3 })).toEqualTypeOf<Acquired>()
    // @ts-expect-error no limit
    void Semaphore.acquire("key")
    // @ts-expect-error no limit
    void Semaphore.acquire("key", { permits: 1 })
    // @ts-expect-error no such option
    void Semaphore.acquire("key", { limit: 3, permit: 1 })
    // @ts-expect-error a single attempt has nothing to wait for
    void Semaphore.tryAcquire("key", { limit: 3, waitAtMost: "1 second" })
  })

  it("withPermits, of either form of the body, first or last", () => {
    expectTypeOf(Semaphore.withPermits("key", { limit: 3 })(body)).toEqualTypeOf<Locked>()
    expectTypeOf(body.pipe(Semaphore.withPermits("key", { limit: 3 }))).toEqualTypeOf<Locked>()
    expectTypeOf(Semaphore.withPermits(body, "key", { limit: 3 })).toEqualTypeOf<Locked>()
    const last = Semaphore.withPermits("key", { limit: 3 })((lease) => {
      expectTypeOf(lease).toEqualTypeOf<Semaphore.SemaphoreLease>()
      return body
    })
    expectTypeOf(last).toEqualTypeOf<Locked>()
    const first = Semaphore.withPermits(
      (lease) => {
        expectTypeOf(lease).toEqualTypeOf<Semaphore.SemaphoreLease>()
        return body
      },
      "key",
      { limit: 3 }
    )
    expectTypeOf(first).toEqualTypeOf<Locked>()
    // @ts-expect-error no limit
    void Semaphore.withPermits("key")
    // @ts-expect-error no limit
    void Semaphore.withPermits(body, "key")
  })

  it("withPermitsIfAvailable gives an option instead of LockUnavailable", () => {
    const options = { limit: 3 }
    expectTypeOf(body.pipe(Semaphore.withPermitsIfAvailable("key", options))).toEqualTypeOf<Maybe>()
    expectTypeOf(Semaphore.withPermitsIfAvailable(body, "key", options)).toEqualTypeOf<Maybe>()
    expectTypeOf(
      Semaphore.withPermitsIfAvailable(
        ({ isHeld }: Semaphore.SemaphoreLease) => Effect.andThen(isHeld, body),
        "key",
        options
      )
    ).toEqualTypeOf<Maybe>()
    // @ts-expect-error a single attempt has nothing to wait for
    void Semaphore.withPermitsIfAvailable(body, "key", { limit: 3, waitAtMost: "1 second" })
  })

  it("of a Tag class, which is an effect and a function", () => {
    type Tagged = Effect.Effect<boolean, Unavailable | Lost | StoreError, Body | Store>
    expectTypeOf(Body.pipe(Semaphore.withPermits("key", { limit: 3 }))).toEqualTypeOf<Tagged>()
    expectTypeOf(Semaphore.withPermits(Body, "key", { limit: 3 })).toEqualTypeOf<Tagged>()
  })

  it("inUse needs no scope, and is not lost", () => {
    expectTypeOf(Semaphore.inUse("key")).toEqualTypeOf<Effect.Effect<number, StoreError, Store>>()
  })

  it("a lease of permits is a lease, and knows more", () => {
    expectTypeOf<Semaphore.SemaphoreLease>().toExtend<Lease.Lease>()
    expectTypeOf<Semaphore.SemaphoreLease["permits"]>().toEqualTypeOf<number>()
    expectTypeOf<Semaphore.SemaphoreLease["fencingFloor"]>().toEqualTypeOf<number>()
    expectTypeOf<Semaphore.WaitOptions>().toExtend<Lock.WaitOptions>()
    expectTypeOf<Semaphore.Options>().toExtend<Lock.Options>()
  })
})
