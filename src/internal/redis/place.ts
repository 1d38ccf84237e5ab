/**
 * A place in the queue in Redis: a token that was sent to be granted or queued, and is kept alive by
 * a heartbeat until it is granted, given up, or found to stand nowhere.
 *
 * A place belongs to a line of callers; the first of them that asks for as much, when the grant comes, gets
 * it. It comes to the queue by an acquire, or in the call in which its process gives the key to another one.
 */
import { type Claim, keptMillis, type ScheduledCall } from "../engine.js"
import { retryDelay } from "../common/timing.js"
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
import { isPostponed } from "./errors.js"
import { isProof } from "./hints.js"
import type { LockKeys } from "./layout.js"
import type { Script } from "./lua.js"
import type { Protocol } from "./protocol.js"
import type { PlaceEvents } from "./placeEvents.js"
import type { Surroundings } from "./surroundings.js"
import { type Shape, shapeOf } from "./waiter.js"

/** How often the server is asked at most because of messages that cannot be believed, in ms. */
const doubtPause = 50

export class Place {
  readonly token: string
  /** How much it asks for, and within which limit. */
  readonly share: number
  readonly limit: number
  /** What the last answer said, and when; `undefined` before the first. */
  busy: (Busy & { readonly at: number }) | undefined = undefined
  /** What the first command was refused with, for as long as the Cluster refuses it for now. */
  postponed: Outcome | undefined = undefined
  /** The last command that was sent for it. */
  call: Call

  /** The longest ttl that it can have been granted with, by a command and by a message. */
  private longestTtl = 0
  longestHandoff = 0
  /** What the last answered command said of it, and when that was sent: the grant came after it. */
  provenAt: number
  /** What the last command said. */
  private sent: Shape
  /** When the first heartbeat was sent of those that have no answer. */
  private askingSince: number | undefined = undefined
  private nextBeat: ScheduledCall | undefined = undefined
  /** Whether Redis must be asked about a message, and until when that has to wait. */
  private doubted = false
  private calmUntil = Number.NEGATIVE_INFINITY
  /** Looks again at a message that came before an answer. */
  private early: (() => boolean) | undefined = undefined
  /** The last one between tries while the Cluster refuses them for now. */
  private pause = 25
  private over = false
  /** The call that gave the key back and took this place, if it came that way. */
  private passed: Call | undefined

  constructor(
    private readonly around: Surroundings,
    readonly protocol: Protocol,
    private readonly keys: LockKeys,
    claim: Claim,
    private readonly events: PlaceEvents<Place>,
    contended: boolean,
    /** Sends the question whether the process keeps the key, with these arguments of a place. */
    pass?: (args: ReadonlyArray<string>) => Call
  ) {
    this.token = makeToken(around.storeId)
    this.share = claim.share
    this.limit = claim.limit
    this.sent = this.asks(claim)
    const call = (this.call =
      pass === undefined
        ? this.send(protocol.acquire, claim, contended)
        : pass([this.token, ...this.waits]))
    this.provenAt = call.sentAt
    this.passed = pass && call
    if (pass === undefined) this.awaitFirst(call, claim)
    else call.within(around.commands.timeoutMillis, (outcome) => this.onPassed(call, outcome))
  }

  private awaitFirst(call: Call, { ttlMillis }: Claim): void {
    call.within(this.around.commands.timeoutMillis, (outcome) =>
      this.onFirst(call, ttlMillis, outcome)
    )
  }

  /** Whether it asks for what such a claim does. */
  isFor({ limit, share }: Claim): boolean {
    return share === this.share && limit === this.limit
  }

  /** Gives the place up: what it has got, or will have when its command settles, is given back. */
  withdraw(): void {
    if (this.over) return
    this.end()
    const { call, passed, postponed } = this
    if (passed !== undefined) passed.whenSettled(() => this.giveBack(undefined))
    // (one that was sent before can have been applied after all)
    if (postponed !== undefined) call.whenSettled(() => this.giveBack(undefined))
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
      script === protocol.heartbeat ? commands.patience(this.keys[0], this.sent.window) : undefined,
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
    if (outcome._tag !== "Answered" || call.resent) call.whenSettled(() => this.giveBack(undefined))
  }

  private onFirst(call: Call, ttlMillis: number, outcome: Outcome): void {
    if (this.over) return
    if (this.takes(replyOf(outcome), call, ttlMillis)) return
    if (isPostponed(outcome)) {
      this.postponed = outcome
      this.events.onPostponed(this)
      // (nobody may be left)
      if (!this.over) this.plan(() => this.askFirst(), this.nextPause())
      return
    }
    this.withdraw()
    this.events.onFailed(this, outcome)
  }

  /** With the same token: if an earlier copy was applied after all, it is found in place. */
  private askFirst(): void {
    const claim = this.events.claimFor(this)
    if (this.over) return
    // (nobody needs it for the moment)
    if (claim === undefined) return this.plan(() => this.askFirst(), this.nextPause())
    this.call = this.send(this.protocol.acquire, claim, true)
    this.awaitFirst(this.call, claim)
  }

  /** While the Cluster refuses it: first soon, later no more often than heartbeats. */
  private nextPause(): number {
    this.pause = Math.min(this.sent.beat, 2 * this.pause)
    return this.pause * (0.75 + Math.random() / 4)
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
    this.pause = 25
    this.busy = { ...busy, at: this.now }
    this.around.serverTime = { micros: busy.micros, sentAt: call.sentAt }
    messages.open()
    if (busy.foreign) messages.watchKey(this.keys[0], this.wake)
    this.events.onBusy(this)
    const { early } = this
    this.early = undefined
    if (this.over || early?.() === true) return
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
    this.plan(() => this.beat(), millis)
  }

  private plan(next: () => void, millis: number): void {
    this.nextBeat?.cancel()
    this.nextBeat = this.around.commands.clock.unsafeSchedule(this.now + millis, next)
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
    const call = (this.call = this.send(this.protocol.heartbeat, claim))
    this.askingSince ??= call.sentAt
    call.within(this.around.commands.timeoutMillis, (outcome) =>
      this.onBeat(call, claim.ttlMillis, outcome)
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
    if (isPostponed(outcome)) {
      // Redis is there, and will answer again
      this.askingSince = undefined
      return this.beatIn(this.nextPause())
    }
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
    if (this.over || this.takesHint(told, ttl)) return
    // (the answer that is on its way can be that of the heartbeat which the message names)
    if (this.call.settled === undefined) this.early = () => this.takesHint(told, ttl)
    // too late, or not to be believed: the server says whether it still holds, for a full ttl
    this.doubt()
  }

  private takesHint(told: Told, ttl: number): boolean {
    if (!isProof(told, ttl, this, this.around, this.keys[0], this.now)) return false
    this.granted(told, this.provenAt, ttl)
    return true
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
