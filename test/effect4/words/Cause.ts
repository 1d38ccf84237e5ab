import * as Cause from "effect4/Cause"
import * as Option from "effect4/Option"

export * from "effect4/Cause"

export const defects = (cause: Cause.Cause<unknown>): ReadonlyArray<unknown> =>
  cause.reasons.filter(Cause.isDieReason).map(({ defect }) => defect)

export const failures = <E>(cause: Cause.Cause<E>): ReadonlyArray<E> =>
  cause.reasons.filter(Cause.isFailReason).map(({ error }) => error)

export const failureOption = Cause.findErrorOption
export const isDie = Cause.hasDies
export const isEmpty = (cause: Cause.Cause<unknown>): boolean => cause.reasons.length === 0
export const isIllegalArgumentException = Cause.isIllegalArgumentError
export const isInterrupted = Cause.hasInterrupts
export const isInterruptedOnly = Cause.hasInterruptsOnly
export const dieOption = (cause: Cause.Cause<unknown>): Option.Option<unknown> =>
  Option.fromUndefinedOr(defects(cause)[0])
