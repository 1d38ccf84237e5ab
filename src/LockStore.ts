/**
 * The service that keeps leases. Locks use it, and know nothing of where it keeps them. To keep
 * leases somewhere else, implement `acquire` and a clock.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import type * as DateTime from "effect/DateTime"
import type * as Duration from "effect/Duration"
import type * as Effect from "effect/Effect"
import type * as Stream from "effect/Stream"
import type { WaitOptions } from "./Lease.js"
import type { Holder, LockLost, LockStoreError, LockUnavailable } from "./LockError.js"

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
   * the time that it takes. Whether it is so, `look` says. A key can come twice.
   */
  readonly keys?: (prefix: string) => Stream.Stream<string, LockStoreError>
  /**
   * Ends the lease with that fencing token, whoever has it; the next waiter is served. Answers whether
   * there was one.
   */
  readonly revoke?: (key: string, fencingToken: number) => Effect.Effect<boolean, LockStoreError>
}

/**
 * @since 0.1.0
 * @category tags
 */
export const LockStore: Context.Tag<LockStore, LockStore> = Context.GenericTag<LockStore>(
  "effect-redis-lock/LockStore"
)
