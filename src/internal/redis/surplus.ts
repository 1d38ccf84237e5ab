/**
 * Places in the queue that are more than its callers need. Where permits are passed on, they are kept to
 * the end of what is a run now: a caller that has had its turn often comes again at once.
 */
import type { LockClock, ScheduledCall } from "../engine.js"

export class Surplus {
  private until: number | undefined = undefined
  private timer: ScheduledCall | undefined = undefined

  constructor(
    private readonly clock: LockClock,
    /** They are not kept any longer. */
    private readonly onOver: () => void
  ) {}

  /** Whether they are kept, where there are some. `runsUntil`: the end of the run, if there is one. */
  isKept(isMore: boolean, runsUntil: number | undefined): boolean {
    const until = (this.until = isMore ? (this.until ?? runsUntil) : undefined)
    if (until === undefined || until <= this.clock.unsafeNow()) return false
    this.timer ??= this.clock.unsafeSchedule(until, () => {
      this.timer = undefined
      this.onOver()
    })
    return true
  }

  /** Keeps none while that is done. */
  without(update: () => void): void {
    this.until = Number.NEGATIVE_INFINITY
    update()
    this.until = undefined
  }
}
