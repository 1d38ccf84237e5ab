/** effect-redis-lock. Its commands go over one connection, as it is set up by default. */
import * as Effect from "effect/Effect"
import { Lock, type RedisLockStore } from "effect-redis-lock"
import type { Contender } from "../Contender.js"
import { onStore } from "./store.js"

const ours = (id: string, setUp: string, options: RedisLockStore.StoreOptions): Contender =>
  onStore(
    id,
    setUp,
    ({ load, settings, work }) =>
      load.shape === "withLock"
        ? (key) => Effect.asVoid(Lock.withLock(key, settings)(work))
        : (key) => Effect.scoped(Effect.zipRight(Lock.acquire(key, settings), work)),
    options,
    (key, settings) => Lock.acquire(key, settings)
  )

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
