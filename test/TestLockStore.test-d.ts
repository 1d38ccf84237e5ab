import type * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Layer from "effect/Layer"
import { type LockError, type LockStore, Lock } from "effect-redis-lock"
import * as TestLockStore from "effect-redis-lock/TestLockStore"
import { describe, expectTypeOf, it } from "vitest"

type Control<A> = Effect.Effect<A, never, TestLockStore.TestLockStore>

describe("TestLockStore", () => {
  it("has layers that give the store and its controls, and need nothing", () => {
    type Both = Layer.Layer<LockStore.LockStore | TestLockStore.TestLockStore>
    expectTypeOf(TestLockStore.layer).toEqualTypeOf<Both>()
    expectTypeOf(TestLockStore.layerWith({ commandTimeout: "1 second" })).toEqualTypeOf<Both>()
    expectTypeOf(
      TestLockStore.layerWith({ defaults: { ttl: "1 second" }, commandTimeout: undefined })
    ).toEqualTypeOf<Both>()
    // @ts-expect-error no such option
    void TestLockStore.layerWith({ prefix: "locks:" })
  })

  it("is made without a layer as well", () => {
    type Made = Effect.Effect<TestLockStore.TestLockStore>
    expectTypeOf(TestLockStore.make).toEqualTypeOf<Made>()
    expectTypeOf(TestLockStore.makeWith({})).toEqualTypeOf<Made>()
    expectTypeOf<TestLockStore.TestLockStore["store"]>().toEqualTypeOf<LockStore.LockStore>()
    expectTypeOf(TestLockStore.TestLockStore).toEqualTypeOf<
      Context.Tag<TestLockStore.TestLockStore, TestLockStore.TestLockStore>
    >()
    expectTypeOf<TestLockStore.Options["commandTimeout"]>().toEqualTypeOf<
      Duration.DurationInput | undefined
    >()
  })

  it("has its controls as functions, which cannot fail", () => {
    expectTypeOf(TestLockStore.steal("key")).toEqualTypeOf<Control<void>>()
    expectTypeOf(TestLockStore.expire("key")).toEqualTypeOf<Control<void>>()
    expectTypeOf(TestLockStore.silence).toEqualTypeOf<Control<void>>()
    expectTypeOf(TestLockStore.restore).toEqualTypeOf<Control<void>>()
    expectTypeOf(TestLockStore.grants).toEqualTypeOf<Control<ReadonlyArray<TestLockStore.Grant>>>()
    expectTypeOf<TestLockStore.Grant["state"]>().toEqualTypeOf<
      "held" | "released" | "expired" | "stolen" | "adopted" | "revoked"
    >()
    // @ts-expect-error which one
    void TestLockStore.steal()
  })

  it("refuses with what a LockStoreError says, or with that", () => {
    expectTypeOf(TestLockStore.refuse()).toEqualTypeOf<Control<void>>()
    expectTypeOf(TestLockStore.refuse({ detail: "No.", transient: false })).toEqualTypeOf<
      Control<void>
    >()
    expectTypeOf<LockError.LockStoreError>().toExtend<TestLockStore.Refusal>()
    // @ts-expect-error the operation says which one it is
    void TestLockStore.refuse({ operation: "acquire" })
  })

  it("provides all that a lock needs", () => {
    const program = Lock.withLock(TestLockStore.steal("key"), "key")
    expectTypeOf(Effect.provide(program, TestLockStore.layer)).toEqualTypeOf<
      Effect.Effect<void, LockError.LockError>
    >()
  })
})
