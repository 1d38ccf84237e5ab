/** Causes, as Effect 4 has them. */
import * as Cause from "effect/Cause"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"

/** What was asked for is impossible, as this sentence says. */
export const defect = (sentence: string): Exit.Exit<never> =>
  Exit.die(new Cause.IllegalArgumentError(sentence))

/** The first error of a cause. */
export const errorIn = <E>(cause: Cause.Cause<E>): E | undefined =>
  Option.getOrUndefined(Cause.findErrorOption(cause))

/** Whether it is one of the errors of a cause. */
export const hasError = <E>(cause: Cause.Cause<E>, error: unknown): boolean =>
  cause.reasons.some((reason) => Cause.isFailReason(reason) && reason.error === error)

export const withoutInterruptions = <E>(cause: Cause.Cause<E>): Cause.Cause<E> =>
  Cause.fromReasons(cause.reasons.filter((reason) => !Cause.isInterruptReason(reason)))

/** Whether it is an interruption, and nothing else. */
export const isInterruption = (cause: Cause.Cause<unknown>): cause is Cause.Cause<never> =>
  Cause.hasInterruptsOnly(cause)
