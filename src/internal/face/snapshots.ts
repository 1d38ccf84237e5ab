/** What people see who inspect: keys, who has them, and who waits. */
import * as Cause from "effect/Cause"
import * as Chunk from "effect/Chunk"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import type { LockStoreError } from "../../LockError.js"
import {
  type HeldEntry,
  type Kind,
  LockStore,
  type Look,
  type PendingEntry
} from "../../LockStore.js"
import { notCapable } from "../engine.js"
import { checkPrefix } from "../common/options.js"
import { lockStoreError } from "./answers.js"
import { lookAt } from "./look.js"
import { looks } from "./publicStore.js"

/** So many holders, and so many who wait, are listed of each key. */
export const listed = 100

/** So many keys are looked at at once. */
const together = 500

// ---------------------------------------------------------------- as they are shown

/** How much of the capacity: that is a number of permits, or says who can be beside it. */
const portion = (
  kind: Kind | undefined,
  { limit, share }: Pick<PendingEntry, "share" | "limit">
) => ({
  mode: share === limit ? ("exclusive" as const) : ("shared" as const),
  permits: kind === "semaphore" ? share : undefined,
  limit: kind === "semaphore" ? limit : undefined
})

const heldOf = (kind: Kind | undefined, at: DateTime.Utc, entry: HeldEntry) => ({
  owner: entry.owner,
  ...portion(kind, entry),
  fencingToken: entry.fencingToken,
  since: entry.heldFor && DateTime.subtractDuration(at, entry.heldFor),
  heldFor: entry.heldFor,
  ttlLeft: entry.ttlLeft,
  foreign: entry.foreign,
  isLeft: entry.isLeft === true,
  incarnation: entry.incarnation,
  id: entry.id
})

const pendingOf = (kind: Kind | undefined, at: DateTime.Utc, entry: PendingEntry) => ({
  owner: entry.owner,
  ...portion(kind, entry),
  since: entry.waited && DateTime.subtractDuration(at, entry.waited),
  waited: entry.waited,
  incarnation: entry.incarnation,
  id: entry.id
})

export const snapshotOf = (key: string, look: Look, now: DateTime.Utc) => {
  const { at = now, kind } = look
  return {
    key,
    kind,
    at,
    inUse: kind === "semaphore" ? look.inUse : undefined,
    limit: kind === "semaphore" ? look.limit : undefined,
    held: look.held.map((entry) => heldOf(kind, at, entry)),
    heldCount: look.heldCount,
    pending: look.pending.map((entry) => pendingOf(kind, at, entry)),
    pendingCount: look.pendingCount,
    waitingHere: look.waitingHere,
    lastTick: look.lastTick
  }
}

export type Held = ReturnType<typeof heldOf>
export type Pending = ReturnType<typeof pendingOf>
export type Snapshot = ReturnType<typeof snapshotOf>

// ---------------------------------------------------------------- one key

export const inspectKey = (key: string): Effect.Effect<Snapshot, LockStoreError, LockStore> =>
  Effect.zipWith(lookAt(key, listed), DateTime.now, (look, now) => snapshotOf(key, look, now))

// ---------------------------------------------------------------- all of them

/** A key that somebody has, or waits for, and what was found out about fencing tokens of it. */
export interface Seen {
  readonly snapshot: Snapshot
  readonly revoked: ReadonlyArray<number>
}

/**
 * Looks at those keys, as far as that can be done for the moment; `ended`: of which fencing tokens to say
 * whether they were revoked.
 */
export const seeAll = (
  store: LockStore,
  keys: ReadonlyArray<string>,
  ended: (key: string) => ReadonlyArray<number>
): Effect.Effect<ReadonlyArray<Seen>, LockStoreError> =>
  Effect.zipWith(looks(store, keys, listed, ended), DateTime.now, (found, now) =>
    found.flatMap((look, index) =>
      look === undefined
        ? []
        : { snapshot: snapshotOf(keys[index]!, look, now), revoked: look.revoked ?? [] }
    )
  )

export const isFree = ({ heldCount, pendingCount }: Snapshot): boolean =>
  heldCount === 0 && pendingCount === 0

/** Whether there is nothing to tell of it. */
export const isNothing = (snapshot: Snapshot): boolean =>
  isFree(snapshot) && snapshot.lastTick === undefined

/**
 * Each key that begins with that once, if somebody has it or waits for it, or its last tick is known. While some
 * keys are looked at, the next ones are asked for.
 */
export const seen = (
  store: LockStore,
  prefix: string,
  ended: (key: string) => ReadonlyArray<number>
): Stream.Stream<Seen, LockStoreError> =>
  Stream.suspend(() => {
    const told = new Set<string>()
    return store.keys!(prefix).pipe(
      Stream.rechunk(together),
      Stream.bufferChunks({ capacity: 1 }),
      Stream.mapChunksEffect((keys) =>
        Effect.map(seeAll(store, Chunk.toReadonlyArray(keys), ended), (found) =>
          Chunk.unsafeFromArray(
            found.filter(({ snapshot }) => {
              if (isNothing(snapshot) || told.has(snapshot.key)) return false
              told.add(snapshot.key)
              return true
            })
          )
        )
      )
    )
  })

/** The store, if that can be asked of it: otherwise the stream fails, or dies. */
export const withStore = <A>(
  prefix: string,
  impossible: string | undefined,
  ask: (store: LockStore) => Stream.Stream<A, LockStoreError>
): Stream.Stream<A, LockStoreError, LockStore> =>
  Stream.unwrap(
    Effect.map(LockStore, (store): Stream.Stream<A, LockStoreError> => {
      const wrong = checkPrefix(prefix) ?? impossible
      if (wrong !== undefined) return Stream.die(new Cause.IllegalArgumentException(wrong))
      for (const member of ["keys", "look"] as const) {
        if (store.capabilities?.has(member) === true && store[member] !== undefined) continue
        return Stream.fail(lockStoreError(notCapable("keys", undefined, member)))
      }
      return ask(store)
    })
  )

export const listKeys = (prefix: string): Stream.Stream<Snapshot, LockStoreError, LockStore> =>
  withStore(prefix, undefined, (store) =>
    seen(store, prefix, () => []).pipe(
      Stream.map(({ snapshot }) => snapshot),
      Stream.filter((snapshot) => !isFree(snapshot))
    )
  )
