/** What is said of a job, and what its runs are told, on every face. */
import type * as Cron from "effect/Cron"
import type * as DateTime from "effect/DateTime"
import type * as Schedule from "effect/Schedule"
import type { DurationInput, Lease, Options as LeaseOptions } from "../../Lease.js"
import type { LockStoreError } from "../../LockError.js"

/**
 * When a job is due, what becomes of ticks that were missed, and the options of the lock under which
 * it runs. An impossible option is a defect, raised before anything is sent.
 *
 * @since 0.1.0
 * @category models
 */
export interface Options extends Omit<LeaseOptions, "reentrant"> {
  /**
   * A cron expression of five fields, or of six that begin with the seconds, as Effect's `Cron` reads
   * it; or a `Cron`. All processes must have the same.
   */
  readonly cron: string | Cron.Cron
  /**
   * The time zone of the expression. What is due when clocks are changed there is what `Cron` says. In the
   * hour that comes twice, a time is due once. Default: that of the `Cron`, or UTC, whatever the time zone
   * of the process is.
   */
  readonly timeZone?: string | DateTime.TimeZone | undefined
  /**
   * Of ticks that were missed (no process was there, or no store; also where nobody has run the job
   * yet) the latest is run late, unless it is older than this. `Duration.infinity`: however old. Default: 1
   * day; at least 1 second.
   */
  readonly skipIfOlderThan?: DurationInput | undefined
  /**
   * What becomes of a tick that is due while the job still runs for an earlier one. `"wait"`: it is run
   * when that has ended, unless the next one is due by then, which takes its place. `"skip"`: it is not
   * run. Default: `"wait"`.
   */
  readonly whenRunning?: "wait" | "skip" | undefined
  /**
   * When a process asks again after the store has failed by something that can pass (a `LockStoreError`
   * that is `transient`): for what is due by then. `Schedule.stop`: never. Default: for ever, after
   * pauses that grow from 100 ms to some 0.6 s.
   */
  readonly retry?: Schedule.Schedule<unknown, LockStoreError> | undefined
}

/**
 * What a run is for.
 *
 * @since 0.1.0
 * @category models
 */
export interface Tick {
  /** The time at which it was due. It can have been run later. */
  readonly scheduledAt: DateTime.Utc
  /** The lease of the run; its fencing token grows from tick to tick. */
  readonly lease: Lease
}
