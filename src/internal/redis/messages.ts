/**
 * The one connection on which a store is told of grants: opened when the first waiter comes, and
 * closed with the store. Where it is refused, or away, waiters ask at their heartbeat: a message
 * is a short cut, never the only way.
 */
import { type Busy, readEarlier, readFence, readFloor, readLast, readLimit } from "./answers.js"
import { isServerError, messageOf } from "./replyErrors.js"
import { Subscription } from "./subscription.js"
import type { Transport } from "./transport.js"

/** What a message says: that a token was granted a key (as stored), and for how long. */
export interface GrantMessage {
  readonly token: string
  readonly key: string
  readonly fencingToken: number
  readonly fencingFloor: number
  readonly leastLimit: number | undefined
  readonly earlierTokens: number
  /** The server's time of the waiter's last heartbeat that had come to it, in ms. */
  readonly beatMillis: number
  readonly lastToken: number | undefined
  readonly ttlMillis: number
  /** Whether several can hold the key at once: then the smallest fencing token of all is told. */
  readonly several: boolean
}

export interface Recipient {
  onGrant(message: GrantMessage): void
  /** Messages may have been missed: waiters must ask. */
  onSubscribed(): void
}

/** Lists of tokens, grants, and ttls and heartbeats; and the key. */
const grant = /^(\S+) ([\d:,]+) ([\d:,]+) ([^]+)$/

/** A grant of what several can hold has three parts or four; that of a lock has one or two. */
const threeParts = /:\d*:/

/** For so many keys of foreign programs the store remembers that it has warned of them. */
const mostForeverLocked = 1_000

/** So many failures of the subscription lead to a warning: a connection may break once. */
const worthAWarning = 3

export class Messages {
  private readonly subscription: Subscription
  private readonly foreignKeys = new Map<string, () => void>()
  private readonly foreverLocked = new Set<string>()
  private warned = false
  private closed = false
  /** Counts the messages, to see whether the connection still brings any. */
  private received = 0
  recipient: Recipient | undefined = undefined
  private replaceNotBefore = 0
  private replacePauseMillis = 1_000

  constructor(
    private readonly transport: Transport,
    /** The channel on which this store is told of grants. */
    private readonly channel: string,
    private readonly warn: (message: string) => void
  ) {
    this.subscription = new Subscription(channel, transport.clock, {
      connect: (attempt) => transport.subscriber(attempt),
      message: (from, message) => this.onMessage(from, message),
      subscribed: () => this.recipient?.onSubscribed(),
      failed: (error, times, since) => this.failed(error, times, since)
    })
  }

  /** Keyspace notifications, where the server sends them, tell of what foreign programs do. */
  watchKey(key: string, listener: () => void): void {
    const channel = this.keyspaceChannel(key)
    if (this.foreignKeys.has(channel)) return
    this.foreignKeys.set(channel, listener)
    this.subscription.add(channel)
  }

  unwatchKey(key: string, listener: () => void): void {
    const channel = this.keyspaceChannel(key)
    if (this.foreignKeys.get(channel) !== listener) return
    this.foreignKeys.delete(channel)
    this.subscription.remove(channel)
  }

  /** A foreign program's key without a ttl is worth a warning, once. */
  foreign(storedKey: string, key: string, busy: Busy | undefined): void {
    if (busy === undefined || !busy.foreign || busy.leftMillis !== undefined) {
      this.foreverLocked.delete(storedKey)
    } else if (!this.foreverLocked.has(storedKey)) {
      if (this.foreverLocked.size >= mostForeverLocked) this.foreverLocked.clear()
      this.foreverLocked.add(storedKey)
      this.warn(
        `Lock ${JSON.stringify(key.slice(0, 200))} is held by a program that does not use this library, and its key has no ttl: it stays locked until somebody deletes it.`
      )
    }
  }

  /**
   * A grant was found by asking, and no message told of it. If none comes in a while the connection
   * may have died in silence, as idle ones do behind a firewall: it is replaced, less and less often
   * where that does not help.
   */
  missed(): void {
    const { clock } = this.transport
    const { received } = this
    clock.unsafeSchedule(clock.unsafeNow() + 500, () => {
      const now = clock.unsafeNow()
      if (this.received !== received || now < this.replaceNotBefore) return
      if (!this.subscription.isOn) return
      this.replaceNotBefore = now + this.replacePauseMillis
      this.replacePauseMillis = Math.min(60_000, 2 * this.replacePauseMillis)
      this.subscription.doubt()
    })
  }

  open(): void {
    this.subscription.open(this.transport.connectedAt, this.transport.replacedAt)
  }

  close(): void {
    this.closed = true
    this.subscription.close()
  }

  /** Where commands are answered and the subscription is not to be had, that is worth a warning. */
  private failed(error: unknown, times: number, since: number): void {
    const isRefused = isServerError(error)
    if (!isRefused && (times < worthAWarning || this.transport.lastAnswerAt <= since)) return
    if (this.warned || this.closed) return
    this.warned = true
    this.warn(
      `Waiters learn of their turn only when they ask at their heartbeat, so handoffs are slower: the connection for messages could not be subscribed to ${this.channel} (${messageOf(this.transport.shown(error))}). The ACL must allow &erl1:* and +subscribe, the server must allow one more connection (maxclients), and a proxy must support SUBSCRIBE. The store tries it again, at least once a minute.`
    )
  }

  private readonly onMessage = (channel: string, message: string): void => {
    if (channel !== this.channel) {
      if (message === "del" || message === "expired") this.foreignKeys.get(channel)?.()
      return
    }
    this.received++
    this.replacePauseMillis = 1_000
    const [, tokens, grants, ttls, key] = grant.exec(message) ?? []
    if (tokens === undefined || grants === undefined || ttls === undefined || key === undefined)
      return
    const [ofGrants, ofTtls] = [grants.split(","), ttls.split(",")]
    const several = threeParts.test(grants)
    tokens.split(",").forEach((token, index) => {
      // (what is no number is no reason to believe anything, but to ask)
      const fencingToken = readFence(ofGrants[index]) ?? Number.POSITIVE_INFINITY
      const leastLimit = readLimit(ofGrants[index])
      const fencingFloor = readFloor(ofGrants[index], fencingToken)
      const [ttlMillis, beatMillis = 0] = (ofTtls[index] ?? "").split(":").map(Number)
      this.recipient?.onGrant({
        token,
        key,
        fencingToken,
        fencingFloor,
        leastLimit,
        earlierTokens: several ? 0 : readEarlier(ofGrants[index]),
        lastToken: readLast(ofGrants[index], fencingToken),
        beatMillis,
        ttlMillis: ttlMillis!,
        several
      })
    })
  }

  private keyspaceChannel(key: string): string {
    const { db = 0, keyPrefix = "" } = this.transport.options
    return `__keyspace@${db}__:${keyPrefix}${key}`
  }
}
