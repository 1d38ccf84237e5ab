import type * as Effect from "effect/Effect"
import {
  type Lease,
  Lock,
  type LockStore,
  MultiLock,
  ReadWriteLock,
  Semaphore
} from "effect-redis-lock"
import type * as HttpLock from "effect-redis-lock/HttpLock"
import { describe, expectTypeOf, it } from "vitest"

declare const body: Effect.Effect<number>

describe("reentrant", () => {
  it("is an option of every way of locking, and changes no type", () => {
    expectTypeOf(Lock.withLock("key", { reentrant: true })(body)).toEqualTypeOf(
      Lock.withLock("key")(body)
    )
    expectTypeOf(Lock.acquire("key", { reentrant: true })).toEqualTypeOf(Lock.acquire("key"))
    expectTypeOf(Lock.tryAcquire("key", { reentrant: false })).toEqualTypeOf(Lock.tryAcquire("key"))
    expectTypeOf(Lock.withLockIfAvailable(body, "key", { reentrant: undefined })).toEqualTypeOf(
      Lock.withLockIfAvailable(body, "key")
    )
    expectTypeOf(MultiLock.withLocks(["key"], { reentrant: true })(body)).toEqualTypeOf(
      MultiLock.withLocks(["key"])(body)
    )
    expectTypeOf<HttpLock.Options["reentrant"]>().toEqualTypeOf<boolean | undefined>()
  })

  it("the inner lease is one of the kind that was asked for", () => {
    const permits = { limit: 3, reentrant: true }
    void Semaphore.withPermits(
      "key",
      permits
    )((lease) => {
      expectTypeOf(lease).toEqualTypeOf<Semaphore.SemaphoreLease>()
      return body
    })
    void ReadWriteLock.withWriteLock("key", { reentrant: true })((lease) => {
      expectTypeOf(lease).toEqualTypeOf<ReadWriteLock.WriteLease>()
      return body
    })
    void ReadWriteLock.withReadLock("key", { reentrant: true })((lease) => {
      expectTypeOf(lease).toEqualTypeOf<Lease.Lease>()
      return body
    })
    void MultiLock.withLocks(["key"], { reentrant: true })((lease) => {
      expectTypeOf(lease).toEqualTypeOf<MultiLock.MultiLease>()
      return body
    })
  })

  it("is a boolean, and no default of a store", () => {
    // @ts-expect-error not a boolean
    void Lock.withLock("key", { reentrant: "yes" })
    // @ts-expect-error not an option that a store can have
    expectTypeOf<LockStore.Defaults["reentrant"]>()
  })
})
