/**
 * What an inner user has of a lease that its own fiber, or one that it was forked from, holds: the same
 * token and the same life, and nothing to give back.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"
import type { Lease } from "../../Lease.js"
import { LockLost, type LockStoreError } from "../../LockError.js"
import { ofKind } from "../faces/answers.js"
import { awaitLoss } from "./ending.js"
import { signalOf } from "../faces/signal.js"
import { guard } from "./guard.js"
import { notItsOwn } from "./handingOver.js"
import { Shown } from "./shown.js"
import type { Hold, OfKey, Shareable } from "../faces/holds.js"

export class SharedLease extends Shown implements Shareable {
  readonly token: string
  readonly fencingToken: number
  /** The scope that ends it, where a scope does. */
  scope: Scope.Closeable | undefined = undefined
  /** Its use has ended, while the lease goes on. */
  private ended: LockLost | undefined = undefined
  /** Of those who watch: how they are taken off the outer lease. */
  private readonly watchers = new Map<() => void, () => void>()
  private aborts: AbortSignal | undefined = undefined

  constructor(
    private readonly outer: Shareable,
    readonly key: string
  ) {
    super()
    const { fencingToken, token } = outer.of(key)
    this.token = token
    this.fencingToken = fencingToken
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
    return Effect.suspend(() =>
      this.ended === undefined ? this.outer.verify : Effect.fail(this.ended)
    )
  }

  get awaitLost(): Effect.Effect<never, LockLost> {
    return awaitLoss(this)
  }

  get guard(): Lease["guard"] {
    return (effect) => guard(this, effect)
  }

  get signal(): AbortSignal {
    return (this.aborts ??= signalOf(this))
  }

  /** Of this use alone: the lease is its holder's to give back. */
  get release(): Effect.Effect<void, LockLost | LockStoreError> {
    return Effect.suspend(() => {
      if (this.ended === undefined && !this.outer.checkHeld()) return Effect.fail(this.outer.loss)
      this.end()
      return this.scope === undefined ? Effect.void : Scope.close(this.scope, Exit.void)
    })
  }

  get handOver(): Lease["handOver"] {
    return Effect.suspend((): Lease["handOver"] =>
      this.checkHeld() ? notItsOwn(this.key) : Effect.fail(this.loss)
    )
  }

  override toJSON(): unknown {
    return { _id: "Lease", key: this.key, fencingToken: this.fencingToken }
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

  of(key: string): OfKey {
    return this.outer.of(key)
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
    const { fencingToken, hold, key, watchers } = this
    const { kind } = hold.asks
    this.ended = new LockLost({ key, ...ofKind(kind), reason: "Released", fencingToken })
    for (const [watcher, unwatch] of watchers) {
      unwatch()
      watcher()
    }
    watchers.clear()
  }
}

const none = Effect.succeed(Duration.zero)

/** For the caller's scope. */
export const scopedShared = <I extends SharedLease>(
  lease: I
): Effect.Effect<I, never, Scope.Scope> =>
  Effect.flatMap(Effect.scope, (parent) =>
    // a child scope, so that an early release takes its finalizer out of a long-lived scope
    Effect.flatMap(Scope.fork(parent, "sequential"), (scope) => {
      lease.scope = scope
      return Effect.as(
        Scope.addFinalizer(
          scope,
          Effect.sync(() => lease.end())
        ),
        lease
      )
    })
  )
