/** What runs under a lease, of whichever kind: `withLock` and its like. */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Option from "effect/Option"
import type { LockStore } from "../../effect4/LockStore.js"
import type { Options, WaitOptions } from "../../Lease.js"
import type { LockLost, LockStoreError, LockUnavailable } from "../../LockError.js"
import { withLease } from "./acquire.js"
import { type Caller, uninterruptibly } from "./caller.js"
import { defect } from "./causes.js"
import { guarded } from "./guard.js"
import type { HeldLease } from "./lease.js"
import { ownLease } from "./reentrant.js"
import type { Share } from "./share.js"
import type { SharedLease } from "./sharedLease.js"

export type Body<L, A, E, R> = Effect.Effect<A, E, R> | ((lease: L) => Effect.Effect<A, E, R>)

/** The body as an effect. */
export const bodyWith = <L, A, E, R>(body: Body<L, A, E, R>, lease: L): Effect.Effect<A, E, R> =>
  Effect.isEffect(body) ? body : Effect.suspend(() => body(lease))

/** The two forms of `withLock` and its like: `(body, key, options)`, and `(key, options)(body)`. */
export const bodyFirst = <Both>(run: (body: never, key: never, options: never) => unknown): Both =>
  ((first: unknown, second: unknown, third: unknown) =>
    typeof first === "function" || Effect.isEffect(first)
      ? run(first as never, second as never, third as never)
      : (body: unknown) => run(body as never, first as never, second as never)) as Both

/** Takes a lease, waiting for it, runs the body under it, and gives it back; or shares the caller's own. */
export const underLease = <L extends HeldLease, I extends SharedLease, A, E, R>(
  key: string,
  share: Share<L, I>,
  options: WaitOptions | undefined,
  body: Body<L | I, A, E, R>
): Effect.Effect<A, E | LockUnavailable | LockLost | LockStoreError, R | LockStore> =>
  uninterruptibly(
    (caller): Effect.Effect<A, E | LockUnavailable | LockLost | LockStoreError, R | LockStore> => {
      const own = ownLease(key, share, options, options?.waitAtMost, caller)
      if (typeof own === "string") return defect(own)
      if (own !== undefined) return guardAndEnd(own, body, caller)
      return withLease(
        key,
        share,
        options,
        options?.waitAtMost,
        caller,
        (lease) => guardAndRelease(lease, body, caller),
        Effect.fail<LockUnavailable>
      )
    }
  )

/** The same in one attempt: nothing, where that finds the key taken. */
export const underLeaseIfAvailable = <L extends HeldLease, I extends SharedLease, A, E, R>(
  key: string,
  share: Share<L, I>,
  options: Options | undefined,
  body: Body<L | I, A, E, R>
): Effect.Effect<Option.Option<A>, E | LockLost | LockStoreError, R | LockStore> =>
  uninterruptibly(
    (caller): Effect.Effect<Option.Option<A>, E | LockLost | LockStoreError, R | LockStore> => {
      const own = ownLease(key, share, options, 0, caller)
      if (typeof own === "string") return defect(own)
      if (own !== undefined) return Effect.asSome(guardAndEnd(own, body, caller))
      return withLease(
        key,
        share,
        options,
        0,
        caller,
        (lease) => Effect.asSome(guardAndRelease(lease, body, caller)),
        () => Effect.succeedNone
      )
    }
  )

/** Runs a body under a lease that its caller has anyway. */
const guardAndEnd = <I extends SharedLease, A, E, R>(
  lease: I,
  body: Body<I, A, E, R>,
  { restore }: Caller
): Effect.Effect<A, E | LockLost, R> =>
  Effect.ensuring(
    guarded(lease, bodyWith(body, lease), restore),
    Effect.sync(() => lease.end())
  )

/** Runs a body under a lease, then gives the lease back. */
const guardAndRelease = <L extends HeldLease, A, E, R>(
  lease: L,
  body: Body<L, A, E, R>,
  caller: Caller
): Effect.Effect<A, E | LockLost, R> => {
  lease.start(caller)
  return Effect.matchCauseEffect(lease.guarded(bodyWith(body, lease), caller.restore), {
    onFailure: (cause) => lease.closeWith<A, E | LockLost>(Exit.failCause(cause)),
    onSuccess: (value) => lease.closeWith<A, E | LockLost>(Exit.succeed(value))
  })
}
