/** What is asked for, of whichever kind of lock. */
import type { Kind, LockStore } from "../faces/lockStore.js"
import type { LeaseOptions } from "../common/options.js"
import type { Cancel, SeveralClaim, SeveralExit } from "../lease/several.js"
import type { Caller } from "./caller.js"
import type { Shareable } from "../faces/holds.js"
import { HeldLease } from "./lease.js"
import { SharedLease } from "./sharedLease.js"
import type { Named } from "./spans.js"

/** How much of a key is asked for, and the lease of that much. */
export interface Share<
  L extends HeldLease = HeldLease,
  I extends SharedLease = SharedLease
> extends Named {
  readonly kind: Kind
  readonly share: number
  readonly limit: number
  /** Whether the store must not pass on to it what another caller of this process has; see `LockStore.Claim`. */
  readonly direct?: boolean
  readonly makeLease: (...held: ConstructorParameters<typeof HeldLease>) => L
  /**
   * What a caller has that is inside of a lease of that kind of the same key: a share of it; nothing, and
   * then it asks as anybody does; or a sentence that says why it cannot have what it asks for.
   */
  within(lease: Shareable, own: Own): I | string | undefined
  /** Says what is wrong with what was asked for, or nothing. */
  readonly check?: () => string | undefined
  /** How it is taken, where the store is not simply asked for it. */
  readonly take?: Take
  /** See `LockStore.Claim`. */
  readonly tick?: number
  readonly tickKeptMillis?: number
}

/** How a caller is inside of a lease. */
export interface Own {
  readonly key: string
  /** In what it guards, and not only in a fiber that has taken it. */
  readonly isGuarded: boolean
  /** Whether the caller has the option. */
  readonly isReentrant: boolean
}

type Take = (
  claim: SeveralClaim,
  options: LeaseOptions,
  store: LockStore,
  caller: Caller,
  onExit: (exit: SeveralExit) => void
) => Cancel

/** All of it. */
export const wholeLock: Share = {
  kind: "lock",
  share: 1,
  limit: 1,
  makeLease: (...held) => new HeldLease(...held),
  within: (lease, { isGuarded, isReentrant, key }) =>
    isGuarded && isReentrant ? new SharedLease(lease, key) : undefined,
  spans: { acquire: "Lock.acquire", hold: "Lock.hold" },
  attributes: {}
}

/** All of it, by a claim of its own, whatever its caller is inside of. */
export const ownLock: Share<HeldLease, never> = { ...wholeLock, within: () => undefined }

/** The same, for that tick, which is remembered for so long. */
export const ownLockAt = (tick: number, tickKeptMillis: number): Share<HeldLease, never> => ({
  ...ownLock,
  tick,
  tickKeptMillis
})
