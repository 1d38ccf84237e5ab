import * as Duration from "effect/Duration"
import type { DurationInput } from "../../Lease.js"

/**
 * A duration as users write it, in milliseconds; `undefined` where it is none. `Duration` turns what
 * is negative into zero; here it stays what it is, or is none, so that it is refused.
 */
export const toMillis = (input: DurationInput): number | undefined => {
  if (typeof input === "number") return input
  if (typeof input === "string" && input.trimStart().startsWith("-")) return undefined
  try {
    return Duration.toMillis(input)
  } catch {
    return undefined
  }
}
