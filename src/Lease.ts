/**
 * What a holder has: time-limited, renewed, releasable ownership of a key.
 *
 * @since 0.1.0
 */
import type * as Duration from "effect/Duration"
import type * as Effect from "effect/Effect"
import type { LockLost, LockStoreError } from "./LockError.js"

/**
 * What every way of taking a lease accepts. An impossible option is a defect (an
 * `IllegalArgumentException` that names the option and its value), raised before anything is sent.
 *
 * @since 0.1.0
 * @category models
 */
export interface Options {
  /**
   * How long the store keeps the lease if nobody renews it. The longer, the longer a crash keeps
   * others out; the shorter, the sooner a slow network loses the lease. Default: 5 seconds; at
   * least 10 ms.
   */
  readonly ttl?: Duration.DurationInput | undefined
  /** Time between renewals. Default: half of `ttl`. */
  readonly renewEvery?: Duration.DurationInput | undefined
  /**
   * How long before the end of its proven validity an unconfirmed lease is given up: guarded code
   * is interrupted then, so that its finalizers still run under the lock. Default: a tenth of
   * `ttl`, less where `renewEvery` leaves less room. Where less than the ttl is proven (right after a
   * handoff, until the first renewal), it is less in proportion.
   */
  readonly margin?: Duration.DurationInput | undefined
  /** A description of the holder, shown to people who inspect the lock. Default: the store's. */
  readonly owner?: string | undefined
  /**
   * A name for metrics and spans, for all locks of one purpose. Unlike a key it must be one of a
   * few: metrics keep every name for ever. Default: `"default"`.
   */
  readonly name?: string | undefined
}

/**
 * @since 0.1.0
 * @category models
 */
export interface WaitOptions extends Options {
  /**
   * How long to wait while somebody else has the lock, before failing with `LockUnavailable`.
   * Unlike `Effect.timeout` around `withLock` it does not bound the protected code. `0`: one attempt,
   * as `tryAcquire` makes it. Default: no limit.
   */
  readonly waitAtMost?: Duration.DurationInput | undefined
  /**
   * A caller that has waited for so long is logged as a warning: the key, who has the lock and since
   * when, how many are before it; then again each time when it has waited for twice as long.
   * `Duration.infinity`: never. Default: 10 seconds.
   */
  readonly warnAfter?: Duration.DurationInput | undefined
}

/**
 * A lease is renewed in the background from the moment it is granted until its scope closes, its
 * `release` runs, or it is lost.
 *
 * It is *lost* when the store says that it is not ours (`Missing`, `Taken`), or when no renewal was
 * confirmed until the option `margin` before the end of its validity (`Unreachable`). What was
 * guarded is interrupted at that moment. In the time of the margin after it, `isHeld` and
 * `remaining` still say what is proven, so that finalizers can tell whether they run under the lock.
 *
 * @since 0.1.0
 * @category models
 */
export interface Lease {
  /** What is locked, as the user named it. */
  readonly key: string

  /** The value in the store that only this holder knows. A secret: do not log it. */
  readonly token: string

  /**
   * A number that grows with every grant of the key. Send it along with every write to the
   * protected resource, and let the resource reject a smaller one than it has seen: nothing else
   * stops a process that was paused while it held the lock. A safe integer.
   */
  readonly fencingToken: number

  /** How much of the proven validity is left; zero if the lease is not held. No I/O. */
  readonly remaining: Effect.Effect<Duration.Duration>

  /**
   * Whether the lease is proven to be held at this moment: compares clocks, no I/O. It is `false`
   * as soon as a process runs again that was stopped for longer than the validity.
   */
  readonly isHeld: Effect.Effect<boolean>

  /**
   * Asks the store whether the lease is still ours, and changes nothing. Fails with `LockLost` if
   * it is not (which is then a loss for everything that is guarded, too), and with
   * `LockStoreError` if the store did not answer.
   */
  readonly verify: Effect.Effect<void, LockLost | LockStoreError>

  /**
   * Never succeeds. Fails with `LockLost` when the lease is lost; otherwise waits for ever, also
   * after a release.
   */
  readonly awaitLost: Effect.Effect<never, LockLost>

  /**
   * Runs an effect in a fiber of its own that is interrupted when the lease is lost or released,
   * and then fails with `LockLost`, also if the effect itself succeeded meanwhile. The interruption
   * is requested at once and takes effect at the effect's next asynchronous boundary; its
   * finalizers run before `guard` fails. Where the effect failed by itself as well, both errors are
   * in the cause, its own first. On a lease that is no longer held it fails without running anything.
   */
  readonly guard: <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E | LockLost, R>

  /**
   * For Promise APIs: aborted, with the `LockLost` as its reason, when the lease is lost or
   * released.
   */
  readonly signal: AbortSignal

  /**
   * Gives the lease back before its scope closes. Idempotent; takes at most the store's command
   * deadline. Fails with `LockLost` if the lease was no longer ours (what the close of a scope can
   * only log), and with `LockStoreError` if the store did not confirm: the lease then ends by its
   * ttl.
   */
  readonly release: Effect.Effect<void, LockLost | LockStoreError>
}
