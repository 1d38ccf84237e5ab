import * as Cause from "effect/Cause"
import * as Chunk from "effect/Chunk"
import * as Option from "effect/Option"

export * from "effect/Cause"

type Any = Cause.Cause<unknown>

export const failures = ({ reasons }: Any) =>
  Chunk.fromIterable(reasons.filter(Cause.isFailReason).map(({ error }) => error))
export const defects = ({ reasons }: Any) =>
  Chunk.fromIterable(reasons.filter(Cause.isDieReason).map(({ defect }) => defect))
export const failureOption = (cause: Any) => Chunk.head(failures(cause))
export const dieOption = (cause: Any) => Chunk.head(defects(cause))
export const isDie = Cause.hasDies
export const isInterrupted = Cause.hasInterrupts
export const isInterruptedOnly = Cause.hasInterruptsOnly
export const isEmpty = ({ reasons }: Any) => reasons.length === 0
export const isIllegalArgumentException = Cause.isIllegalArgumentError
export const IllegalArgumentException = Cause.IllegalArgumentError
export const parallel = Cause.combine
export const firstFailure = (cause: Any) => Option.getOrUndefined(failureOption(cause))
