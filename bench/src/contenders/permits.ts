/** effect-redis-lock's semaphore: several can hold a key at once, as many as the load says. */
import * as Effect from "effect/Effect"
import * as ManagedRuntime from "effect/ManagedRuntime"
import { RedisLockStore, Semaphore } from "effect-redis-lock"
import type { Contender } from "../Contender.js"
import { callers, criticalSection } from "./effect.js"

export const ours: Contender = {
  id: "effect-redis-lock, Semaphore",
  package: "effect-redis-lock",
  setUp: "`Semaphore.withPermits`, one permit; defaults",
  leavesOut: "",
  open: async ({ ttlMillis, url }) => {
    const runtime = ManagedRuntime.make(RedisLockStore.layer({ url }))
    await runtime.runtime()
    return {
      run: (load, meter) => {
        const settings = { ttl: ttlMillis, limit: load.limit ?? 1 }
        return runtime.runPromise(
          callers(load, meter, (caller) => {
            const work = criticalSection(caller, meter)
            return load.shape === "withLock"
              ? (key) => Effect.asVoid(Semaphore.withPermits(key, settings)(work))
              : (key) => Effect.scoped(Effect.zipRight(Semaphore.acquire(key, settings), work))
          })
        )
      },
      close: () => runtime.dispose()
    }
  }
}
