/**
 * The narrow interface between the engine and a face of it. The engine (`redis`, `memory`, and what
 * decides in a lease's life) imports nothing of Effect: times are milliseconds, errors plain classes,
 * and what takes time calls back. A face makes scopes, fibers, options, logs and spans of it.
 */
import type { LockStoreOperation, LossReason } from "../LockError.js"
import type { Adopted, Capability, Kind, LockClock, NotOurs } from "./faces/lockStore.js"

export type {
  Adopted,
  Capability,
  Kind,
  LockClock,
  NotOurs,
  Ownership,
  ScheduledCall
} from "./faces/lockStore.js"
export type { LockStoreOperation, LossReason } from "../LockError.js"

/** What a store is asked for; see `LockStore.Claim`. */
export interface Claim {
  readonly key: string
  readonly kind: Kind
  readonly share: number
  readonly limit: number
  readonly ttlMillis: number
  readonly waitMillis: number
  readonly owner: string | undefined
  readonly maxHoldMillis?: number | undefined
  readonly holdAtLeastMillis?: number | undefined
  readonly adopt?: Adopted | undefined
  readonly tick?: number | undefined
  readonly tickKeptMillis?: number | undefined
  readonly direct?: boolean | undefined
  readonly whenWaiting?: ((contention: () => Contention) => void) | undefined
  readonly whenLimitDiffers?: ((limit: number) => void) | undefined
}

/** What is known of a key that somebody else has. */
export interface Contention {
  readonly owner: string | undefined
  readonly heldForMillis: number | undefined
  readonly foreign: boolean
  /** `undefined`: it has no ttl, and never ends. */
  readonly retryAfterMillis: number | undefined
  /** `undefined`: the claim is not in the queue. */
  readonly ahead: number | undefined
}

/** The claim does not wait, or has waited for as long as it may. */
export class Unavailable {
  readonly _tag = "Unavailable"
  constructor(
    readonly key: string,
    readonly waitedMillis: number,
    readonly contention: Contention,
    /** Of a claim with a tick: the last one that was granted, where the claim's is not later. */
    readonly lastTick: number | undefined = undefined
  ) {}
}

/** The store could not be reached, did not answer in time, or refused; see `LockStoreError`. */
export class StoreFailure {
  readonly _tag = "StoreFailure"
  constructor(
    readonly operation: LockStoreOperation,
    readonly key: string | undefined,
    readonly detail: string,
    readonly transient: boolean,
    readonly cause?: unknown,
    /** The store is there, and nothing was done: a claim that waits is not failed by it, but waits on. */
    readonly isPassing: boolean = false
  ) {}
}

/** The store has a bug: what it ended with is none of its answers. */
export class Died {
  readonly _tag = "Died"
  constructor(readonly cause: unknown) {}
}

/** The claim cannot be meant: a mistake of the program, and no failure. */
export class Impossible {
  readonly _tag = "Impossible"
  constructor(readonly message: string) {}
}

/** A claim of one kind, of a key that is held, or queued for, as another. */
export const keyOfAnotherKind = (key: string, found: Kind, asked: Kind): StoreFailure =>
  new StoreFailure(
    "acquire",
    key,
    `The key is in use as a ${kindNames[found]}, and was asked for as a ${kindNames[asked]}. A key is of one kind at a time: use another key.`,
    false
  )

const kindNames: Record<Kind, string> = {
  lock: "lock",
  semaphore: "semaphore",
  readWriteLock: "read-write lock"
}

/** Of a store that keeps all of a key in one place. */
export const allCapabilities: ReadonlySet<Capability> = new Set([
  "semaphore",
  "readWriteLock",
  "reshare",
  "look",
  "keys",
  "revoke",
  "maxHold",
  "holdAtLeast",
  "tick",
  "handOver"
])

/** What the claim needs, and a store with these capabilities does not have. */
export const lacking = (
  claim: Pick<Claim, "kind" | "adopt" | "holdAtLeastMillis" | "maxHoldMillis" | "tick">,
  has: ReadonlySet<Capability> | undefined
): Capability | undefined => {
  const { adopt, holdAtLeastMillis, kind, maxHoldMillis, tick } = claim
  if (kind !== "lock" && has?.has(kind) !== true) return kind
  if (adopt !== undefined && has?.has("handOver") !== true) return "handOver"
  if (holdAtLeastMillis !== undefined && has?.has("holdAtLeast") !== true) return "holdAtLeast"
  if (maxHoldMillis !== undefined && has?.has("maxHold") !== true) return "maxHold"
  // (ticks are of locks)
  if (tick !== undefined && (kind !== "lock" || has?.has("tick") !== true)) return "tick"
  return undefined
}

/**
 * The fencing token of the grant from which the bounds of a lease are counted, where that is not its own: the
 * one with which its first holder was granted it.
 */
export const countedFrom = ({ adopt }: Claim): number | undefined =>
  adopt && (adopt.firstFencingToken ?? adopt.fencingToken)

/** How long a store keeps what the claim is granted, if nobody renews it. */
export const keptMillis = ({ holdAtLeastMillis = 0, ttlMillis }: Claim): number =>
  Math.max(ttlMillis, holdAtLeastMillis)

/** For how long the tick of a claim is remembered. Where it does not say: as long as a fencing token. */
export const tickKeptMillis = (claim: Claim): number => claim.tickKeptMillis ?? 86_400_000

export const notCapable = (
  operation: LockStoreOperation,
  key: string | undefined,
  needed: Capability,
  why = "it is not among its capabilities."
): StoreFailure => new StoreFailure(operation, key, `This store has no ${needed}: ${why}`, false)

export const cannotHandOver = (key: string, why: string): StoreFailure =>
  new StoreFailure("handOver", key, `The lease cannot be handed over. ${why}`, false)

/** Why a lease for a tick cannot be handed over. */
export const tickStays = "It is of a run of a job, which ends with it."

/** Why a holder's share cannot become that, where it cannot. */
export const badShare = (key: string, share: number, present: number): StoreFailure | undefined =>
  Number.isInteger(share) && share >= 1 && share <= present
    ? undefined
    : new StoreFailure(
        "reshare",
        key,
        `The new share is ${share}, and must be a whole number from 1 to ${present}, which is the present one.`,
        false
      )

/** Of a claim that was to take over a lease: it is not there any more. */
export class Lost {
  readonly _tag = "Lost"
  constructor(
    readonly key: string,
    readonly fencingToken: number,
    readonly reason: LossReason
  ) {}
}

export type AcquireExit = Granted | Unavailable | StoreFailure | Impossible | Lost

export class Granted {
  readonly _tag = "Granted"
  constructor(readonly grant: Grant) {}
}

/** Valid until then. */
export class Renewed {
  readonly _tag = "Renewed"
  constructor(readonly validUntil: number) {}
}

/** Or not ours any more, or not known. */
export type RenewExit =
  Renewed | { readonly _tag: "NotOurs"; readonly reason: NotOurs } | StoreFailure | Died

export type OwnershipExit = "Ours" | NotOurs | StoreFailure | Died

/** Of a node of a quorum that was started, or emptied, a short time ago: it counts after so many ms. */
export class Joining {
  readonly _tag = "Joining"
  constructor(readonly leftMillis: number) {}
}

/** How not to be called back. */
export type Forget = () => void

/** Is told an answer, or why there is none. */
export type OnAnswer<A> = (exit: A | StoreFailure) => void

/** A lease as a store granted it; see `LockStore.Grant`. Each callback is called once at most. */
export interface Grant {
  readonly token: string
  readonly fencingToken: number
  readonly fencingFloor: number
  readonly validUntil: number
  /** Of a claim with `maxHoldMillis`: until when renewals can reach. */
  readonly holdUntil?: number | undefined
  readonly contention: Contention | undefined
  renew(onExit: (exit: RenewExit) => void): Forget
  verify(onExit: (exit: OwnershipExit) => void): Forget
  /**
   * `since`: when the close began that this release belongs to. `unused`: nothing was done under the
   * lease, so the key need not be held for as long as the claim says (`holdAtLeastMillis`).
   */
  release(since: number, onExit: (exit: OwnershipExit) => void, unused?: boolean): void
  readonly reshare?: ((share: number, onExit: (exit: RenewExit) => void) => Forget) | undefined
  /**
   * Of a store that can be a node of a quorum: a renewal which also sees to it that every later grant of the
   * key has a greater fencing token than that. A node that may have forgotten leases answers `Joining`, and
   * renews nothing, until the longest ttl of the quorum is over.
   */
  readonly confirm?:
    | ((
        fencingToken: number,
        longestTtlMillis: number,
        onExit: (exit: RenewExit | Joining) => void
      ) => Forget)
    | undefined
  /** Calls back in its time, also where there is no answer. */
  readonly handOver?: ((onExit: (exit: RenewExit) => void) => Forget) | undefined
  whenLost(listener: (reason: NotOurs) => void): void
}

/** A key at one moment; see `LockStore.Look`. */
export interface Look {
  readonly kind: Kind | undefined
  readonly limit: number | undefined
  readonly inUse: number
  readonly held: ReadonlyArray<HeldEntry>
  readonly pending: ReadonlyArray<PendingEntry>
  readonly heldCount: number
  readonly pendingCount: number
  /** By the clock of where the leases are kept, in whole milliseconds since 1970. */
  readonly atMillis: number
  readonly waitingHere: number
  readonly revoked: ReadonlyArray<number>
  /** The last tick that was granted, as long as that is known. */
  readonly lastTick: number | undefined
}

export interface HeldEntry {
  readonly owner: string | undefined
  readonly heldForMillis: number | undefined
  readonly foreign: boolean
  readonly share: number
  readonly limit: number
  readonly fencingToken: number | undefined
  readonly incarnation: string | undefined
  readonly isLeft: boolean
  readonly ttlLeftMillis: number | undefined
  readonly id: string | undefined
}

export interface PendingEntry {
  readonly owner: string | undefined
  readonly share: number
  readonly limit: number
  readonly waitedMillis: number | undefined
  readonly incarnation: string | undefined
  readonly id: string | undefined
}

/** Some of the keys, and where to go on; `undefined`: these were the last. */
export interface Page {
  readonly keys: ReadonlyArray<string>
  readonly next: string | undefined
}

/** A store. Members that are optional are there if they are among its capabilities. */
export interface Store {
  readonly clock: LockClock
  /** See `LockStore.identity`. */
  readonly identity?: string
  readonly capabilities: ReadonlySet<Capability>
  /** See `LockStore.whyNot`. */
  readonly whyNot?: ((needed: Capability) => string | undefined) | undefined
  /**
   * Of a store that can be a node of a quorum: says which server it is, by a name that no other one has. Its
   * grants have `confirm`.
   */
  readonly identify?: ((onExit: OnAnswer<string>) => Forget) | undefined
  /**
   * When it last had an answer; while a part of its servers owes some, of that part. Absent: it has none to
   * wait for.
   */
  readonly answeredAt?: number
  /**
   * Takes a lease, waiting for it as long as the claim says. The result is how to cancel it, which works
   * at any time: a claim that waits leaves the queue, a grant that nobody took is given back. It may
   * call back before it returns; it does not after a cancellation. Who has taken the grant releases
   * it, and does not cancel.
   */
  acquire(claim: Claim, onExit: (exit: AcquireExit) => void): () => void
  look?(key: string, atMost: number, ended: ReadonlyArray<number>, onExit: OnAnswer<Look>): Forget
  /** Of the keys that begin with the prefix, those of the page that begins there. */
  keys?(prefix: string, from: string | undefined, onExit: OnAnswer<Page>): Forget
  revoke?(key: string, fencingToken: number, onExit: OnAnswer<boolean>): Forget
  /** Serves nobody any more, undoes what is to be undone, and calls back; takes a bounded time. */
  close(onClosed: () => void): void
}
