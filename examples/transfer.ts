/**
 * Transfers between accounts: each needs two locks at once, and names them in the order of its own.
 * Nobody waits for ever, since `MultiLock` takes the keys in the same order everywhere.
 */
import { NodeRuntime } from "@effect/platform-node"
import { Console, Effect, Option } from "effect"
import { Lock, MultiLock } from "effect-redis-lock"
import { StoreLive } from "./support/store.js"

/** In SQL: `UPDATE account SET balance = …, fence = $fence WHERE id = $id AND fence <= $fence`. */
const accounts = new Map(
  ["alice", "bob", "carol"].map((id): [string, { balance: number; fence: number }] => [
    id,
    { balance: 100, fence: 0 }
  ])
)
const change = (id: string, amount: number, fence: number) =>
  Effect.gen(function* () {
    const account = accounts.get(id)!
    const { balance } = account
    // whoever came in between would be forgotten
    yield* Effect.sleep("2 millis")
    if (fence < account.fence) return yield* Effect.fail(`refused: ${fence} is behind`)
    account.balance = balance + amount
    account.fence = fence
  })

const keyOf = (id: string) => `account:${id}`

const transfer = (from: string, to: string, amount: number) =>
  MultiLock.withLocks([keyOf(from), keyOf(to)], { waitAtMost: "10 seconds", name: "transfer" })(
    (lease) =>
      Effect.all(
        [
          change(from, -amount, lease.fencingToken(keyOf(from))),
          change(to, amount, lease.fencingToken(keyOf(to)))
        ],
        { discard: true }
      )
  )

/** The same keys as single locks: a deposit and a transfer of the same account exclude each other. */
const deposit = (id: string, amount: number) =>
  Lock.withLock(keyOf(id), { waitAtMost: "10 seconds" })((lease) =>
    change(id, amount, lease.fencingToken)
  )

const program = Effect.gen(function* () {
  // round and round, each in its own order
  const rounds = Array.from({ length: 20 }, () => [
    transfer("alice", "bob", 1),
    transfer("bob", "carol", 1),
    transfer("carol", "alice", 1),
    deposit("carol", 1)
  ]).flat()
  yield* Effect.all(rounds, { concurrency: "unbounded", discard: true })
  for (const [id, { balance }] of accounts) yield* Console.log(`${id}: ${balance}`)

  // one attempt for all of them, or nothing
  const audit = Effect.succeed(
    [...accounts.values()].reduce((sum, { balance }) => sum + balance, 0)
  )
  const total = yield* audit.pipe(MultiLock.withLocksIfAvailable([...accounts.keys()].map(keyOf)))
  yield* Console.log(`total: ${Option.getOrElse(total, () => "somebody is at work")}`)
  if (Option.getOrUndefined(total) !== 320) return yield* Effect.dieMessage("a change was lost")
})

program.pipe(Effect.provide(StoreLive), NodeRuntime.runMain)
