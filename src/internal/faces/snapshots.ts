/** What people see who inspect: keys, who has them, and who waits. */
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import type { LockStoreError } from "../../LockError.js"
import { checkPrefix } from "../common/options.js"
import { type Forget, notCapable, type Store, StoreFailure } from "../engine.js"
import { lockStoreError, publicLook } from "./answers.js"
import type { Held, ListOptions, Pending, Snapshot } from "./inspector.js"
import type { HeldEntry, Kind, LockStore, Look, PendingEntry } from "./lockStore.js"

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

const heldOf = (kind: Kind | undefined, at: DateTime.Utc, entry: HeldEntry): Held => ({
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

const pendingOf = (kind: Kind | undefined, at: DateTime.Utc, entry: PendingEntry): Pending => ({
  owner: entry.owner,
  ...portion(kind, entry),
  since: entry.waited && DateTime.subtractDuration(at, entry.waited),
  waited: entry.waited,
  incarnation: entry.incarnation,
  id: entry.id
})

export const snapshotOf = (key: string, look: Look, now: DateTime.Utc): Snapshot => {
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

// ---------------------------------------------------------------- all of them

/** How a face asks its stores. */
export interface Asking {
  /** Looks at all these keys at once; nothing of those that cannot be looked at for the moment. */
  readonly looks: (
    store: LockStore,
    keys: ReadonlyArray<string>,
    atMost: number,
    ended: (key: string) => ReadonlyArray<number>
  ) => Effect.Effect<ReadonlyArray<Look | undefined>, LockStoreError>
  readonly defect: (sentence: string) => Effect.Effect<never>
}

/** Asks a store of ours about all these keys, without an effect for each: that would take longer. */
export const lookAtAll =
  (
    store: Store,
    keys: ReadonlyArray<string>,
    atMost: number,
    ended: (key: string) => ReadonlyArray<number>
  ) =>
  (onExit: (found: ReadonlyArray<Look | undefined> | StoreFailure) => void): Forget => {
    const found: Array<Look | undefined> = []
    let left = keys.length
    if (left === 0) onExit(found)
    const forget = keys.map((key, index) =>
      store.look!(key, atMost, ended(key), (exit) => {
        const isFailure = exit instanceof StoreFailure
        if (isFailure && !exit.isPassing) return onExit(exit)
        found[index] = isFailure ? undefined : publicLook(exit)
        if (--left === 0) onExit(found)
      })
    )
    return () => forget.forEach((one) => one())
  }

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
  { looks }: Asking,
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
  asking: Asking,
  store: LockStore,
  prefix: string,
  ended: (key: string) => ReadonlyArray<number>
): Stream.Stream<Seen, LockStoreError> =>
  Stream.suspend(() => {
    const told = new Set<string>()
    return store.keys!(prefix).pipe(
      Stream.grouped(together),
      Stream.buffer({ capacity: 1 }),
      Stream.mapEffect((keys) => seeAll(asking, store, [...keys], ended)),
      Stream.flatMap(Stream.fromIterable),
      Stream.filter(({ snapshot }) => {
        if (isNothing(snapshot) || told.has(snapshot.key)) return false
        told.add(snapshot.key)
        return true
      })
    )
  })

/** Asks the store, if that can be asked of it: otherwise the stream fails, or dies. */
export const askFor = <A>(
  { defect }: Asking,
  store: LockStore,
  prefix: string,
  impossible: string | undefined,
  stream: Stream.Stream<A, LockStoreError>
): Stream.Stream<A, LockStoreError> => {
  const wrong = checkPrefix(prefix) ?? impossible
  if (wrong !== undefined) return Stream.fromEffect(defect(wrong))
  for (const member of ["keys", "look"] as const) {
    if (store.capabilities?.has(member) === true && store[member] !== undefined) continue
    return Stream.fail(lockStoreError(notCapable("keys", undefined, member)))
  }
  return stream
}

export const listOf = (
  asking: Asking,
  store: LockStore,
  { prefix = "" }: ListOptions
): Stream.Stream<Snapshot, LockStoreError> =>
  askFor(
    asking,
    store,
    prefix,
    undefined,
    seen(asking, store, prefix, () => []).pipe(
      Stream.map(({ snapshot }) => snapshot),
      Stream.filter((snapshot) => !isFree(snapshot))
    )
  )
