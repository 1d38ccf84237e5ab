/** What is asked for, of whichever kind of lock. */
import type { Kind, LockStore } from "../../LockStore.js"
import type { LeaseOptions } from "../common/options.js"
import type { Cancel, SeveralClaim, SeveralExit } from "../lease/several.js"
import type { AsyncContext } from "./asyncContext.js"
import type { Caller } from "./caller.js"
import { HeldLease } from "./lease.js"
import type { Named } from "./spans.js"

/** How much of a key is asked for, and the lease of that much. */
export interface Share<L extends HeldLease = HeldLease> extends Named {
  readonly kind: Kind
  readonly share: number
  readonly limit: number
  readonly makeLease: (...held: ConstructorParameters<typeof HeldLease>) => L
  /** Says what is wrong with what was asked for, or nothing. */
  readonly check?: () => string | undefined
  /** How it is taken, where the store is not simply asked for it. */
  readonly take?: Take
}

type Take = (
  claim: SeveralClaim,
  options: LeaseOptions,
  store: LockStore,
  caller: Caller,
  context: AsyncContext,
  onExit: (exit: SeveralExit) => void
) => Cancel

/** All of it. */
export const wholeLock: Share = {
  kind: "lock",
  share: 1,
  limit: 1,
  makeLease: (...held) => new HeldLease(...held),
  spans: { acquire: "Lock.acquire", hold: "Lock.hold" },
  attributes: {}
}
