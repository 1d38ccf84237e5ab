/** The store contract of claims that say for how long a key is held at most, or at least. */
import * as Effect from "effect/Effect"
import type { Scope } from "effect/Scope"
import { pause, type Test } from "./bench.js"
import { atLeast, atMost, equal, notOurs, oneOf, succeeds } from "./check.js"

/** What the clocks of a store and of its servers may differ by, in that time; in milliseconds. */
const slack = 50

export const heldAtMost: ReadonlyArray<Test> = [
  {
    name: "no renewal reaches beyond maxHoldMillis, and the next waiter is served then",
    run: (bench) =>
      Effect.gen(function* () {
        const key = bench.freshKey()
        const before = bench.now()
        const claim = { ttlMillis: 2_000, maxHoldMillis: 2_500 }
        const grant = yield* bench.grant("A free key is granted", key, claim)
        const after = bench.now()
        const { holdUntil } = grant
        if (holdUntil !== undefined) {
          const promise = "holdUntil is maxHoldMillis after the grant: milliseconds since then"
          yield* atLeast(promise, holdUntil - before, 2_500 - slack)
          yield* atMost(promise, holdUntil - after, 2_500 + slack)
        }
        const waiter = yield* bench.wait(key)
        for (;;) {
          const asked = bench.now()
          const renewal = yield* succeeds("A renewal", grant.renew)
          if (renewal._tag === "NotOurs") break
          const proven = Math.max(asked, renewal.validUntil) - after
          yield* atMost("Milliseconds until which renewals reach", proven, 2_500 + slack)
          yield* Effect.sleep(100)
        }
        const reached = bench.now() - before
        yield* atLeast("Milliseconds until which renewals reach", reached, 2_500 - slack)
        yield* bench.served("A key is free maxHoldMillis after the grant", waiter)
        const free = "Milliseconds after which a key with maxHoldMillis is free"
        yield* atMost(free, bench.now() - after, 2_500 + 1_300)
        yield* oneOf("Verifying what is over", yield* grant.verify, notOurs)
      })
  },
  {
    name: "maxHoldMillis is counted from the grant of each claim",
    run: (bench) =>
      Effect.gen(function* () {
        const key = bench.freshKey()
        const holder = yield* bench.grant("A free key is granted", key)
        const waiter = yield* bench.wait(key, { ttlMillis: 1_500, maxHoldMillis: 2_000 })
        yield* Effect.sleep(1_200)
        const before = bench.now()
        yield* holder.release
        const grant = yield* bench.served("A release serves the next", waiter)
        const { holdUntil = Number.POSITIVE_INFINITY } = grant
        const promise = "holdUntil of a claim that has waited is counted from its grant"
        yield* atLeast(promise, holdUntil - before, 2_000 - slack)
        for (;;) {
          yield* Effect.sleep(200)
          const { _tag } = yield* succeeds("A renewal", grant.renew)
          if (bench.now() > before + 2_000 - slack) break
          yield* equal("A renewal less than maxHoldMillis after the grant", _tag, "Renewed")
        }
      })
  }
]

const heldFor = "For how many milliseconds a key with holdAtLeastMillis is held"

export const heldAtLeast: ReadonlyArray<Test> = [
  {
    name: "a release before holdAtLeastMillis leaves the key held until then, by nobody",
    run: (bench) =>
      Effect.gen(function* () {
        const key = bench.freshKey()
        const before = bench.now()
        const claim = { ttlMillis: 500, holdAtLeastMillis: 2_500 }
        const grant = yield* bench.grant("A free key is granted", key, claim)
        const after = bench.now()
        yield* atMost("validUntil is not after the ttl", grant.validUntil, after + 500)
        yield* equal("A renewal of what is held", (yield* grant.renew)._tag, "Renewed")
        const waiter = yield* bench.wait(key)
        yield* equal("Releasing what is held", yield* grant.release, "Ours")
        yield* oneOf("Verifying what was released", yield* grant.verify, notOurs)
        yield* equal("Renewing what was released", (yield* grant.renew)._tag, "NotOurs")
        yield* oneOf("Releasing what was released", yield* grant.release, ["Ours", ...notOurs])
        yield* bench.busy("A key that is held by nobody is busy", key)
        yield* bench.stillWaits("A release before holdAtLeastMillis serves nobody", waiter)
        const next = yield* bench.served("When it is over, the next is served", waiter)
        yield* atLeast(heldFor, bench.now() - before, 2_500 - slack)
        yield* atMost(heldFor, bench.now() - after, 2_500 + 2_000)
        yield* atLeast("Fencing tokens grow", next.fencingToken, grant.fencingToken + 1)
        yield* next.release
        yield* bench.free("After the last one the key is free", key)
      })
  },
  {
    name: "of a claim that has waited, holdAtLeastMillis is counted from its grant",
    run: (bench) =>
      Effect.gen(function* () {
        const key = bench.freshKey()
        const holder = yield* bench.grant("A free key is granted", key)
        const waiter = yield* bench.wait(key, { ttlMillis: 500, holdAtLeastMillis: 1_500 })
        const behind = yield* bench.wait(key)
        yield* Effect.sleep(500)
        const before = bench.now()
        yield* holder.release
        const grant = yield* bench.served("A release serves the next", waiter)
        yield* equal("Releasing what is held", yield* grant.release, "Ours")
        yield* bench.served("When it is over, the next is served", behind)
        yield* atLeast(heldFor, bench.now() - before, 1_500 - slack)
      })
  },
  {
    name: "a holder that dies leaves the key held for holdAtLeastMillis as well",
    run: (bench) =>
      Effect.gen(function* () {
        const key = bench.freshKey()
        const before = bench.now()
        const claim = { ttlMillis: 300, holdAtLeastMillis: 1_500 }
        const dead = yield* bench.grant("A free key is granted", key, claim)
        const renewal = yield* succeeds("A renewal", dead.renew)
        yield* equal("A renewal of what is held", renewal._tag, "Renewed")
        const waiter = yield* bench.wait(key)
        yield* bench.served("When it is over, the next is served", waiter)
        yield* atLeast(heldFor, bench.now() - before, 1_500 - slack)
      })
  },
  {
    name: "a release after holdAtLeastMillis serves the next",
    run: (bench) =>
      Effect.gen(function* () {
        const key = bench.freshKey()
        const claim = { ttlMillis: 60_000, holdAtLeastMillis: 300 }
        const grant = yield* bench.grant("A free key is granted", key, claim)
        const waiter = yield* bench.wait(key)
        yield* Effect.sleep(450)
        yield* bench.stillWaits("A lease is held until it is released", waiter)
        yield* equal("A renewal of what is held", (yield* grant.renew)._tag, "Renewed")
        yield* equal("Releasing what is held", yield* grant.release, "Ours")
        yield* bench.served("A release after holdAtLeastMillis serves the next", waiter)
      })
  },
  {
    name: "what did not come to its caller is not held for holdAtLeastMillis",
    run: (bench) =>
      Effect.forEach(
        Array.from({ length: 60 }, () => bench.freshKey()),
        (key, index) =>
          Effect.gen(function* () {
            const claim = { holdAtLeastMillis: 8_000, waitMillis: Number.POSITIVE_INFINITY }
            let moment: Effect.Effect<unknown, never, Scope> = pause(index)
            if (index % 2 === 0) {
              const holder = yield* bench.grant("A free key is granted", key)
              const released = Effect.andThen(
                Effect.sleep(index % 4),
                Effect.forkScoped(holder.release)
              )
              moment = Effect.andThen(released, moment)
            }
            if (yield* bench.interrupted(key, claim, moment)) return
            yield* bench.free("What was interrupted leaves nothing locked", key)
          }),
        { concurrency: "unbounded", discard: true }
      )
  }
]
