/** When a second connection may be made beside one that is doubted, and how long it gets. */
import type { Slowest } from "./transport.js"

/** The longest time that a connection beside a doubted one gets, in milliseconds. */
const longestTry = 60_000
/**
 * The same, where the next one may be led elsewhere: after a failover one that is still on its way to the old
 * master must not be waited for that long.
 */
const longestTryByName = 10_000

export class Spares {
  /** How many were made in a row. */
  private made = 0
  private triedAt = Number.NEGATIVE_INFINITY
  private nextAt = Number.NEGATIVE_INFINITY

  constructor(
    private readonly timeoutMillis: number,
    private readonly slowest: Slowest,
    private readonly byName: boolean
  ) {}

  /** Enough for a handshake and an answer, as slow as the slowest of late. */
  get firstTryMillis(): number {
    return Math.max(
      this.timeoutMillis / 2,
      Math.min(4 * this.timeoutMillis, 8 * this.slowest.millis)
    )
  }

  /** Twice as long each time, so that it is long enough in the end. */
  get tryMillis(): number {
    const longest = this.byName ? longestTryByName : longestTry
    const doubled = this.firstTryMillis * 2 ** Math.max(0, this.made - 1)
    return Math.max(this.firstTryMillis, Math.min(longest, doubled))
  }

  /** How long to wait before the next one is made. */
  pause(now: number, urgently: boolean): number {
    // what was long ago was another trouble
    if (now > this.nextAt + this.tryMillis) this.made = 0
    const soonest = this.triedAt + this.timeoutMillis / 2
    return (urgently ? Math.min(soonest, this.nextAt) : this.nextAt) - now
  }

  isMade(now: number): void {
    this.made++
    this.triedAt = now
    this.nextAt = now + this.tryMillis
  }

  /** It was of use, and may be again. */
  wasOfUse(): void {
    this.made = 0
  }
}
