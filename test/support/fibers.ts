/** Fibers, watched from outside: which of them can run no further, and how each of them stands. */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"

/** Lets every fiber run that can. */
export const settle = Effect.replicateEffect(Effect.yieldNow(), 30, { discard: true })

export const forkSettled = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.zipLeft(Effect.fork(effect), settle)

/** What it has ended with, if it has. */
export const exitOf = <A, E>(fiber: Fiber.RuntimeFiber<A, E>): Exit.Exit<A, E> | null =>
  Option.getOrNull(Effect.runSync(Fiber.poll(fiber)))

/** Of a fiber that waits for a lock. */
export const stateOf = (
  fiber: Fiber.RuntimeFiber<unknown, unknown>
): "waiting" | "granted" | "failed" => {
  const exit = exitOf(fiber)
  return exit === null ? "waiting" : Exit.isSuccess(exit) ? "granted" : "failed"
}
