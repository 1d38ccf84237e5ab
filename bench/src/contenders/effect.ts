/** Callers of a library that is made of effects: fibers of one runtime. */
import v8 from "node:v8"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as ManagedRuntime from "effect/ManagedRuntime"
import * as Scope from "effect/Scope"
import { holdConcurrency, type Holding, type Load, type Meter } from "../Contender.js"

/** What is done under the lock. */
export const criticalSection = (caller: number, meter: Meter): Effect.Effect<void> => {
  const { work } = meter
  return work === undefined
    ? Effect.sync(() => {
        meter.enter(caller)
        meter.leave(caller)
      })
    : Effect.sync(() => meter.enter(caller)).pipe(
        Effect.zipRight(Effect.promise(() => work())),
        Effect.zipRight(Effect.sync(() => meter.leave(caller)))
      )
}

export const callers = <R>(
  load: Load,
  meter: Meter,
  /** One cycle of this caller. */
  cycleOf: (caller: number) => (key: string) => Effect.Effect<void, unknown, R>
): Effect.Effect<void, never, R> =>
  Effect.forEach(
    Array.from({ length: load.callers }, (_, index) => index),
    (caller) => {
      const cycle = cycleOf(caller)
      const cycles = Effect.gen(function* () {
        for (let key = meter.begin(caller); key !== undefined; key = meter.begin(caller)) {
          yield* cycle(key)
        }
      })
      const untilTheEnd: Effect.Effect<void, never, R> = Effect.catchAllCause(cycles, (cause) => {
        meter.failed(caller, Cause.squash(cause))
        return Effect.zipRight(Effect.sleep(10), untilTheEnd)
      })
      return untilTheEnd
    },
    { concurrency: "unbounded", discard: true }
  )

/** Holds a lock on each of the keys, in one scope. */
export const hold = async <R, A>(
  runtime: ManagedRuntime.ManagedRuntime<R, unknown>,
  keys: ReadonlyArray<string>,
  acquire: (key: string) => Effect.Effect<A, unknown, R | Scope.Scope>,
  isLost: (lease: A) => Effect.Effect<boolean>
): Promise<Holding> => {
  const before = fibers()
  const scope = await Effect.runPromise(Scope.make())
  const leases = await runtime.runPromise(
    Effect.forEach(keys, acquire, { concurrency: holdConcurrency }).pipe(Scope.extend(scope))
  )
  return {
    lost: () => Effect.runPromise(Effect.map(Effect.filter(leases, isLost), (lost) => lost.length)),
    release: () => Effect.runPromise(Scope.close(scope, Exit.void)),
    fibersPerLease: () => (fibers() - before) / keys.length
  }
}

/**
 * All that are in memory, whoever forked them: a supervisor sees its own only. Node.js 20.13 or later
 * can say so.
 */
const fibers = (): number => Number(v8.queryObjects?.(Effect.runFork(Effect.void).constructor))
