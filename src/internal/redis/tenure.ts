import type { Claim, Contention, NotOurs, ScheduledCall } from "../engine.js"
import { validUntil } from "../common/timing.js"
import type { Call } from "./call.js"

/** How often the record of a lease that lasts is kept from expiring, in ms: it lives for a day. */
const recordEvery = 6 * 3_600_000

/** When a tenure is looked at next, because somebody waits for it. */
export interface Watch {
  /** When Redis is asked whether it is still there. */
  readonly askAt: number
  /** The same, or the end of its validity, whichever comes first. */
  readonly at: number
  readonly timer: ScheduledCall
}

/** The question whether a tenure may be passed on within this process, to a caller with that ttl. */
export class Pass {
  constructor(
    readonly call: Call,
    readonly ttlMillis: number
  ) {}
}

/** A share of a key, as long as one token of this process holds it, whoever of its callers has it. */
export class Tenure {
  /** The present holder. */
  holder: Turn | undefined = undefined
  validUntil: number
  /** The last of the fencing tokens that were reserved for it. */
  reservedUntil: number
  /** The one that stands in Redis, in the record or in the holder's entry. */
  entryToken: number
  /** The ttl that its last caller asked for. (That of a grant by handoff can be shorter.) */
  claimMillis: number
  /** The last one that was asked. */
  pass: Pass | undefined = undefined
  /** The last question whether it is still there. */
  check: Call | undefined = undefined
  watch: Watch | undefined = undefined
  reshared = false
  /** Of a claim with `maxHold`: until when renewals can reach. (Elsewhere it is no field.) */
  holdUntil?: number
  /** The last renewal that was sent for all who share it. */
  renewal: Call | undefined = undefined
  /** Those who share it with its holder. */
  private sharers: Set<Turn> | undefined = undefined
  /** Its last turn is given back: nobody joins any more. */
  private isLeft = false
  /** The longest ttl that is known to stand in the record: renewals must not have a longer one. */
  recordedMillis: number

  constructor(
    readonly token: string,
    /** How much of the key it is, and within which limit it was asked for. */
    public share: number,
    readonly limit: number,
    /** The last fencing token that was given out. */
    public fencingToken: number,
    /** The smallest fencing token among all holders, when that was last told. */
    public fencingFloor: number,
    /** When the command was sent that gave it its present ttl. */
    private provenAt: number,
    public ttlMillis: number,
    /** When it was last known that no other process waits. */
    public lookedAt: number,
    /** A command about this token that may still be on its way. */
    readonly pending: Call | undefined
  ) {
    this.recordedMillis = ttlMillis
    this.reservedUntil = fencingToken
    this.entryToken = fencingToken
    this.claimMillis = ttlMillis
    this.validUntil = validUntil(provenAt, ttlMillis)
  }

  /**
   * Whether it is what such a claim asks for. (What was made smaller is its holder's alone; and some want
   * a grant of their own.)
   */
  isFor({ direct, limit, share }: Claim): boolean {
    return share === this.share && limit === this.limit && !this.reshared && direct !== true
  }

  /** Until when it may be passed on without a question, as far as it was told. */
  runsUntil(localHandoffMillis: number): number {
    const isOver = this.fencingToken >= this.reservedUntil
    return isOver ? Number.NEGATIVE_INFINITY : this.lookedAt + localHandoffMillis
  }

  /** Whether it may be passed on to such a caller; a renewal must get through in what is left. */
  mayPassTo(claim: Claim, now: number, localHandoffMillis: number, slowestMillis: number): boolean {
    return (
      this.isFor(claim) &&
      now < this.runsUntil(localHandoffMillis) &&
      claim.ttlMillis === this.claimMillis &&
      this.validUntil - now >= Math.max(this.ttlMillis / 2, 2 * slowestMillis)
    )
  }

  /** Made smaller, as far as this process is concerned: renewals see to it that Redis knows. */
  reshare(share: number): void {
    this.share = share
    this.reshared = true
  }

  /**
   * The last command that was sent decides: of a lock, a later one can have made the ttl shorter. (Where
   * several can hold the key, none does that; and one of those who share it can have asked for more.)
   */
  prove(sentAt: number, ttlMillis: number): void {
    this.recordedMillis = Math.max(this.recordedMillis, ttlMillis)
    // (one that was acknowledged late is proven from earlier on than it was sent, and can be the last one)
    if (sentAt < this.provenAt && ttlMillis >= this.ttlMillis) return
    const until = validUntil(sentAt, ttlMillis)
    this.provenAt = sentAt
    this.validUntil = this.share < this.limit ? Math.max(this.validUntil, until) : until
    this.ttlMillis = ttlMillis
  }

  /**
   * What is left of `maxHold`, as was answered, counted from that moment. It never ends later than it was
   * known to: if an answer says so, the server's clock was set back.
   */
  mayBeHeld(from: number, holdMillis: number | undefined): void {
    if (holdMillis === undefined) return
    this.holdUntil = Math.min(this.holdUntil ?? Number.POSITIVE_INFINITY, from + holdMillis)
  }

  /**
   * Whether a renewal to that ttl must see to the record: it says less, or it would be gone a day after
   * the grant, and with it whose lease that is.
   */
  mustRecord(ttlMillis: number, now: number): boolean {
    return (
      ttlMillis > this.recordedMillis ||
      Math.floor(now / recordEvery) > Math.floor(this.provenAt / recordEvery)
    )
  }

  /**
   * Where several can hold the key, the numbers from the one that was granted to `last`. Where nobody else
   * can have had one since the last one of its own, those from there to the one that was granted: so many
   * at most. The first is given out.
   */
  reserve(granted: number, last: number | undefined, most: number): void {
    const first = last === undefined ? granted - most + 1 : granted
    this.fencingToken = Math.max(this.reservedUntil + 1, first)
    this.reservedUntil = Math.max(this.fencingToken, last ?? granted)
    this.entryToken = granted
  }

  /** Gives it to a caller. */
  turn(claim: Claim, contention: Contention | undefined, now: number): Turn {
    this.isLeft = false
    this.claimMillis = claim.ttlMillis
    return (this.holder = this.newTurn(claim, contention, now))
  }

  private newTurn(claim: Claim, contention: Contention | undefined, now: number): Turn {
    // no more than its own ttl, also where the key has a longer one: it is renewed in time for it
    const until = Math.min(this.validUntil, validUntil(now, claim.ttlMillis))
    const { fencingToken } = this
    // (who has all of the key is alone)
    const fencingFloor = this.share < this.limit ? this.fencingFloor : fencingToken
    return new Turn(this, claim, fencingToken, fencingFloor, until, now, contention)
  }

  // ---------------------------------------------------------------- readers that share it

  /**
   * Whether another caller can share it: somebody is in, it was known so shortly ago that no other
   * process waits, and there are fencing tokens and time enough.
   */
  isOpenFor(claim: Claim, now: number, localHandoffMillis: number): boolean {
    return (
      this.holder !== undefined &&
      !this.isLeft &&
      this.share < this.limit &&
      this.isFor(claim) &&
      now - this.lookedAt < localHandoffMillis &&
      this.fencingToken < this.reservedUntil &&
      this.validUntil - now >= this.ttlMillis / 2
    )
  }

  /** Gives another caller a turn of its own. */
  shareWith(claim: Claim, contention: Contention | undefined, now: number): Turn {
    this.fencingToken++
    const turn = this.newTurn(claim, contention, now)
    ;(this.sharers ??= new Set()).add(turn)
    return turn
  }

  /** A turn ends; answers whether others go on, so that there is nothing to give back. */
  leave(turn: Turn): boolean {
    const { holder, sharers } = this
    const shared = sharers?.delete(turn) === true
    const [next] = sharers ?? []
    if (turn === holder && next !== undefined) {
      sharers!.delete(next)
      this.holder = next
      return true
    }
    // (also of a tenure that has ended for the line: its turns may not know it yet)
    if (turn !== holder && (next !== undefined || (shared && holder !== undefined))) return true
    this.isLeft = true
    return false
  }

  get isShared(): boolean {
    return this.sharers !== undefined && this.sharers.size > 0
  }

  /** All who have a turn of it. */
  get turns(): ReadonlyArray<Turn> {
    const { holder, sharers } = this
    return holder === undefined ? [...(sharers ?? [])] : [holder, ...(sharers ?? [])]
  }

  /** Of those who share it. */
  get ttls(): { readonly longest: number; readonly shortest: number } {
    let [longest, shortest] = [0, Number.POSITIVE_INFINITY]
    for (const { claim } of this.turns) {
      longest = Math.max(longest, claim.ttlMillis)
      shortest = Math.min(shortest, claim.ttlMillis)
    }
    return { longest, shortest }
  }

  /** Until when it is proven for a caller with that ttl. */
  provenFor(ttlMillis: number): number {
    return Math.min(this.validUntil, validUntil(this.provenAt, ttlMillis))
  }
}

/** What one caller has of a tenure. */
export class Turn {
  /** Until when its holder knows that it is valid. */
  knownUntil: number
  lostBecause: NotOurs | undefined = undefined
  private onLost: ((reason: NotOurs) => void) | undefined = undefined

  constructor(
    readonly tenure: Tenure,
    readonly claim: Claim,
    readonly fencingToken: number,
    readonly fencingFloor: number,
    readonly validUntil: number,
    readonly grantedAt: number,
    readonly contention: Contention | undefined
  ) {
    this.knownUntil = validUntil
  }

  /** What it is for a caller here that has so many before it. */
  inTheWay(ahead: number, now: number, owner: string): Contention {
    return {
      ahead,
      retryAfterMillis: Math.max(0, Math.round(this.tenure.validUntil - now)),
      owner: this.claim.owner ?? owner,
      heldForMillis: Math.round(now - this.grantedAt),
      foreign: false
    }
  }

  /** Calls back when the store finds out that the lock is gone, or has found out. */
  whenLost(listener: (reason: NotOurs) => void): void {
    if (this.lostBecause === undefined) this.onLost = listener
    else listener(this.lostBecause)
  }

  lose(reason: NotOurs): void {
    this.lostBecause = reason
    this.onLost?.(reason)
  }
}
