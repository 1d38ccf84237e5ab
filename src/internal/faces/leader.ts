/** What candidates and observers say, and are told, on every face. */
import type * as DateTime from "effect/DateTime"
import type * as Schedule from "effect/Schedule"
import type { DurationInput, Options as LeaseOptions } from "../../Lease.js"
import type { LockStoreError } from "../../LockError.js"

/**
 * Options of a candidate: those of a lock, and what it does in an outage of the store. A candidate
 * waits for as long as it takes, whatever the store's defaults say, and that is not warned about.
 *
 * @since 0.1.0
 * @category models
 */
export interface Options extends Omit<LeaseOptions, "reentrant"> {
  /**
   * When a candidate tries again after the store has failed by something that can pass (a
   * `LockStoreError` that is `transient`). The schedule begins anew after each term. `Schedule.stop`:
   * never. Default: for ever, after pauses that grow from 100 ms to some 0.6 s.
   */
  readonly retry?: Schedule.Schedule<unknown, LockStoreError> | undefined
}

/**
 * Options of `changes`. An impossible option is a defect.
 *
 * @since 0.1.0
 * @category models
 */
export interface ChangesOptions {
  /** The time between two questions. Default: 1 second; at least 10 ms. */
  readonly every?: DurationInput | undefined
}

/**
 * A leader, as others see it.
 *
 * @since 0.1.0
 * @category models
 */
export interface LeaderInfo {
  /** The leader's `owner`; `undefined` if it has none (in memory there is no default). */
  readonly owner: string | undefined
  /** Its fencing token, as its own lease has it. A later leader has a greater one. */
  readonly term: number
  /**
   * When its term began: as long ago as the store says, on this process's clock. Observers whose clocks
   * differ are told differently.
   */
  readonly since: DateTime.Utc
  /**
   * A name of its process (of its store in it): after a restart it is another one, also on the same
   * host, with the same `owner`. `undefined` if the store does not tell it: those of this library do.
   */
  readonly incarnation: string | undefined
}
