import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import type * as ParseResult from "effect/ParseResult"
import type * as Scope from "effect/Scope"
import {
  type Lease,
  Lock,
  type LockError,
  type LockStore,
  ReadWriteLock,
  Semaphore
} from "effect-redis-lock"
import { Handle, type HandleEncoded } from "effect-redis-lock/Handle"
import { describe, expectTypeOf, it } from "vitest"

declare const handle: Handle
declare const lease: Lease.Lease

type Store = LockStore.LockStore
type Lost = LockError.LockLost
type StoreError = LockError.LockStoreError

describe("handing over", () => {
  it("gives a handle, and adopting it a lease of its kind", () => {
    expectTypeOf(lease.handOver).toEqualTypeOf<Effect.Effect<Handle, Lost | StoreError>>()
    type Adopted<L> = Effect.Effect<L, Lost | StoreError, Store | Scope.Scope>
    expectTypeOf(Lock.adopt(handle)).toEqualTypeOf<Adopted<Lease.Lease>>()
    expectTypeOf(Lock.adopt(handle, { ttl: "5 seconds" })).toEqualTypeOf<Adopted<Lease.Lease>>()
    expectTypeOf(Semaphore.adopt(handle)).toEqualTypeOf<Adopted<Semaphore.SemaphoreLease>>()
    expectTypeOf(ReadWriteLock.adoptRead(handle)).toEqualTypeOf<Adopted<Lease.Lease>>()
    expectTypeOf(ReadWriteLock.adoptWrite(handle)).toEqualTypeOf<
      Adopted<ReadWriteLock.WriteLease>
    >()
    // @ts-expect-error it does not wait
    void Lock.adopt(handle, { waitAtMost: "1 second" })
    expectTypeOf<Lock.AdoptOptions>().toEqualTypeOf<
      Omit<Lock.Options, "maxHold" | "holdAtLeast" | "reentrant">
    >()
    for (const adopt of [
      Lock.adopt,
      Semaphore.adopt,
      ReadWriteLock.adoptRead,
      ReadWriteLock.adoptWrite
    ]) {
      expectTypeOf(adopt).parameter(1).toEqualTypeOf<Lock.AdoptOptions | undefined>()
    }
    // @ts-expect-error it was granted before
    void Lock.adopt(handle, { maxHold: "1 minute" })
    // @ts-expect-error it was granted before
    void Semaphore.adopt(handle, { holdAtLeast: "1 minute" })
    // @ts-expect-error it shares nothing
    void ReadWriteLock.adoptWrite(handle, { reentrant: true })
    // @ts-expect-error what is sent is decoded first
    void Effect.flatMap(Schema.encode(Handle)(handle), Lock.adopt)
  })

  it("a handle is sent by its schema", () => {
    expectTypeOf(Schema.encode(Handle)(handle)).toEqualTypeOf<
      Effect.Effect<HandleEncoded, ParseResult.ParseError>
    >()
    expectTypeOf(Schema.decode(Schema.parseJson(Handle))("text")).toEqualTypeOf<
      Effect.Effect<Handle, ParseResult.ParseError>
    >()
    expectTypeOf(handle.maxHold).toEqualTypeOf<Duration.Duration | undefined>()
    expectTypeOf<HandleEncoded["holdAtLeast"]>().toEqualTypeOf<number | undefined>()
    expectTypeOf(handle.firstFencingToken).toEqualTypeOf<number | undefined>()
  })
})

describe("freeing by force", () => {
  it("says whether it did", () => {
    expectTypeOf(Lock.forceRelease("key", 7)).toEqualTypeOf<
      Effect.Effect<boolean, StoreError, Store>
    >()
    // @ts-expect-error without the number that was seen
    void Lock.forceRelease("key")
  })
})
