/** What the compiler knows of several locks. */
import * as Effect from "effect/Effect"
import type * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import { type Lease, type LockError, type LockStore, MultiLock } from "effect-redis-lock"
import { describe, expectTypeOf, it } from "vitest"

class OwnError extends Error {
  readonly _tag = "OwnError"
}

declare const body: Effect.Effect<number, OwnError>

describe("MultiLock", () => {
  it("withLocks adds the errors of a lock, key or body first", () => {
    type Expected = Effect.Effect<
      number,
      OwnError | LockError.LockUnavailable | LockError.LockLost | LockError.LockStoreError,
      LockStore.LockStore
    >
    expectTypeOf(body.pipe(MultiLock.withLocks(["a", "b"]))).toEqualTypeOf<Expected>()
    expectTypeOf(MultiLock.withLocks(body, ["a"], { waitAtMost: 5 })).toEqualTypeOf<Expected>()
    expectTypeOf(
      MultiLock.withLocks(["a"])((lease) => Effect.as(body, lease.fencingToken("a")))
    ).toEqualTypeOf<Expected>()
  })

  it("withLocksIfAvailable has no LockUnavailable, and does not wait", () => {
    expectTypeOf(body.pipe(MultiLock.withLocksIfAvailable(["a"]))).toEqualTypeOf<
      Effect.Effect<
        Option.Option<number>,
        OwnError | LockError.LockLost | LockError.LockStoreError,
        LockStore.LockStore
      >
    >()
    // @ts-expect-error there is nothing to wait for
    MultiLock.withLocksIfAvailable(["a"], { waitAtMost: 5 })
  })

  it("acquire needs a scope, and has a lease for each key", () => {
    expectTypeOf(MultiLock.acquire(["a"])).toEqualTypeOf<
      Effect.Effect<
        MultiLock.MultiLease,
        LockError.LockUnavailable | LockError.LockStoreError,
        LockStore.LockStore | Scope.Scope
      >
    >()
    expectTypeOf<MultiLock.MultiLease["leases"]>().toEqualTypeOf<ReadonlyArray<Lease.Lease>>()
    // @ts-expect-error several keys are an array
    void MultiLock.acquire("a")
  })
})
