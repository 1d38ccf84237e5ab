/**
 * What a fiber holds, and the fibers that it was forked from: so that one that waits for itself can be
 * told. A FiberRef, since forks inherit it.
 */
import * as FiberRef from "effect/FiberRef"
import type { LockStore } from "../../LockStore.js"

/** A lease, as far as this is concerned. (Without the rest of it, which refers to FiberRefs itself.) */
export class Hold {
  ended = false

  constructor(
    readonly key: string,
    readonly store: LockStore,
    readonly since: number,
    /** Of several keys, all of them. */
    private readonly keys?: ReadonlyArray<string>
  ) {}

  isOf(key: string): boolean {
    return this.keys === undefined ? this.key === key : this.keys.includes(key)
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

const each = (holds: Holds | undefined): ReadonlyArray<Holds> => {
  const all: Array<Holds> = []
  for (let one = holds; one !== undefined; one = one.others) all.push(one)
  return all
}

/** Those that have not ended. */
const live = (holds: Holds | undefined): Holds | undefined => {
  let one = holds
  while (one !== undefined && !one.hold.ended) one = one.others
  // mostly all, and then no copy is made
  return one === undefined
    ? holds
    : each(holds).reduceRight<Holds | undefined>(
        (others, { hold, isGuards }) => (hold.ended ? others : new Holds(hold, isGuards, others)),
        undefined
      )
}

/** What a joined fiber has taken, and still has, is its parent's as well. */
const joined = (parent: Holds | undefined, child: Holds | undefined): Holds | undefined => {
  const known = new Set(each(parent).map(({ hold }) => hold))
  return each(child).reduceRight(
    (others, { hold, isGuards }) =>
      hold.ended || isGuards || known.has(hold) ? others : new Holds(hold, false, others),
    live(parent)
  )
}

export const currentHolds: FiberRef.FiberRef<Holds | undefined> = FiberRef.unsafeMake<
  Holds | undefined
>(undefined, { join: joined })

export const adding = (hold: Hold, isGuards: boolean, holds: Holds | undefined): Holds =>
  new Holds(hold, isGuards, live(holds))

/** The lease of that key that is held here, of those that are asked for. */
export const holdOf = (
  key: string,
  store: LockStore,
  holds: Holds | undefined,
  isAskedFor: (hold: Hold, isGuards: boolean) => boolean = () => true
): Hold | undefined => {
  for (let one = holds; one !== undefined; one = one.others) {
    const { hold, isGuards } = one
    if (!hold.ended && hold.store === store && hold.isOf(key) && isAskedFor(hold, isGuards)) {
      return hold
    }
  }
  return undefined
}
