/**
 * A script call that was handed to a client: when it was sent, on which connection, and what became
 * of it, also after its caller has gone.
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type { LockClock, ScheduledCall } from "../../LockStore.js"
import { isolated } from "../isolated.js"
import type { Script } from "./scripts.js"

/** What a call needs to know of its connection, and tells it. */
export interface Carrier {
  readonly clock: LockClock
  /** How long a command may take. */
  readonly timeoutMillis: number
  /** Counts the connections. */
  readonly connection: number
  /** A command that was sent at that time has been answered. */
  answered(sentAt: number): void
  /** A command was not answered within its time. */
  wentSilent(): void
  /** A command that was sent then, and wants an answer within so many ms, has none. */
  suspect(sentAt: number, patienceMillis: number): void
  /** Whether nobody will ever say what became of a command of that connection. */
  hasForgotten(connection: number, patienceMillis: number): boolean
  /** A command failed; answers an error that may be shown. */
  failed(error: unknown): unknown
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

/** Who wants to know what becomes of a call: told once. */
class Observer {
  next: Observer | undefined = undefined
  told = false

  constructor(
    private readonly observer: (outcome: Outcome) => void,
    /** When it wants to be told that there is no answer. */
    readonly patientUntil: number
  ) {}

  tell(outcome: Outcome): void {
    if (this.told) return
    this.told = true
    isolated(this.observer, outcome)
  }
}

/** A script call that was handed to the client. */
export class Call {
  /** When it was handed to the client, or, before that, when it was made. */
  sentAt: number
  /** What came of it; `undefined` while nothing did. */
  settled: Outcome | undefined = undefined

  private connection: number
  private observers: Observer | undefined = undefined
  private timer: ScheduledCall
  private dueAt: number
  private looked = false

  constructor(
    private readonly carrier: Carrier,
    readonly script: Script,
    readonly keys: ReadonlyArray<string>,
    readonly args: ReadonlyArray<string>,
    /** How long a silent connection is trusted before it is replaced. */
    private readonly patienceMillis: number
  ) {
    this.sentAt = carrier.clock.unsafeNow()
    this.connection = carrier.connection
    this.dueAt = this.sentAt + patienceMillis
    this.timer = carrier.clock.unsafeSchedule(this.dueAt, this.onTime)
  }

  /** It had to wait for a connection. */
  isSentNow(): void {
    this.sentAt = this.carrier.clock.unsafeNow()
    this.connection = this.carrier.connection
  }

  /** Whether the connection was renewed since: the command may have been applied twice. */
  get resent(): boolean {
    return this.connection !== this.carrier.connection
  }

  /** Calls back when the command has settled, however late. */
  whenSettled(observer: (outcome: Outcome) => void): void {
    this.observe(observer, Number.POSITIVE_INFINITY)
  }

  /** Calls back once: when the command has settled, or so many ms after it was sent. */
  within(millis: number, observer: (outcome: Outcome) => void): void {
    this.observe(observer, this.sentAt + millis)
    if (millis < this.patienceMillis && this.settled === undefined) {
      this.tickAt(Math.min(this.dueAt, this.sentAt + millis))
    }
  }

  private observe(callback: (outcome: Outcome) => void, patientUntil: number): void {
    if (this.settled !== undefined) return callback(this.settled)
    const observer = new Observer(callback, patientUntil)
    let last = this.observers
    if (last === undefined) {
      this.observers = observer
    } else {
      while (last.next !== undefined) last = last.next
      last.next = observer
    }
  }

  /** The outcome, at the command deadline at the latest, or so many ms after it was sent. */
  bounded(millis = this.carrier.timeoutMillis): Effect.Effect<Outcome> {
    return Effect.async((resume) => this.within(millis, (outcome) => resume(Exit.succeed(outcome))))
  }

  private tickAt(at: number): void {
    this.dueAt = at
    this.timer.cancel()
    this.timer = this.carrier.clock.unsafeSchedule(at, this.onTime)
  }

  private readonly onTime = (): void => {
    const now = this.carrier.clock.unsafeNow()
    if (now - this.dueAt > 20 && !this.looked) {
      // this process was stopped or busy: the answer may be here already, unread
      this.looked = true
      setImmediate(this.onTime)
      return
    }
    if (this.settled !== undefined) return
    this.looked = false
    if (this.carrier.hasForgotten(this.connection, this.patienceMillis / 2)) {
      return this.settle(new Failed(new Error("Connection is closed.")))
    }
    if (now + 10 >= this.sentAt + this.patienceMillis)
      this.carrier.suspect(this.sentAt, this.patienceMillis)
    if (now + 10 >= this.sentAt + this.carrier.timeoutMillis) this.carrier.wentSilent()
    let next = now + this.patienceMillis / 2
    const impatient: Array<Observer> = []
    for (let one = this.observers; one !== undefined; one = one.next) {
      // timers may come a little early
      if (now + 10 < one.patientUntil) next = Math.min(next, one.patientUntil)
      else impatient.push(one)
    }
    this.tickAt(next)
    for (const one of impatient) one.tell(silent)
  }

  readonly onReply = (reply: unknown): void => {
    this.carrier.answered(this.sentAt)
    this.settle(new Answered(reply))
  }

  readonly onError = (error: unknown): void => this.settle(new Failed(this.carrier.failed(error)))

  private settle(outcome: Outcome): void {
    if (this.settled !== undefined) return
    this.timer.cancel()
    this.settled = outcome
    for (let one = this.observers; one !== undefined; one = one.next) one.tell(outcome)
  }
}
