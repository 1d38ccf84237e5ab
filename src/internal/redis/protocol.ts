/** The kinds of lock, as they are kept in Redis: their scripts, and how their claims are written. */
import type { Claim, Kind } from "../engine.js"
import type { Script } from "./lua.js"
import * as lock from "./scripts.js"
import * as semaphore from "./semaphoreScripts.js"

export interface Protocol {
  readonly kind: "lock" | "semaphore"
  /** Whether several can hold a key at once, so that more keys stand beside it. */
  readonly several: boolean
  readonly acquire: Script
  readonly heartbeat: Script
  readonly renew: Script
  readonly verify: Script
  readonly release: Script
  readonly pass: Script
  /** How many of the keys these scripts take; the others take all. */
  readonly renewedKeys: number
  readonly verifiedKeys: number
  /** What a claim is in the record, and among the waiters. */
  readonly claimOf: (claim: Claim, owner: string) => string
}

export const lockProtocol: Protocol = {
  ...lock,
  kind: "lock",
  several: false,
  renewedKeys: 2,
  verifiedKeys: 1,
  claimOf: ({ owner, ttlMillis }, defaultOwner) => `lock/1 ${ttlMillis} ${owner ?? defaultOwner}`
}

export const semaphoreProtocol: Protocol = {
  ...semaphore,
  kind: "semaphore",
  several: true,
  renewedKeys: 6,
  verifiedKeys: 1,
  claimOf: ({ limit, owner, share, ttlMillis }, defaultOwner) =>
    `semaphore/1 ${ttlMillis} ${share} ${limit} ${owner ?? defaultOwner}`
}

/** Of a kind that is among the store's capabilities. */
export const protocolOf = (kind: Kind): Protocol =>
  kind === "semaphore" ? semaphoreProtocol : lockProtocol
