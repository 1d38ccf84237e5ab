/**
 * Waiting for a state instead of sleeping: whoever changes the state announces it.
 */
import * as Effect from "effect/Effect"

export interface Changes {
  /** Looks again at what everybody waits for. */
  readonly announce: () => void
  /** Ends as soon as the predicate holds: at once, or after an announcement. */
  readonly until: (predicate: () => boolean) => Effect.Effect<void>
}

export const make = (): Changes => {
  const waiters = new Set<() => void>()
  return {
    announce: () => {
      waiters.forEach((look) => look())
    },
    until: (predicate) =>
      Effect.async((resume) => {
        if (predicate()) return resume(Effect.void)
        const look = () => {
          if (!predicate()) return
          waiters.delete(look)
          resume(Effect.void)
        }
        waiters.add(look)
        return Effect.sync(() => waiters.delete(look))
      })
  }
}
