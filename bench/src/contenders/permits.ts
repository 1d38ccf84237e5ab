/** effect-redis-lock's semaphore: several can hold a key at once, as many as the load says. */
import * as Effect from "effect/Effect"
import { Semaphore } from "effect-redis-lock"
import { onStore } from "./store.js"

export const ours = onStore(
  "effect-redis-lock, Semaphore",
  "`Semaphore.withPermits`, one permit; defaults",
  ({ load, settings: { ttl }, work }) => {
    const settings = { ttl, limit: load.limit ?? 1 }
    return load.shape === "withLock"
      ? (key) => Effect.asVoid(Semaphore.withPermits(key, settings)(work))
      : (key) => Effect.scoped(Effect.zipRight(Semaphore.acquire(key, settings), work))
  }
)
