/** What a handle says, and whether that is what it said when it was made; see `Handle`. */
import * as Duration from "effect/Duration"
import * as Redacted from "effect/Redacted"
import { sealOf } from "../common/handle.js"

/**
 * A lease that was handed over. Whoever has it can take the lease over, once; nobody can make another one
 * of it, or change it: it has a seal.
 *
 * @since 0.1.0
 * @category models
 */
export interface Handle {
  /** Of this format. */
  readonly version: 1
  /** The key, as its holder gave it: without the store's prefix. */
  readonly key: string
  readonly kind: "lock" | "semaphore" | "readWriteLock"
  /** A secret: who knows it can take the lease over. */
  readonly token: Redacted.Redacted
  /** The number that the lease had. The adopter gets a greater one. */
  readonly fencingToken: number
  /** How much of the key it is: of a lock 1, of a semaphore its permits, of a writer all. */
  readonly share: number
  /** The capacity of the key, as its holder reckoned with it. */
  readonly limit: number
  /** How long the store keeps it, from the moment on at which it was handed over. */
  readonly ttl: Duration.Duration
  /**
   * The lease's `maxHold`, all of it: it is counted from the first holder's grant, also while the handle is
   * under way. What is left of it is for the store to tell, when the lease is adopted. Absent: there is none.
   */
  readonly maxHold?: Duration.Duration | undefined
  /** The lease's `holdAtLeast`, in the same way. */
  readonly holdAtLeast?: Duration.Duration | undefined
  /**
   * Of a lease that had been adopted itself, and has one of these two: the fencing token of the first holder,
   * from whose grant they are counted. Absent: it is `fencingToken`.
   */
  readonly firstFencingToken?: number | undefined
  /** The store that it is of, as far as that can be told (`LockStore.identity`). */
  readonly store?: string | undefined
  readonly seal: string
}

/**
 * What a handle is as JSON. It has the token in it: send it where you would send a password.
 *
 * @since 0.1.0
 * @category models
 */
export interface HandleEncoded extends Omit<Handle, "token" | "ttl" | "maxHold" | "holdAtLeast"> {
  readonly token: string
  /** Times are in milliseconds. */
  readonly ttl: number
  readonly maxHold?: number | undefined
  readonly holdAtLeast?: number | undefined
}

/** As it is before it has its seal. */
export type Unsealed = Omit<Handle, "seal">

export const millis = (duration: Duration.Duration | undefined): number | undefined =>
  duration && Duration.toMillis(duration)

const sealFor = (handle: Unsealed): string =>
  sealOf(Redacted.value(handle.token), [
    handle.version,
    handle.key,
    handle.kind,
    handle.fencingToken,
    handle.share,
    handle.limit,
    millis(handle.ttl),
    millis(handle.maxHold),
    millis(handle.holdAtLeast),
    handle.firstFencingToken,
    handle.store
  ])

export const sealed = (handle: Unsealed): Handle => ({ ...handle, seal: sealFor(handle) })

export const isSealed = (handle: Handle): boolean => handle.seal === sealFor(handle)
