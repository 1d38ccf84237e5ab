/**
 * What a fiber holds, and the fibers that it was forked from: so that one that waits for itself can be
 * told. A FiberRef, since forks inherit it. It outlives its leases by one entry at most.
 */
import * as FiberRef from "effect/FiberRef"
import type { LockStore } from "../LockStore.js"

/** A lease, as far as this is concerned. (Without the rest of it, which refers to FiberRefs itself.) */
export class Hold {
  ended = false

  constructor(
    readonly key: string,
    readonly store: LockStore,
    readonly since: number
  ) {}
}

export class Holds {
  constructor(
    readonly hold: Hold,
    readonly others: Holds | undefined
  ) {}
}

const withoutEnded = (holds: Holds | undefined): Holds | undefined => {
  let rest = holds
  while (rest?.hold.ended === true) rest = rest.others
  return rest
}

export const currentHolds: FiberRef.FiberRef<Holds | undefined> = FiberRef.unsafeMake<
  Holds | undefined
>(undefined, {
  // what a joined fiber has taken, and still has, is its parent's as well
  join: (parent, child) => withoutEnded(child) ?? parent
})

export const adding = (hold: Hold, holds: Holds | undefined): Holds =>
  new Holds(hold, withoutEnded(holds))

/** The lease of that key that is held here. */
export const holdOf = (
  key: string,
  store: LockStore,
  holds: Holds | undefined
): Hold | undefined => {
  for (let one = holds; one !== undefined; one = one.others) {
    const { hold } = one
    if (!hold.ended && hold.key === key && hold.store === store) return hold
  }
  return undefined
}
