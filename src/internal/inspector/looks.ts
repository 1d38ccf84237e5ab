/** Looks at all keys again and again while somebody watches, once for all who do. */
import * as Clock from "effect/Clock"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as PubSub from "effect/PubSub"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import type { LockStoreError } from "../../LockError.js"
import type { Change, Snapshot } from "../../LockInspector.js"
import { LockStore } from "../../LockStore.js"
import { asking } from "../face/inspector.js"
import { nextChanges } from "../faces/changes.js"
import type { Snapshot as Found } from "../faces/inspector.js"
import { askFor } from "../faces/snapshots.js"
import { History } from "./history.js"
import type { Terms } from "./terms.js"
import {
  type Details,
  type Event,
  type Holder,
  holderOf,
  type Listing,
  millisOf,
  type Renewals,
  renewalsOf,
  type Row,
  rowOf,
  type Update,
  waiterOf
} from "./wire.js"

/** So many keys that are gone are remembered for those who have not been told yet: the others are told all. */
const mostGone = 5_000

/** So many events, for the same. */
const mostEvents = 200

/** Also when a look takes long, something is said so often. */
const beatMillis = 5_000

/** As it was seen last, and in which look that was different from the one before. */
interface Known {
  readonly row: Row
  readonly waiters: string
  readonly version: number
  readonly renewals: ReadonlyMap<string, Renewals>
}

const tags = {
  Granted: "granted",
  Released: "released",
  Expired: "expired",
  Lost: "lost",
  Queued: "queued",
  Left: "left"
} as const

const eventOf = (change: Change): Event => ({
  at: millisOf(change.at),
  key: change.key,
  what: tags[change._tag],
  owner: ("held" in change ? change.held : change.pending).owner ?? null,
  foreign: "held" in change && change.held.foreign
})

const idOf = ({ fencingToken, id, isLeft, mode }: Snapshot["held"][number]): string =>
  `${id} ${fencingToken} ${mode} ${isLeft}`

const isSame = (before: Known | undefined, { renewals, row, waiters }: Omit<Known, "version">) =>
  before !== undefined &&
  before.waiters === waiters &&
  before.renewals.size === renewals.size &&
  [...renewals].every(([id, one]) => before.renewals.get(id) === one) &&
  (["kind", "lastTick", "inUse", "limit", "heldCount", "pendingCount"] as const).every(
    (field) => before.row[field] === row[field]
  )

/** What all looks so far add up to. */
class Knowledge {
  constructor(private readonly terms: Terms) {}

  private readonly snapshots = new Map<string, Found>()
  private readonly keys = new Map<string, Known>()
  /** By key, in which look that was. */
  private readonly gone = new Map<string, number>()
  private readonly events: Array<{ readonly version: number; readonly event: Event }> = []
  private readonly history = new History()
  private version = 0
  /** Who knows less than that is told all. */
  private toldFrom = 0
  /** What the store's clock, or this machine's while that is not known, is ahead of the monotonic one. */
  private ahead = 0
  private isStores = false
  // (these are of the monotonic clock: what is known of the store's can change)
  private trouble: NonNullable<Update["trouble"]> | undefined
  private lookedAt: number | null = null
  private watchedSince: number | null = null

  /** One look. */
  get look(): Effect.Effect<void, never, LockStore> {
    const { prefix } = this.terms
    const changes = Stream.unwrap(
      Effect.map(LockStore, (store) => {
        const next = Effect.suspend(() =>
          nextChanges(asking, store, prefix, this.snapshots, this.watchedSince === null)
        )
        return askFor(asking, store, prefix, undefined, Stream.fromEffect(next))
      })
    )
    return Effect.gen(this, function* () {
      const exit = yield* Effect.either(Stream.runHead(changes))
      const mono = yield* monotonic
      this.tick(mono, yield* Clock.currentTimeMillis)
      if (exit._tag === "Left") this.failed(exit.left, mono)
      else this.succeeded(Option.getOrThrow(exit.right), mono)
    })
  }

  private failed({ detail, transient }: LockStoreError, mono: number): void {
    this.trouble = { since: this.trouble?.since ?? mono, detail, isRefusal: !transient }
  }

  private succeeded(changes: ReadonlyArray<Change>, mono: number): void {
    this.version++
    const ats = [...this.snapshots.values(), ...changes].map(({ at }) => millisOf(at))
    const at = ats.reduce((a, b) => Math.max(a, b), -Infinity)
    if (at > -Infinity) {
      this.ahead = at - mono
      this.isStores = true
    }
    this.lookedAt = mono
    this.watchedSince ??= mono
    this.trouble = undefined
    for (const change of changes) {
      this.history.note(change)
      if (!change.initial) this.events.push({ version: this.version, event: eventOf(change) })
    }
    this.events.splice(0, this.events.length - mostEvents)
    if (this.isStores) this.history.forget(this.time(mono))
    for (const snapshot of this.snapshots.values()) this.see(snapshot)
    for (const key of this.keys.keys()) {
      if (this.snapshots.has(key)) continue
      this.keys.delete(key)
      this.gone.set(key, this.version)
    }
    for (const [key, version] of this.gone) {
      if (this.gone.size <= mostGone) break
      this.gone.delete(key)
      this.toldFrom = version
    }
  }

  private see(snapshot: Snapshot): void {
    const before = this.keys.get(snapshot.key)
    const renewals = new Map<string, Renewals>()
    for (const held of snapshot.held) {
      const id = idOf(held)
      renewals.set(id, renewalsOf(held, snapshot.at, before?.renewals.get(id)))
    }
    const [first] = snapshot.held
    const row = rowOf(
      snapshot,
      first && holderOf(first, renewals.get(idOf(first))!),
      this.terms.leaders
    )
    const waiters = snapshot.pending.map(({ id }) => id).join()
    const now = { row, waiters, renewals }
    if (!isSame(before, now)) this.keys.set(snapshot.key, { ...now, version: this.version })
    if (before === undefined) this.gone.delete(snapshot.key)
  }

  private tick(mono: number, wall: number): void {
    if (!this.isStores) this.ahead = wall - mono
  }

  /** Of a time of the monotonic clock, that of the store's. */
  private time(mono: number): number {
    return Math.round(mono + this.ahead)
  }

  private timeOrNull(mono: number | null): number | null {
    return mono === null ? null : this.time(mono)
  }

  /** What somebody is to be told who was told what was known in that look. */
  since(told: number, mono: number, wall: number): readonly [Update, number] {
    this.tick(mono, wall)
    const { trouble } = this
    const reset = told <= 0 || told < this.toldFrom
    const from = reset ? 0 : told
    const rows = [...this.keys.values()].flatMap(({ row, version }) => (version > from ? row : []))
    const gone = reset ? [] : [...this.gone].flatMap(([key, at]) => (at > from ? key : []))
    const events = this.events.flatMap(({ event, version }) => (version > from ? event : []))
    const update = {
      reset,
      now: this.time(mono),
      lookedAt: this.timeOrNull(this.lookedAt),
      rows,
      gone,
      events,
      trouble: trouble ? { ...trouble, since: this.time(trouble.since) } : null,
      watchedSince: this.timeOrNull(this.watchedSince),
      prefix: this.terms.prefix,
      everyMillis: this.terms.everyMillis,
      allowRelease: this.terms.allowRelease
    }
    return [update, this.version]
  }

  detailsOf(snapshot: Snapshot): Details {
    const { at, key, pending } = snapshot
    const { first: _, ...row } = rowOf(snapshot, undefined, this.terms.leaders)
    return {
      ...row,
      at: millisOf(at),
      held: this.holdersOf(snapshot),
      pending: pending.map(waiterOf),
      history: this.history.of(key),
      watchedSince: this.timeOrNull(this.watchedSince)
    }
  }

  listingOf(snapshots: ReadonlyArray<Snapshot>): typeof Listing.Type {
    const locks = snapshots.map((one) => rowOf(one, this.holdersOf(one)[0], this.terms.leaders))
    return { at: snapshots.reduce((most, { at }) => Math.max(most, millisOf(at)), 0), locks }
  }

  /** With what was seen of their renewals. */
  private holdersOf({ at, held, key }: Snapshot): ReadonlyArray<Holder> {
    const known = this.keys.get(key)?.renewals
    return held.map((one) => holderOf(one, renewalsOf(one, at, known?.get(idOf(one)))))
  }
}

const monotonic = Effect.map(Clock.currentTimeNanos, (nanos) => Number(nanos) / 1_000_000)

export interface Looks {
  /** What is known, and then what changes. Who does not take it in time gets it together. */
  readonly updates: Stream.Stream<Update>
  /** As they are shown, with what is known of renewals and of the past. */
  readonly detailsOf: (snapshot: Snapshot) => Details
  readonly listingOf: (snapshots: Iterable<Snapshot>) => typeof Listing.Type
}

export const makeLooks = (terms: Terms): Effect.Effect<Looks, never, LockStore | Scope.Scope> =>
  Effect.gen(function* () {
    const store = yield* LockStore
    const scope = yield* Effect.scope
    const seen = yield* PubSub.sliding<void>(1)
    // (a server that stops waits for whoever listens: without an end it would for ever)
    const ended = yield* Effect.acquireRelease(Deferred.make<void>(), (ended) =>
      Deferred.succeed(ended, undefined)
    )
    let knowledge = new Knowledge(terms)
    let [running, watching, leftAt] = [false, 0, 0]

    const look = Effect.suspend(() => knowledge.look).pipe(
      Effect.provideService(LockStore, store),
      Effect.catchAllDefect((defect) => Effect.logError("A look at the locks failed", defect)),
      Effect.zipRight(seen.publish()),
      Effect.zipRight(Effect.sleep(Duration.millis(terms.everyMillis)))
    )
    const isOver = Effect.map(monotonic, (mono) => {
      running = watching > 0 || mono - leftAt < terms.idleAfterMillis
      // (what was not watched is not known)
      if (!running) knowledge = new Knowledge(terms)
      return !running
    })
    const watch = Effect.repeat(Effect.zipRight(look, isOver), { until: (over) => over })
    const start = Effect.suspend(() => {
      if (running) return Effect.void
      running = true
      return Effect.forkIn(Effect.interruptible(watch), scope)
    })
    const come = Effect.zipRight(
      Effect.sync(() => void watching++),
      start
    )
    const leave = Effect.map(monotonic, (mono) => {
      watching--
      leftAt = mono
    })

    const updates = Stream.unwrapScoped(
      Effect.gen(function* () {
        const news = yield* PubSub.subscribe(seen)
        yield* Effect.acquireRelease(come, () => leave)
        let told = 0
        let of = knowledge
        const next = Effect.gen(function* () {
          const mono = yield* monotonic
          const wall = yield* Clock.currentTimeMillis
          if (of !== knowledge) told = 0
          of = knowledge
          const [update, version] = of.since(told, mono, wall)
          told = version
          return update
        })
        const beats = Effect.timeoutOption(news.take, Duration.millis(beatMillis))
        return Stream.concat(
          Stream.fromEffect(next),
          Stream.repeatEffect(Effect.zipRight(beats, next))
        )
      })
    ).pipe(Stream.interruptWhenDeferred(ended))
    if (terms.idleAfterMillis === Number.POSITIVE_INFINITY) yield* start
    return {
      updates,
      detailsOf: (snapshot) => knowledge.detailsOf(snapshot),
      listingOf: (snapshots) => knowledge.listingOf([...snapshots])
    }
  })
