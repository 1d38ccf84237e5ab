/** The store contract of the kinds that several can hold: shares, limits, and who fits. */
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import type { Test } from "./bench.js"
import { atLeast, atMost, equal, fails, holds, succeeds } from "./check.js"

export const semaphores: ReadonlyArray<Test> = [
  {
    name: "grants what fits, and no more",
    run: (bench) =>
      Effect.gen(function* () {
        const key = bench.freshKey()
        const one = yield* bench.grant("1 of 3 fits", key, { limit: 3 })
        const two = yield* bench.grant("2 more of 3 fit", key, { limit: 3, share: 2 })
        yield* bench.busy("A 4th of 3 does not fit", key, { limit: 3 })
        yield* equal("Two hold: of the first", yield* one.verify, "Ours")
        yield* equal("Two hold: of the second", yield* two.verify, "Ours")
        yield* two.release
        yield* equal("A release ends no other lease", yield* one.verify, "Ours")
        yield* bench.busy("3 of 3 do not fit beside 1", key, { limit: 3, share: 3 })
        yield* bench.grant("2 of 3 fit beside 1", key, { limit: 3, share: 2 })
      })
  },
  {
    name: "a large claim at the head of the queue is not overtaken, and blocks small ones",
    run: (bench) =>
      Effect.gen(function* () {
        const key = bench.freshKey()
        const first = yield* bench.grant("1 of 3 fits", key, { limit: 3 })
        const second = yield* bench.grant("2 of 3 fit", key, { limit: 3 })
        const large = yield* bench.wait(key, { limit: 3, share: 3 })
        const small = yield* bench.wait(key, { limit: 3 })
        yield* bench.busy("A claim that does not wait overtakes nobody", key, { limit: 3 })
        yield* first.release
        yield* Effect.sleep(50)
        yield* bench.stillWaits("3 of 3 do not fit beside 1", large)
        yield* bench.stillWaits("A small claim does not overtake a large one", small)
        yield* second.release
        const all = yield* bench.served("3 of 3 fit when nobody holds any", large)
        yield* bench.stillWaits("1 of 3 does not fit beside 3", small)
        yield* all.release
        yield* bench.served("A release serves the next", small)
      })
  },
  {
    name: "all that fit are granted when there is room, without one waiting for another's end",
    run: (bench) =>
      Effect.gen(function* () {
        const key = bench.freshKey()
        const whole = yield* bench.grant("5 of 5 fit", key, { limit: 5, share: 5 })
        const crowd = []
        for (const share of [1, 2, 1, 1, 1]) {
          crowd.push(yield* bench.wait(key, { limit: 5, share }))
        }
        yield* whole.release
        const tokens = new Set<number>()
        for (const waiter of crowd.slice(0, 4)) {
          const { fencingToken } = yield* bench.served("What fits is granted", waiter)
          yield* atLeast("Fencing tokens grow", fencingToken, whole.fencingToken + 1)
          tokens.add(fencingToken)
        }
        yield* equal("Fencing tokens of 4 grants", tokens.size, 4)
        yield* bench.stillWaits("1 of 5 does not fit beside 5", crowd[4]!)
      })
  },
  {
    name: "goes on when the head of its queue leaves: what stood behind and fits is granted",
    run: (bench) =>
      Effect.gen(function* () {
        const key = bench.freshKey()
        yield* bench.grant("1 of 3 fits", key, { limit: 3 })
        const impatient = yield* bench.wait(key, { limit: 3, share: 3, waitMillis: 200 })
        const cut = yield* bench.wait(key, { limit: 3, share: 3 })
        const small = yield* bench.wait(key, { limit: 3 })
        yield* fails("waitMillis ends the wait", Fiber.join(impatient.fiber))
        yield* bench.stillWaits("A small claim does not overtake a large one", small)
        yield* Fiber.interrupt(cut.fiber)
        yield* bench.served("What fits is granted when the head of the queue leaves", small)
      })
  },
  {
    name: "nobody's limit is exceeded while it holds, and a limit that differs is told",
    run: (bench) =>
      Effect.gen(function* () {
        const key = bench.freshKey()
        const limits: Array<number> = []
        const five = { limit: 5, whenLimitDiffers: (limit: number) => void limits.push(limit) }
        const old = yield* bench.grant("1 of 3 fits", key, { limit: 3 })
        yield* bench.grant("A 2nd fits into 3", key, five)
        yield* bench.grant("A 3rd fits into 3", key, five)
        yield* equal("whenLimitDiffers, at a grant", [...new Set(limits)], [3])
        limits.length = 0
        yield* bench.busy("A 4th does not fit while somebody holds who was promised 3", key, five)
        yield* equal("whenLimitDiffers, of a claim that fails", limits.length > 0, true)
        limits.length = 0
        const fourth = yield* bench.wait(key, five)
        yield* equal("whenLimitDiffers, of a claim that waits", limits.length > 0, true)
        const fifth = yield* bench.wait(key, five)
        yield* old.release
        yield* bench.served("A limit ends with the lease of who had it", fourth)
        yield* bench.served("A limit ends with the lease of who had it", fifth)
        yield* bench.busy("3 does not allow a 5th", key, { limit: 3 })
        yield* bench.grant("5 allow a 5th", key, { limit: 5 })
      })
  },
  {
    name: "a holder that dies costs its share for its ttl, and nobody else's",
    run: (bench) =>
      Effect.gen(function* () {
        const key = bench.freshKey()
        const dead = yield* bench.grant("2 of 3 fit", key, { limit: 3, share: 2, ttlMillis: 800 })
        const alive = yield* bench.grant("A 3rd fits", key, { limit: 3 })
        const waiter = yield* bench.wait(key, { limit: 3, share: 2 })
        const next = yield* bench.served("An expired share is granted to the next", waiter)
        yield* equal("Renewing what has expired", (yield* dead.renew)._tag, "NotOurs")
        yield* Effect.exit(dead.release)
        yield* equal("Others' leases do not end with it", yield* alive.verify, "Ours")
        yield* equal("An expired holder frees nothing", yield* next.verify, "Ours")
        yield* bench.busy("A 4th of 3 does not fit", key, { limit: 3 })
      })
  },
  {
    name: "the fencing floor is no greater than a live holder's fencing token",
    run: (bench) =>
      Effect.gen(function* () {
        const key = bench.freshKey()
        const first = yield* bench.grant("1 of 3 fits", key, { limit: 3 })
        const second = yield* bench.grant("A 2nd fits", key, { limit: 3 })
        const floor = "fencingFloor is not above the smallest fencing token of those who hold"
        yield* atMost(floor, second.fencingFloor ?? second.fencingToken, first.fencingToken)
        yield* first.release
        const third = yield* bench.grant("A 3rd fits", key, { limit: 3 })
        yield* atMost(floor, third.fencingFloor ?? third.fencingToken, second.fencingToken)
      })
  }
]

const most = 1_000_000
const write = { share: most, limit: most }
const read = { share: 1, limit: most }

export const readWriteLocks: ReadonlyArray<Test> = [
  {
    name: "many read at a time, and a writer is alone",
    run: (bench) =>
      Effect.gen(function* () {
        const key = bench.freshKey()
        const first = yield* bench.grant("A reader enters", key, read)
        const second = yield* bench.grant("A second reader enters", key, read)
        yield* bench.busy("A writer does not enter beside readers", key, write)
        yield* first.release
        yield* equal("The other one reads on", yield* second.verify, "Ours")
        yield* bench.busy("A writer does not enter beside a reader", key, write)
        yield* second.release
        yield* bench.grant("A writer enters when nobody is inside", key, write)
        yield* bench.busy("A reader does not enter beside a writer", key, read)
        yield* bench.busy("A writer does not enter beside a writer", key, write)
      })
  },
  {
    name: "a waiting writer stops later readers, and waits only for those inside",
    run: (bench) =>
      Effect.gen(function* () {
        const key = bench.freshKey()
        const inside = yield* bench.grant("A reader enters", key, read)
        const writer = yield* bench.wait(key, write)
        yield* bench.busy("A reader that does not wait overtakes no writer", key, read)
        const late = yield* bench.wait(key, read)
        const later = yield* bench.wait(key, read)
        yield* inside.release
        const writing = yield* bench.served("A writer enters when those inside have left", writer)
        yield* bench.stillWaits("A reader does not enter beside a writer", late)
        yield* writing.release
        yield* bench.served("Readers enter together", late)
        yield* bench.served("Readers enter together", later)
      })
  }
]

export const reshared: ReadonlyArray<Test> = [
  {
    name: "a share that is made smaller lets those behind in, and nobody in between",
    run: (bench) =>
      Effect.gen(function* () {
        const key = bench.freshKey()
        const grant = yield* bench.grant("5 of 5 fit", key, { limit: 5, share: 5 })
        const small = yield* bench.wait(key, { limit: 5, share: 2 })
        const large = yield* bench.wait(key, { limit: 5, share: 5 })
        const renewal = yield* succeeds("Making a share smaller", grant.reshare!(3))
        yield* equal("Making a share smaller is a renewal", renewal._tag, "Renewed")
        yield* bench.served("What fits then is granted", small)
        yield* bench.stillWaits("What does not fit waits", large)
        yield* equal("The lease goes on", yield* grant.verify, "Ours")
        yield* equal("Renewals go on", (yield* grant.renew)._tag, "Renewed")
        const refused = yield* fails("A share cannot be made greater", grant.reshare!(4))
        yield* equal("It would always fail", refused.transient, false)
        yield* equal("The lease goes on", yield* grant.verify, "Ours")
      })
  }
]

/** (The second kind is asked for where the first one is held.) */
export const kindsThatMeet: ReadonlyArray<Test> = [
  {
    name: "a claim of another kind fails, and changes nothing",
    run: (bench, other) =>
      Effect.gen(function* () {
        const key = bench.freshKey()
        const grant = yield* bench.grant("A free key is granted", key)
        for (const waitMillis of [0, 1_000]) {
          const error = yield* fails(
            `A key that is held as a ${bench.kind} is refused as a ${other}`,
            bench.ask(key, { kind: other, waitMillis })
          )
          yield* holds("The error", error._tag === "LockStoreError", "a LockStoreError", error)
          if (error._tag !== "LockStoreError") return
          yield* equal("The error's operation", error.operation, "acquire")
          yield* equal("The error's key", error.key, key)
          yield* equal("Trying again does not help", error.transient, false)
        }
        yield* equal("The lease goes on", yield* grant.verify, "Ours")
        const waiter = yield* bench.wait(key)
        yield* grant.release
        yield* bench.served("The queue goes on", waiter)
        yield* Effect.flatMap(Fiber.join(waiter.fiber), ({ release }) => release)
        yield* bench.free("A free key is of no kind", key, { kind: other })
      })
  }
]
