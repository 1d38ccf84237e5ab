/** Causes, as Effect 3 has them. */
import * as Cause from "effect/Cause"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"

/** What was asked for is impossible, as this sentence says. */
export const defect = (sentence: string): Exit.Exit<never> =>
  Exit.die(new Cause.IllegalArgumentException(sentence))

/** The first error of a cause. */
export const errorIn = <E>(cause: Cause.Cause<E>): E | undefined =>
  Option.getOrUndefined(Cause.failureOption(cause))

/** Whether it is an interruption, and nothing else. */
export const isInterruption = (cause: Cause.Cause<unknown>): cause is Cause.Cause<never> =>
  Cause.isInterruptedOnly(cause)
