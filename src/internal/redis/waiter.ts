/** A caller in the line of its process, and what it learns of the callers before it. */
import {
  type Claim,
  type Contention,
  type ScheduledCall,
  type StoreFailure,
  Unavailable
} from "../engine.js"
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

  refuse(now: number, contention: Contention, lastTick?: number): void {
    const waited = Math.round(now - this.askedAt)
    this.settle(new Unavailable(this.claim.key, waited, contention, lastTick))
  }
}

/** Those that have waited long enough for an answer, and when the next one will have. */
export const impatient = (
  waiters: ReadonlyArray<Waiter>,
  now: number,
  place: { patientUntil(claim: Claim): number }
): { readonly given: ReadonlyArray<Waiter>; readonly next: number } => {
  const given: Array<Waiter> = []
  let next = Number.POSITIVE_INFINITY
  for (const waiter of waiters) {
    const until = place.patientUntil(waiter.claim)
    // (timers may come a little early)
    if (now + 10 >= until) given.push(waiter)
    else next = Math.min(next, until)
  }
  return { given, next }
}

/** How a caller's ttl shapes its waiting, in milliseconds. */
export interface Shape {
  readonly beat: number
  readonly window: number
  /** The ttl of a grant by handoff: a waiter that has died costs no more than the window. */
  readonly handoff: number
}

export const shapeOf = ({ ttlMillis }: Claim, heartbeatMillis: number): Shape => {
  const beat = Math.max(10, Math.min(heartbeatMillis, ttlMillis / 3))
  const window = Math.ceil(3 * beat)
  return { beat, window, handoff: Math.min(ttlMillis, window) }
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
