/** Permits of a semaphore: what is asked for, and the lease of them. */
import { checkPermits } from "../common/options.js"
import { HeldLease } from "./lease.js"
import type { Share } from "./share.js"

type Held = ConstructorParameters<typeof HeldLease>

export class HeldPermits extends HeldLease {
  readonly fencingFloor: number

  constructor(
    private readonly asks: Permits,
    ...held: Held
  ) {
    super(...held)
    const [, , grant] = held
    this.fencingFloor = grant.fencingFloor ?? grant.fencingToken
  }

  get permits(): number {
    return this.asks.share
  }

  protected override get portion() {
    return this.asks
  }

  protected override get kind() {
    return "semaphore" as const
  }
}

const spans = { acquire: "Semaphore.acquire", hold: "Semaphore.hold" }

class Permits implements Share<HeldPermits> {
  readonly kind = "semaphore"
  readonly spans = spans

  constructor(
    readonly share: number,
    readonly limit: number
  ) {}

  readonly makeLease = (...held: Held): HeldPermits => new HeldPermits(this, ...held)

  get attributes(): Readonly<Record<string, number>> {
    return { "lock.permits": this.share, "lock.limit": this.limit }
  }
}

/** So many permits, or a sentence that names the impossible option. */
export const permitsOf = (
  options: { readonly limit: number; readonly permits?: number | undefined } | undefined
): Share<HeldPermits> | string => {
  // (whoever does not use types may give none)
  const { limit, permits = 1 } = options ?? { limit: undefined as never }
  return checkPermits(limit, permits) ?? new Permits(permits, limit)
}
