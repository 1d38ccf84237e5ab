/** What the tests on Effect 4 share: how a test runs, and servers. */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import type * as Scope from "effect/Scope"
import { LockStore } from "effect-redis-lock/effect4"
import type * as Started from "./Started.js"

/** Runs a test in a scope of its own, on the clock of the machine. */
export const run = <A, E>(test: Effect.Effect<A, E, Scope.Scope>): Promise<A> =>
  Effect.runPromise(Effect.scoped(test))

/** In place of all other loggers. */
export const logsTo = (lines: Array<string>) =>
  Logger.layer([Logger.map(Logger.formatLogFmt, (line) => void lines.push(line))])

// (types of the other Effect are not looked at from here)
const { start } = (await import(`${"../support/started.js"}`)) as {
  readonly start: Started.Start
}

const opened = <A extends Started.Started>(
  open: () => Promise<A>
): Effect.Effect<A, never, Scope.Scope> =>
  Effect.acquireRelease(Effect.promise(open), ({ close }) => Effect.promise(close))

/** Real processes, and a proxy, until the scope closes. */
export const redisServer = (args?: ReadonlyArray<string>) => opened(() => start.server(args))
export const redisCluster = opened(start.cluster)
export const redisSentinel = opened(start.sentinel)
export const faultProxy = (port: number) => opened(() => start.proxy(port))

/** A layer's store, closed at the end of the scope; and what provides it. */
export const storeOf = <E>(
  layer: Layer.Layer<LockStore.LockStore, E>
): Effect.Effect<
  {
    readonly store: LockStore.LockStore
    readonly use: <A, E, R>(
      effect: Effect.Effect<A, E, R>
    ) => Effect.Effect<A, E, Exclude<R, LockStore.LockStore>>
  },
  E,
  Scope.Scope
> =>
  Effect.map(Layer.build(layer), (context) => {
    const store = Context.get(context, LockStore.LockStore)
    return { store, use: Effect.provideService(LockStore.LockStore, store) }
  })
