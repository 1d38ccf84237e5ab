/**
 * One key, as one process sees it: the callers that want it stand in a line here, and the line has
 * at most one place in the queue in Redis, or one tenure of the lock, at a time.
 *
 * - A *place* is a token that was sent to be granted or queued. It belongs to the line: whoever is
 *   first when the grant comes gets it. While it is queued, a heartbeat keeps it alive.
 * - A *tenure* is a token that was granted. Its holder gives it back to Redis, or passes it on to
 *   the next caller of the line.
 *
 * Everything here is synchronous, between answers, messages and timers. What was sent and is no
 * longer wanted is undone when it has settled.
 */
import * as Duration from "effect/Duration"
import * as Exit from "effect/Exit"
import { type LockStoreError, LockUnavailable } from "../../LockError.js"
import type { Claim, Contention, ScheduledCall } from "../../LockStore.js"
import { retryDelay, validUntil } from "../timing.js"
import { makeToken } from "../token.js"
import { type Busy, readBusy, readFence, readOwnership } from "./answers.js"
import type { Call, Commands, Outcome } from "./commands.js"
import { storeError, tooLate } from "./errors.js"
import type { LockKeys } from "./layout.js"
import type { Messages } from "./messages.js"
import * as scripts from "./scripts.js"

/** What all lines of a store share. */
export interface Surroundings {
  readonly commands: Commands
  readonly messages: Messages
  /** The part that all tokens of the store share, and the channel on which it is told of grants. */
  readonly storeId: string
  /** The description of holders that give none. */
  readonly owner: string
  /** How often a waiter says that it is there (a third of the ttl, if that is less). */
  readonly heartbeatMillis: number
  /** How often the first in the queue asks while a foreign program holds the key. */
  readonly foreignPollMillis: number
  /** How long a lease is passed on within this process before the others' queue is looked at. */
  readonly localHandoffMillis: number
  readonly warn: (message: string) => void
}

/** A caller's turn: what it holds of a tenure. */
export interface Turn {
  readonly tenure: Tenure
  readonly claim: Claim
  readonly fencingToken: number
  readonly validUntil: number
  readonly grantedAt: number
  readonly contention: Contention | undefined
}

type WaiterExit = Exit.Exit<Turn, LockUnavailable | LockStoreError>

/** How many fencing tokens a process reserves to pass a lease on among its own callers. */
const fencingBlock = 256

/** A caller that waits for its turn. */
export class Waiter {
  /** What came of it. Kept here: an interrupted fiber can drop the value it was resumed with. */
  exit: WaiterExit | undefined = undefined
  contention: Contention | undefined = undefined
  resume: ((exit: WaiterExit) => void) | undefined = undefined
  deadline: ScheduledCall | undefined = undefined
  /** Its time is over, but a command that can still bring the turn is on its way. */
  overdue = false

  constructor(
    readonly claim: Claim,
    readonly askedAt: number
  ) {}

  settle(exit: WaiterExit): void {
    this.deadline?.cancel()
    this.exit = exit
    this.resume?.(exit)
  }
}

/** The lock, as long as one token of this process holds it. */
export class Tenure {
  alive = true
  /** The last question whether it is still there. */
  check: Call | undefined = undefined
  holder: Turn | undefined = undefined
  validUntil: number
  /** The last of the fencing tokens that were reserved for it. */
  reservedUntil: number

  constructor(
    readonly token: string,
    /** The last fencing token that was given out. */
    public fencingToken: number,
    /** When the command was sent that gave the key its present ttl (of `ttlMillis`, or less). */
    private provenAt: number,
    public ttlMillis: number,
    /** When it was last known that no other process waits. */
    public lookedAt: number,
    /** A command about this token that may still be on its way. */
    readonly pending: Call | undefined
  ) {
    this.reservedUntil = fencingToken
    this.validUntil = validUntil(provenAt, ttlMillis)
  }

  /** The last command that was sent decides: a later one can have made the ttl shorter. */
  prove(sentAt: number, ttlMillis: number): void {
    if (sentAt < this.provenAt) return
    this.provenAt = sentAt
    this.validUntil = validUntil(sentAt, ttlMillis)
    this.ttlMillis = ttlMillis
  }
}

/** A token that was sent to be granted or queued. */
interface Place {
  readonly token: string
  /** The ttl of a grant of a free lock: what a grant that nobody wants lasts at most. */
  readonly ttlMillis: number
  readonly beatMillis: number
  readonly windowMillis: number
  /** The ttl of a grant by handoff: of the shortest that was asked for since `provenAt`. */
  handoffMillis: number
  /** When the last command was sent that found the token in the queue (or put it there). */
  provenAt: number
  lastAnswerAt: number
  /** The last command that was sent for it. */
  call: Call
  /** What the last answer said, and when. */
  busy: (Busy & { readonly at: number }) | undefined
  nextBeat: ScheduledCall | undefined
  warned: boolean
}

export class Line {
  readonly waiters = new Set<Waiter>()
  tenure: Tenure | undefined = undefined
  private place: Place | undefined = undefined
  private tenureWatch: ScheduledCall | undefined = undefined

  constructor(
    readonly key: string,
    readonly keys: LockKeys,
    private readonly around: Surroundings,
    /** Called whenever there is nobody here, and nothing held. */
    private readonly onIdle: () => void
  ) {}

  private get clock() {
    return this.around.commands.clock
  }

  private ownerOf(claim: Claim): string {
    return claim.owner ?? this.around.owner
  }

  // ---------------------------------------------------------------- callers

  join(waiter: Waiter): void {
    const contended = this.tenure !== undefined || this.place !== undefined
    if (contended) waiter.contention = this.contention(this.waiters.size)
    this.waiters.add(waiter)
    if (waiter.claim.waitMillis !== Number.POSITIVE_INFINITY) {
      waiter.deadline = this.clock.unsafeSchedule(waiter.askedAt + waiter.claim.waitMillis, () =>
        this.giveUp(waiter)
      )
    }
    if (this.tenure !== undefined) this.watchTenure()
    this.step()
  }

  /** The caller has gone: interrupted before, or while, its turn came. */
  leave(waiter: Waiter): void {
    waiter.deadline?.cancel()
    if (waiter.exit === undefined) this.remove(waiter)
    else if (Exit.isSuccess(waiter.exit)) this.giveBack(waiter.exit.value.tenure)
  }

  private giveUp(waiter: Waiter): void {
    if (waiter.exit !== undefined) return
    const place = this.place
    // a command that is on its way can still bring the turn, and bounds the wait as well
    if (place !== undefined && place.busy === undefined && this.first === waiter) {
      waiter.overdue = true
      return
    }
    const ahead = [...this.waiters].indexOf(waiter)
    const failure = this.unavailable(waiter, this.contention(ahead))
    this.remove(waiter)
    waiter.settle(Exit.fail(failure))
  }

  private unavailable(waiter: Waiter, contention: Contention): LockUnavailable {
    return new LockUnavailable({
      key: this.key,
      waited: Duration.millis(Math.round(this.clock.unsafeNow() - waiter.askedAt)),
      ...contention
    })
  }

  private remove(waiter: Waiter): void {
    this.waiters.delete(waiter)
    const { first, place } = this
    if (place !== undefined) {
      if (first === undefined) this.withdraw(place)
      else this.shortenHandoff(place, first.claim.ttlMillis)
    }
    this.step()
  }

  /** A place goes to whoever is first then, whose ttl can be shorter than of who took it. */
  private shortenHandoff(place: Place, ttlMillis: number): void {
    if (ttlMillis >= place.handoffMillis) return
    place.handoffMillis = ttlMillis
    this.wake()
  }

  private get first(): Waiter | undefined {
    for (const waiter of this.waiters) return waiter
    return undefined
  }

  /** What is in the way of a caller that has so many of this process before it. */
  private contention(aheadHere: number): Contention {
    const now = this.clock.unsafeNow()
    const { place, tenure } = this
    if (tenure?.holder !== undefined) {
      return {
        ahead: aheadHere,
        retryAfter: Duration.millis(Math.max(0, Math.round(tenure.validUntil - now))),
        holder: {
          owner: this.ownerOf(tenure.holder.claim),
          heldFor: Duration.millis(Math.round(now - tenure.holder.grantedAt)),
          foreign: false
        }
      }
    }
    return contentionOf(place?.busy, aheadHere, place?.busy === undefined ? 0 : now - place.busy.at)
  }

  // ---------------------------------------------------------------- turns

  /** Takes a place if somebody waits and nothing else will bring the turn. */
  step(): void {
    const head = this.first
    if (this.place !== undefined || this.tenure !== undefined) return
    if (head === undefined) return this.onIdle()
    const { ttlMillis } = head.claim
    const beatMillis = Math.max(10, Math.min(this.around.heartbeatMillis, ttlMillis / 3))
    const windowMillis = Math.ceil(3 * beatMillis)
    const handoffMillis = Math.min(ttlMillis, windowMillis)
    const token = makeToken(this.around.storeId)
    const call = this.around.commands.call(scripts.acquire, this.keys, [
      token,
      String(ttlMillis),
      this.ownerOf(head.claim),
      String(windowMillis),
      String(handoffMillis)
    ])
    const place: Place = {
      token,
      ttlMillis,
      beatMillis,
      windowMillis,
      handoffMillis,
      provenAt: call.sentAt,
      lastAnswerAt: call.sentAt,
      call,
      busy: undefined,
      nextBeat: undefined,
      warned: false
    }
    this.place = place
    this.around.messages.listen(token, (fencingToken) => this.onMessage(place, fencingToken))
    call.within(this.around.commands.timeoutMillis, (outcome) =>
      this.onFirstAnswer(place, ttlMillis, outcome)
    )
  }

  private onFirstAnswer(place: Place, ttlMillis: number, outcome: Outcome): void {
    if (this.place !== place) return
    const answer = this.read(outcome)
    if (typeof answer === "number") {
      return this.granted(place, answer, place.call.sentAt, ttlMillis)
    }
    if (answer !== undefined) return this.queued(place, answer, place.call.sentAt)
    this.failAll(place, outcome)
  }

  /** The token stands in the queue, or stood there when this was answered. */
  private queued(place: Place, busy: Busy, sentAt: number): void {
    const now = this.clock.unsafeNow()
    place.provenAt = sentAt
    place.lastAnswerAt = now
    place.busy = { ...busy, at: now }
    this.around.messages.open()
    let ahead = 0
    for (const waiter of this.waiters) {
      waiter.contention ??= this.contention(ahead++)
      if (waiter.overdue) this.giveUp(waiter)
    }
    if (this.place !== place) return
    if (busy.foreign) this.watchForeign(place, busy)
    // the first in the queue is there when the lease runs out, or asks often where nobody will
    // tell; the others only keep their places
    let pause = place.beatMillis * (0.9 + Math.random() / 10)
    if (busy.rank === 0) {
      if (busy.leftMillis !== undefined) pause = Math.min(pause, busy.leftMillis + 1)
      if (busy.foreign) pause = Math.min(pause, this.around.foreignPollMillis)
    }
    this.beatIn(place, pause)
  }

  private watchForeign(place: Place, busy: Busy): void {
    this.around.messages.watchKey(this.keys[0], this.wake)
    if (busy.leftMillis !== undefined || place.warned) return
    place.warned = true
    this.around.warn(
      `Lock ${JSON.stringify(this.key)} is held by a program that does not use this library, and its key has no ttl: it stays locked until somebody deletes it.`
    )
  }

  private beatIn(place: Place, millis: number): void {
    place.nextBeat?.cancel()
    place.nextBeat = this.clock.unsafeSchedule(this.clock.unsafeNow() + millis, () =>
      this.beat(place)
    )
  }

  /** Asks now, because something may have happened. */
  private readonly wake = (): void => {
    if (this.place?.busy !== undefined) this.beat(this.place)
  }

  private beat(place: Place): void {
    const head = this.first
    // never more than one command on its way
    if (this.place !== place || head === undefined || place.call.settled === undefined) return
    place.nextBeat?.cancel()
    const { ttlMillis } = head.claim
    const call = this.around.commands.call(
      scripts.heartbeat,
      this.keys,
      [
        place.token,
        String(ttlMillis),
        this.ownerOf(head.claim),
        String(place.windowMillis),
        String(place.handoffMillis)
      ],
      this.around.commands.patience(place.windowMillis)
    )
    place.call = call
    call.within(this.around.commands.timeoutMillis, (outcome) =>
      this.onBeat(place, call, ttlMillis, outcome)
    )
  }

  private onBeat(place: Place, call: Call, ttlMillis: number, outcome: Outcome): void {
    if (this.place !== place) return
    const answer = this.read(outcome)
    if (answer === 0) {
      // neither queued nor granted: its place, or its grant, was not claimed in time
      this.drop(place)
      return this.step()
    }
    if (typeof answer === "number") {
      return this.granted(place, answer, call.sentAt, ttlMillis)
    }
    if (answer !== undefined) return this.queued(place, answer, call.sentAt)
    const lateMillis = this.clock.unsafeNow() - place.lastAnswerAt - place.beatMillis
    if (lateMillis >= place.windowMillis) {
      return this.failAll(place, outcome)
    }
    if (outcome._tag === "Silent") {
      // the answer can still come; nothing else is asked before
      call.whenSettled((late) => this.onBeat(place, call, ttlMillis, late))
      place.nextBeat = this.clock.unsafeSchedule(
        this.clock.unsafeNow() + place.windowMillis - lateMillis,
        () => {
          if (call.settled === undefined) this.onBeat(place, call, ttlMillis, outcome)
        }
      )
      return
    }
    this.beatIn(place, Math.min(place.beatMillis, retryDelay(ttlMillis)))
  }

  /** A message: the token was granted; or (undefined) messages may have been missed. */
  private onMessage(place: Place, fencingToken: number | undefined): void {
    if (this.place !== place) return
    // the token is queued once, so the grant came after the last command that found it there
    const until = validUntil(place.provenAt, place.handoffMillis)
    if (fencingToken !== undefined && this.clock.unsafeNow() < until) {
      return this.granted(place, fencingToken, place.provenAt, place.handoffMillis)
    }
    // too late to be believed: whether it still holds is for the server to say
    this.wake()
  }

  private granted(place: Place, fencingToken: number, sentAt: number, ttlMillis: number): void {
    const until = validUntil(sentAt, ttlMillis)
    const now = this.clock.unsafeNow()
    const head = this.first
    if (now >= until || head === undefined) {
      this.withdraw(place)
      if (head !== undefined && place.busy === undefined) {
        head.settle(Exit.fail(tooLate(head.claim, now - place.call.sentAt)))
        this.waiters.delete(head)
      }
      return this.step()
    }
    this.drop(place)
    if (this.tenure !== undefined) this.tenure.alive = false
    this.tenure = new Tenure(
      place.token,
      fencingToken,
      sentAt,
      ttlMillis,
      now,
      place.call.settled === undefined ? place.call : undefined
    )
    this.give(this.tenure, head)
  }

  /** A lock that was taken without standing in line. */
  adopt(tenure: Tenure, claim: Claim): Turn {
    if (this.tenure !== undefined) this.tenure.alive = false
    this.tenure = tenure
    return this.turn(tenure, claim, undefined)
  }

  private give(tenure: Tenure, waiter: Waiter): void {
    this.waiters.delete(waiter)
    const turn = this.turn(tenure, waiter.claim, waiter.contention)
    if (this.waiters.size > 0) this.watchTenure()
    waiter.settle(Exit.succeed(turn))
  }

  private turn(tenure: Tenure, claim: Claim, contention: Contention | undefined): Turn {
    const now = this.clock.unsafeNow()
    return (tenure.holder = {
      tenure,
      claim,
      fencingToken: tenure.fencingToken,
      // no more than its own ttl, also where the key has a longer one: it is renewed in time for it
      validUntil: Math.min(tenure.validUntil, validUntil(now, claim.ttlMillis)),
      grantedAt: now,
      contention
    })
  }

  // ---------------------------------------------------------------- the end of a tenure

  /** Passes the lease on within this process, if there is somebody, and it is still time. */
  passOn(tenure: Tenure): boolean {
    const next = this.first
    const now = this.clock.unsafeNow()
    if (
      next === undefined ||
      this.tenure !== tenure ||
      now - tenure.lookedAt >= this.around.localHandoffMillis ||
      tenure.fencingToken >= tenure.reservedUntil ||
      next.claim.ttlMillis !== tenure.ttlMillis ||
      tenure.validUntil - now < tenure.ttlMillis / 2
    ) {
      return false
    }
    tenure.fencingToken++
    this.give(tenure, next)
    return true
  }

  /** Asks Redis to keep the lease for the next caller here, unless another process waits. */
  askToPass(tenure: Tenure): { readonly call: Call; readonly ttlMillis: number } | undefined {
    const next = this.first
    if (next === undefined || this.tenure !== tenure || this.around.localHandoffMillis === 0) {
      return undefined
    }
    const { ttlMillis } = next.claim
    tenure.holder = undefined
    const call = this.around.commands.call(scripts.pass, this.keys, [
      tenure.token,
      String(ttlMillis),
      this.ownerOf(next.claim),
      String(fencingBlock)
    ])
    return { call, ttlMillis }
  }

  /** Redis has kept the lease for this process, with more fencing tokens. */
  kept(tenure: Tenure, fencingToken: number, call: Call, ttlMillis: number): void {
    const next = this.first
    tenure.prove(call.sentAt, ttlMillis)
    tenure.fencingToken = fencingToken
    tenure.reservedUntil = fencingToken + fencingBlock - 1
    tenure.lookedAt = call.sentAt
    if (
      next !== undefined &&
      this.tenure === tenure &&
      this.clock.unsafeNow() < tenure.validUntil
    ) {
      return this.give(tenure, next)
    }
    this.around.commands.undo(call, this.keys, tenure.token, ttlMillis)
    this.tenureEnded(tenure)
  }

  /** For a turn whose caller has gone. */
  private giveBack(tenure: Tenure): void {
    if (this.passOn(tenure)) return
    const { commands } = this.around
    const last = tenure.pending ?? commands.release(this.keys, tenure.token)
    commands.undo(last, this.keys, tenure.token, tenure.ttlMillis)
    this.tenureEnded(tenure)
  }

  /** The lease is not this process's any more, or will not be in a moment. */
  tenureEnded(tenure: Tenure): void {
    tenure.alive = false
    if (this.tenure !== tenure) return
    this.tenure = undefined
    this.step()
  }

  /**
   * While somebody waits here, a holder that has lost its lease must not keep the line from moving:
   * at every heartbeat Redis is asked whether the lease is still there.
   */
  private watchTenure(): void {
    const { tenure } = this
    if (tenure === undefined || this.tenureWatch !== undefined) return
    const beatMillis = Math.min(this.around.heartbeatMillis, tenure.ttlMillis / 3)
    this.tenureWatch = this.clock.unsafeSchedule(this.clock.unsafeNow() + beatMillis, () => {
      this.tenureWatch = undefined
      if (this.tenure === undefined || this.waiters.size === 0) return
      if (this.tenure === tenure) this.checkTenure(tenure)
      this.watchTenure()
    })
  }

  private checkTenure(tenure: Tenure): void {
    if (this.clock.unsafeNow() >= tenure.validUntil) return this.tenureEnded(tenure)
    const { check } = tenure
    if (check !== undefined && check.settled === undefined) return
    tenure.check = this.around.commands.call(scripts.verify, this.keys.slice(0, 1), [tenure.token])
    tenure.check.whenSettled((outcome) => {
      const found = readOwnership(outcome)
      if (found === "Missing" || found === "Taken") this.tenureEnded(tenure)
    })
  }

  // ---------------------------------------------------------------- places

  /** Gives up a place: whatever it has got, or will have when its command settles, is given back. */
  private withdraw(place: Place): void {
    this.drop(place)
    this.around.commands.undo(place.call, this.keys, place.token, place.ttlMillis)
  }

  private drop(place: Place): void {
    place.nextBeat?.cancel()
    this.around.messages.unlisten(place.token)
    this.around.messages.unwatchKey(this.keys[0], this.wake)
    if (this.place === place) this.place = undefined
  }

  /** The first command failed, or a whole claim window of heartbeats: for everyone who waits here. */
  private failAll(place: Place, outcome: Outcome): void {
    this.withdraw(place)
    const waiters = [...this.waiters]
    this.waiters.clear()
    for (const waiter of waiters) {
      waiter.settle(Exit.fail(storeError(this.around.commands, "acquire", this.key, outcome)))
    }
    this.step()
  }

  /** A fencing token, what is in the way, 0 where the token stands nowhere, or no usable answer. */
  private read(outcome: Outcome): number | Busy | undefined {
    if (outcome._tag !== "Answered") return undefined
    if (Number(outcome.reply) === 0) return 0
    return readFence(outcome.reply) ?? readBusy(outcome.reply)
  }
}

/** What an answer said, so many milliseconds later. */
export const contentionOf = (
  busy: Busy | undefined,
  aheadHere: number | undefined,
  agoMillis: number
): Contention => ({
  ahead: aheadHere === undefined ? undefined : aheadHere + Math.max(0, busy?.rank ?? 0),
  retryAfter:
    busy === undefined
      ? Duration.zero
      : busy.leftMillis === undefined
        ? undefined
        : Duration.millis(Math.max(0, Math.round(busy.leftMillis - agoMillis))),
  holder: {
    owner: busy?.owner,
    heldFor:
      busy?.heldForMillis === undefined
        ? undefined
        : Duration.millis(Math.round(busy.heldForMillis + agoMillis)),
    foreign: busy?.foreign ?? false
  }
})
