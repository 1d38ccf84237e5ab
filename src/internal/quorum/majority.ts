/** How many nodes are enough, and what the answers of some of them say together. */
import type { NotOurs, OwnershipExit } from "../engine.js"

export const majorityOf = (nodes: number): number => Math.floor(nodes / 2) + 1

/** Until when so many nodes are proven to hold it, of those with these proofs. */
export const provenBy = (proofs: ReadonlyArray<number>, majority: number): number =>
  [...proofs].sort((one, other) => other - one)[majority - 1] ?? Number.NEGATIVE_INFINITY

/** The reason that most of them give. */
export const mostCommon = (reasons: ReadonlyArray<NotOurs>): NotOurs => {
  const count = (reason: NotOurs) => reasons.filter((one) => one === reason).length
  return [...reasons].sort((one, other) => count(other) - count(one))[0] ?? "Missing"
}

/**
 * What it is together: ours, if it is so at a majority; otherwise why not, if the nodes of which that is not
 * known cannot make a majority of it; otherwise a failure.
 */
export const verdict = (exits: ReadonlyArray<OwnershipExit>, majority: number): OwnershipExit => {
  const ours = exits.filter((exit) => exit === "Ours").length
  if (ours >= majority) return "Ours"
  const reasons = exits.filter(
    (exit): exit is NotOurs => typeof exit === "string" && exit !== "Ours"
  )
  const unknown = exits.find((exit) => typeof exit !== "string")
  const unknowns = exits.length - ours - reasons.length
  return unknown === undefined || ours + unknowns < majority ? mostCommon(reasons) : unknown
}
