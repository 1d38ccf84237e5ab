/** A lease leaves its process: what its holder does for that. */
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Redacted from "effect/Redacted"
import * as Scope from "effect/Scope"
import type * as Tracer from "effect/Tracer"
import type { LockLost, LockStoreError } from "../../LockError.js"
import type { Kind } from "../faces/lockStore.js"
import type { LeaseOptions } from "../common/options.js"
import { cannotHandOver, notCapable } from "../engine.js"
import type { LeaseCore } from "../lease/core.js"
import { causeOf, lockStoreError } from "../faces/answers.js"
import { type Handle, sealed } from "../faces/handle.js"
import type { Hold } from "../faces/holds.js"
import { resuming } from "./resuming.js"

/** How much of the key a lease is of, and of what capacity. */
export interface Portion {
  readonly share: number
  readonly limit: number
}

export const all: Portion = { share: 1, limit: 1 }

/** The part of a lease that handing it over needs. */
interface Leaving {
  readonly key: string
  readonly token: string
  readonly fencingToken: number
  readonly core: LeaseCore
  readonly hold: Hold
  readonly scope: Scope.Closeable | undefined
  readonly span: Tracer.Span | undefined
  readonly loss: LockLost
  readonly checkHeld: () => boolean
}

/** Ends a lease here, and tells how to go on with it elsewhere. */
export const handingOver = (
  lease: Leaving,
  kind: Kind,
  { limit, share }: Portion,
  { firstFencingToken, holdAtLeastMillis, maxHoldMillis, ttlMillis }: LeaseOptions
): Effect.Effect<Handle, LockLost | LockStoreError> =>
  // (what ends in between, and nobody is told of, would stay held for its ttl)
  Effect.uninterruptible(
    Effect.suspend(() => {
      const { core, fencingToken, hold, key, scope, span, token } = lease
      if (!lease.checkHeld()) return Effect.fail(lease.loss)
      if (!core.canHandOver) {
        return Effect.fail(lockStoreError(notCapable("handOver", key, "handOver")))
      }
      if (core.isReleasing) return cannot(key, "That is under way already.")
      const handle = sealed({
        version: 1,
        key,
        kind,
        token: Redacted.make(token),
        fencingToken,
        share,
        limit,
        ttl: Duration.millis(ttlMillis),
        ...(maxHoldMillis === undefined ? {} : { maxHold: Duration.millis(maxHoldMillis) }),
        ...(holdAtLeastMillis === undefined
          ? {}
          : { holdAtLeast: Duration.millis(holdAtLeastMillis) }),
        ...(firstFencingToken === undefined ? {} : { firstFencingToken }),
        ...(hold.store.identity === undefined ? {} : { store: hold.store.identity })
      })
      return Effect.callback<Handle, LockLost | LockStoreError>((told) => {
        const resume = resuming(told)
        core.handOver((failure) => {
          if (failure !== undefined) return resume(Effect.failCause(causeOf(failure)))
          if (core.released !== "Confirmed") {
            return resume(Effect.suspend(() => Effect.fail(lease.loss)))
          }
          resume(
            Clock.currentTimeNanos.pipe(
              Effect.map((nanos) => span?.end(nanos, Exit.void)),
              Effect.andThen(scope === undefined ? Effect.void : Scope.close(scope, Exit.void)),
              Effect.as(handle)
            )
          )
        })
      })
    })
  )

const cannot = (key: string, why: string): Effect.Effect<never, LockStoreError> =>
  Effect.fail(lockStoreError(cannotHandOver(key, why)))

/** Of a use that is not all of a lease. */
export const notItsOwn = (key: string): Effect.Effect<never, LockStoreError> =>
  cannot(key, "It is a part of another lease, which ends with all of its parts.")
