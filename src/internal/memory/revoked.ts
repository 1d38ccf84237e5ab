/** Which leases were ended by force, by their fencing tokens: for as long as their ttl was. */
export class Revoked {
  /** Until when each is remembered, in the order in which they came. */
  private readonly until = new Map<number, number>()

  add(fencingToken: number, now: number, ttlMillis: number): void {
    this.until.set(fencingToken, now + ttlMillis)
    // (two for each that comes: so no more stand here than are remembered, or soon)
    let most = 2
    for (const [one, until] of this.until) {
      if (most-- === 0 || now < until) return
      this.until.delete(one)
    }
  }

  among(fencingTokens: ReadonlyArray<number>, now: number): ReadonlyArray<number> {
    return this.until.size === 0
      ? none
      : fencingTokens.filter((one) => now < (this.until.get(one) ?? Number.NEGATIVE_INFINITY))
  }
}

const none: ReadonlyArray<number> = []
