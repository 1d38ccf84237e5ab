/** Locks as a busy place has them, by several stores that stand for processes: for pictures, and for tests of the page. */
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Scope from "effect/Scope"
import {
  type Lease,
  Lock,
  type LockError,
  LockInspector,
  LockStore,
  RedisLockStore
} from "effect-redis-lock"
import { quiet } from "./stores.js"

/** A process: a store of its own, whose holders are called so. */
export interface Process {
  readonly owner: string
  readonly provide: <A, E, R>(
    effect: Effect.Effect<A, E, R>
  ) => Effect.Effect<A, E, Exclude<R, LockStore.LockStore>>
  /** As if it was killed: nothing is given back. */
  readonly die: Effect.Effect<void>
}

export const process = (
  url: string,
  owner: string
): Effect.Effect<Process, LockError.LockStoreError, Scope.Scope> =>
  Effect.gen(function* () {
    const scope = yield* Effect.acquireRelease(Scope.make(), (scope) =>
      Scope.close(scope, Exit.void)
    )
    const layer = Layer.merge(RedisLockStore.layer({ url, owner }), quiet)
    const context = yield* Effect.orDie(Scope.extend(Layer.build(layer), scope))
    const store = Context.get(context, LockStore.LockStore)
    return {
      owner,
      provide: (effect) => Effect.provideService(effect, LockStore.LockStore, store),
      die: Effect.provide(Scope.close(scope, Exit.void), quiet)
    }
  })

/** Holds it, or waits until it does, until it is told to stop. */
export const holds = <E>(
  by: Process,
  acquire: Effect.Effect<unknown, E, LockStore.LockStore | Scope.Scope>
): Effect.Effect<{ readonly stop: Effect.Effect<void> }, never, Scope.Scope> =>
  Effect.gen(function* () {
    const held = Effect.scoped(Effect.zipRight(acquire, Effect.never))
    const fiber = yield* Effect.forkScoped(by.provide(held))
    return { stop: Effect.asVoid(Fiber.interrupt(fiber)) }
  })

export const lock = (key: string, ttl: Duration.DurationInput = "10 seconds") =>
  Lock.acquire(key, { ttl }) satisfies Effect.Effect<
    Lease.Lease,
    LockError.LockError,
    LockStore.LockStore | Scope.Scope
  >

/** Waits until somebody of that name holds the key. */
export const heldBy = (
  by: Process,
  key: string,
  owner: string
): Effect.Effect<LockInspector.Held, LockError.LockStoreError> =>
  Effect.flatMap(by.provide(LockInspector.inspect(key)), ({ held }) => {
    const found = held.find((one) => one.owner === owner)
    return found === undefined ? Effect.delay(heldBy(by, key, owner), 20) : Effect.succeed(found)
  })

/** Waits until so many wait for the key. */
export const waitFor = (
  by: Process,
  key: string,
  count: number
): Effect.Effect<void, LockError.LockStoreError> =>
  Effect.flatMap(by.provide(LockInspector.inspect(key)), ({ pendingCount }) =>
    pendingCount === count ? Effect.void : Effect.delay(waitFor(by, key, count), 20)
  )
