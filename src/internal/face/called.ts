import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import { inContext } from "../faces/asyncContext.js"

/** Waits for a callback, and goes on in the present context. */
export const called = <A>(register: (callback: (value: A) => void) => void): Effect.Effect<A> =>
  Effect.async((resume) => register(inContext((value: A) => resume(Exit.succeed(value)))))
