/** Both sides of a read-write lock: what is asked for, and the leases of it. */
import * as Cause from "effect/Cause"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type { Options } from "../../Lease.js"
import type { LockLost, LockStoreError } from "../../LockError.js"
import { impossibleUpgrade, maxLimit } from "../common/options.js"
import { notCapable, StoreFailure } from "../engine.js"
import { type Instead, storeOf } from "./acquire.js"
import { causeOf, lockStoreError } from "./answers.js"
import { inContext } from "./asyncContext.js"
import type { Caller } from "./caller.js"
import { decodeOptions } from "./decodeOptions.js"
import { currentHolds, type Hold, holdOf } from "./holds.js"
import type { Portion } from "./handingOver.js"
import { HeldLease } from "./lease.js"
import { type Share, wholeLock } from "./share.js"
import { SharedLease } from "./sharedLease.js"

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

  protected override get portion(): Portion {
    return aRead
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

  protected override get portion(): Portion {
    return reads.has(this.hold) ? aRead : theWrite
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

export const aRead: Share<HeldRead> = {
  ...wholeLock,
  kind: "readWriteLock",
  limit: whole,
  makeLease: (...held) => new HeldRead(...held),
  spans: { acquire: "ReadWriteLock.readLock", hold: "ReadWriteLock.read" }
}

export const theWrite: Share<HeldWrite> = {
  ...aRead,
  share: whole,
  makeLease: (...held) => new HeldWrite(...held),
  spans: { acquire: "ReadWriteLock.writeLock", hold: "ReadWriteLock.write" }
}

/** The read that the caller's fiber is in, or that one is in which it was forked from. */
const ownRead = (key: string, caller: Caller, isGuarded: boolean): HeldLease | undefined => {
  const holds = caller.fiber.getFiberRef(currentHolds)
  if (holds === undefined) return undefined
  const store = storeOf(caller)
  const hold = holdOf(key, store, holds, (hold, isGuards) =>
    isGuards || !isGuarded ? reads.has(hold) : false
  )
  const lease = hold && reads.get(hold)
  return lease?.checkHeld() === true ? lease : undefined
}

/** Of a nested read: impossible options are a mistake there as well. */
const mistakeIn = (
  key: string,
  options: Options | undefined,
  waitAtMost: Duration.DurationInput | undefined,
  caller: Caller
): Effect.Effect<never> | undefined => {
  const decoded = decodeOptions(key, options, waitAtMost, storeOf(caller).defaults)
  return typeof decoded === "string"
    ? Effect.die(new Cause.IllegalArgumentException(decoded))
    : undefined
}

/** Where the caller is in a read of the key already: that one again. */
export const sameRead =
  <A, E, R>(
    key: string,
    options: Options | undefined,
    waitAtMost: Duration.DurationInput | undefined,
    use: (lease: SharedLease, caller: Caller) => Effect.Effect<A, E, R>
  ): Instead<A, E, R> =>
  (caller) => {
    const own = ownRead(key, caller, true)
    return own && (mistakeIn(key, options, waitAtMost, caller) ?? use(new SharedLease(own), caller))
  }

/** Where the caller is in a read of the key, however it was taken: a defect. */
export const noUpgrade =
  (key: string): Instead<never, never, never> =>
  (caller) =>
    ownRead(key, caller, false) &&
    Effect.die(new Cause.IllegalArgumentException(impossibleUpgrade(key)))
