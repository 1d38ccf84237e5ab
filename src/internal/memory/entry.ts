/**
 * A key that is held or waited for: its holders, and its queue. A lock, a semaphore and both sides of a
 * read-write lock are the same arithmetic here: shares of a capacity.
 */
import {
  type AcquireExit,
  type Claim,
  type Contention,
  type Grant,
  type Kind,
  type Look,
  type NotOurs,
  type ScheduledCall,
  StoreFailure
} from "../engine.js"
import { Fifo, Link } from "../common/fifo.js"
import { isolated } from "../common/isolated.js"
import { idOf, incarnationOf } from "../common/token.js"
import { validUntil } from "../common/timing.js"
import { Heap, type Ranked } from "./heap.js"

/** What is seen of one key; the store says when, and what of others. */
type KeyLook = Omit<Look, "atMillis" | "revoked" | "lastTick">

/** A holder. Its rank is when it expires. */
export class Holding extends Link implements Ranked {
  slot = 0
  rank: number
  share: number
  /** Its limit, among those of the others. */
  readonly limit: Ranked
  /** Another process goes on with it. */
  isAdopted = false
  /** Its holder has left it: nobody has it, until it expires. */
  isLeft?: boolean
  /** Who freed the key by force has said so here. */
  lost: NotOurs | undefined = undefined
  whenLost: ((reason: NotOurs) => void) | undefined = undefined

  constructor(
    readonly token: string,
    public fencingToken: number,
    readonly claim: Claim,
    readonly since: number
  ) {
    super()
    this.rank = this.expiryAt(since)
    this.share = claim.share
    this.limit = { rank: claim.limit, slot: 0 }
  }

  /** What is left of it; `undefined` if it does not expire. */
  left(now: number): number | undefined {
    return this.rank === Number.POSITIVE_INFINITY ? undefined : Math.round(this.rank - now)
  }

  /** Until when renewals can reach; `undefined`: as far as one likes. */
  get holdUntil(): number | undefined {
    const { maxHoldMillis } = this.claim
    return maxHoldMillis === undefined ? undefined : this.since + maxHoldMillis
  }

  /** Until when it is held, also if it is given back before that. */
  get leastUntil(): number {
    return this.since + (this.claim.holdAtLeastMillis ?? 0)
  }

  /** What is left of the bounds of its claim, for whoever goes on with it. */
  boundsAt(now: number): Pick<Claim, "maxHoldMillis" | "holdAtLeastMillis"> {
    const { holdUntil, leastUntil } = this
    return {
      maxHoldMillis: holdUntil && holdUntil - now,
      holdAtLeastMillis: leastUntil > now ? leastUntil - now : undefined
    }
  }

  /** When it expires, renewed then. */
  expiryAt(now: number): number {
    const expiry = Math.max(now + this.claim.ttlMillis, this.leastUntil)
    return Math.min(expiry, this.holdUntil ?? Number.POSITIVE_INFINITY)
  }

  /** Until when that proves it: no longer than for a ttl, so that it is renewed as any other. */
  provenAt(now: number): number {
    return validUntil(now, Math.min(this.rank - now, this.claim.ttlMillis))
  }
}

/** A grant that can be given back by those who made it, before anybody has used it. */
export interface Returnable extends Grant {
  giveBack(): "Ours" | NotOurs
}

/** A claim that waits. */
export class Waiter extends Link {
  /** What it is told, or has been told. */
  grant: Returnable | undefined = undefined
  deadline: { readonly cancel: () => void } | undefined = undefined

  constructor(
    /** What it is granted with. */
    readonly token: string,
    readonly claim: Claim,
    readonly askedAt: number,
    readonly contention: Contention,
    private onExit: ((exit: AcquireExit) => void) | undefined
  ) {
    super()
  }

  settle(exit: AcquireExit): void {
    const { onExit } = this
    this.forget()
    if (onExit !== undefined) isolated(onExit, exit)
  }

  /** Nobody wants to be told any more. */
  forget(): void {
    this.onExit = undefined
    this.deadline?.cancel()
  }
}

export class Entry {
  /** In the order of their grants, so that the first one's fencing token is the smallest. */
  readonly holders = new Fifo<Holding>()
  readonly waiters = new Fifo<Waiter>()
  inUse = 0
  private readonly expiries = new Heap<Holding>()
  private readonly limits = new Heap<Ranked>()

  constructor(
    readonly key: string,
    readonly kind: Kind
  ) {}

  get isIdle(): boolean {
    return this.holders.size === 0 && this.waiters.size === 0
  }

  /** What nobody who holds it has been promised to be exceeded. */
  get leastLimit(): number | undefined {
    return this.limits.first?.rank
  }

  /** `undefined` if nothing of it ever expires. */
  get nextExpiry(): number | undefined {
    const at = this.expiries.first?.rank
    return at === Number.POSITIVE_INFINITY ? undefined : at
  }

  fits({ limit, share }: Claim): boolean {
    return this.inUse + share <= Math.min(limit, this.leastLimit ?? limit)
  }

  add(holding: Holding): void {
    this.inUse += holding.share
    this.holders.add(holding)
    this.expiries.add(holding)
    this.limits.add(holding.limit)
  }

  delete(holding: Holding): void {
    if (!this.holders.delete(holding)) return
    this.inUse -= holding.share
    this.expiries.delete(holding)
    this.limits.delete(holding.limit)
  }

  renew(holding: Holding, expiresAt: number): void {
    this.expiries.update(holding, expiresAt)
  }

  reshare(holding: Holding, share: number): void {
    this.inUse += share - holding.share
    holding.share = share
  }

  deleteExpired(now: number): void {
    for (;;) {
      const first = this.expiries.first
      if (first === undefined || first.rank > now) return
      this.delete(first)
    }
  }

  /** The holder that expires first is the one in the way: what it has is the first to become free. */
  contention(now: number, ahead: number | undefined): Contention {
    const holding = this.expiries.first
    return {
      owner: holding?.claim.owner,
      heldForMillis: holding && Math.round(now - holding.since),
      foreign: false,
      retryAfterMillis: holding === undefined ? 0 : holding.left(now),
      ahead
    }
  }

  look(now: number, atMost: number): KeyLook {
    return {
      kind: this.kind,
      limit: this.leastLimit,
      inUse: this.inUse,
      held: this.holders.upTo(atMost).map((holding) => ({
        owner: holding.claim.owner,
        heldForMillis: Math.round(now - holding.since),
        foreign: false,
        share: holding.share,
        limit: holding.claim.limit,
        fencingToken: holding.fencingToken,
        incarnation: incarnationOf(holding.token),
        isLeft: holding.isLeft === true,
        ttlLeftMillis: holding.left(now),
        id: idOf(holding.token)
      })),
      pending: this.waiters.upTo(atMost).map(({ askedAt, claim, token }) => ({
        owner: claim.owner,
        share: claim.share,
        limit: claim.limit,
        waitedMillis: Math.round(now - askedAt),
        incarnation: incarnationOf(token),
        id: idOf(token)
      })),
      heldCount: this.holders.size,
      pendingCount: this.waiters.size,
      waitingHere: this.waiters.size
    }
  }
}

/** A key, and the timer for its next expiry. */
export class TimedEntry extends Entry {
  timer: ScheduledCall | undefined = undefined
  timerAt = 0
}
/** Before the claim's own limit is one of them. */
export const tellLimit = ({ leastLimit }: Entry, claim: Claim): void => {
  if (leastLimit !== undefined && leastLimit !== claim.limit) claim.whenLimitDiffers?.(leastLimit)
}

/** Of a key that nobody has, nor waits for. */
export const free: KeyLook = {
  kind: undefined,
  limit: undefined,
  inUse: 0,
  held: [],
  pending: [],
  heldCount: 0,
  pendingCount: 0,
  waitingHere: 0
}

export const nobody: Contention = {
  owner: undefined,
  heldForMillis: undefined,
  foreign: false,
  retryAfterMillis: 0,
  ahead: undefined
}

export const closed = (key: string): StoreFailure =>
  new StoreFailure("acquire", key, "The store has been closed.", false)
