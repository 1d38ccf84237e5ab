/** Locks under Effect's own combinators: whatever ends the wait or the work, nothing stays locked. */
import { NodeRuntime } from "@effect/platform-node"
import { Console, Effect, Option } from "effect"
import { Lock } from "effect-redis-lock"
import { StoreLive } from "./support/store.js"

const isFree = (key: string) =>
  Effect.map(Lock.withLockIfAvailable(key)(Effect.void), (free) =>
    Option.isSome(free) ? `${key} is free` : `${key} is locked`
  )

// waitAtMost bounds the wait, never the work.
const boundedWait = Effect.scoped(
  Effect.gen(function* () {
    yield* Lock.acquire("table:1", { owner: "the first guest" })
    yield* Console.log("dinner").pipe(
      Lock.withLock("table:1", { waitAtMost: "100 millis" }),
      Effect.catchTag("LockUnavailable", (busy) => Console.log(busy.message))
    )
  })
)

// Effect.timeout around withLock bounds both together; the work is interrupted, then released.
const boundedWhole = Effect.gen(function* () {
  yield* Effect.sleep("1 minute").pipe(
    Effect.onInterrupt(() => Console.log("the work was interrupted, still under its lock")),
    Lock.withLock("table:2"),
    Effect.timeout("100 millis"),
    Effect.catchTag("TimeoutException", () => Console.log("timed out"))
  )
  yield* Console.log(yield* isFree("table:2"))
})

// Either of two keys is enough: race the acquisitions, not the work. The other attempt is taken
// back; if it was granted at the same moment, the scope releases it.
const eitherTable = Effect.gen(function* () {
  yield* Effect.scoped(
    Effect.gen(function* () {
      yield* Lock.acquire("table:3")
      const lease = yield* Effect.race(Lock.acquire("table:3"), Lock.acquire("table:4"))
      yield* lease.guard(Console.log(`${lease.key} was granted first`))
    })
  )
  yield* Console.log(`${yield* isFree("table:3")}, ${yield* isFree("table:4")}`)
})

const program = Effect.all([boundedWait, boundedWhole, eitherTable], { discard: true })

program.pipe(Effect.provide(StoreLive), NodeRuntime.runMain)
