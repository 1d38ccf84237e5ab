/**
 * The life of a lease: renewed by a fiber, given up by a timer, released once.
 *
 * Its state is plain, and changed synchronously by whoever learns something (the renewal fiber, a
 * timer, a release). Deadlines never wait for a fiber: a timer marks the loss and interrupts what
 * is guarded, whatever the renewal is waiting for at that moment.
 */
import * as Cause from "effect/Cause"
import * as Chunk from "effect/Chunk"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as FiberId from "effect/FiberId"
import * as FiberRef from "effect/FiberRef"
import * as FiberRefs from "effect/FiberRefs"
import * as Inspectable from "effect/Inspectable"
import * as Option from "effect/Option"
import * as Runtime from "effect/Runtime"
import * as RuntimeFlags from "effect/RuntimeFlags"
import * as Scheduler from "effect/Scheduler"
import * as Scope from "effect/Scope"
import type * as Tracer from "effect/Tracer"
import { setMaxListeners } from "node:events"
import type { Lease } from "../../Lease.js"
import { LockLost, type LockStoreError, type LossReason } from "../../LockError.js"
import type {
  Contention,
  Grant,
  LockClock,
  Ownership,
  Renewal,
  ScheduledCall
} from "../../LockStore.js"
import { type AsyncContext, called, inContext } from "./asyncContext.js"
import type { Caller } from "./caller.js"
import { isToldAlready } from "./closing.js"
import { fiberRefsOf } from "./fiberRefs.js"
import { guard, startGuarded } from "./guard.js"
import type { Hold } from "./holds.js"
import { isolated } from "../common/isolated.js"
import type { LeaseOptions } from "../common/options.js"
import type { LockMetrics } from "./telemetry.js"
import { drift, retryDelay, sentAt } from "../common/timing.js"

type Watcher = (lease: HeldLease) => void
type ReleaseExit = Exit.Exit<void, LockLost | LockStoreError>

/**
 * Starts a renewal fiber in place, uninterruptible, and with a scheduler that resumes it in place
 * as well. Most renewal fibers end before they have anything to do, and copying the caller's
 * FiberRefs and two turns of its scheduler are most of what a fiber costs. The one that has
 * something to do takes the caller's FiberRefs, scheduler and all, then.
 */
const forkRenewal = Runtime.runFork(
  Runtime.make({
    context: Context.empty(),
    fiberRefs: FiberRefs.unsafeMake(new Map()).pipe(
      FiberRefs.updateAs({
        fiberId: FiberId.unsafeMake(),
        fiberRef: FiberRef.currentScheduler,
        value: Scheduler.make((task) => task())
      })
    ),
    runtimeFlags: RuntimeFlags.disable(Runtime.defaultRuntimeFlags, RuntimeFlags.Interruption)
  })
)

export class HeldLease implements Lease {
  readonly token: string
  readonly fencingToken: number
  /** Until when the lease is proven to be held, and when it is given up without a new proof. */
  private validUntil = 0
  private giveUpAt = 0
  /** Why it is not held any more. */
  ended: LossReason | undefined = undefined

  /** How long the caller waited for it, and what for. */
  readonly waitedMillis: number
  readonly contention: Contention | undefined
  /** The scope that closes it, where a scope does. */
  scope: Scope.CloseableScope | undefined = undefined
  /** Of the time that it is held; parent of what is guarded. */
  span: Tracer.Span | undefined = undefined

  private readonly grantedAt: number
  private error: LockLost | undefined = undefined
  /** Why the last renewal failed; `undefined` once one has been confirmed. */
  private renewalError: unknown = undefined
  private watchers: Set<Watcher> | undefined = undefined
  private abort: AbortController | undefined = undefined
  private renewal: Fiber.RuntimeFiber<void> | undefined = undefined
  /** The caller's FiberRefs, as they are when it takes the lease, for what is logged. */
  private callerRefs: FiberRefs.FiberRefs | undefined = undefined
  /** Resumes the renewal fiber while it waits; and whether it has something to do when it does not. */
  private wake: (() => void) | undefined = undefined
  private due = false
  private nextRenewal: ScheduledCall | undefined = undefined
  private expiry: ScheduledCall | undefined = undefined
  private releasing: Array<(exit: ReleaseExit) => void> | undefined = undefined
  private released: ReleaseExit | undefined = undefined

  constructor(
    readonly key: string,
    private readonly options: LeaseOptions,
    private readonly grant: Grant,
    private readonly clock: LockClock,
    private readonly metrics: LockMetrics,
    askedAt: number,
    /** Where it was asked for: its renewals run, and log, there. */
    private readonly context: AsyncContext,
    readonly hold: Hold
  ) {
    this.token = grant.token
    this.fencingToken = grant.fencingToken
    this.contention = grant.contention
    this.grantedAt = clock.unsafeNow()
    this.prove(grant.validUntil)
    this.waitedMillis = this.grantedAt - askedAt
  }

  // ---------------------------------------------------------------- what users see

  get remaining(): Effect.Effect<Duration.Duration> {
    return Effect.sync(() => Duration.millis(this.proven() ? Math.floor(this.timeLeft()) : 0))
  }

  get isHeld(): Effect.Effect<boolean> {
    return Effect.sync(() => this.proven())
  }

  get verify(): Effect.Effect<void, LockLost | LockStoreError> {
    return Effect.suspend(() => {
      if (!this.checkHeld()) return this.loss
      return Effect.flatMap(this.grant.verify, (ownership) => {
        if (ownership !== "Ours") this.lose(ownership)
        return this.checkHeld() ? Effect.void : this.loss
      })
    })
  }

  get awaitLost(): Effect.Effect<never, LockLost> {
    return Effect.async<never, LockLost>((resume) => {
      const onEnd = () => {
        if (this.ended !== "Released") resume(this.loss)
      }
      if (!this.checkHeld()) return onEnd()
      return Effect.sync(this.watch(inContext(onEnd)))
    })
  }

  /** A function by itself, as in `work.pipe(lease.guard)`. */
  get guard(): Lease["guard"] {
    return (effect) => guard(this, this.traced(effect))
  }

  get signal(): AbortSignal {
    if (this.abort === undefined) {
      const abort = (this.abort = new AbortController())
      // as many as the holder likes: ten requests at a time are no leak
      setMaxListeners(0, abort.signal)
      const onEnd = () => abort.abort(this.loss)
      if (this.checkHeld()) this.watch(inContext(onEnd))
      else onEnd()
    }
    return this.abort.signal
  }

  get release(): Effect.Effect<void, LockLost | LockStoreError> {
    return Effect.uninterruptible(
      Effect.suspend(() =>
        this.close((exit) =>
          this.scope === undefined
            ? exit
            : Effect.zipRight(Scope.close(this.scope, Exit.void), exit)
        )
      )
    )
  }

  /** What a log shows of it: not the token. */
  toJSON(): unknown {
    return { _id: "Lease", key: this.key, fencingToken: this.fencingToken }
  }

  [Inspectable.NodeInspectSymbol](): unknown {
    return this.toJSON()
  }

  // ---------------------------------------------------------------- what the inside sees

  /** The error of every use of the lease once it has ended. Made when it is first needed. */
  get loss(): LockLost {
    return (this.error ??= this.lossBecause(this.ended ?? "Released"))
  }

  /** Calls back once, when the lease is lost or released; returns how to stop watching. */
  watch(watcher: Watcher): () => void {
    const watchers = (this.watchers ??= new Set())
    watchers.add(watcher)
    return () => {
      watchers.delete(watcher)
    }
  }

  /** The first thing that a lease does whenever it runs again: compare clocks. */
  checkHeld(): boolean {
    if (this.ended === undefined && this.clock.unsafeNow() >= this.giveUpAt) {
      this.lose("Unreachable")
    }
    return this.ended === undefined
  }

  /** The rest of its construction: from here on it can be closed, whatever fails. */
  begin(): void {
    this.metrics.acquired(this.waitedMillis, this.contention !== undefined)
    this.grant.whenLost?.((reason) => this.lose(reason))
  }

  /** Whether it has been given back, or at least that has been tried. */
  get isClosed(): boolean {
    return this.released !== undefined
  }

  /** Ends what is guarded. Giving it back is another step. */
  abandon(): void {
    if (this.ended === undefined) this.end("Released")
  }

  /** Starts the renewal, in the turn of the event loop in which the lease was granted. */
  start(caller: Fiber.RuntimeFiber<unknown, unknown>): void {
    if (this.ended === undefined) this.sleepUntilRenewal()
    this.callerRefs = fiberRefsOf(caller)
    this.renewal = forkRenewal(this.renewUntilEnd)
  }

  /** Starts the body of a `withLock`, for that caller. */
  startGuarded<A, E, R>(
    effect: Effect.Effect<A, E, R>,
    caller: Caller
  ): Effect.Effect<A, E | LockLost> {
    return caller.isInterrupted
      ? caller.restore(Effect.never)
      : startGuarded(this, this.traced(effect), caller)
  }

  /**
   * Stops the renewal and gives the lease back, once; a later call gets the same answer. Runs
   * in an uninterruptible region, and goes on with what is made of the answer.
   */
  private close<A, E>(next: (exit: ReleaseExit) => Effect.Effect<A, E>): Effect.Effect<A, E> {
    if (this.released !== undefined) return next(this.released)
    if (this.releasing !== undefined) {
      const waiting = this.releasing
      return Effect.flatMap(
        called<ReleaseExit>((tell) => void waiting.push(tell)),
        next
      )
    }
    // "Released" without a release under way: it was abandoned
    const held = this.checkHeld() || this.ended === "Released"
    this.abandon()
    const release = this.traceRelease(this.grant.release)
    // last: what fails before can be tried again
    this.releasing = []
    const done = (exit: Exit.Exit<Ownership, LockStoreError>) => {
      this.released = held ? this.judgeRelease(exit) : Exit.fail(this.loss)
      for (const tell of this.releasing!) tell(this.released)
      return next(this.released)
    }
    return Effect.matchCauseEffect(release, {
      onFailure: (cause) => done(Exit.failCause(cause)),
      onSuccess: (ownership) => done(Exit.succeed(ownership))
    })
  }

  /**
   * What the close of a scope does: no caller gets its failure, so it is logged, unless another
   * caller has got it already.
   */
  get closeQuietly(): Effect.Effect<void> {
    return Effect.uninterruptible(
      Effect.suspend(() => {
        const told = this.releasing !== undefined
        return this.close((exit): Effect.Effect<void> => {
          if (Exit.isSuccess(exit)) return Effect.void
          const error = errorIn(exit.cause)
          if (error === undefined) return Effect.failCause(exit.cause as Cause.Cause<never>)
          return told || error === this.error ? Effect.void : this.warnOfClose(error)
        })
      })
    )
  }

  /**
   * What the end of `withLock` does: a loss is an error there, added to what the body ended with; a
   * missing confirmation is logged.
   */
  closeWith<A, E>(exit: Exit.Exit<A, E>): Effect.Effect<A, E | LockLost> {
    return this.close((release): Effect.Effect<A, E | LockLost> => {
      if (Exit.isSuccess(release)) return exit
      const error = errorIn(release.cause)
      if (error === undefined) return Effect.failCause(release.cause as Cause.Cause<never>)
      if (error._tag === "LockStoreError") return Effect.zipRight(this.warnOfClose(error), exit)
      if (Exit.isSuccess(exit)) return error
      const told = Chunk.some(Cause.failures(exit.cause), (failure) => failure === error)
      return told ? exit : Effect.failCause(Cause.sequential(exit.cause, Cause.fail(error)))
    })
  }

  /** One warning for all that closes together. */
  private warnOfClose(error: LockLost | LockStoreError): Effect.Effect<void> {
    return error._tag === "LockStoreError" && isToldAlready() ? Effect.void : this.warn(error)
  }

  /** A logger that throws changes nothing of what is logged. */
  private warn(error: LockLost | LockStoreError): Effect.Effect<void> {
    return Effect.catchAllCause(this.annotate(Effect.logWarning(error.message)), () => Effect.void)
  }

  private traced<A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> {
    return this.span === undefined ? effect : Effect.withParentSpan(effect, this.span)
  }

  private traceRelease(
    release: Effect.Effect<Ownership, LockStoreError>
  ): Effect.Effect<Ownership, LockStoreError> {
    const span = this.span
    if (span === undefined) return release
    const lostBefore = this.ended !== "Released"
    let begun = false
    return Effect.suspend(() => {
      begun = true
      return release
    }).pipe(
      Effect.withSpan("Lock.release", { parent: span, captureStackTrace: false }),
      // a tracer that throws must not keep the lock
      Effect.catchAllCause((cause) => (begun ? Effect.failCause(cause) : release)),
      Effect.onExit((exit) =>
        Effect.map(Effect.clock, (clock) => {
          const loss = lostBefore
            ? this.loss
            : Exit.isSuccess(exit) && exit.value !== "Ours"
              ? this.lossBecause(exit.value)
              : undefined
          if (loss !== undefined) span.attribute("lock.lost", loss.reason)
          span.end(clock.unsafeCurrentTimeNanos(), loss === undefined ? exit : Exit.fail(loss))
        })
      )
    )
  }

  /** Of a lease that was held, as far as we knew, when its release was sent. */
  private judgeRelease(exit: Exit.Exit<Ownership, LockStoreError>): ReleaseExit {
    if (Exit.isFailure(exit)) {
      this.metrics.releaseFailed()
      return Exit.asVoid(exit)
    }
    if (exit.value === "Ours") return Exit.void
    this.metrics.lost(exit.value)
    return Exit.fail(this.lossBecause(exit.value))
  }

  private lossBecause(reason: LossReason): LockLost {
    const { fencingToken, key, renewalError: cause } = this
    return reason === "Unreachable" && cause !== undefined
      ? new LockLost({ key, reason, fencingToken, cause })
      : new LockLost({ key, reason, fencingToken })
  }

  /** A loss by the clock does not yet mean that somebody else can have the key; giving it back does. */
  private proven(): boolean {
    return (
      (this.ended === undefined || this.ended === "Unreachable") &&
      this.releasing === undefined &&
      this.timeLeft() > 0
    )
  }

  private timeLeft(): number {
    return this.validUntil - this.clock.unsafeNow()
  }

  /**
   * The margin is for a proof of the full ttl. A shorter one (a handoff covers the claim window
   * only, a late answer what is left) has a margin in proportion.
   */
  private prove(until: number): void {
    const { marginMillis, ttlMillis } = this.options
    const share = (until - this.clock.unsafeNow()) / (ttlMillis - drift(ttlMillis))
    this.validUntil = until
    this.giveUpAt = until - marginMillis * Math.min(1, Math.max(0, share))
  }

  private lose(reason: LossReason): void {
    if (this.ended !== undefined) return
    this.metrics.lost(reason)
    this.end(reason)
  }

  /** The end of the lease as far as its users are concerned; nothing is asked of the store here. */
  private end(reason: LossReason): void {
    this.ended = reason
    this.hold.ended = true
    this.metrics.ended(this.clock.unsafeNow() - this.grantedAt)
    this.nextRenewal?.cancel()
    this.expiry?.cancel()
    const watchers = this.watchers
    this.watchers = undefined
    if (watchers !== undefined) for (const watcher of watchers) isolated(watcher, this)
    // only now: the renewal fiber runs in place, and may log
    if (this.wake !== undefined) isolated(this.wake, undefined)
    else this.renewal?.unsafeInterruptAsFork(FiberId.none)
  }

  // ---------------------------------------------------------------- renewal

  private sleepUntilRenewal(): void {
    const { renewEveryMillis, ttlMillis } = this.options
    this.expiry?.cancel()
    this.expiry = undefined
    const now = this.clock.unsafeNow()
    const due = sentAt(this.validUntil, ttlMillis) + renewEveryMillis
    // a proof of less than the full ttl, or one that came late, is renewed early in what is left of it
    const soon = now + Math.min(renewEveryMillis, (this.giveUpAt - now) / 4)
    this.nextRenewal = this.clock.unsafeSchedule(due > now ? due : soon, this.renewNow)
  }

  private readonly renewNow = (): void => {
    if (!this.checkHeld()) return
    // from here on the answer may stay away: the deadline does not wait for it
    this.expiry ??= this.clock.unsafeSchedule(this.giveUpAt, this.giveUp)
    this.due = true
    this.wake?.()
  }

  private readonly giveUp = (): void => this.lose("Unreachable")

  /**
   * The life of the renewal fiber: it waits until a renewal is due, or the lease has ended.
   *
   * Uninterruptible but for the renewal itself: only the end of the lease ends it, by waking it
   * (an interruption costs three times as much), or by interrupting a renewal that nobody needs.
   */
  private readonly renewUntilEnd: Effect.Effect<void> = Effect.async<void>((resume) => {
    const goOn = () => {
      this.wake = undefined
      this.due = false
      resume(this.ended === undefined ? this.renewOnce : this.lastWords)
    }
    if (this.due || this.ended !== undefined) goOn()
    else this.wake = () => this.context.runInAsyncScope(goOn)
  })

  private get renewOnce(): Effect.Effect<void> {
    const renewal = Effect.matchCauseEffect(Effect.interruptible(this.grant.renew), {
      onFailure: (cause) => this.renewalFailed(cause),
      onSuccess: (answer) => this.renewed(answer)
    })
    return this.callerRefs === undefined ? renewal : Effect.zipRight(this.asCaller, renewal)
  }

  private get lastWords(): Effect.Effect<void> {
    return this.ended === "Released"
      ? Effect.void
      : Effect.zipRight(this.asCaller, this.warn(this.loss))
  }

  /** Gives the fiber what a fork of the caller would have, once: loggers, annotations, services. */
  private get asCaller(): Effect.Effect<void> {
    const refs = this.callerRefs
    if (refs === undefined) return Effect.void
    this.callerRefs = undefined
    return Effect.updateFiberRefs((fiberId) =>
      FiberRefs.updateManyAs(refs, {
        forkAs: fiberId,
        entries: [
          // a span of a renewal would hang under one that may have ended
          [FiberRef.currentTracerEnabled, [[fiberId, false]]],
          // Effect counts a fiber's end by these, and has counted its beginning without
          [FiberRef.currentMetricLabels, [[fiberId, []]]]
        ]
      })
    )
  }

  private renewed(answer: Renewal): Effect.Effect<void> {
    if (this.ended === undefined) {
      if (answer._tag === "NotOurs") {
        this.lose(answer.reason)
      } else {
        this.renewalError = undefined
        // an answer can be older than what is known already
        this.prove(Math.max(this.validUntil, answer.validUntil))
        if (this.checkHeld()) this.sleepUntilRenewal()
      }
    }
    return this.renewUntilEnd
  }

  private renewalFailed(cause: Cause.Cause<LockStoreError>): Effect.Effect<void> {
    if (this.ended !== undefined) return this.renewUntilEnd
    this.metrics.renewalFailed()
    this.renewalError = Cause.squash(cause)
    this.nextRenewal = this.clock.unsafeSchedule(
      this.clock.unsafeNow() + retryDelay(this.options.ttlMillis),
      this.renewNow
    )
    const told = Effect.suspend(() =>
      this.annotate(
        Effect.logDebug(
          `Renewal failed. It is tried again until the lease is given up: ${Cause.pretty(cause)}`
        )
      )
    )
    // what cannot be printed, or a logger that throws, must not end the renewal
    return Effect.zipRight(
      Effect.catchAllCause(told, () => Effect.void),
      this.renewUntilEnd
    )
  }

  annotate<A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> {
    return Effect.annotateLogs(effect, {
      "lock.key": this.key,
      ...(this.options.owner === undefined ? {} : { "lock.owner": this.options.owner })
    })
  }
}

const errorIn = <E>(cause: Cause.Cause<E>): E | undefined =>
  Option.getOrUndefined(Cause.failureOption(cause))
