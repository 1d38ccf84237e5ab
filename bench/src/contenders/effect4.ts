/** effect-redis-lock for Effect 4, used as `ours.ts` uses the one for Effect 3. */
import v8 from "node:v8"
import * as Cause from "effect4/Cause"
import * as Effect from "effect4/Effect"
import * as Exit from "effect4/Exit"
import * as ManagedRuntime from "effect4/ManagedRuntime"
import * as Scope from "effect4/Scope"
// (the same package, where its `effect` is Effect 4: ../../run.ts puts it there)
import { Lock, RedisLockStore } from "effect-redis-lock-on-effect4/effect4"
import { holdConcurrency, type Contender, type Meter } from "../Contender.js"

/** What is done under the lock. */
const criticalSection = (caller: number, meter: Meter): Effect.Effect<void> => {
  const { work } = meter
  return work === undefined
    ? Effect.sync(() => {
        meter.enter(caller)
        meter.leave(caller)
      })
    : Effect.sync(() => meter.enter(caller)).pipe(
        Effect.andThen(Effect.promise(() => work())),
        Effect.andThen(Effect.sync(() => meter.leave(caller)))
      )
}

export const onEffect4: Contender = {
  id: "effect-redis-lock, Effect 4",
  package: "effect-redis-lock",
  setUp: "as effect-redis-lock, with its modules for Effect 4",
  leavesOut: "",
  open: async ({ ttlMillis, url }) => {
    const settings = { ttl: ttlMillis }
    const runtime = ManagedRuntime.make(RedisLockStore.layer({ url }))
    await runtime.context()
    return {
      run: (load, meter) =>
        runtime.runPromise(
          Effect.forEach(
            Array.from({ length: load.callers }, (_, index) => index),
            (caller) => {
              const work = criticalSection(caller, meter)
              const cycle =
                load.shape === "withLock"
                  ? (key: string) => Lock.withLock(key, settings)(work)
                  : (key: string) =>
                      Effect.scoped(Effect.andThen(Lock.acquire(key, settings), work))
              const cycles = Effect.gen(function* () {
                for (let key = meter.begin(caller); key !== undefined; key = meter.begin(caller)) {
                  yield* cycle(key)
                }
              })
              const untilTheEnd: typeof cycles = Effect.catchCause(cycles, (cause) => {
                meter.failed(caller, Cause.squash(cause))
                return Effect.andThen(Effect.sleep(10), untilTheEnd)
              })
              return untilTheEnd
            },
            { concurrency: "unbounded", discard: true }
          )
        ),
      hold: async (keys) => {
        const before = fibers()
        const scope = await Effect.runPromise(Scope.make())
        const leases = await runtime.runPromise(
          Effect.forEach(keys, (key) => Lock.acquire(key, settings), {
            concurrency: holdConcurrency
          }).pipe(Effect.provideService(Scope.Scope, scope))
        )
        return {
          lost: () =>
            Effect.runPromise(
              Effect.map(
                Effect.filter(leases, (lease) => Effect.map(lease.isHeld, (isHeld) => !isHeld)),
                (lost) => lost.length
              )
            ),
          release: () => Effect.runPromise(Scope.close(scope, Exit.void)),
          fibersPerLease: () => (fibers() - before) / keys.length
        }
      },
      close: () => runtime.dispose()
    }
  }
}

/** All that are in memory. */
const fibers = (): number => Number(v8.queryObjects?.(Effect.runFork(Effect.void).constructor))
