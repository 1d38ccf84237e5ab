/** A warning in a caller's name, of whom somebody else knows something. */
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import { quietly } from "../faces/logs.js"

/** In a fiber of its own, with the caller's loggers and annotations: the caller itself waits. */
export const warnAs = (
  context: Context.Context<never>,
  key: string,
  owner: string | undefined,
  message: string
): void => {
  try {
    Effect.runForkWith(context)(quietly(key, owner, Effect.logWarning(message)))
  } catch {
    // a logger that throws: nobody waits any less for that
  }
}
