/**
 * A place in the queue in Redis: a token that was sent to be granted or queued, and is kept alive by
 * a heartbeat until it is granted, given up, or found to stand nowhere.
 *
 * A place belongs to a line of callers; the first of them that asks for as much, when the grant comes, gets
 * it. It comes to the queue by an acquire, or in the call in which its process gives the key to another one.
 */
import { type Claim, keptMillis, type ScheduledCall } from "../engine.js"
import { retryDelay, validUntil } from "../common/timing.js"
import { makeToken } from "../common/token.js"
import {
  type Busy,
  isNowhere,
  readBound,
  readBusy,
  readFence,
  readLastTick,
  replyOf,
  type Told,
  toldBy
} from "./answers.js"
import type { Call, Outcome } from "./call.js"
import type { LockKeys } from "./layout.js"
import type { Script } from "./lua.js"
import type { Protocol } from "./protocol.js"
import type { Surroundings } from "./surroundings.js"
import { type Shape, shapeOf } from "./waiter.js"

/** Events of a place. Each of them except `onBusy` and `onUnanswered` ends it. */
export interface PlaceEvents {
  /** The caller of the line that the place stands for now. */
  claimFor(place: Place): Claim | undefined
  /** Granted, by a command (or a proof) of that moment, with that ttl. */
  onGranted(place: Place, told: Told, sentAt: number, ttl: number): void
  /** Queued, or queued still. */
  onBusy(place: Place): void
  /** A heartbeat failed; answers when the next one of the callers has waited for too long. */
  onUnanswered(place: Place, outcome: Outcome): number
  /** Its turn, or its grant, was not claimed in time: it stands nowhere. */
  onGone(place: Place, askedAt: number): void
  /** The claim's tick is not later than the last one that was granted. */
  onRefused(place: Place, lastTick: number): void
  /** The first command failed. */
  onFailed(place: Place, outcome: Outcome): void
  /** It was not needed, or nobody knows whether it stands in the queue: another one is taken then. */
  onUnused(place: Place): void
}

/** How often the server is asked at most because of messages that cannot be believed, in ms. */
const doubtPause = 50

/** How far a fencing token may be ahead of where the server's clock has come to, in µs. */
const mostAhead = 1_000_000

export class Place {
  readonly token: string
  /** How much it asks for, and within which limit. */
  readonly share: number
  readonly limit: number
  /** What the last answer said, and when; `undefined` before the first. */
  busy: (Busy & { readonly at: number }) | undefined = undefined
  /** The last command that was sent for it. */
  call: Call

  /** The longest ttl that it can have been granted with, by a command and by a message. */
  private longestTtl = 0
  private longestHandoff = 0
  /** What the last answered command said of it, and when that was sent: the grant came after it. */
  private provenAt: number
  /** What the last command said. */
  private sent: Shape
  /** When the first heartbeat was sent of those that have no answer. */
  private askingSince: number | undefined = undefined
  private nextBeat: ScheduledCall | undefined = undefined
  /** Whether Redis must be asked about a message, and until when that has to wait. */
  private doubted = false
  private calmUntil = Number.NEGATIVE_INFINITY
  private over = false
  /** The call that gave the key back and took this place, if it came that way. */
  private passed: Call | undefined

  constructor(
    private readonly around: Surroundings,
    private readonly protocol: Protocol,
    private readonly keys: LockKeys,
    claim: Claim,
    private readonly events: PlaceEvents,
    contended: boolean,
    /** Sends the question whether the process keeps the key, with these arguments of a place. */
    pass?: (args: ReadonlyArray<string>) => Call
  ) {
    this.token = makeToken(around.storeId)
    this.share = claim.share
    this.limit = claim.limit
    this.sent = this.asks(claim)
    const { ttlMillis } = claim
    const call = (this.call =
      pass === undefined
        ? this.send(protocol.acquire, claim, contended)
        : pass([this.token, ...this.waits]))
    this.provenAt = call.sentAt
    this.passed = pass && call
    call.within(around.commands.timeoutMillis, (outcome) =>
      pass === undefined ? this.onFirst(call, ttlMillis, outcome) : this.onPassed(call, outcome)
    )
  }

  /** Whether it asks for what such a claim does. */
  isFor({ limit, share }: Claim): boolean {
    return share === this.share && limit === this.limit
  }

  /** Gives the place up: what it has got, or will have when its command settles, is given back. */
  withdraw(): void {
    this.end()
    const { call, passed } = this
    if (passed !== undefined) passed.whenSettled(() => this.giveBack(undefined))
    if (call !== passed) this.giveBack(call)
  }

  /** `onItsWay`: a call about this token alone. */
  private giveBack(onItsWay: Call | undefined): void {
    const { keys, longestTtl, protocol, token } = this
    this.around.commands.giveBack(onItsWay, protocol, keys, token, longestTtl)
  }

  /** Asks now, because something may have happened. */
  readonly wake = (): void => {
    if (this.busy !== undefined) this.beat()
  }

  /** The first caller has changed. */
  reshape(claim: Claim): void {
    if (shapeOf(claim, this.around.heartbeatMillis).handoff !== this.sent.handoff) this.wake()
  }

  /** Until when a caller waits for heartbeats to be answered again: its own claim window, at least. */
  patientUntil(claim: Claim): number {
    const { timeoutMillis } = this.around.commands
    return (
      (this.askingSince ?? this.now) +
      Math.max(shapeOf(claim, this.around.heartbeatMillis).window, timeoutMillis)
    )
  }

  private end(): void {
    this.over = true
    this.nextBeat?.cancel()
    this.around.messages.unwatchKey(this.keys[0], this.wake)
  }

  private get now(): number {
    return this.around.commands.clock.unsafeNow()
  }

  /** It is about to ask as such a claim does. */
  private asks(claim: Claim): Shape {
    this.sent = shapeOf(claim, this.around.heartbeatMillis)
    this.longestTtl = Math.max(this.longestTtl, keptMillis(claim))
    this.longestHandoff = Math.max(this.longestHandoff, this.sent.handoff)
    return this.sent
  }

  /** As arguments: the claim window, and the ttl of a grant by handoff; then the bounds, if it has any. */
  private get waits(): ReadonlyArray<string> {
    const shape = [String(this.sent.window), String(this.sent.handoff)]
    return this.protocol.bounds === undefined ? shape : shape.concat(this.protocol.bounds)
  }

  private send(script: Script, claim: Claim, contended = false): Call {
    const { around, protocol } = this
    const { commands, owner } = around
    this.asks(claim)
    return commands.call(
      script,
      this.keys,
      [this.token, String(claim.ttlMillis), protocol.claimOf(claim, owner), ...this.waits],
      script === protocol.heartbeat ? commands.patience(this.sent.window) : undefined,
      contended
    )
  }

  /** The process was asked whether it keeps the key: if not, the place is in the queue, mostly. */
  private onPassed(call: Call, outcome: Outcome): void {
    if (this.over) return
    const busy = readBusy(replyOf(outcome))
    if (busy !== undefined) {
      // (a copy of the call puts nobody into the queue)
      if (!call.resent) this.passed = undefined
      return this.queued(busy, call)
    }
    this.end()
    this.events.onUnused(this)
    // a copy of the call may have put it there, or may do so still
    const isClear = outcome._tag === "Answered" && !call.resent
    if (!isClear) call.whenSettled(() => this.giveBack(undefined))
  }

  private onFirst(call: Call, ttlMillis: number, outcome: Outcome): void {
    if (this.over) return
    if (this.takes(replyOf(outcome), call, ttlMillis)) return
    this.withdraw()
    this.events.onFailed(this, outcome)
  }

  /** Whether the answer says what becomes of it: granted, queued, or refused. */
  private takes(reply: unknown, call: Call, ttlMillis: number): boolean {
    const fencingToken = readFence(reply)
    const busy = readBusy(reply)
    if (fencingToken !== undefined) {
      const told = toldBy(reply, fencingToken)
      const bound = this.protocol.bounds && readBound(reply)
      if (!bound) this.granted(told, call.sentAt, ttlMillis)
      else this.granted({ ...told, ...bound }, call.sentAt, bound.leftMillis)
    } else if (busy !== undefined) {
      this.queued(busy, call)
    } else {
      const lastTick = readLastTick(reply)
      if (lastTick === undefined) return false
      // it stands nowhere, unless a copy of the command comes later
      if (call.resent) this.withdraw()
      else this.end()
      this.events.onRefused(this, lastTick)
    }
    return true
  }

  private granted(told: Told, sentAt: number, ttlMillis: number): void {
    this.end()
    this.events.onGranted(this, told, sentAt, ttlMillis)
  }

  /** The token stands in the queue, or stood there when this was answered. */
  private queued(busy: Busy, call: Call): void {
    const { foreignPollMillis, messages } = this.around
    this.provenAt = call.sentAt
    this.askingSince = undefined
    this.busy = { ...busy, at: this.now }
    this.around.serverTime = { micros: busy.micros, sentAt: call.sentAt }
    messages.open()
    if (busy.foreign) messages.watchKey(this.keys[0], this.wake)
    this.events.onBusy(this)
    if (this.over) return
    // the first in the queue is there when the lease runs out, or asks often where nobody will
    // tell; the others only keep their places
    let pause = this.sent.beat * (0.9 + Math.random() / 10)
    if (busy.rank === 0) {
      if (busy.leftMillis !== undefined) pause = Math.min(pause, busy.leftMillis + 1)
      if (busy.foreign) pause = Math.min(pause, foreignPollMillis)
    }
    // (not in the queue any more: the same call has served it, where all before it had died)
    if (busy.rank < 0) pause = 0
    if (this.doubted) pause = Math.min(pause, Math.max(0, this.calmUntil - this.now))
    this.beatIn(pause)
  }

  private beatIn(millis: number): void {
    this.nextBeat?.cancel()
    this.nextBeat = this.around.commands.clock.unsafeSchedule(this.now + millis, () => this.beat())
  }

  private beat(): void {
    const claim = this.events.claimFor(this)
    // never more than one command on its way
    if (this.over || this.call.settled === undefined) return
    // (nobody needs it for the moment)
    if (claim === undefined) return this.beatIn(this.sent.beat)
    this.nextBeat?.cancel()
    if (this.doubted) this.calmUntil = this.now + doubtPause
    this.doubted = false
    const { ttlMillis } = claim
    const call = (this.call = this.send(this.protocol.heartbeat, claim))
    this.askingSince ??= call.sentAt
    call.within(this.around.commands.timeoutMillis, (outcome) =>
      this.onBeat(call, ttlMillis, outcome)
    )
  }

  private onBeat(call: Call, ttlMillis: number, outcome: Outcome): void {
    if (this.over) return
    const reply = replyOf(outcome)
    if (isNowhere(reply)) {
      this.end()
      return this.events.onGone(this, call.sentAt)
    }
    // (if none came that was not believed)
    const wasTold = this.calmUntil > Number.NEGATIVE_INFINITY
    if (!wasTold && readFence(reply) !== undefined) this.around.messages.missed()
    if (this.takes(reply, call, ttlMillis)) return
    const next = this.events.onUnanswered(this, outcome)
    // (nobody is left, or another first caller has already asked)
    if (this.over || this.call !== call) return
    if (outcome._tag !== "Silent") {
      return this.beatIn(Math.min(this.sent.beat, retryDelay(ttlMillis)))
    }
    // the answer can still come; nothing else is asked before
    call.until(next, (late) => this.onBeat(call, ttlMillis, late))
  }

  /** A message: the token was granted. It comes on another connection, and can overtake "queued". */
  onMessage(told: Told, ttl: number): void {
    if (this.over) return
    const left = validUntil(this.provenAt, ttl) - this.now
    // a renewal must get through in what is left
    const enough = Math.max(ttl / 4, 2 * this.around.commands.transport.slowestMillis)
    if (this.believes(told, ttl) && left > enough) {
      return this.granted(told, this.provenAt, ttl)
    }
    // too late, or not to be believed: the server says whether it still holds, for a full ttl
    this.doubt()
  }

  /**
   * A message is a hint: a user that may publish on the channel can send anything. What it says
   * must be possible, and not worse than a grant could be.
   */
  private believes({ earlierTokens = 0, fencingToken }: Told, ttl: number): boolean {
    const { busy, protocol, provenAt } = this
    // (before the first answer about this place: what the store knows from others)
    const known =
      busy === undefined
        ? this.around.serverTime
        : { micros: Math.max(busy.micros, busy.lastFence), sentAt: provenAt }
    return (
      known !== undefined &&
      // the lease of a claim with bounds begins with an answer
      protocol.bounds === undefined &&
      // greater than the last one when the token was found in the queue: the grant came after that. (A
      // token can be queued twice, by an acquire that was sent again.)
      fencingToken - earlierTokens > (busy?.lastFence ?? 0) &&
      // with such a number, what is fenced would refuse all later holders
      fencingToken <= known.micros + (this.now - known.sentAt) * 1_000 + mostAhead &&
      // its ttl need not be what was asked for last: a command for a caller that has left can have come
      // to the server later
      ttl <= this.longestHandoff
    )
  }

  /** Asks about a message; not more often than is good for the server, whoever sends how many. */
  private doubt(): void {
    if (this.doubted) return
    this.doubted = true
    // the answer that is on its way can be older than the message: it is followed by a question
    if (this.call.settled === undefined) return
    if (this.now < this.calmUntil) this.beatIn(this.calmUntil - this.now)
    else this.wake()
  }
}
