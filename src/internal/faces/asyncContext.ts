/**
 * Node's async context (`AsyncLocalStorage`). A caller that waits goes on in the context in which
 * it asked, and not in that of the callback that resumes it: the answer to another caller's
 * command, another caller's release, a timer that several share.
 *
 * Effect resumes a fiber in the context of the call that resumes it, so binding that call is enough.
 */
import { AsyncResource } from "node:async_hooks"

const options = { requireManualDestroy: true }

/** The context of this moment. Some 50 ns; `AsyncLocalStorage.snapshot` takes 8 µs on Node 20. */
export class AsyncContext extends AsyncResource {
  constructor() {
    super("effect-redis-lock", options)
  }

  bound<A>(callback: (value: A) => void): (value: A) => void {
    return (value) => this.runInAsyncScope(callback, undefined, value)
  }
}

/** Binds a callback to the context of this moment. */
export const inContext = <A>(callback: (value: A) => void): ((value: A) => void) =>
  new AsyncContext().bound(callback)
