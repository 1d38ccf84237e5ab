/** The types of `LockStore`, for every face. */
import type * as Effect from "effect/Effect"
import type * as Stream from "effect/Stream"
import type { WaitOptions } from "../../Lease.js"
import type { LockLost, LockStoreError, LockUnavailable } from "../../LockError.js"
import type { Capability, Claim, Contention } from "./claim.js"
import type { Look } from "./look.js"

export type { Adopted, Capability, Claim, Contention, Kind } from "./claim.js"
export type { HeldEntry, Look, PendingEntry } from "./look.js"

/**
 * A lease as a store granted it. Only code that has this value can renew and release it.
 *
 * It is a plain object: its members are own properties, and need no `this`. So
 * `{ ...grant, renew: Effect.never }` is a grant as well.
 *
 * @since 0.1.0
 * @category models
 */
export interface Grant {
  /** The value in the store that only this holder knows. */
  readonly token: string
  /** Greater than that of every earlier grant of the same key. A safe integer. */
  readonly fencingToken: number
  /**
   * The smallest fencing token among the holders at the moment of the grant, its own included;
   * absent if it is the only holder.
   */
  readonly fencingFloor?: number | undefined
  /**
   * Until when the lease is proven to be held: milliseconds on the store's `clock`. The ttl, counted
   * from before the store was asked (or, of a waiter, from a moment that is known to be before its
   * grant), less what clocks may differ.
   */
  readonly validUntil: number
  /**
   * Of a claim with `maxHoldMillis`: until when renewals can reach, in milliseconds on the store's
   * `clock`. Absent: that long after the grant came. (Of a claim that adopts, it is not absent: the time is
   * counted from the first grant.)
   */
  readonly holdUntil?: number | undefined
  /** Who had the key when the claim began to wait; `undefined` if it did not wait. */
  readonly contention: Contention | undefined
  /**
   * Asks for the claim's full ttl again. What has expired, or is somebody else's, stays so. An error
   * means that the outcome is not known; the caller asks again. It needs no deadline of its own: the
   * caller interrupts it when the lease is given up.
   */
  readonly renew: Effect.Effect<Renewal, LockStoreError>
  /** Asks whether the lease is still ours, and changes nothing. */
  readonly verify: Effect.Effect<Ownership, LockStoreError>
  /**
   * For a store that can notice by itself that the lease is gone: it calls the listener then.
   * Called once, in the step that begins the lease.
   */
  readonly whenLost?: (listener: (reason: NotOurs) => void) => void
  /**
   * Makes the share smaller, with no moment in which the rest of it is not held: it is renewed with
   * the new share from then on. An error means that the outcome is not known.
   */
  readonly reshare?: (share: number) => Effect.Effect<Renewal, LockStoreError>
  /**
   * Renews the lease, and ends it here without giving it back: a claim that adopts the token goes on. Takes
   * a bounded time. After an error it goes on as it was.
   */
  readonly handOver?: Effect.Effect<Renewal, LockStoreError>
  /**
   * Gives the lease back, if it is still this grant's; the next waiter is served, before anybody who
   * does not wait. It runs in an uninterruptible region, and takes a bounded time. It can be asked
   * twice. `Ours` is also the answer if the store cannot tell a loss from a release that was sent twice.
   */
  readonly release: Effect.Effect<Ownership, LockStoreError>
}

/**
 * What a store found under a key: our token, nothing, or another token.
 *
 * @since 0.1.0
 * @category models
 */
export type Ownership = "Ours" | NotOurs

/**
 * Why a lease is not ours any more: the key is gone, somebody else's token is in its place, or
 * somebody has revoked it.
 *
 * @since 0.1.0
 * @category models
 */
export type NotOurs = "Missing" | "Taken" | "Revoked"

/**
 * The answer to a renewal: until when the lease is valid now, in milliseconds on the store's
 * clock, or why it is not ours any more.
 *
 * @since 0.1.0
 * @category models
 */
export type Renewal =
  | { readonly _tag: "Renewed"; readonly validUntil: number }
  | { readonly _tag: "NotOurs"; readonly reason: NotOurs }

/**
 * The clock for a store's leases. It never goes back, and nobody can set it.
 *
 * @since 0.1.0
 * @category models
 */
export interface LockClock {
  /** Milliseconds since some fixed moment. */
  readonly unsafeNow: () => number
  /**
   * Calls back when the time has come, however far away that is (`setTimeout` counts 24 days), and not
   * before it has returned. It may be a few milliseconds early, which must not matter to a lease; it
   * is late only if the process was busy or stopped.
   */
  readonly unsafeSchedule: (at: number, callback: () => void) => ScheduledCall
}

/**
 * A call that will be made, unless it is cancelled first.
 *
 * @since 0.1.0
 * @category models
 */
export interface ScheduledCall {
  readonly cancel: () => void
}

/**
 * Gives an effect the interruptibility of the caller, as the argument of
 * `Effect.uninterruptibleMask` does.
 *
 * @since 0.1.0
 * @category models
 */
export type Restore = <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>

/**
 * Options of locks, given once for a store. Options of a caller have precedence. The store's
 * `renewEvery` is used with its own `ttl` only, its `margin` with its own `ttl` and `renewEvery`.
 *
 * @since 0.1.0
 * @category models
 */
export interface Defaults extends Pick<
  WaitOptions,
  "ttl" | "renewEvery" | "margin" | "waitAtMost" | "warnAfter" | "name"
> {}

/**
 * The service that keeps leases. A plain object, as a `Grant` is: `{ ...store, acquire }` is a
 * store as well. `LockStoreContract` finds out whether a store keeps what is promised here.
 *
 * @since 0.1.0
 * @category models
 */
export interface LockStore {
  readonly clock: LockClock
  /**
   * What is the same wherever a store reaches the same leases, as far as a store can know that, in words for
   * people. A lease that was handed over in another one cannot be adopted. Absent: that is not checked.
   */
  readonly identity?: string | undefined
  /** Options of locks for callers that give none. */
  readonly defaults?: Defaults | undefined
  /** What it can do beyond plain locks. Absent: nothing. */
  readonly capabilities?: ReadonlySet<Capability> | undefined
  /** Why it has not that capability, as the end of a sentence for people. Absent: there is nothing to say. */
  readonly whyNot?: ((needed: Capability) => string | undefined) | undefined
  /**
   * Takes the lease, waiting for it as long as the claim says.
   *
   * It runs in an uninterruptible region, so that a grant cannot get lost on its way to the caller.
   * The parts that may be interrupted (the wait for an answer, the wait for a turn) are wrapped in
   * `restore`. When it fails or is interrupted, nothing of it stays in the store: commands that
   * were sent are undone, also if their answers come later. It fails with `LockLost` only if the claim
   * was to adopt a lease.
   */
  readonly acquire: (
    claim: Claim,
    restore: Restore
  ) => Effect.Effect<Grant, LockUnavailable | LockLost | LockStoreError>
  /**
   * Who holds the key, and who waits: at most so many of each. It changes nothing. `ended`: fencing tokens
   * of which to say whether they were revoked.
   */
  readonly look?: (
    key: string,
    atMost: number,
    ended?: ReadonlyArray<number>
  ) => Effect.Effect<Look, LockStoreError>
  /**
   * The keys that begin with that, and that somebody may hold or wait for: all for which somebody does, all
   * the time that it takes. Whether it is so, `look` says. A key can come twice. Those whose last tick is known
   * may be among them.
   */
  readonly keys?: (prefix: string) => Stream.Stream<string, LockStoreError>
  /**
   * Ends the lease with that fencing token, whoever has it; the next waiter is served. Answers whether
   * there was one.
   */
  readonly revoke?: (key: string, fencingToken: number) => Effect.Effect<boolean, LockStoreError>
}
