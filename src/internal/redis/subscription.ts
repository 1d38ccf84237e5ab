/**
 * A connection that listens on one channel, and on others beside it: made again when it is lost,
 * after pauses that double where that does not help.
 *
 * | state        | what there is                                 | event                | what follows          |
 * | ------------ | --------------------------------------------- | -------------------- | --------------------- |
 * | off          | nothing                                       | open                 | dialling              |
 * | dialling     | a client that is not subscribed yet           | subscribed           | on                    |
 * |              |                                               | refused, ended, slow | pausing               |
 * | pausing      | nothing; waiters ask at their heartbeat       | the pause is over    | dialling              |
 * | on           | a subscribed client                           | ended                | pausing               |
 * |              |                                               | doubted, behind      | doubted               |
 * | doubted      | a subscribed client, another one being made   | subscribed           | on, with the new one  |
 * |              |                                               | refused, ended, slow | on, with the old one  |
 * | closed       | nothing, for good                             |                      |                       |
 */
import type { LockClock, ScheduledCall } from "../engine.js"
import { letGoOf, type SubscriberClient, whenEnded } from "./client.js"

export interface SubscriptionEvents {
  /** A client for the next try. */
  connect(attempt: number): SubscriberClient
  message(channel: string, message: string): void
  /** What was said before this moment may have been missed. */
  subscribed(): void
  /** It could not be made, so many times in a row, the first time at that moment. */
  failed(error: unknown, times: number, since: number): void
}

const firstPause = 50
const longestPause = 60_000
/** How long a client may take to be connected and subscribed: twice as long after each failure. */
const firstTry = 5_000
/** A subscription that stood for so long was a good one. */
const longEnough = 10_000

interface Listener {
  readonly client: SubscriberClient
  readonly dialledAt: number
  subscribedAt: number | undefined
}

export class Subscription {
  private current: Listener | undefined = undefined
  private next: Listener | undefined = undefined
  private readonly others = new Set<string>()
  private timer: ScheduledCall | undefined = undefined
  private attempts = 0
  private failures = 0
  private failingSince = 0
  private failedAt = 0
  private followedAt = 0
  private closed = false

  constructor(
    private readonly channel: string,
    private readonly clock: LockClock,
    private readonly events: SubscriptionEvents
  ) {}

  get isOn(): boolean {
    return this.current !== undefined
  }

  /**
   * Begins, or goes on at once where the store's other connection was made after the last failure. Where that
   * one was replaced after this one was made, it may lead to another server: this one follows, once.
   */
  open(connectedAt: number, replacedAt: number): void {
    if (this.current !== undefined) {
      if (replacedAt <= Math.max(this.current.dialledAt, this.followedAt)) return
      this.followedAt = replacedAt
      return this.doubt()
    }
    if (this.next !== undefined || this.closed) return
    if (this.failures > 0 && connectedAt <= this.failedAt) return
    this.failures = 0
    this.dial()
  }

  /** Listens on another channel as well. */
  add(channel: string): void {
    this.others.add(channel)
    this.current?.client.subscribe(channel).catch(() => {})
  }

  remove(channel: string): void {
    this.others.delete(channel)
    this.current?.client.unsubscribe(channel).catch(() => {})
  }

  /** It may lead nowhere: another one is made, and takes its place when it is subscribed. */
  doubt(): void {
    if (this.current !== undefined && this.next === undefined && !this.closed) this.dial()
  }

  close(): void {
    this.closed = true
    this.timer?.cancel()
    for (const listener of [this.current, this.next]) if (listener) letGoOf(listener.client)
    this.current = this.next = undefined
  }

  private dial(): void {
    let client: SubscriberClient
    try {
      client = this.events.connect(this.attempts++)
    } catch (error) {
      return this.failed(undefined, error)
    }
    const listener: Listener = {
      client,
      dialledAt: this.clock.unsafeNow(),
      subscribedAt: undefined
    }
    let trouble: unknown = new Error("The connection was closed.")
    this.next = listener
    client.on("error", (error) => {
      trouble = error
    })
    client.on("message", (channel: string, message: string) => {
      if (listener === this.current || listener === this.next) this.events.message(channel, message)
    })
    client.on("ready", () => {
      client.subscribe(this.channel).then(
        () => this.subscribed(listener),
        (error) => this.failed(listener, error)
      )
    })
    whenEnded(client, () => this.failed(listener, trouble))
    this.timer?.cancel()
    const atMost = Math.min(longestPause, firstTry * 2 ** this.failures)
    this.timer = this.clock.unsafeSchedule(this.clock.unsafeNow() + atMost, () =>
      this.failed(listener, new Error(`The connection was not ready within ${atMost} ms.`))
    )
  }

  private subscribed(listener: Listener): void {
    if (listener !== this.next) return
    this.timer?.cancel()
    this.next = undefined
    if (this.current !== undefined) letGoOf(this.current.client)
    this.current = listener
    listener.subscribedAt = this.clock.unsafeNow()
    for (const channel of this.others) listener.client.subscribe(channel).catch(() => {})
    this.events.subscribed()
  }

  private failed(listener: Listener | undefined, error: unknown): void {
    const now = this.clock.unsafeNow()
    if (this.closed) return
    if (listener !== undefined) {
      if (listener === this.next) this.next = undefined
      else if (listener === this.current) this.current = undefined
      else return
      letGoOf(listener.client)
      if (listener.subscribedAt !== undefined && now > listener.subscribedAt + longEnough) {
        this.failures = 0
      }
    }
    if (this.failures++ === 0) this.failingSince = now
    this.failedAt = now
    this.events.failed(error, this.failures, this.failingSince)
    // the one that was doubted goes on
    if (this.current !== undefined || this.next !== undefined) return
    const pause = Math.min(longestPause, firstPause * 2 ** (this.failures - 1))
    this.timer?.cancel()
    this.timer = this.clock.unsafeSchedule(now + pause * (0.75 + Math.random() / 4), () =>
      this.dial()
    )
  }
}
