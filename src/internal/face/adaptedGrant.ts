/** A grant of somebody else's store, or one of ours that somebody has wrapped, for the engine. */
import type * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as FiberId from "effect/FiberId"
import * as Option from "effect/Option"
import type { LockStoreError } from "../../LockError.js"
import type * as Public from "../../LockStore.js"
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
import { errorIn } from "./causes.js"
import { closingGoesOn } from "../faces/closing.js"
import { interruptible, SameAs, startLike, uninterruptible } from "./fork.js"

/** It reads the grant as late as it can: what it refers to may fail. */
export class AdaptedGrant implements Grant {
  constructor(
    private readonly grant: Public.Grant,
    /** As whom everything is asked. Absent: as the running fiber. */
    private readonly caller?: Fiber.RuntimeFiber<unknown, unknown>
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
    return run(this.grant.renew, interruptible, onExit, this.caller)
  }

  verify(onExit: (exit: OwnershipExit) => void): Forget {
    return run(this.grant.verify, interruptible, onExit, this.caller)
  }

  get reshare(): Grant["reshare"] {
    const { reshare } = this.grant
    return reshare && ((share, onExit) => run(reshare(share), interruptible, onExit, this.caller))
  }

  get handOver(): Grant["handOver"] {
    const { handOver } = this.grant
    return handOver && ((onExit) => run(handOver, uninterruptible, onExit, this.caller))
  }

  release(_: number, onExit: (exit: OwnershipExit) => void): void {
    run(this.grant.release, uninterruptible, onExit, this.caller)
  }
}

/** As that fiber would: with its FiberRefs, and as a part of what it closes. */
const run = <A>(
  effect: Effect.Effect<A, LockStoreError>,
  flags: typeof interruptible,
  onExit: (exit: A | StoreFailure | Died) => void,
  parent = runningFiber()
): Forget => {
  const child = startLike(
    parent,
    flags,
    Effect.suspend(() => {
      closingGoesOn(parent, runningFiber())
      // (nobody logs it as an error that is not handled)
      return Effect.exit(effect)
    }),
    new SameAs(parent)
  )
  child.addObserver((ended) => {
    closingGoesOn(child, parent)
    const exit = Exit.flatten(ended)
    onExit(Exit.isSuccess(exit) ? exit.value : failureOf(exit.cause))
  })
  return () => child.unsafeInterruptAsFork(FiberId.none)
}

const runningFiber = (): Fiber.RuntimeFiber<unknown, unknown> =>
  Option.getOrThrow(Fiber.getCurrentFiber())

const failureOf = (cause: Cause.Cause<LockStoreError>): StoreFailure | Died => {
  const error = errorIn(cause)
  return error === undefined ? new Died(cause) : new AdaptedFailure(error, cause)
}
