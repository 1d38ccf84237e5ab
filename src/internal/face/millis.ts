import * as Duration from "effect/Duration"
import * as Option from "effect/Option"

/**
 * A duration as users write it, in milliseconds; `undefined` where it is none. `Duration` turns what
 * is negative into zero; here it stays what it is, or is none, so that it is refused.
 */
export const toMillis = (input: Duration.DurationInput): number | undefined =>
  typeof input === "number"
    ? input
    : typeof input === "string" && input.trimStart().startsWith("-")
      ? undefined
      : Option.getOrUndefined(Option.map(Duration.decodeUnknown(input), Duration.toMillis))
