import type * as Context from "effect4/Context"
import * as Effect from "effect4/Effect"

/** Of a reference in the context of the fiber. */
export const get = <A>(reference: Context.Reference<A>): Effect.Effect<A> =>
  Effect.withFiber((fiber) => Effect.succeed(fiber.getRef(reference)))

/** (For what is not run on Effect 4.) */
export const unsafeMake = (initial: unknown): unknown => initial
