/** Semaphores whose users do not agree on the limit: warned about once for a key. */
import type * as Context from "effect/Context"
import type { LockStore } from "../faces/lockStore.js"
import { warnAs } from "./warning.js"

/** Keys that have been warned about, the oldest first, which are forgotten first. */
const warned = new WeakMap<LockStore, Set<string>>()
const remembered = 1_000

export const limitsSeen = (
  key: string,
  own: number,
  other: number,
  store: LockStore,
  context: Context.Context<never>,
  whichCounts = "While both are in use, the smaller one counts."
): void => {
  let keys = warned.get(store)
  if (keys === undefined) warned.set(store, (keys = new Set()))
  if (keys.has(key)) return
  keys.add(key)
  if (keys.size > remembered) {
    for (const oldest of keys) {
      keys.delete(oldest)
      break
    }
  }
  const message = `Semaphore ${JSON.stringify(key.slice(0, 200))}: it is asked for with a limit of ${own}, and a holder has a limit of ${other}. ${whichCounts} (Warned about once for a key.)`
  // (not in the store's own step: a logger is anybody's code)
  queueMicrotask(() => {
    warnAs(context, key, undefined, message)
  })
}
