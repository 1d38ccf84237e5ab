/** A warning in a caller's name, of whom somebody else knows something. */
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import type * as FiberRefs from "effect/FiberRefs"
import * as Runtime from "effect/Runtime"
import { Inherited, startLike } from "./fork.js"

/** In a fiber of its own, with the caller's loggers and annotations: the caller itself waits. */
export const warnAs = (
  caller: Fiber.RuntimeFiber<unknown, unknown>,
  refs: FiberRefs.FiberRefs,
  message: string,
  annotations: Record<string, unknown>
): void => {
  const warning = Effect.annotateLogs(Effect.logWarning(message), annotations)
  try {
    startLike(
      caller,
      Runtime.defaultRuntimeFlags,
      Effect.catchAllCause(warning, () => Effect.void),
      new Inherited(refs)
    )
  } catch {
    // a logger, a FiberRef or a supervisor that throws: nobody waits any less for that
  }
}
