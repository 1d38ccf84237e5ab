import type { Commands } from "./commands.js"
import type { Doubts } from "./doubts.js"
import type { Messages } from "./messages.js"

/** What was last known of the server's clock: then it said so many µs, or a little later. */
export interface ServerTime {
  micros: number
  sentAt: number
}

/** What everything in a store shares. */
export interface Surroundings {
  readonly commands: Commands
  readonly messages: Messages
  readonly doubts: Doubts
  /** Tokens that go on elsewhere, or have ended: what is said of them is not for this process. */
  readonly ignored: Set<string>
  /** `undefined` before the first answer that tells it. */
  serverTime: ServerTime | undefined
  /** The part that all tokens of the store share, and the channel on which it is told of grants. */
  readonly storeId: string
  /** The description of holders that give none. */
  readonly owner: string
  /** Where it stands which holders of a key have been revoked of late. */
  readonly revokedKey: (key: string) => string
  readonly tickKey: (key: string) => string
  /** How often a waiter says that it is there (a third of the ttl, if that is less). */
  readonly heartbeatMillis: number
  /** How often the first in the queue asks while a foreign program holds the key. */
  readonly foreignPollMillis: number
  /** How long a lease is passed on within this process before the others' queue is looked at. */
  readonly localHandoffMillis: number
  readonly warn: (message: string) => void
}
