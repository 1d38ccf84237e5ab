/** A warning in a caller's name, of whom somebody else knows something. */
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import type * as FiberRefs from "effect/FiberRefs"
import { Inherited, interruptible, startLike } from "./fork.js"
import { quietly } from "../faces/logs.js"

/** In a fiber of its own, with the caller's loggers and annotations: the caller itself waits. */
export const warnAs = (
  caller: Fiber.RuntimeFiber<unknown, unknown>,
  refs: FiberRefs.FiberRefs,
  key: string,
  owner: string | undefined,
  message: string
): void => {
  const warning = quietly(key, owner, Effect.logWarning(message))
  try {
    startLike(caller, interruptible, warning, new Inherited(refs))
  } catch {
    // a logger, a FiberRef or a supervisor that throws: nobody waits any less for that
  }
}
