/**
 * Messages that say that something has become of a holder. They are believed as far as that the server is
 * asked: at once, and then once in a pause, however many come. (Whoever may publish can send them.)
 */
import type { LockClock } from "../engine.js"
import type { Tenure } from "./tenure.js"

/** In ms. */
const pause = 50

export class Doubts {
  /** Those that have been asked about just now, and whether another message has come since. */
  private readonly asked = new Map<Tenure, boolean>()

  constructor(private readonly clock: LockClock) {}

  /** Whether a message has just said something of it. */
  has(tenure: Tenure): boolean {
    return this.asked.has(tenure)
  }

  about(tenure: Tenure, ask: () => void): void {
    if (this.asked.has(tenure)) {
      this.asked.set(tenure, true)
      return
    }
    this.asked.set(tenure, false)
    this.clock.unsafeSchedule(this.clock.unsafeNow() + pause, () => {
      const again = this.asked.get(tenure) === true
      this.asked.delete(tenure)
      if (again) this.about(tenure, ask)
    })
    ask()
  }
}
