/** What a look at a key shows, for every face. */
import type * as DateTime from "effect/DateTime"
import type * as Duration from "effect/Duration"
import type { Holder } from "../../LockError.js"
import type { Kind } from "./claim.js"

/**
 * A key as a store sees it at one moment.
 *
 * @since 0.1.0
 * @category models
 */
export interface Look {
  /** `undefined` if the key is free, and nobody waits for it. */
  readonly kind: Kind | undefined
  /** The capacity of what holds the key: the smallest limit among the holders. */
  readonly limit: number | undefined
  /** How much of it is held. */
  readonly inUse: number
  /** The holders, in the order of their grants; what has expired is not among them. */
  readonly held: ReadonlyArray<HeldEntry>
  /**
   * Who waits in the store's queue, in order. Callers that wait for a lease of their own process may be
   * missing, or count as one.
   */
  readonly pending: ReadonlyArray<PendingEntry>
  /** How many hold it and how many wait, also where not all of them are listed. */
  readonly heldCount: number
  readonly pendingCount: number
  /** When it was so, by the clock of where the leases are kept. Absent: the store does not tell it. */
  readonly at?: DateTime.Utc | undefined
  /** How many callers of this store, in this process, wait for the key. Absent: it does not tell it. */
  readonly waitingHere?: number | undefined
  /**
   * Of the fencing tokens that were asked about, those whose lease was ended by `revoke`, as far as the
   * store still knows. Absent: none.
   */
  readonly revoked?: ReadonlyArray<number> | undefined
  /** The last tick that was granted for the key, as long as the store knows it. Absent: none. */
  readonly lastTick?: number | undefined
}

/**
 * A holder, as a store sees it. Without its token, which is a secret.
 *
 * @since 0.1.0
 * @category models
 */
export interface HeldEntry extends Holder {
  readonly share: number
  readonly limit: number
  /**
   * `undefined` for a program that does not use this library. Where a process passes a lock on among
   * its own callers, the last of the fencing tokens that it may give them; where several can hold the
   * key, the first.
   */
  readonly fencingToken: number | undefined
  /**
   * A name of the store to which it was granted, and so of the process: after a restart it is another
   * one. Not a secret. `undefined` for a program that does not use this library, and where a store does
   * not tell it.
   */
  readonly incarnation?: string | undefined
  /** Whether its holder has given it back, and `holdAtLeast` keeps it held: by nobody. */
  readonly isLeft?: boolean
  /** What is left of its ttl; `undefined` if it has none. */
  readonly ttlLeft: Duration.Duration | undefined
  /**
   * A name for its token that does not tell it: the same in each look, and the same as it had in the queue.
   * Leases that a process passes on among its own callers can share one. Absent: the store has none.
   */
  readonly id?: string | undefined
}

/**
 * One who waits, as a store sees it.
 *
 * @since 0.1.0
 * @category models
 */
export interface PendingEntry {
  readonly owner: string | undefined
  readonly share: number
  readonly limit: number
  /** How long it has waited, if that is known. */
  readonly waited: Duration.Duration | undefined
  /** A name of the store that waits, as of a holder. Absent: the store does not tell it. */
  readonly incarnation?: string | undefined
  /** A name for its place, as of a holder: it keeps it when it is granted. Absent: the store has none. */
  readonly id?: string | undefined
}
