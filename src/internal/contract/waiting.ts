/** The store contract, of every kind: waiting for a turn, and giving up. */
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import { identity } from "effect/Function"
import type { Grant } from "../faces/lockStore.js"
import { latch, pause, type Test, type Waiter } from "./bench.js"
import { atLeast, atMost, detached, equal, holds, oneOf, within } from "./check.js"

export const waiting: ReadonlyArray<Test> = [
  {
    name: "one at a time, and fencing tokens grow with every grant",
    run: (bench) =>
      Effect.gen(function* () {
        const key = bench.freshKey()
        const tokens: Array<number> = []
        let inside = 0
        const turn = Effect.gen(function* () {
          const grant = yield* bench.ask(key, { waitMillis: 60_000 })
          yield* equal("Holders of the key at a time", ++inside, 1)
          tokens.push(grant.fencingToken)
          yield* Effect.sleep(1)
          inside--
          yield* equal("Releasing what is held", yield* grant.release, "Ours")
        })
        yield* Effect.forEach(Array.from({ length: 10 }), () => Effect.repeat(turn, { times: 4 }), {
          concurrency: "unbounded",
          discard: true
        })
        const sorted = [...new Set(tokens)].sort((a, b) => a - b)
        yield* equal("Fencing tokens, in the order of the grants, grow", tokens, sorted)
        yield* equal("Grants", tokens.length, 50)
      })
  },
  {
    name: "waiters are served in the order in which they came, those that left aside",
    run: (bench) =>
      Effect.gen(function* () {
        const key = bench.freshKey()
        const holder = yield* bench.grant("A free key is granted", key)
        const waiters: Array<Waiter> = []
        for (let who = 0; who < 5; who++) {
          waiters.push(yield* bench.wait(key, who === 3 ? { waitMillis: 300 } : {}))
        }
        yield* within("A wait can be interrupted", 2_000, Fiber.interrupt(waiters[1]!.fiber))
        yield* within("waitMillis ends the wait", 4_000, Fiber.await(waiters[3]!.fiber))
        let last: Grant = holder
        for (const who of [0, 2, 4]) {
          for (const other of [0, 2, 4]) {
            if (other >= who) {
              yield* bench.stillWaits("One is served after the other", waiters[other]!)
            }
          }
          yield* last.release
          const next = yield* bench.served(`Waiter ${who} is next`, waiters[who]!)
          yield* atLeast("Fencing tokens grow", next.fencingToken, last.fencingToken + 1)
          last = next
        }
        yield* last.release
        yield* bench.free("After the last one the key is free", key)
      })
  },
  {
    name: "a release serves the waiter before it ends, so that nobody can step in",
    run: (bench) =>
      Effect.gen(function* () {
        const key = bench.freshKey()
        const holder = yield* bench.grant("A free key is granted", key)
        const waiter = yield* bench.wait(key)
        yield* bench.busy("A claim that does not wait fails while others do", key)
        yield* holder.release
        yield* bench.busy("A key that is released goes to who waits for it", key)
        yield* bench.served("A release serves the next", waiter)
      })
  },
  {
    name: "says once that a claim has to wait, and who has the key",
    run: (bench) =>
      Effect.gen(function* () {
        const key = bench.freshKey()
        const holder = yield* bench.grant("A free key is granted", key, { owner: "the holder" })
        const waiter = yield* bench.wait(key, { owner: "the waiter" })
        const { holder: found } = waiter.told[0]!()
        yield* oneOf("The holder's owner", found.owner, ["the holder", undefined])
        yield* equal("Whether the holder is foreign", found.foreign, false)
        yield* holder.release
        const grant = yield* bench.served("A release serves the next", waiter)
        yield* holds(
          "contention of who has waited",
          grant.contention !== undefined,
          "one",
          undefined
        )
        yield* equal("Calls of whenWaiting", waiter.told.length, 1)
      })
  },
  {
    name: "a wait ends when the claim says, and leaves nothing behind",
    run: (bench) =>
      Effect.gen(function* () {
        const key = bench.freshKey()
        const holder = yield* bench.grant("A free key is granted", key)
        const before = bench.now()
        const error = yield* bench.busy("waitMillis ends the wait", key, { waitMillis: 150 })
        const waited = bench.now() - before
        yield* atLeast("The wait, in milliseconds", waited, 140)
        yield* atMost("The wait, in milliseconds", waited, 3_000)
        yield* atLeast("LockUnavailable.waited", Duration.toMillis(error.waited), 140)
        yield* atMost("LockUnavailable.waited", Duration.toMillis(error.waited), waited + 1)
        yield* holder.release
        yield* bench.grant("After the release the key is free", key)
      })
  },
  {
    name: "a waiter that is interrupted leaves nothing behind, and the one behind it is served",
    run: (bench) =>
      Effect.gen(function* () {
        const key = bench.freshKey()
        const holder = yield* bench.grant("A free key is granted", key)
        const first = yield* bench.wait(key)
        const second = yield* bench.wait(key)
        yield* within("A wait can be interrupted", 2_000, Fiber.interrupt(first.fiber))
        yield* holder.release
        const grant = yield* bench.served("The one behind who left is served", second)
        yield* grant.release
        yield* bench.free("After the last one the key is free", key)
      })
  },
  {
    name: "a caller that cannot be interrupted keeps its place, and its grant",
    run: (bench) =>
      Effect.gen(function* () {
        const key = bench.freshKey()
        const holder = yield* bench.grant("A free key is granted", key)
        const waits = latch()
        const granted = yield* Deferred.make<Grant>()
        const claim = bench.claim(key, {
          waitMillis: Number.POSITIVE_INFINITY,
          whenWaiting: () => waits.open()
        })
        const fiber = yield* detached(
          Effect.uninterruptible(
            Effect.flatMap(bench.store.acquire(claim, identity), (grant) =>
              Deferred.succeed(granted, grant)
            )
          )
        )
        yield* within("A claim that has to wait calls whenWaiting", 4_000, waits.opened)
        yield* detached(Fiber.interrupt(fiber))
        yield* holder.release
        const promise = "Where restore does not make it interruptible, a claim is not interrupted"
        const grant = yield* within(promise, 4_000, Deferred.await(granted))
        yield* equal("Releasing what is held", yield* grant.release, "Ours")
        yield* bench.free("After the last one the key is free", key)
      })
  },
  {
    name: "an acquisition that is interrupted at any moment leaves nothing behind",
    run: (bench) =>
      Effect.forEach(
        Array.from({ length: 60 }, () => bench.freshKey()),
        (key, index) =>
          Effect.gen(function* () {
            const fiber = yield* Effect.forkScoped(
              Effect.scoped(Effect.andThen(bench.ask(key, { ttlMillis: 60_000 }), Effect.never))
            )
            yield* pause(index)
            yield* within("An acquisition can be interrupted", 3_000, Fiber.interrupt(fiber))
            yield* bench.free("What was interrupted leaves nothing locked", key)
          }),
        { concurrency: "unbounded", discard: true }
      )
  },
  {
    name: "waiters that are interrupted just as the key becomes free leave nothing behind",
    run: (bench) =>
      Effect.forEach(
        Array.from({ length: 40 }, () => bench.freshKey()),
        (key, index) =>
          Effect.gen(function* () {
            const patient = { ttlMillis: 60_000, waitMillis: Number.POSITIVE_INFINITY }
            const holder = yield* bench.grant("A free key is granted", key, { ttlMillis: 60_000 })
            const waiter = yield* Effect.forkScoped(
              Effect.scoped(Effect.andThen(bench.ask(key, patient), Effect.never))
            )
            yield* Effect.sleep(index % 4)
            const releasing = yield* Effect.forkScoped(holder.release)
            yield* pause(index)
            yield* within("A wait can be interrupted", 3_000, Fiber.interrupt(waiter))
            yield* Fiber.join(releasing)
            yield* bench.free("What was interrupted leaves nothing locked", key)
          }),
        { concurrency: "unbounded", discard: true }
      )
  }
]
