/**
 * What an inner user has of a lease that its own fiber, or one that it was forked from, holds: the same
 * token and the same life, and nothing to give back.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Inspectable from "effect/Inspectable"
import type * as Scope from "effect/Scope"
import { setMaxListeners } from "node:events"
import type { Lease } from "../../Lease.js"
import { LockLost, type LockStoreError } from "../../LockError.js"
import { type Body, bodyWith } from "./body.js"
import { inContext } from "./asyncContext.js"
import type { Caller } from "./caller.js"
import { guard, type Losable, startGuarded } from "./guard.js"
import { notItsOwn } from "./handingOver.js"
import type { Hold } from "./holds.js"
import type { HeldLease } from "./lease.js"

export class SharedLease implements Lease, Losable {
  readonly key: string
  readonly token: string
  readonly fencingToken: number
  /** Its use has ended, while the lease goes on. */
  private ended: LockLost | undefined = undefined
  /** Of those who watch: how they are taken off the outer lease. */
  private readonly watchers = new Map<() => void, () => void>()
  private abort: AbortController | undefined = undefined

  constructor(private readonly outer: HeldLease) {
    this.key = outer.key
    this.token = outer.token
    this.fencingToken = outer.fencingToken
  }

  // ---------------------------------------------------------------- what users see

  get remaining(): Effect.Effect<Duration.Duration> {
    return Effect.suspend(() => (this.ended === undefined ? this.outer.remaining : none))
  }

  get isHeld(): Effect.Effect<boolean> {
    return Effect.suspend(() =>
      this.ended === undefined ? this.outer.isHeld : Effect.succeed(false)
    )
  }

  get verify(): Effect.Effect<void, LockLost | LockStoreError> {
    return Effect.suspend(() => this.ended ?? this.outer.verify)
  }

  get awaitLost(): Effect.Effect<never, LockLost> {
    return Effect.suspend(() => (this.ended === undefined ? this.outer.awaitLost : Effect.never))
  }

  get guard(): Lease["guard"] {
    return (effect) => guard(this, effect)
  }

  get signal(): AbortSignal {
    if (this.abort === undefined) {
      const abort = (this.abort = new AbortController())
      // as of the outer lease
      setMaxListeners(0, abort.signal)
      const onEnd = () => abort.abort(this.loss)
      if (this.checkHeld()) this.onEnd(inContext<void>(onEnd))
      else onEnd()
    }
    return this.abort.signal
  }

  /** Of this use alone: the lease is its holder's to give back. */
  get release(): Effect.Effect<void, LockLost | LockStoreError> {
    return Effect.suspend(() => {
      if (this.ended === undefined && !this.outer.checkHeld()) return this.outer.loss
      this.end()
      return Effect.void
    })
  }

  get handOver(): Lease["handOver"] {
    return Effect.suspend((): Lease["handOver"] =>
      this.checkHeld() ? notItsOwn(this.key) : this.loss
    )
  }

  toJSON(): unknown {
    return this.outer.toJSON()
  }

  [Inspectable.NodeInspectSymbol](): unknown {
    return this.toJSON()
  }

  // ---------------------------------------------------------------- what the inside sees

  get hold(): Hold {
    return this.outer.hold
  }

  get loss(): LockLost {
    return this.ended ?? this.outer.loss
  }

  checkHeld(): boolean {
    return this.ended === undefined && this.outer.checkHeld()
  }

  onEnd(callback: () => void): () => void {
    const unwatch = this.outer.onEnd(callback)
    this.watchers.set(callback, unwatch)
    return () => {
      this.watchers.delete(callback)
      unwatch()
    }
  }

  end(): void {
    if (this.ended !== undefined) return
    const { fencingToken, key, watchers } = this
    this.ended = new LockLost({ key, reason: "Released", fencingToken })
    for (const [watcher, unwatch] of watchers) {
      unwatch()
      watcher()
    }
    watchers.clear()
  }
}

const none = Effect.succeed(Duration.zero)

/** For the caller's scope. */
export const scopedShared = (lease: SharedLease): Effect.Effect<SharedLease, never, Scope.Scope> =>
  Effect.as(
    Effect.addFinalizer(() => Effect.sync(() => lease.end())),
    lease
  )

/** Runs a body with it, for a caller in an uninterruptible region. */
export const withShared = <A, E, R>(
  lease: SharedLease,
  body: Body<Lease, A, E, R>,
  caller: Caller
): Effect.Effect<A, E | LockLost, R> => {
  return Effect.ensuring(
    startGuarded(lease, bodyWith(body, lease), caller),
    Effect.sync(() => lease.end())
  )
}
