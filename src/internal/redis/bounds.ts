/** How claims with bounds are kept: those that are for a tick, or that say how long a lease may be held. */
import { type Claim, type Kind, tickKeptMillis } from "../engine.js"
import { lockScripts, readWriteScripts, semaphoreScripts } from "./boundScripts.js"
import { type Protocol, protocols } from "./protocol.js"

/** Whether a claim says more than plain ones do: its lease is shared with no other caller. */
export const isBound = ({ maxHoldMillis, tick }: Claim): boolean =>
  tick !== undefined || maxHoldMillis !== undefined

const scripts: Record<Kind, Partial<Protocol>> = {
  lock: lockScripts,
  semaphore: semaphoreScripts,
  readWriteLock: readWriteScripts
}

/** Of the bounds of a claim: claims with the same ones stand in one line. */
export const boundProtocol = (claim: Claim): Protocol => {
  const { kind, maxHoldMillis, tick } = claim
  return {
    ...protocols[kind],
    ...scripts[kind],
    // (callers share nothing of what they are granted)
    shared: false,
    bounds: [
      argument(tick),
      argument(tick === undefined ? undefined : tickKeptMillis(claim)),
      argument(maxHoldMillis)
    ],
    ending: kind === "lock" ? used : undefined
  }
}

/** What is not there is empty. */
const argument = (value: number | undefined): string => (value === undefined ? "" : String(value))

const used = (): ReadonlyArray<string> => ["1"]

export const sameBounds = (one: Protocol, other: Protocol): boolean =>
  one.kind === other.kind && String(one.bounds) === String(other.bounds)
