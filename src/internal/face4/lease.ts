/**
 * A lease, for users of Effect: what `lease/core.ts` decides, as effects, with a fiber that renews it,
 * a scope, spans, and logs.
 */
import * as Cause from "effect/Cause"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Scope from "effect/Scope"
import type * as Tracer from "effect/Tracer"
import type { Lease } from "../../Lease.js"
import type { LockLost, LockStoreError, LossReason } from "../../LockError.js"
import type { Kind, LockClock, Restore } from "../faces/lockStore.js"
import { isolated } from "../common/isolated.js"
import type { LeaseOptions } from "../common/options.js"
import type { Contention, Grant, Store } from "../engine.js"
import { LeaseCore } from "../lease/core.js"
import type { Failure, LeaseFace, ReleaseExit } from "../lease/terms.js"
import { causeOf, lossOf } from "../faces/answers.js"
import type { Caller } from "./caller.js"
import { errorIn, hasError } from "./causes.js"
import { inClosing, isToldAlready } from "../faces/closing.js"
import { awaitLoss } from "./ending.js"
import { signalOf } from "../faces/signal.js"
import { guard, guarded } from "./guard.js"
import { all, handingOver, type Portion } from "./handingOver.js"
import { Shown } from "./shown.js"
import type { Hold, OfKey, Shareable } from "../faces/holds.js"
import { logFailedRenewal, logWarning } from "../faces/logs.js"
import { Renewal } from "./renewal.js"
import { afterwards, resuming } from "./resuming.js"
import { answered, traceRelease } from "./spans.js"
import type { LockMetrics } from "./telemetry.js"

/** What its users are told of a release. */
type Told = Exit.Exit<void, LockLost | LockStoreError>

const tellEnd = (renewal: Renewal): void => renewal.ended()

export class HeldLease extends Shown implements Shareable, LeaseFace {
  readonly token: string
  readonly fencingToken: number
  readonly core: LeaseCore
  /** How long the caller waited for it, and what for. */
  readonly waitedMillis: number
  readonly contention: Contention | undefined
  /** The scope that closes it, where a scope does. */
  scope: Scope.Closeable | undefined = undefined
  /** Of the time that it is held; parent of what is guarded. */
  span: Tracer.Span | undefined = undefined

  private error: LockLost | undefined = undefined
  private aborts: AbortSignal | undefined = undefined
  private renewal: Renewal | undefined = undefined
  private told: Told | undefined = undefined

  constructor(
    readonly key: string,
    private readonly options: LeaseOptions,
    grant: Grant,
    /** The store of the engine that granted it, if it is one of ours. */
    private readonly store: Store | undefined,
    private readonly clock: LockClock,
    private readonly metrics: LockMetrics,
    askedAt: number,
    readonly hold: Hold
  ) {
    super()
    this.token = grant.token
    this.fencingToken = grant.fencingToken
    this.contention = grant.contention
    this.core = new LeaseCore(grant, clock, options, this)
    this.waitedMillis = hold.since - askedAt
    hold.lease = this
  }

  // ---------------------------------------------------------------- what users see

  get remaining(): Effect.Effect<Duration.Duration> {
    return Effect.sync(() => Duration.millis(Math.floor(this.core.provenMillis)))
  }

  get isHeld(): Effect.Effect<boolean> {
    return Effect.sync(() => this.core.provenMillis > 0)
  }

  get verify(): Effect.Effect<void, LockLost | LockStoreError> {
    return Effect.suspend(() => {
      if (!this.checkHeld()) return Effect.fail(this.loss)
      return Effect.callback<void, LockLost | LockStoreError>((resume) => {
        const onExit = (failure: Failure | undefined) => {
          if (failure !== undefined) resume(Exit.failCause(causeOf(failure)))
          else resume(this.checkHeld() ? Effect.void : Effect.fail(this.loss))
        }
        return Effect.sync(this.core.verify(resuming(onExit)))
      })
    })
  }

  get awaitLost(): Effect.Effect<never, LockLost> {
    return awaitLoss(this)
  }

  /** A function by itself, as in `work.pipe(lease.guard)`. */
  get guard(): Lease["guard"] {
    return (effect) => guard(this, this.traced(effect))
  }

  get signal(): AbortSignal {
    return (this.aborts ??= signalOf(this))
  }

  get release(): Effect.Effect<void, LockLost | LockStoreError> {
    return Effect.uninterruptible(
      Effect.suspend(() =>
        this.close((told) =>
          this.scope === undefined ? told : Effect.andThen(Scope.close(this.scope, Exit.void), told)
        )
      )
    )
  }

  get handOver(): Lease["handOver"] {
    return handingOver(this, this.kind, this.portion, this.options)
  }

  /** What a log shows of it: not the token. */
  override toJSON(): unknown {
    return { _id: "Lease", key: this.key, fencingToken: this.fencingToken }
  }

  // ---------------------------------------------------------------- what the inside sees

  /** The error of every use of the lease once it has ended. Made when it is first needed. */
  get loss(): LockLost {
    return (this.error ??= this.lossBecause(this.core.ended ?? "Released"))
  }

  /** Compares clocks. */
  checkHeld(): boolean {
    return this.core.checkHeld()
  }

  of(_key: string): OfKey {
    return this
  }

  /** Calls back once, when the lease is lost or released; returns how not to be called. */
  onEnd(callback: () => void): () => void {
    return this.core.onEnd(callback)
  }

  /** The rest of its construction: from here on it can be closed, whatever fails. */
  begin(): void {
    this.metrics.acquired(this.waitedMillis, this.contention !== undefined)
    this.core.begin()
  }

  /** Whether it has been given back, or at least that has been tried. */
  get isClosed(): boolean {
    return this.core.released !== undefined
  }

  /** Ends what is guarded. Giving it back is another step. */
  abandon(): void {
    this.core.abandon()
  }

  /** Starts the renewal, in the turn of the event loop in which the lease was granted. */
  start(caller: Caller): void {
    this.core.start()
    this.renewal = new Renewal(this, caller)
  }

  /** Runs the body of a `withLock`, for a caller who is in an uninterruptible region. */
  guarded<A, E, R>(
    effect: Effect.Effect<A, E, R>,
    restore: Restore
  ): Effect.Effect<A, E | LockLost, R> {
    return guarded(this, this.traced(effect), restore)
  }

  // ---------------------------------------------------------------- what the core tells

  renewalDue(): void {
    this.renewal?.due()
  }

  lost(reason: LossReason): void {
    this.metrics.lost(reason)
  }

  ending(heldMillis: number): void {
    this.hold.lease = undefined
    this.metrics.ended(heldMillis)
  }

  hasEnded(): void {
    // (it may log, in place)
    if (this.renewal !== undefined) isolated(tellEnd, this.renewal)
  }

  releaseFailed(): void {
    this.metrics.releaseFailed()
  }

  // ---------------------------------------------------------------- its release

  /**
   * Stops the renewal and gives the lease back, once; a later call gets the same answer. Runs
   * in an uninterruptible region, and goes on with what is made of the answer.
   */
  private close<A, E>(next: (told: Told) => Effect.Effect<A, E>): Effect.Effect<A, E> {
    const { core, span } = this
    return span === undefined || core.isReleasing
      ? this.giveBack((exit) => next(this.toldBy(exit)))
      : Effect.flatMap(this.tracedRelease(span), next)
  }

  private giveBack<A, E>(next: (exit: ReleaseExit) => Effect.Effect<A, E>): Effect.Effect<A, E> {
    const { core, store } = this
    let exit = core.released
    let onLateExit: ((exit: ReleaseExit) => void) | undefined
    if (exit === undefined) {
      const onExit = (answer: ReleaseExit) => {
        if (onLateExit === undefined) exit = answer
        else onLateExit(answer)
      }
      if (store === undefined || core.isReleasing) core.release(this.clock.unsafeNow(), onExit)
      else inClosing(Fiber.getCurrent(), store, (since, tell) => core.release(since, tell), onExit)
    }
    // mostly where it was passed on within this process
    if (exit !== undefined) return next(exit)
    return Effect.callback<A, E>((resume) => {
      const goOn = (answer: ReleaseExit) => resume(Effect.suspend(() => next(answer)))
      // (the fiber can have yielded in between)
      if (exit !== undefined) return goOn(exit)
      onLateExit = (late) => afterwards(() => goOn(late))
    })
  }

  private tracedRelease(span: Tracer.Span): Effect.Effect<Told> {
    // what is guarded ends first
    if (this.checkHeld()) this.abandon()
    const release = Effect.suspend(() => this.giveBack(answered))
    return traceRelease(span, this.kind, release, () => {
      const { released } = this.core
      return released && this.toldBy(released)
    })
  }

  private toldBy(exit: ReleaseExit): Told {
    if (exit === "Confirmed") return Exit.void
    return (this.told ??=
      exit._tag === "Loss"
        ? Exit.fail(exit.isKnown ? this.loss : this.lossBecause(exit.reason))
        : Exit.failCause(causeOf(exit)))
  }

  /**
   * What the close of a scope does: no caller gets its failure, so it is logged, unless another
   * caller has got it already.
   */
  get closeQuietly(): Effect.Effect<void> {
    return Effect.uninterruptible(
      Effect.suspend(() => {
        const isTold = this.core.isReleasing
        return this.close((told): Effect.Effect<void> => {
          if (Exit.isSuccess(told)) return Effect.void
          const error = errorIn(told.cause)
          if (error === undefined) return Effect.failCause(told.cause as Cause.Cause<never>)
          return isTold || error === this.error ? Effect.void : this.warnOfClose(error)
        })
      })
    )
  }

  /**
   * What the end of `withLock` does: a loss is an error there, added to what the body ended with; a
   * missing confirmation is logged.
   */
  closeWith<A, E>(exit: Exit.Exit<A, E>): Effect.Effect<A, E | LockLost> {
    return this.close((told): Effect.Effect<A, E | LockLost> => {
      if (Exit.isSuccess(told)) return exit
      const error = errorIn(told.cause)
      if (error === undefined) return Effect.failCause(told.cause as Cause.Cause<never>)
      if (error._tag === "LockStoreError") return Effect.andThen(this.warnOfClose(error), exit)
      if (Exit.isSuccess(exit)) return Effect.fail(error)
      return hasError(exit.cause, error)
        ? exit
        : Effect.failCause(Cause.combine(exit.cause, Cause.fail(error)))
    })
  }

  /** (of the class: leases are made often) */
  protected get kind(): Kind {
    return "lock"
  }

  protected get portion(): Portion {
    return all
  }

  /** Of what is lost: of several keys, one. */
  protected lostOf(_reason: LossReason): { readonly key: string; readonly fencingToken: number } {
    return this
  }

  private lossBecause(reason: LossReason): LockLost {
    return lossOf(this.kind, this.lostOf(reason), reason, this.core.renewalFailure)
  }

  // ---------------------------------------------------------------- spans and logs

  private traced<A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> {
    return this.span === undefined ? effect : Effect.withParentSpan(effect, this.span)
  }

  /** One warning for all that closes together. */
  private warnOfClose(error: LockLost | LockStoreError): Effect.Effect<void> {
    return error._tag === "LockStoreError" && isToldAlready(Fiber.getCurrent())
      ? Effect.void
      : this.warn(error)
  }

  private warn(error: LockLost | LockStoreError): Effect.Effect<void> {
    return logWarning(error.key ?? this.key, this.options.owner, error)
  }

  get tellLoss(): Effect.Effect<void> {
    return this.warn(this.loss)
  }

  tellFailure(failure: Failure): Effect.Effect<void> {
    this.metrics.renewalFailed()
    return logFailedRenewal(this.key, this.options.owner, failure)
  }
}
