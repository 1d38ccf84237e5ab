import * as Effect from "effect/Effect"
import type { LockLost } from "../../LockError.js"
import type { Losable } from "../faces/holds.js"
import { afterwards } from "./resuming.js"

/** Fails at a loss; after a release it waits for ever. */
export const awaitLoss = (lease: Losable): Effect.Effect<never, LockLost> =>
  Effect.callback<never, LockLost>((resume) => {
    const onEnd = () => {
      if (lease.loss.reason !== "Released") resume(Effect.fail(lease.loss))
    }
    if (!lease.checkHeld()) return onEnd()
    return Effect.sync(lease.onEnd(() => afterwards(onEnd)))
  })
