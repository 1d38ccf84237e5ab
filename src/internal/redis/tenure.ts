import type { Claim, Contention } from "../engine.js"
import { validUntil } from "../common/timing.js"
import type { Call } from "./call.js"

/** The lock, as long as one token of this process holds it, whoever of its callers has it. */
export class Tenure {
  /** The present holder. */
  holder: Turn | undefined = undefined
  validUntil: number
  /** The last of the fencing tokens that were reserved for it. */
  reservedUntil: number
  /** The last question whether it may be passed on within this process. */
  pass: Call | undefined = undefined
  /** The last question whether it is still there. */
  check: Call | undefined = undefined

  constructor(
    readonly token: string,
    /** The last fencing token that was given out. */
    public fencingToken: number,
    /** When the command was sent that gave the key its present ttl. */
    private provenAt: number,
    public ttlMillis: number,
    /** When it was last known that no other process waits. */
    public lookedAt: number,
    /** A command about this token that may still be on its way. */
    readonly pending: Call | undefined,
    /** The longest ttl that is known to stand in the record: renewals must not have a longer one. */
    private recordedMillis = ttlMillis
  ) {
    this.reservedUntil = fencingToken
    this.validUntil = validUntil(provenAt, ttlMillis)
  }

  /** The last command that was sent decides: a later one can have made the ttl shorter. */
  prove(sentAt: number, ttlMillis: number): void {
    this.recordedMillis = Math.max(this.recordedMillis, ttlMillis)
    if (sentAt < this.provenAt) return
    this.provenAt = sentAt
    this.validUntil = validUntil(sentAt, ttlMillis)
    this.ttlMillis = ttlMillis
  }

  /** Whether a renewal to that ttl must look at what the record says. */
  mustRecord(ttlMillis: number): boolean {
    return ttlMillis > this.recordedMillis
  }

  /** Those between the last one that was known and this one: so many at most, and the first is given out. */
  reserve(last: number, most: number): void {
    this.fencingToken = Math.max(this.reservedUntil + 1, last - most + 1)
    this.reservedUntil = Math.max(this.fencingToken, last)
  }

  /** Gives it to a caller. */
  turn(claim: Claim, contention: Contention | undefined, now: number): Turn {
    // no more than its own ttl, also where the key has a longer one: it is renewed in time for it
    const until = Math.min(this.validUntil, validUntil(now, claim.ttlMillis))
    return (this.holder = new Turn(this, claim, this.fencingToken, until, now, contention))
  }
}

/** What one caller has of a tenure. */
export class Turn {
  private lostBecause: "Missing" | "Taken" | undefined = undefined
  private onLost: ((reason: "Missing" | "Taken") => void) | undefined = undefined

  constructor(
    readonly tenure: Tenure,
    readonly claim: Claim,
    readonly fencingToken: number,
    readonly validUntil: number,
    readonly grantedAt: number,
    readonly contention: Contention | undefined
  ) {}

  /** Calls back when the store finds out that the lock is gone, or has found out. */
  whenLost(listener: (reason: "Missing" | "Taken") => void): void {
    if (this.lostBecause === undefined) this.onLost = listener
    else listener(this.lostBecause)
  }

  lose(reason: "Missing" | "Taken"): void {
    this.lostBecause = reason
    this.onLost?.(reason)
  }
}
