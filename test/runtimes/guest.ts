/**
 * A program that uses the package as its users do, for a runtime that runs none of the tests: Bun, Deno,
 * and a line of Node. It is told what to do by its arguments, prints one line of JSON for all that
 * happens, and ends by itself: nothing here ends the process. `checks.ts` starts it, and judges.
 *
 *   guest contract memory
 *   guest contract redis://127.0.0.1:6379 [CASE…]
 *   guest hold redis://127.0.0.1:6379 KEY TTL RENEW_EVERY MARGIN     until its standard input ends
 *   guest visit redis://127.0.0.1:6379                               one turn of every kind, with a wait
 */
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as LogLevel from "effect/LogLevel"
import * as Runtime from "effect/Runtime"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import {
  Leader,
  Lock,
  LockStore,
  MemoryLockStore,
  MultiLock,
  ReadWriteLock,
  RedisLockStore,
  Semaphore
} from "effect-redis-lock"
import * as LockStoreContract from "effect-redis-lock/LockStoreContract"
import { AsyncLocalStorage } from "node:async_hooks"

export type News =
  /** A case of the contract has ended. */
  | { readonly _tag: "Case"; readonly name: string; readonly broken: string | undefined }
  | { readonly _tag: "Held"; readonly fencingToken: number }
  /** The body of a lock that was interrupted says how its lease stands. */
  | { readonly _tag: "Interrupted"; readonly isHeld: boolean; readonly remaining: number }
  /** It was told to give the lock back, and what it knew of its lease then. */
  | { readonly _tag: "Told"; readonly isHeld: boolean; readonly isOurs: boolean }
  | { readonly _tag: "Released" }
  | { readonly _tag: "Lost"; readonly reason: string }
  /** The async context of who asked, where its body ran: of a turn that was free, and of one after a wait. */
  | { readonly _tag: "Visited"; readonly contexts: ReadonlyArray<string | undefined> }
  /** The layer is closed: from here on nothing may keep the process alive. */
  | { readonly _tag: "Closed" }
  | { readonly _tag: "Failed"; readonly message: string }

const say = (news: News) => Effect.sync(() => console.log(JSON.stringify(news)))

/** Ends when the standard input does. */
const told = Effect.async<void>((resume) => {
  process.stdin.once("end", () => resume(Effect.void))
  process.stdin.resume()
})

// ---------------------------------------------------------------- what it can be asked to do

/** All cases, or those with these names. */
const contract = Effect.fnUntraced(function* (names: ReadonlyArray<string>) {
  const store = yield* LockStore.LockStore
  yield* Effect.forEach(
    LockStoreContract.cases(store).filter(({ name }) => names.length === 0 || names.includes(name)),
    ({ effect, name }) =>
      Effect.matchCauseEffect(effect, {
        onFailure: (cause) => say({ _tag: "Case", name, broken: Cause.pretty(cause) }),
        onSuccess: () => say({ _tag: "Case", name, broken: undefined })
      }),
    // (mostly they sleep)
    { concurrency: 5, discard: true }
  )
})

const hold = (key: string, options: Lock.WaitOptions) =>
  Lock.withLock(
    key,
    options
  )((lease) =>
    Effect.gen(function* () {
      yield* say({ _tag: "Held", fencingToken: lease.fencingToken })
      yield* told
      yield* say({
        _tag: "Told",
        isHeld: yield* lease.isHeld,
        isOurs: yield* Effect.isSuccess(lease.verify)
      })
    }).pipe(
      Effect.onInterrupt(() =>
        Effect.gen(function* () {
          const remaining = Duration.toMillis(yield* lease.remaining)
          yield* say({ _tag: "Interrupted", isHeld: yield* lease.isHeld, remaining })
        })
      )
    )
  ).pipe(
    Effect.zipRight(say({ _tag: "Released" })),
    Effect.catchTag("LockLost", ({ reason }) => say({ _tag: "Lost", reason }))
  )

type Needs = LockStore.LockStore | Scope.Scope

/**
 * A turn of every kind, and one that waits for the turn of another store, with its place in the queue
 * and its connection for messages. `AsyncLocalStorage` must go on in a body, also after a wait.
 */
const visit = (another: Effect.Effect<LockStore.LockStore, never, Needs>) =>
  Effect.gen(function* () {
    const other = yield* another
    const caller = new AsyncLocalStorage<string>()
    const runtime = yield* Effect.runtime<LockStore.LockStore>()
    const contextIn = (key: string) =>
      Effect.promise(() =>
        caller.run(key, () => {
          const body = Effect.zipRight(
            Effect.sleep(1),
            Effect.sync(() => caller.getStore())
          )
          return Runtime.runPromise(runtime)(Lock.withLock(key)(body))
        })
      )
    const free = yield* contextIn("free")
    const isHeld = yield* Deferred.make<void>()
    const mayEnd = yield* Deferred.make<void>()
    const holder = yield* Effect.zipRight(
      Deferred.succeed(isHeld, undefined),
      Deferred.await(mayEnd)
    ).pipe(
      Lock.withLock("contended"),
      Effect.provideService(LockStore.LockStore, other),
      Effect.fork
    )
    yield* Deferred.await(isHeld)
    const waiter = yield* Effect.fork(contextIn("contended"))
    yield* Effect.repeat(other.look!("contended", 1), {
      until: ({ pendingCount }) => pendingCount > 0,
      schedule: Schedule.spaced(10)
    })
    yield* Deferred.succeed(mayEnd, undefined)
    yield* Fiber.join(holder)
    yield* say({ _tag: "Visited", contexts: [free, yield* Fiber.join(waiter)] })

    yield* Semaphore.withPermits("permits", { permits: 1, limit: 2 })(Effect.void)
    yield* ReadWriteLock.withReadLock("rows")(ReadWriteLock.withReadLock("rows")(Effect.void))
    yield* ReadWriteLock.withWriteLock("rows")(Effect.void)
    yield* MultiLock.withLocks(["one", "two"])(Effect.void)
    const leads = yield* Deferred.make<void>()
    const candidate = yield* Effect.fork(
      Leader.run("lead")(Effect.zipRight(Deferred.succeed(leads, undefined), Effect.never))
    )
    yield* Deferred.await(leads)
    yield* Fiber.interrupt(candidate)
  })

// ---------------------------------------------------------------- told by its arguments

const [task, where, ...more] = process.argv.slice(2)

const store: Layer.Layer<LockStore.LockStore> =
  where === "memory"
    ? MemoryLockStore.layer
    : Layer.orDie(RedisLockStore.layer({ url: where, localHandoff: 0 }))

/** In Redis it has connections of its own; in memory there is only one that has the same locks. */
const another: Effect.Effect<LockStore.LockStore, never, Needs> =
  where === "memory"
    ? LockStore.LockStore
    : Effect.map(Layer.build(Layer.fresh(store)), Context.get(LockStore.LockStore))

const tasks: Readonly<Record<string, Effect.Effect<void, unknown, Needs>>> = {
  contract: contract(more),
  hold: Effect.suspend(() => {
    const [key, ...times] = more
    const [ttl, renewEvery, margin] = times.map(Number)
    return hold(key!, { ttl, renewEvery, margin })
  }),
  visit: visit(another)
}

await Effect.scoped(tasks[task!]!).pipe(
  Effect.provide(store),
  Effect.zipRight(say({ _tag: "Closed" })),
  Effect.catchAllCause((cause) => say({ _tag: "Failed", message: Cause.pretty(cause) })),
  // (a loss, and a release without an answer, are expected here)
  Logger.withMinimumLogLevel(LogLevel.None),
  Effect.runPromise
)
