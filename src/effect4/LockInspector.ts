/**
 * Who holds a key, since when, and who waits for it, for Effect 4: see
 * `effect-redis-lock/LockInspector`. It asks the `LockStore` of the context, and changes nothing.
 *
 * @example
 * ```ts
 * import { Console, Effect, Stream } from "effect"
 * import { LockInspector, RedisLockStore } from "effect-redis-lock/effect4"
 *
 * const program = LockInspector.list({ prefix: "invoice:" }).pipe(
 *   Stream.runForEach(({ held, key, pendingCount }) =>
 *     Console.log(`${key}: ${held[0]?.owner ?? "nobody"} holds it, ${pendingCount} wait`)
 *   ),
 *   Effect.provide(RedisLockStore.layer({ url: "redis://127.0.0.1:6379" }))
 * )
 * ```
 *
 * @since 0.1.0
 */
import "../internal/with-effect-3-import/effect-redis-lock.js"
import type * as Effect from "effect/Effect"
import type * as Stream from "effect/Stream"
import { inspectKey, listKeys, watchKeys } from "../internal/face4/inspector.js"
import type { Change, ListOptions, Snapshot, WatchOptions } from "../internal/faces/inspector.js"
import type { LockStoreError } from "../LockError.js"
import type { LockStore } from "./LockStore.js"

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
} from "../internal/faces/inspector.js"

/**
 * Who holds that key, and who waits for it. Of a key that nobody holds or waits for, `kind` is `undefined`, and
 * nobody is listed. An impossible key is a defect.
 *
 * @since 0.1.0
 * @category looking
 */
export const inspect: (key: string) => Effect.Effect<Snapshot, LockStoreError, LockStore> =
  inspectKey

/**
 * All keys that begin with that, and that somebody holds or waits for: each once, in no order. A key
 * that is taken or given back meanwhile may be missing. An impossible prefix is a defect; a store that
 * cannot list its keys fails with `LockStoreError`.
 *
 * @since 0.1.0
 * @category looking
 */
export const list = (
  options: ListOptions = {}
): Stream.Stream<Snapshot, LockStoreError, LockStore> => listKeys(options)

/**
 * What changes, of the keys that begin with that. The first look tells all that is held, and all who wait, as
 * `Granted` and `Queued` with `initial`. Each look is a `list`, `every` so often (default: 1 second) after the
 * last one while the stream is read; what begins and ends between two looks is not told. While the store does
 * not answer, nothing is told. It fails with `LockStoreError` where asking again does not help.
 *
 * @since 0.1.0
 * @category looking
 */
export const watch = (
  options: WatchOptions = {}
): Stream.Stream<Change, LockStoreError, LockStore> => watchKeys(options)
