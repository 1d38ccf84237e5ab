/** What the workers work on: it refuses who is late, by fencing tokens; see docs/fencing.md. */

export type Mode = "lock" | "permit" | "read" | "write"

export interface Access {
  readonly mode: Mode
  readonly fencingToken: number
  readonly fencingFloor: number
}

export class Resource {
  /** The greatest fencing token of all, of a writer, and the greatest floor of a semaphore. */
  private seen = 0
  private written = 0
  private floor = 0

  /** The least fencing token that it accepts at this moment. */
  least(mode: Mode): number {
    return mode === "permit" ? this.floor : mode === "read" ? this.written : this.seen
  }

  accepts({ fencingFloor, fencingToken, mode }: Access): boolean {
    if (fencingToken < this.least(mode)) return false
    this.seen = Math.max(this.seen, fencingToken)
    if (mode === "permit") this.floor = Math.max(this.floor, fencingFloor)
    if (mode === "write") this.written = fencingToken
    return true
  }
}
