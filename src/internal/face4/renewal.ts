/** Renews a lease when that is due, each time in a fiber, and logs what its caller would like to know. */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as References from "effect/References"
import type { AsyncContext } from "../faces/asyncContext.js"
import type { LeaseCore } from "../lease/core.js"
import type { Failure } from "../lease/terms.js"
import type { Caller } from "./caller.js"
import { resuming } from "./resuming.js"

/** What it needs of the lease that it renews. */
export interface Renewed {
  readonly core: LeaseCore
  /** What is logged of a renewal that failed, and at the end. Never fail. */
  readonly tellFailure: (failure: Failure) => Effect.Effect<void>
  readonly tellLoss: Effect.Effect<void>
}

/** A fiber of its own would be most of what a lease costs, and mostly it ends before the first renewal. */
export class Renewal {
  private readonly asyncContext: AsyncContext
  private readonly context: Context.Context<never>

  constructor(
    private readonly lease: Renewed,
    { asyncContext, fiber }: Caller
  ) {
    this.asyncContext = asyncContext
    this.context = fiber.context
  }

  due(): void {
    this.run(
      Effect.callback<void>((resume) =>
        this.lease.core.renew(
          resuming((failure) =>
            resume(failure === undefined ? Effect.void : this.lease.tellFailure(failure))
          )
        )
      )
    )
  }

  ended(): void {
    if (this.lease.core.ended !== "Released") this.run(this.lease.tellLoss)
  }

  /** As its caller, without spans: they would hang under one that may have ended. */
  private run(effect: Effect.Effect<void>): void {
    const context = Context.add(this.context, References.TracerEnabled, false)
    this.asyncContext.runInAsyncScope(() => Effect.runForkWith(context)(effect))
  }
}
