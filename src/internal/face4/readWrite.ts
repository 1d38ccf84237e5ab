/** Both sides of a read-write lock: what is asked for, and the leases of it. */
import * as Effect from "effect/Effect"
import type { LockLost, LockStoreError } from "../../LockError.js"
import { impossibleUpgrade, maxLimit } from "../common/options.js"
import { notCapable, StoreFailure } from "../engine.js"
import { causeOf, lockStoreError } from "../faces/answers.js"
import { Hold, type Shareable } from "../faces/holds.js"
import type { Portion } from "./handingOver.js"
import { HeldLease } from "./lease.js"
import { resuming } from "./resuming.js"
import { type Share, wholeLock } from "./share.js"
import { SharedLease } from "./sharedLease.js"

/** More than there will ever be readers: what a writer has. */
const whole = maxLimit

class HeldRead extends HeldLease {
  /** At this moment. */
  get isRead(): boolean {
    return true
  }

  protected override get kind() {
    return "readWriteLock" as const
  }

  protected override get portion(): Portion {
    return aRead
  }
}

export class HeldWrite extends HeldRead {
  private isDowngrading = false
  private downgraded = false
  /** Those that share it, as writes. */
  private inner: Set<SharedWrite> | undefined = undefined

  override get isRead(): boolean {
    return this.isDowngrading
  }

  protected override get portion(): Portion {
    return this.isDowngrading ? aRead : theWrite
  }

  get downgrade(): Effect.Effect<void, LockLost | LockStoreError> {
    return Effect.suspend(() => {
      const { core, key } = this
      if (!this.checkHeld()) return Effect.fail(this.loss)
      if (this.downgraded) return alreadyDowngraded(key)
      if (!core.canReshare)
        return Effect.fail(lockStoreError(notCapable("reshare", key, "reshare")))
      // from the sending on, whatever becomes of it
      this.isDowngrading = true
      for (const write of this.inner ?? []) if (!write.isRead) write.end()
      return Effect.callback<void, LockLost | LockStoreError>((told) => {
        const resume = resuming(told)
        const unwatch = this.onEnd(() => resume(Effect.fail(this.loss)))
        core.reshare(1, (failure) => {
          unwatch()
          if (failure !== undefined) return resume(Effect.failCause(causeOf(failure)))
          this.downgraded = this.checkHeld()
          resume(this.downgraded ? Effect.void : Effect.fail(this.loss))
        })
        // (its answer counts, whoever still waits for it)
        return Effect.sync(unwatch)
      })
    })
  }

  shareWith(inner: SharedWrite): void {
    this.inner ??= new Set()
    this.inner.add(inner)
  }

  unshareWith(inner: SharedWrite): void {
    this.inner?.delete(inner)
  }
}

/**
 * A write inside of an own one. Its downgrade is of this use alone, as its release: what its fiber does
 * from then on it does in a read.
 */
export class SharedWrite extends SharedLease {
  isRead = false
  private readonly own: Hold

  constructor(
    readonly write: HeldWrite,
    key: string
  ) {
    super(write, key)
    const { asks, since, store } = write.hold
    this.own = new Hold(key, store, since, asks)
    this.own.lease = this
    write.shareWith(this)
  }

  get downgrade(): Effect.Effect<void, LockLost | LockStoreError> {
    return Effect.suspend((): Effect.Effect<void, LockLost | LockStoreError> => {
      if (!this.checkHeld()) return Effect.fail(this.loss)
      if (this.isRead) return alreadyDowngraded(this.key)
      this.isRead = true
      return Effect.void
    })
  }

  override get hold(): Hold {
    return this.own
  }

  override end(): void {
    this.own.lease = undefined
    this.write.unshareWith(this)
    super.end()
  }
}

const alreadyDowngraded = (key: string): Effect.Effect<never, LockStoreError> =>
  Effect.fail(
    lockStoreError(
      new StoreFailure(
        "reshare",
        key,
        "The lease has been downgraded already: it is a read, and cannot become less than that.",
        false
      )
    )
  )

/** The lease of the key that the caller is inside of. */
type Outer = HeldRead | HeldWrite | SharedWrite
const outerOf = (lease: Shareable): Outer => lease as Outer

export const aRead: Share<HeldRead> = {
  ...wholeLock,
  kind: "readWriteLock",
  limit: whole,
  makeLease: (...held) => new HeldRead(...held),
  within: (lease, { isGuarded, isReentrant, key }) => {
    const outer = outerOf(lease)
    if (!isGuarded || (!outer.isRead && !isReentrant)) return undefined
    return new SharedLease(outer instanceof SharedWrite ? outer.write : outer, key)
  },
  spans: { acquire: "ReadWriteLock.readLock", hold: "ReadWriteLock.read" }
}

export const theWrite: Share<HeldWrite, SharedWrite> = {
  ...aRead,
  share: whole,
  makeLease: (...held) => new HeldWrite(...held),
  within: (lease, { isGuarded, isReentrant, key }) => {
    const outer = outerOf(lease)
    // however it was taken
    if (outer.isRead) return impossibleUpgrade(key)
    if (!isGuarded || !isReentrant) return undefined
    return new SharedWrite(outer instanceof SharedWrite ? outer.write : (outer as HeldWrite), key)
  },
  spans: { acquire: "ReadWriteLock.writeLock", hold: "ReadWriteLock.write" }
}
