/**
 * What can go wrong with a lock: one class for each thing that a caller handles differently.
 *
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import { Lock } from "effect-redis-lock"
 *
 * const settle = Effect.log("charging").pipe(
 *   Lock.withLock("invoice:42", { waitAtMost: "10 seconds" }),
 *   Effect.catchTags({
 *     // nothing was done: somebody else had the lock all the time
 *     LockUnavailable: ({ message }) => Effect.logInfo(message),
 *     // nothing was done: the store did not answer, or refused
 *     LockStoreError: ({ message }) => Effect.logError(message),
 *     // something may have been done, while somebody else had the lock
 *     LockLost: ({ reason }) => Effect.logError(`to be looked at: ${reason}`)
 *   })
 * )
 * ```
 *
 * @since 0.1.0
 */
import * as Duration from "effect/Duration"
import * as Data from "effect/Data"

type Kind = "lock" | "semaphore" | "readWriteLock"

const nameOf = (kind: Kind | undefined): string =>
  kind === "semaphore" ? "semaphore" : kind === "readWriteLock" ? "read-write lock" : "lock"

const capitalized = (text: string): string => text.charAt(0).toUpperCase() + text.slice(1)

/**
 * What a store knows of the lease that keeps a caller from getting the lock.
 *
 * @since 0.1.0
 * @category models
 */
export interface Holder {
  /**
   * The holder's `owner`; `undefined` if a program holds the key that does not use this library, if
   * the holder gave none (in memory there is no default), or if it is not known.
   */
  readonly owner: string | undefined
  /** How long the holder has had the lease, by the store's clock; `undefined` if not known. */
  readonly heldFor: Duration.Duration | undefined
  /** `true` if the key was set by a program that does not use this library. */
  readonly foreign: boolean
}

/**
 * Somebody else has the lock, and this caller does not wait, or has waited for as long as it may.
 *
 * @since 0.1.0
 * @category errors
 */
export class LockUnavailable extends Data.TaggedError("LockUnavailable")<{
  readonly key: string
  /** What was asked for. Absent: a lock. */
  readonly kind?: Kind | undefined
  /**
   * What is left of the holder's ttl: if the holder neither renews nor releases, a new attempt can
   * succeed after that time at the latest. `undefined` if the key has no ttl, and so never expires by itself.
   */
  readonly retryAfter: Duration.Duration | undefined
  readonly holder: Holder
  /**
   * How many were before this caller in the queue. Another process counts as one, however many of
   * its callers wait; callers of the same process count one by one. `undefined` for a single
   * attempt.
   */
  readonly ahead: number | undefined
  /** How long this caller had waited. Zero for a single attempt. */
  readonly waited: Duration.Duration
  /**
   * Of a claim with a `tick` (`LockStore.Claim`): the last one that was granted for the key, if the
   * claim's is not later. Then the claim does not fail because of a holder, and a new attempt with the
   * same tick fails as well. Absent: somebody has the key.
   */
  readonly lastTick?: number | undefined
}> {
  override get message(): string {
    const { ahead, holder, key, kind, lastTick, retryAfter, waited } = this
    const nothingKnown = !holder.foreign && !holder.owner && holder.heldFor === undefined
    const who = holder.foreign
      ? "held by a program that does not use this library"
      : nothingKnown
        ? "it is not known who holds it"
        : `held by ${holder.owner ? plain(holder.owner) : "a holder without a name"}`
    const since =
      holder.heldFor === undefined ? "" : `, for ${Duration.format(holder.heldFor)} so far`
    const after = Duration.toMillis(waited) > 0 ? ` after waiting ${Duration.format(waited)}` : ""
    const until =
      retryAfter === undefined
        ? " The key has no ttl: it stays locked until somebody deletes it."
        : nothingKnown && Duration.toMillis(retryAfter) === 0
          ? ""
          : ` It expires in ${Duration.format(retryAfter)} unless it is renewed.`
    if (lastTick !== undefined) {
      return `${capitalized(nameOf(kind))} ${quote(key)} is not available${after}: the same tick, or a later one, was granted before. The last one is ${lastTick}.`
    }
    const queue =
      ahead === undefined || ahead === 0 ? "" : ` In the queue before this caller: ${ahead}.`
    return `${capitalized(nameOf(kind))} ${quote(key)} is not available${after}: ${who}${since}.${until}${queue}`
  }
}

/**
 * Why a lease was lost.
 *
 * - `Missing`: the key was gone (expired, deleted, or the server lost its data);
 * - `Taken`: somebody else's token was in its place;
 * - `Unreachable`: no renewal was confirmed in time, before the proof of the lease ended;
 * - `Released`: the lease was released, by its own holder, while something still needed it;
 * - `Revoked`: somebody freed the key by force;
 * - `MaxHold`: it was held for as long as its `maxHold` allows.
 *
 * @since 0.1.0
 * @category models
 */
export type LossReason = "Missing" | "Taken" | "Unreachable" | "Released" | "Revoked" | "MaxHold"

const lossTexts: Record<LossReason, string> = {
  Missing:
    "its key was gone from the store (expired, deleted, or the server lost its data). Somebody else may have had the lock since",
  Taken: "another token was found in its place. Somebody else has the lock",
  Unreachable:
    "no renewal was confirmed before its validity ran out. The store did not answer, or this process was stopped or blocked",
  Released: "it had been released by its own holder",
  Revoked: "somebody freed the key by force",
  MaxHold: "it was held for as long as its maxHold allows"
}

/**
 * The lease is no longer ours, or it is no longer proven that it is.
 *
 * @since 0.1.0
 * @category errors
 */
export class LockLost extends Data.TaggedError("LockLost")<{
  readonly key: string
  /** What the lease was of. Absent: a lock. */
  readonly kind?: Kind | undefined
  readonly reason: LossReason
  /** The fencing token of the lease that was lost. */
  readonly fencingToken: number
  /**
   * For `Unreachable`: the error of the last renewal (a `LockStoreError`, if the store keeps its
   * contract). Absent if no renewal had failed since the last one that was confirmed.
   */
  readonly cause?: unknown
}> {
  override get message(): string {
    const { cause, fencingToken, key, kind, reason } = this
    const why =
      reason === "Unreachable" && cause !== undefined
        ? `no renewal was confirmed before its validity ran out. The last one failed: ${reasonIn(cause)}`
        : lossTexts[reason]
    return `The lease of ${nameOf(kind)} ${quote(key)} (fencing token ${fencingToken}) was lost: ${why.replace(/\.*$/, ".")}`
  }
}

/**
 * The operation that failed.
 *
 * @since 0.1.0
 * @category models
 */
export type LockStoreOperation =
  | "configure"
  | "acquire"
  | "renew"
  | "release"
  | "verify"
  | "reshare"
  | "handOver"
  | "adopt"
  | "look"
  | "keys"
  | "revoke"

/**
 * The store could not be reached, did not answer in time, or refused.
 *
 * @since 0.1.0
 * @category errors
 */
export class LockStoreError extends Data.TaggedError("LockStoreError")<{
  readonly operation: LockStoreOperation
  readonly key?: string | undefined
  /** What happened, and what to do about it. */
  readonly detail: string
  /**
   * Whether the same operation can succeed later, with nothing changed: `true` for a connection
   * that is down, an answer that did not come, a server that is loading or cannot write for now;
   * `false` if somebody must fix something first (options, permissions, a key of another type), and
   * for a closed store.
   */
  readonly transient: boolean
  /** The underlying error, as the client or the server gave it. */
  readonly cause?: unknown
}> {
  override get message(): string {
    const what =
      this.key === undefined ? this.operation : `${this.operation} of lock ${quote(this.key)}`
    return `The lock store failed (${what}): ${this.detail}`
  }
}

/**
 * Everything that taking and holding a lock can fail with.
 *
 * @since 0.1.0
 * @category errors
 */
export type LockError = LockUnavailable | LockLost | LockStoreError

/** The text of a store's error, or of whatever a store with a bug fails with. */
const reasonIn = (cause: unknown): string =>
  cause instanceof LockStoreError
    ? cause.detail
    : cause instanceof Error
      ? cause.message
      : String(cause)

/** Keys come from users: kept short, and control characters made visible. */
const quote = (key: string): string =>
  JSON.stringify(key.length > 200 ? `${key.slice(0, 200)}…` : key)

/** Owners come from other processes: as they are where that is a word in a line. */
const plain = (owner: string): string =>
  /^[^\p{C}\p{Zl}\p{Zp}]{0,200}$/u.test(owner) ? owner : quote(owner)
