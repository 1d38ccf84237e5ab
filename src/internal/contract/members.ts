/** The store contract: the store's own members. */
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import type { Capability, Look } from "../faces/lockStore.js"
import type { Bench, Test } from "./bench.js"
import { atLeast, atMost, equal, holds, oneOf, succeeds } from "./check.js"

export const clock: Test = {
  name: "its clock goes on, and calls back when the time has come, unless that is cancelled",
  run: ({ store: { clock } }) =>
    Effect.gen(function* () {
      const before = clock.unsafeNow()
      const called: Array<string> = []
      clock.unsafeSchedule(before + 50, () => called.push("due"))
      clock.unsafeSchedule(before - 50, () => called.push("overdue"))
      clock.unsafeSchedule(before + 50, () => called.push("cancelled")).cancel()
      clock.unsafeSchedule(before + 60_000, () => called.push("far")).cancel()
      yield* equal("What is scheduled is not called in place", called, [])
      yield* Effect.sleep(500)
      yield* equal("What was called by then", called, ["overdue", "due"])
      const passed = clock.unsafeNow() - before
      yield* atLeast("What has passed on the clock in 500 ms", passed, 400)
      yield* atMost("What has passed on the clock in 500 ms", passed, 10_000)
    })
}

/** Capabilities that are members of the store. */
const members = ["look", "keys", "revoke"] as const

export const capabilities = (said: ReadonlySet<Capability>): Test => ({
  name: "has the capabilities that it is tested for, and their members",
  run: ({ store }) =>
    Effect.gen(function* () {
      const has = [...(store.capabilities ?? [])].sort()
      yield* equal("capabilities", has, [...said].sort())
      for (const member of members) {
        if (said.has(member)) {
          yield* equal(`The type of the member ${member}`, typeof store[member], "function")
        }
      }
    })
})

const look = ({ store }: Bench, key: string, atMostOfEach = 10) =>
  succeeds("look", store.look!(key, atMostOfEach))

/** Of a key that nobody has. */
const nothing = { kind: undefined, inUse: 0, heldCount: 0, pendingCount: 0 }

const counts = ({ heldCount, inUse, kind, pendingCount }: Look) => ({
  kind,
  inUse,
  heldCount,
  pendingCount
})

export const looking: ReadonlyArray<Test> = [
  {
    name: "look says who holds a key and who waits, and changes nothing",
    run: (bench) =>
      Effect.gen(function* () {
        const { kind } = bench
        const key = bench.freshKey()
        yield* equal("A look at a free key", counts(yield* look(bench, key)), nothing)
        const grant = yield* bench.grant("A free key is granted", key, { owner: "the holder" })
        const held = yield* look(bench, key)
        const one = { kind, inUse: 1, heldCount: 1, pendingCount: 0 }
        yield* equal("A look at a key that is held", counts(held), one)
        const [entry] = held.held
        yield* equal("The holders in the look", held.held.length, 1)
        yield* equal("Their fencing token", entry!.fencingToken, grant.fencingToken)
        yield* equal("Their share and limit", [entry!.share, entry!.limit], [1, 1])
        yield* oneOf("Their owner", entry!.owner, ["the holder", undefined])
        yield* holds(
          "A look does not show the token",
          !JSON.stringify(held).includes(grant.token),
          "a look without it",
          "it"
        )
        const left = entry!.ttlLeft
        yield* atMost(
          "What is left of their ttl",
          left === undefined ? Number.POSITIVE_INFINITY : Duration.toMillis(left),
          10_000
        )
        const waiter = yield* bench.wait(key)
        // (a store need not have a waiter in its queue while another caller of the process holds)
        const both = yield* look(bench, key)
        yield* oneOf("Who waits, counted", both.pendingCount, [0, 1])
        yield* equal("Who waits, listed", both.pending.length, both.pendingCount)
        const short = yield* look(bench, key, 0)
        yield* equal("At most so many are listed", [short.held, short.pending], [[], []])
        yield* equal("Who holds is counted", short.heldCount, 1)
        yield* equal("The lease goes on", yield* grant.verify, "Ours")
        yield* bench.stillWaits("A look serves nobody", waiter)
        yield* grant.release
        const next = yield* bench.served("A release serves the next", waiter)
        yield* next.release
        yield* equal("A look at a free key", counts(yield* look(bench, key)), nothing)
      })
  },
  {
    name: "a look names a holder as it has named the one who waited, if it has names",
    run: (bench) =>
      Effect.gen(function* () {
        const key = bench.freshKey()
        const first = yield* bench.grant("A free key is granted", key)
        const before = yield* look(bench, key)
        const waiter = yield* bench.wait(key)
        const after = yield* look(bench, key)
        const [one, same] = [before.held[0]!.id, after.held[0]!.id]
        yield* equal("The name of a holder, asked for again", same, one)
        yield* oneOf("Who waits here, counted", after.waitingHere, [1, undefined])
        yield* equal("What was revoked, if nobody asks", after.revoked ?? [], [])
        const place = after.pending[0]?.id
        yield* first.release
        const next = yield* bench.served("A release serves the next", waiter)
        const [holder] = (yield* look(bench, key)).held
        if (place !== undefined) {
          yield* equal("The name of a holder that has waited", holder!.id, place)
        }

        for (const { token } of [first, next]) {
          yield* holds(
            "A name does not show the token",
            one === undefined || !token.includes(one),
            "a name of its own",
            one
          )
        }
        const [at, later] = [before.at, (yield* look(bench, key)).at]
        if (at !== undefined && later !== undefined) {
          const passed = DateTime.toEpochMillis(later) - DateTime.toEpochMillis(at)
          yield* atLeast("What has passed between two looks", passed, 0)
          yield* atMost("What has passed between two looks", passed, 20_000)
        }
      })
  },
  {
    name: "a look does not prolong a lease",
    run: (bench) =>
      Effect.gen(function* () {
        const key = bench.freshKey()
        yield* bench.grant("A free key is granted", key, { ttlMillis: 300 })
        yield* Effect.raceFirst(
          bench.grant("A key expires, though it is looked at", key, { waitMillis: 4_000 }),
          Effect.forever(Effect.andThen(look(bench, key), Effect.sleep(5)))
        )
      })
  }
]

export const listing: Test = {
  name: "keys lists what is held or waited for, by its beginning",
  run: (bench) =>
    Effect.gen(function* () {
      const prefix = bench.freshKey()
      const listed = (from: string) =>
        Effect.map(succeeds("keys", Stream.runCollect(bench.store.keys!(from))), (keys) =>
          [...new Set(keys)].sort()
        )
      yield* equal("Keys of which nobody holds any", yield* listed(prefix), [])
      const grants = []
      for (const rest of ["a", "a*", "a?", "a[ab]", "b"]) {
        grants.push(yield* bench.grant("A free key is granted", prefix + rest))
      }
      yield* bench.grant("A free key is granted", bench.freshKey())
      const all = ["a", "a*", "a?", "a[ab]", "b"].map((rest) => prefix + rest).sort()
      yield* equal("Keys that are held", yield* listed(prefix), all)
      for (const rest of ["a*", "a?", "a[ab]", "b"]) {
        yield* equal("Keys that begin with more", yield* listed(prefix + rest), [prefix + rest])
      }
      yield* grants[0]!.release
      yield* equal(
        "Keys that are still held",
        yield* listed(prefix),
        all.filter((key) => key !== `${prefix}a`)
      )
    })
}

export const revoking: Test = {
  name: "revoke ends the lease with that fencing token, and no other",
  run: (bench) =>
    Effect.gen(function* () {
      const key = bench.freshKey()
      const revoke = (fencingToken: number) =>
        succeeds("revoke", bench.store.revoke!(key, fencingToken))
      yield* equal("Revoking what nobody holds", yield* revoke(1), false)
      const grant = yield* bench.grant("A free key is granted", key)
      const waiter = yield* bench.wait(key)
      yield* equal("Revoking another number", yield* revoke(grant.fencingToken - 1), false)
      yield* equal("The lease goes on", yield* grant.verify, "Ours")
      const revoked = (...ended: ReadonlyArray<number>) =>
        bench.store.look === undefined
          ? Effect.succeed(undefined)
          : Effect.map(succeeds("look", bench.store.look(key, 1, ended)), (look) => look.revoked)
      const before = (yield* revoked(grant.fencingToken)) ?? []
      yield* equal("What was revoked before that", before, [])
      yield* equal("Revoking what is held", yield* revoke(grant.fencingToken), true)
      const known = yield* revoked(grant.fencingToken - 1, grant.fencingToken)
      if (known !== undefined) {
        yield* equal("What was revoked, of two", known, [grant.fencingToken])
      }
      const next = yield* bench.served("It serves the next", waiter)
      yield* equal("Renewing what was revoked", yield* grant.renew, {
        _tag: "NotOurs",
        reason: "Revoked"
      })
      yield* Effect.exit(grant.release)
      yield* equal("Revoking it again", yield* revoke(grant.fencingToken), false)
      yield* equal("The next one's lease goes on", yield* next.verify, "Ours")
    })
}
