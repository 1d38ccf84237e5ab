/** Parcels that were sent on one connection and have no answer yet, in the order of sending. */
import type { LockClock } from "../engine.js"
import { Fifo, Link } from "../common/fifo.js"
import type { Call } from "./call.js"
import { byOneKey, type Parcel } from "./parcel.js"
import { isDown, isOnItsWay, isServerError, messageOf } from "./replyErrors.js"

/** One client, as far as it carries commands. Each is answered once, or never. */
export interface Wire {
  send(parcel: Parcel, onReply: (reply: unknown) => void, onError: (error: unknown) => void): void
}

export interface LaneEvents {
  /** A command that was sent at that time has been answered, if only by an error of the server. */
  answered(lane: Lane, sentAt: number): void
  /** As a replica answers: a master that was demoted, or the wrong address. */
  readOnly(lane: Lane): void
  /** The client says that these will not be answered. */
  failed(lane: Lane, calls: ReadonlyArray<Call>, error: unknown): void
  /** The batch that they were in had no answer for them: they ask alone. */
  unanswered(lane: Lane, calls: ReadonlyArray<Call>): void
  /** Its keys are not all in one place. */
  refusedBatch(): void
  /** An error that may be shown. */
  shown(error: unknown): unknown
}

/** A parcel on its way on one lane. */
class Sent extends Link {
  constructor(
    readonly parcel: Parcel,
    readonly at: number
  ) {
    super()
  }
}

export class Lane {
  lastAnswerAt = Number.NEGATIVE_INFINITY
  /** In the order in which they were sent, which is that of the answers. */
  private readonly underway = new Fifo<Sent>()

  constructor(
    private readonly wire: Wire,
    private readonly clock: LockClock,
    private readonly events: LaneEvents
  ) {}

  /** Since when it has been silent although answers are due; `undefined` if none is due. */
  get silentSince(): number | undefined {
    const first = this.underway.first
    return first === undefined ? undefined : Math.max(first.at, this.lastAnswerAt)
  }

  /** When the first of those was sent that are not answered. */
  get oldestAt(): number | undefined {
    return this.underway.first?.at
  }

  send(parcel: Parcel): void {
    // given up meanwhile, and undone: it must not come behind that
    if (!parcel.isOpen) return
    const sent = new Sent(parcel, this.clock.unsafeNow())
    for (const call of parcel.calls) call.isSent()
    this.underway.add(sent)
    this.wire.send(
      parcel,
      (reply) => {
        if (!this.isOver(sent)) return
        this.answered(sent.at)
        const alone = parcel.deliver(reply, sent.at)
        if (alone.length > 0) this.askAgain(alone)
      },
      (error) => {
        if (this.isOver(sent)) this.onError(parcel, error, sent.at)
      }
    )
  }

  /** Nothing of it will be answered any more; returns what was. */
  cut(): ReadonlyArray<Call> {
    const calls = this.underway.drain().flatMap((sent) => sent.parcel.calls)
    for (const call of calls) call.isOver()
    return calls
  }

  private isOver(sent: Sent): boolean {
    if (!this.underway.delete(sent)) return false
    for (const call of sent.parcel.calls) call.isOver()
    return true
  }

  private answered(sentAt: number): void {
    this.lastAnswerAt = this.clock.unsafeNow()
    this.events.answered(this, sentAt)
  }

  /** Refused, its keys being in two places. With its first key alone it may be possible. */
  private onItsWay(parcel: Parcel, error: unknown): void {
    // (how long ioredis has asked before it says so is nothing that answers take)
    this.answered(this.clock.unsafeNow())
    if (parcel.isBatch) return this.askAgain(parcel.calls)
    const call = parcel.calls[0]!
    const isWhole = parcel.script === call.script
    if (isWhole) call.isUndone()
    if (isWhole && !call.sentByOneKey && this.sendByOneKey(call)) return
    // (another copy of it may still be answered)
    if (call.underway === 0) call.fail(this.events.shown(error))
  }

  /** Sends it with its first key alone, if that is of use. */
  sendByOneKey(call: Call): boolean {
    const one = byOneKey(call)
    if (one === undefined || !one.isOpen) return false
    call.sentByOneKey = true
    this.send(one)
    return true
  }

  private askAgain(calls: ReadonlyArray<Call>): void {
    for (const call of calls) call.isUndone()
    this.events.unanswered(this, calls)
  }

  private onError(parcel: Parcel, error: unknown, sentAt: number): void {
    if (isOnItsWay(error)) return this.onItsWay(parcel, error)
    if (!isServerError(error) && !isDown(error))
      return this.events.failed(this, parcel.calls, error)
    const message = messageOf(error)
    if (message.startsWith("READONLY")) this.events.readOnly(this)
    else this.answered(sentAt)
    if (!parcel.isBatch) return parcel.calls[0]!.fail(this.events.shown(error))
    // refused as a whole: each finds out for itself (a proxy in front of a Cluster refuses all of them)
    if (message.startsWith("CROSSSLOT")) this.events.refusedBatch()
    this.askAgain(parcel.calls.filter((call) => call.settled === undefined))
  }
}
