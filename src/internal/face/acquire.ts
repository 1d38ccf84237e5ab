/**
 * From a key and options to a running lease. Every kind of lock begins here.
 */
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as ExecutionStrategy from "effect/ExecutionStrategy"
import * as Exit from "effect/Exit"
import * as FiberRef from "effect/FiberRef"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import type { Options } from "../../Lease.js"
import type { LockLost, LockStoreError, LockUnavailable } from "../../LockError.js"
import { type Claim, type Contention, type Grant, type Kind, LockStore } from "../../LockStore.js"
import { AsyncContext } from "./asyncContext.js"
import { type Caller, uninterruptibly } from "./caller.js"
import { lacking, notCapable } from "../engine.js"
import { adding, currentHolds, Hold } from "./holds.js"
import { HeldLease } from "./lease.js"
import { decodeOptions } from "./decodeOptions.js"
import { limitsSeen } from "./limits.js"
import type { LeaseOptions } from "../common/options.js"
import { lockStoreError } from "./publicStore.js"
import { isTraced, metricsFor } from "./telemetry.js"
import { Waiting } from "./waiting.js"

type AcquireError = LockUnavailable | LockStoreError

/** How much of a key is asked for, and the lease of that much. */
export interface Share<L extends HeldLease = HeldLease> {
  readonly kind: Kind
  readonly share: number
  readonly limit: number
  readonly makeLease: (...held: ConstructorParameters<typeof HeldLease>) => L
  /** Named after the module that users call. */
  readonly spans: { readonly acquire: string; readonly hold: string }
  readonly attributes: Readonly<Record<string, number>>
}

/** All of it. */
export const wholeLock: Share = {
  kind: "lock",
  share: 1,
  limit: 1,
  makeLease: (...held) => new HeldLease(...held),
  spans: { acquire: "Lock.acquire", hold: "Lock.hold" },
  attributes: {}
}

/** (No literal: the engine takes what hot literals make for long-lived, with all that it refers to.) */
class Asked implements Claim {
  readonly kind: Kind
  readonly share: number
  readonly limit: number
  readonly ttlMillis: number
  readonly waitMillis: number
  readonly owner: string | undefined
  readonly whenWaiting: Claim["whenWaiting"]
  readonly whenLimitDiffers: Claim["whenLimitDiffers"]

  constructor(
    readonly key: string,
    { kind, limit, share }: Share,
    options: LeaseOptions,
    whenWaiting: NonNullable<Claim["whenWaiting"]>,
    whenLimitDiffers: Claim["whenLimitDiffers"]
  ) {
    this.kind = kind
    this.share = share
    this.limit = limit
    this.ttlMillis = options.ttlMillis
    this.waitMillis = options.waitMillis
    this.owner = options.owner
    this.whenWaiting = options.waitMillis === 0 ? undefined : whenWaiting
    this.whenLimitDiffers = whenLimitDiffers
  }
}

/**
 * Takes a lease and goes on with it, in an uninterruptible region. `use` starts its renewal and, unless
 * it succeeds with the lease still held, closes it. Whatever else happens from the grant on (a defect
 * in a tracer, a supervisor or a FiberRef, no scope, a stack that overflows) gives the lease back.
 */
export const withLease = <L extends HeldLease, A, E, R, E2>(
  key: string,
  share: Share<L>,
  options: Options | undefined,
  waitAtMost: Duration.DurationInput | undefined,
  caller: Caller,
  use: (lease: L) => Effect.Effect<A, E, R>,
  orElse: (error: LockUnavailable) => Effect.Effect<A, E2>
): Effect.Effect<A, E | E2 | LockStoreError, R | LockStore> => {
  const { fiber } = caller
  const store = Context.get(fiber.currentContext as Context.Context<LockStore>, LockStore)
  const resolved = decodeOptions(key, options, waitAtMost, store.defaults)
  if (typeof resolved === "string") {
    return Effect.die(new Cause.IllegalArgumentException(resolved))
  }
  const { clock } = store
  const context = new AsyncContext()
  const metrics = metricsFor(resolved.name, fiber)
  const askedAt = clock.unsafeNow()
  let granted: Grant | undefined
  let lease: L | undefined
  let waiting: Waiting | undefined
  const begin = (grant: Grant): L => {
    // before anything that can fail
    granted = grant
    waiting?.end()
    const hold = new Hold(key, store, clock.unsafeNow())
    lease = share.makeLease(key, resolved, grant, clock, metrics, askedAt, context, hold)
    lease.begin()
    return lease
  }
  const asked = new Asked(
    key,
    share,
    resolved,
    (contention) => {
      waiting = new Waiting(key, resolved, store, metrics, askedAt, fiber, context, contention)
      waiting.begin()
    },
    share.kind === "semaphore"
      ? (limit) => limitsSeen(key, share.limit, limit, store, fiber, context)
      : undefined
  )
  const needed = lacking(asked, store.capabilities)
  if (needed !== undefined) {
    return Effect.fail(lockStoreError(notCapable("acquire", key, needed)))
  }
  const acquired = store.acquire(asked, caller.restore)
  return Effect.catchAllCause(
    isTraced(fiber)
      ? Effect.flatMap(traceAcquisition(Effect.map(acquired, begin), key, share, resolved), use)
      : Effect.flatMap(acquired, (grant) => use(begin(grant))),
    (cause): Effect.Effect<A, E | E2 | LockStoreError> => {
      if (granted !== undefined) {
        const error = cause as Cause.Cause<E>
        if (lease?.isClosed === true) return Effect.failCause(error)
        const giveBack = lease?.closeQuietly ?? Effect.ignore(granted.release)
        // on a stack of its own: this one may be what overflowed
        return Effect.zipRight(
          Effect.yieldNow(),
          Effect.zipRight(Effect.exit(giveBack), Effect.failCause(error))
        )
      }
      waiting?.end()
      const failure = Cause.failureOption(cause as Cause.Cause<AcquireError>)
      if (Option.isSome(failure)) {
        if (failure.value._tag === "LockUnavailable") {
          metrics.unavailable(clock.unsafeNow() - askedAt)
          return orElse(failure.value)
        }
        metrics.failed()
      }
      return Effect.failCause(cause as Cause.Cause<LockStoreError>)
    }
  )
}

/** Takes a lease into the caller's scope. */
export const scopedLease = <L extends HeldLease>(
  key: string,
  share: Share<L>,
  options: Options | undefined,
  waitAtMost: Duration.DurationInput | undefined
): Effect.Effect<L, AcquireError, LockStore | Scope.Scope> =>
  uninterruptibly((caller) =>
    withLease(
      key,
      share,
      options,
      waitAtMost,
      caller,
      (lease) => {
        lease.start(caller.fiber)
        // a child scope, so that an early release takes its finalizer out of a long-lived scope
        return Effect.flatMap(
          Scope.fork(scopeOf(caller), ExecutionStrategy.sequential),
          (scope): Effect.Effect<L> => {
            lease.scope = scope
            return Effect.as(
              Effect.zipRight(
                Scope.addFinalizer(scope, lease.closeQuietly),
                FiberRef.update(currentHolds, (holds) => adding(lease.hold, false, holds))
              ),
              lease
            )
          }
        )
      },
      Effect.fail<LockUnavailable>
    )
  )

const scopeOf = ({ fiber }: Caller): Scope.Scope =>
  Context.get(fiber.currentContext as Context.Context<Scope.Scope>, Scope.Scope)

/** What runs under a lease. */
export type Body<L, A, E, R> = Effect.Effect<A, E, R> | ((lease: L) => Effect.Effect<A, E, R>)

/** Whether a body comes first, and then the key: of the two forms of `withLock` and its like. */
export const isBodyFirst = ({ 0: first }: IArguments): boolean =>
  typeof first === "function" || Effect.isEffect(first)

/** Runs a body under a lease, then gives the lease back; the end of every `withLock`. */
export const guardAndRelease = <L extends HeldLease, A, E, R>(
  lease: L,
  body: Body<L, A, E, R>,
  caller: Caller
): Effect.Effect<A, E | LockLost, R> => {
  const effect = Effect.isEffect(body) ? body : Effect.suspend(() => body(lease))
  const guarded = lease.startGuarded(effect, caller)
  try {
    // the body comes first: who was handed the lock is in the sooner
    lease.start(caller.fiber)
  } catch (defect) {
    // the body may be under way, and ends before the lease is given back
    lease.abandon()
    return Effect.zipRight(Effect.exit(guarded), Effect.die(defect))
  }
  // nothing to wait for where the body did not suspend
  if (Exit.isExit(guarded)) return lease.closeWith(guarded as Exit.Exit<A, E | LockLost>)
  return Effect.matchCauseEffect(guarded as Effect.Effect<A, E | LockLost>, {
    onFailure: (cause) => lease.closeWith<A, E | LockLost>(Exit.failCause(cause)),
    onSuccess: (value) => lease.closeWith<A, E | LockLost>(Exit.succeed(value))
  })
}

const traceAcquisition = <L extends HeldLease>(
  claim: Effect.Effect<L, AcquireError>,
  key: string,
  share: Share<L>,
  options: LeaseOptions
): Effect.Effect<L, AcquireError> => {
  const { spans } = share
  const attributes = {
    "lock.key": key,
    "lock.name": options.name ?? "default",
    ...share.attributes,
    ...(options.owner === undefined ? {} : { "lock.owner": options.owner })
  }
  const told = Effect.onExit(claim, (exit) =>
    Effect.annotateCurrentSpan(
      Exit.isSuccess(exit)
        ? {
            "lock.outcome": "acquired",
            "lock.wait_ms": exit.value.waitedMillis,
            "lock.fencing_token": exit.value.fencingToken,
            ...(exit.value.contention === undefined ? {} : contended(exit.value.contention))
          }
        : outcomeOf(exit.cause)
    )
  )
  // a span fails with its effect: for a single attempt, a lock that is taken is an answer and no error
  const attempt: Effect.Effect<L | LockUnavailable, AcquireError> =
    options.waitMillis === 0 ? Effect.catchTag(told, "LockUnavailable", Effect.succeed) : told
  return attempt.pipe(
    Effect.withSpan(spans.acquire, { attributes, captureStackTrace: false }),
    Effect.flatMap((answer) => (answer instanceof HeldLease ? Effect.succeed(answer) : answer)),
    Effect.tap((lease) =>
      Effect.map(
        Effect.makeSpan(spans.hold, {
          attributes: { ...attributes, "lock.fencing_token": lease.fencingToken },
          captureStackTrace: false
        }),
        (span) => {
          lease.span = span
        }
      )
    )
  )
}

const outcomeOf = (cause: Cause.Cause<AcquireError>): Record<string, unknown> => {
  const failure = Option.getOrUndefined(Cause.failureOption(cause))
  if (failure === undefined) {
    return { "lock.outcome": Cause.isInterrupted(cause) ? "interrupted" : "died" }
  }
  return failure._tag === "LockUnavailable"
    ? {
        "lock.outcome": "unavailable",
        "lock.wait_ms": Duration.toMillis(failure.waited),
        ...contended(failure)
      }
    : { "lock.outcome": "failed" }
}

const contended = ({ ahead, holder, retryAfter }: Contention): Record<string, unknown> => ({
  "lock.contended": true,
  "lock.ahead": ahead,
  "lock.holder": holder.foreign ? "foreign" : holder.owner,
  "lock.held_for_ms": holder.heldFor && Duration.toMillis(holder.heldFor),
  "lock.retry_after_ms": retryAfter && Duration.toMillis(retryAfter)
})
