/**
 * A worker that keeps a lock for as long as it lives, and runs until interrupted (SIGINT, which is
 * Ctrl-C, or SIGTERM, which orchestrators send). NodeRuntime.runMain then interrupts the program,
 * its scopes close, and the next worker gets the lock at once instead of a ttl later.
 *
 * After a second signal, process.exit, a crash or SIGKILL, the lock stays held until its ttl is
 * over.
 */
import { NodeRuntime } from "@effect/platform-node"
import { Config, Console, Duration, Effect, Schedule } from "effect"
import { Lock } from "effect-redis-lock"
import { StoreLive } from "./support/store.js"

const rebuildIndex = Console.log("rebuilds the index").pipe(
  Effect.repeat(Schedule.spaced("1 second"))
)

const worker = Effect.gen(function* () {
  const ttl = yield* Config.withDefault(Config.duration("TTL"), Duration.seconds(30))
  yield* Console.log("waits for the lock")
  return yield* Lock.withLock("indexer", { ttl, owner: `worker ${process.pid}` })((lease) =>
    Effect.andThen(
      Console.log(`has the lock, fencing token ${lease.fencingToken}`),
      rebuildIndex
    ).pipe(
      // runs before the lock is given back; keep it shorter than the orchestrator's grace period
      Effect.onInterrupt(() => Console.log("interrupted: cleans up, still under the lock"))
    )
  )
})

worker.pipe(
  Effect.onInterrupt(() => Console.log("has stopped, and nothing stays locked")),
  Effect.provide(StoreLive),
  NodeRuntime.runMain
)
