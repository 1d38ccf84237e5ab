/** A caller in the line of its process, and what it learns of the callers before it. */
import * as Duration from "effect/Duration"
import type * as Exit from "effect/Exit"
import type { LockStoreError, LockUnavailable } from "../../LockError.js"
import type { Claim, Contention, ScheduledCall } from "../../LockStore.js"
import { Link } from "../fifo.js"
import type { Busy } from "./answers.js"
import type { Turn } from "./tenure.js"

type WaiterExit = Exit.Exit<Turn, LockUnavailable | LockStoreError>

/** A caller that waits for its turn. */
export class Waiter extends Link {
  /** What came of it. Kept here: an interrupted fiber can drop the value it was resumed with. */
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

/** What an answer said, so many milliseconds later. */
export const contentionOf = (
  busy: Busy | undefined,
  aheadHere: number | undefined,
  agoMillis: number
): Contention => ({
  ahead: aheadHere === undefined ? undefined : aheadHere + Math.max(0, busy?.rank ?? 0),
  retryAfter:
    busy === undefined
      ? Duration.zero
      : busy.leftMillis === undefined
        ? undefined
        : Duration.millis(Math.max(0, Math.round(busy.leftMillis - agoMillis))),
  holder: {
    owner: busy?.owner,
    heldFor:
      busy?.heldForMillis === undefined
        ? undefined
        : Duration.millis(Math.round(busy.heldForMillis + agoMillis)),
    foreign: busy?.foreign ?? false
  }
})
