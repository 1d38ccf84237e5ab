/** Options as users write them, those of a store included, with durations decoded. */
import type { DurationInput, Options, WaitOptions } from "../../Lease.js"
import type { Defaults } from "./lockStore.js"
import { toMillis } from "./millis.js"
import {
  checkFlag,
  checkKey,
  type LeaseOptions,
  notADuration,
  resolveOptions,
  withHolds
} from "../common/options.js"

/** A sentence where one of them is impossible. */
export const decodeOptions = (
  key: string,
  options: WaitOptions | undefined,
  waitAtMost: DurationInput | undefined,
  defaults: Defaults | undefined
): LeaseOptions | string => {
  const badKey = checkKey(key)
  if (badKey !== undefined) return badKey
  const badFlag = checkFlag("reentrant", options?.reentrant)
  if (badFlag !== undefined) return badFlag
  // a store's renewEvery is meant for its ttl, and its margin for both of them
  const timing: Options | undefined = options?.ttl === undefined ? defaults : options
  const margins = options?.renewEvery === undefined ? timing : options
  const ttl = millis("ttl", timing?.ttl)
  if (typeof ttl === "string") return ttl
  const renewEvery = millis("renewEvery", or(options?.renewEvery, timing?.renewEvery))
  if (typeof renewEvery === "string") return renewEvery
  const margin = millis("margin", or(options?.margin, margins?.margin))
  if (typeof margin === "string") return margin
  const warnAfter = millis("warnAfter", or(options?.warnAfter, defaults?.warnAfter))
  if (typeof warnAfter === "string") return warnAfter
  const wait = millis("waitAtMost", or(waitAtMost, defaults?.waitAtMost))
  if (typeof wait === "string") return wait
  const resolved = resolveOptions({
    ttl,
    renewEvery,
    margin,
    waitAtMost: wait,
    warnAfter,
    owner: options?.owner,
    name: or(options?.name, defaults?.name)
  })
  if (options?.maxHold === undefined && options?.holdAtLeast === undefined) return resolved
  const maxHold = millis("maxHold", options.maxHold)
  if (typeof maxHold === "string") return maxHold
  const holdAtLeast = millis("holdAtLeast", options.holdAtLeast)
  if (typeof holdAtLeast === "string") return holdAtLeast
  return typeof resolved === "string" ? resolved : withHolds(resolved, maxHold, holdAtLeast)
}

/** (Not for `null`, which is impossible.) */
const or = <A>(given: A | undefined, otherwise: A | undefined): A | undefined =>
  given === undefined ? otherwise : given

const millis = (option: string, input: DurationInput | undefined): number | string | undefined =>
  input === undefined ? undefined : (toMillis(input) ?? notADuration(option, input))

/** A sentence where one of a store's own options is impossible. */
export const checkDefaults = (defaults: Defaults | undefined): string | undefined => {
  const checked = decodeOptions("key", undefined, undefined, defaults)
  return typeof checked === "string"
    ? checked.replace("Impossible lock option ", "Impossible option defaults.")
    : undefined
}
