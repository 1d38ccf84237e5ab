/** A claim that takes over a lease which another process has handed over: one question, and no waiting. */
import { validUntil } from "../common/timing.js"
import { type Claim, countedFrom, Lost } from "../engine.js"
import { type BoundAnswer, readAdoption } from "./answers.js"
import { boundEnding, isBound } from "./bounds.js"
import type { Call, Outcome } from "./call.js"
import type { LockKeys } from "./layout.js"
import type { Protocol } from "./protocol.js"
import type { Surroundings } from "./surroundings.js"

/** `args`: those of an acquire that does not wait. */
export const askToAdopt = (
  { commands, revokedKey }: Surroundings,
  claim: Claim,
  protocol: Protocol,
  keys: LockKeys,
  args: ReadonlyArray<string>
): Call => {
  const [, , maxHold, holdAtLeast] = protocol.bounds ?? []
  const more =
    protocol.bounds === undefined ? [] : [String(countedFrom(claim)), maxHold!, holdAtLeast!]
  return commands.call(
    protocol.adopt,
    // (without that of ticks)
    (protocol.several ? keys : keys.slice(0, 4)).concat(revokedKey(claim.key)),
    [...args, claim.adopt!.token, ...more]
  )
}

/** Why there is nothing to take over; `undefined` where that is not what was answered. */
export const lossIn = ({ adopt, key }: Claim, outcome: Outcome): Lost | undefined => {
  const found = adopt && readAdoption(outcome)
  return found && new Lost(key, adopt.fencingToken, found)
}

/** Where `maxHold` was over before the answer came. */
export const lossBy = (
  { adopt, key }: Claim,
  bound: BoundAnswer | undefined,
  sentAt: number,
  now: number
): Lost | undefined =>
  adopt !== undefined &&
  bound?.holdMillis !== undefined &&
  now >= validUntil(sentAt, bound.holdMillis)
    ? new Lost(key, adopt.fencingToken, "MaxHold")
    : undefined

/** What the release has more of a lease that does not come to its adopter: it was used before that. */
export const unusedEnding = (claim: Claim | undefined): ReadonlyArray<string> | undefined => {
  if (claim?.adopt === undefined || !isBound(claim)) return undefined
  return boundEnding(claim, claim.adopt.fencingToken)
}
