/** effect-redis-lock's `MultiLock`: four keys at once, of which no other caller wants one. */
import * as Effect from "effect/Effect"
import { MultiLock } from "effect-redis-lock"
import { onStore } from "./store.js"

export const ofFour = onStore(
  "effect-redis-lock, 4 keys",
  "`MultiLock.withLocks` of four keys; defaults",
  ({ load, settings, work }) =>
    (key) => {
      const keys = [key, `${key}:2`, `${key}:3`, `${key}:4`]
      return load.shape === "withLock"
        ? Effect.asVoid(MultiLock.withLocks(keys, settings)(work))
        : Effect.scoped(Effect.zipRight(MultiLock.acquire(keys, settings), work))
    }
)
