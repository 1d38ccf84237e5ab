/** What a handle says, and whether that is what it said when it was made; see `Handle`. */
import * as Duration from "effect/Duration"
import * as Redacted from "effect/Redacted"
import { sealOf } from "../common/handle.js"

export interface Unsealed {
  readonly version: 1
  readonly key: string
  readonly kind: "lock" | "semaphore" | "readWriteLock"
  readonly token: Redacted.Redacted
  readonly fencingToken: number
  readonly share: number
  readonly limit: number
  readonly ttl: Duration.Duration
  readonly maxHold?: Duration.Duration | undefined
  readonly holdAtLeast?: Duration.Duration | undefined
  readonly firstFencingToken?: number | undefined
  readonly store?: string | undefined
}

export interface Sealed extends Unsealed {
  readonly seal: string
}

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

export const sealed = (handle: Unsealed): Sealed => ({ ...handle, seal: sealFor(handle) })

export const isSealed = (handle: Sealed): boolean => handle.seal === sealFor(handle)
