/** A caller in the line of its process, and what it learns of the callers before it. */
import type { Claim, Contention, ScheduledCall, StoreFailure, Unavailable } from "../engine.js"
import { Link } from "../common/fifo.js"
import type { Busy } from "./answers.js"
import type { Turn } from "./tenure.js"

type WaiterExit = Turn | Unavailable | StoreFailure

/** A caller that waits for its turn. */
export class Waiter extends Link {
  /** What came of it. */
  exit: WaiterExit | undefined = undefined
  contention: Contention | undefined = undefined
  resume: ((exit: WaiterExit) => void) | undefined = undefined
  deadline: ScheduledCall | undefined = undefined
  /** Its time is over, but the store has not said yet what is in the way. */
  overdue = false
  /** How many grants came too late for it. */
  late = 0
  /** How many of this process stood before it when it came. */
  cameAfter = 0

  constructor(
    readonly claim: Claim,
    readonly askedAt: number
  ) {
    super()
  }

  settle(exit: WaiterExit): void {
    this.deadline?.cancel()
    this.exit = exit
    this.resume?.(exit)
  }
}

/** Others may have another limit: a smaller one counts. */
export const tellLimit = (claim: Claim, limit: number | undefined): void => {
  if (limit !== undefined && limit !== claim.limit) claim.whenLimitDiffers?.(limit)
}

/** What an answer said, so many milliseconds later. */
export const contentionOf = (
  busy: Busy | undefined,
  aheadHere: number | undefined,
  agoMillis: number
): Contention => ({
  ahead: aheadHere === undefined ? undefined : aheadHere + Math.max(0, busy?.rank ?? 0),
  retryAfterMillis:
    busy === undefined
      ? 0
      : busy.leftMillis === undefined
        ? undefined
        : Math.max(0, Math.round(busy.leftMillis - agoMillis)),
  owner: busy?.owner,
  heldForMillis:
    busy?.heldForMillis === undefined ? undefined : Math.round(busy.heldForMillis + agoMillis),
  foreign: busy?.foreign ?? false
})
