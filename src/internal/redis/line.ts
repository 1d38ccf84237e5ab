/**
 * One key, as one process sees it: the callers that want it stand in a line here, and the line has
 * at most one place in the queue in Redis, and one tenure of the lock, at a time.
 *
 * Everything here is synchronous, between answers, messages and timers, and every event ends in
 * `update`, which sees to it that nothing is left without a next step.
 */
import {
  type Claim,
  type Contention,
  type ScheduledCall,
  type StoreFailure,
  Unavailable
} from "../engine.js"
import { Fifo } from "../common/fifo.js"
import { validUntil } from "../common/timing.js"
import { readOwnership } from "./answers.js"
import type { Call, Outcome } from "./call.js"
import { storeError, tooLate } from "./errors.js"
import type { LockKeys } from "./layout.js"
import { Place, type PlaceEvents } from "./place.js"
import * as scripts from "./scripts.js"
import type { Surroundings } from "./surroundings.js"
import { Tenure, Turn } from "./tenure.js"
import { contentionOf, type Waiter } from "./waiter.js"

/**
 * How many fencing tokens a process gives out at most until it asks again. They are the microseconds
 * before the answer: so many also say how far a token can be behind the server's time at that moment.
 */
const fencingBlock = 256

/** When a tenure is looked at next, because somebody waits for it. */
interface Watch {
  readonly tenure: Tenure
  /** When Redis is asked whether it is still there. */
  readonly askAt: number
  /** The same, or the end of its validity, whichever comes first. */
  readonly at: number
  readonly timer: ScheduledCall
}

export class Line implements PlaceEvents {
  private readonly waiters = new Fifo<Waiter>()
  /** Listeners that are called as soon as it is known who has the key. */
  private unanswered: Array<Waiter> = []
  private tenure: Tenure | undefined = undefined
  private place: Place | undefined = undefined
  /** Whether the last place had to wait in the queue: so does the next one, perhaps. */
  contended = false
  private tenureWatch: Watch | undefined = undefined

  constructor(
    readonly key: string,
    readonly keys: LockKeys,
    private readonly around: Surroundings,
    /** Called when there is nobody here, and nothing held. */
    private readonly onIdle: () => void
  ) {}

  private get now(): number {
    return this.around.commands.clock.unsafeNow()
  }

  has(tenure: Tenure): boolean {
    return this.tenure === tenure
  }

  /** A message says that this token was granted; answers whether it is one of this process. */
  onGrant(token: string, fencingToken: number, ttlMillis: number): boolean {
    if (this.place?.token !== token) return this.tenure?.token === token
    this.place.onMessage(fencingToken, ttlMillis)
    return true
  }

  /** Messages may have been missed. */
  ask(): void {
    this.place?.wake()
  }

  /** Whether a caller of this process has the lock. */
  get isHeld(): boolean {
    return this.tenure?.holder !== undefined
  }

  /**
   * After every event: sees to it that callers that wait have a place, or a tenure that is watched.
   */
  private update(): void {
    const { place, tenure } = this
    const head = this.waiters.first
    if (head === undefined) {
      this.unanswered = []
      if (place !== undefined) {
        this.place = undefined
        place.withdraw()
      }
      if (tenure === undefined) {
        this.tenureWatch?.timer.cancel()
        this.tenureWatch = undefined
        this.onIdle()
      }
    } else if (place !== undefined) {
      place.reshape(head.claim)
    } else if (tenure !== undefined) {
      this.watchTenure(tenure)
    } else {
      this.place = new Place(this.around, this.keys, head.claim, this, this.contended)
    }
  }

  // ---------------------------------------------------------------- callers

  join(waiter: Waiter): void {
    const { clock } = this.around.commands
    waiter.cameAfter = this.waiters.size
    if (this.isAnswered) this.waits(waiter)
    else this.unanswered.push(waiter)
    this.waiters.add(waiter)
    if (waiter.claim.waitMillis !== Number.POSITIVE_INFINITY) {
      waiter.deadline = clock.unsafeSchedule(waiter.askedAt + waiter.claim.waitMillis, () =>
        this.giveUp(waiter)
      )
    }
    this.update()
  }

  /** The caller has gone: interrupted before, or while, its turn came. */
  leave(waiter: Waiter): void {
    waiter.deadline?.cancel()
    this.waiters.delete(waiter)
    if (waiter.exit instanceof Turn) this.leaveTurn(waiter.exit)
    else this.update()
  }

  /** The caller has gone when its turn had come. */
  leaveTurn(turn: Turn): void {
    this.giveBack(turn.tenure)
    this.update()
  }

  /** The store is closed: nobody is served any more. */
  close(error: StoreFailure): void {
    const { tenure } = this
    // it may be kept for one of them
    if (tenure?.pass !== undefined && tenure.holder === undefined) {
      const { pass, token, ttlMillis } = tenure
      this.around.commands.giveBack(pass, this.keys, token, ttlMillis)
    }
    for (const waiter of this.waiters.drain()) waiter.settle(error)
    this.update()
  }

  private giveUp(waiter: Waiter): void {
    if (!waiter.stands) return
    if (!this.isAnswered) {
      waiter.overdue = true
      this.unanswered.push(waiter)
      return
    }
    const contention = this.contention(this.waiters.before(waiter))
    this.waiters.delete(waiter)
    waiter.settle(new Unavailable(this.key, Math.round(this.now - waiter.askedAt), contention))
    this.update()
  }

  /** Whether it is known who has the key. */
  private get isAnswered(): boolean {
    return this.tenure !== undefined || this.place?.busy !== undefined
  }

  private answer(): void {
    const { unanswered } = this
    this.unanswered = []
    for (const waiter of unanswered) {
      if (!waiter.stands) continue
      this.waits(waiter)
      if (waiter.overdue) this.giveUp(waiter)
    }
  }

  /** It is known that the caller has to wait, and for whom. */
  private waits(waiter: Waiter): void {
    if (waiter.contention !== undefined) return
    waiter.contention = this.contention(waiter.cameAfter)
    waiter.claim.whenWaiting?.(() => this.contention(this.waiters.before(waiter)))
  }

  /** What is in the way of a caller that has so many of this process before it. */
  private contention(aheadHere: number): Contention {
    const { now, place, tenure } = this
    if (tenure?.holder === undefined) {
      const { busy } = place ?? {}
      return contentionOf(busy, aheadHere, busy === undefined ? 0 : now - busy.at)
    }
    const { claim, grantedAt } = tenure.holder
    return {
      ahead: aheadHere,
      retryAfterMillis: Math.max(0, Math.round(tenure.validUntil - now)),
      owner: claim.owner ?? this.around.owner,
      heldForMillis: Math.round(now - grantedAt),
      foreign: false
    }
  }

  // ---------------------------------------------------------------- what becomes of the place

  first(): Claim | undefined {
    return this.waiters.first?.claim
  }

  onBusy(place: Place): void {
    this.around.messages.foreign(this.keys[0], this.key, place.busy)
    this.answer()
  }

  onGone(place: Place, askedAt: number): void {
    const { now } = this
    const head = this.waiters.first
    this.dropPlace(place)
    // its grant was over before the question came
    if (head !== undefined && now >= validUntil(askedAt, head.claim.ttlMillis)) {
      this.cameTooLate(head, now - askedAt)
    }
    this.update()
  }

  /**
   * Once queued, it is tried again: the process may have been stopped. But a ttl that is shorter than the
   * way to Redis and back is so each time.
   */
  private cameTooLate(head: Waiter, tookMillis: number, atOnce = false): void {
    if (++head.late < 3 && !atOnce) return
    this.waiters.delete(head)
    head.settle(tooLate(head.claim, tookMillis))
  }

  onUnanswered(place: Place, outcome: Outcome): number {
    const { now } = this
    const given: Array<Waiter> = []
    let next = Number.POSITIVE_INFINITY
    for (const waiter of this.waiters.all) {
      const until = place.patientUntil(waiter.claim)
      // (timers may come a little early)
      if (now + 10 >= until) given.push(waiter)
      else next = Math.min(next, until)
    }
    if (given.length === 0) return next
    for (const waiter of given) this.waiters.delete(waiter)
    // whoever hears of it runs in place
    this.update()
    const error = storeError(this.around.commands, "acquire", this.key, outcome)
    for (const waiter of given) waiter.settle(error)
    return next
  }

  onFailed(place: Place, outcome: Outcome): void {
    this.dropPlace(place)
    this.close(storeError(this.around.commands, "acquire", this.key, outcome))
  }

  onGranted(place: Place, fencingToken: number, sentAt: number, ttlMillis: number): void {
    const { commands } = this.around
    const { now } = this
    const head = this.waiters.first
    const pending = place.call.settled === undefined ? place.call : undefined
    this.contended = pending !== undefined || place.busy !== undefined
    let loser: Turn | undefined
    this.dropPlace(place)
    if (head === undefined || now >= validUntil(sentAt, ttlMillis)) {
      commands.giveBack(pending, this.keys, place.token, ttlMillis)
      if (head !== undefined) this.cameTooLate(head, now - sentAt, place.busy === undefined)
    } else {
      // a grant by handoff can overtake the answer that says what was in the way
      if (pending !== undefined) head.contention ??= this.contention(0)
      loser = this.begin(new Tenure(place.token, fencingToken, sentAt, ttlMillis, now, pending))
      this.giveTo(head)
      this.answer()
    }
    this.update()
    loser?.lose("Taken")
  }

  private dropPlace(place: Place): void {
    if (this.place === place) this.place = undefined
  }

  // ---------------------------------------------------------------- tenures

  /** A lock that was taken without standing in line. */
  adopt(tenure: Tenure, claim: Claim): Turn {
    const loser = this.begin(tenure)
    const turn = tenure.turn(claim, undefined, this.now)
    this.update()
    loser?.lose("Taken")
    return turn
  }

  /**
   * Another token of this process was granted: an earlier one, if any, has lost the lock. Answers who
   * is to be told, once everything else is in order: a listener runs in place.
   */
  private begin(tenure: Tenure): Turn | undefined {
    const loser = this.tenure?.holder
    this.tenure = tenure
    return loser
  }

  private giveTo(waiter: Waiter): void {
    this.waiters.delete(waiter)
    waiter.settle(this.tenure!.turn(waiter.claim, waiter.contention, this.now))
  }

  /** Passes the lease on within this process, if there is somebody, and it is still time. */
  passOn(tenure: Tenure): boolean {
    const { now } = this
    const head = this.waiters.first
    if (
      head === undefined ||
      this.tenure !== tenure ||
      now - tenure.lookedAt >= this.around.localHandoffMillis ||
      tenure.fencingToken >= tenure.reservedUntil ||
      head.claim.ttlMillis !== tenure.ttlMillis ||
      tenure.validUntil - now < tenure.ttlMillis / 2
    ) {
      return false
    }
    tenure.fencingToken++
    this.giveTo(head)
    this.update()
    return true
  }

  /** Asks Redis to keep the lease for the next caller here, unless another process waits. */
  askToPass(tenure: Tenure): { readonly call: Call; readonly ttlMillis: number } | undefined {
    const head = this.waiters.first
    const { commands, localHandoffMillis, owner } = this.around
    if (head === undefined || this.tenure !== tenure || localHandoffMillis === 0) return undefined
    const { claim } = head
    tenure.holder = undefined
    const call = commands.call(scripts.pass, this.keys, [
      tenure.token,
      String(claim.ttlMillis),
      claim.owner ?? owner,
      String(tenure.reservedUntil)
    ])
    tenure.pass = call
    return { call, ttlMillis: claim.ttlMillis }
  }

  /** Redis has kept the lease for this process, and fencing tokens up to this one. */
  kept(tenure: Tenure, lastFencingToken: number, call: Call, ttlMillis: number): void {
    const { now } = this
    const head = this.waiters.first
    tenure.prove(call.sentAt, ttlMillis)
    tenure.reserve(lastFencingToken, fencingBlock)
    // from its answer on: a run is a run also where the network takes longer than it
    tenure.lookedAt = now
    if (head !== undefined && this.tenure === tenure && now < tenure.validUntil) {
      this.giveTo(head)
    } else {
      this.giveBack(tenure)
    }
    this.update()
  }

  /** The lock is given back to Redis, by a release that is on its way. */
  ended(tenure: Tenure): void {
    tenure.holder = undefined
    if (this.tenure !== tenure) return
    this.tenure = undefined
    this.update()
  }

  /** The store has found out that the lock is gone. */
  lost(tenure: Tenure, reason: "Missing" | "Taken"): void {
    const { holder } = tenure
    this.ended(tenure)
    holder?.lose(reason)
  }

  /** For a turn whose caller has gone. */
  private giveBack(tenure: Tenure): void {
    if (this.passOn(tenure)) return
    const { pending, token, ttlMillis } = tenure
    this.around.commands.giveBack(pending, this.keys, token, ttlMillis)
    this.ended(tenure)
  }

  /**
   * While somebody waits here for a lease of this process, Redis is asked at every heartbeat whether
   * it is still there: a holder that has lost it must not keep the line from moving. Nor must one
   * whose validity is over: that is for the holder to know; the line goes on.
   */
  private watchTenure(tenure: Tenure): void {
    const { tenureWatch: watch } = this
    const isSame = watch?.tenure === tenure
    // (the ttl of the next caller can have made its validity end earlier)
    if (isSame && watch.at <= tenure.validUntil) return
    watch?.timer.cancel()
    const beatMillis = Math.min(this.around.heartbeatMillis, tenure.ttlMillis / 3)
    const askAt = isSame ? watch.askAt : this.now + beatMillis
    const at = Math.min(askAt, tenure.validUntil)
    const timer = this.around.commands.clock.unsafeSchedule(at, () => {
      const { now } = this
      // (timers may come a little early)
      if (now + 10 >= askAt && now < tenure.validUntil) {
        this.tenureWatch = undefined
        if (this.waiters.size > 0 && this.tenure === tenure) this.checkTenure(tenure)
      } else if (now < tenure.validUntil) {
        // it was renewed, or it is not over yet
        this.tenureWatch = { tenure, askAt, at: Number.POSITIVE_INFINITY, timer }
      } else {
        this.tenureWatch = undefined
        if (this.waiters.size > 0 && this.tenure === tenure) return this.ended(tenure)
      }
      this.update()
    })
    this.tenureWatch = { tenure, askAt, at, timer }
  }

  private checkTenure(tenure: Tenure): void {
    if (tenure.check !== undefined && tenure.check.settled === undefined) return
    tenure.check = this.around.commands.call(scripts.verify, this.keys.slice(0, 1), [tenure.token])
    tenure.check.whenSettled((outcome) => {
      const found = readOwnership(outcome)
      if (this.tenure === tenure && (found === "Missing" || found === "Taken")) {
        this.lost(tenure, found)
      }
    })
  }
}
