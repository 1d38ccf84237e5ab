/** The store contract of leases that are handed over, and adopted. */
import * as Effect from "effect/Effect"
import type { Scope } from "effect/Scope"
import type { Claim, Grant } from "../faces/lockStore.js"
import { type Bench, pause, type Test } from "./bench.js"
import {
  atLeast,
  breaks,
  type ContractBroken,
  equal,
  fails,
  holds,
  notOurs,
  oneOf,
  succeeds,
  within
} from "./check.js"

/** Ends it here without giving it back; answers until when it is proven to be held. */
const handOver = ({ handOver }: Grant): Effect.Effect<number, ContractBroken> =>
  Effect.gen(function* () {
    const promise = "A grant has an effect handOver"
    if (handOver === undefined) return yield* breaks(promise, "one", undefined)
    const renewal = yield* within(promise, 5_000, succeeds("Handing over", handOver))
    if (renewal._tag === "Renewed") return renewal.validUntil
    return yield* breaks("Handing over what is held renews it", "'Renewed'", renewal)
  })

/** What another process is sent. */
const handleOf = ({ fencingToken, token }: Grant) => ({ fencingToken, token })

/** It must be somebody else's, or nobody's; also for who would wait. */
const lost = (
  bench: Bench,
  promise: string,
  key: string,
  adopt: NonNullable<Claim["adopt"]>
): Effect.Effect<void, ContractBroken, Scope> =>
  Effect.gen(function* () {
    const asked = bench.ask(key, { adopt, waitMillis: 30_000 })
    const error = yield* within(promise, 5_000, fails(promise, asked))
    if (error._tag !== "LockLost") return yield* breaks(promise, "a LockLost", error)
    yield* equal("A LockLost names the key", error.key, key)
    yield* equal("Its fencing token is the old one", error.fencingToken, adopt.fencingToken)
    yield* oneOf("Its reason", error.reason, notOurs)
  })

export const handedOver: ReadonlyArray<Test> = [
  {
    name: "a lease that is handed over is adopted before who waits, and its old holder has it no more",
    run: (bench) =>
      Effect.gen(function* () {
        const key = bench.freshKey()
        const old = yield* bench.grant("A free key is granted", key)
        const waiter = yield* bench.wait(key)
        yield* handOver(old)
        yield* bench.busy("What is handed over is not given back", key)
        yield* bench.stillWaits("Handing over serves nobody who waits", waiter)
        const adopt = handleOf(old)
        const adopted = yield* bench.grant("What was handed over is adopted", key, { adopt })
        yield* atLeast("Fencing tokens grow", adopted.fencingToken, old.fencingToken + 1)
        yield* holds(
          "Who adopts has a token of its own",
          adopted.token !== old.token,
          "another one",
          "the same"
        )
        yield* oneOf("Verifying what another one has by now", yield* old.verify, notOurs)
        yield* equal("Renewing it", (yield* old.renew)._tag, "NotOurs")
        yield* Effect.exit(old.release)
        yield* equal("A stale holder ends nobody else's lease", yield* adopted.verify, "Ours")
        yield* equal("A renewal of what was adopted", (yield* adopted.renew)._tag, "Renewed")
        yield* bench.busy("A key that is adopted is busy", key)
        yield* bench.stillWaits("Adopting serves nobody who waits", waiter)
        yield* equal("Releasing what was adopted", yield* adopted.release, "Ours")
        const next = yield* bench.served("A release serves the next", waiter)
        yield* atLeast("Fencing tokens grow", next.fencingToken, adopted.fencingToken + 1)
      })
  },
  {
    name: "what was handed over is adopted once",
    run: (bench) =>
      Effect.gen(function* () {
        const key = bench.freshKey()
        const old = yield* bench.grant("A free key is granted", key)
        yield* handOver(old)
        const adopt = handleOf(old)
        const first = yield* bench.grant("What was handed over is adopted", key, { adopt })
        yield* lost(bench, "What was adopted is not adopted again", key, adopt)
        yield* equal("The first one's lease goes on", yield* first.verify, "Ours")
        yield* handOver(first)
        yield* lost(bench, "What was adopted is not adopted again", key, adopt)
        const second = yield* bench.grant("What was adopted can be handed over", key, {
          adopt: handleOf(first)
        })
        yield* second.release
        yield* lost(bench, "What is gone is not adopted", key, handleOf(first))
        yield* bench.free("Who adopts in vain has locked nothing", key)
      })
  },
  {
    name: "what was handed over ends by its full ttl, and is not adopted then",
    run: (bench) =>
      Effect.gen(function* () {
        const key = bench.freshKey()
        const old = yield* bench.grant("A free key is granted", key, { ttlMillis: 1_500 })
        const waiter = yield* bench.wait(key)
        yield* Effect.sleep(500)
        const until = yield* handOver(old)
        yield* atLeast("Handing over proves the full ttl again", until, old.validUntil + 450)
        const next = yield* bench.served("What nobody adopts expires", waiter)
        yield* atLeast("Nobody else is granted the key before that proof ends", bench.now(), until)
        yield* lost(bench, "What has expired is not adopted", key, handleOf(old))
        yield* equal("The next one's lease goes on", yield* next.verify, "Ours")
      })
  },
  {
    name: "what has expired is not handed over, nor adopted",
    run: (bench) =>
      Effect.gen(function* () {
        const key = bench.freshKey()
        const old = yield* bench.grant("A free key is granted", key, { ttlMillis: 200 })
        yield* Effect.sleep(350)
        const renewal = yield* succeeds("Handing over", old.handOver!)
        yield* equal("Handing over what has expired", renewal._tag, "NotOurs")
        yield* lost(bench, "What has expired is not adopted", key, handleOf(old))
        yield* bench.free("Who adopts in vain has locked nothing", key)
      })
  },
  {
    name: "a lease is adopted with the ttl of who adopts it",
    run: (bench) =>
      Effect.gen(function* () {
        const key = bench.freshKey()
        const old = yield* bench.grant("A free key is granted", key, { ttlMillis: 60_000 })
        yield* handOver(old)
        const waiter = yield* bench.wait(key)
        const adopted = yield* bench.grant("What was handed over is adopted", key, {
          adopt: handleOf(old),
          ttlMillis: 700
        })
        yield* bench.served("What is adopted expires when the adopter's ttl is over", waiter)
        yield* atLeast(
          "Nobody else is granted the key before the proof of a lease ends",
          bench.now(),
          adopted.validUntil
        )
        yield* equal("Renewing what has expired", (yield* adopted.renew)._tag, "NotOurs")
      })
  },
  {
    name: "an adoption that is interrupted at any moment locks nothing for longer than its ttl",
    run: (bench) =>
      Effect.forEach(
        Array.from({ length: 40 }, () => bench.freshKey()),
        (key, index) =>
          Effect.gen(function* () {
            const old = yield* bench.grant("A free key is granted", key, { ttlMillis: 1_500 })
            yield* handOver(old)
            const claim = { adopt: handleOf(old), ttlMillis: 60_000 }
            yield* bench.interrupted(key, claim, pause(index))
            yield* bench.free("What was interrupted leaves nothing locked", key)
          }),
        { concurrency: "unbounded", discard: true }
      )
  }
]

export const sharesHandedOver: ReadonlyArray<Test> = [
  {
    name: "a lease is adopted with the share and the limit that it has",
    run: (bench) =>
      Effect.gen(function* () {
        const key = bench.freshKey()
        const other = yield* bench.grant("1 of 4 fits", key, { limit: 4 })
        const old = yield* bench.grant("2 more of 4 fit", key, { limit: 4, share: 2 })
        yield* handOver(old)
        yield* bench.busy("2 of 4 do not fit beside 3", key, { limit: 4, share: 2 })
        const adopt = handleOf(old)
        // (for itself it asks otherwise)
        const adopted = yield* bench.grant("What was handed over is adopted", key, { adopt })
        yield* equal("Others' leases go on", yield* other.verify, "Ours")
        yield* bench.busy("2 of 4 do not fit beside 3", key, { limit: 4, share: 2 })
        yield* bench.grant("1 of 4 fits beside 3", key, { limit: 4 })
        yield* adopted.release
        yield* bench.busy("3 of 4 do not fit beside 2", key, { limit: 4, share: 3 })
        yield* bench.grant("2 of 4 fit beside 2", key, { limit: 4, share: 2 })
      })
  }
]
