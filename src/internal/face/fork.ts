/** Fibers that start in place, and are given what a fork of another fiber is given. */
import type * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import type * as FiberId from "effect/FiberId"
import * as FiberRefs from "effect/FiberRefs"
import * as Runtime from "effect/Runtime"
import type * as RuntimeFlags from "effect/RuntimeFlags"
import { fiberRefsOf } from "./fiberRefs.js"

/** The FiberRefs of a new fiber; by way of `runFork`, which would first make a copy for nothing. */
export interface Given {
  readonly updateRefs: (_: FiberRefs.FiberRefs, child: FiberId.Runtime) => FiberRefs.FiberRefs
}

/** All that a fork inherits. */
export class Inherited implements Given {
  constructor(private readonly refs: FiberRefs.FiberRefs) {}

  readonly updateRefs = (_: FiberRefs.FiberRefs, child: FiberId.Runtime): FiberRefs.FiberRefs =>
    FiberRefs.forkAs(this.refs, child)
}

/**
 * Starts an effect in place: one that does not suspend has ended when this returns. It runs with the
 * context of that fiber, and belongs to nobody.
 */
export const startLike = <A, E, R>(
  fiber: Fiber.RuntimeFiber<unknown, unknown>,
  runtimeFlags: RuntimeFlags.RuntimeFlags,
  effect: Effect.Effect<A, E, R>,
  given: Given = new Inherited(fiberRefsOf(fiber))
): Fiber.RuntimeFiber<A, E> =>
  Runtime.runFork(
    Runtime.make({ context: fiber.currentContext as never, fiberRefs: noFiberRefs, runtimeFlags })
  )(effect, given)

const noFiberRefs = FiberRefs.empty()
