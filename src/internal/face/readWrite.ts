/** Both sides of a read-write lock: what is asked for, and the leases of it. */
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { Lease, Options } from "../../Lease.js"
import type { LockLost, LockStoreError, LockUnavailable } from "../../LockError.js"
import { LockStore } from "../../LockStore.js"
import { impossibleUpgrade, maxLimit } from "../common/options.js"
import { notCapable, StoreFailure } from "../engine.js"
import {
  type Body,
  guardAndRelease,
  leaseInScope,
  type Share,
  wholeLock,
  withLease
} from "./acquire.js"
import { causeOf, lockStoreError } from "./answers.js"
import { inContext } from "./asyncContext.js"
import { type Caller, uninterruptibly } from "./caller.js"
import { decodeOptions } from "./decodeOptions.js"
import { currentHolds, type Hold, holdOf } from "./holds.js"
import { HeldLease } from "./lease.js"
import { scopedShared, SharedLease, withShared } from "./sharedLease.js"

type Held = ConstructorParameters<typeof HeldLease>

/** More than there will ever be readers: what a writer has. */
const whole = maxLimit

/** The leases that are reads at this moment, by what their fibers know of them. */
const reads = new WeakMap<Hold, HeldLease>()

class HeldRead extends HeldLease {
  constructor(...held: Held) {
    super(...held)
    reads.set(this.hold, this)
  }

  protected override get kind() {
    return "readWriteLock" as const
  }

  override ending(heldMillis: number): void {
    // (what fibers know of a lease can outlive it by far)
    reads.delete(this.hold)
    super.ending(heldMillis)
  }
}

export class HeldWrite extends HeldRead {
  private downgraded = false

  constructor(...held: Held) {
    super(...held)
    reads.delete(this.hold)
  }

  get downgrade(): Effect.Effect<void, LockLost | LockStoreError> {
    return Effect.suspend(() => {
      const { core, key } = this
      if (!this.checkHeld()) return this.loss
      if (this.downgraded) {
        return Effect.fail(
          lockStoreError(
            new StoreFailure(
              "reshare",
              key,
              "The lease has been downgraded already: it is a read, and cannot become less than that.",
              false
            )
          )
        )
      }
      if (!core.canReshare)
        return Effect.fail(lockStoreError(notCapable("reshare", key, "reshare")))
      // from the sending on, whatever becomes of it
      reads.set(this.hold, this)
      return Effect.async<void, LockLost | LockStoreError>((resume) => {
        const unwatch = this.onEnd(inContext<void>(() => resume(this.loss)))
        core.reshare(
          1,
          inContext((failure) => {
            unwatch()
            if (failure !== undefined) return resume(Effect.failCause(causeOf(failure)))
            this.downgraded = this.checkHeld()
            resume(this.downgraded ? Effect.void : this.loss)
          })
        )
        // (its answer counts, whoever still waits for it)
        return Effect.sync(unwatch)
      })
    })
  }
}

const aRead: Share<HeldRead> = {
  ...wholeLock,
  kind: "readWriteLock",
  limit: whole,
  makeLease: (...held) => new HeldRead(...held),
  spans: { acquire: "ReadWriteLock.readLock", hold: "ReadWriteLock.read" }
}

const theWrite: Share<HeldWrite> = {
  ...aRead,
  share: whole,
  makeLease: (...held) => new HeldWrite(...held),
  spans: { acquire: "ReadWriteLock.writeLock", hold: "ReadWriteLock.write" }
}

/** The read that the caller's fiber is in, or that one is in which it was forked from. */
const ownRead = (key: string, { fiber }: Caller, isGuarded: boolean): HeldLease | undefined => {
  const holds = fiber.getFiberRef(currentHolds)
  if (holds === undefined) return undefined
  const store = storeOf(fiber.currentContext)
  const hold = holdOf(key, store, holds, (hold, isGuards) =>
    isGuards || !isGuarded ? reads.has(hold) : false
  )
  const lease = hold && reads.get(hold)
  return lease?.checkHeld() === true ? lease : undefined
}

const storeOf = (context: Context.Context<never>): LockStore =>
  Context.get(context as Context.Context<LockStore>, LockStore)

/** Of a nested read: impossible options are a mistake there as well. */
const mistakeIn = (
  key: string,
  options: Options | undefined,
  waitAtMost: Duration.DurationInput | undefined,
  { fiber }: Caller
): Effect.Effect<never> | undefined => {
  const { defaults } = storeOf(fiber.currentContext)
  const decoded = decodeOptions(key, options, waitAtMost, defaults)
  return typeof decoded === "string"
    ? Effect.die(new Cause.IllegalArgumentException(decoded))
    : undefined
}

const upgrade = (key: string, caller: Caller): Effect.Effect<never> | undefined =>
  ownRead(key, caller, false) === undefined
    ? undefined
    : Effect.die(new Cause.IllegalArgumentException(impossibleUpgrade(key)))

export const scopedRead = (
  key: string,
  options: Options | undefined,
  waitAtMost: Duration.DurationInput | undefined
): Effect.Effect<Lease, LockUnavailable | LockStoreError, LockStore | Scope.Scope> =>
  uninterruptibly(
    (caller): Effect.Effect<Lease, LockUnavailable | LockStoreError, LockStore | Scope.Scope> => {
      const own = ownRead(key, caller, true)
      return own === undefined
        ? leaseInScope(key, aRead, options, waitAtMost, caller)
        : (mistakeIn(key, options, waitAtMost, caller) ?? scopedShared(new SharedLease(own)))
    }
  )

export const scopedWrite = (
  key: string,
  options: Options | undefined,
  waitAtMost: Duration.DurationInput | undefined
): Effect.Effect<HeldWrite, LockUnavailable | LockStoreError, LockStore | Scope.Scope> =>
  uninterruptibly(
    (caller) => upgrade(key, caller) ?? leaseInScope(key, theWrite, options, waitAtMost, caller)
  )

/** Runs a body with a read: `orElse` where it was not to be had. */
export const withRead = <A, E, R, B, E2>(
  body: Body<Lease, A, E, R>,
  key: string,
  options: Options | undefined,
  waitAtMost: Duration.DurationInput | undefined,
  onDone: (done: Effect.Effect<A, E | LockLost, R>) => Effect.Effect<B, E | LockLost, R>,
  orElse: (error: LockUnavailable) => Effect.Effect<B, E2>
): Effect.Effect<B, E | E2 | LockLost | LockStoreError, R | LockStore> =>
  uninterruptibly((caller): Effect.Effect<B, E | E2 | LockLost | LockStoreError, R | LockStore> => {
    const own = ownRead(key, caller, true)
    return own === undefined
      ? withLease(
          key,
          aRead,
          options,
          waitAtMost,
          caller,
          (lease) => onDone(guardAndRelease(lease, body, caller)),
          orElse
        )
      : (mistakeIn(key, options, waitAtMost, caller) ??
          onDone(withShared(new SharedLease(own), body, caller)))
  })

export const withWrite = <A, E, R, B, E2>(
  body: Body<HeldWrite, A, E, R>,
  key: string,
  options: Options | undefined,
  waitAtMost: Duration.DurationInput | undefined,
  onDone: (done: Effect.Effect<A, E | LockLost, R>) => Effect.Effect<B, E | LockLost, R>,
  orElse: (error: LockUnavailable) => Effect.Effect<B, E2>
): Effect.Effect<B, E | E2 | LockLost | LockStoreError, R | LockStore> =>
  uninterruptibly(
    (caller) =>
      upgrade(key, caller) ??
      withLease(
        key,
        theWrite,
        options,
        waitAtMost,
        caller,
        (lease) => onDone(guardAndRelease(lease, body, caller)),
        orElse
      )
  )
