/**
 * What decides in the life of a lease: until when it is proven, when it is renewed, when it is given
 * up, what was lost and why, and what an answer to its release means.
 *
 * Its state is plain, and changed synchronously by whoever learns something: an answer, a timer, a
 * release. Deadlines never wait for an answer: a timer marks the loss and tells those who watch,
 * whatever is under way at that moment.
 *
 * | state    | `ended`      | what can follow                                                       |
 * | -------- | ------------ | --------------------------------------------------------------------- |
 * | held     | `undefined`  | lost, by an answer, by the store, or by the clock; released           |
 * | lost     | a loss       | given back all the same, since the store may still keep it            |
 * | released | `Released`   | the answer to the release: confirmed, or a loss that is found out now |
 */
import { Link } from "../common/fifo.js"
import { isolated } from "../common/isolated.js"
import { drift, retryDelay, sentAt } from "../common/timing.js"
import type {
  Forget,
  Grant,
  LockClock,
  LossReason,
  OwnershipExit,
  RenewExit,
  ScheduledCall
} from "../engine.js"
import { type Failure, type LeaseFace, Loss, type ReleaseExit, type Terms } from "./terms.js"

type OnRelease = (exit: ReleaseExit) => void

class Watcher extends Link {
  constructor(readonly callback: () => void) {
    super()
  }
}

export class LeaseCore {
  /** Why it is not held any more. */
  ended: LossReason | undefined = undefined
  /** What came of its release; `undefined` before there was an answer. */
  released: ReleaseExit | undefined = undefined
  /** Why the last renewal failed; `undefined` once one has been confirmed. */
  renewalFailure: Failure | undefined = undefined

  /** Until when it is proven to be held, and when it is given up without a new proof. */
  private validUntil = 0
  private giveUpAt = 0
  private readonly grantedAt: number
  private watchers: Link | undefined = undefined
  private nextRenewal: ScheduledCall | undefined = undefined
  private expiry: ScheduledCall | undefined = undefined
  private forgetRenewal: Forget | undefined = undefined
  /** Whether a release is under way, or over. */
  isReleasing = false
  /** Who else waits for its answer. */
  private others: Array<OnRelease> | undefined = undefined

  constructor(
    private readonly grant: Grant,
    private readonly clock: LockClock,
    private readonly terms: Terms,
    private readonly face: LeaseFace
  ) {
    this.grantedAt = clock.unsafeNow()
    this.prove(grant.validUntil, this.grantedAt)
  }

  // ---------------------------------------------------------------- what is known

  /** The first thing that a lease does whenever it runs again: compare clocks. */
  checkHeld(): boolean {
    if (this.ended === undefined && this.clock.unsafeNow() >= this.giveUpAt) this.onExpiry()
    return this.ended === undefined
  }

  /**
   * For how long it is proven to be held; 0, if it is not. A loss by the clock does not yet mean that
   * somebody else can have the key; giving it back does.
   */
  get provenMillis(): number {
    const { ended } = this
    if (ended !== undefined && ended !== "Unreachable" && ended !== "MaxHold") return 0
    if (this.isReleasing) return 0
    return Math.max(0, this.validUntil - this.clock.unsafeNow())
  }

  /** Calls back once, when the lease is lost or released; returns how not to be called. */
  onEnd(callback: () => void): Forget {
    const watcher = new Watcher(callback)
    watcher.standBefore((this.watchers ??= new Link()))
    return () => watcher.leave()
  }

  // ---------------------------------------------------------------- what ends it

  /** The rest of its construction: from here on it can be released, whatever fails. */
  begin(): void {
    this.grant.whenLost((reason) => this.lose(reason))
  }

  /** Ends it for those who use it. Giving it back is another step. */
  abandon(): void {
    if (this.ended === undefined) this.end("Released")
  }

  /**
   * Gives it back, once; a later call gets the same answer. `since`: when the close began that this
   * release belongs to.
   */
  release(since: number, onExit: OnRelease): void {
    if (this.released !== undefined) return onExit(this.released)
    if (this.isReleasing) return void (this.others ??= []).push(onExit)
    // "Released" without a release under way: it was abandoned
    const held = this.checkHeld() || this.ended === "Released"
    this.abandon()
    // whoever was told of the end just now may have asked for this, too
    if (this.isReleasing || this.released !== undefined) return this.release(since, onExit)
    this.isReleasing = true
    try {
      this.grant.release(since, (exit) => {
        this.released = held ? this.judge(exit) : new Loss(this.ended!, true, exit)
        isolated(onExit, this.released)
        if (this.others === undefined) return
        for (const tell of this.others) isolated(tell, this.released)
      })
    } catch (error) {
      // it has not begun: it can be tried again
      this.isReleasing = this.released !== undefined
      throw error
    }
  }

  get canHandOver(): boolean {
    return this.grant.handOver !== undefined
  }

  /**
   * Renews it, and ends it here without giving it back: whoever adopts it goes on. Calls back when it has
   * ended, for that reason or another; or with a failure, where it goes on. Meanwhile it counts as one that is
   * being released, and a release that is asked for waits.
   */
  handOver(onExit: (failure: Failure | undefined) => void): void {
    this.isReleasing = true
    try {
      this.grant.handOver!((exit) => {
        const { others } = this
        this.others = undefined
        this.isReleasing = false
        const failure = exit._tag === "Renewed" || exit._tag === "NotOurs" ? undefined : exit
        if (exit._tag === "NotOurs") this.lose(exit.reason)
        else if (failure === undefined && this.checkHeld()) {
          this.released = "Confirmed"
          this.abandon()
        }
        isolated(onExit, failure)
        for (const tell of others ?? []) this.release(this.clock.unsafeNow(), tell)
      })
    } catch (error) {
      this.isReleasing = false
      throw error
    }
  }

  /** Of a lease that was held, as far as we knew, when its release was sent. */
  private judge(exit: OwnershipExit): ReleaseExit {
    if (exit === "Ours") return "Confirmed"
    if (typeof exit !== "string") {
      this.face.releaseFailed()
      return exit
    }
    this.face.lost(exit)
    return new Loss(exit, false, exit)
  }

  private lose(reason: LossReason): void {
    if (this.ended !== undefined) return
    this.face.lost(reason)
    this.end(reason)
  }

  /** The end of the lease as far as its users are concerned; nothing is asked of the store here. */
  private end(reason: LossReason): void {
    const { watchers } = this
    this.ended = reason
    this.face.ending(this.clock.unsafeNow() - this.grantedAt)
    this.nextRenewal?.cancel()
    this.expiry?.cancel()
    this.forgetRenewal?.()
    if (watchers !== undefined) {
      while (watchers.stands) {
        const watcher = watchers.next as Watcher
        watcher.leave()
        isolated(watcher.callback, undefined)
      }
    }
    // only now: the face may log, in place
    this.face.hasEnded()
  }

  /**
   * The margin is for a proof of the full ttl. A shorter one (a handoff covers the claim window
   * only, a late answer what is left) has a margin in proportion.
   */
  private prove(until: number, now: number): void {
    const { marginMillis, ttlMillis } = this.terms
    const share = (until - now) / (ttlMillis - drift(ttlMillis))
    this.validUntil = until
    this.giveUpAt = until - marginMillis * Math.min(1, Math.max(0, share))
    if (this.terms.maxHoldMillis !== undefined) this.endAtMaxHold(this.terms.maxHoldMillis)
  }

  /** Nothing is proven beyond that, and the margin before it is not shorter than usual. */
  private endAtMaxHold(maxHoldMillis: number): void {
    const { marginMillis, ttlMillis } = this.terms
    const { holdUntil = this.grantedAt + maxHoldMillis } = this.grant
    const share = (holdUntil - this.grantedAt) / (ttlMillis - drift(ttlMillis))
    this.validUntil = Math.min(this.validUntil, holdUntil)
    this.giveUpAt = Math.min(
      this.giveUpAt,
      holdUntil - marginMillis * Math.min(1, Math.max(0, share))
    )
  }

  /** Whether a renewal proves no more: but for the drift, the proof reaches to `maxHold`. */
  private get isAtMaxHold(): boolean {
    const { maxHoldMillis, ttlMillis } = this.terms
    if (maxHoldMillis === undefined) return false
    const { holdUntil = this.grantedAt + maxHoldMillis } = this.grant
    return this.validUntil + drift(ttlMillis) >= holdUntil
  }

  /** By an answer, which can be older than what is known already. */
  private proveAlso(until: number): void {
    this.prove(Math.max(this.validUntil, until), this.clock.unsafeNow())
  }

  // ---------------------------------------------------------------- renewal

  /** Begins to renew it, in the turn of the event loop in which it was granted. */
  start(): void {
    if (this.ended === undefined) this.sleepUntilRenewal()
  }

  private sleepUntilRenewal(): void {
    const { renewEveryMillis, ttlMillis } = this.terms
    this.expiry?.cancel()
    this.expiry = undefined
    const now = this.clock.unsafeNow()
    const due = sentAt(this.validUntil, ttlMillis) + renewEveryMillis
    // a proof of less than the full ttl, or one that came late, is renewed early in what is left of it
    const soon = now + Math.min(renewEveryMillis, (this.giveUpAt - now) / 4)
    const at = due > now ? due : soon
    if (this.isAtMaxHold) this.expiry = this.clock.unsafeSchedule(this.giveUpAt, this.onExpiry)
    else this.nextRenewal = this.clock.unsafeSchedule(at, this.onDue)
  }

  private readonly onDue = (): void => {
    if (!this.checkHeld()) return
    // from here on the answer may stay away: the deadline does not wait for it
    this.expiry ??= this.clock.unsafeSchedule(this.giveUpAt, this.onExpiry)
    this.face.renewalDue()
  }

  private readonly onExpiry = (): void => this.lose(this.isAtMaxHold ? "MaxHold" : "Unreachable")

  /**
   * Renews it, as is due, and calls back when the answer has been judged: with a failure, where the
   * outcome is not known, and it will be tried again. If it ends meanwhile, that is all.
   */
  renew(onExit: (failure: Failure | undefined) => void): void {
    if (this.ended !== undefined) return onExit(undefined)
    let over = false
    const forget = this.grant.renew((exit) => {
      over = true
      this.forgetRenewal = undefined
      onExit(this.ended === undefined ? this.onRenewed(exit) : undefined)
    })
    if (over) return
    if (this.ended === undefined) this.forgetRenewal = forget
    else forget()
  }

  private onRenewed(exit: RenewExit): Failure | undefined {
    switch (exit._tag) {
      case "Renewed":
        this.renewalFailure = undefined
        this.proveAlso(exit.validUntil)
        if (this.checkHeld()) this.sleepUntilRenewal()
        return undefined
      case "NotOurs":
        this.lose(exit.reason)
        return undefined
      default: {
        this.renewalFailure = exit
        const again = this.clock.unsafeNow() + retryDelay(this.terms.ttlMillis)
        this.nextRenewal = this.clock.unsafeSchedule(again, this.onDue)
        return exit
      }
    }
  }

  get canReshare(): boolean {
    return this.grant.reshare !== undefined
  }

  /**
   * Makes its share smaller, and calls back when that was answered: with a failure, where the outcome is
   * not known, or it was refused. The answer is a proof, as that of a renewal is.
   */
  reshare(share: number, onExit: (failure: Failure | undefined) => void): void {
    this.grant.reshare!(share, (exit) => {
      if (exit._tag !== "Renewed" && exit._tag !== "NotOurs") return onExit(exit)
      if (exit._tag === "NotOurs") this.lose(exit.reason)
      if (this.ended === undefined && exit._tag === "Renewed") {
        this.proveAlso(exit.validUntil)
        // (a renewal without an answer may be under way)
        if (this.expiry !== undefined) {
          this.expiry.cancel()
          this.expiry = this.clock.unsafeSchedule(this.giveUpAt, this.onExpiry)
        }
      }
      onExit(undefined)
    })
  }

  /** Asks the store whether it is still held. Calls back with a failure, where that is not known. */
  verify(onExit: (failure: Failure | undefined) => void): Forget {
    return this.grant.verify((exit) => {
      if (typeof exit !== "string") return onExit(exit)
      if (exit !== "Ours") this.lose(exit)
      onExit(undefined)
    })
  }
}
