/** effect-redis-lock's `MultiLock`: four keys at once, of which no other caller wants one. */
import * as Effect from "effect/Effect"
import * as ManagedRuntime from "effect/ManagedRuntime"
import { MultiLock, RedisLockStore } from "effect-redis-lock"
import type { Contender } from "../Contender.js"
import { callers, criticalSection } from "./effect.js"

export const ofFour: Contender = {
  id: "effect-redis-lock, 4 keys",
  package: "effect-redis-lock",
  setUp: "`MultiLock.withLocks` of four keys; defaults",
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
            return (key) => {
              const keys = [key, `${key}:2`, `${key}:3`, `${key}:4`]
              return load.shape === "withLock"
                ? Effect.asVoid(MultiLock.withLocks(keys, settings)(work))
                : Effect.scoped(Effect.zipRight(MultiLock.acquire(keys, settings), work))
            }
          })
        ),
      close: () => runtime.dispose()
    }
  }
}
