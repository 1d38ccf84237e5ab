/**
 * What a holder of a lock has: the right to a key for a time (the `ttl`). It is renewed until it is
 * released or lost.
 *
 * The *proof* of a lease is what this process knows of it: the time until which nobody else can
 * have the key, counted from when the last answered command was sent. The *margin* is the last part
 * of the proof: a lease that was not renewed is given up when its margin begins. The *queue* of a
 * key has one place for each process; a *handoff* is a release that gives the lock directly to the
 * next in the queue (or to the next caller in the same process), so that it is not free in between.
 *
 * @example
 * ```ts
 * import { Duration, Effect } from "effect"
 * import { type Lease, Lock } from "effect-redis-lock"
 *
 * const work = (lease: Lease.Lease) =>
 *   Effect.gen(function* () {
 *     yield* Effect.log(`proven for ${Duration.format(yield* lease.remaining)} more`)
 *     // a Promise API: it ends when the lease does, and the other side can refuse an old token
 *     yield* Effect.promise(() =>
 *       fetch(`https://bank.example/charge?fence=${lease.fencingToken}`, { signal: lease.signal })
 *     )
 *   })
 *
 * const program = Lock.withLock("invoice:42")(work)
 * ```
 *
 * @since 0.1.0
 */
import type * as Duration from "effect/Duration"
import type * as Effect from "effect/Effect"
import type { Handle } from "./internal/faces/handle.js"
import type { LockLost, LockStoreError } from "./LockError.js"

/**
 * A duration as Effect takes it: `"5 seconds"`, a number of milliseconds, a `Duration`.
 *
 * @since 0.1.0
 * @category models
 */
export type DurationInput = Parameters<typeof Duration.toMillis>[0]

/**
 * Options of every way to take a lease. An impossible option is a defect (an
 * `IllegalArgumentException` that names the option and its value), raised before anything is sent.
 *
 * @since 0.1.0
 * @category models
 */
export interface Options {
  /**
   * How long the store keeps the lease if nobody renews it. With a longer ttl, others wait longer
   * after a crash; with a shorter ttl, the lease is lost sooner on a slow network. Default: 5
   * seconds; at least 10 ms.
   */
  readonly ttl?: DurationInput | undefined
  /** Time between renewals. Default: half of `ttl`. */
  readonly renewEvery?: DurationInput | undefined
  /**
   * How long before the end of its proof a lease is given up that could not be renewed: guarded
   * code is interrupted then, so that its finalizers still run under the lock. Default: a tenth of
   * `ttl`, or less if `renewEvery` leaves less time. If the proof is shorter than that of the full
   * ttl (after a handoff, until the first renewal), the margin is shorter in proportion.
   */
  readonly margin?: DurationInput | undefined
  /**
   * The longest time for which a lease is held, counted from its grant. No renewal reaches beyond it, so
   * the key is free then, whatever the protected code does; the lease is lost `margin` before that, with
   * the reason `MaxHold`, and guarded code is interrupted. For work that may hang. At least `ttl`.
   * Default: no limit. A lease with `maxHold` is not passed on within the process.
   */
  readonly maxHold?: DurationInput | undefined
  /**
   * The shortest time for which the key is held, counted from the grant. A release before that leaves
   * the key held until then, by nobody: it is not renewed, and the next waiter enters when that time is
   * over. So is a crash. For jobs that hosts with different clocks start at about the same time. At most
   * `maxHold`, if that is given. Default: none. A lease with `holdAtLeast` is not passed on within the
   * process.
   */
  readonly holdAtLeast?: DurationInput | undefined
  /** A description of the holder, shown to people who inspect the lock. Default: the store's. */
  readonly owner?: string | undefined
  /**
   * With `true`, code that runs under a lease of the key, and takes the key again, shares that lease: it
   * does not wait, asks the store nothing, and has nothing to give back. "Under a lease" is the body of
   * `withLock` and its like, or what `lease.guard` runs, and every fiber that is forked there, for as
   * long as the lease is held. A scoped `acquire` by itself does not count: its fiber's other code cannot
   * tell that it has the lease.
   *
   * What is shared is the outer lease as it is: its token, its fencing token, its `ttl` and other
   * options. The inner use ends with the outer lease at the latest; then it fails with `LockLost`. Its
   * own end, and its own `release`, end the inner use only. Several inner uses do not exclude each
   * other. A lease of another `LockStore`, or of another kind of lock, is not shared.
   *
   * Default: `false`, so that a caller that takes what it has waits for itself, and is warned about. (A
   * read in a read of a `ReadWriteLock` is shared in any case.)
   */
  readonly reentrant?: boolean | undefined
  /**
   * A name for metrics and spans, for all locks of one purpose. Unlike keys, there must be only a
   * few names: metrics keep every name for ever. Default: `"default"`.
   */
  readonly name?: string | undefined
}

/**
 * Options of every way to take a lease that can wait for it.
 *
 * @since 0.1.0
 * @category models
 */
export interface WaitOptions extends Options {
  /**
   * How long to wait while somebody else has the lock, before failing with `LockUnavailable`.
   * Unlike `Effect.timeout` around `withLock` it does not bound the protected code. `0`: one attempt,
   * as `tryAcquire` makes it. Default: no limit.
   */
  readonly waitAtMost?: DurationInput | undefined
  /**
   * If a caller has waited for this time, a warning is logged: the key, who has the lock and since
   * when, how many are before this caller in the queue. It is logged again each time the caller has
   * waited twice as long. `Duration.infinity`: never. Default: 10 seconds.
   */
  readonly warnAfter?: DurationInput | undefined
}

/**
 * Options of every way to take over a lease that was handed over (`Lock.adopt` and its like). Default of `ttl`:
 * that of the handle. A `maxHold` or a `holdAtLeast`, given all the same, is a defect.
 *
 * @since 0.1.0
 * @category models
 */
export type AdoptOptions = Omit<Options, "maxHold" | "holdAtLeast" | "reentrant">

/**
 * A lease is renewed in the background from the moment it is granted until its scope closes, its
 * `release` runs, or it is lost.
 *
 * It is *lost* when the store says that it is not ours (`Missing`, `Taken`), or when its margin
 * begins and no renewal was confirmed (`Unreachable`). Guarded code is interrupted at that moment.
 * During the margin, `isHeld` and `remaining` still say what is proven, so that finalizers can tell
 * whether they run under the lock.
 *
 * @since 0.1.0
 * @category models
 */
export interface Lease {
  /** The key that is locked, as the caller gave it. */
  readonly key: string

  /** The value in the store that only this holder knows. A secret: do not log it. */
  readonly token: string

  /**
   * A number that grows with every grant of the key. Send it along with every write to the
   * protected resource, and let the resource reject a token that is smaller than one it has seen:
   * nothing else stops a process that was paused while it held the lock. A safe integer.
   */
  readonly fencingToken: number

  /** How much of the proof is left; zero if the lease is not held. No I/O. */
  readonly remaining: Effect.Effect<Duration.Duration>

  /**
   * Whether the lease is proven to be held at this moment: compares clocks, no I/O. After a process
   * was stopped for longer than the proof, it is `false` as soon as the process runs again.
   */
  readonly isHeld: Effect.Effect<boolean>

  /**
   * Asks the store whether the lease is still ours, and changes nothing. Fails with `LockLost` if
   * it is not (then guarded code is interrupted, too), and with `LockStoreError` if the store did
   * not answer.
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
   * finalizers run before `guard` fails. If the effect failed by itself as well, both errors are in
   * the cause, its own first. On a lease that is no longer held, it fails without running anything.
   */
  readonly guard: <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E | LockLost, R>

  /**
   * For Promise APIs: aborted, with the `LockLost` as its reason, when the lease is lost or
   * released.
   */
  readonly signal: AbortSignal

  /**
   * Gives the lease back before its scope closes. Idempotent; takes at most the store's command
   * deadline. Fails with `LockLost` if the lease was no longer ours, and with `LockStoreError` if
   * the store did not confirm the release: the lease then ends by its ttl. (The close of a scope
   * can only log these errors.)
   */
  readonly release: Effect.Effect<void, LockLost | LockStoreError>

  /**
   * Ends the lease in this process without giving it back, after renewing it to its full ttl: another process
   * goes on with it, by `adopt` of the same module (`Lock.adopt`) with the handle that this succeeds with. No
   * other holder comes in between. If nobody adopts it, it ends by its ttl, and the next waiter enters.
   *
   * Everything here is as after `release`: guarded code is interrupted, and so is the body of a `withLock`,
   * which then fails with `LockLost`, `Released`. So take a lease that is to be handed over with `acquire`,
   * and hand it over when what is guarded has ended. It takes at most the store's command deadline, and
   * cannot be interrupted meanwhile; an interruption that waits can still come between this and the next
   * step, so put both into `Effect.uninterruptible`: a handle that is lost leaves the key to its ttl.
   *
   * Fails with `LockLost` if the lease is not held any more, and with `LockStoreError` if the store did not
   * answer, or cannot do it: then the lease is held as before. A nested use of a lease, one of several keys,
   * the lease of a run of a `CronJob`, and a read that other readers of the process share in the store cannot
   * be handed over. `maxHold` and `holdAtLeast` go with it, and are counted from its own grant, or from that of
   * the first holder if it was adopted.
   */
  readonly handOver: Effect.Effect<Handle, LockLost | LockStoreError>
}
