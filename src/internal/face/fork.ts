/**
 * Fibers that start in place: one that does not suspend has ended when its start returns. What Effect
 * gives a fork is given by hand, by way of `runFork`, which would first make a copy for nothing.
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
import * as Supervisor from "effect/Supervisor"
import { fiberRefsOf } from "./fiberRefs.js"

/** The FiberRefs of a new fiber. */
export interface Given {
  readonly updateRefs: (_: FiberRefs.FiberRefs, child: FiberId.Runtime) => FiberRefs.FiberRefs
}

export const interruptible = Runtime.defaultRuntimeFlags
export const uninterruptible = RuntimeFlags.disable(interruptible, RuntimeFlags.Interruption)

/** Starts an effect that belongs to nobody, with the context of that fiber. */
export const startLike = <A, E, R>(
  fiber: Fiber.RuntimeFiber<unknown, unknown>,
  runtimeFlags: RuntimeFlags.RuntimeFlags,
  effect: Effect.Effect<A, E, R>,
  given: Given
): Fiber.RuntimeFiber<A, E> =>
  Runtime.runFork(
    Runtime.make({ context: fiber.currentContext as never, fiberRefs: noFiberRefs, runtimeFlags })
  )(effect, given)

const noFiberRefs = FiberRefs.empty()

/** All that a fork inherits. */
export class Inherited implements Given {
  constructor(private readonly refs: FiberRefs.FiberRefs) {}

  readonly updateRefs = (_: FiberRefs.FiberRefs, child: FiberId.Runtime): FiberRefs.FiberRefs =>
    FiberRefs.forkAs(this.refs, child)
}

/** All that the fiber has, as it is: for what could be a part of the fiber, and not a fork. */
export class SameAs implements Given {
  private readonly refs: FiberRefs.FiberRefs

  constructor(fiber: Fiber.RuntimeFiber<unknown, unknown>) {
    this.refs = fiberRefsOf(fiber)
  }

  readonly updateRefs = (_: FiberRefs.FiberRefs, fiberId: FiberId.Runtime): FiberRefs.FiberRefs =>
    FiberRefs.updateAs(this.refs, {
      fiberId,
      fiberRef: FiberRef.currentSupervisor,
      value: Supervisor.none
    })
}

/**
 * Starts the fiber of a renewal, uninterruptible, and with a scheduler that resumes it in place as
 * well. Most renewal fibers end before they have anything to do, and copying the caller's FiberRefs
 * and two turns of its scheduler are most of what a fiber costs. The one that has something to do
 * takes the caller's FiberRefs, scheduler and all, then.
 */
export const startRenewal: (effect: Effect.Effect<void>) => Fiber.RuntimeFiber<void> =
  Runtime.runFork(
    Runtime.make({
      context: Context.empty(),
      fiberRefs: FiberRefs.unsafeMake(new Map()).pipe(
        FiberRefs.updateAs({
          fiberId: FiberId.unsafeMake(),
          fiberRef: FiberRef.currentScheduler,
          value: Scheduler.make((task) => task())
        })
      ),
      runtimeFlags: uninterruptible
    })
  )

/** Gives that fiber what a fork of the caller would have: loggers, annotations, services. */
export const takeRefs = (refs: FiberRefs.FiberRefs): Effect.Effect<void> =>
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
