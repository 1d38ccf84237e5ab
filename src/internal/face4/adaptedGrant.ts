/** A grant of somebody else's store, or one of ours that somebody has wrapped, for the engine. */
import type * as Cause from "effect/Cause"
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import type { LockStoreError } from "../../LockError.js"
import {
  type Contention,
  Died,
  type Forget,
  type Grant,
  type NotOurs,
  type OwnershipExit,
  type RenewExit,
  type StoreFailure
} from "../engine.js"
import { AdaptedFailure, engineContention } from "../faces/answers.js"
import { closingGoesOn } from "../faces/closing.js"
import type * as Public from "../faces/lockStore.js"
import { errorIn } from "./causes.js"

/** It reads the grant as late as it can: what it refers to may fail. */
export class AdaptedGrant implements Grant {
  constructor(
    private readonly grant: Public.Grant,
    /** As whom everything is asked. Absent: as the running fiber. */
    private readonly caller?: Fiber.Fiber<unknown, unknown>
  ) {}

  get token(): string {
    return this.grant.token
  }

  get fencingToken(): number {
    return this.grant.fencingToken
  }

  get fencingFloor(): number {
    return this.grant.fencingFloor ?? this.grant.fencingToken
  }

  get validUntil(): number {
    return this.grant.validUntil
  }

  get holdUntil(): number | undefined {
    return this.grant.holdUntil
  }

  get contention(): Contention | undefined {
    const { contention } = this.grant
    if (contention === undefined) return undefined
    return engineContention(contention)
  }

  whenLost(listener: (reason: NotOurs) => void): void {
    this.grant.whenLost?.(listener)
  }

  renew(onExit: (exit: RenewExit) => void): Forget {
    return this.run(this.grant.renew, false, onExit)
  }

  verify(onExit: (exit: OwnershipExit) => void): Forget {
    return this.run(this.grant.verify, false, onExit)
  }

  get reshare(): Grant["reshare"] {
    const { reshare } = this.grant
    return reshare && ((share, onExit) => this.run(reshare(share), false, onExit))
  }

  get handOver(): Grant["handOver"] {
    const { handOver } = this.grant
    return handOver && ((onExit) => this.run(handOver, true, onExit))
  }

  release(_: number, onExit: (exit: OwnershipExit) => void): void {
    this.run(this.grant.release, true, onExit)
  }

  /** As that fiber would: with its context, and as a part of what it closes. */
  private run<A>(
    effect: Effect.Effect<A, LockStoreError>,
    uninterruptible: boolean,
    onExit: (exit: A | StoreFailure | Died) => void
  ): Forget {
    const parent = this.caller ?? Fiber.getCurrent()!
    const child = startLike(
      parent.context,
      Effect.suspend(() => {
        closingGoesOn(parent, Fiber.getCurrent()!)
        return effect
      }),
      uninterruptible
    )
    child.addObserver((exit) => {
      closingGoesOn(child, parent)
      onExit(Exit.isSuccess(exit) ? exit.value : failureOf(exit.cause))
    })
    return () => child.interruptUnsafe()
  }
}

/** Starts an effect that belongs to nobody, in place. */
export const startLike = <A, E>(
  context: Context.Context<never>,
  effect: Effect.Effect<A, E>,
  uninterruptible: boolean
): Fiber.Fiber<A, E> => Effect.runForkWith(context)(effect, { uninterruptible })

const failureOf = (cause: Cause.Cause<LockStoreError>): StoreFailure | Died => {
  const error = errorIn(cause)
  return error === undefined ? new Died(cause) : new AdaptedFailure(error, cause)
}
