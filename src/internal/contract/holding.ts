/** The store contract, of every kind: what a lease is, and how it ends. */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import type { Test } from "./bench.js"
import { atLeast, atMost, equal, holds, notOurs, oneOf, succeeds } from "./check.js"

export const holding: ReadonlyArray<Test> = [
  {
    name: "grants a free key at the first attempt, for no longer than its ttl",
    run: (bench) =>
      Effect.gen(function* () {
        const before = bench.now()
        const grant = yield* bench.grant("A free key is granted", bench.freshKey())
        const after = bench.now()
        yield* equal("Of a free key, nobody was in the way", grant.contention, undefined)
        yield* holds(
          "A fencing token is a whole number",
          Number.isSafeInteger(grant.fencingToken),
          "a safe integer",
          grant.fencingToken
        )
        yield* holds(
          "A token is a text",
          typeof grant.token === "string" && grant.token !== "",
          "a text",
          typeof grant.token
        )
        const until = "validUntil, on the store's clock, is counted from before the question, "
        yield* atMost(`${until}and is not after the ttl`, grant.validUntil, after + 10_000)
        yield* atLeast(`${until}and leaves time for a renewal`, grant.validUntil, before + 6_000)
        yield* oneOf("fencingFloor of the only holder", grant.fencingFloor, [
          undefined,
          grant.fencingToken
        ])
      })
  },
  {
    name: "renews, verifies and releases for the holder, and nobody else",
    run: (bench) =>
      Effect.gen(function* () {
        const key = bench.freshKey()
        const first = yield* bench.grant("A free key is granted", key)
        const renewal = yield* succeeds("A renewal", first.renew)
        yield* equal("A renewal of what is held", renewal._tag, "Renewed")
        if (renewal._tag === "Renewed") {
          yield* atLeast(
            // (a server counts whole milliseconds)
            "A renewal does not shorten the proof",
            renewal.validUntil,
            first.validUntil - 1
          )
        }
        yield* equal("Verifying what is held", yield* first.verify, "Ours")
        yield* equal("Releasing what is held", yield* first.release, "Ours")

        yield* equal("Verifying what was released", yield* first.verify, "Missing")
        yield* equal("Renewing what was released", yield* first.renew, {
          _tag: "NotOurs",
          reason: "Missing"
        })
        yield* oneOf("Releasing what was released", yield* first.release, ["Ours", ...notOurs])

        const second = yield* bench.grant("A released key is granted", key)
        // others than a lock may have other holders as well
        const gone = bench.kind === "lock" ? ["Taken"] : notOurs
        yield* oneOf("Verifying what another one has by now", yield* first.verify, gone)
        const late = yield* first.renew
        yield* equal("Renewing what another one has by now", late._tag, "NotOurs")
        yield* oneOf(
          "Renewing what another one has by now",
          late._tag === "NotOurs" ? late.reason : late,
          gone
        )
        yield* oneOf("Releasing what another one has by now", yield* first.release, [
          "Ours",
          ...notOurs
        ])
        yield* equal("A stale holder ends nobody else's lease", yield* second.verify, "Ours")
        yield* bench.busy("A stale holder frees nobody else's key", key)
        yield* equal("Releasing what is held", yield* second.release, "Ours")
      })
  },
  {
    name: "asking whether a lease is ours does not prolong it",
    run: (bench) =>
      Effect.gen(function* () {
        const key = bench.freshKey()
        const first = yield* bench.grant("A free key is granted", key, { ttlMillis: 500 })
        const asking = yield* Effect.forkScoped(
          Effect.repeat(
            Effect.tap(first.verify, () => Effect.sleep(5)),
            {
              while: (found) => found === "Ours"
            }
          )
        )
        yield* bench.grant("A lease that is verified, and not renewed, expires", key, {
          waitMillis: 4_000
        })
        yield* oneOf("Verifying what has expired", yield* Fiber.join(asking), notOurs)
      })
  },
  {
    name: "a key expires when its ttl is over, and the next holder's fencing token is greater",
    run: (bench) =>
      Effect.gen(function* () {
        const key = bench.freshKey()
        const first = yield* bench.grant("A free key is granted", key, { ttlMillis: 600 })
        const waiter = yield* bench.wait(key)
        const second = yield* bench.served("A waiter is served when a lease expires", waiter)
        yield* atLeast(
          "Nobody else is granted the key before the proof of a lease ends",
          bench.now(),
          first.validUntil
        )
        yield* atLeast("Fencing tokens grow", second.fencingToken, first.fencingToken + 1)
        yield* oneOf("Verifying what has expired", yield* first.verify, notOurs)
        const late = yield* first.renew
        yield* equal("A renewal does not bring back what has expired", late._tag, "NotOurs")
        yield* Effect.exit(first.release)
        yield* equal("A release of what has expired frees nothing", yield* second.verify, "Ours")
      })
  },
  {
    name: "what has expired is not renewed, though nobody else has asked for it",
    run: (bench) =>
      Effect.gen(function* () {
        const key = bench.freshKey()
        const grant = yield* bench.grant("A free key is granted", key, { ttlMillis: 50 })
        yield* Effect.sleep(120)
        yield* equal("Verifying what has expired", yield* grant.verify, "Missing")
        yield* equal("Renewing what has expired", yield* grant.renew, {
          _tag: "NotOurs",
          reason: "Missing"
        })
        yield* bench.grant("An expired key is free", key)
      })
  },
  {
    name: "a renewal gives the full ttl again",
    run: (bench) =>
      Effect.gen(function* () {
        const key = bench.freshKey()
        const first = yield* bench.grant("A free key is granted", key, { ttlMillis: 1_500 })
        yield* Effect.sleep(500)
        const renewal = yield* succeeds("A renewal", first.renew)
        const validUntil = renewal._tag === "Renewed" ? renewal.validUntil : 0
        yield* atLeast("A renewal proves the full ttl", validUntil, first.validUntil + 450)
        yield* bench.grant("A lease that is renewed no more expires", key, { waitMillis: 4_000 })
        yield* atLeast(
          "Nobody else is granted the key before the proof of a renewal ends",
          bench.now(),
          validUntil
        )
      })
  },
  {
    name: "renewals keep a lease past its ttl, while others wait",
    run: (bench) =>
      Effect.gen(function* () {
        const key = bench.freshKey()
        const grant = yield* bench.grant("A free key is granted", key, { ttlMillis: 2_000 })
        const waiter = yield* bench.wait(key)
        const end = bench.now() + 2_800
        while (bench.now() < end) {
          yield* Effect.sleep(200)
          yield* equal("A renewal of what is held", (yield* grant.renew)._tag, "Renewed")
        }
        yield* bench.stillWaits("A renewed lease keeps others out", waiter)
        yield* grant.release
        yield* bench.served("A release serves the next", waiter)
      })
  },
  {
    name: "fencing tokens also grow without contention, faster than a clock can tell",
    run: (bench) =>
      Effect.gen(function* () {
        const key = bench.freshKey()
        let [last, token] = [0, ""]
        for (let turn = 0; turn < 50; turn++) {
          const grant = yield* bench.grant("A free key is granted", key)
          yield* atLeast("Fencing tokens grow with every grant", grant.fencingToken, last + 1)
          yield* holds(
            "A token is another one for each grant",
            grant.token !== token,
            "another one",
            "the same"
          )
          last = grant.fencingToken
          token = grant.token
          yield* grant.release
        }
      })
  },
  {
    name: "keys do not exclude each other, whatever their characters",
    run: (bench) =>
      Effect.gen(function* () {
        const key = bench.freshKey()
        const keys = [
          "",
          " ",
          "\n\r\n",
          "\u0000",
          "ключ 🔑",
          "{tag}",
          "{a}{b}",
          "%s",
          "'\"\\",
          "x".repeat(10_000)
        ].map((rest) => key + rest)
        for (const one of keys) {
          const grant = yield* bench.grant(`Of the key ${JSON.stringify(one.slice(0, 60))}`, one)
          yield* equal("Another key is not in the way", grant.contention, undefined)
        }
        for (const one of keys) yield* bench.busy("A key that is held is busy", one)
      })
  },
  {
    name: "a grant that was waited for says who was in the way",
    run: (bench) =>
      Effect.gen(function* () {
        const key = bench.freshKey()
        yield* bench.grant("A free key is granted", key, { owner: "the holder", ttlMillis: 600 })
        const waiter = yield* bench.wait(key)
        const { contention } = yield* bench.served("An expiry serves the next", waiter)
        yield* oneOf("contention.holder.owner", contention?.holder.owner, ["the holder", undefined])
        yield* equal("contention.holder.foreign", contention?.holder.foreign, false)
        const left = contention?.retryAfter
        yield* atMost(
          "contention.retryAfter is what was left of the ttl",
          left === undefined ? Number.POSITIVE_INFINITY : Duration.toMillis(left),
          600
        )
      })
  },
  {
    name: "a wait of 0 fails at once, and says who is in the way",
    run: (bench) =>
      Effect.gen(function* () {
        const key = bench.freshKey()
        yield* bench.grant("A free key is granted", key, { owner: "the holder" })
        const error = yield* bench.busy("A key that is held is busy", key)
        yield* oneOf("LockUnavailable.holder.owner", error.holder.owner, ["the holder", undefined])
        yield* equal("LockUnavailable.holder.foreign", error.holder.foreign, false)
        const left = error.retryAfter
        yield* atMost(
          "LockUnavailable.retryAfter is what is left of the ttl",
          left === undefined ? Number.POSITIVE_INFINITY : Duration.toMillis(left),
          10_000
        )
      })
  },
  {
    name: "and its grants can be copied with members replaced",
    run: (bench) =>
      Effect.gen(function* () {
        const key = bench.freshKey()
        const { acquire } = { ...bench.store }
        yield* equal("The type of acquire, of a copy", typeof acquire, "function")
        const grant = yield* Effect.uninterruptibleMask((restore) =>
          acquire(bench.claim(key), restore)
        )
        const { release, renew, token, verify } = { ...grant }
        for (const [name, member] of Object.entries({ release, renew, verify })) {
          yield* equal(`Whether ${name}, of a copy, is an effect`, Effect.isEffect(member), true)
        }
        yield* equal("A copy of a grant has its token", token, grant.token)
        yield* equal("Verifying by a copy", yield* verify, "Ours")
        yield* equal("Renewing by a copy", (yield* renew)._tag, "Renewed")
        yield* equal("Releasing by a copy", yield* release, "Ours")
        yield* bench.grant("A released key is granted", key)
      })
  }
]
