/**
 * The one connection on which a store is told of grants: opened when the first waiter comes, and
 * closed with the store. Where it is refused, or away, waiters ask at their heartbeat: a message
 * is a short cut, never the only way.
 */
import { readFence } from "./answers.js"
import { type RedisClient, type SubscriberClient, subscriberOf } from "./client.js"
import { messageOf } from "./commands.js"

/** Told the fencing token of a grant, or `undefined`: messages may have been missed, ask. */
type Listener = (fencingToken: number | undefined) => void

export class Messages {
  private client: SubscriberClient | undefined = undefined
  private readonly listeners = new Map<string, Listener>()
  private readonly foreignKeys = new Map<string, () => void>()
  private warned = false
  private closed = false

  constructor(
    private readonly commandClient: RedisClient,
    /** The channel on which this store is told of grants. */
    private readonly channel: string,
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

  open(): void {
    if (this.client !== undefined || this.closed) return
    const client = (this.client = subscriberOf(this.commandClient))
    client.on("error", () => {})
    client.on("message", this.onMessage)
    client.on("ready", () => {
      this.subscribe(client, this.channel)
      for (const channel of this.foreignKeys.keys()) this.subscribe(client, channel)
    })
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
          this.listeners.forEach((listener) => listener(undefined))
        }
      },
      (error) => {
        if (this.warned || this.closed || channel !== this.channel) return
        this.warned = true
        this.warn(
          `Waiters will poll at their heartbeat: Redis refused the subscription to ${channel} (${messageOf(error)}). ` +
            "An ACL needs &erl1:* and +subscribe for handoffs without delay."
        )
      }
    )
  }

  private readonly onMessage = (channel: string, message: string): void => {
    if (channel !== this.channel) {
      if (message === "del" || message === "expired") this.foreignKeys.get(channel)?.()
      return
    }
    const [token = "", fence] = message.split(" ")
    const fencingToken = readFence(fence)
    if (fencingToken !== undefined) this.listeners.get(token)?.(fencingToken)
  }

  private keyspaceChannel(key: string): string {
    const { db = 0, keyPrefix = "" } = this.commandClient.options ?? {}
    return `__keyspace@${db}__:${keyPrefix}${key}`
  }
}
