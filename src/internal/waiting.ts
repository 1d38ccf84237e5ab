/** A caller that waits for a lock: counted while it waits, and logged when that takes long. */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import type * as FiberId from "effect/FiberId"
import * as FiberRefs from "effect/FiberRefs"
import * as Runtime from "effect/Runtime"
import { LockUnavailable } from "../LockError.js"
import type { Contention, LockClock, ScheduledCall } from "../LockStore.js"
import { inContext } from "./asyncContext.js"
import { fiberRefsOf } from "./fiberRefs.js"
import type { LeaseOptions } from "./options.js"
import type { LockMetrics } from "./telemetry.js"

export class Waiting {
  private readonly refs: FiberRefs.FiberRefs
  private nextWarning: ScheduledCall | undefined = undefined

  constructor(
    private readonly key: string,
    private readonly options: LeaseOptions,
    private readonly clock: LockClock,
    private readonly metrics: LockMetrics,
    private readonly askedAt: number,
    private readonly caller: Fiber.RuntimeFiber<unknown, unknown>,
    private readonly contention: () => Contention
  ) {
    metrics.waiting(1)
    this.refs = fiberRefsOf(caller)
    if (options.warnAfterMillis < options.waitMillis) this.warnAfter(options.warnAfterMillis)
  }

  end(): void {
    this.metrics.waiting(-1)
    this.nextWarning?.cancel()
  }

  /** Ever less often: each time when it has waited for twice as long. */
  private warnAfter(millis: number): void {
    const warn = inContext(() => {
      this.warnAfter(2 * millis)
      this.warn()
    })
    this.nextWarning = this.clock.unsafeSchedule(this.askedAt + millis, () => warn(undefined))
  }

  /** In a fiber of its own, with the caller's loggers and annotations: the caller itself waits. */
  private warn(): void {
    const { askedAt, caller, clock, key, options } = this
    const { message } = new LockUnavailable({
      key,
      waited: Duration.millis(Math.round(clock.unsafeNow() - askedAt)),
      ...this.contention()
    })
    const warning = Effect.annotateLogs(Effect.logWarning(`Still waiting. ${message}`), {
      "lock.key": key,
      ...(options.owner === undefined ? {} : { "lock.owner": options.owner })
    })
    const runtime = Runtime.make({
      context: caller.currentContext as never,
      fiberRefs: FiberRefs.empty(),
      runtimeFlags: Runtime.defaultRuntimeFlags
    })
    // (a logger that throws must not be an unhandled error)
    Runtime.runFork(runtime)(
      Effect.catchAllCause(warning, () => Effect.void),
      { updateRefs: (_, id: FiberId.Runtime) => FiberRefs.forkAs(this.refs, id) }
    )
  }
}
