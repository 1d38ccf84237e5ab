/** What an inspector asks of the store of the context. */
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import type { LockStoreError } from "../../LockError.js"
import { LockStore } from "../../LockStore.js"
import { changesIn } from "../faces/changes.js"
import type { Change, ListOptions, Snapshot, WatchOptions } from "../faces/inspector.js"
import { type Asking, listed, listOf, snapshotOf } from "../faces/snapshots.js"
import { defect } from "./causes.js"
import { lookAt } from "./look.js"
import { looks } from "./publicStore.js"

export const asking: Asking = { looks, defect }

export const inspectKey = (key: string): Effect.Effect<Snapshot, LockStoreError, LockStore> =>
  Effect.zipWith(lookAt(key, listed), DateTime.now, (look, now) => snapshotOf(key, look, now))

export const listKeys = (
  options: ListOptions
): Stream.Stream<Snapshot, LockStoreError, LockStore> =>
  Stream.unwrap(Effect.map(LockStore, (store) => listOf(asking, store, options)))

export const watchKeys = (
  options: WatchOptions
): Stream.Stream<Change, LockStoreError, LockStore> =>
  Stream.unwrap(Effect.map(LockStore, (store) => changesIn(asking, store, options)))
