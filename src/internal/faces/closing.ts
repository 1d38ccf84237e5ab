/**
 * What closes together has one deadline. The finalizers of a scope run one after the other, and so
 * do the ends of nested locks: where the store is slow or silent, each of them waiting for its own
 * command deadline would hold the close up for that time as often as there are leases.
 *
 * Releases belong together where one follows on another in a fiber (or in the fiber that waits for
 * that one) at once, and the store still owes an answer, or none came between them. Only slow ones are noted.
 */
import type { Store } from "../engine.js"

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
/** One that follows on another within that belongs to it, if the store has not answered in between. */
const soon = 100
/** So long after a slow release it can still be followed on by another. */
const memory = 60_000

const closingOf = (fiber: object | undefined): Closing | undefined =>
  fiber === undefined ? undefined : closings.get(fiber)

/** Since when that fiber has been closing, if a release begins there now. */
const closingSince = (fiber: object | undefined, now: number, answeredAt: number): number => {
  if (now > lastEndedAt + memory) return now
  const closing = closingOf(fiber)
  return closing !== undefined &&
    answeredAt <= closing.endedAt &&
    now - closing.endedAt < Math.max(soon, closing.longest / 2)
    ? closing.since
    : now
}

/** A release that began then has ended, or is not waited for any more. */
const releaseEnded = (
  fiber: object | undefined,
  since: number,
  begunAt: number,
  now: number,
  isAnswered: boolean,
  answeredAt: number
): void => {
  const isQuick = isAnswered && now - begunAt < slow
  if (isQuick && since === begunAt) return
  if (fiber === undefined) return
  const known = closings.get(fiber)
  // the store is well again, as a whole
  if (isQuick && (known === undefined || answeredAt > known.endedAt)) {
    return void closings.delete(fiber)
  }
  const closing = known?.since === since ? known : new Closing(since)
  closing.longest = Math.max(closing.longest, now - begunAt)
  closing.endedAt = lastEndedAt = now
  closings.set(fiber, closing)
}

/**
 * Releases a lease of that store, for the fiber that runs: tells since when that has been closing, and
 * notes what was slow.
 */
export const inClosing = <A>(
  fiber: object | undefined,
  store: Store,
  release: (since: number, onExit: (exit: A) => void) => void,
  onExit: (exit: A) => void
): void => {
  const { clock } = store
  const answeredAt = () => store.answeredAt ?? Number.NEGATIVE_INFINITY
  const begunAt = clock.unsafeNow()
  const since = closingSince(fiber, begunAt, answeredAt())
  let inPlace = true
  release(since, (exit) => {
    // (in place: nothing was asked of the store's server)
    if (!inPlace) {
      releaseEnded(fiber, since, begunAt, clock.unsafeNow(), isAnswer(exit), answeredAt())
    }
    onExit(exit)
  })
  inPlace = false
}

/** An answer of the store, and not what stands for the missing of one. */
const isAnswer = (exit: unknown): boolean =>
  typeof exit === "string" || (exit as { readonly _tag: string })._tag === "Loss"

/** A fiber has ended that another one waited for: what that one closes now follows on it. */
export const closingGoesOn = (from: object, to: object): void => {
  if (lastEndedAt === Number.NEGATIVE_INFINITY) return
  const closing = closings.get(from)
  if (closing !== undefined) closings.set(to, closing)
}

/** Whether there has been a warning already that releases of this close are not confirmed. */
export const isToldAlready = (fiber: object | undefined): boolean => {
  const closing = closingOf(fiber)
  if (closing === undefined) return false
  const { isTold } = closing
  closing.isTold = true
  return isTold
}
