import * as Context from "effect/Context"
import type * as Effect from "effect/Effect"
import type * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import {
  type Lease,
  type Lock,
  type LockError,
  type LockStore,
  ReadWriteLock
} from "effect-redis-lock"
import { describe, expectTypeOf, it } from "vitest"

class Body extends Context.Tag("Body")<Body, boolean>() {}
declare const body: Effect.Effect<number, "own", Body>

type Store = LockStore.LockStore
type Unavailable = LockError.LockUnavailable
type Lost = LockError.LockLost
type StoreError = LockError.LockStoreError

type Locked = Effect.Effect<number, "own" | Unavailable | Lost | StoreError, Body | Store>
type Maybe = Effect.Effect<Option.Option<number>, "own" | Lost | StoreError, Body | Store>

describe("ReadWriteLock", () => {
  it("the scoped forms need a store and a scope", () => {
    type Acquired<L> = Effect.Effect<L, Unavailable | StoreError, Store | Scope.Scope>
    expectTypeOf(ReadWriteLock.readLock("key")).toEqualTypeOf<Acquired<Lease.Lease>>()
    expectTypeOf(ReadWriteLock.tryReadLock("key")).toEqualTypeOf<Acquired<Lease.Lease>>()
    expectTypeOf(ReadWriteLock.writeLock("key", { waitAtMost: "1 second" })).toEqualTypeOf<
      Acquired<ReadWriteLock.WriteLease>
    >()
    expectTypeOf(ReadWriteLock.tryWriteLock("key")).toEqualTypeOf<
      Acquired<ReadWriteLock.WriteLease>
    >()
  })

  it("its options are those of a lock; a single attempt does not wait", () => {
    expectTypeOf<Lock.WaitOptions>().toExtend<ReadWriteLock.WaitOptions>()
    expectTypeOf<Lock.Options>().toExtend<ReadWriteLock.Options>()
    // @ts-expect-error a single attempt has nothing to wait for
    void ReadWriteLock.tryReadLock("key", { waitAtMost: "1 second" })
    // @ts-expect-error a single attempt has nothing to wait for
    void ReadWriteLock.tryWriteLock("key", { waitAtMost: "1 second" })
  })

  it("the body adds its own errors and services, in both forms", () => {
    expectTypeOf(body.pipe(ReadWriteLock.withReadLock("key"))).toEqualTypeOf<Locked>()
    expectTypeOf(ReadWriteLock.withReadLock(body, "key")).toEqualTypeOf<Locked>()
    expectTypeOf(
      ReadWriteLock.withWriteLock("key", { waitAtMost: 5 })(body)
    ).toEqualTypeOf<Locked>()
    expectTypeOf(ReadWriteLock.withWriteLock(body, "key")).toEqualTypeOf<Locked>()
    expectTypeOf(body.pipe(ReadWriteLock.withReadLockIfAvailable("key"))).toEqualTypeOf<Maybe>()
    expectTypeOf(ReadWriteLock.withWriteLockIfAvailable(body, "key")).toEqualTypeOf<Maybe>()
  })

  it("a body that is a function gets the lease: of a writer one that can be downgraded", () => {
    const read = ReadWriteLock.withReadLock("key")((lease) => {
      expectTypeOf(lease).toEqualTypeOf<Lease.Lease>()
      return body
    })
    expectTypeOf(read).toEqualTypeOf<Locked>()
    const write = ReadWriteLock.withWriteLock((lease: ReadWriteLock.WriteLease) => {
      expectTypeOf(lease.downgrade).toEqualTypeOf<Effect.Effect<void, Lost | StoreError>>()
      return body
    }, "key")
    expectTypeOf(write).toEqualTypeOf<Locked>()
    expectTypeOf<ReadWriteLock.WriteLease>().toExtend<Lease.Lease>()
  })
})
