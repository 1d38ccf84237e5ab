/** What a store is asked for, and what it answers who waits; for every face. */
import type * as Duration from "effect/Duration"
import type { Holder } from "../../LockError.js"

/**
 * The kinds of lock. A key is of one kind at a time: as long as it is held, or somebody waits for it.
 *
 * @since 0.1.0
 * @category models
 */
export type Kind = "lock" | "semaphore" | "readWriteLock"

/**
 * What a store may be able to do beyond plain locks. A claim that needs something else fails before
 * it is sent.
 *
 * - `semaphore`, `readWriteLock`: claims of that kind;
 * - `reshare`: a grant's share can be made smaller (`Grant.reshare`);
 * - `handOver`: a lease can be given to another process (`Grant.handOver`, `Claim.adopt`);
 * - `maxHold`, `holdAtLeast`, `tick`: claims with that member;
 * - `look`, `keys`, `revoke`: the store's members of that name.
 *
 * @since 0.1.0
 * @category models
 */
export type Capability =
  | "semaphore"
  | "readWriteLock"
  | "reshare"
  | "handOver"
  | "maxHold"
  | "holdAtLeast"
  | "tick"
  | "look"
  | "keys"
  | "revoke"

/**
 * A request to a store: a share of one key, for a time, and how long to wait for it.
 *
 * A key has a capacity, a claim needs a share of it, and what does not fit stands in one queue, in
 * the order of arrival. A claim fits if all shares together, its own included, are within the
 * smallest limit among its own and those of the present holders.
 *
 * @since 0.1.0
 * @category models
 */
export interface Claim {
  readonly key: string
  readonly kind: Kind
  /** How much of the capacity is needed: an integer from 1 to `limit`. Of a lock, 1. */
  readonly share: number
  /** The capacity: an integer from 1 to 1,000,000. Of a lock, 1. */
  readonly limit: number
  /** How long the store keeps the lease if nobody renews it, in milliseconds. An integer. */
  readonly ttlMillis: number
  /**
   * How long to wait while somebody else has the key, in milliseconds: `0` for a single attempt,
   * `Infinity` for no limit. It bounds the waiting for a holder; a store that does not answer is
   * bounded by the store's own command deadline.
   */
  readonly waitMillis: number
  /** A description of the caller, for people who inspect the lock. */
  readonly owner: string | undefined
  /**
   * Until how long after the grant renewals may reach, in milliseconds: the key is free then. At least
   * `ttlMillis`. An integer.
   */
  readonly maxHoldMillis?: number | undefined
  /**
   * A release before that time after the grant, in milliseconds, leaves the key held until then, by
   * nobody: no renewal finds it, and the next waiter is served then. Without a release it is held for
   * that time as well, if that is longer than the ttl: from the moment in which the grant is answered.
   * At most `maxHoldMillis`. An integer.
   */
  readonly holdAtLeastMillis?: number | undefined
  /**
   * Takes over a lease that was handed over, in place of what the claim asks for otherwise: with its share
   * and limit, and the claim's ttl, in one step, before whoever waits, and without waiting. `maxHoldMillis`
   * and `holdAtLeastMillis` are those that the lease was granted with, and are counted from its first grant.
   * If the lease is not there any more, or its `maxHoldMillis` are over, the claim fails with `LockLost`.
   */
  readonly adopt?: Adopted | undefined
  /**
   * Of a lock: granted only if no claim with the same or a later number was granted for the key before.
   * Otherwise the claim fails, also while it waits, with a `LockUnavailable` that has `lastTick`. An
   * integer: an identity, and not a time that a store would compare with a clock. The tick of a grant
   * that did not come to its caller can be granted again.
   */
  readonly tick?: number | undefined
  /**
   * For how long after the grant the tick is remembered, at least, in milliseconds. An integer.
   * Default: a day.
   */
  readonly tickKeptMillis?: number | undefined
  /**
   * The grant must come from where the leases are kept: a store that passes leases on within the process
   * does not give this claim one of those. So `look` tells its fencing token and its owner. (Of a lease
   * that was passed on, it can tell a greater number, which the store has reserved.)
   */
  readonly direct?: boolean | undefined
  /**
   * Called once, as soon as the store knows that the claim has to wait for a holder. Its argument
   * is a function that says who has the key at the moment when it is called. `whenWaiting` does not
   * throw, and does not call the store.
   */
  readonly whenWaiting?: ((contention: () => Contention) => void) | undefined
  /**
   * Called if the smallest limit among the present holders is another one than the claim's, with that
   * limit: when the claim has to wait, or fails, and when it is granted. It does not throw, and does
   * not call the store.
   */
  readonly whenLimitDiffers?: ((limit: number) => void) | undefined
}

/**
 * A lease that was handed over, as its last holder knew it.
 *
 * @since 0.1.0
 * @category models
 */
export interface Adopted {
  readonly token: string
  readonly fencingToken: number
  /**
   * The fencing token of its first holder, from whose grant `maxHoldMillis` and `holdAtLeastMillis` are
   * counted. Absent: `fencingToken`.
   */
  readonly firstFencingToken?: number | undefined
}

/**
 * What a store knows of a key that somebody else has.
 *
 * @since 0.1.0
 * @category models
 */
export interface Contention {
  readonly holder: Holder
  /** When the lease ends unless it is renewed; `undefined` if it has no ttl and never ends. */
  readonly retryAfter: Duration.Duration | undefined
  /** How many are in the queue before this claim; `undefined` if the claim is not in the queue. */
  readonly ahead: number | undefined
}
