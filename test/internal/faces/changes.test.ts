/** What is told of two looks at a key: the definitions of `LockInspector.Change`, case by case. */
import { describe, expect, it } from "@effect/vitest"
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import { changesOf } from "../../../src/internal/faces/changes.js"
import type { Held, Pending, Snapshot } from "../../../src/internal/faces/inspector.js"

const heldBy = (id: string, more: Partial<Held> = {}): Held => ({
  owner: id,
  mode: "exclusive",
  permits: undefined,
  limit: undefined,
  fencingToken: 1,
  since: undefined,
  heldFor: undefined,
  ttlLeft: Duration.millis(5_000),
  foreign: false,
  isLeft: false,
  incarnation: undefined,
  id,
  ...more
})

const waiting = (id: string | undefined): Pending => ({
  owner: id,
  mode: "exclusive",
  permits: undefined,
  limit: undefined,
  since: undefined,
  waited: undefined,
  incarnation: undefined,
  id
})

interface Seen {
  readonly at?: number
  readonly held?: ReadonlyArray<Held>
  readonly heldCount?: number
  readonly pending?: ReadonlyArray<Pending>
  readonly pendingCount?: number
}

const snapshot = ({ at = 0, held = [], pending = [], ...counts }: Seen): Snapshot => ({
  key: "key",
  kind: "lock",
  at: DateTime.unsafeMake(at),
  inUse: undefined,
  limit: undefined,
  held: [...held],
  heldCount: held.length,
  pending: [...pending],
  pendingCount: pending.length,
  waitingHere: undefined,
  lastTick: undefined,
  ...counts
})

/** What is told, as `tag owner`. */
const told = (before: Seen | undefined, now: Seen, revoked: ReadonlyArray<number> = []) =>
  changesOf(before && snapshot(before), { snapshot: snapshot(now), revoked }, false).map(
    (change) => `${change._tag} ${("held" in change ? change.held : change.pending).owner}`
  )

const a = heldBy("a")

describe("a holder that is gone", () => {
  it("was released, if its ttl cannot have ended since", () => {
    expect(told({ held: [a] }, { at: 4_999 })).toEqual(["Released a"])
    const forever = heldBy("a", { ttlLeft: undefined })
    expect(told({ held: [forever] }, { at: 1e9 })).toEqual(["Released a"])
  })

  it("has expired, if its ttl has ended since, by the clock of the store", () => {
    expect(told({ held: [a] }, { at: 5_000 })).toEqual(["Expired a"])
    expect(told({ at: 10_000, held: [a] }, { at: 14_999 })).toEqual(["Released a"])
  })

  it("is lost, if the store says that it was revoked", () => {
    expect(told({ held: [a] }, { at: 1 }, [1])).toEqual(["Lost a"])
    expect(told({ held: [a] }, { at: 9_000 }, [1])).toEqual(["Lost a"])
    expect(told({ held: [a] }, { at: 1 }, [2])).toEqual(["Released a"])
  })

  it("was released, if its token is still there: passed on in its process, or left", () => {
    const next = heldBy("a", { fencingToken: 2 })
    expect(told({ held: [a] }, { at: 9_000, held: [next] })).toEqual(["Released a", "Granted a"])
    const left = heldBy("a", { isLeft: true })
    expect(told({ held: [a] }, { at: 9_000, held: [left] })).toEqual(["Released a"])
    expect(told({ held: [left] }, { at: 9_000 })).toEqual([])
    expect(told(undefined, { held: [left] })).toEqual([])
  })

  it("of another program, and one without a record, is told from the next one by its token", () => {
    const foreign = { foreign: true, fencingToken: undefined }
    const [one, next] = [heldBy("one", foreign), heldBy("next", foreign)]
    expect(told({ held: [one] }, { held: [one] })).toEqual([])
    expect(told({ held: [one] }, { held: [next] })).toEqual(["Released one", "Granted next"])
  })
})

describe("a holder that is there", () => {
  it("is told once, and again if it has become a reader", () => {
    expect(told(undefined, { held: [a] })).toEqual(["Granted a"])
    expect(told({ held: [a] }, { held: [heldBy("a", { ttlLeft: Duration.zero })] })).toEqual([])
    const reader = heldBy("a", { mode: "shared" })
    expect(told({ held: [a] }, { held: [reader] })).toEqual(["Granted a"])
    expect(told({ held: [reader] }, { held: [reader] })).toEqual([])
  })
})

describe("one who waits", () => {
  it("is queued, and leaves, unless it holds the key", () => {
    const b = waiting("b")
    expect(told({ held: [a] }, { held: [a], pending: [b] })).toEqual(["Queued b"])
    expect(told({ held: [a], pending: [b] }, { held: [a], pending: [b] })).toEqual([])
    expect(told({ held: [a], pending: [b] }, { held: [a] })).toEqual(["Left b"])
    const granted = { held: [heldBy("b", { fencingToken: 2 })] }
    expect(told({ held: [a], pending: [b] }, granted)).toEqual(["Released a", "Granted b"])
  })

  it("is not said to have left where it may be a holder that is not listed", () => {
    const b = waiting("b")
    expect(told({ pending: [b] }, { held: [a], heldCount: 2 })).toEqual(["Granted a"])
  })

  it("is not told without a name", () => {
    expect(told({}, { pending: [waiting(undefined)] })).toEqual([])
    expect(told({ pending: [waiting(undefined)] }, {})).toEqual([])
  })
})
