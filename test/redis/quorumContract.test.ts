/**
 * The store contract, of a quorum of three servers. It differs from a store in one server in this: there
 * are no semaphores, no read-write locks, and no leases that are handed over; see `capabilities`. And while its
 * first node is slow, a claim can pass those who wait there, and one that does not wait can be refused where a
 * lease was just given back (docs/guarantees.md): servers on a busy machine are, so a case has three tries.
 */
import { describe, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as LockStoreContract from "effect-redis-lock/LockStoreContract"
import * as RedisQuorum from "../support/RedisQuorum.js"
import { quiet, quorumCapabilities } from "../support/stores.js"
import { undisturbed } from "./support.js"

const servers = Layer.unwrapScoped(
  Effect.map(
    Effect.tap(RedisQuorum.make(3), (servers) => Effect.forEach(servers, RedisQuorum.join)),
    (servers) => RedisQuorum.layerOf(servers, { longestTtl: "1 hour" })
  )
)

layer(Layer.merge(servers, quiet), { excludeTestServices: true })("three servers", (it) => {
  describe("keep the contract", () => {
    for (const { effect, name, timeoutMillis } of LockStoreContract.cases({
      capabilities: quorumCapabilities
    })) {
      it.effect(name, () => undisturbed(30, effect), { timeout: 3 * timeoutMillis, retry: 2 })
    }
  })
})
