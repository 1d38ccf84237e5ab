/**
 * The one connection on which a store is told of grants: opened when the first waiter comes, and
 * closed with the store. Where it is refused, or away, waiters ask at their heartbeat: a message
 * is a short cut, never the only way.
 */
import type { LockClock } from "../../LockStore.js"
import { type Busy, readFence } from "./answers.js"
import { type RedisClient, type SubscriberClient, subscriberOf } from "./client.js"
import { messageOf } from "./replyErrors.js"

/** Told the fencing token and the ttl of a grant, or nothing: messages may have been missed, ask. */
type Listener = (fencingToken?: number, ttlMillis?: number) => void

/** What tells a waiter of its grant; earlier versions did not name the key. */
const grant = /^(\S+) (\d+) (\d+)(?: ([^]+))?$/

/** Of so many keys of foreign programs it is remembered that there has been a warning. */
const mostForeverLocked = 1_000

export class Messages {
  private client: SubscriberClient | undefined = undefined
  private readonly listeners = new Map<string, Listener>()
  private readonly foreignKeys = new Map<string, () => void>()
  private readonly foreverLocked = new Set<string>()
  private warned = false
  private closed = false
  /** Counts the messages, to see whether the connection still brings any. */
  private received = 0
  /** Told of a grant for which nobody listens: its token, the key as stored, the ttl. */
  onStray: ((token: string, key: string, ttlMillis: number) => void) | undefined = undefined
  private replaceNotBefore = 0
  private replacePauseMillis = 1_000

  constructor(
    private readonly commandClient: RedisClient,
    /** The channel on which this store is told of grants. */
    private readonly channel: string,
    private readonly clock: LockClock,
    private readonly warn: (message: string) => void
  ) {}

  listen(token: string, listener: Listener): void {
    this.listeners.set(token, listener)
  }

  unlisten(token: string): void {
    this.listeners.delete(token)
  }

  /** Keyspace notifications, where the server sends them, tell of what foreign programs do. */
  watchKey(key: string, listener: () => void): void {
    const channel = this.keyspaceChannel(key)
    if (this.foreignKeys.has(channel)) return
    this.foreignKeys.set(channel, listener)
    if (this.client?.status === "ready") this.subscribe(this.client, channel)
  }

  unwatchKey(key: string, listener: () => void): void {
    const channel = this.keyspaceChannel(key)
    if (this.foreignKeys.get(channel) !== listener) return
    this.foreignKeys.delete(channel)
    if (this.client?.status === "ready") this.client.unsubscribe(channel).catch(() => {})
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
    const { received } = this
    this.clock.unsafeSchedule(this.clock.unsafeNow() + 500, () => {
      const now = this.clock.unsafeNow()
      if (this.received !== received || now < this.replaceNotBefore || this.closed) return
      const { client } = this
      // ("connect": it was accepted, and never greeted)
      if (client?.status !== "ready" && client?.status !== "connect") return
      this.replaceNotBefore = now + this.replacePauseMillis
      this.replacePauseMillis = Math.min(60_000, 2 * this.replacePauseMillis)
      client.disconnect(true)
    })
  }

  open(): void {
    if (this.client !== undefined || this.closed) return
    try {
      this.client = this.connect()
    } catch (error) {
      this.warnOnce(`a second connection could not be opened (${messageOf(error)})`)
    }
  }

  private connect(): SubscriberClient {
    const client = subscriberOf(this.commandClient)
    client.on("error", () => {})
    client.on("message", this.onMessage)
    client.on("ready", () => {
      this.subscribe(client, this.channel)
      for (const channel of this.foreignKeys.keys()) this.subscribe(client, channel)
    })
    return client
  }

  close(): void {
    this.closed = true
    this.client?.disconnect()
  }

  private subscribe(client: SubscriberClient, channel: string): void {
    client.subscribe(channel).then(
      () => {
        // what was said before this moment may have been missed
        if (channel === this.channel) {
          this.listeners.forEach((listener) => listener())
        }
      },
      (error) => {
        if (channel !== this.channel) return
        this.warnOnce(
          `Redis refused the subscription to ${channel} (${messageOf(error)}). An ACL needs &erl1:* and +subscribe`
        )
      }
    )
  }

  private warnOnce(why: string): void {
    if (this.warned || this.closed) return
    this.warned = true
    this.warn(`Waiters poll at their heartbeat, handoffs have that delay: ${why}.`)
  }

  private readonly onMessage = (channel: string, message: string): void => {
    if (channel !== this.channel) {
      if (message === "del" || message === "expired") this.foreignKeys.get(channel)?.()
      return
    }
    this.received++
    this.replacePauseMillis = 1_000
    const [, token, fence, ttl, key] = grant.exec(message) ?? []
    if (token === undefined) return
    const listener = this.listeners.get(token)
    // (what is no number is no reason to believe anything, but to ask)
    if (listener !== undefined) listener(readFence(fence) ?? Number.POSITIVE_INFINITY, Number(ttl))
    else if (key !== undefined) this.onStray?.(token, key, Number(ttl))
  }

  private keyspaceChannel(key: string): string {
    const { db = 0, keyPrefix = "" } = this.commandClient.options ?? {}
    return `__keyspace@${db}__:${keyPrefix}${key}`
  }
}
