/**
 * Work that finds out first, after a pause of its process, whether it still holds its lease.
 *
 * When a process that was stopped goes on, all its timers are due, and that of the work can come before
 * that of the lease: the work would do another step. So here every step that was waited for begins with
 * a look at the clocks. If that finds the lease lost, the interruption of the work goes first. (What is
 * not resumed by Effect, as an `async` function, is not seen here: it has the lease's `signal`.)
 */
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import * as FiberRef from "effect/FiberRef"
import type * as Scheduler from "effect/Scheduler"
import type { HeldLease } from "./lease.js"

type AnyFiber = Fiber.RuntimeFiber<unknown, unknown>

class Comparing implements Scheduler.Scheduler {
  constructor(
    private readonly scheduler: Scheduler.Scheduler,
    private readonly lease: HeldLease
  ) {}

  shouldYield(fiber: AnyFiber): number | false {
    return this.scheduler.shouldYield(fiber)
  }

  scheduleTask(task: Scheduler.Task, priority: number, fiber?: AnyFiber): void {
    const { lease, scheduler } = this
    // (the interruption itself, finalizers, and whoever outlives the lease)
    if (lease.core.ended !== undefined) return scheduler.scheduleTask(task, priority, fiber)
    scheduler.scheduleTask(
      () => {
        if (lease.checkHeld()) task()
        // the interruption goes from fiber to fiber in microtasks, from the work's own to this one
        else setImmediate(task)
      },
      priority,
      fiber
    )
  }
}

/** The effect, and all that it forks, compare the lease's clocks first. */
export const comparingFirst = <A, E, R>(
  lease: HeldLease,
  effect: Effect.Effect<A, E, R>
): Effect.Effect<A, E, R> =>
  Effect.flatMap(FiberRef.get(FiberRef.currentScheduler), (scheduler) =>
    Effect.withScheduler(effect, new Comparing(scheduler, lease))
  )
