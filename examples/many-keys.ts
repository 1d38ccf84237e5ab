/** Many locks at once: independent ones with Effect.forEach, and several for one piece of work. */
import { NodeRuntime } from "@effect/platform-node"
import { Console, Effect } from "effect"
import { Lock, type LockError, type LockStore } from "effect-redis-lock"
import { StoreLive } from "./support/store.js"

const balances = new Map(Array.from({ length: 100 }, (_, id) => [id, 100]))
const add = (id: number, amount: number) =>
  Effect.gen(function* () {
    const before = balances.get(id)!
    yield* Effect.sleep("5 millis")
    balances.set(id, before + amount)
  })

// A hundred keys, twice each, 32 at a time: each key is a lock of its own.
const interestForAll = Effect.forEach(
  [...balances.keys(), ...balances.keys()],
  (id) => add(id, 1).pipe(Lock.withLock(`account:${id}`, { waitAtMost: "10 seconds" })),
  { concurrency: 32, discard: true }
)

/**
 * Runs an effect under several locks. They are taken in the same order, so there is no deadlock.
 */
const withLocks =
  (keys: ReadonlyArray<string>) =>
  <A, E, R>(body: Effect.Effect<A, E, R>) =>
    [...new Set(keys)]
      .sort()
      .reduceRight<
        Effect.Effect<
          A,
          E | LockError.LockUnavailable | LockError.LockLost | LockError.LockStoreError,
          R | LockStore.LockStore
        >
      >((inner, key) => inner.pipe(Lock.withLock(key, { waitAtMost: "10 seconds" })), body)

const transfer = (from: number, to: number, amount: number) =>
  Effect.all([add(from, -amount), add(to, amount)], { discard: true }).pipe(
    withLocks([`account:${from}`, `account:${to}`])
  )

const program = Effect.gen(function* () {
  yield* interestForAll
  const wrong = [...balances.values()].filter((balance) => balance !== 102).length
  yield* Console.log(`200 updates of ${balances.size} accounts, ${balances.size - wrong} are right`)

  yield* Effect.all([transfer(1, 2, 50), transfer(2, 1, 20), transfer(3, 2, 10)], {
    concurrency: "unbounded"
  })
  yield* Console.log(`after three transfers: ${[1, 2, 3].map((id) => balances.get(id)).join(", ")}`)
  if (wrong > 0) return yield* Effect.dieMessage("updates were lost")
})

program.pipe(Effect.provide(StoreLive), NodeRuntime.runMain)
