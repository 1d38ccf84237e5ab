import * as Context from "effect/Context"
import type * as DateTime from "effect/DateTime"
import type * as Effect from "effect/Effect"
import type * as Layer from "effect/Layer"
import type * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import type * as Stream from "effect/Stream"
import { Leader, type Lease, type LockError, type LockStore } from "effect-redis-lock"
import { describe, expectTypeOf, it } from "vitest"

class Body extends Context.Tag("Body")<Body, boolean>() {}
declare const body: Effect.Effect<number, "own", Body>
declare const scoped: Effect.Effect<number, "own", Body | Scope.Scope>

type Store = LockStore.LockStore
type StoreError = LockError.LockStoreError

describe("Leader", () => {
  it("run ends with what the work ends with, or a store's error; the lead is never lost for good", () => {
    type Led = Effect.Effect<number, "own" | StoreError, Body | Store>
    expectTypeOf(Leader.run("key")(body)).toEqualTypeOf<Led>()
    expectTypeOf(body.pipe(Leader.run("key", { ttl: "10 seconds" }))).toEqualTypeOf<Led>()
    expectTypeOf(Leader.run(body, "key")).toEqualTypeOf<Led>()
    const last = Leader.run("key")((lease) => {
      expectTypeOf(lease).toEqualTypeOf<Lease.Lease>()
      return body
    })
    expectTypeOf(last).toEqualTypeOf<Led>()
    const first = Leader.run(
      (lease) => {
        expectTypeOf(lease).toEqualTypeOf<Lease.Lease>()
        return body
      },
      "key",
      { retry: Schedule.recurs(3) }
    )
    expectTypeOf(first).toEqualTypeOf<Led>()
    // @ts-expect-error it waits for as long as it takes
    void Leader.run("key", { waitAtMost: "1 second" })
    // @ts-expect-error no such option
    void Leader.run("key", { retries: 3 })
  })

  it("layer gives nothing, cannot fail, and gives a scope to each term", () => {
    type Background = Layer.Layer<never, never, Body | Store>
    expectTypeOf(Leader.layer("key")(body)).toEqualTypeOf<Background>()
    expectTypeOf(Leader.layer(scoped, "key", { ttl: 5_000 })).toEqualTypeOf<Background>()
    expectTypeOf(
      Leader.layer("key")((lease) => {
        expectTypeOf(lease).toEqualTypeOf<Lease.Lease>()
        return scoped
      })
    ).toEqualTypeOf<Background>()
  })

  it("observers need a store, and no scope", () => {
    type Info = Option.Option<Leader.LeaderInfo>
    expectTypeOf(Leader.current("key")).toEqualTypeOf<Effect.Effect<Info, StoreError, Store>>()
    expectTypeOf(Leader.changes).parameter(1).toEqualTypeOf<Leader.ChangesOptions | undefined>()
    expectTypeOf(Leader.changes("key")).toEqualTypeOf<Stream.Stream<Info, StoreError, Store>>()
    expectTypeOf(Leader.changes("key", { every: "5 seconds" })).toEqualTypeOf<
      Stream.Stream<Info, StoreError, Store>
    >()
    expectTypeOf<Leader.LeaderInfo>().toEqualTypeOf<{
      readonly owner: string | undefined
      readonly term: number
      readonly since: DateTime.Utc
      readonly incarnation: string | undefined
    }>()
  })
})
