/**
 * A deploy without a gap: the old process gets a SIGTERM in the middle of its work, and hands its lock to the
 * new one, although somebody else waits for it. With REDIS_URL set, these are three processes and this one,
 * which deploys; in memory they are fibers, since nobody else could reach the lock.
 */
import { NodeRuntime } from "@effect/platform-node"
import { Config, Console, Deferred, Effect, Fiber, Option, Schedule, Schema } from "effect"
import { Lock } from "effect-redis-lock"
import { Handle } from "effect-redis-lock/Handle"
import { type ChildProcess, spawn } from "node:child_process"
import { once } from "node:events"
import { fileURLToPath } from "node:url"
import { StoreLive } from "./support/store.js"

const key = "hand-over"
/** A handle has the lease's token in it: send it where you would send a password. */
const Json = Schema.parseJson(Handle)

const work = Effect.repeat(Effect.void, Schedule.spaced("10 millis"))

/** Works until it is interrupted, and does not give the lock back then. */
const oldWorker = (send: (handle: string) => Effect.Effect<void>, ready: Effect.Effect<void>) =>
  Effect.scoped(
    Effect.gen(function* () {
      const lease = yield* Lock.acquire(key, { ttl: "30 seconds", owner: "the old one" })
      yield* Console.log(`the old one has the lock, ${lease.fencingToken}`)
      yield* ready
      yield* lease.guard(work).pipe(
        // behind the finalizers of the work, and nothing interrupts it
        Effect.onInterrupt(() =>
          lease.handOver.pipe(
            Effect.flatMap(Schema.encode(Json)),
            Effect.flatMap(send),
            // then the close of the scope gives it back, and somebody else is next
            Effect.catchAll((error) => Console.error(`not handed over: ${error.message}`))
          )
        )
      )
    })
  )

/** Goes on with the lock; if it is gone, or cannot be adopted, as everybody else. */
const newWorker = (text: string) =>
  Effect.scoped(
    Effect.gen(function* () {
      const options = { ttl: "30 seconds", owner: "the new one" } as const
      const lease = yield* Schema.decode(Json)(text).pipe(
        Effect.flatMap((handle) => Lock.adopt(handle, options)),
        Effect.catchAll((error) =>
          Effect.andThen(Console.error(error.message), Lock.acquire(key, options))
        )
      )
      yield* Console.log(`the new one goes on, ${lease.fencingToken}`)
      yield* Effect.timeoutOption(lease.guard(work), "300 millis")
    })
  )

const other = Lock.withLock(key, { owner: "somebody else" })(({ fencingToken }) =>
  Console.log(`somebody else has it, ${fencingToken}`)
)

// -----------------------------------------------------------------------------
// three processes, and the one that deploys
// -----------------------------------------------------------------------------

const tell = (message: string) => Effect.sync(() => void process.send!(message))
const heard = (from: ChildProcess | NodeJS.Process) =>
  Effect.promise(async () => String((await once(from, "message"))[0]))

const roles: Record<string, Effect.Effect<void, unknown>> = {
  old: oldWorker(tell, tell("ready")).pipe(Effect.provide(StoreLive)),
  new: heard(process).pipe(Effect.flatMap(newWorker), Effect.provide(StoreLive)),
  other: other.pipe(Effect.provide(StoreLive))
}

const start = (role: string) =>
  Effect.sync(() =>
    spawn(process.execPath, ["--import", "tsx", fileURLToPath(import.meta.url), role], {
      stdio: ["ignore", "inherit", "inherit", "ipc"]
    })
  )

const ended = (child: ChildProcess) =>
  Effect.promise(async () => {
    if (child.exitCode === null && child.signalCode === null) await once(child, "exit")
  })

const deploy = Effect.gen(function* () {
  const old = yield* start("old")
  yield* heard(old)
  const waiting = yield* start("other")
  yield* Effect.sleep("2 seconds")
  const handle = yield* Effect.fork(heard(old))
  yield* Effect.yieldNow()
  old.kill("SIGTERM")
  const text = yield* Fiber.join(handle)
  const young = yield* start("new")
  young.send(text)
  yield* Effect.all([ended(old), ended(young), ended(waiting)])
})

const inMemory = Effect.gen(function* () {
  const [ready, handle] = [yield* Deferred.make<void>(), yield* Deferred.make<string>()]
  const old = yield* Effect.fork(
    oldWorker(
      (text) => Deferred.succeed(handle, text),
      Effect.asVoid(Deferred.succeed(ready, undefined))
    )
  )
  yield* Deferred.await(ready)
  const waiting = yield* Effect.fork(other)
  yield* Effect.sleep("100 millis")
  yield* Fiber.interrupt(old)
  yield* newWorker(yield* Deferred.await(handle))
  yield* Fiber.join(waiting)
}).pipe(Effect.provide(StoreLive))

const program = Effect.flatMap(Config.option(Config.nonEmptyString("REDIS_URL")), (url) =>
  Option.isSome(url) ? deploy : inMemory
)

NodeRuntime.runMain(roles[process.argv[2] ?? ""] ?? program)
