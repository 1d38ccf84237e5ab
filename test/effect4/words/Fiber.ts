import * as Effect from "effect4/Effect"
import type * as Exit from "effect4/Exit"
import * as Fiber from "effect4/Fiber"
import * as Option from "effect4/Option"

export * from "effect4/Fiber"

export const interrupt = <A, E>(fiber: Fiber.Fiber<A, E>): Effect.Effect<Exit.Exit<A, E>> =>
  Effect.andThen(Fiber.interrupt(fiber), Fiber.await(fiber))

export const interruptFork = <A, E>(fiber: Fiber.Fiber<A, E>): Effect.Effect<void> =>
  Effect.asVoid(Effect.forkDetach(Fiber.interrupt(fiber)))

export const poll = <A, E>(
  fiber: Fiber.Fiber<A, E>
): Effect.Effect<Option.Option<Exit.Exit<A, E>>> =>
  Effect.sync(() => Option.fromUndefinedOr(fiber.pollUnsafe()))

/** Of several fibers: what `join` is asked for. */
export const all = <A, E>(fibers: Iterable<Fiber.Fiber<A, E>>): Iterable<Fiber.Fiber<A, E>> =>
  fibers

export const join = <A, E>(
  fiber: Fiber.Fiber<A, E> | Iterable<Fiber.Fiber<A, E>>
): Effect.Effect<A | ReadonlyArray<A>, E> =>
  Symbol.iterator in fiber ? Fiber.joinAll(fiber) : Fiber.join(fiber)
