/**
 * The fiber that renews a lease. It waits until a renewal is due, or the lease has ended, and logs
 * what its caller would like to know.
 */
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import type * as FiberRefs from "effect/FiberRefs"
import type { LeaseCore } from "../lease/core.js"
import type { Failure } from "../lease/terms.js"
import type { AsyncContext } from "../faces/asyncContext.js"
import { startRenewal, takeRefs } from "./fork.js"

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
    this.fiber = startRenewal(this.untilEnd)
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
