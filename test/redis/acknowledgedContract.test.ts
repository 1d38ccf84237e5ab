/** What every store promises, of one whose grants and renewals a replica must have. */
import { describe, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { RedisLockStore } from "effect-redis-lock"
import * as LockStoreContract from "effect-redis-lock/LockStoreContract"
import * as Replicas from "../support/Replicas.js"
import { allCapabilities, quiet } from "../support/stores.js"
import { undisturbed } from "./support.js"

const store = Layer.unwrapScoped(
  Effect.map(Replicas.make(1), ({ master }) =>
    RedisLockStore.layer({
      url: master.url,
      acknowledged: { replicas: 1, within: "1 second" }
    })
  )
)

layer(Layer.merge(store, quiet), { excludeTestServices: true })("a store with a replica", (it) => {
  // (mostly they sleep)
  describe.concurrent("keeps the contract", () => {
    for (const { effect, name, timeoutMillis } of LockStoreContract.cases({
      capabilities: allCapabilities
    })) {
      it.effect(name, () => undisturbed(30, effect), 3 * timeoutMillis)
    }
  })
})
