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
import "./internal/with-effect-4-import/effect-redis-lock/effect4.js"
import type * as Effect from "effect/Effect"
import type * as Stream from "effect/Stream"
import { inspectKey, listKeys, watchKeys } from "./internal/face/inspector.js"
import type { Change, ListOptions, Snapshot, WatchOptions } from "./internal/faces/inspector.js"
import type { LockStoreError } from "./LockError.js"
import type { LockStore } from "./LockStore.js"

// -----------------------------------------------------------------------------
// models
// -----------------------------------------------------------------------------

export type {
  Change,
  ChangeOf,
  Held,
  HeldChange,
  ListOptions,
  Mode,
  Pending,
  PendingChange,
  Snapshot,
  WatchOptions
} from "./internal/faces/inspector.js"

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
): Stream.Stream<Snapshot, LockStoreError, LockStore> => listKeys(options)

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
): Stream.Stream<Change, LockStoreError, LockStore> => watchKeys(options)
