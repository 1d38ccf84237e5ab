/**
 * The store in memory. Whatever changes a key (a release, an expiry, a waiter that leaves) grants all
 * of the queue's beginning that fits, in one step, before anybody is told.
 */
import { Dictionary } from "../common/dictionary.js"
import {
  type Adopted,
  allCapabilities,
  type Kind,
  type LockClock,
  type NotOurs,
  type AcquireExit,
  type Claim,
  type Contention,
  countedFrom,
  type Forget,
  Granted,
  keyOfAnotherKind,
  lacking,
  type Look,
  Lost,
  notCapable,
  type Page,
  type Store,
  type StoreFailure,
  Unavailable,
  type OnAnswer
} from "../engine.js"
import { isolated } from "../common/isolated.js"
import { makeStoreId, makeToken } from "../common/token.js"
import {
  closed,
  type Entry,
  free,
  Holding,
  nobody,
  tellLimit,
  TimedEntry,
  Waiter
} from "./entry.js"
import { type Keeper, MemoryGrant } from "./grant.js"
import { Revoked } from "./revoked.js"
import { Ticks } from "./ticks.js"

const nothing = (): void => {}

export class MemoryStore implements Store, Keeper {
  readonly capabilities = allCapabilities
  private readonly entries = new Dictionary<TimedEntry>()
  private readonly ticks = new Ticks()
  private readonly revoked = new Revoked()
  private readonly id = makeStoreId()
  readonly identity = `this process's memory, ${this.id}`
  private lastFencingToken = 0
  private isClosed = false

  constructor(
    readonly clock: LockClock,
    private readonly wallMillis: () => number
  ) {}

  acquire(claim: Claim, onExit: (exit: AcquireExit) => void): () => void {
    const refusal = this.refusal(claim)
    if (refusal !== undefined) {
      onExit(refusal)
      return nothing
    }
    const { key, kind, waitMillis } = claim
    if (claim.adopt !== undefined) return this.adopt(claim, claim.adopt, onExit)
    const now = this.clock.unsafeNow()
    const lastTick = this.ticks.refusing(claim, now)
    if (lastTick !== undefined) {
      const contention = this.present(key, now)?.contention(now, undefined) ?? nobody
      onExit(new Unavailable(key, 0, contention, lastTick))
      return nothing
    }
    const entry = this.entry(key, kind, now)
    if (entry.kind !== kind) {
      onExit(keyOfAnotherKind(key, entry.kind, kind))
      return nothing
    }
    if (entry.waiters.size === 0 && entry.fits(claim)) {
      const grant = this.give(entry, claim, undefined)
      onExit(new Granted(grant))
      return () => grant.giveBack()
    }
    tellLimit(entry, claim)
    if (waitMillis === 0) {
      onExit(new Unavailable(key, 0, entry.contention(now, undefined)))
      return nothing
    }
    return this.wait(entry, claim, now, onExit)
  }

  look(key: string, atMost: number, ended: ReadonlyArray<number>, onExit: OnAnswer<Look>): Forget {
    const now = this.clock.unsafeNow()
    onExit({
      ...(this.present(key, now)?.look(now, atMost) ?? free),
      atMillis: Math.floor(this.wallMillis()),
      revoked: this.revoked.among(ended, now),
      lastTick: this.ticks.lastOf(key, now)
    })
    return nothing
  }

  keys(prefix: string, _: string | undefined, onExit: OnAnswer<Page>): Forget {
    const now = this.clock.unsafeNow()
    const keys = this.entries.values
      .map(({ key }) => key)
      .filter((key) => this.present(key, now) !== undefined)
      .concat(this.ticks.keys(now))
      .filter((key) => key.startsWith(prefix))
    onExit({ keys, next: undefined })
    return nothing
  }

  revoke(key: string, fencingToken: number, onExit: OnAnswer<boolean>): Forget {
    const entry = this.present(key, this.clock.unsafeNow())
    const holding = entry?.holders.all.find((one) => one.fencingToken === fencingToken)
    if (entry === undefined || holding === undefined) {
      onExit(false)
      return nothing
    }
    entry.delete(holding)
    this.revoked.add(fencingToken, this.clock.unsafeNow(), holding.claim.ttlMillis)
    holding.lost = "Revoked"
    if (holding.whenLost !== undefined) isolated(holding.whenLost, holding.lost)
    this.serve(entry)
    onExit(true)
    return nothing
  }

  /** (It ends with its process: it cannot come back without leases that it has forgotten.) */
  identify(onExit: OnAnswer<string>): Forget {
    onExit(this.identity)
    return nothing
  }

  close(onClosed: () => void): void {
    this.isClosed = true
    for (const entry of this.entries.values) {
      entry.timer?.cancel()
      for (const waiter of entry.waiters.drain()) waiter.settle(closed(entry.key))
    }
    onClosed()
  }

  // ---------------------------------------------------------------- for its grants

  /** Whether a grant is still held. */
  ownership({ key }: Entry, holding: Holding): "Ours" | NotOurs {
    const now = this.clock.unsafeNow()
    if (holding.stands && holding.rank > now && !holding.isLeft) return "Ours"
    if (holding.lost !== undefined) return holding.lost
    // of a semaphore there may be others as well as ours
    const isTaken = holding.claim.kind === "lock" && (this.present(key, now)?.inUse ?? 0) > 0
    return isTaken ? "Taken" : "Missing"
  }

  /** Ends a lease, and answers whose it was. */
  giveBack(entry: TimedEntry, holding: Holding): "Ours" | NotOurs {
    const found = this.ownership(entry, holding)
    entry.delete(holding)
    this.serve(entry)
    return found
  }

  /** Grants as much of the beginning of the queue as fits. */
  serve(entry: TimedEntry): void {
    let served: Array<Waiter> | undefined
    entry.deleteExpired(this.clock.unsafeNow())
    for (;;) {
      const { first } = entry.waiters
      if (first === undefined || !entry.fits(first.claim)) break
      entry.waiters.delete(first)
      first.grant = this.give(entry, first.claim, first.contention, first.token)
      ;(served ??= []).push(first)
    }
    const late = served === undefined ? undefined : this.tooLate(entry, served)
    this.watchExpiry(entry)
    this.forgetIfIdle(entry)
    if (served !== undefined) for (const waiter of served) waiter.settle(new Granted(waiter.grant!))
    if (late !== undefined) for (const [waiter, exit] of late) waiter.settle(exit)
  }

  /** Those who wait for a tick that is not later than what was granted now leave the queue. */
  private tooLate(
    entry: TimedEntry,
    served: ReadonlyArray<Waiter>
  ): ReadonlyArray<readonly [Waiter, Unavailable]> | undefined {
    if (served.every(({ claim }) => claim.tick === undefined)) return undefined
    const now = this.clock.unsafeNow()
    return entry.waiters.all.flatMap((waiter) => {
      const lastTick = this.ticks.refusing(waiter.claim, now)
      if (lastTick === undefined) return []
      const contention = entry.contention(now, entry.waiters.before(waiter))
      entry.waiters.delete(waiter)
      const waited = Math.round(now - waiter.askedAt)
      return [[waiter, new Unavailable(entry.key, waited, contention, lastTick)]]
    })
  }

  raise(holding: Holding, fencingToken: number): void {
    holding.fencingToken = Math.max(holding.fencingToken, fencingToken)
    this.lastFencingToken = Math.max(this.lastFencingToken, fencingToken)
  }

  /** Of a grant that did not come to its caller. */
  undoTick({ key }: Entry, token: string): void {
    this.ticks.undo(key, token)
  }

  // ---------------------------------------------------------------- inside

  private refusal(claim: Claim): StoreFailure | undefined {
    if (this.isClosed) return closed(claim.key)
    const needed = lacking(claim, allCapabilities)
    return needed === undefined ? undefined : notCapable("acquire", claim.key, needed)
  }

  /** The holder's place is another one's from here on: nobody is served in between. */
  private adopt(
    claim: Claim,
    { fencingToken, token }: Adopted,
    onExit: (exit: AcquireExit) => void
  ): () => void {
    const now = this.clock.unsafeNow()
    const entry = this.present(claim.key, now)
    const holding = entry?.holders.all.find((one) => one.token === token && !one.isLeft)
    if (entry === undefined || holding === undefined || entry.kind !== claim.kind) {
      const isMissing = entry === undefined || (entry.kind === claim.kind && entry.kind !== "lock")
      const found = isMissing ? "Missing" : "Taken"
      onExit(new Lost(claim.key, fencingToken, this.isOver(claim) ? "MaxHold" : found))
      return nothing
    }
    const { share } = holding
    entry.delete(holding)
    holding.isAdopted = true
    const { limit } = holding.claim
    const grant = this.give(entry, { ...claim, share, limit, ...holding.boundsAt(now) }, undefined)
    // (it can expire earlier than before)
    this.watchExpiry(entry)
    onExit(new Granted(grant))
    return () => grant.giveBack()
  }

  /** Of a lease that is not there any more: whether that has ended it, at the latest. */
  private isOver(claim: Claim): boolean {
    const { maxHoldMillis } = claim
    const grantedAt = Math.floor(countedFrom(claim)! / 1_000)
    return maxHoldMillis !== undefined && grantedAt + maxHoldMillis <= this.wallMillis()
  }

  private wait(
    entry: TimedEntry,
    claim: Claim,
    askedAt: number,
    onExit: (exit: AcquireExit) => void
  ): () => void {
    const { clock } = this
    const { key, waitMillis } = claim
    const contention = entry.contention(askedAt, entry.waiters.size)
    const waiter = new Waiter(makeToken(this.id), claim, askedAt, contention, onExit)
    entry.waiters.add(waiter)
    claim.whenWaiting?.(() => entry.contention(clock.unsafeNow(), entry.waiters.before(waiter)))
    // (also where a lease has just run out, and its timer not fired yet)
    this.serve(entry)
    if (waiter.stands && Number.isFinite(waitMillis)) {
      waiter.deadline = clock.unsafeSchedule(askedAt + waitMillis, () => {
        if (!waiter.stands) return
        const now = clock.unsafeNow()
        const contention = entry.contention(now, entry.waiters.before(waiter))
        entry.waiters.delete(waiter)
        waiter.settle(new Unavailable(key, Math.round(now - askedAt), contention))
        // those behind it may fit
        this.serve(entry)
      })
    }
    return () => {
      waiter.forget()
      if (entry.waiters.delete(waiter)) this.serve(entry)
      else waiter.grant?.giveBack()
    }
  }

  /** A key that nobody has, nor waits for, begins anew: as whatever kind. */
  protected entry(key: string, kind: Kind, now: number): TimedEntry {
    let entry = this.present(key, now)
    if (entry === undefined) this.entries.set(key, (entry = new TimedEntry(key, kind)))
    return entry
  }

  /** The key, if somebody has it or waits for it. */
  protected present(key: string, now: number): TimedEntry | undefined {
    const entry = this.entries.get(key)
    if (entry === undefined) return undefined
    entry.deleteExpired(now)
    this.forgetIfIdle(entry)
    return entry.isIdle ? undefined : entry
  }

  private give(
    entry: TimedEntry,
    claim: Claim,
    contention: Contention | undefined,
    token = makeToken(this.id)
  ): MemoryGrant {
    tellLimit(entry, claim)
    const holding = this.hold(entry, claim, token)
    const floor = entry.holders.first!.fencingToken
    const until = holding.provenAt(holding.since)
    return new MemoryGrant(this, entry, holding, floor, until, contention)
  }

  /** A lease begins. */
  protected hold(entry: TimedEntry, claim: Claim, token = makeToken(this.id)): Holding {
    const wallMicros = Math.floor(this.wallMillis() * 1_000)
    const fencingToken = (this.lastFencingToken = Math.max(this.lastFencingToken + 1, wallMicros))
    const holding = new Holding(token, fencingToken, claim, this.clock.unsafeNow())
    entry.add(holding)
    this.ticks.granted(claim, holding.token, holding.since)
    return holding
  }

  /** While somebody waits, the next expiry is an event. */
  private watchExpiry(entry: TimedEntry): void {
    const at = entry.waiters.size === 0 ? undefined : entry.nextExpiry
    // (a timer that is too early looks again: most leases are renewed or released, and not a timer's)
    if (at !== undefined && entry.timer !== undefined && entry.timerAt <= at) return
    entry.timer?.cancel()
    entry.timer = undefined
    if (at === undefined) return
    entry.timerAt = at
    entry.timer = this.clock.unsafeSchedule(at, () => {
      entry.timer = undefined
      this.serve(entry)
    })
  }

  private forgetIfIdle(entry: TimedEntry): void {
    if (!entry.isIdle) return
    entry.timer?.cancel()
    if (this.entries.get(entry.key) === entry) this.entries.delete(entry.key)
  }
}
