/** How long this machine kept those waiting that a test of times depends on. */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Scope from "effect/Scope"
import { monitorEventLoopDelay } from "node:perf_hooks"
import * as RedisServer from "./RedisServer.js"

const everyMillis = 10

/**
 * From now to the end of the scope: the longest time, in milliseconds, for which this process was not
 * run, or for which one of the servers that it started did not answer a PING of the tests' own
 * connection, which goes through no proxy. Read it after the end of the scope.
 */
export const longestStall: Effect.Effect<() => number, never, Scope.Scope> = Effect.gen(
  function* () {
    const delays = monitorEventLoopDelay({ resolution: everyMillis })
    delays.enable()
    yield* Effect.addFinalizer(() => Effect.sync(() => delays.disable()))
    let ofServers = 0
    const ping = (server: RedisServer.RedisProcess) =>
      Effect.suspend(() => {
        const sent = performance.now()
        return Effect.ensuring(
          Effect.ignore(Effect.sandbox(server.command("PING"))),
          Effect.sync(() => (ofServers = Math.max(ofServers, performance.now() - sent)))
        )
      })
    yield* Effect.suspend(() =>
      Effect.forEach(
        [...RedisServer.openServers].filter(({ isRunning }) => isRunning),
        ping,
        { concurrency: "unbounded", discard: true }
      )
    ).pipe(Effect.zipRight(Effect.sleep(everyMillis)), Effect.forever, Effect.forkScoped)
    return () => Math.max(delays.max / 1e6, ofServers)
  }
)

/**
 * A trial of times, which a busy machine can spoil. Where it failed, and this process or a server of it
 * was not run for so long meanwhile, it says nothing about a lock, and is made again: five times at most.
 */
export const undisturbed = <A, E, R>(
  stallMillis: number,
  trial: Effect.Effect<A, E, R>
): Effect.Effect<A, E, Exclude<R, Scope.Scope>> => {
  const attempt = (left: number): Effect.Effect<A, E, Exclude<R, Scope.Scope>> =>
    Effect.flatMap(
      Effect.scoped(
        Effect.flatMap(longestStall, (stall) =>
          Effect.map(Effect.exit(Effect.scoped(trial)), (exit) => ({ exit, stall }))
        )
      ),
      ({ exit, stall }) =>
        Exit.isFailure(exit) && stall() > stallMillis && left > 1 ? attempt(left - 1) : exit
    )
  return attempt(5)
}
