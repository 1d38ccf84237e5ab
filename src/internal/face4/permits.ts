/** Permits of a semaphore: what is asked for, and the lease of them. */
import { checkPermits, notSoManyPermits } from "../common/options.js"
import type { Shareable } from "../faces/holds.js"
import { HeldLease } from "./lease.js"
import type { Own, Share } from "./share.js"
import { SharedLease } from "./sharedLease.js"

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

/** As many of an own lease's permits as were asked for. */
export class SharedPermits extends SharedLease {
  readonly fencingFloor: number

  constructor(
    readonly permits: number,
    outer: HeldPermits,
    key: string
  ) {
    super(outer, key)
    this.fencingFloor = outer.fencingFloor
  }
}

const spans = { acquire: "Semaphore.acquire", hold: "Semaphore.hold" }

class Permits implements Share<HeldPermits, SharedPermits> {
  readonly kind = "semaphore"
  readonly spans = spans

  constructor(
    readonly share: number,
    readonly limit: number
  ) {}

  readonly makeLease = (...held: Held): HeldPermits => new HeldPermits(this, ...held)

  within(
    lease: Shareable,
    { isGuarded, isReentrant, key }: Own
  ): SharedPermits | string | undefined {
    if (!isGuarded || !isReentrant) return undefined
    const outer = lease as HeldPermits
    return this.share <= outer.permits
      ? new SharedPermits(this.share, outer, key)
      : notSoManyPermits(key, this.share, outer.permits)
  }

  get attributes(): Readonly<Record<string, number>> {
    return { "lock.permits": this.share, "lock.limit": this.limit }
  }
}

/** So many permits, or a sentence that names the impossible option. */
export const permitsOf = (
  options: { readonly limit: number; readonly permits?: number | undefined } | undefined
): Share<HeldPermits, SharedPermits> | string => {
  // (whoever does not use types may give none)
  const { limit, permits = 1 } = options ?? { limit: undefined as never }
  return checkPermits(limit, permits) ?? new Permits(permits, limit)
}
