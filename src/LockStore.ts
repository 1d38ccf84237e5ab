/**
 * Where leases live. Every kind of lock is written against this service. Another place for leases
 * needs `acquire` and a clock.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import type * as Effect from "effect/Effect"
import type { WaitOptions } from "./Lease.js"
import type { Holder, LockStoreError, LockUnavailable } from "./LockError.js"

/**
 * What is asked of a store: one key, for a time, and how long to wait for it.
 *
 * @since 0.1.0
 * @category models
 */
export interface Claim {
  readonly key: string
  /** How long the store keeps the lease if nobody renews it, in milliseconds. An integer. */
  readonly ttlMillis: number
  /**
   * How long to wait while somebody else has the key, in milliseconds: `0` for a single attempt,
   * `Infinity` for no limit. It bounds the waiting for a holder; a store that does not answer is
   * bounded by the store's own command deadline.
   */
  readonly waitMillis: number
  /** A description of who asks, for people who inspect the lock. */
  readonly owner: string | undefined
  /**
   * Called once, as soon as the store knows that the claim has to wait for a holder, with a function
   * that says what is in the way at the moment when it is called. It does not throw, and calls back
   * nothing of the store's.
   */
  readonly whenWaiting?: ((contention: () => Contention) => void) | undefined
}

/**
 * A lease as a store granted it. Whoever has this value can renew and release, nobody else.
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
  /** Until when the lease is proven to be held: milliseconds on the store's `clock`. */
  readonly validUntil: number
  /** What was in the way when the claim had to wait; `undefined` where the key was free. */
  readonly contention: Contention | undefined
  /**
   * Asks for the claim's full ttl again. An error means that the outcome is not known; the caller
   * asks again. The caller bounds it: it is interrupted when the lease is given up.
   */
  readonly renew: Effect.Effect<Renewal, LockStoreError>
  /** Asks whether the lease is still ours, and changes nothing. */
  readonly verify: Effect.Effect<Ownership, LockStoreError>
  /**
   * Where a store can find out by itself that the lease is gone, it says so here. Called once, in
   * the step that begins the lease.
   */
  readonly whenLost?: (listener: (reason: "Missing" | "Taken") => void) => void
  /**
   * Gives the lease back; the next waiter is served. Takes a bounded time. `Ours` is also the
   * answer where the store cannot tell a loss from a release that was sent twice.
   */
  readonly release: Effect.Effect<Ownership, LockStoreError>
}

/**
 * What a store knows of a key that somebody else has.
 *
 * @since 0.1.0
 * @category models
 */
export interface Contention {
  readonly holder: Holder
  /** When the lease ends unless it is renewed; `undefined` where it has no ttl and never ends. */
  readonly retryAfter: Duration.Duration | undefined
  /** How many stand in the queue before this claim; `undefined` where it does not stand there. */
  readonly ahead: number | undefined
}

/**
 * What a store found under a key: our token, nothing, or another token.
 *
 * @since 0.1.0
 * @category models
 */
export type Ownership = "Ours" | "Missing" | "Taken"

/**
 * The answer to a renewal: until when the lease is valid now, in milliseconds on the store's
 * clock, or why it is not ours any more.
 *
 * @since 0.1.0
 * @category models
 */
export type Renewal =
  | { readonly _tag: "Renewed"; readonly validUntil: number }
  | { readonly _tag: "NotOurs"; readonly reason: "Missing" | "Taken" }

/**
 * The time that a store's leases live by. It never goes back, and nobody can set it.
 *
 * @since 0.1.0
 * @category models
 */
export interface LockClock {
  /** Milliseconds since some fixed moment. */
  readonly unsafeNow: () => number
  /**
   * Calls back when the time has come: up to a few milliseconds early, never early by so much that
   * it matters to a lease; late only if the process was busy or stopped.
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
 * Gives an effect the interruptibility of the caller, as `Effect.uninterruptibleMask` hands it out.
 *
 * @since 0.1.0
 * @category models
 */
export type Restore = <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>

/**
 * Options of locks, given once for a store. What a caller gives wins. The store's `renewEvery` is used
 * with its own `ttl` only, its `margin` with its own `ttl` and `renewEvery`.
 *
 * @since 0.1.0
 * @category models
 */
export interface Defaults extends Pick<
  WaitOptions,
  "ttl" | "renewEvery" | "margin" | "waitAtMost" | "warnAfter" | "name"
> {}

/**
 * Where leases live. A plain object, as a `Grant` is: `{ ...store, acquire }` is a store as well.
 *
 * @since 0.1.0
 * @category models
 */
export interface LockStore {
  readonly clock: LockClock
  /** What the options of a lock are where a caller gives none. */
  readonly defaults?: Defaults | undefined
  /**
   * Takes the lease, waiting for it as long as the claim says.
   *
   * It runs in an uninterruptible region, so that a grant cannot get lost on its way to the caller.
   * What may be interrupted (the wait for an answer, the wait for a turn) is wrapped in `restore`.
   * When it fails or is interrupted, nothing of it stays in the store: what was sent is undone,
   * also if its answer comes later.
   */
  readonly acquire: (
    claim: Claim,
    restore: Restore
  ) => Effect.Effect<Grant, LockUnavailable | LockStoreError>
}

/**
 * @since 0.1.0
 * @category tags
 */
export const LockStore: Context.Tag<LockStore, LockStore> = Context.GenericTag<LockStore>(
  "effect-redis-lock/LockStore"
)
