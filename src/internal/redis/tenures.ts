/**
 * What this process has of one key: tenures, as many as it holds shares of it, and what becomes of them
 * while callers wait here (`line.ts`): they are passed on, shared, watched, and given back.
 */
import type { Claim, NotOurs } from "../engine.js"
import { Fifo } from "../common/fifo.js"
import { remove } from "../common/remove.js"
import { unusedEnding } from "./adoption.js"
import { readFloor, readLast, readOwnership, type Told } from "./answers.js"
import type { Call } from "./call.js"
import type { LockKeys } from "./layout.js"
import type { Protocol } from "./protocol.js"
import { fencingBlock } from "./lua.js"
import type { Surroundings } from "./surroundings.js"
import type { Place } from "./place.js"
import { Pass, Tenure, type Turn } from "./tenure.js"
import type { Waiter } from "./waiter.js"

/** (No literal where locks are granted: see `Outcome`.) */
export const none: ReadonlyArray<Turn> = []

export abstract class Tenures {
  /** The callers of this process that wait. */
  protected readonly waiters = new Fifo<Waiter>()
  protected readonly tenures: Array<Tenure> = []

  constructor(
    readonly key: string,
    readonly protocol: Protocol,
    readonly keys: LockKeys,
    protected readonly around: Surroundings
  ) {}

  /** After every event: sees to it that nothing is left without a next step. */
  protected abstract update(): void

  /** Somebody has what the callers wait for: they can be told. */
  protected abstract answer(): void

  /**
   * Sends the question whether the process keeps the key for that caller, with what it has to say of this
   * process's places.
   */
  protected abstract askWithPlace(claim: Claim, ask: (more: ReadonlyArray<string>) => Call): Call

  /** Until when a lease of this process may be passed on without a question, as far as it was told. */
  protected get runsUntil(): number {
    const { localHandoffMillis } = this.around
    return Math.max(...this.tenures.map((tenure) => tenure.runsUntil(localHandoffMillis)))
  }

  protected get now(): number {
    return this.around.commands.clock.unsafeNow()
  }

  has(tenure: Tenure): boolean {
    return this.tenures.includes(tenure)
  }

  /** Whether a caller of this process has the lock. */
  get isHeld(): boolean {
    return this.tenures.some(({ holder }) => holder !== undefined)
  }

  /**
   * Whether this process has all of the key, in shares as the next caller asks for: then nobody else can
   * come before that one until a share is given back, and it need not stand in the queue.
   */
  protected waitsForOwn(claim: Claim): boolean {
    // (of what has bounds, nothing is passed on)
    if (this.protocol.bounds !== undefined) return false
    let inUse = 0
    for (const tenure of this.tenures) {
      if (!tenure.isFor(claim)) return false
      inUse += tenure.share
    }
    return inUse >= claim.limit
  }

  /** What a place was granted for that caller. A run begins with it, if others wait here. */
  protected newTenure(
    { limit, share, token }: Place,
    { direct }: Claim,
    { earlierTokens = 0, fencingFloor, fencingToken, holdMillis, lastToken }: Told,
    sentAt: number,
    ttl: number,
    pending: Call | undefined
  ): Tenure {
    const { localHandoffMillis } = this.around
    const isRun = localHandoffMillis > 0 && direct !== true && this.waiters.size > 1
    const first = isRun ? fencingToken - earlierTokens : fencingToken
    const floor = Math.min(first, fencingFloor)
    const tenure = new Tenure(token, share, limit, first, floor, sentAt, ttl, this.now, pending)
    tenure.reservedUntil = lastToken ?? fencingToken
    tenure.entryToken = fencingToken
    tenure.mayBeHeld(sentAt, holdMillis)
    return tenure
  }

  /** A lock that was taken without standing in line. */
  adopt(tenure: Tenure, claim: Claim, lastToken: number | undefined): Turn {
    tenure.reservedUntil = lastToken ?? tenure.fencingToken
    const losers = this.begin(tenure)
    const turn = tenure.turn(claim, undefined, this.now)
    this.update()
    this.tellTaken(losers)
    return turn
  }

  /**
   * Another token of this process was granted: where that is all of the key, or an earlier one had all of
   * it, the earlier one has lost it. Answers who is to be told, once everything else is in order: a
   * listener runs in place.
   */
  protected begin(tenure: Tenure): ReadonlyArray<Turn> {
    const { tenures } = this
    if (tenures.length === 0) {
      tenures.push(tenure)
      return none
    }
    const isAll = tenure.share === tenure.limit
    const lost = tenures.filter(({ limit, share }) => isAll || share === limit)
    for (const one of lost) this.remove(one)
    tenures.push(tenure)
    return lost.flatMap(({ turns }) => turns)
  }

  protected tellTaken(losers: ReadonlyArray<Turn>): void {
    for (const loser of losers) {
      // (the answer that says so is on its way)
      loser.lose(this.around.doubts.has(loser.tenure) ? "Revoked" : "Taken")
    }
  }

  private remove(tenure: Tenure): boolean {
    if (!remove(this.tenures, tenure)) return false
    tenure.watch?.timer.cancel()
    tenure.watch = undefined
    return true
  }

  protected giveTo(waiter: Waiter, tenure: Tenure, now: number): void {
    this.waiters.delete(waiter)
    waiter.settle(tenure.turn(waiter.claim, waiter.contention, now))
  }

  /** Passes the lease on within this process, if there is somebody, and it is still time. */
  passOn(tenure: Tenure): boolean {
    const { now } = this
    const head = this.waiters.first
    const { commands, localHandoffMillis } = this.around
    const slowest = commands.routeOf(this.keys[0]).slowestMillis
    if (
      head === undefined ||
      !this.has(tenure) ||
      !tenure.mayPassTo(head.claim, now, localHandoffMillis, slowest)
    ) {
      return false
    }
    tenure.fencingToken++
    this.giveTo(head, tenure, now)
    this.update()
    return true
  }

  /** Asks Redis to keep the lease for the next caller here, unless another process waits. */
  askToPass(tenure: Tenure): Pass | undefined {
    const head = this.waiters.first
    const { commands, localHandoffMillis, owner } = this.around
    if (
      head === undefined ||
      !this.has(tenure) ||
      !tenure.isFor(head.claim) ||
      localHandoffMillis === 0
    ) {
      return undefined
    }
    const { claim } = head
    const { keys, protocol } = this
    tenure.holder = undefined
    const args = [
      tenure.token,
      String(claim.ttlMillis),
      protocol.claimOf(claim, owner),
      String(tenure.entryToken)
    ]
    const ask = (more: ReadonlyArray<string>): Call =>
      commands.call(protocol.pass, keys, args.concat(more))
    const call = this.askWithPlace(claim, ask)
    return (tenure.pass = new Pass(call, claim.ttlMillis))
  }

  /** Redis has kept the lease for this process, with that fencing token, and others beside it. */
  kept(tenure: Tenure, granted: number, reply: unknown, call: Call, ttlMillis: number): void {
    const { now } = this
    const head = this.waiters.first
    tenure.prove(call.sentAt, ttlMillis)
    tenure.reserve(granted, readLast(reply, granted), fencingBlock)
    tenure.fencingFloor = Math.min(readFloor(reply, granted), tenure.fencingToken)
    // from its answer on: a run is a run also where the network takes longer than it
    tenure.lookedAt = now
    const isTime = this.has(tenure) && now < tenure.validUntil
    if (head !== undefined && isTime && tenure.isFor(head.claim)) {
      this.giveTo(head, tenure, now)
      this.shareWithFirst(tenure)
    } else {
      this.giveBack(tenure)
    }
    this.update()
    this.answer()
  }

  /** The next callers may not have to wait for it any more. */
  reshare(tenure: Tenure, share: number): void {
    tenure.reshare(share)
    if (this.has(tenure)) this.update()
  }

  /** The lock is given back to Redis, by a release that is on its way. For so long its token is ignored. */
  ended(tenure: Tenure, millis = this.protocol.bounds && 3 * this.around.heartbeatMillis): void {
    tenure.holder = undefined
    // the message of its grant can come late, and must not undo what its own release has said
    if (millis !== undefined) this.ignore(tenure, millis)
    if (this.remove(tenure)) this.update()
  }

  /** What is said of its token for so long is not for this process any more. */
  private ignore({ token }: Tenure, millis: number): void {
    const { commands, ignored } = this.around
    ignored.add(token)
    commands.clock.unsafeSchedule(this.now + millis, () => ignored.delete(token))
  }

  /** Another process goes on with it: it ends here, and is not given back. */
  handedOver(tenure: Tenure): void {
    this.ended(tenure, tenure.ttlMillis)
  }

  /** The store has found out that the lock is gone. */
  lost(tenure: Tenure, reason: NotOurs): void {
    const { turns } = tenure
    this.ended(tenure)
    for (const turn of turns) turn.lose(reason)
  }

  /** For a turn whose caller has gone. */
  protected giveBack(tenure: Tenure): void {
    if (this.passOn(tenure)) return
    const { holder, pending, token, ttlMillis } = tenure
    const ending = unusedEnding(holder?.claim)
    this.around.commands.giveBack(pending, this.protocol, this.keys, token, ttlMillis, ending)
    this.ended(tenure)
  }

  /**
   * While somebody waits here for a lease of this process, Redis is asked at every heartbeat whether
   * it is still there: a holder that has lost it must not keep the line from moving. Nor must one
   * whose validity is over: that is for the holder to know; the line goes on.
   */
  protected watchTenure(tenure: Tenure): void {
    const { watch } = tenure
    // (the ttl of the next caller can have made its validity end earlier)
    if (watch !== undefined && watch.at <= tenure.validUntil) return
    watch?.timer.cancel()
    const beatMillis = Math.min(this.around.heartbeatMillis, tenure.ttlMillis / 3)
    const askAt = watch?.askAt ?? this.now + beatMillis
    const at = Math.min(askAt, tenure.validUntil)
    const timer = this.around.commands.clock.unsafeSchedule(at, () => {
      const { now } = this
      // (timers may come a little early)
      if (now + 10 >= askAt && now < tenure.validUntil) {
        tenure.watch = undefined
        // (of several, one tells whether the server has lost them)
        if (this.waiters.size > 0 && this.tenures[0] === tenure) this.checkTenure(tenure)
      } else if (now < tenure.validUntil) {
        // it was renewed, or it is not over yet
        tenure.watch = { askAt, at: Number.POSITIVE_INFINITY, timer }
      } else {
        tenure.watch = undefined
        if (this.waiters.size > 0 && this.has(tenure)) return this.ended(tenure)
      }
      this.update()
    })
    tenure.watch = { askAt, at, timer }
  }

  private checkTenure(tenure: Tenure): void {
    if (tenure.check === undefined || tenure.check.settled !== undefined) this.askAbout(tenure)
  }

  private askAbout(tenure: Tenure): void {
    tenure.check = this.verify(tenure.token)
    tenure.check.whenSettled((outcome) => {
      const found = readOwnership(outcome)
      if (this.has(tenure) && found !== undefined && found !== "Ours") this.lost(tenure, found)
    })
  }

  /** Somebody may have revoked it: the server says. */
  protected doubt(tenure: Tenure): void {
    this.around.doubts.about(tenure, () => {
      if (this.has(tenure)) this.askAbout(tenure)
    })
  }

  doubtAll(): void {
    for (const tenure of this.tenures) this.doubt(tenure)
  }

  /** The question whether a token holds the key. */
  verify(token: string): Call {
    const { protocol } = this
    return this.around.commands.call(protocol.verify, this.firstKeys(protocol.verifiedKeys), [
      token
    ])
  }

  /** So many of the keys, and the one that tells a token that does not hold the key whether it was revoked. */
  firstKeys(count: number): ReadonlyArray<string> {
    return this.keys.slice(0, count).concat(this.around.revokedKey(this.key))
  }

  // ---------------------------------------------------------------- readers that share a tenure

  /** A turn of what this process has, for a caller that nobody here or elsewhere waits before. */
  share(claim: Claim): Turn | undefined {
    if (this.waiters.size > 0) return undefined
    const { now } = this
    for (const tenure of this.tenures) {
      if (this.isOpen(tenure, claim, now)) return tenure.shareWith(claim, undefined, now)
    }
    return undefined
  }

  private isOpen(tenure: Tenure, claim: Claim, now: number): boolean {
    return tenure.isOpenFor(claim, now, this.around.localHandoffMillis)
  }

  /** The first callers share what another one of them was granted. */
  protected shareWithFirst(tenure: Tenure): void {
    if (!this.protocol.shared) return
    for (let head = this.waiters.first; head !== undefined; head = this.waiters.first) {
      const { now } = this
      if (!this.isOpen(tenure, head.claim, now)) return
      this.waiters.delete(head)
      head.settle(tenure.shareWith(head.claim, head.contention, now))
    }
  }
}
