/**
 * What carries calls to Redis: connections of our own (`connections.ts`, and `shards.ts` for those to a
 * Cluster), or a client that the user made (`given.ts`). The rest of the store is the same for all.
 */
import type { LockClock } from "../engine.js"
import type { Call, Carrier } from "./call.js"
import type { ClientOptions, SubscriberClient } from "./client.js"
import type { Parcel } from "./parcel.js"

/** What carries the calls about a key. */
export interface Route extends Carrier {
  readonly options: ClientOptions
  /** Whether it makes connections, and replaces them. */
  readonly isOwn: boolean
  /** The state of the connection, for messages to people. */
  readonly status: string
  /** The last trouble with the connection: why nothing is answered. */
  readonly lastError: unknown
  /** Whether there is no connection, and never will be one. */
  readonly ended: boolean
  /** Whether what is sent goes out at once. */
  readonly isReady: boolean
  /** Since when no answer has come although some are due; `undefined` if none is due. */
  readonly silentSince: number | undefined
  /** How long the slowest answer of late took, in milliseconds. */
  readonly slowestMillis: number
  /** Sends them. */
  send(parcel: Parcel): void
  /** Keeps it until there is a connection: as long as it is wanted. */
  keep(call: Call): void
}

export interface Transport {
  readonly clock: LockClock
  /** How long a command may take. */
  readonly timeoutMillis: number
  readonly options: ClientOptions
  readonly ended: boolean
  readonly lastAnswerAt: number
  /** The same of those parts of a Cluster that owe an answer, if there are any. */
  readonly answeredAt?: number
  /** When the connection was made that there is, or was. */
  readonly connectedAt: number
  /** When one was made in place of another one, which may lead to another server. */
  readonly replacedAt: number
  readonly isCluster: boolean
  /** Whether several calls may travel in one command: not before that has been tried. */
  together: boolean
  /** The same for all keys, but for a store's own connections to a Cluster: each shard has one. */
  routeOf(key: string): Route
  /** Another connection to the same place, for messages: the first try, the second, and so on. */
  subscriber(attempt: number): SubscriberClient
  /** An error that may be shown: without passwords and tokens. */
  shown(error: unknown): unknown
  /** Gives the connections up; calls without an answer fail. */
  end(): void
}

/** How fast the slowest answer is forgotten, which can have been a stall of this process. */
const halfLife = 10_000

/** The slowest answer of late: a maximum that fades. */
export class Slowest {
  millis = 0
  private at = 0

  add(tookMillis: number, now: number): void {
    this.millis = Math.max(tookMillis, this.millis * 2 ** ((this.at - now) / halfLife))
    this.at = now
  }
}
