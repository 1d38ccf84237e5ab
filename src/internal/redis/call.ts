/**
 * A script call: when it was asked for, when the copy of it was sent that was answered, and what
 * became of it, also after its caller has gone.
 */
import type { LockClock, ScheduledCall } from "../engine.js"
import { Link } from "../common/fifo.js"
import { isolated } from "../common/isolated.js"
import type { Script } from "./scripts.js"

/** What a call needs to know of what carries it, and tells it. */
export interface Carrier {
  readonly clock: LockClock
  /** How long a command may take. */
  readonly timeoutMillis: number
  /** Counts the connections of a client that sends commands again by itself. */
  readonly connection: number
  /** The call has not been answered within its patience. Told again while that is so. */
  overdue(call: Call): void
  /** What became of the call is known. */
  settled(call: Call): void
}

export type Outcome = Answered | Failed | Silent

/**
 * Outcomes, and all else that is made for every command, are instances of classes and not literals:
 * V8 tends to move what a hot literal makes to its old generation, where it keeps all that it
 * refers to, fibers and all, from being collected young. That was a fifth of the processor's time.
 */
class Answered {
  readonly _tag = "Answered"
  constructor(readonly reply: unknown) {}
}

class Failed {
  readonly _tag = "Failed"
  constructor(readonly error: unknown) {}
}

/** No answer within the deadline. One can still come. */
class Silent {
  readonly _tag = "Silent"
}

const silent = new Silent()

/** A listener that gets the outcome of a call, once. */
class Observer {
  next: Observer | undefined = undefined
  told = false

  constructor(
    private readonly observer: (outcome: Outcome) => void,
    /** When it is told that there is no answer. */
    readonly patientUntil: number
  ) {}

  tell(outcome: Outcome): void {
    if (this.told) return
    this.told = true
    isolated(this.observer, outcome)
  }

  readonly forget = (): void => {
    this.told = true
  }
}

/** Is in one list at most: that of the calls without an answer. */
export class Call extends Link {
  readonly askedAt: number
  /** When the copy was sent that was answered; before that, when it was asked for. */
  sentAt: number
  /** What came of it; `undefined` while nothing did. */
  settled: Outcome | undefined = undefined
  /** How many copies of it have been sent, and how many of them may still be answered. */
  timesSent = 0
  underway = 0
  /** Whether it was sent with its first key alone as well, and whether that copy was answered first. */
  sentByOneKey = false
  byOneKey = false

  private abandoned = false
  private connection: number
  private observers: Observer | undefined = undefined
  private timer: ScheduledCall
  private dueAt: number
  private looked = false

  constructor(
    protected carrier: Carrier,
    readonly script: Script,
    readonly keys: ReadonlyArray<string>,
    readonly args: ReadonlyArray<string>,
    /** How long an answer is waited for before the connection is doubted. */
    readonly patienceMillis: number
  ) {
    super()
    this.askedAt = this.sentAt = carrier.clock.unsafeNow()
    this.connection = carrier.connection
    this.dueAt = this.askedAt + patienceMillis
    this.timer = carrier.clock.unsafeSchedule(this.dueAt, this.onTime)
  }

  /** Whether another answer to it would say nothing any more. */
  get isAnswered(): boolean {
    return this.settled !== undefined
  }

  /** It has not gone out, and another one carries it from now on. */
  moveTo(carrier: Carrier): void {
    this.carrier = carrier
  }

  /** A copy of it goes out now. */
  isSent(): void {
    if (this.timesSent++ === 0) this.connection = this.carrier.connection
    this.underway++
  }

  /** Of its copies one has been answered, or will not be. */
  isOver(): void {
    this.underway--
  }

  /**
   * A copy was answered with nothing: whatever it was, nothing was done. (Of a copy that a client has sent
   * again by itself, that says nothing of the first one.)
   */
  isUndone(): void {
    if (this.connection === this.carrier.connection) this.timesSent--
  }

  /** Whether it may have been applied more than once. */
  get resent(): boolean {
    return this.timesSent > 1 || this.connection !== this.carrier.connection
  }

  /** Whether any caller still needs the answer: a call whose callers gave up is not sent again. */
  get isWanted(): boolean {
    if (this.settled !== undefined || this.abandoned) return false
    for (let one = this.observers; one !== undefined; one = one.next) if (!one.told) return true
    return false
  }

  /** Its caller has gone: it is not sent, or sent again, any more. */
  abandon(): void {
    this.abandoned = true
    // nobody would ever say what became of it
    if (this.underway === 0) this.fail(new Error("There was no connection to send the command on."))
  }

  /** Calls back when the call has settled, however late; returns how not to be called. */
  whenSettled(observer: (outcome: Outcome) => void): () => void {
    return this.observe(observer, Number.POSITIVE_INFINITY)
  }

  /** Calls back once: when the call has settled, or at that time. Returns how not to be called. */
  until(at: number, observer: (outcome: Outcome) => void): () => void {
    const forget = this.observe(observer, at)
    if (at < this.dueAt && this.settled === undefined) this.tickAt(at)
    return forget
  }

  /** The same, so many ms after it was asked for. */
  within(millis: number, observer: (outcome: Outcome) => void): () => void {
    return this.until(this.askedAt + millis, observer)
  }

  private observe(callback: (outcome: Outcome) => void, patientUntil: number): () => void {
    if (this.settled !== undefined) {
      callback(this.settled)
      return nothing
    }
    const observer = new Observer(callback, patientUntil)
    let last = this.observers
    if (last === undefined) {
      this.observers = observer
    } else {
      while (last.next !== undefined) last = last.next
      last.next = observer
    }
    return observer.forget
  }

  private tickAt(at: number): void {
    this.dueAt = at
    this.timer.cancel()
    this.timer = this.carrier.clock.unsafeSchedule(at, this.onTime)
  }

  private readonly onTime = (): void => {
    if (this.settled !== undefined) return
    const now = this.carrier.clock.unsafeNow()
    if (now - this.dueAt > 20 && !this.looked) {
      // this process was stopped or busy: the answer may be here already, unread
      this.looked = true
      setImmediate(this.onTime)
      return
    }
    this.looked = false
    // (timers may come a little early)
    if (now + 10 >= this.askedAt + this.patienceMillis) this.carrier.overdue(this)
    // it can have settled by that
    if (this.settled !== undefined) return
    let next = now + this.patienceMillis / 2
    const impatient: Array<Observer> = []
    for (let one = this.observers; one !== undefined; one = one.next) {
      if (one.told) continue
      if (now + 10 < one.patientUntil) next = Math.min(next, one.patientUntil)
      else impatient.push(one)
    }
    this.tickAt(next)
    for (const one of impatient) one.tell(silent)
    // kept for a connection that nobody waits for any more
    if (this.underway === 0 && this.settled === undefined && !this.isWanted) this.abandon()
  }

  reply(reply: unknown, sentAt: number, byOneKey = false): void {
    if (this.settled !== undefined) return
    this.sentAt = sentAt
    this.byOneKey = byOneKey
    this.settle(new Answered(reply))
  }

  fail(error: unknown): void {
    this.settle(new Failed(error))
  }

  private settle(outcome: Outcome): void {
    if (this.settled !== undefined) return
    this.timer.cancel()
    this.settled = outcome
    this.carrier.settled(this)
    for (let one = this.observers; one !== undefined; one = one.next) one.tell(outcome)
  }
}

const nothing = (): void => {}
