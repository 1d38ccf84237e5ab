/** A short outage is no reason to fail: a connection may be on its way, as at the start of a process. */
import type { Terms } from "./node.js"
import { isOutage } from "./refusal.js"
import type { Seat } from "./seat.js"

/** For so many of a node's deadlines a claim tries to find a majority: by default, a `commandTimeout`. */
const outageTimeouts = 4

export class Outage {
  /** Since when no majority has answered. */
  private awaySince: number | undefined = undefined

  constructor(private readonly terms: Terms) {}

  /** A majority has answered. */
  isOver(): void {
    this.awaySince = undefined
  }

  /** How long to wait before the next try; `undefined`: there is none, or it has lasted too long. */
  pause(
    seats: ReadonlyArray<Seat>,
    begunAt: number,
    nodeTimeoutMillis: number
  ): number | undefined {
    const { clock, majority, nodeTimeoutMillis: longest } = this.terms
    if (!isOutage(seats, majority)) return undefined
    const now = clock.unsafeNow()
    // (it may have stood in a queue for long)
    this.awaySince ??= Math.max(begunAt, now - longest)
    const pause = (nodeTimeoutMillis / 4) * (0.5 + Math.random())
    // (another try takes that long)
    const isLast = now + pause + nodeTimeoutMillis > this.awaySince + outageTimeouts * longest
    return isLast ? undefined : pause
  }
}
