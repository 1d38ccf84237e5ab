/**
 * The fiber that renews a lease. It waits until a renewal is due, or the lease has ended, and logs
 * what its caller would like to know.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import * as FiberId from "effect/FiberId"
import * as FiberRef from "effect/FiberRef"
import * as FiberRefs from "effect/FiberRefs"
import * as Runtime from "effect/Runtime"
import * as RuntimeFlags from "effect/RuntimeFlags"
import * as Scheduler from "effect/Scheduler"
import type { Failure, LeaseCore } from "../lease/core.js"
import type { AsyncContext } from "./asyncContext.js"

/**
 * Starts a renewal fiber in place, uninterruptible, and with a scheduler that resumes it in place
 * as well. Most renewal fibers end before they have anything to do, and copying the caller's
 * FiberRefs and two turns of its scheduler are most of what a fiber costs. The one that has
 * something to do takes the caller's FiberRefs, scheduler and all, then.
 */
const forkRenewal: (effect: Effect.Effect<void>) => Fiber.RuntimeFiber<void> = Runtime.runFork(
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

/** Gives the fiber what a fork of the caller would have: loggers, annotations, services. */
const takeRefs = (refs: FiberRefs.FiberRefs): Effect.Effect<void> =>
  Effect.updateFiberRefs((fiberId) =>
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

/** What the fiber needs of the lease that it renews. */
export interface Renewed {
  readonly core: LeaseCore
  /** Where it was asked for: its renewals run, and log, there. */
  readonly context: AsyncContext
  /** What is logged of a renewal that failed, and at the end. Never fail. */
  readonly tellFailure: (failure: Failure) => Effect.Effect<void>
  readonly tellLoss: Effect.Effect<void>
}

/**
 * Uninterruptible: only the end of the lease ends the fiber, by waking it. (An interruption costs
 * three times as much.)
 */
export class Renewal {
  readonly fiber: Fiber.RuntimeFiber<void>
  /** Resumes the fiber while it waits. */
  private resume: ((next: Effect.Effect<void>) => void) | undefined = undefined
  private isDue = false

  constructor(
    private readonly lease: Renewed,
    /** The caller's, until the fiber has taken them. */
    private callerRefs: FiberRefs.FiberRefs | undefined
  ) {
    this.fiber = forkRenewal(this.untilEnd)
  }

  due(): void {
    this.isDue = true
    this.wake()
  }

  /** It is due, or the lease has ended. */
  readonly wake = (): void => {
    if (this.resume !== undefined) this.lease.context.runInAsyncScope(this.goOn, this)
  }

  private goOn(): void {
    const { isDue, lease, resume } = this
    this.resume = undefined
    this.isDue = false
    resume!(
      lease.core.ended === undefined ? (isDue ? this.renewOnce : this.untilEnd) : this.lastWords
    )
  }

  private readonly untilEnd: Effect.Effect<void> = Effect.async<void>((resume) => {
    this.resume = resume
    if (this.isDue || this.lease.core.ended !== undefined) this.goOn()
  })

  private get renewOnce(): Effect.Effect<void> {
    const { context, core } = this.lease
    const renewal = Effect.async<void>((resume) => {
      this.resume = resume
      core.renew((failure) => {
        // the lease has ended meanwhile
        if (this.resume !== resume) return
        this.resume = undefined
        context.runInAsyncScope(() => resume(this.afterRenewal(failure)))
      })
    })
    return this.callerRefs === undefined ? renewal : Effect.zipRight(this.asCaller, renewal)
  }

  private afterRenewal(failure: Failure | undefined): Effect.Effect<void> {
    return failure === undefined
      ? this.untilEnd
      : Effect.zipRight(this.lease.tellFailure(failure), this.untilEnd)
  }

  private get lastWords(): Effect.Effect<void> {
    return this.lease.core.ended === "Released"
      ? Effect.void
      : Effect.zipRight(this.asCaller, this.lease.tellLoss)
  }

  private get asCaller(): Effect.Effect<void> {
    const refs = this.callerRefs
    if (refs === undefined) return Effect.void
    this.callerRefs = undefined
    return takeRefs(refs)
  }
}
