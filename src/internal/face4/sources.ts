/** Where several keys are asked for, one by one: of a store of the engine, or of somebody else's. */
import * as Cause from "effect/Cause"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import type { LockLost, LockStoreError, LockUnavailable } from "../../LockError.js"
import type * as Public from "../faces/lockStore.js"
import {
  type Claim,
  Died,
  type Forget,
  Granted,
  type Grant,
  type LockClock,
  Lost,
  type NotOurs,
  type OwnershipExit,
  type RenewExit,
  type Store,
  Unavailable
} from "../engine.js"
import type { Cancel, SeveralExit, Source } from "../lease/several.js"
import { AdaptedGrant, startLike } from "./adaptedGrant.js"
import { AdaptedFailure, engineContention } from "../faces/answers.js"
import { errorIn } from "./causes.js"
import { engineStoreOf } from "./publicStore.js"

type Caller = Fiber.Fiber<unknown, unknown>

/** Everything that somebody else's store does for it runs as that fiber would. */
export const sourceOf = (store: Public.LockStore, caller: Caller): Source => {
  const engine = engineStoreOf(store)
  return engine === undefined ? new AdaptedSource(store, caller) : new EngineSource(engine)
}

class EngineSource implements Source {
  readonly clock: LockClock

  constructor(private readonly store: Store) {
    this.clock = store.clock
  }

  acquire(claim: Claim, onExit: (exit: SeveralExit) => void): Cancel {
    const cancel = this.store.acquire(claim, onExit)
    return (onDone) => {
      // (what is undone for it is the store's own concern, until it is done)
      cancel()
      onDone()
    }
  }
}

/** Of a store that is not of the engine, or whose members somebody has replaced. */
class AdaptedSource implements Source {
  readonly clock: LockClock

  constructor(
    private readonly store: Public.LockStore,
    /** Everything runs as that fiber would. */
    private readonly caller: Caller
  ) {
    this.clock = store.clock
  }

  acquire(claim: Claim, onExit: (exit: SeveralExit) => void): Cancel {
    const { caller, store } = this
    let onDone: (() => void) | undefined
    const child = startLike(
      caller.context,
      Effect.suspend(() => store.acquire(publicClaim(claim), Effect.interruptible)),
      true
    )
    child.addObserver((ended) => {
      const exit = this.exitOf(claim, ended)
      if (onDone === undefined) onExit(exit)
      // it could not be interrupted any more
      else if (exit._tag === "Granted") exit.grant.release(this.clock.unsafeNow(), onDone)
      else onDone()
    })
    return (tell) => {
      onDone = tell
      child.interruptUnsafe()
    }
  }

  private exitOf(
    { key }: Claim,
    exit: Exit.Exit<Public.Grant, LockUnavailable | LockLost | LockStoreError>
  ): SeveralExit {
    if (Exit.isSuccess(exit)) return this.granted(exit.value)
    const error = errorIn(exit.cause)
    if (error === undefined) return new Died(exit.cause)
    if (error._tag === "LockLost") return new Lost(key, error.fencingToken, error.reason)
    return error._tag === "LockUnavailable"
      ? new Unavailable(key, Duration.toMillis(error.waited), engineContention(error))
      : new AdaptedFailure(error, exit.cause as Cause.Cause<LockStoreError>)
  }

  /** What the grant refers to may fail: it is read here, where it can still be given back. */
  private granted(grant: Public.Grant): SeveralExit {
    try {
      return new Granted(new BoundGrant(grant, this.caller))
    } catch (defect) {
      startLike(
        this.caller.context,
        Effect.suspend(() => grant.release),
        false
      )
      return new Died(Cause.die(defect))
    }
  }
}

const publicClaim = (claim: Claim): Public.Claim => {
  const {
    adopt,
    holdAtLeastMillis,
    key,
    kind,
    limit,
    maxHoldMillis,
    owner,
    share,
    ttlMillis,
    waitMillis
  } = claim
  return {
    adopt,
    key,
    kind,
    share,
    limit,
    ttlMillis,
    waitMillis,
    owner,
    maxHoldMillis,
    holdAtLeastMillis,
    whenWaiting:
      waitMillis === 0
        ? undefined
        : (contention) => claim.whenWaiting?.(() => engineContention(contention()))
  }
}

/**
 * While several keys are taken, a grant is used by whoever goes on with that: a timer, or somebody
 * else's fiber, who brings an answer.
 */
export class BoundGrant implements Grant {
  readonly token: string
  readonly fencingToken: number
  readonly fencingFloor: number
  readonly validUntil: number
  readonly contention: Grant["contention"]
  private readonly grant: AdaptedGrant

  constructor(
    private readonly granted: Public.Grant,
    caller: Caller
  ) {
    this.grant = new AdaptedGrant(granted, caller)
    this.token = this.grant.token
    this.fencingToken = this.grant.fencingToken
    this.fencingFloor = this.grant.fencingFloor
    this.validUntil = this.grant.validUntil
    this.contention = this.grant.contention
  }

  get holdUntil(): number | undefined {
    return this.grant.holdUntil
  }

  /** As a holder has it, whose fiber it is that asks. */
  get unbound(): Grant {
    return new AdaptedGrant(this.granted)
  }

  whenLost(listener: (reason: NotOurs) => void): void {
    this.grant.whenLost(listener)
  }

  renew(onExit: (exit: RenewExit) => void): Forget {
    return this.grant.renew(onExit)
  }

  verify(onExit: (exit: OwnershipExit) => void): Forget {
    return this.grant.verify(onExit)
  }

  release(since: number, onExit: (exit: OwnershipExit) => void): void {
    this.grant.release(since, onExit)
  }
}
