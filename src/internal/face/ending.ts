/** How the end of a lease is told to those who do not run under its guard. */
import * as Effect from "effect/Effect"
import { setMaxListeners } from "node:events"
import type { LockLost } from "../../LockError.js"
import { inContext } from "./asyncContext.js"
import type { Losable } from "./holds.js"

/** Fails at a loss; after a release it waits for ever. */
export const awaitLoss = (lease: Losable): Effect.Effect<never, LockLost> =>
  Effect.async<never, LockLost>((resume) => {
    const onEnd = () => {
      if (lease.loss.reason !== "Released") resume(lease.loss)
    }
    if (!lease.checkHeld()) return onEnd()
    return Effect.sync(lease.onEnd(inContext<void>(onEnd)))
  })

/** Aborted at a loss, and at a release. */
export const signalOf = (lease: Losable): AbortSignal => {
  const abort = new AbortController()
  // as many as the holder likes: ten requests at a time are no leak
  setMaxListeners(0, abort.signal)
  const onEnd = () => abort.abort(lease.loss)
  if (lease.checkHeld()) lease.onEnd(inContext<void>(onEnd))
  else onEnd()
  return abort.signal
}
