/** The store contract of claims with a tick. */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Schedule from "effect/Schedule"
import type { Scope } from "effect/Scope"
import type { Claim } from "../faces/lockStore.js"
import { type Bench, pause, type Test } from "./bench.js"
import { atLeast, type ContractBroken, equal, succeeds, within } from "./check.js"

/** It must not be granted, because that one was. */
const refused = (
  bench: Bench,
  key: string,
  tick: number,
  lastTick: number,
  more?: Partial<Claim>
): Effect.Effect<void, ContractBroken, Scope> =>
  Effect.flatMap(
    bench.busy("A tick is granted once, and then only a later one", key, { tick, ...more }),
    (error) =>
      equal("LockUnavailable.lastTick is the last one that was granted", error.lastTick, lastTick)
  )

/** It must be granted, though perhaps not at once: a grant that is undone may be on its way back. */
const granted = (
  bench: Bench,
  promise: string,
  key: string,
  tick: number
): Effect.Effect<void, ContractBroken> =>
  bench.ask(key, { tick, waitMillis: 2_000 }).pipe(
    Effect.retry({
      while: (error) => error._tag === "LockUnavailable",
      schedule: Schedule.spaced(20),
      times: 150
    }),
    (asked) => within(promise, 8_000, succeeds(promise, asked)),
    Effect.asVoid,
    Effect.scoped
  )

const forEver = { waitMillis: Number.POSITIVE_INFINITY }

export const ticks: ReadonlyArray<Test> = [
  {
    name: "a tick is granted once, and then only a later one",
    run: (bench) =>
      Effect.gen(function* () {
        const key = bench.freshKey()
        const first = yield* bench.grant("A first tick is granted", key, { tick: 5 })
        yield* first.release
        yield* refused(bench, key, 5, 5)
        yield* refused(bench, key, 4, 5)
        yield* refused(bench, key, 5, 5, forEver)
        // it is the tick that is refused, and not the key
        yield* bench.free("What is refused leaves nothing locked", key)
        const next = yield* bench.grant("A later tick is granted", key, { tick: 6 })
        yield* refused(bench, key, 6, 6)
        const { lastTick } = yield* bench.busy("A key that is held is busy", key, { tick: 7 })
        yield* equal("LockUnavailable.lastTick of a later tick", lastTick, undefined)
        yield* equal("The lease goes on", yield* next.verify, "Ours")
        yield* next.release
        yield* Effect.asVoid(bench.grant("What was refused can be granted", key, { tick: 7 }))
        yield* refused(bench, key, 6, 7)
      })
  },
  {
    name: "ticks are whole numbers of one key, however small or great",
    run: (bench) =>
      Effect.gen(function* () {
        const key = bench.freshKey()
        for (const tick of [-7, -1, 0, 3, 1_800_000_000_000, Number.MAX_SAFE_INTEGER]) {
          const grant = yield* bench.grant("A later tick is granted", key, { tick })
          yield* grant.release
          yield* refused(bench, key, tick, tick)
        }
        yield* bench.grant("Another key has ticks of its own", bench.freshKey(), { tick: 0 })
      })
  },
  {
    name: "of those who wait for one tick one is served, and the others fail then",
    run: (bench) =>
      Effect.gen(function* () {
        const key = bench.freshKey()
        const first = yield* bench.grant("A first tick is granted", key, { tick: 1 })
        const same = []
        for (let who = 0; who < 3; who++) same.push(yield* bench.wait(key, { tick: 2 }))
        const later = yield* bench.wait(key, { tick: 3 })
        yield* Effect.sleep(50)
        for (const waiter of [...same, later]) {
          yield* bench.stillWaits("A later tick waits for a holder", waiter)
        }
        yield* first.release
        const exits = yield* within(
          "Those who wait for a tick fail when it has been granted",
          5_000,
          Effect.forEach(same, ({ fiber }) => Fiber.await(fiber))
        )
        const served = exits.filter(Exit.isSuccess)
        yield* equal("Grants of one tick", served.length, 1)
        for (const { cause } of exits.filter(Exit.isFailure)) {
          const error = Cause.squash(cause) as { readonly _tag?: string; lastTick?: number }
          yield* equal("What the others fail with", error._tag, "LockUnavailable")
          yield* equal("Its lastTick", error.lastTick, 2)
        }
        yield* bench.stillWaits("A later tick waits for a holder", later)
        const [{ value }] = served as [(typeof served)[number]]
        yield* equal("The lease goes on", yield* value.verify, "Ours")
        yield* value.release
        const last = yield* bench.served("A release serves the next", later)
        yield* atLeast("Fencing tokens grow", last.fencingToken, value.fencingToken + 1)
      })
  },
  {
    name: "who waits for an earlier tick than one that is granted meanwhile fails then",
    run: (bench) =>
      Effect.gen(function* () {
        const key = bench.freshKey()
        const holder = yield* bench.grant("A free key is granted", key)
        const later = yield* bench.wait(key, { tick: 4 })
        const earlier = yield* Effect.forkScoped(refused(bench, key, 3, 4, forEver))
        const behind = yield* bench.wait(key)
        yield* holder.release
        const grant = yield* bench.served("A release serves the next", later)
        yield* Fiber.join(earlier)
        yield* equal("The lease goes on", yield* grant.verify, "Ours")
        yield* bench.stillWaits("One is served after the other", behind)
        yield* grant.release
        yield* bench.served("A claim without a tick is served in its turn", behind)
      })
  },
  {
    name: "a tick is remembered when its lease has expired",
    run: (bench) =>
      Effect.gen(function* () {
        const key = bench.freshKey()
        const dead = { tick: 1, tickKeptMillis: 60_000, ttlMillis: 300 }
        yield* bench.grant("A first tick is granted", key, dead)
        const waiter = yield* bench.wait(key, { ...dead, tick: 2 })
        yield* bench.served("An expiry serves the next", waiter)
        yield* Effect.sleep(450)
        yield* refused(bench, key, 2, 2)
        yield* refused(bench, key, 1, 2)
        yield* bench.free("An expired key is free", key, { tick: 3 })
      })
  },
  {
    name: "a grant that did not come to its caller leaves its tick to another one",
    run: (bench) =>
      Effect.gen(function* () {
        const promise = "A tick that nobody was granted can be granted"
        const key = bench.freshKey()
        const holder = yield* bench.grant("A first tick is granted", key, { tick: 1 })
        const gone = yield* bench.wait(key, { tick: 2 })
        yield* within("A wait can be interrupted", 2_000, Fiber.interrupt(gone.fiber))
        yield* holder.release
        yield* granted(bench, promise, key, 2)
        yield* Effect.forEach(
          Array.from({ length: 60 }, () => bench.freshKey()),
          (one, index) =>
            Effect.gen(function* () {
              const first = yield* bench.grant("A first tick is granted", one, { tick: 1 })
              const waits = index % 2 === 0
              if (!waits) yield* first.release
              const moment = waits
                ? Effect.andThen(
                    Effect.sleep(index % 4),
                    Effect.andThen(Effect.forkScoped(first.release), pause(index))
                  )
                : pause(index)
              const came = yield* bench.interrupted(one, { tick: 2, ...forEver }, moment)
              yield* came ? refused(bench, one, 2, 2) : granted(bench, promise, one, 2)
              yield* refused(bench, one, 1, 2)
            }),
          { concurrency: "unbounded", discard: true }
        )
      })
  }
]
