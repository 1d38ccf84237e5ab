/**
 * Work that finds out first, after a pause of its process, whether it still holds its lease.
 *
 * When a process that was stopped goes on, all its timers are due, and that of the work can come before
 * that of the lease: the work would do another step. So whenever a fiber of it goes on, its first step is
 * a look at the clocks. If that finds the lease lost, the interruption of the work goes first. (What is
 * not resumed by Effect, as an `async` function, is not seen here: it has the lease's `signal`.)
 */
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import * as Scheduler from "effect/Scheduler"
import type { HeldLease } from "./lease.js"

/** The scheduler of whoever asks, which Effect 4 asks before each step whether the fiber is to yield. */
class Comparing implements Scheduler.Scheduler {
  readonly executionMode: Scheduler.Scheduler["executionMode"]

  constructor(
    private readonly scheduler: Scheduler.Scheduler,
    private readonly lease: HeldLease
  ) {
    this.executionMode = scheduler.executionMode
  }

  shouldYield(fiber: Fiber.Fiber<unknown, unknown>): boolean {
    const { lease, scheduler } = this
    // (not the interruption itself, finalizers, and whoever outlives the lease)
    if (fiber.currentOpCount === 1 && lease.core.ended === undefined && !lease.checkHeld()) {
      // the interruption goes from fiber to fiber, from the work's own to this one
      return true
    }
    return scheduler.shouldYield(fiber)
  }

  makeDispatcher(): Scheduler.SchedulerDispatcher {
    return this.scheduler.makeDispatcher()
  }
}

/** The effect, and all that it forks, compare the lease's clocks first. */
export const comparingFirst = <A, E, R>(
  lease: HeldLease,
  effect: Effect.Effect<A, E, R>
): Effect.Effect<A, E, R> =>
  Effect.withFiber((fiber) =>
    Effect.provideService(
      effect,
      Scheduler.Scheduler,
      new Comparing(fiber.getRef(Scheduler.Scheduler), lease)
    )
  )
