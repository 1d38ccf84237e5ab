/** How claims with bounds are kept: those that are for a tick, or that say how long a lease may, or must, be held. */
import { type Claim, countedFrom, keptMillis, type Kind, tickKeptMillis } from "../engine.js"
import { lockScripts, readWriteScripts, semaphoreScripts } from "./boundScripts.js"
import { type Protocol, protocols } from "./protocol.js"

/** Whether a claim says more than plain ones do: its lease is shared with no other caller. */
export const isBound = ({ holdAtLeastMillis, maxHoldMillis, tick }: Claim): boolean =>
  tick !== undefined || maxHoldMillis !== undefined || holdAtLeastMillis !== undefined

/** What the release of a lease that was used has more than that of another one; see `boundScripts.ts`. */
export const boundEnding = (claim: Claim, fencingToken: number): ReadonlyArray<string> => [
  String(claim.holdAtLeastMillis ?? 0),
  String(countedFrom(claim) ?? fencingToken)
]

const scripts: Record<Kind, Partial<Protocol>> = {
  lock: lockScripts,
  semaphore: semaphoreScripts,
  readWriteLock: readWriteScripts
}

/** Of the bounds of a claim: claims with the same ones stand in one line. */
export const boundProtocol = (claim: Claim): Protocol => {
  const { holdAtLeastMillis, kind, maxHoldMillis, tick } = claim
  const plain = protocols[kind]
  return {
    ...plain,
    ...scripts[kind],
    // (callers share nothing of what they are granted)
    shared: false,
    bounds: [
      argument(tick),
      argument(tick === undefined ? undefined : tickKeptMillis(claim)),
      argument(maxHoldMillis),
      argument(holdAtLeastMillis)
    ],
    // (the ttl of a record is never made shorter than it says)
    claimOf: (one, owner) => plain.claimOf({ ...one, ttlMillis: keptMillis(one) }, owner)
  }
}

/** What is not there is empty. */
const argument = (value: number | undefined): string => (value === undefined ? "" : String(value))

export const sameBounds = (one: Protocol, other: Protocol): boolean =>
  one.kind === other.kind && String(one.bounds) === String(other.bounds)
