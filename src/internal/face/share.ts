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
  /** Whether the store must not pass on to it what another caller of this process has; see `LockStore.Claim`. */
  readonly direct?: boolean
  readonly makeLease: (...held: ConstructorParameters<typeof HeldLease>) => L
  /** Of several keys: as the user named them, and how they are taken. */
  readonly named?: ReadonlyArray<string>
  readonly takeAll?: TakeAll
  /** See `LockStore.Claim`. */
  readonly tick?: number
  readonly tickKeptMillis?: number
}

type TakeAll = (
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

/** All of it, for that tick, which is remembered for so long. */
export const wholeLockAt = (tick: number, tickKeptMillis: number): Share => ({
  ...wholeLock,
  tick,
  tickKeptMillis
})
