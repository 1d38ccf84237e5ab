/** effect-redis-lock's read-write lock: turns that read are under it together, one that writes alone. */
import * as Effect from "effect/Effect"
import { ReadWriteLock } from "effect-redis-lock"
import type { Contender } from "../Contender.js"
import { onStore } from "./store.js"

const ours = (id: string, setUp: string, keyOf: (key: string) => string): Contender =>
  onStore(id, setUp, ({ caller, load, meter, settings, work }) => (own) => {
    const key = keyOf(own)
    return load.writeEvery !== undefined && meter.writes(caller)
      ? Effect.asVoid(ReadWriteLock.withWriteLock(key, settings)(work))
      : Effect.asVoid(ReadWriteLock.withReadLock(key, settings)(work))
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
