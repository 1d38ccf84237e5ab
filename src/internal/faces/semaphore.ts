/** What is asked for of a semaphore, and what is given, on every face. */
import type {
  Lease,
  Options as LeaseOptions,
  WaitOptions as LeaseWaitOptions
} from "../../Lease.js"

/**
 * How many permits there are, and how many of them are asked for. An impossible option is a defect,
 * as with every lock.
 *
 * @since 0.1.0
 * @category models
 */
export interface Permits {
  /**
   * How many permits the key has: a whole number from 1 to 1,000,000. If a holder has another limit,
   * the smaller one counts, and a warning is logged, once for a key.
   */
  readonly limit: number
  /**
   * How many permits to take, all at once: a whole number from 1 to `limit`. Default: 1. With
   * `reentrant`, inside of other permits of the key, no more than these.
   */
  readonly permits?: number | undefined
}

/**
 * Options of every way to take permits; those of a lock, and `limit` and `permits`.
 *
 * @since 0.1.0
 * @category models
 */
export interface Options extends LeaseOptions, Permits {}

/**
 * Options of every way to take permits that can wait for them; those of a lock, and `limit` and `permits`.
 *
 * @since 0.1.0
 * @category models
 */
export interface WaitOptions extends LeaseWaitOptions, Permits {}

/**
 * The lease of some permits.
 *
 * @since 0.1.0
 * @category models
 */
export interface SemaphoreLease extends Lease {
  /** How many permits it has. */
  readonly permits: number

  /**
   * The smallest fencing token among the holders at the moment of the grant, its own included. Holders
   * with smaller and greater fencing tokens are right at the same time here, so a resource must not
   * refuse a token because it has seen a greater one. Let it remember the greatest `fencingFloor`
   * that it has seen, and refuse a `fencingToken` below that: whoever had it held nothing any more
   * when that floor was granted.
   */
  readonly fencingFloor: number
}
