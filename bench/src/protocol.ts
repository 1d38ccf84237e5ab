/** What a process that makes load and the one that started it say to each other. */
import type { Load, Settings } from "./Contender.js"
import type { ContenderId } from "./contenders/index.js"
import type { Readings } from "./Meter.js"

export type Request =
  | {
      readonly _tag: "Open"
      readonly contender: ContenderId
      readonly settings: Settings
      readonly process: number
    }
  | {
      readonly _tag: "Run"
      readonly load: Load
      /** When to begin, and when to begin no more, by `Clock.now`. */
      readonly from: number
      readonly until: number
      /** For how long those who wait when the round is over may go on. */
      readonly patienceMillis: number
      readonly keepTenures: boolean
    }
  /** What is to be there before a round of this load. */
  | { readonly _tag: "Prepare"; readonly load: Load }
  /** To hold as many leases, each on a key of its own, until the end. */
  | { readonly _tag: "Hold"; readonly leases: number }
  /** What holding costs for so long. */
  | { readonly _tag: "Watch"; readonly millis: number }
  | { readonly _tag: "Close" }

export interface RunResult extends Readings {
  readonly cpuMicros: number
  /** The most TCP connections that it was seen to have. */
  readonly connections: number
}

export interface HoldResult {
  readonly millis: number
  /** Of what a lease keeps in memory, collectable garbage excluded. */
  readonly bytesPerLease: number
  /** Undefined where there are no fibers. */
  readonly fibersPerLease: number | undefined
}

export interface WatchResult {
  readonly cpuMicros: number
  readonly millis: number
  /** How many leases the contender itself knows to be lost. */
  readonly lost: number
  readonly failures: number
  readonly firstFailure: string | undefined
}

export interface Opened {
  readonly setUp: string
  readonly leavesOut: string
  readonly package: string
  readonly version: string
}

export type Response =
  | ({ readonly _tag: "Opened" } & Opened)
  | ({ readonly _tag: "Ran" } & RunResult)
  | { readonly _tag: "Prepared" }
  | ({ readonly _tag: "Holding" } & HoldResult)
  | ({ readonly _tag: "Watched" } & WatchResult)
  | { readonly _tag: "Closed" }
  | { readonly _tag: "Failed"; readonly message: string }

/** The key of the counter that is incremented under a lock. */
export const counterKey = "bench:counter"
