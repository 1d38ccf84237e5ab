/** effect-redis-lock's read-write lock: turns that read are under it together, one that writes alone. */
import * as Effect from "effect/Effect"
import * as ManagedRuntime from "effect/ManagedRuntime"
import { ReadWriteLock, RedisLockStore } from "effect-redis-lock"
import type { Contender } from "../Contender.js"
import { callers, criticalSection } from "./effect.js"

const ours = (id: string, setUp: string, keyOf: (key: string) => string): Contender => ({
  id,
  package: "effect-redis-lock",
  setUp,
  leavesOut: "",
  open: async ({ ttlMillis, url }) => {
    const runtime = ManagedRuntime.make(RedisLockStore.layer({ url }))
    await runtime.runtime()
    const settings = { ttl: ttlMillis }
    return {
      run: (load, meter) =>
        runtime.runPromise(
          callers(load, meter, (caller) => {
            const work = criticalSection(caller, meter)
            return (own) => {
              const key = keyOf(own)
              return load.writeEvery !== undefined && meter.writes(caller)
                ? Effect.asVoid(ReadWriteLock.withWriteLock(key, settings)(work))
                : Effect.asVoid(ReadWriteLock.withReadLock(key, settings)(work))
            }
          })
        ),
      close: () => runtime.dispose()
    }
  }
})

export const byDefault = ours(
  "effect-redis-lock, ReadWriteLock",
  "`ReadWriteLock.withReadLock` and `withWriteLock`; defaults",
  (key) => key
)

export const ofOneKey = ours(
  "effect-redis-lock, readers",
  "`ReadWriteLock.withReadLock` of one key for all callers; defaults",
  () => "key:read"
)
