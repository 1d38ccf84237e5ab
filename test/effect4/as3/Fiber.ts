import * as Effect from "effect/Effect"
import type * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"

type Any = Fiber.Fiber<unknown, unknown>

export * from "effect/Fiber"

export const poll = (fiber: Any) => Effect.sync(() => Option.fromUndefinedOr(fiber.pollUnsafe()))
export const interruptFork = (fiber: Any) => Effect.sync(() => fiber.interruptUnsafe())

/** (A fiber that stands for several is an effect here, which is all that tests do with it.) */
const several = <A>(fibers: Iterable<Fiber.Fiber<A, unknown>>) => ({ several: [...fibers] })
type Several<A> = ReturnType<typeof several<A>>

export const all = several
export const join = <A>(fiber: Fiber.Fiber<A, unknown> | Several<A>) =>
  "several" in fiber ? Fiber.joinAll(fiber.several) : Fiber.join(fiber)

/** In Effect 3 a fiber's exit is what its interruption tells. */
export const interrupt = (fiber: Any): Effect.Effect<Exit.Exit<unknown, unknown>> =>
  Effect.andThen(Fiber.interrupt(fiber), Fiber.await(fiber))

/** Those that belong to nobody: a supervisor sees them here as well. */
export const roots = Effect.succeed([])
