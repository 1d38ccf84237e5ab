/** What is on its way on one connection: parcels, in the order in which they were sent. */
import type { LockClock } from "../../LockStore.js"
import type { Call } from "./call.js"
import type { Parcel } from "./parcel.js"
import { isServerError, messageOf } from "./replyErrors.js"

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

export class Lane {
  lastAnswerAt = Number.NEGATIVE_INFINITY
  /** When each was sent; the order is that of the answers. */
  private readonly parcels = new Map<Parcel, number>()

  constructor(
    private readonly wire: Wire,
    private readonly clock: LockClock,
    private readonly events: LaneEvents
  ) {}

  /** Since when it has said nothing of what it owes; `undefined` where it owes nothing. */
  get silentSince(): number | undefined {
    for (const sentAt of this.parcels.values()) return Math.max(sentAt, this.lastAnswerAt)
    return undefined
  }

  send(parcel: Parcel): void {
    // given up meanwhile, and undone: it must not come behind that
    if (!parcel.isOpen) return
    const sentAt = this.clock.unsafeNow()
    for (const call of parcel.calls) call.isSent()
    this.parcels.set(parcel, sentAt)
    this.wire.send(
      parcel,
      (reply) => {
        if (!this.isOver(parcel)) return
        this.answered(sentAt)
        const alone = parcel.deliver(reply, sentAt)
        if (alone.length > 0) this.askAgain(alone)
      },
      (error) => {
        if (!this.isOver(parcel)) return
        this.onError(parcel, error, sentAt)
      }
    )
  }

  /** Nothing of it will be answered any more; returns what was. */
  cut(): ReadonlyArray<Call> {
    const calls: Array<Call> = []
    for (const parcel of this.parcels.keys()) {
      for (const call of parcel.calls) {
        call.isOver()
        calls.push(call)
      }
    }
    this.parcels.clear()
    return calls
  }

  private isOver(parcel: Parcel): boolean {
    if (!this.parcels.delete(parcel)) return false
    for (const call of parcel.calls) call.isOver()
    return true
  }

  private answered(sentAt: number): void {
    this.lastAnswerAt = this.clock.unsafeNow()
    this.events.answered(this, sentAt)
  }

  private askAgain(calls: ReadonlyArray<Call>): void {
    for (const call of calls) call.isUndone()
    this.events.unanswered(this, calls)
  }

  private onError(parcel: Parcel, error: unknown, sentAt: number): void {
    if (!isServerError(error)) return this.events.failed(this, parcel.calls, error)
    const message = messageOf(error)
    if (message.startsWith("READONLY")) this.events.readOnly(this)
    else this.answered(sentAt)
    if (!parcel.isBatch) return parcel.calls[0]!.fail(this.events.shown(error))
    // refused as a whole: each finds out for itself (a proxy in front of a Cluster refuses all of them)
    if (message.startsWith("CROSSSLOT")) this.events.refusedBatch()
    this.askAgain(parcel.calls.filter((call) => call.settled === undefined))
  }
}
