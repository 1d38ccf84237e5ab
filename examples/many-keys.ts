/** Many locks at the same time, each for a piece of work of its own. (Several for one: transfer.ts.) */
import { NodeRuntime } from "@effect/platform-node"
import { Console, Effect } from "effect"
import { Lock } from "effect-redis-lock"
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

const program = Effect.gen(function* () {
  yield* interestForAll
  const wrong = [...balances.values()].filter((balance) => balance !== 102).length
  yield* Console.log(`200 updates of ${balances.size} accounts, ${balances.size - wrong} are right`)
  if (wrong > 0) return yield* Effect.dieMessage("updates were lost")
})

program.pipe(Effect.provide(StoreLive), NodeRuntime.runMain)
