/**
 * The caller that asks for a lease: its fiber, and how it gets its interruptibility back.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import { LockStore } from "../../effect4/LockStore.js"
import { AsyncContext } from "../faces/asyncContext.js"
import type { Restore } from "../faces/lockStore.js"

/** Who asks: the fiber, and how its interruptibility is given to a part. */
export interface Caller {
  readonly fiber: Fiber.Fiber<unknown, unknown>
  readonly restore: Restore
  /** Where it asks: what it is told later, it is told there. */
  readonly asyncContext: AsyncContext
}

export const storeOf = ({ fiber }: Caller): LockStore => Context.getUnsafe(fiber.context, LockStore)

/** An uninterruptible region that knows who entered it. */
export const uninterruptibly = <A, E, R>(
  region: (caller: Caller) => Effect.Effect<A, E, R>
): Effect.Effect<A, E, R> =>
  Effect.uninterruptibleMask((restore) =>
    Effect.withFiber((fiber) => region({ fiber, restore, asyncContext: new AsyncContext() }))
  )
