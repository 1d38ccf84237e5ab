/**
 * From a key and options to a running lease. Every kind of lock begins here.
 */
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as ExecutionStrategy from "effect/ExecutionStrategy"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import type { Options } from "../../Lease.js"
import type { LockLost, LockStoreError, LockUnavailable } from "../../LockError.js"
import {
  type Claim,
  type Contention,
  type Kind,
  type LockClock,
  type LockStore
} from "../../LockStore.js"
import type * as Engine from "../engine.js"
import { AdaptedGrant } from "./adaptedGrant.js"
import { acquireExit, lockStoreError, publicContention } from "../faces/answers.js"
import { defect } from "./causes.js"
import { AsyncContext } from "../faces/asyncContext.js"
import { called } from "./called.js"
import { type Caller, storeOf, uninterruptibly } from "./caller.js"
import { updateFiberRef } from "./fiberRefs.js"
import { lacking, notCapable } from "../engine.js"
import { currentHolds } from "./currentHolds.js"
import { adding, Hold } from "../faces/holds.js"
import type { HeldLease } from "./lease.js"
import { decodeOptions } from "../faces/decodeOptions.js"
import { limitsSeen } from "./limits.js"
import type { LeaseOptions } from "../common/options.js"
import type { Cancel, SeveralExit } from "../lease/several.js"
import { engineStoreOf } from "./publicStore.js"
import { ownLease } from "./reentrant.js"
import type { Share } from "./share.js"
import { scopedShared, type SharedLease } from "./sharedLease.js"
import { traceAcquisition } from "./spans.js"
import { isTraced, type LockMetrics, metricsFor } from "./telemetry.js"
import { Waiting } from "./waiting.js"

type AcquireError = LockUnavailable | LockLost | LockStoreError

/**
 * A claim on its way to a lease. (No literal, and with its state: the engine takes what hot literals
 * make for long-lived, with all that it refers to.)
 */
class Acquisition<L extends HeldLease> implements Engine.Claim {
  readonly kind: Kind
  readonly share: number
  readonly limit: number
  readonly ttlMillis: number
  readonly waitMillis: number
  readonly owner: string | undefined
  lease: L | undefined = undefined

  private readonly engine: Engine.Store | undefined
  private readonly metrics: LockMetrics
  private readonly askedAt: number
  /** Where it was asked for: there it goes on. */
  private readonly context = new AsyncContext()
  private granted: Engine.Grant | undefined = undefined
  private waiting: Waiting | undefined = undefined
  private exit: SeveralExit | undefined = undefined
  private resume: ((exit: ReturnType<typeof acquireExit>) => void) | undefined = undefined
  /** (Of several keys, it tells when all are given back.) */
  private cancel: Cancel | (() => void) | undefined = undefined

  constructor(
    readonly key: string,
    private readonly asks: Share<L>,
    private readonly options: LeaseOptions,
    private readonly store: LockStore,
    private readonly caller: Caller
  ) {
    this.kind = asks.kind
    this.share = asks.share
    this.limit = asks.limit
    this.ttlMillis = options.ttlMillis
    this.waitMillis = options.waitMillis
    this.owner = options.owner
    this.engine = engineStoreOf(store)
    this.metrics = metricsFor(options.name, caller.fiber)
    this.askedAt = store.clock.unsafeNow()
  }

  get maxHoldMillis(): number | undefined {
    return this.options.maxHoldMillis
  }

  get holdAtLeastMillis(): number | undefined {
    return this.options.holdAtLeastMillis
  }

  get tick(): number | undefined {
    return this.asks.tick
  }

  get tickKeptMillis(): number | undefined {
    return this.asks.tickKeptMillis
  }

  get direct(): boolean | undefined {
    return this.asks.direct
  }

  /** Takes the lease, begins it, and goes on: in an uninterruptible region. */
  take<A, E, R>(use: (lease: L) => Effect.Effect<A, E, R>): Effect.Effect<A, E | AcquireError, R> {
    const { asks, caller, key, options } = this
    if (!isTraced(caller.fiber)) {
      return Effect.flatMap(this.asked(), (grant) => use(this.begin(grant)))
    }
    const taken = Effect.suspend(() => Effect.map(this.asked(), (grant) => this.begin(grant)))
    return Effect.flatMap(traceAcquisition(taken, key, asks, options), use)
  }

  private asked(): Effect.Effect<Engine.Grant, AcquireError> {
    const { asks, caller, context, engine, kind, options, store } = this
    if (asks.take !== undefined) {
      this.cancel = asks.take(this, options, store, caller, context, this.onExit)
    } else if (engine === undefined) return this.askedOfOther()
    else this.cancel = engine.acquire(this, this.onExit)
    if (this.exit !== undefined) return acquireExit(this.exit, kind, defect)
    return caller.restore(
      Effect.async((resume) => {
        // (the fiber can have yielded in between)
        if (this.exit === undefined) this.resume = resume
        else resume(acquireExit(this.exit, this.kind, defect))
      })
    )
  }

  private readonly onExit = (exit: SeveralExit): void => {
    this.exit = exit
    if (this.resume !== undefined) {
      this.context.runInAsyncScope(this.resume, undefined, acquireExit(exit, this.kind, defect))
    }
  }

  /** Of a store that is not of the engine, or whose members somebody has replaced. */
  private askedOfOther(): Effect.Effect<Engine.Grant, AcquireError> {
    const { caller, direct, key, kind, limit, owner, share, store, ttlMillis, waitMillis } = this
    const claim: Claim = {
      key,
      kind,
      share,
      limit,
      ttlMillis,
      waitMillis,
      owner,
      maxHoldMillis: this.maxHoldMillis,
      holdAtLeastMillis: this.holdAtLeastMillis,
      tick: this.tick,
      tickKeptMillis: this.tickKeptMillis,
      direct,
      whenWaiting: waitMillis === 0 ? undefined : (contention) => this.waits(contention, key),
      whenLimitDiffers: kind === "lock" ? undefined : (other) => this.whenLimitDiffers(other)
    }
    return Effect.map(store.acquire(claim, caller.restore), (grant) => {
      // before anything that can fail
      return (this.granted = new AdaptedGrant(grant))
    })
  }

  whenWaiting(contention: () => Engine.Contention, key = this.key): void {
    this.waits(() => publicContention(contention()), key)
  }

  whenLimitDiffers(other: number): void {
    const { caller, context, key, limit, store } = this
    limitsSeen(key, limit, other, store, caller.fiber, context)
  }

  private waits(contention: () => Contention, key: string): void {
    const { askedAt, caller, context, kind, metrics, options, store } = this
    if (this.waiting !== undefined) return this.waiting.goOn(key, contention)
    this.waiting = new Waiting(
      key,
      kind,
      options,
      store,
      metrics,
      askedAt,
      caller.fiber,
      context,
      contention
    )
    this.waiting.begin()
  }

  private begin(grant: Engine.Grant): L {
    // before anything that can fail
    this.granted = grant
    this.waiting?.end()
    const { askedAt, context, engine, key, metrics, options, store } = this
    const hold = new Hold(key, store, store.clock.unsafeNow(), this.asks)
    this.lease = this.asks.makeLease(
      key,
      options,
      grant,
      engine,
      store.clock,
      metrics,
      askedAt,
      context,
      hold
    )
    this.lease.begin()
    return this.lease
  }

  /** Something has failed: whatever there is of a grant is given back. */
  failed<A, E, A2, E2>(
    cause: Cause.Cause<E | AcquireError>,
    orElse: (error: LockUnavailable) => Effect.Effect<A2, E2>
  ): Effect.Effect<A | A2, E | E2 | LockStoreError> {
    const { granted, lease, metrics } = this
    if (granted !== undefined) {
      const error = cause as Cause.Cause<E>
      if (lease?.isClosed === true) return Effect.failCause(error)
      const giveBack = lease?.closeQuietly ?? releaseOf(granted, this.store.clock)
      // on a stack of its own: this one may be what overflowed
      return Effect.zipRight(
        Effect.yieldNow(),
        Effect.zipRight(Effect.exit(giveBack), Effect.failCause(error))
      )
    }
    this.waiting?.end()
    // a grant can be on its way to a caller that has gone
    const { asks, cancel } = this
    if (cancel !== undefined && (this.exit === undefined || this.exit._tag === "Granted")) {
      if (asks.take === undefined) cancel(nothing)
      else {
        const cancelled = called<void>((onDone) => cancel(() => onDone()))
        return Effect.zipRight(cancelled, Effect.failCause(cause as Cause.Cause<LockStoreError>))
      }
    }
    const failure = Cause.failureOption(cause as Cause.Cause<AcquireError>)
    if (Option.isSome(failure)) {
      if (failure.value._tag === "LockUnavailable") {
        metrics.unavailable(this.store.clock.unsafeNow() - this.askedAt)
        return orElse(failure.value)
      }
      metrics.failed()
    }
    return Effect.failCause(cause as Cause.Cause<LockStoreError>)
  }
}

const nothing = (): void => {}

const releaseOf = (grant: Engine.Grant, { unsafeNow }: LockClock): Effect.Effect<void> =>
  Effect.async((resume) => grant.release(unsafeNow(), () => resume(Effect.void), true))

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
  const store = storeOf(caller)
  const resolved = share.check?.() ?? decodeOptions(key, options, waitAtMost, store.defaults)
  if (typeof resolved === "string") return defect(resolved)
  const acquisition = new Acquisition(key, share, resolved, store, caller)
  const needed = lacking(acquisition, store.capabilities)
  if (needed !== undefined) {
    return Effect.fail(lockStoreError(notCapable("acquire", key, needed, store.whyNot?.(needed))))
  }
  return Effect.catchAllCause(acquisition.take(use), (cause) =>
    acquisition.failed<A, E, A, E2>(cause, orElse)
  )
}

/** Takes a lease into the caller's scope, or shares its own. */
export const scopedLease = <L extends HeldLease, I extends SharedLease>(
  key: string,
  share: Share<L, I>,
  options: Options | undefined,
  waitAtMost: Duration.DurationInput | undefined
): Effect.Effect<L | I, LockUnavailable | LockStoreError, LockStore | Scope.Scope> =>
  uninterruptibly(
    (caller): Effect.Effect<L | I, LockUnavailable | LockStoreError, LockStore | Scope.Scope> => {
      const own = ownLease(key, share, options, waitAtMost, caller)
      if (typeof own === "string") return defect(own)
      if (own !== undefined) return scopedShared(own)
      return withLease(
        key,
        share,
        options,
        waitAtMost,
        caller,
        (lease) => intoScope(lease, caller),
        Effect.fail<LockUnavailable>
      )
    }
  )

const intoScope = <L extends HeldLease>(
  lease: L,
  caller: Caller
): Effect.Effect<L, never, Scope.Scope> => {
  lease.start(caller.fiber)
  // a child scope, so that an early release takes its finalizer out of a long-lived scope
  return Effect.flatMap(
    Scope.fork(scopeOf(caller), ExecutionStrategy.sequential),
    (scope): Effect.Effect<L> => {
      lease.scope = scope
      const added = Scope.addFinalizer(scope, lease.closeQuietly)
      const holds = updateFiberRef(caller.fiber, currentHolds, (holds) =>
        adding(lease.hold, false, holds)
      )
      return Effect.as(holds === undefined ? added : Effect.zipRight(added, holds), lease)
    }
  )
}

const scopeOf = ({ fiber }: Caller): Scope.Scope =>
  Context.get(fiber.currentContext as Context.Context<Scope.Scope>, Scope.Scope)
