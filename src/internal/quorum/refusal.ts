/** Why a quorum does not grant a claim: what the refusals of its nodes say together. */
import { type Claim, type Contention, Joining, Lost, StoreFailure, Unavailable } from "../engine.js"
import type { Terms } from "./node.js"
import type { Seat } from "./seat.js"

export const nobody: Contention = {
  owner: undefined,
  heldForMillis: undefined,
  foreign: false,
  retryAfterMillis: 0,
  ahead: undefined
}

/** Whether the node has no vote for the moment. */
export const isFailure = (refusal: Seat["refusal"]): boolean =>
  refusal instanceof StoreFailure || refusal instanceof Joining || refusal instanceof Lost

export const hasTick = ({ refusal }: Seat): boolean =>
  refusal instanceof Unavailable && refusal.lastTick !== undefined

const joiningOf = (seats: ReadonlyArray<Seat>) =>
  seats.flatMap(({ refusal }) => (refusal instanceof Joining ? refusal.leftMillis : []))

const failedOf = (seats: ReadonlyArray<Seat>) =>
  seats.flatMap(({ node, refusal }) =>
    refusal instanceof StoreFailure ? [{ node, failure: refusal }] : []
  )

/**
 * So often a claim that does not wait asks the others again, when it has the first node; of a claim for a tick,
 * after pauses that double: who has noted it elsewhere may wait for a node.
 */
export const mostTries = (hasTicks: boolean): number => (hasTicks ? 8 : 5)

/** Whether a majority is missing only because nodes are away that may be back in a moment. */
export const isOutage = (seats: ReadonlyArray<Seat>, majority: number): boolean => {
  const failed = failedOf(seats)
  const most = seats.length - majority
  const lasting = failed.filter(({ failure }) => !failure.transient)
  return failed.length > most && lasting.length <= most
}

/** If a majority is missing only because nodes do not count yet: when the next one does. */
export const joiningMillis = (seats: ReadonlyArray<Seat>, majority: number): number | undefined => {
  const joining = joiningOf(seats)
  const failed = failedOf(seats).length
  const most = seats.length - majority
  return failed <= most && failed + joining.length > most ? Math.min(...joining) : undefined
}

/** `ordered`: the seats, and before them the one that decides. */
export const refusalOf = (
  claim: Claim,
  ordered: ReadonlyArray<Seat>,
  { longestTtlMillis, majority }: Terms,
  waitedMillis: number,
  contention: Contention | undefined
): StoreFailure | Unavailable => {
  const [, ...seats] = ordered
  const { length } = seats
  const failed = failedOf(seats)
  const joining = joiningOf(seats)
  const fail = (detail: string, transient: boolean, cause?: unknown) =>
    new StoreFailure("acquire", claim.key, detail, transient, cause)
  if (failed.length > length - majority) {
    const byNumber = failed.sort((one, other) => one.node.number - other.node.number)
    const details = byNumber.map(({ failure, node }) => `Node ${node.number}: ${failure.detail}`)
    return fail(
      `Of ${length} nodes ${length - failed.length} answered, and ${majority} must. ${details.join(" ")}`,
      failed.some(({ failure }) => failure.transient),
      failed[0]!.failure
    )
  }
  if (failed.length + joining.length > length - majority) {
    return fail(
      `${joining.length} of ${length} nodes were started, or emptied, a short time ago, and may have forgotten leases: they count again when the longest ttl (${longestTtlMillis} ms) is over. The next one does in ${Math.ceil(Math.min(...joining))} ms.`,
      true
    )
  }
  const busy = ordered.flatMap(({ refusal }) => (refusal instanceof Unavailable ? refusal : []))
  const told = busy.find((one) => one.contention !== nobody)
  const ticks = busy.flatMap((one) => one.lastTick ?? [])
  const lastTick = ticks.length === 0 ? undefined : Math.max(...ticks)
  const inTheWay = told?.contention ?? contention ?? nobody
  return new Unavailable(claim.key, waitedMillis, inTheWay, lastTick)
}

export const tooLate = ({ key, ttlMillis }: Claim): StoreFailure =>
  new StoreFailure(
    "acquire",
    key,
    `When a majority had confirmed the lease, it was not proven any more, so it was given back. Choose a longer ttl (it is ${ttlMillis} ms), or find out why the nodes or this process are slow.`,
    true
  )

export const died = (key: string, cause: unknown): StoreFailure =>
  new StoreFailure(
    "acquire",
    key,
    "The node's store failed in a way that it should not.",
    false,
    cause
  )
