/**
 * What the fault tests share: a store behind a proxy, the server's own view of a key, and the
 * programs of others that lock the same way.
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Scope from "effect/Scope"
import * as Context from "effect/Context"
import * as Fiber from "effect/Fiber"
import * as Supervisor from "effect/Supervisor"
import { Lock, LockStore, RedisLockStore, type LockError } from "effect-redis-lock"
import { Redis, type RedisOptions } from "ioredis"
import { noScript } from "../../src/internal/redis/client.js"
import * as FaultProxy from "../support/FaultProxy.js"
import * as RedisServer from "../support/RedisServer.js"
import { inside } from "../support/inside.js"

export { FaultProxy, RedisServer }
export { undisturbed } from "../support/stalls.js"

// -----------------------------------------------------------------------------
// a store of one's own
// -----------------------------------------------------------------------------

export interface Environment {
  readonly server: RedisServer.RedisProcess
  readonly proxy: FaultProxy.FaultProxy
  readonly store: LockStore.LockStore
  /** Provides the store. */
  readonly use: <A, E, R>(
    effect: Effect.Effect<A, E, R>
  ) => Effect.Effect<A, E, Exclude<R, LockStore.LockStore>>
  /** Closes the store, as the end of its layer would. */
  readonly close: Effect.Effect<void>
}

/** An empty server, a proxy before it, and a store that reaches it through the proxy. */
export const environment = (
  options?: RedisLockStore.Options
): Effect.Effect<Environment, LockError.LockStoreError, RedisServer.RedisServer | Scope.Scope> =>
  Effect.gen(function* () {
    const server = yield* RedisServer.RedisServer
    yield* server.flush
    const proxy = yield* FaultProxy.make(server.port)
    return {
      server,
      proxy,
      ...(yield* storeOf(RedisLockStore.layer({ url: proxy.url, ...options })))
    }
  })

/** A layer's store, closed at the end of the scope or before. */
export const storeOf = <E>(
  layer: Layer.Layer<LockStore.LockStore, E>
): Effect.Effect<Pick<Environment, "store" | "use" | "close">, E, Scope.Scope> =>
  Effect.gen(function* () {
    const scope = yield* Effect.acquireRelease(Scope.make(), (scope) =>
      Scope.close(scope, Exit.void)
    )
    const context = yield* Layer.buildWithScope(layer, scope)
    const store = Context.get(context, LockStore.LockStore)
    return {
      store,
      use: Effect.provideService(LockStore.LockStore, store),
      close: Scope.close(scope, Exit.void)
    }
  })

/** Until locks of one turn travel together: the store has asked whether they may. */
export const untilTogether = ({
  store,
  use
}: Pick<Environment, "store" | "use">): Effect.Effect<void, unknown> => {
  const { commands } = inside<{
    readonly around: { readonly commands: { readonly transport: { readonly together: boolean } } }
  }>(store).around
  const two = Effect.forEach(
    ["together-1", "together-2"],
    (key) => Lock.withLock(key)(Effect.void),
    {
      concurrency: "unbounded",
      discard: true
    }
  ).pipe(use)
  return RedisServer.eventually(Effect.map(Effect.exit(two), () => commands.transport.together))
}

/** A client of the user's own, connected. */
export const connectedClient = (
  port: number,
  options: Omit<RedisOptions, "replyMapping"> = {}
): Effect.Effect<Redis, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.async<Redis>((resume) => {
      const client = new Redis({ host: "127.0.0.1", port, ...options })
      const ready = () => {
        client.off("error", ignore)
        resume(Effect.succeed(client))
      }
      const ignore = () => {}
      client.on("error", ignore)
      if (options.lazyConnect === true) return ready()
      client.once("ready", ready)
    }),
    (client) => Effect.sync(() => client.disconnect())
  )

// -----------------------------------------------------------------------------
// what was sent
// -----------------------------------------------------------------------------

/** The scripts that name the key, whatever else they do; not a store's look whether there are any. */
export const touching =
  (key: string) =>
  (args: ReadonlyArray<string>): boolean =>
    /^(eval|evalsha|fcall)$/i.test(args[0] ?? "") &&
    args[1] !== noScript &&
    args.slice(2).includes(key)

/** How many scripts came to the proxy that name the key, since its last `forget`. */
export const sent = (proxy: FaultProxy.FaultProxy, key: string): number =>
  proxy.commands.filter(touching(key)).length

/** The same, of which the server's reply has come to the proxy. */
export const answered = (proxy: FaultProxy.FaultProxy, key: string): number =>
  proxy.requests.filter((request) => request.replied && touching(key)(request.args)).length

/** What was replied to those, in the order of their arrival. */
export const replies = (proxy: FaultProxy.FaultProxy, key: string): ReadonlyArray<unknown> =>
  proxy.requests
    .filter((request) => request.replied && touching(key)(request.args))
    .map((request) => request.reply)

// -----------------------------------------------------------------------------
// what the server has
// -----------------------------------------------------------------------------

/** Everything that is on the server, but for what may stay: the records of the last grants. */
export const leftovers = (server: RedisServer.RedisProcess): Effect.Effect<ReadonlyArray<string>> =>
  Effect.map(server.dump, (keys) => keys.filter((key) => !key.endsWith(":lock-record")))

/** Waits until nothing is left; a test that waits in vain runs into its timeout. */
export const nothingLeft = (server: RedisServer.RedisProcess): Effect.Effect<void> =>
  RedisServer.eventually(Effect.map(leftovers(server), (keys) => keys.length === 0))

export const pttl = (server: RedisServer.RedisProcess, key: string): Effect.Effect<number> =>
  Effect.map(server.command("PTTL", key), Number)

/** The server's clock, in microseconds since 1970. */
export const serverMicros = (server: RedisServer.RedisProcess): Effect.Effect<number> =>
  Effect.map(server.command("TIME"), (time) => {
    const [seconds, micros] = time as [string, string]
    return Number(seconds) * 1_000_000 + Number(micros)
  })

// -----------------------------------------------------------------------------
// other programs that lock the same way
// -----------------------------------------------------------------------------

const checkAndDelete = `if redis.call("get",KEYS[1]) == ARGV[1] then return redis.call("del",KEYS[1]) else return 0 end`
const checkAndExpire = `if redis.call("get",KEYS[1]) == ARGV[1] then return redis.call("pexpire",KEYS[1],ARGV[2]) else return 0 end`

/** The lock that programs in other languages share: SET NX PX, check and delete, check and expire. */
export const foreign = ({ command }: RedisServer.RedisProcess) => ({
  lock: (key: string, value: string, ttlMillis: number) =>
    Effect.map(command("SET", key, value, "NX", "PX", ttlMillis), (reply) => reply === "OK"),
  unlock: (key: string, value: string) =>
    Effect.map(command("EVAL", checkAndDelete, 1, key, value), (reply) => reply === 1),
  extend: (key: string, value: string, ttlMillis: number) =>
    Effect.map(command("EVAL", checkAndExpire, 1, key, value, ttlMillis), (reply) => reply === 1)
})

// -----------------------------------------------------------------------------
// what is observed
// -----------------------------------------------------------------------------

export interface Timed<A, E> {
  readonly exit: Exit.Exit<A, E>
  readonly millis: number
}

/** How an effect ended, and after how many milliseconds of this process's monotonic clock. */
export const timed = <A, E, R>(
  effect: Effect.Effect<A, E, R>
): Effect.Effect<Timed<A, E>, never, R> =>
  Effect.suspend(() => {
    const startedAt = performance.now()
    return Effect.map(Effect.exit(effect), (exit) => ({
      exit,
      millis: performance.now() - startedAt
    }))
  })

/** The errors an exit failed with, in order; throws what it died of. */
export const failures = <E>(exit: Exit.Exit<unknown, E>): ReadonlyArray<E> => {
  if (Exit.isSuccess(exit)) return []
  for (const defect of Cause.defects(exit.cause)) throw defect
  return [...Cause.failures(exit.cause)]
}

/** The only error of an exit. */
export const failure = <E>(exit: Exit.Exit<unknown, E>): E => {
  const errors = failures(exit)
  if (errors.length !== 1) throw new Error(`expected one failure: ${String(exit)}`)
  return errors[0]!
}

/** Collects what is logged at WARN and above instead of printing it. */
export const collectWarnings = <A, E, R>(
  effect: (warnings: ReadonlyArray<string>) => Effect.Effect<A, E, R>
): Effect.Effect<A, E, R> =>
  Effect.suspend(() => {
    const warnings: Array<string> = []
    const logger = Logger.make(({ logLevel, message }) => {
      if (logLevel.ordinal >= 30_000) warnings.push(String(message))
    })
    return Effect.provide(effect(warnings), Logger.replace(Logger.defaultLogger, logger))
  })

/** Runs an effect that is expected to warn, in silence. */
export const quietly = <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  collectWarnings(() => effect)

type Running = Effect.Effect<ReadonlyArray<Fiber.RuntimeFiber<unknown, unknown>>>

/**
 * Runs an effect and says which of the fibers that began in it are still running: its descendants,
 * and whatever else was started meanwhile and belongs to nobody.
 */
export const supervised = <A, E, R>(
  effect: Effect.Effect<A, E, R>
): Effect.Effect<readonly [A, Running], E, R> =>
  Effect.gen(function* () {
    const supervisor = yield* Supervisor.track
    const before = new Set(yield* Fiber.roots)
    const value = yield* Effect.supervised(effect, supervisor)
    const running = Effect.zipWith(supervisor.value, Fiber.roots, (descendants, roots) => [
      ...new Set([...descendants, ...Array.from(roots).filter((fiber) => !before.has(fiber))])
    ])
    return [value, running] as const
  })

/** Waits until none of them runs. */
export const allEnded = (running: Running): Effect.Effect<void> =>
  RedisServer.eventually(Effect.map(running, (fibers) => fibers.length === 0))

/** How many finalizers a scope has (Effect keeps that to itself). */
export const finalizerCount = (scope: Scope.Scope): number => {
  const { state } = scope as unknown as {
    readonly state: { readonly finalizers?: Map<object, unknown>; readonly finalizer?: unknown }
  }
  // (a single one is not in a map, on Effect 4)
  return state.finalizers?.size ?? (state.finalizer === undefined ? 0 : 1)
}

/** Listeners by event. */
export const listeners = (client: {
  eventNames(): ReadonlyArray<string | symbol>
  listenerCount(event: string | symbol): number
}): Readonly<Record<string, number>> =>
  Object.fromEntries(
    client
      .eventNames()
      .map((event) => [String(event), client.listenerCount(event)] as const)
      .filter(([, count]) => count > 0)
      .sort()
  )

/** The event loop does not turn for so long, as in a long computation or a stopped process. */
export const blockEventLoop = (millis: number): void => {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, millis)
}

/** Numbers in [0, 1) that are the same in every run. */
export const seeded = (seed: number): (() => number) => {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let t = Math.imul(state ^ (state >>> 15), 1 | state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32
  }
}

/** Lets the event loop turn so many times. */
export const turns = (count: number): Effect.Effect<void> =>
  Effect.repeatN(
    Effect.async<void>((resume) => {
      setImmediate(() => resume(Effect.void))
    }),
    Math.max(0, count - 1)
  )

/** Of the tests that look for them: several can at the same time. */
const unhandled = new Set<Array<unknown>>()
const addUnhandled = (error: unknown) => {
  for (const errors of unhandled) errors.push(error)
}
const unhandledEvents = ["unhandledRejection", "uncaughtException", "warning"] as const

/** What nobody handled while the scope was open: rejections, exceptions, warnings of Node. */
export const unhandledErrors: Effect.Effect<
  ReadonlyArray<unknown>,
  never,
  Scope.Scope
> = Effect.acquireRelease(
  Effect.sync(() => {
    const errors: Array<unknown> = []
    if (unhandled.size === 0) {
      for (const event of unhandledEvents) process.on(event, addUnhandled)
    }
    unhandled.add(errors)
    return errors
  }),
  (errors) =>
    Effect.sync(() => {
      unhandled.delete(errors)
      if (unhandled.size > 0) return
      for (const event of unhandledEvents) process.off(event, addUnhandled)
    })
)
