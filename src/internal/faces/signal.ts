import { setMaxListeners } from "node:events"
import { inContext } from "./asyncContext.js"
import type { Losable } from "./holds.js"

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
