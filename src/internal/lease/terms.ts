/** What shapes a lease's life, what its face is told, and how it ends. */
import type { Died, LossReason, OwnershipExit, StoreFailure } from "../engine.js"

/** Of the options of a lock, those that shape a lease's life. */
export interface Terms {
  readonly ttlMillis: number
  readonly renewEveryMillis: number
  readonly marginMillis: number
  readonly maxHoldMillis?: number
}

/** What a lease tells its face, in place. */
export interface LeaseFace {
  /** A renewal is due: the face asks for it, where it was asked for the lease. */
  renewalDue(): void
  /** It was lost: it ends now, or its release has found it out. */
  lost(reason: LossReason): void
  /** It ends, after so long: before those who watch are told. */
  ending(heldMillis: number): void
  /** It has ended, and those who watch know it. */
  hasEnded(): void
  /** A release was not confirmed of a lease that was held, as far as we knew. */
  releaseFailed(): void
}

/** Somebody else had the lease, or could have had it, when it was released. */
export class Loss {
  readonly _tag = "Loss"
  constructor(
    readonly reason: LossReason,
    /** Whether it had ended as lost before. */
    readonly isKnown: boolean,
    readonly answer: OwnershipExit
  ) {}
}

export type Failure = StoreFailure | Died
export type ReleaseExit = "Confirmed" | Loss | Failure
