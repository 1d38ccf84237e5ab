/** The kinds of lock, as they are kept in Redis: their scripts, and how their claims are written. */
import type { Claim, Kind } from "../engine.js"
import type { Script } from "./lua.js"
import * as lock from "./scripts.js"
import * as semaphore from "./semaphoreScripts.js"

export interface Protocol {
  readonly kind: Kind
  /** Whether several can hold a key at once, so that more keys stand beside it. */
  readonly several: boolean
  /** Whether callers of one process share what it has, where it is less than all. */
  readonly shared: boolean
  readonly acquire: Script
  readonly heartbeat: Script
  readonly renew: Script
  readonly verify: Script
  readonly release: Script
  readonly pass: Script
  readonly adopt: Script
  /** Where a share can be made smaller. */
  readonly reshare: Script | undefined
  /** How many of the keys these scripts take; the others take all. */
  readonly renewedKeys: number
  readonly verifiedKeys: number
  /** Of claims with bounds (`bounds.ts`): what their acquires and heartbeats have more. */
  readonly bounds: ReadonlyArray<string> | undefined
  /** What a claim is in the record, and among the waiters. */
  readonly claimOf: (claim: Claim, owner: string) => string
}

export const lockProtocol: Protocol = {
  ...lock,
  kind: "lock",
  several: false,
  shared: false,
  reshare: undefined,
  renewedKeys: 2,
  verifiedKeys: 1,
  bounds: undefined,
  claimOf: ({ owner, ttlMillis }, defaultOwner) => `lock/1 ${ttlMillis} ${owner ?? defaultOwner}`
}

const { readWrite, ...semaphores } = semaphore

export const semaphoreProtocol: Protocol = {
  ...semaphores,
  kind: "semaphore",
  several: true,
  shared: false,
  renewedKeys: 6,
  verifiedKeys: 1,
  bounds: undefined,
  claimOf: ({ limit, owner, share, ttlMillis }, defaultOwner) =>
    `semaphore/1 ${ttlMillis} ${share} ${limit} ${owner ?? defaultOwner}`
}

export const readWriteProtocol: Protocol = {
  ...semaphoreProtocol,
  ...readWrite,
  kind: "readWriteLock",
  shared: true,
  claimOf: ({ limit, owner, share, ttlMillis }, defaultOwner) =>
    `rwlock/1 ${ttlMillis} ${share} ${limit} ${owner ?? defaultOwner}`
}

export const protocols: Record<Kind, Protocol> = {
  lock: lockProtocol,
  semaphore: semaphoreProtocol,
  readWriteLock: readWriteProtocol
}
