/**
 * The fiber that renews a lease. It waits until a renewal is due, or the lease has ended, and logs
 * what its caller would like to know.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import * as References from "effect/References"
import type { LeaseCore } from "../lease/core.js"
import type { Failure } from "../lease/terms.js"

/** What the fiber needs of the lease that it renews. */
export interface Renewed {
  readonly core: LeaseCore
  /** What is logged of a renewal that failed, and at the end. Never fail. */
  readonly tellFailure: (failure: Failure) => Effect.Effect<void>
  readonly tellLoss: Effect.Effect<void>
}

/** Uninterruptible: only the end of the lease ends the fiber, by waking it. */
export class Renewal {
  /** Resumes the fiber while it waits. */
  private resume: ((next: Effect.Effect<void>) => void) | undefined = undefined
  private isDue = false

  constructor(
    private readonly lease: Renewed,
    caller: Fiber.Fiber<unknown, unknown>
  ) {
    // (a span of a renewal would hang under one that may have ended)
    const context = Context.add(caller.context, References.TracerEnabled, false)
    Effect.runForkWith(context)(this.untilEnd, { uninterruptible: true })
  }

  due(): void {
    this.isDue = true
    this.wake()
  }

  /** It is due, or the lease has ended. */
  readonly wake = (): void => {
    if (this.resume !== undefined) this.goOn()
  }

  private goOn(): void {
    const { isDue, lease, resume } = this
    this.resume = undefined
    this.isDue = false
    resume!(
      lease.core.ended === undefined ? (isDue ? this.renewOnce : this.untilEnd) : this.lastWords
    )
  }

  private readonly untilEnd: Effect.Effect<void> = Effect.callback<void>((resume) => {
    this.resume = resume
    if (this.isDue || this.lease.core.ended !== undefined) this.goOn()
  })

  private get renewOnce(): Effect.Effect<void> {
    return Effect.callback<void>((resume) => {
      this.resume = resume
      this.lease.core.renew((failure) => {
        // the lease has ended meanwhile
        if (this.resume !== resume) return
        this.resume = undefined
        resume(
          failure === undefined
            ? this.untilEnd
            : Effect.andThen(this.lease.tellFailure(failure), this.untilEnd)
        )
      })
    })
  }

  private get lastWords(): Effect.Effect<void> {
    return this.lease.core.ended === "Released" ? Effect.void : this.lease.tellLoss
  }
}
