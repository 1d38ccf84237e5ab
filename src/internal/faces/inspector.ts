/** What an inspector tells, for every face. */
import type * as DateTime from "effect/DateTime"
import type * as Duration from "effect/Duration"
import type { DurationInput } from "../../Lease.js"
import type { Kind } from "./claim.js"

/**
 * A key at one moment.
 *
 * @since 0.1.0
 * @category models
 */
export interface Snapshot {
  readonly key: string
  /** `undefined` if nobody holds the key, and nobody waits for it. */
  readonly kind: Kind | undefined
  /** That moment, by the clock of the store (in Redis: of the server). All ages here are counted to it. */
  readonly at: DateTime.Utc
  /** Of a semaphore: how many permits are in use. */
  readonly inUse: number | undefined
  /** Of a semaphore that somebody holds: the smallest of the limits of its holders. */
  readonly limit: number | undefined
  /** Who holds it, in the order of the grants: the first hundred. What has expired is not among them. */
  readonly held: ReadonlyArray<Held>
  /** How many hold it in all. */
  readonly heldCount: number
  /**
   * Who waits for it, in order: the first hundred. In Redis it is processes that wait: their callers stand in
   * line inside of them, and those that wait for a lease of their own process are not listed.
   */
  readonly pending: ReadonlyArray<Pending>
  /** How many wait in all. */
  readonly pendingCount: number
  /**
   * How many callers of the store that was asked, in this process, wait for it: listed or not. `undefined`
   * where the store does not tell it.
   */
  readonly waitingHere: number | undefined
  /**
   * Of a key that is locked for ticks, the last one that was granted: of a `CronJob` the time at which it was due,
   * in milliseconds since 1970. It is known for a day (or for `skipIfOlderThan`, if that is longer), also when
   * nobody holds the key.
   */
  readonly lastTick: number | undefined
}

/**
 * How much of a key somebody has, or asks for: all of it (a lock, a writer), so that nobody else can hold it at
 * the same time, or a part (a reader, some permits).
 *
 * @since 0.1.0
 * @category models
 */
export type Mode = "exclusive" | "shared"

/**
 * One who holds a key. Readers of one process can be one of them.
 *
 * @since 0.1.0
 * @category models
 */
export interface Held {
  /**
   * The option `owner` of the holder, or of its store: by default host name and process id. `undefined` if it
   * is not known.
   */
  readonly owner: string | undefined
  readonly mode: Mode
  /** Of a semaphore: how many permits it has, and the limit that it has asked for. */
  readonly permits: number | undefined
  readonly limit: number | undefined
  /**
   * The number for `Lock.forceRelease`. Where a process passes a lease on among its own callers, one of those
   * that it may give them: of a lock the last, of what several can hold the first. `undefined` for a program
   * that does not use this library, and if the record is gone.
   */
  readonly fencingToken: number | undefined
  /**
   * Since when: the grant, or, where a process passes a lock on among its own callers, the last time that it
   * has asked. A renewal does not change it.
   */
  readonly since: DateTime.Utc | undefined
  readonly heldFor: Duration.Duration | undefined
  /** What is left until it ends, unless it is renewed. `undefined`: it never ends by itself. */
  readonly ttlLeft: Duration.Duration | undefined
  /** Whether it is a program that does not use this library: of that, no more is known. */
  readonly foreign: boolean
  /** Whether the holder has given it back, and `holdAtLeast` keeps the key held, by nobody. */
  readonly isLeft: boolean
  /** A name of the store that holds it, and so of the process: after a restart it is another one. */
  readonly incarnation: string | undefined
  /** A name for it that stays the same, from when it is queued to its end. It does not tell the token. */
  readonly id: string | undefined
}

/**
 * One who waits for a key.
 *
 * @since 0.1.0
 * @category models
 */
export interface Pending {
  readonly owner: string | undefined
  readonly mode: Mode
  /** Of a semaphore: how many permits it asks for, and within which limit. */
  readonly permits: number | undefined
  readonly limit: number | undefined
  /** Since when it has had its place. */
  readonly since: DateTime.Utc | undefined
  readonly waited: Duration.Duration | undefined
  readonly incarnation: string | undefined
  readonly id: string | undefined
}

/**
 * Which keys `list` goes through.
 *
 * @since 0.1.0
 * @category models
 */
export interface ListOptions {
  /**
   * The keys that begin with that: characters as they are, and no pattern. It comes behind the store's own
   * prefix. Default: all keys.
   */
  readonly prefix?: string | undefined
}

/**
 * Which keys `watch` looks at, and how often.
 *
 * @since 0.1.0
 * @category models
 */
export interface WatchOptions extends ListOptions {
  /** How long to wait after a look before the next one. At least 10 ms. Default: 1 second. */
  readonly every?: DurationInput | undefined
}

/**
 * What has changed from one look to the next, of a holder or of one who waits. It is told from what both have
 * seen; what was between them is not known.
 *
 * @since 0.1.0
 * @category models
 */
export type Change = HeldChange | PendingChange

/**
 * - `Granted`: it holds the key, and did not at the last look. Also of a writer that has become a reader, with
 *   the same fencing token.
 * - `Released`: it does not hold the key any more, and its ttl cannot have ended. So it was given back, or
 *   passed on: within its process, or to another one (`handOver`). Somebody who deletes the key in the store
 *   looks the same.
 * - `Expired`: it does not hold the key any more, and what was left of its ttl at the last look has ended since.
 *   A holder that renewed its lease meanwhile, and then gave it back, looks the same; that does not happen
 *   where `every` is less than half of the ttl.
 * - `Lost`: it was ended by force (`Lock.forceRelease`).
 *
 * @since 0.1.0
 * @category models
 */
export interface HeldChange extends ChangeOf {
  readonly _tag: "Granted" | "Released" | "Expired" | "Lost"
  /** As it is, or as it was when it was last seen. */
  readonly held: Held
}

/**
 * - `Queued`: it waits for the key, and did not at the last look (or was not among the first hundred).
 * - `Left`: it does not wait any more, and does not hold the key. It has given up, was not heard of for a
 *   claim window, or had the key and gave it back between the two looks.
 *
 * @since 0.1.0
 * @category models
 */
export interface PendingChange extends ChangeOf {
  readonly _tag: "Queued" | "Left"
  readonly pending: Pending
}

/**
 * What changes have in common.
 *
 * @since 0.1.0
 * @category models
 */
export interface ChangeOf {
  readonly key: string
  readonly kind: Kind | undefined
  /** When it was seen, by the clock of the store. */
  readonly at: DateTime.Utc
  /** Whether it was so at the first look already: then it can be older than the stream. */
  readonly initial: boolean
}
