/**
 * What is sent to the page, and to other clients. Times are milliseconds since 1970 by the clock of the store;
 * `null` is what is not known.
 */
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Schema from "effect/Schema"
import type { Held, Pending, Snapshot } from "../../LockInspector.js"

const Name = Schema.NullOr(Schema.String)
const Time = Schema.NullOr(Schema.Number)
const Count = Schema.NullOr(Schema.Number)

const Kind = Schema.NullOr(Schema.Literal("lock", "semaphore", "readWriteLock"))
const Mode = Schema.Literal("exclusive", "shared")

/** What a lock is for. Of a leader the fencing token is its term. */
const Role = Schema.NullOr(Schema.Literal("leader", "job"))

export const Holder = Schema.Struct({
  id: Name,
  owner: Name,
  incarnation: Name,
  mode: Mode,
  permits: Count,
  limit: Count,
  fencingToken: Schema.NullOr(Schema.Number),
  since: Time,
  /** When it ends unless it is renewed. `null`: never. */
  endsAt: Time,
  /** The longest ttl that was seen of it, in milliseconds. */
  ttl: Schema.Number,
  /** When it was seen that it has been renewed. */
  renewedAt: Time,
  foreign: Schema.Boolean,
  isLeft: Schema.Boolean
}).annotations({ identifier: "Holder" })

export const Waiter = Schema.Struct({
  id: Name,
  owner: Name,
  incarnation: Name,
  mode: Mode,
  permits: Count,
  limit: Count,
  since: Time
}).annotations({ identifier: "Waiter" })

/** A key in a list: its first holder, and how many there are. */
export const Row = Schema.Struct({
  key: Schema.String,
  kind: Kind,
  role: Role,
  /** Of a job: the last time that it was due, and was run or is. */
  lastTick: Time,
  inUse: Count,
  limit: Count,
  first: Schema.NullOr(Holder),
  heldCount: Schema.Number,
  pendingCount: Schema.Number
}).annotations({ identifier: "LockRow" })

/** For how long one held a key, or waited for it. */
export const Stint = Schema.Struct({
  what: Schema.Literal("held", "waited"),
  owner: Name,
  incarnation: Name,
  mode: Mode,
  fencingToken: Schema.NullOr(Schema.Number),
  from: Schema.Number,
  /** `null`: it goes on. */
  to: Time,
  /** How it ended. */
  end: Schema.NullOr(
    Schema.Literal("released", "expired", "freed by force", "changed", "granted", "left")
  )
}).annotations({ identifier: "Stint" })

export const Details = Schema.Struct({
  key: Schema.String,
  kind: Kind,
  role: Role,
  lastTick: Time,
  at: Schema.Number,
  inUse: Count,
  limit: Count,
  /** The first hundred. */
  held: Schema.Array(Holder),
  heldCount: Schema.Number,
  /** The first hundred, in order. */
  pending: Schema.Array(Waiter),
  pendingCount: Schema.Number,
  /** Oldest first. */
  history: Schema.Array(Stint),
  /** Since when that history is known. `null`: nobody watches. */
  watchedSince: Time
}).annotations({ identifier: "LockDetails" })

export const Listing = Schema.Struct({
  at: Schema.Number,
  locks: Schema.Array(Row)
}).annotations({ identifier: "LockListing" })

export const Event = Schema.Struct({
  at: Schema.Number,
  key: Schema.String,
  what: Schema.Literal("granted", "released", "expired", "lost", "queued", "left"),
  owner: Name,
  foreign: Schema.Boolean
}).annotations({ identifier: "LockEvent" })

/** What was seen by a look: all of it, or what has changed since the last message. */
export const Update = Schema.Struct({
  /** Forget what was said before. */
  reset: Schema.Boolean,
  /** Now, and when the store was looked at for the last time with success. */
  now: Schema.Number,
  lookedAt: Time,
  rows: Schema.Array(Row),
  gone: Schema.Array(Schema.String),
  events: Schema.Array(Event),
  /** Since when the store does not answer, and what it is that it says; whether asking again is of no use. */
  trouble: Schema.NullOr(
    Schema.Struct({ since: Schema.Number, detail: Schema.String, isRefusal: Schema.Boolean })
  ),
  watchedSince: Time,
  prefix: Schema.String,
  everyMillis: Schema.Number,
  allowRelease: Schema.Boolean
}).annotations({ identifier: "LockUpdate" })

export const Release = Schema.Struct({
  key: Schema.String,
  /** Of the holder that is meant. */
  fencingToken: Schema.Int
}).annotations({ identifier: "ForceRelease" })

export const Released = Schema.Struct({
  /** Whether it held the key. If not, nothing was changed. */
  freed: Schema.Boolean
}).annotations({ identifier: "ForceReleased" })

export type Holder = typeof Holder.Type
export type Waiter = typeof Waiter.Type
export type Row = typeof Row.Type
export type Stint = typeof Stint.Type
export type Details = typeof Details.Type
export type Event = typeof Event.Type
export type Update = typeof Update.Type

// -----------------------------------------------------------------------------
// from snapshots
// -----------------------------------------------------------------------------

export const millisOf = (time: DateTime.Utc): number => DateTime.toEpochMillis(time)

const timeOf = (time: DateTime.Utc | undefined): number | null =>
  time === undefined ? null : millisOf(time)

/** What was seen of one holder's renewals. */
export interface Renewals {
  readonly ttl: number
  readonly endsAt: number | null
  readonly renewedAt: number | null
}

/**
 * Two looks at the same end of a ttl differ by less: the server can be stopped for a moment between its time and
 * what is left. (A renewal that moves the end by less is seen together with the next ones.)
 */
const sameEnd = (ttl: number): number => Math.max(20, ttl / 20)

export const renewalsOf = (
  { ttlLeft }: Held,
  at: DateTime.Utc,
  before: Renewals | undefined
): Renewals => {
  if (ttlLeft === undefined) return { ttl: 0, endsAt: null, renewedAt: null }
  const left = Math.round(Duration.toMillis(ttlLeft))
  const endsAt = millisOf(at) + left
  const last = before?.endsAt ?? null
  // (the same end of the same ttl, so that nothing has changed)
  if (before !== undefined && last !== null && Math.abs(endsAt - last) < sameEnd(before.ttl)) {
    return before
  }
  const renewed = last !== null && endsAt > last
  return {
    ttl: Math.max(left, before?.ttl ?? 0),
    endsAt,
    renewedAt: renewed ? millisOf(at) : (before?.renewedAt ?? null)
  }
}

export const holderOf = (held: Held, { endsAt, renewedAt, ttl }: Renewals): Holder => ({
  id: held.id ?? null,
  owner: held.owner ?? null,
  incarnation: held.incarnation ?? null,
  mode: held.mode,
  permits: held.permits ?? null,
  limit: held.limit ?? null,
  fencingToken: held.fencingToken ?? null,
  since: timeOf(held.since),
  endsAt,
  ttl,
  renewedAt,
  foreign: held.foreign,
  isLeft: held.isLeft
})

export const waiterOf = (pending: Pending): Waiter => ({
  id: pending.id ?? null,
  owner: pending.owner ?? null,
  incarnation: pending.incarnation ?? null,
  mode: pending.mode,
  permits: pending.permits ?? null,
  limit: pending.limit ?? null,
  since: timeOf(pending.since)
})

/** `leaders`: what the keys of leaders begin with. */
const roleOf = ({ key, lastTick }: Snapshot, leaders: ReadonlyArray<string>): Row["role"] =>
  lastTick !== undefined
    ? "job"
    : leaders.some((leader) => key.startsWith(leader))
      ? "leader"
      : null

export const rowOf = (
  snapshot: Snapshot,
  first: Holder | undefined,
  leaders: ReadonlyArray<string>
): Row => ({
  key: snapshot.key,
  kind: snapshot.kind ?? null,
  role: roleOf(snapshot, leaders),
  lastTick: snapshot.lastTick ?? null,
  inUse: snapshot.inUse ?? null,
  limit: snapshot.limit ?? null,
  first: first ?? null,
  heldCount: snapshot.heldCount,
  pendingCount: snapshot.pendingCount
})
