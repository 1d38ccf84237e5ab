/**
 * What closes together has one deadline. The finalizers of a scope run one after the other, and so
 * do the ends of nested locks: where the store is slow or silent, each of them waiting for its own
 * command deadline would hold the close up for that time as often as there are leases.
 *
 * Releases belong together where one follows on another in a fiber (or in the fiber that waits for
 * that one) at once, with no answer of the store between them. Only slow ones are noted.
 */

class Closing {
  /** The longest that one of its releases took. */
  longest = 0
  endedAt = 0
  isTold = false

  constructor(readonly since: number) {}
}

const closings = new WeakMap<object, Closing>()
/** When a slow release last ended: mostly there is none, and nothing to look up. */
let lastEndedAt = Number.NEGATIVE_INFINITY

/** A release that took less is not worth a note. */
const slow = 20
/** So long after a slow release it can still be followed on by another. */
const memory = 60_000

/** Since when there has been closing in this fiber, if a release begins there now. */
export const closingSince = (fiber: object, now: number, lastAnswerAt: number): number => {
  if (now > lastEndedAt + memory) return now
  const closing = closings.get(fiber)
  if (closing === undefined) return now
  const follows =
    lastAnswerAt <= closing.endedAt && now - closing.endedAt < Math.max(slow, closing.longest / 2)
  return follows ? closing.since : now
}

/** A release that began then has ended, or is not waited for any more. */
export const releaseEnded = (fiber: object, since: number, begunAt: number, now: number): void => {
  if (now - begunAt < slow && since === begunAt) return
  const known = closings.get(fiber)
  const closing = known?.since === since ? known : new Closing(since)
  closing.longest = Math.max(closing.longest, now - begunAt)
  closing.endedAt = lastEndedAt = now
  closings.set(fiber, closing)
}

/** A fiber has ended that another one waited for: what that one closes now belongs to it. */
export const closingGoesOn = (from: object, to: object, now: number): void => {
  if (now > lastEndedAt + memory) return
  const closing = closings.get(from)
  if (closing !== undefined) closings.set(to, closing)
}

/** Whether somebody has been warned already that releases of this closing are not confirmed. */
export const isToldOnce = (fiber: object): boolean => {
  const closing = closings.get(fiber)
  if (closing === undefined) return false
  const { isTold } = closing
  closing.isTold = true
  return isTold
}
