/**
 * Three processes (here: three fibers) that share two kinds of work. One of them leads, and rebalances for
 * as long as it leads; when it is shut down, the next one goes on at once. And each second, one of them
 * writes a report: each report once, whichever of them are there. An observer tells who leads.
 *
 * With REDIS_URL, start it in several terminals at the same time: it is one for all of them.
 */
import { Console, DateTime, Duration, Effect, Fiber, Layer, Option, Schedule, Stream } from "effect"
import { CronJob, Leader } from "effect-redis-lock"
import { StoreLive } from "./support/store.js"

/** It writes with its term, so that a leader of yesterday can be refused. */
const rebalancing = (name: string) =>
  Leader.layer("rebalancer", { ttl: "5 seconds", owner: name })(({ fencingToken }) =>
    Console.log(`${name}: rebalances, term ${fencingToken}`).pipe(
      Effect.repeat(Schedule.spaced("500 millis")),
      Effect.onInterrupt(() => Console.log(`${name}: has cleaned up, still as the leader`))
    )
  )

const reporting = (name: string) =>
  CronJob.layer("report", { cron: "* * * * * *", owner: name })(({ scheduledAt }) =>
    Console.log(`${name}: the report of ${DateTime.formatIso(scheduledAt)}`)
  )

/** What each process runs, until it is shut down. */
const process = (name: string) =>
  Effect.fork(Layer.launch(Layer.merge(rebalancing(name), reporting(name))))

const observer = Leader.changes("rebalancer", { every: "50 millis" }).pipe(
  Stream.runForEach((leader) =>
    Console.log(
      Option.match(leader, {
        onNone: () => "  (nobody leads)",
        onSome: ({ owner, term }) => `  (${owner} leads, term ${term})`
      })
    )
  )
)

const program = Effect.gen(function* () {
  yield* Effect.fork(observer)
  yield* Effect.sleep("100 millis")
  const processes = yield* Effect.forEach(["first", "second", "third"], process)
  for (const one of processes) {
    yield* Effect.sleep("1200 millis")
    const [took] = yield* Effect.timed(Fiber.interrupt(one))
    yield* Console.log(`  (shut down, in ${Math.ceil(Duration.toMillis(took))} ms)`)
  }
  yield* Effect.sleep("200 millis")
})

await Effect.runPromise(program.pipe(Effect.provide(StoreLive)))
