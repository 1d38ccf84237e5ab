/**
 * A leader with a cron job under it, in three processes (here: three fibers). One of them leads: it rebalances,
 * and each second it writes a report of what it has in its memory. When it is shut down, the job ends with the
 * lead, and the next one goes on at once: no report is written twice, also over a change of leader, since the
 * store keeps the last tick that was granted. An observer tells who leads.
 *
 * With REDIS_URL, start it in several terminals at the same time: it is one for all of them.
 */
import { Console, DateTime, Duration, Effect, Fiber, Layer, Option, Schedule, Stream } from "effect"
import { CronJob, Leader } from "effect-redis-lock"
import { StoreLive } from "./support/store.js"

/** It writes with its term, so that a write of an earlier leader can be refused when it comes late. */
const leading = (name: string) =>
  Leader.layer("rebalancer", { ttl: "5 seconds", owner: name })(({ fencingToken }) => {
    let rounds = 0
    const rebalancing = Effect.suspend(() => Console.log(`${name}: rebalances, ${++rounds}`)).pipe(
      Effect.repeat(Schedule.spaced("500 millis"))
    )
    /** It reads what only the leader has. Its lease is one of its own, with numbers of its own. */
    const reporting = CronJob.run("report", { cron: "* * * * * *", owner: name })(
      ({ scheduledAt }) =>
        Console.log(`${name}: report of ${DateTime.formatIso(scheduledAt)}, ${rounds} rounds`)
    )
    return Console.log(`${name}: leads, term ${fencingToken}`).pipe(
      // both end when the lead is lost, or is given back
      Effect.andThen(
        Effect.all([rebalancing, reporting], { concurrency: "unbounded", discard: true })
      ),
      Effect.onInterrupt(() => Console.log(`${name}: has cleaned up, still as the leader`))
    )
  })

/** What each process runs, until it is shut down. */
const process = (name: string) => Effect.fork(Layer.launch(leading(name)))

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
