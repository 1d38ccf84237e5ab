/**
 * Three candidates for the lead of one job; one of them does it. The first resigns, as a process that
 * is shut down does, and the second goes on at once; an observer tells who leads.
 *
 * With REDIS_URL, start it in several terminals at the same time: one of all of them leads.
 */
import { Console, Duration, Effect, Fiber, Option, Schedule, Stream } from "effect"
import { Leader } from "effect-redis-lock"
import { StoreLive } from "./support/store.js"

const key = "rebalancer"

/** What the leader does, until it is interrupted; it writes with its term, so that it can be refused. */
const rebalance = (name: string) => (lease: { readonly fencingToken: number }) =>
  Console.log(`${name}: rebalances, term ${lease.fencingToken}`).pipe(
    Effect.repeat(Schedule.spaced("300 millis")),
    Effect.onInterrupt(() => Console.log(`${name}: has cleaned up, still as the leader`))
  )

const candidate = (name: string) =>
  Effect.fork(Leader.run(key, { ttl: "5 seconds", owner: name })(rebalance(name)))

const observer = Leader.changes(key, { every: "50 millis" }).pipe(
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
  const candidates = yield* Effect.forEach(["first", "second", "third"], candidate)
  for (const one of candidates) {
    yield* Effect.sleep("800 millis")
    const [millis] = yield* Effect.timed(Fiber.interrupt(one))
    yield* Console.log(`  (resigned, in ${Math.ceil(Duration.toMillis(millis))} ms)`)
  }
  yield* Effect.sleep("200 millis")
})

await Effect.runPromise(program.pipe(Effect.provide(StoreLive)))
