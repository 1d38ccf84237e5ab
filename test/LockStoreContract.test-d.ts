import type * as Effect from "effect/Effect"
import type { LockStore } from "effect-redis-lock"
import * as LockStoreContract from "effect-redis-lock/LockStoreContract"
import { describe, expectTypeOf, it } from "vitest"

declare const store: LockStore.LockStore

describe("LockStoreContract", () => {
  it("is a list of effects with names, which need a store and nothing else", () => {
    expectTypeOf(LockStoreContract.cases()).toEqualTypeOf<ReadonlyArray<LockStoreContract.Case>>()
    expectTypeOf<LockStoreContract.Case["effect"]>().toEqualTypeOf<
      Effect.Effect<void, LockStoreContract.ContractBroken, LockStore.LockStore>
    >()
    expectTypeOf<LockStoreContract.Case["name"]>().toEqualTypeOf<string>()
    expectTypeOf<LockStoreContract.Case["timeoutMillis"]>().toEqualTypeOf<number>()
  })

  it("is told what the store can do, by a list, a set, or the store", () => {
    void LockStoreContract.cases({ capabilities: ["semaphore", "look"] })
    void LockStoreContract.cases({ capabilities: new Set<LockStore.Capability>(["keys"]) })
    void LockStoreContract.cases({ capabilities: undefined })
    expectTypeOf(LockStoreContract.cases(store)).toEqualTypeOf(LockStoreContract.cases())
    // @ts-expect-error no such capability
    void LockStoreContract.cases({ capabilities: ["everything"] })
  })

  it("says what was promised, expected and found", () => {
    type Broken = LockStoreContract.ContractBroken
    expectTypeOf<Broken["_tag"]>().toEqualTypeOf<"ContractBroken">()
    expectTypeOf<Broken["promise"]>().toEqualTypeOf<string>()
    expectTypeOf<Broken["expected"]>().toEqualTypeOf<string>()
    expectTypeOf<Broken["found"]>().toEqualTypeOf<string>()
  })
})
