/**
 * The life of a lease: renewed by a fiber, given up by a timer, released once.
 *
 * Its state is plain, and changed synchronously by whoever learns something (the renewal fiber, a
 * timer, a release). Deadlines never wait for a fiber: a timer marks the loss and interrupts what
 * is guarded, whatever the renewal is waiting for at that moment.
 */
import * as Cause from "effect/Cause"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as FiberId from "effect/FiberId"
import * as Scope from "effect/Scope"
import type * as Tracer from "effect/Tracer"
import type { Lease } from "../Lease.js"
import { LockLost, type LockStoreError, type LossReason } from "../LockError.js"
import type { Grant, LockClock, Renewal, ScheduledCall } from "../LockStore.js"
import { guard } from "./guard.js"
import type { LeaseOptions } from "./options.js"
import type { LockMetrics } from "./telemetry.js"
import { retryDelay, sentAt } from "./timing.js"

type ReleaseExit = Exit.Exit<void, LockLost | LockStoreError>

export class HeldLease implements Lease {
  readonly token: string
  readonly fencingToken: number
  /** Until when the lease is proven to be held. */
  validUntil: number
  /** Why it is not held any more. */
  loss: LockLost | undefined = undefined

  /** How long the caller waited for it, and how many commands that took. */
  readonly waitedMillis: number
  readonly attempts: number
  /** The scope that closes it, where a scope does. */
  scope: Scope.CloseableScope | undefined = undefined
  /** Of the time that it is held; parent of what is guarded. */
  span: Tracer.Span | undefined = undefined

  private readonly grantedAt: number
  private readonly watchers = new Set<(loss: LockLost) => void>()
  private abort: AbortController | undefined = undefined
  private renewal: Fiber.RuntimeFiber<void> | undefined = undefined
  /** Resumes the renewal fiber while it waits; the argument says whether to go on. */
  private wake: ((goOn: boolean) => void) | undefined = undefined
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
    askedAt: number
  ) {
    this.token = grant.token
    this.fencingToken = grant.fencingToken
    this.validUntil = grant.validUntil
    this.attempts = grant.attempts
    this.grantedAt = clock.unsafeNow()
    this.waitedMillis = this.grantedAt - askedAt
  }

  // ---------------------------------------------------------------- what users see

  get remaining(): Effect.Effect<Duration.Duration> {
    return Effect.sync(() => Duration.millis(this.proven() ? this.timeLeft() : 0))
  }

  get isHeld(): Effect.Effect<boolean> {
    return Effect.sync(() => this.proven())
  }

  get verify(): Effect.Effect<void, LockLost | LockStoreError> {
    return Effect.suspend(() => {
      const lost = this.checkClock()
      if (lost !== undefined) return lost
      return Effect.flatMap(this.grant.verify, (ownership) => {
        if (ownership !== "Ours") this.lose(ownership)
        return this.checkClock() ?? Effect.void
      })
    })
  }

  get awaitLost(): Effect.Effect<never, LockLost> {
    return Effect.async<never, LockLost>((resume) => {
      const onLoss = (loss: LockLost) => {
        if (loss.reason !== "Released") resume(loss)
      }
      if (this.loss !== undefined) return onLoss(this.loss)
      return Effect.sync(this.watch(onLoss))
    })
  }

  guard<A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E | LockLost, R> {
    return guard(this, this.span === undefined ? effect : Effect.withParentSpan(effect, this.span))
  }

  get signal(): AbortSignal {
    if (this.abort === undefined) {
      const abort = (this.abort = new AbortController())
      this.checkClock()
      if (this.loss !== undefined) abort.abort(this.loss)
      else this.watch((loss) => abort.abort(loss))
    }
    return this.abort.signal
  }

  get release(): Effect.Effect<void, LockLost | LockStoreError> {
    return Effect.suspend(() =>
      this.scope === undefined
        ? this.close
        : Effect.zipLeft(Effect.exit(this.close), Scope.close(this.scope, Exit.void)).pipe(
            Effect.flatten,
            Effect.uninterruptible
          )
    )
  }

  // ---------------------------------------------------------------- what the inside sees

  /** Calls back once, when the lease is lost or released; returns how to stop watching. */
  watch(callback: (loss: LockLost) => void): () => void {
    this.watchers.add(callback)
    return () => {
      this.watchers.delete(callback)
    }
  }

  /** The first thing that a lease does whenever it runs again: compare clocks. */
  checkClock(): LockLost | undefined {
    if (this.loss === undefined && this.clock.unsafeNow() >= this.giveUpAt()) {
      this.lose("Unreachable")
    }
    return this.loss
  }

  /** Starts the renewal; runs in an uninterruptible region, before anyone else sees the lease. */
  get start(): Effect.Effect<void> {
    return Effect.suspend(() => {
      this.metrics.acquired(this.waitedMillis, this.attempts)
      this.sleepUntilRenewal()
      return Effect.map(Effect.forkDaemon(this.renewUntilLost), (fiber) => {
        this.renewal = fiber
      })
    })
  }

  /** Stops the renewal and gives the lease back, once; whoever asks again gets the same answer. */
  get close(): Effect.Effect<void, LockLost | LockStoreError> {
    return Effect.suspend(() => {
      if (this.released !== undefined) return this.released
      if (this.releasing !== undefined) {
        const waiting = this.releasing
        return Effect.async<void, LockLost | LockStoreError>((resume) => {
          waiting.push(resume)
        })
      }
      this.releasing = []
      this.checkClock()
      const lost = this.loss
      if (lost === undefined) this.end("Released")
      return Effect.flatMap(Effect.exit(this.traceRelease(this.grant.release)), (exit) => {
        this.released = this.judgeRelease(lost, exit)
        for (const resume of this.releasing!) resume(this.released)
        return this.released
      })
    }).pipe(Effect.uninterruptible)
  }

  /** What the close of a scope does: nobody is there to hear of a failure, so it is logged. */
  get closeQuietly(): Effect.Effect<void> {
    return Effect.catchAll(this.close, (error) =>
      error === this.loss ? Effect.void : this.warn(error)
    )
  }

  /** What the end of `withLock` does: a loss is an error there, a missing confirmation is logged. */
  get closeOrLoss(): Effect.Effect<LockLost | undefined> {
    return Effect.matchEffect(this.close, {
      onFailure: (error) =>
        error._tag === "LockLost" ? Effect.succeed(error) : Effect.as(this.warn(error), undefined),
      onSuccess: () => Effect.succeed(undefined)
    })
  }

  private warn(error: LockLost | LockStoreError): Effect.Effect<void> {
    return this.annotate(Effect.logWarning(error.message))
  }

  private traceRelease<A, E>(release: Effect.Effect<A, E>): Effect.Effect<A, E> {
    const span = this.span
    if (span === undefined) return release
    return release.pipe(
      Effect.withSpan("Lock.release", { parent: span, captureStackTrace: false }),
      Effect.onExit((exit) =>
        Effect.map(Effect.clock, (clock) => span.end(clock.unsafeCurrentTimeNanos(), exit))
      )
    )
  }

  private judgeRelease(
    lost: LockLost | undefined,
    exit: Exit.Exit<"Ours" | "Missing" | "Taken", LockStoreError>
  ): ReleaseExit {
    if (lost !== undefined) return Exit.fail(lost)
    if (Exit.isFailure(exit)) {
      this.metrics.releaseFailed()
      return exit
    }
    if (exit.value === "Ours") return Exit.void
    this.metrics.lost(exit.value)
    return Exit.fail(this.lossOf(exit.value))
  }

  private lossOf(reason: LossReason): LockLost {
    return new LockLost({ key: this.key, reason, fencingToken: this.fencingToken })
  }

  /** A loss by the clock does not yet mean that somebody else can have the key. */
  private proven(): boolean {
    return (this.loss === undefined || this.loss.reason === "Unreachable") && this.timeLeft() > 0
  }

  private timeLeft(): number {
    return this.validUntil - this.clock.unsafeNow()
  }

  private giveUpAt(): number {
    return this.validUntil - this.options.marginMillis
  }

  private lose(reason: LossReason): void {
    if (this.loss !== undefined) return
    this.metrics.lost(reason)
    this.end(reason)
  }

  /** The end of the lease as far as its users are concerned; nothing is asked of the store here. */
  private end(reason: LossReason): void {
    const loss = (this.loss = this.lossOf(reason))
    this.metrics.ended(this.clock.unsafeNow() - this.grantedAt)
    this.nextRenewal?.cancel()
    this.expiry?.cancel()
    if (this.wake !== undefined) this.wake(false)
    else this.renewal?.unsafeInterruptAsFork(FiberId.none)
    for (const watcher of this.watchers) watcher(loss)
    this.watchers.clear()
  }

  // ---------------------------------------------------------------- renewal

  private sleepUntilRenewal(): void {
    const { renewEveryMillis, ttlMillis } = this.options
    this.expiry?.cancel()
    this.expiry = undefined
    this.nextRenewal = this.clock.unsafeSchedule(
      sentAt(this.validUntil, ttlMillis) + renewEveryMillis,
      this.renewNow
    )
  }

  private readonly renewNow = (): void => {
    if (this.checkClock() !== undefined) return
    // from here on the answer may stay away: the deadline does not wait for it
    this.expiry ??= this.clock.unsafeSchedule(this.giveUpAt(), this.giveUp)
    this.wake?.(true)
  }

  private readonly giveUp = (): void => this.lose("Unreachable")

  /** Waits until the next renewal is due (true) or the lease has ended (false). */
  private readonly due: Effect.Effect<boolean> = Effect.async<boolean>((resume) => {
    if (this.loss !== undefined) return resume(Exit.succeed(false))
    this.wake = (goOn) => {
      this.wake = undefined
      resume(Exit.succeed(goOn))
    }
  })

  private readonly renewLoop: Effect.Effect<void> = Effect.suspend(() =>
    Effect.flatMap(this.due, (goOn) =>
      goOn
        ? Effect.zipRight(
            Effect.flatMap(Effect.exit(this.grant.renew), (exit) => this.renewed(exit)),
            this.renewLoop
          )
        : Effect.void
    )
  )

  private get renewUntilLost(): Effect.Effect<void> {
    return this.renewLoop.pipe(
      Effect.onExit(() => {
        // whoever ended this fiber, an unrenewed lease must not look held
        if (this.loss === undefined) this.lose("Unreachable")
        return this.loss!.reason === "Released" ? Effect.void : this.warn(this.loss!)
      }),
      Effect.interruptible,
      Effect.withTracerEnabled(false)
    )
  }

  private renewed(exit: Exit.Exit<Renewal, LockStoreError>): Effect.Effect<void> {
    if (this.loss !== undefined) return Effect.void
    if (Exit.isFailure(exit)) {
      this.metrics.renewalFailed()
      this.nextRenewal = this.clock.unsafeSchedule(
        this.clock.unsafeNow() + retryDelay(this.options.ttlMillis),
        this.renewNow
      )
      return this.annotate(
        Effect.logDebug(
          `Renewal failed, trying again until the validity runs out: ${Cause.pretty(exit.cause)}`
        )
      )
    }
    if (exit.value._tag === "NotOurs") {
      this.lose(exit.value.reason)
    } else {
      // an answer can be older than what is known already
      this.validUntil = Math.max(this.validUntil, exit.value.validUntil)
      if (this.checkClock() === undefined) this.sleepUntilRenewal()
    }
    return Effect.void
  }

  annotate<A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> {
    return Effect.annotateLogs(effect, {
      "lock.key": this.key,
      ...(this.options.owner === undefined ? {} : { "lock.owner": this.options.owner })
    })
  }
}
