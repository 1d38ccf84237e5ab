/** What a fiber holds, in a FiberRef: forks inherit it. */
import * as FiberRef from "effect/FiberRef"
import { each, Holds, live } from "../faces/holds.js"

/** What a joined fiber has taken, and still has, is its parent's as well. */
const joined = (parent: Holds | undefined, child: Holds | undefined): Holds | undefined => {
  const known = new Set(each(parent).map(({ hold }) => hold))
  return each(child).reduceRight(
    (others, { hold, isGuards }) =>
      hold.hasEnded || isGuards || known.has(hold) ? others : new Holds(hold, false, others),
    live(parent)
  )
}

export const currentHolds: FiberRef.FiberRef<Holds | undefined> = FiberRef.unsafeMake<
  Holds | undefined
>(undefined, { join: joined })
