/** What the contenders of effect-redis-lock have in common: a store, and fibers that lock in it. */
import * as Effect from "effect/Effect"
import * as ManagedRuntime from "effect/ManagedRuntime"
import type * as Scope from "effect/Scope"
import { type Lease, type LockStore, RedisLockStore } from "effect-redis-lock"
import type { Contender, Load, Meter } from "../Contender.js"
import { callers, criticalSection, hold } from "./effect.js"

/** What a caller's cycles are made of. */
export interface Caller {
  readonly caller: number
  readonly load: Load
  readonly meter: Meter
  readonly settings: { readonly ttl: number }
  /** The critical section. */
  readonly work: Effect.Effect<void>
}

export const onStore = (
  id: string,
  setUp: string,
  /** One cycle of that caller. */
  cycleOf: (caller: Caller) => (key: string) => Effect.Effect<void, unknown, LockStore.LockStore>,
  options: RedisLockStore.StoreOptions = {},
  /** Takes a lease to hold it, where that is measured. */
  acquire?: (
    key: string,
    settings: Caller["settings"]
  ) => Effect.Effect<Lease.Lease, unknown, LockStore.LockStore | Scope.Scope>
): Contender => ({
  id,
  package: "effect-redis-lock",
  setUp,
  leavesOut: "",
  open: async ({ ttlMillis, url }) => {
    const settings = { ttl: ttlMillis }
    const runtime = ManagedRuntime.make(RedisLockStore.layer({ url, ...options }))
    await runtime.runtime()
    return {
      run: (load, meter) =>
        runtime.runPromise(
          callers(load, meter, (caller) => {
            const work = criticalSection(caller, meter)
            return cycleOf({ caller, load, meter, settings, work })
          })
        ),
      ...(acquire && {
        hold: (keys: ReadonlyArray<string>) =>
          hold(
            runtime,
            keys,
            (key) => acquire(key, settings),
            (lease) => Effect.negate(lease.isHeld)
          )
      }),
      close: () => runtime.dispose()
    }
  }
})
