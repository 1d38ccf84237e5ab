/** The short way: take the lock, run, give it back. */
import { NodeRuntime } from "@effect/platform-node"
import { Console, Effect, Option } from "effect"
import { Lock } from "effect-redis-lock"
import { StoreLive } from "./support/store.js"

const settle = (by: string) =>
  Effect.gen(function* () {
    yield* Console.log(`${by}: settles the invoice`)
    yield* Effect.sleep("50 millis")
    yield* Console.log(`${by}: done`)
  })

// One at a time; the second caller waits, for at most 10 seconds.
const settleInTurn = (by: string) =>
  settle(by).pipe(Lock.withLock("invoice:42", { ttl: "5 seconds", waitAtMost: "10 seconds" }))

// One caller does it, the others skip it.
const settleIfNobodyDoes = (by: string) =>
  settle(by).pipe(
    Lock.withLockIfAvailable("invoice:42", { owner: by }),
    Effect.flatMap(
      Option.match({
        onNone: () => Console.log(`${by}: somebody else is doing it, nothing to do`),
        onSome: () => Effect.void
      })
    )
  )

const program = Effect.gen(function* () {
  yield* Effect.all([settleInTurn("first"), settleInTurn("second")], { concurrency: 2 })
  yield* Effect.all([settleIfNobodyDoes("third"), settleIfNobodyDoes("fourth")], { concurrency: 2 })
}).pipe(
  // each error is a class of its own, and its message says what to do
  Effect.catchTags({
    LockUnavailable: (busy) => Console.error(`Not settled, try again: ${busy.message}`),
    LockLost: (lost) => Console.error(`Check what was written: ${lost.message}`)
  })
)

program.pipe(Effect.provide(StoreLive), NodeRuntime.runMain)
