/**
 * A client that the user made, and will close. It is left alone: whether a silent connection is
 * replaced, and whether commands are sent again on the next one, is its own affair.
 */
import type { LockClock } from "../engine.js"
import { Fifo } from "../common/fifo.js"
import type { Call } from "./call.js"
import {
  type ClientOptions,
  isDisconnected,
  type RedisClient,
  type SubscriberClient,
  subscriberOf,
  watchConnection,
  wireOf
} from "./client.js"
import { Lane, type LaneEvents } from "./lane.js"
import { alone, type Parcel } from "./parcel.js"
import { connectionClosed } from "./replyErrors.js"
import { withoutSecrets } from "./secrets.js"
import { type Route, Slowest, type Transport } from "./transport.js"

export class GivenClient implements Transport, Route, LaneEvents {
  /** Counts the connections: a command that was sent on an earlier one may have been sent again. */
  connection = 0
  readonly isOwn = false
  lastError: unknown = undefined
  lastAnswerAt = Number.NEGATIVE_INFINITY
  together = false

  private readonly lane: Lane
  private readonly slowest = new Slowest()
  connectedAt = 0
  replacedAt = 0
  /**
   * Calls, while there is no connection: the client would keep them as well, but would also send
   * those that no caller needs any more.
   */
  private readonly kept = new Fifo<Call>()
  /** Whether the client keeps commands then (or else fails them at once). */
  private readonly queues: boolean
  private isClosed = false
  private readonly unwatch: () => void

  constructor(
    private readonly client: RedisClient,
    readonly clock: LockClock,
    readonly timeoutMillis: number
  ) {
    this.queues = client.options?.enableOfflineQueue !== false
    this.lane = new Lane(wireOf(client), clock, this)
    this.unwatch = watchConnection(client, {
      onReady: () => {
        const isFirst = this.connection === 0
        this.connectedAt = clock.unsafeNow()
        if (!isFirst) this.replacedAt = this.connectedAt
        this.lastError = undefined
        this.sendKept()
      },
      onEnd: () => this.sendKept(),
      onClose: () => {
        this.connection++
      },
      onError: (error) => {
        this.lastError = this.shown(error)
      }
    })
  }

  get options(): ClientOptions {
    return this.client.options ?? {}
  }

  get status(): string {
    return this.client.status
  }

  get ended(): boolean {
    return this.isClosed || this.client.status === "end"
  }

  get isCluster(): boolean {
    return this.client.isCluster === true
  }

  get isReady(): boolean {
    return !(this.queues && isDisconnected(this.client))
  }

  get slowestMillis(): number {
    return this.slowest.millis
  }

  get answeredAt(): number {
    return this.isCluster
      ? Math.min(this.lastAnswerAt, this.lane.oldestAt ?? this.lastAnswerAt)
      : this.lastAnswerAt
  }

  /** (Of a Cluster it is not known which of its nodes owes what.) */
  get silentSince(): number | undefined {
    return this.isCluster ? this.lane.oldestAt : this.lane.silentSince
  }

  routeOf(): Route {
    return this
  }

  send(parcel: Parcel): void {
    if (this.isReady) this.lane.send(parcel)
    else for (const call of parcel.calls) this.keep(call)
  }

  keep(call: Call): void {
    if (this.ended) this.lane.send(alone(call))
    else this.kept.add(call)
  }

  /** There is a connection again, or there never will be: the client says which. */
  private sendKept(): void {
    for (const call of this.kept.drain()) {
      if (call.isWanted) this.lane.send(alone(call))
      else call.abandon()
    }
  }

  settled(call: Call): void {
    this.kept.delete(call)
  }

  /**
   * The client may never say what became of a command of an earlier connection: ioredis drops such
   * commands without a word where it is told not to send them again. By now the present connection
   * has had the time to answer it.
   */
  overdue(call: Call): void {
    // ioredis may be sending it again and again, to a Cluster that refuses it while the slot moves. (A \`pass\`
    // that is merely slow can have kept the key: what gives it back must not follow.)
    if (this.isCluster && call.underway > 0 && !call.sentByOneKey && call.script.name !== "pass") {
      this.lane.sendByOneKey(call)
    }
    if (
      this.isClosed ||
      (!this.isCluster &&
        call.timesSent > 0 &&
        call.resent &&
        this.client.status === "ready" &&
        this.clock.unsafeNow() >= this.connectedAt + call.patienceMillis / 2)
    ) {
      call.fail(connectionClosed())
    }
  }

  answered(_: Lane, sentAt: number): void {
    const now = this.clock.unsafeNow()
    this.lastAnswerAt = now
    // on this connection: how long one was away says nothing of how fast answers are
    this.slowest.add(now - Math.max(sentAt, this.connectedAt), now)
  }

  readOnly(): void {}

  failed(_: Lane, calls: ReadonlyArray<Call>, error: unknown): void {
    // (the other copy of it can still be answered)
    for (const call of calls) if (call.underway === 0) call.fail(this.shown(error))
  }

  unanswered(lane: Lane, calls: ReadonlyArray<Call>): void {
    for (const call of calls) lane.send(alone(call))
  }

  refusedBatch(): void {
    this.together = false
  }

  shown(error: unknown): unknown {
    return withoutSecrets(this.options, error)
  }

  subscriber(attempt: number): SubscriberClient {
    return subscriberOf(this.client, attempt)
  }

  end(): void {
    if (this.isClosed) return
    this.isClosed = true
    this.unwatch()
    for (const call of this.kept.drain()) call.fail(connectionClosed())
  }
}
