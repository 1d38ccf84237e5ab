/** How claims with bounds are kept: those that are granted for a tick. */
import { type Claim, tickKeptMillis } from "../engine.js"
import * as scripts from "./boundScripts.js"
import { type Protocol, protocols } from "./protocol.js"

/** Whether a claim says more than plain ones do: its lease is shared with no other caller. */
export const isBound = ({ tick }: Claim): boolean => tick !== undefined

/** What stands for an argument that there is not. */
const none = ""

/** Of the bounds of a claim: claims with the same ones stand in one line. */
export const boundProtocol = (claim: Claim): Protocol => {
  const { kind, tick } = claim
  return {
    ...protocols[kind],
    ...scripts.ofLock,
    shared: false,
    ticks: true,
    bounds: tick === undefined ? [none, none] : [String(tick), String(tickKeptMillis(claim))],
    ending: used
  }
}

const used = (): ReadonlyArray<string> => ["1"]

export const sameBounds = (one: Protocol, other: Protocol): boolean =>
  one.kind === other.kind && String(one.bounds) === String(other.bounds)
