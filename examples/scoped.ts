/**
 * The scoped way: the lease is a value. Retries are around the acquisition, not around the work;
 * what is written carries the fencing token, and the resource refuses an older one.
 */
import { NodeRuntime } from "@effect/platform-node"
import { Console, Duration, Effect, Schedule } from "effect"
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

const patiently = Schedule.exponential("20 millis", 1.5).pipe(
  Schedule.jittered,
  Schedule.upTo("1 minute")
)

const updateReport = (author: string) =>
  Effect.scoped(
    Effect.gen(function* () {
      const lease = yield* Lock.tryAcquire("report", { ttl: "5 seconds", owner: author }).pipe(
        Effect.tapErrorTag("LockUnavailable", (busy) =>
          Console.log(`${author}: held by ${busy.holder.owner}, tries again`)
        ),
        Effect.retry({ schedule: patiently, while: (error) => error._tag === "LockUnavailable" })
      )
      yield* Console.log(`${author}: has the lock, fencing token ${lease.fencingToken}`)

      // interrupted if the lease is lost, and then fails with LockLost
      yield* lease.guard(
        Effect.sleep("60 millis").pipe(
          Effect.zipRight(writeReport(`by ${author}`, lease.fencingToken))
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
