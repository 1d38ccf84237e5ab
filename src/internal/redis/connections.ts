/**
 * A store's own connections: one, and while that one is doubted a second one beside it.
 *
 * Slow is not dead. A connection is given up by us only when another one has been made and has
 * answered: until then what is on its way may still be answered, and counts; what is waited for is
 * sent on the other one as well, which every script allows for.
 *
 * | state      | connections                        | what is asked for                          |
 * | ---------- | ---------------------------------- | ------------------------------------------ |
 * | `away`     | none: a pause, then one is made    | is kept                                    |
 * | `dialling` | one, not greeted                   | is kept                                    |
 * | `ready`    | one, greeted                       | goes out on it                             |
 * | `doubted`  | one, silent: soon a second is made | as before                                  |
 * | `bridging` | one, and a second that is not greeted | as before                               |
 * | `proving`  | two, both greeted                  | goes out on both                           |
 * | `ended`    | none                               | fails                                      |
 *
 * | event                                   | what follows                                            |
 * | --------------------------------------- | ------------------------------------------------------- |
 * | greeted (it is ready for commands)      | what is waited for goes out on it; another one that has not been greeted is given up |
 * | answered                                | trusted: the other one is given up                      |
 * | silent (nothing for a call's patience), or slow (not greeted in its time) | doubted: a second one is made, at once or after a pause |
 * | the second one's time is over           | it is given up; the next one after it, with twice the time |
 * | READONLY                                | as silent; of the second one: it is given up            |
 * | closed, by the server or the network    | the other one goes on; where there is none: `away`      |
 * | end                                     | both are given up; what is not answered fails           |
 *
 * A call that waits for a connection never causes one to be replaced: only what was sent and is not
 * answered does. A connection that is given up is reset, so that the kernel sends nothing more.
 */
import type { LockClock, ScheduledCall } from "../engine.js"
import { Fifo } from "../common/fifo.js"
import type { Call } from "./call.js"
import type { ClientOptions, SubscriberClient } from "./client.js"
import { type ConnectionEvents, Dialled, type Network } from "./connection.js"
import type { Lane, LaneEvents } from "./lane.js"
import { alone, pack, type Parcel } from "./parcel.js"
import { connectionClosed } from "./replyErrors.js"
import { Spares } from "./spares.js"
import { type Route, Slowest, type Transport } from "./transport.js"

export class Connections implements Transport, Route, LaneEvents {
  readonly connection = 0
  readonly isOwn = true
  lastError: unknown = undefined
  lastAnswerAt = Number.NEGATIVE_INFINITY
  connectedAt = Number.NEGATIVE_INFINITY
  replacedAt = Number.NEGATIVE_INFINITY
  ended = false
  together = false

  private readonly slowest = new Slowest()
  /** At most two, the older one first. */
  private lines: ReadonlyArray<Dialled> = []
  /** What is not answered yet, whether sent or kept, in the order in which it was asked for. */
  private readonly open = new Fifo<Call>()
  /** The next thing to do about connections, and when. */
  private timer: ScheduledCall | undefined = undefined
  /** How often in a row no connection could be made, or none that answered. */
  private failures = 0
  private readonly spares: Spares
  private doubted = false
  private demotedAt = Number.NEGATIVE_INFINITY

  constructor(
    private readonly network: Network,
    readonly clock: LockClock,
    readonly timeoutMillis: number,
    /** For what keeps the process alive, unlike the other timers of a store. */
    private readonly schedule: LockClock["unsafeSchedule"] = clock.unsafeSchedule,
    /** Told when calls have lost their connection, and there is no other one here. */
    private readonly onStranded: () => void = nothing
  ) {
    this.spares = new Spares(timeoutMillis, this.slowest, network.byName)
    if (!network.isLazy) this.dial()
  }

  get options(): ClientOptions {
    return this.network.options
  }

  get isCluster(): boolean {
    return this.network.isCluster
  }

  get isReady(): boolean {
    return this.lines.some((line) => line.greeted)
  }

  /** Whether nothing is asked for that is not answered. */
  get isIdle(): boolean {
    return this.open.size === 0
  }

  /** What waits for a connection. */
  get kept(): ReadonlyArray<Call> {
    return this.open.all.filter(({ isWanted, underway }) => isWanted && underway === 0)
  }

  get silentSince(): number | undefined {
    return this.lines[0]?.lane.silentSince
  }

  get slowestMillis(): number {
    return this.slowest.millis
  }

  get status(): string {
    if (this.ended) return "ended"
    const [older, younger] = this.lines
    if (older === undefined) return "away"
    if (younger !== undefined) return older.greeted && younger.greeted ? "proving" : "bridging"
    return this.doubted ? "doubted" : older.greeted ? "ready" : "dialling"
  }

  routeOf(): Route {
    return this
  }

  send(parcel: Parcel): void {
    for (const call of parcel.calls) this.open.add(call)
    let sent = false
    for (const line of this.lines) {
      if (!line.greeted) continue
      line.lane.send(parcel)
      sent = true
    }
    if (!sent) for (const call of parcel.calls) this.keep(call)
  }

  keep(call: Call): void {
    // (not before the caller listens)
    if (this.ended) return queueMicrotask(() => call.fail(connectionClosed()))
    this.open.add(call)
    // lazy, and asked for the first time
    if (this.lines.length === 0 && this.timer === undefined) this.dial()
  }

  settled(call: Call): void {
    this.open.delete(call)
  }

  overdue(call: Call): void {
    const older = this.lines[0]
    if (older === undefined || !older.greeted || this.lines.length > 1) return
    const since = older.lane.silentSince
    if (since === undefined) return
    // (timers may come a little early)
    const silence = this.clock.unsafeNow() + 10 - since
    // (a pause is for connections that are late now and then, and not for one that is dead)
    const dead = Math.max(2 * call.patienceMillis, 1.25 * this.slowest.millis)
    if (silence >= call.patienceMillis) this.doubt(silence >= dead)
  }

  // ---------------------------------------------------------------- what connections tell

  answered(lane: Lane, sentAt: number): void {
    const now = this.clock.unsafeNow()
    this.lastAnswerAt = now
    this.slowest.add(now - sentAt, now)
    this.trust(lane)
  }

  readOnly(lane: Lane): void {
    const now = this.clock.unsafeNow()
    const line = this.lines.find((line) => line.lane === lane)
    if (line === undefined) return
    if (line === this.lines[1]) {
      // the same place again
      this.giveUp(line)
      this.settleDown()
    }
    // it answers that at once and each time, where silence takes a while
    if (now < this.demotedAt + this.timeoutMillis) return
    this.demotedAt = now
    this.doubt()
  }

  failed(lane: Lane, calls: ReadonlyArray<Call>, error: unknown): void {
    const line = this.lines.find((line) => line.lane === lane)
    // whatever it was, nothing can be relied on that comes on it
    if (line !== undefined) this.closed(line, error)
    this.orphaned(calls, error)
  }

  unanswered(lane: Lane, calls: ReadonlyArray<Call>): void {
    if (!this.lines.some((line) => line.lane === lane)) this.orphaned(calls, connectionClosed())
    else for (const call of calls) lane.send(alone(call))
  }

  refusedBatch(): void {
    this.together = false
  }

  shown(error: unknown): unknown {
    return this.network.shown(error)
  }

  private greeted(line: Dialled): void {
    const isFirst = this.connectedAt === Number.NEGATIVE_INFINITY
    this.connectedAt = line.greetedAt = this.clock.unsafeNow()
    if (!isFirst) this.replacedAt = this.connectedAt
    this.lastError = undefined
    const others = this.lines.filter((other) => other !== line)
    for (const other of others) if (!other.greeted) this.giveUp(other)
    if (this.lines.length === 1) this.settleDown()
    const calls: Array<Call> = []
    for (const call of this.open.all) {
      if (call.isWanted) calls.push(call)
      // nobody waits for it, and nobody will ever answer it
      else if (call.underway === 0) call.abandon()
    }
    for (const parcel of pack(calls, this.together)) line.lane.send(parcel)
    // the other one is only given up for one that has answered
    if (calls.length === 0 && this.lines.length > 1) {
      line.connection.ping(() => this.lines.includes(line) && this.trust(line.lane))
    }
  }

  /** It has answered: it is the one. */
  private trust(lane: Lane): void {
    if (!this.doubted && this.failures === 0) return
    const line = this.lines.find((line) => line.lane === lane)
    if (line === undefined) return
    this.failures = 0
    const wasSecond = line !== this.lines[0]
    for (const other of this.lines) if (other !== line) this.giveUp(other)
    if (wasSecond) this.spares.wasOfUse()
    this.settleDown()
  }

  private settleDown(): void {
    this.doubted = false
    this.later()
  }

  private closed(line: Dialled, error: unknown): void {
    const at = this.lines.indexOf(line)
    if (at === -1) return
    this.lastError = this.network.shown(error) ?? this.lastError
    this.lines = this.lines.filter((other) => other !== line)
    line.connection.reset()
    const calls = line.lane.cut()
    // it was greeted, and owed nothing: not a place that closes on every command
    if (line.greeted && calls.length === 0) this.failures = 0
    if (this.lines.length === 0) this.away()
    // the second one is the only one now
    else if (at === 0) this.watch(this.lines[0]!)
    else if (this.doubted) this.tryLater()
    this.orphaned(calls, error ?? connectionClosed())
  }

  /** Lets go of one of two. */
  private giveUp(line: Dialled): void {
    this.lines = this.lines.filter((other) => other !== line)
    line.connection.reset()
    this.orphaned(line.lane.cut(), connectionClosed())
  }

  /** They were cut: some have another copy, some are waited for, and go out on the next connection. */
  private orphaned(calls: ReadonlyArray<Call>, error: unknown): void {
    for (const call of calls) {
      if (call.underway > 0 || call.isAnswered) continue
      if (!call.isWanted) call.fail(this.network.shown(error))
      else this.lines.find((line) => line.greeted)?.lane.send(alone(call))
    }
    if (!this.isReady) this.onStranded()
  }

  private dial(): void {
    this.later()
    const events: ConnectionEvents = {
      greeted: () => this.lines.includes(line) && this.greeted(line),
      closed: (error) => this.closed(line, error),
      trouble: (error) => void (this.lastError = this.network.shown(error))
    }
    const line = new Dialled(this.network.dial(events), this.clock, this)
    this.lines = [...this.lines, line]
    this.watch(line)
  }

  /** None is left: the next one, after a pause. */
  private away(): void {
    this.doubted = false
    const pause = this.network.pause(++this.failures)
    if (pause === undefined) return this.end()
    this.later(pause, () => this.dial())
  }

  /** The only one must be greeted in its time, or it is doubted; a second one must have answered. */
  private watch(line: Dialled): void {
    if (this.lines.length > 1) {
      this.later(this.spares.tryMillis, () => {
        this.giveUp(line)
        this.tryAgain()
      })
    } else {
      this.settleDown()
      if (!line.greeted) this.later(this.spares.firstTryMillis, () => this.doubt())
    }
  }

  private doubt(urgently = false): void {
    this.doubted = true
    if (this.lines.length === 1) this.tryLater(urgently)
  }

  /** A second connection, as soon as there may be one. */
  private tryLater(urgently = false): void {
    const pause = this.spares.pause(this.clock.unsafeNow(), urgently)
    if (pause > 0) this.later(pause, () => this.tryAgain())
    else this.tryAgain()
  }

  private tryAgain(): void {
    if (this.lines.length !== 1 || !this.doubted) return
    this.spares.isMade(this.clock.unsafeNow())
    this.dial()
  }

  private later(millis?: number, what: () => void = nothing): void {
    this.timer?.cancel()
    this.timer =
      millis === undefined
        ? undefined
        : this.schedule(this.clock.unsafeNow() + millis, () => {
            this.timer = undefined
            what()
          })
  }

  subscriber(attempt: number): SubscriberClient {
    return this.network.subscriber(attempt)
  }

  end(): void {
    if (this.ended) return
    this.ended = true
    this.later()
    for (const line of this.lines) {
      line.connection.reset()
      line.lane.cut()
    }
    this.lines = []
    const error = connectionClosed()
    for (const call of this.open.all) call.fail(error)
  }
}

const nothing = (): void => {}
