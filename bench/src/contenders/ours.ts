/** effect-redis-lock. Its commands go over one connection, as it is set up by default. */
import * as Effect from "effect/Effect"
import * as ManagedRuntime from "effect/ManagedRuntime"
import { Lock, RedisLockStore } from "effect-redis-lock"
import type { Contender } from "../Contender.js"
import { callers, criticalSection, hold } from "./effect.js"

const ours = (id: string, setUp: string, options: RedisLockStore.StoreOptions): Contender => ({
  id,
  package: "effect-redis-lock",
  setUp,
  leavesOut: "",
  open: async ({ ttlMillis, url }) => {
    const runtime = ManagedRuntime.make(RedisLockStore.layer({ url, ...options }))
    await runtime.runtime()
    const settings = { ttl: ttlMillis }
    return {
      run: (load, meter) =>
        runtime.runPromise(
          callers(load, meter, (caller) => {
            const work = criticalSection(caller, meter)
            return load.shape === "withLock"
              ? (key) => Effect.asVoid(Lock.withLock(key, settings)(work))
              : (key) => Effect.scoped(Effect.zipRight(Lock.acquire(key, settings), work))
          })
        ),
      hold: (keys) =>
        hold(
          runtime,
          keys,
          (key) => Lock.acquire(key, settings),
          (lease) => Effect.negate(lease.isHeld)
        ),
      close: () => runtime.dispose()
    }
  }
})

export const byDefault = ours(
  "effect-redis-lock",
  "defaults; waits in a fair queue, passes leases on within a process for at most 20 ms",
  {}
)

export const throughRedis = ours(
  "effect-redis-lock, localHandoff 0",
  "every lease goes through Redis, in order of arrival among processes",
  { localHandoff: 0 }
)
