/**
 * What a fiber holds, and the fibers that it was forked from: so that it can share that with itself, or
 * be told that it waits for itself. Each face keeps it where forks inherit it.
 */
import type { Lease } from "../../Lease.js"
import type { LockLost } from "../../LockError.js"
import type { Kind, LockStore } from "./lockStore.js"

/** The part of a lease that guarding needs. */
export interface Losable {
  /** Compares clocks. */
  readonly checkHeld: () => boolean
  readonly loss: LockLost
  readonly hold: Hold
  readonly onEnd: (callback: () => void) => () => void
}

/** What a lease has of one of its keys. */
export interface OfKey {
  readonly key: string
  readonly token: string
  readonly fencingToken: number
}

/** The part of a lease that inner code shares. (Not the class, which refers to FiberRefs itself.) */
export interface Shareable extends Losable, Lease {
  readonly of: (key: string) => OfKey
}

/** What was asked for. */
interface Asks {
  readonly kind: Kind
  readonly limit: number
  /** Of several keys, all of them. */
  readonly keys?: ReadonlyArray<string>
}

/** A lease, as far as fibers know of it, which can be long after its end. */
export class Hold {
  /** Until it ends. */
  lease: Shareable | undefined = undefined

  constructor(
    readonly key: string,
    readonly store: LockStore,
    readonly since: number,
    readonly asks: Asks
  ) {}

  get hasEnded(): boolean {
    return this.lease === undefined
  }

  isOf(key: string): boolean {
    const { keys } = this.asks
    return keys === undefined ? this.key === key : keys.includes(key)
  }
}

export class Holds {
  constructor(
    readonly hold: Hold,
    /** Of a fiber that runs under a guard: those that join it do not hold what it held there. */
    readonly isGuards: boolean,
    readonly others: Holds | undefined
  ) {}
}

export const each = (holds: Holds | undefined): ReadonlyArray<Holds> => {
  const all: Array<Holds> = []
  for (let one = holds; one !== undefined; one = one.others) all.push(one)
  return all
}

/** Those that have not ended. */
export const live = (holds: Holds | undefined): Holds | undefined => {
  let one = holds
  while (one !== undefined && !one.hold.hasEnded) one = one.others
  // mostly all, and then no copy is made
  return one === undefined
    ? holds
    : each(holds).reduceRight<Holds | undefined>(
        (others, { hold, isGuards }) =>
          hold.hasEnded ? others : new Holds(hold, isGuards, others),
        undefined
      )
}

export const adding = (hold: Hold, isGuards: boolean, holds: Holds | undefined): Holds =>
  new Holds(hold, isGuards, live(holds))

/** The lease of that key that is held here. */
export const holdOf = (
  key: string,
  store: LockStore,
  holds: Holds | undefined
): Hold | undefined => {
  for (let one = holds; one !== undefined; one = one.others) {
    const { hold } = one
    if (!hold.hasEnded && hold.store === store && hold.isOf(key)) return hold
  }
  return undefined
}
