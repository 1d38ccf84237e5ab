export { isFailure as isLeft, isSuccess as isRight } from "effect/Result"
