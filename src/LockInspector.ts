/**
 * Who holds a key, since when, and who waits for it: for people who operate what locks, and for what
 * they are shown. It asks the `LockStore` of the context, changes nothing, and can be used by any process
 * that reaches the same store, whether it locks anything or not.
 *
 * @example
 * ```ts
 * import { Console, Effect, Stream } from "effect"
 * import { LockInspector, RedisLockStore } from "effect-redis-lock"
 *
 * const program = LockInspector.list({ prefix: "invoice:" }).pipe(
 *   Stream.runForEach(({ held, key, pendingCount }) =>
 *     Console.log(`${key}: ${held[0]?.owner ?? "nobody"} holds it, ${pendingCount} wait`)
 *   ),
 *   Effect.provide(RedisLockStore.layer({ url: "redis://127.0.0.1:6379" }))
 * )
 * ```
 *
 * What is told was so when the store looked, and can have changed since. To decide what a holder may do,
 * use its lease. No token is ever shown. Names of keys and owners are given as they are: a program that
 * prints them makes sure that they contain nothing that its terminal obeys.
 *
 * @since 0.1.0
 */
import type * as DateTime from "effect/DateTime"
import type * as Duration from "effect/Duration"
import type * as Effect from "effect/Effect"
import type * as Stream from "effect/Stream"
import { watchKeys } from "./internal/face/changes.js"
import { inspectKey, listKeys } from "./internal/face/snapshots.js"
import type { LockStoreError } from "./LockError.js"
import type { Kind, LockStore } from "./LockStore.js"

// -----------------------------------------------------------------------------
// models
// -----------------------------------------------------------------------------

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
 * @since 0.1.0
 * @category models
 */
export interface WatchOptions extends ListOptions {
  /** How long to wait after a look before the next one. At least 10 ms. Default: 1 second. */
  readonly every?: Duration.DurationInput | undefined
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

// -----------------------------------------------------------------------------
// looking
// -----------------------------------------------------------------------------

/**
 * Who holds that key, and who waits for it. Of a key that nobody holds or waits for, `kind` is `undefined`, and
 * nobody is listed. An impossible key is a defect.
 *
 * @example
 * ```ts
 * import { Console, Duration, Effect } from "effect"
 * import { LockInspector } from "effect-redis-lock"
 *
 * const whoHasIt = Effect.gen(function* () {
 *   const { held, pending } = yield* LockInspector.inspect("invoice:42")
 *   for (const { heldFor, owner } of held) {
 *     yield* Console.log(`held by ${owner}, for ${heldFor && Duration.format(heldFor)}`)
 *   }
 *   for (const { owner } of pending) yield* Console.log(`${owner} waits`)
 * })
 * ```
 *
 * @since 0.1.0
 * @category looking
 */
export const inspect: (key: string) => Effect.Effect<Snapshot, LockStoreError, LockStore> =
  inspectKey

/**
 * All keys that begin with that, and that somebody holds or waits for: each once, in no order.
 *
 * In Redis it goes through the names of all keys of the database (of each master of a Cluster), some 500 in a
 * call, and looks at those that can be locks: 500 at once, in one round trip. It is not one moment that is seen:
 * a key that is taken or given back meanwhile may be missing. Where the store has no prefix, every string in the
 * database is a lock of a program that does not use this library: that is how they are listed.
 *
 * An impossible prefix is a defect. A store that cannot list its keys fails with `LockStoreError`.
 *
 * @since 0.1.0
 * @category looking
 */
export const list = (
  options: ListOptions = {}
): Stream.Stream<Snapshot, LockStoreError, LockStore> => listKeys(options.prefix ?? "")

/**
 * What changes, of the keys that begin with that. The first look tells all that is held, and all who wait, as
 * `Granted` and `Queued` with `initial`: so what is known of the keys is what the changes add up to.
 *
 * Each look is a `list`, and nothing else is sent: the store is asked when the stream is run, and then, while it
 * is read, `every` so often after the last look. For those who do not read it, nothing is asked. What
 * begins and ends between two looks is not told. While the store does not answer, nothing is told; what has
 * changed meanwhile is told afterwards. It fails with `LockStoreError` where asking again does not help.
 *
 * @example
 * ```ts
 * import { Console, DateTime, Stream } from "effect"
 * import { LockInspector } from "effect-redis-lock"
 *
 * const log = LockInspector.watch({ prefix: "invoice:", every: "2 seconds" }).pipe(
 *   Stream.filter(({ initial }) => !initial),
 *   Stream.runForEach((change) => {
 *     const { owner } = "held" in change ? change.held : change.pending
 *     return Console.log(DateTime.formatIso(change.at), change._tag, change.key, owner)
 *   })
 * )
 * ```
 *
 * @since 0.1.0
 * @category looking
 */
export const watch = (
  options: WatchOptions = {}
): Stream.Stream<Change, LockStoreError, LockStore> =>
  watchKeys(options.prefix ?? "", options.every ?? "1 second")
