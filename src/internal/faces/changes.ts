/** What has changed between two looks at the same keys. */
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import type { LockStoreError } from "../../LockError.js"
import { checkEvery, notADuration } from "../common/options.js"
import type { Change, Held, Snapshot, WatchOptions } from "./inspector.js"
import type { LockStore } from "./lockStore.js"
import { toMillis } from "./millis.js"
import { askFor, type Asking, isNothing, seeAll, type Seen, seen } from "./snapshots.js"

/** What it is the lease of: a token can have several, one after the other. */
export const nameOf = ({ fencingToken, id, incarnation }: Held): string =>
  `${id ?? incarnation ?? ""} ${fencingToken ?? ""}`

const holders = (snapshot: Snapshot | undefined): ReadonlyMap<string, Held> =>
  new Map(
    (snapshot?.held ?? []).flatMap((held) => (held.isLeft ? [] : [[nameOf(held), held] as const]))
  )

/** Whether its ttl, as it was then, was over by that time. */
const isOver = ({ ttlLeft }: Held, seenAt: DateTime.Utc, now: DateTime.Utc): boolean =>
  ttlLeft !== undefined &&
  DateTime.toEpochMillis(now) >= DateTime.toEpochMillis(DateTime.addDuration(seenAt, ttlLeft))

/** `before`: as it was at the last look; `undefined`: nobody had it or waited for it. */
export const changesOf = (
  before: Snapshot | undefined,
  { revoked, snapshot: now }: Seen,
  initial: boolean
): ReadonlyArray<Change> => {
  const { at, key } = now
  const kind = now.kind ?? before?.kind
  const changes: Array<Change> = []
  const [had, has] = [holders(before), holders(now)]
  const present = new Set(now.held.map(({ id }) => id))

  const endOf = (held: Held): "Released" | "Lost" | "Expired" => {
    if (held.fencingToken !== undefined && revoked.includes(held.fencingToken)) return "Lost"
    // (left to nobody until its time is over, or passed on within its process)
    if (held.id !== undefined && present.has(held.id)) return "Released"
    return isOver(held, before!.at, at) ? "Expired" : "Released"
  }
  for (const [name, held] of had) {
    if (!has.has(name)) changes.push({ _tag: endOf(held), key, kind, at, initial, held })
  }
  for (const [name, held] of has) {
    if (had.get(name)?.mode !== held.mode) {
      changes.push({ _tag: "Granted", key, kind, at, initial, held })
    }
  }

  const waited = new Set(before?.pending.map(({ id }) => id))
  for (const pending of knowsAll(now) ? goneFrom(before, now) : []) {
    changes.push({ _tag: "Left", key, kind, at, initial, pending })
  }
  for (const pending of now.pending) {
    const { id } = pending
    if (id === undefined || waited.has(id)) continue
    changes.push({ _tag: "Queued", key, kind, at, initial, pending })
  }
  return changes
}

/** Of holders that are not listed, nobody knows who of them has waited. */
const knowsAll = ({ held, heldCount }: Snapshot): boolean => held.length === heldCount

/** Who has waited, and is neither in the queue nor a holder that is listed. */
const goneFrom = (before: Snapshot | undefined, { held, pending }: Snapshot) => {
  const present = new Set([...held, ...pending].map(({ id }) => id))
  return (before?.pending ?? []).filter(({ id }) => id !== undefined && !present.has(id))
}

/** With those of whom it is not known yet whether they have left. */
const remembered = (before: Snapshot | undefined, now: Snapshot): Snapshot =>
  knowsAll(now) ? now : { ...now, pending: [...now.pending, ...goneFrom(before, now)] }

/** So many keys are looked at at once that are not listed any more. */
const together = 500

/** The next look, compared with the last one. Where it fails, that stays the last one. */
export const nextChanges = (
  asking: Asking,
  store: LockStore,
  prefix: string,
  known: Map<string, Snapshot>,
  initial: boolean
): Effect.Effect<ReadonlyArray<Change>, LockStoreError> =>
  Effect.gen(function* () {
    const ended = (key: string): ReadonlyArray<number> =>
      (known.get(key)?.held ?? []).flatMap(({ fencingToken }) => fencingToken ?? [])
    const found = [...(yield* Stream.runCollect(seen(asking, store, prefix, ended)))]
    const listed = new Set(found.map(({ snapshot }) => snapshot.key))
    const gone = [...known.keys()].filter((key) => !listed.has(key))
    for (let from = 0; from < gone.length; from += together) {
      found.push(...(yield* seeAll(asking, store, gone.slice(from, from + together), ended)))
    }
    return found.flatMap((one) => {
      const { key } = one.snapshot
      const changes = changesOf(known.get(key), one, initial)
      if (isNothing(one.snapshot)) known.delete(key)
      else known.set(key, remembered(known.get(key), one.snapshot))
      return changes
    })
  })

export const changesIn = (
  asking: Asking,
  store: LockStore,
  { every = "1 second", prefix = "" }: WatchOptions
): Stream.Stream<Change, LockStoreError> => {
  const millis = toMillis(every)
  const impossible = millis === undefined ? notADuration("every", every) : checkEvery(millis)
  const changes = Stream.suspend(() => {
    const known = new Map<string, Snapshot>()
    let initial = true
    const next = Effect.suspend(() => nextChanges(asking, store, prefix, known, initial)).pipe(
      Effect.tap(() =>
        Effect.sync(() => {
          initial = false
        })
      ),
      // what is not known is not told
      Effect.catchIf(
        ({ transient }) => transient,
        () => Effect.succeed([])
      )
    )
    return Stream.concat(
      Stream.fromEffect(next),
      Stream.forever(Stream.fromEffect(Effect.delay(next, Duration.millis(millis!))))
    ).pipe(Stream.flatMap(Stream.fromIterable))
  })
  return askFor(asking, store, prefix, impossible, changes)
}
