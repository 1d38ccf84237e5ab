/** The lease of several keys, on every face. */
import type * as Duration from "effect/Duration"
import type * as Effect from "effect/Effect"
import type { Lease } from "../../Lease.js"
import type { LockLost, LockStoreError } from "../../LockError.js"

/**
 * The lease of several keys. It is one lease: it is renewed, lost and given back as a whole. It is lost
 * as soon as one of its keys is; the error (`LockLost`) says which. Then nothing of it is renewed any
 * more, and all of it is given back when the scope closes, or `withLocks` ends.
 *
 * @since 0.1.0
 * @category models
 */
export interface MultiLease {
  /**
   * A lease for each key, in the order in which the keys were given. A key that was given twice is one
   * lock, and its lease is here twice. Each has its own `key`, `token` and `fencingToken`; all else
   * is that of the whole: so the `release` of one gives all of them back.
   */
  readonly leases: ReadonlyArray<Lease>

  /**
   * The fencing token of a key; see `Lease`. A key that is not one of this lease is a defect (an
   * `IllegalArgumentException`, which is thrown).
   */
  readonly fencingToken: (key: string) => number

  /** How much is left of the shortest proof; zero if the lease is not held. No I/O. */
  readonly remaining: Effect.Effect<Duration.Duration>

  /** Whether all keys are proven to be held at this moment: compares clocks, no I/O. */
  readonly isHeld: Effect.Effect<boolean>

  /**
   * Asks the store whether all keys are still ours, and changes nothing. Fails with `LockLost` if one is
   * not (then guarded code is interrupted, too), and with `LockStoreError` if the store did not answer.
   */
  readonly verify: Effect.Effect<void, LockLost | LockStoreError>

  /**
   * Never succeeds. Fails with `LockLost` when one of the keys is lost; otherwise waits for ever, also
   * after a release.
   */
  readonly awaitLost: Effect.Effect<never, LockLost>

  /** As `Lease.guard`: the effect is interrupted when one of the keys is lost, or all are released. */
  readonly guard: Lease["guard"]

  /** For Promise APIs: aborted, with the `LockLost` as its reason, at a loss or a release. */
  readonly signal: AbortSignal

  /**
   * Gives all keys back before the scope closes. Idempotent; takes at most the store's command deadline.
   * Fails with `LockLost` if one was no longer ours, and with `LockStoreError` if the store did not
   * confirm the release of one: that one then ends by its ttl.
   */
  readonly release: Effect.Effect<void, LockLost | LockStoreError>
}
