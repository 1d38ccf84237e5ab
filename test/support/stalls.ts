/** How long this machine kept those waiting that a test of times depends on. */
import * as Effect from "effect/Effect"
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
