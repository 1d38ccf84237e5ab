/**
 * The scoped way: the lease is a value, and the lock is given back when the scope closes.
 * `Lock.acquire` waits in the queue, so it needs no retries. Each write carries the fencing token,
 * and the resource refuses a token that is older than one it has seen.
 */
import { NodeRuntime } from "@effect/platform-node"
import { Console, Duration, Effect } from "effect"
import { Lock } from "effect-redis-lock"
import { StoreLive } from "./support/store.js"

/** In SQL: `UPDATE report SET …, fence = $fence WHERE id = $id AND fence <= $fence`. */
const report = { text: "", fence: 0 }
const writeReport = (text: string, fence: number) =>
  Effect.suspend(() => {
    if (fence < report.fence) return Effect.fail(`refused: ${fence} is behind ${report.fence}`)
    report.text = text
    report.fence = fence
    return Effect.void
  })

const updateReport = (author: string) =>
  Effect.scoped(
    Effect.gen(function* () {
      const lease = yield* Lock.acquire("report", {
        ttl: "5 seconds",
        owner: author,
        waitAtMost: "1 minute"
      }).pipe(
        Effect.tapErrorTag("LockUnavailable", (busy) =>
          Console.log(`${author}: gave up, held by ${busy.holder.owner}`)
        )
      )
      yield* Console.log(`${author}: has the lock, fencing token ${lease.fencingToken}`)

      // interrupted if the lease is lost, and then fails with LockLost
      yield* lease.guard(
        Effect.sleep("60 millis").pipe(
          Effect.andThen(writeReport(`by ${author}`, lease.fencingToken))
        )
      )

      const left = yield* lease.remaining
      yield* Console.log(`${author}: written, ${Duration.toMillis(left).toFixed(0)} ms to spare`)
      // others need not wait for the rest of this scope
      yield* lease.release
      yield* Effect.sleep("60 millis")
    })
  )

const program = Effect.forEach(["Ada", "Grace"], updateReport, { concurrency: "unbounded" })

program.pipe(Effect.provide(StoreLive), NodeRuntime.runMain)
