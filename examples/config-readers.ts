/**
 * A configuration in three parts, which every process reads often and one changes now and then. Readers
 * read it together, and never see half of a change; the writer announces its change while others read it
 * already, and nobody can have changed it since. With REDIS_URL set, the readers also have the lock in
 * Redis; in memory, they are fibers of this process as well.
 */
import { NodeRuntime } from "@effect/platform-node"
import { Console, Effect } from "effect"
import { ReadWriteLock } from "effect-redis-lock"
import { StoreLive } from "./support/store.js"

/** What is shared: parts that must fit together. */
const config = { host: "a", port: 1, version: 1 }

const read = ReadWriteLock.withReadLock("config", { ttl: "2 seconds" })(
  Effect.gen(function* () {
    const { version } = config
    yield* Effect.sleep(5)
    // a function that takes the lock for itself can be called from here: it shares this read
    const port = yield* portOf
    return version === port && version === config.version
  })
)

const portOf = ReadWriteLock.withReadLock("config")(Effect.sync(() => config.port))

const change = (version: number) =>
  ReadWriteLock.withWriteLock("config", { waitAtMost: "10 seconds" })((lease) =>
    Effect.gen(function* () {
      config.version = version
      yield* Effect.sleep(10)
      config.port = version
      yield* lease.downgrade
      // (others read again; nobody writes before this ends)
      yield* Console.log(
        `version ${config.version} is in use (fencing token ${lease.fencingToken})`
      )
    })
  )

const program = Effect.gen(function* () {
  const readers = Effect.forEach(
    Array.from({ length: 20 }),
    () => Effect.replicateEffect(read, 20),
    { concurrency: "unbounded" }
  )
  const writer = Effect.forEach([2, 3, 4], (version) => Effect.delay(change(version), "30 millis"))
  const [reads] = yield* Effect.all([readers, writer], { concurrency: "unbounded" })
  const whole = reads.flat()
  yield* Console.log(`${whole.length} reads, ${whole.filter((ok) => !ok).length} of them torn`)
  if (whole.includes(false)) return yield* Effect.dieMessage("a read saw half of a change")
})

NodeRuntime.runMain(program.pipe(Effect.provide(StoreLive)))
