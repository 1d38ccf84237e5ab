/** A caller that waits for a lock: counted while it waits, and logged when that takes long. */
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import { LockUnavailable } from "../../LockError.js"
import type { AsyncContext } from "../faces/asyncContext.js"
import type { Contention, Kind, LockStore, ScheduledCall } from "../faces/lockStore.js"
import { ofKind } from "../faces/answers.js"
import { CurrentHolds } from "./holds.js"
import { type Hold, holdOf } from "../faces/holds.js"
import type { LeaseOptions } from "../common/options.js"
import type { LockMetrics } from "./telemetry.js"
import { warnAs } from "./warning.js"

export class Waiting {
  private nextWarning: ScheduledCall | undefined = undefined

  constructor(
    private key: string,
    private readonly kind: Kind,
    private readonly options: LeaseOptions,
    private readonly store: LockStore,
    private readonly metrics: LockMetrics,
    private readonly askedAt: number,
    /** The caller's, as it was when it asked. */
    private readonly context: Context.Context<never>,
    private readonly asyncContext: AsyncContext,
    private contention: () => Contention
  ) {}

  begin(): void {
    this.metrics.waiting(1)
    this.warnAfter(this.options.warnAfterMillis)
    this.checkOwn()
  }

  /** For another key now, of several: it is one wait, of one caller. */
  goOn(key: string, contention: () => Contention): void {
    this.key = key
    this.contention = contention
    this.checkOwn()
  }

  private checkOwn(): void {
    const { context, key, options, store } = this
    if (options.warnAfterMillis === Number.POSITIVE_INFINITY) return
    const own = holdOf(key, store, Context.get(context, CurrentHolds))
    // (not in the store's own step: a logger is anybody's code)
    if (own !== undefined) {
      queueMicrotask(() => this.warnOfItself(own))
    }
  }

  end(): void {
    this.metrics.waiting(-1)
    this.nextWarning?.cancel()
  }

  /** Ever less often: each time when it has waited for twice as long. */
  private warnAfter(millis: number): void {
    // (at its deadline it ends by itself)
    if (millis >= this.options.waitMillis || millis === Number.POSITIVE_INFINITY) return
    this.nextWarning = this.store.clock.unsafeSchedule(this.askedAt + millis, () => {
      this.warnAfter(2 * millis)
      this.warnOfWait()
    })
  }

  private warnOfWait(): void {
    const { message } = new LockUnavailable({
      key: this.key,
      ...ofKind(this.kind),
      waited: Duration.millis(Math.round(this.store.clock.unsafeNow() - this.askedAt)),
      ...this.contention()
    })
    this.warn(`Still waiting. ${message}`)
  }

  private warnOfItself({ since }: Hold): void {
    const held = Math.round(this.store.clock.unsafeNow() - since)
    const { waitMillis } = this.options
    const [what, again] =
      this.kind === "semaphore" ? ["Semaphore", "asking for permits"] : ["Lock", "taking the lock"]
    const howLong =
      waitMillis === Number.POSITIVE_INFINITY
        ? "lasts for ever"
        : `ends only after ${waitMillis} ms`
    this.warn(
      `${what} ${JSON.stringify(this.key.slice(0, 200))}: a caller waits for itself. This fiber, or one that it was forked from, has held the lock for ${held} ms. If the holder cannot go on without this fiber, this wait ${howLong}. Pass the lease on to the inner code instead of ${again} again, or take it there with reentrant: true.`
    )
  }

  private warn(message: string): void {
    const { asyncContext, context, key, options } = this
    asyncContext.runInAsyncScope(() => warnAs(context, key, options.owner, message))
  }
}
