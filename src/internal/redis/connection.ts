/** Connections, as far as `Connections` knows them: what makes them, and what they tell. */
import type { LockClock } from "../engine.js"
import type { ClientOptions, SubscriberClient } from "./client.js"
import { Lane, type LaneEvents, type Wire } from "./lane.js"

/** One connection, or the attempt to make it. It is not made again by itself. */
export interface Connection extends Wire {
  /** Asks for any answer at all. */
  ping(onReply: () => void): void
  /** Lets go of it at once. Nothing is heard of it afterwards. */
  reset(): void
}

export interface ConnectionEvents {
  /** It is ready for commands. */
  greeted(): void
  /** It has ended, or could not be made. Told once. */
  closed(error: unknown): void
  /** Something went wrong, that may not be the end of it. */
  trouble(error: unknown): void
}

/** Where connections come from. */
export interface Network {
  readonly options: ClientOptions
  readonly isCluster: boolean
  /** Whether it is asked anew, for each connection, where the server is: of Sentinels. */
  readonly byName: boolean
  /** Whether the first connection is made by the first call. */
  readonly isLazy: boolean
  dial(events: ConnectionEvents): Connection
  subscriber(attempt: number): SubscriberClient
  /** How long to wait before the next try, after so many in a row; `undefined`: it is the end. */
  pause(times: number): number | undefined
  /** An error that may be shown: without passwords and tokens. */
  shown(error: unknown): unknown
}

/** A connection, and what is on its way on it. */
export class Dialled {
  readonly lane: Lane
  greetedAt = Number.POSITIVE_INFINITY

  constructor(
    readonly connection: Connection,
    clock: LockClock,
    events: LaneEvents
  ) {
    this.lane = new Lane(connection, clock, events)
  }

  get greeted(): boolean {
    return this.greetedAt !== Number.POSITIVE_INFINITY
  }
}
