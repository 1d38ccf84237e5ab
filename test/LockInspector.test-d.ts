import type * as DateTime from "effect/DateTime"
import type * as Duration from "effect/Duration"
import type * as Effect from "effect/Effect"
import * as Match from "effect/Match"
import type * as Stream from "effect/Stream"
import { LockInspector, type LockError, type LockStore } from "effect-redis-lock"
import { describe, expectTypeOf, test } from "vitest"

describe("LockInspector", () => {
  test("asks the store of the context, and needs nothing else", () => {
    expectTypeOf(LockInspector.inspect("key")).toEqualTypeOf<
      Effect.Effect<LockInspector.Snapshot, LockError.LockStoreError, LockStore.LockStore>
    >()
    expectTypeOf(LockInspector.list()).toEqualTypeOf<
      Stream.Stream<LockInspector.Snapshot, LockError.LockStoreError, LockStore.LockStore>
    >()
    expectTypeOf(LockInspector.watch({ prefix: "a", every: "1 second" })).toEqualTypeOf<
      Stream.Stream<LockInspector.Change, LockError.LockStoreError, LockStore.LockStore>
    >()
  })

  test("options can be undefined, and are of their types", () => {
    expectTypeOf(LockInspector.list).toBeCallableWith({ prefix: undefined })
    expectTypeOf(LockInspector.watch).toBeCallableWith({ prefix: undefined, every: undefined })
    // @ts-expect-error: a prefix is a string
    void LockInspector.list({ prefix: 7 })
    // @ts-expect-error: no such option
    void LockInspector.list({ pattern: "a*" })
    // @ts-expect-error: a key is needed
    void LockInspector.inspect()
  })

  test("what is not known has to be looked at before it is used", () => {
    expectTypeOf<LockInspector.Held["since"]>().toEqualTypeOf<DateTime.Utc | undefined>()
    expectTypeOf<LockInspector.Held["ttlLeft"]>().toEqualTypeOf<Duration.Duration | undefined>()
    expectTypeOf<LockInspector.Held["fencingToken"]>().toEqualTypeOf<number | undefined>()
    expectTypeOf<LockInspector.Held>().not.toHaveProperty("token")
    expectTypeOf<LockInspector.Pending>().not.toHaveProperty("token")
  })

  test("a change is matched by its tag", () => {
    const ownerOf = Match.type<LockInspector.Change>().pipe(
      Match.tag("Granted", "Released", "Expired", "Lost", ({ held }) => held.owner),
      Match.tag("Queued", "Left", ({ pending }) => pending.owner),
      Match.exhaustive
    )
    expectTypeOf(ownerOf).toEqualTypeOf<(change: LockInspector.Change) => string | undefined>()
  })
})
