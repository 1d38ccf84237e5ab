/** How the end of a lease is told to those who do not run under its guard. */
import * as Effect from "effect/Effect"
import type { LockLost } from "../../LockError.js"
import { inContext } from "../faces/asyncContext.js"
import type { Losable } from "../faces/holds.js"

/** Fails at a loss; after a release it waits for ever. */
export const awaitLoss = (lease: Losable): Effect.Effect<never, LockLost> =>
  Effect.async<never, LockLost>((resume) => {
    const onEnd = () => {
      if (lease.loss.reason !== "Released") resume(lease.loss)
    }
    if (!lease.checkHeld()) return onEnd()
    return Effect.sync(lease.onEnd(inContext<void>(onEnd)))
  })
