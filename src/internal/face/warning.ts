/** A warning in a caller's name, of whom somebody else knows something. */
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import type * as FiberId from "effect/FiberId"
import * as FiberRefs from "effect/FiberRefs"
import * as Runtime from "effect/Runtime"

/** In a fiber of its own, with the caller's loggers and annotations: the caller itself waits. */
export const warnAs = (
  caller: Fiber.RuntimeFiber<unknown, unknown>,
  refs: FiberRefs.FiberRefs,
  message: string,
  annotations: Record<string, unknown>
): void => {
  const warning = Effect.annotateLogs(Effect.logWarning(message), annotations)
  const runtime = Runtime.make({
    context: caller.currentContext as never,
    fiberRefs: FiberRefs.empty(),
    runtimeFlags: Runtime.defaultRuntimeFlags
  })
  try {
    Runtime.runFork(runtime)(
      Effect.catchAllCause(warning, () => Effect.void),
      { updateRefs: (_, id: FiberId.Runtime) => FiberRefs.forkAs(refs, id) }
    )
  } catch {
    // a logger, a FiberRef or a supervisor that throws: nobody waits any less for that
  }
}
