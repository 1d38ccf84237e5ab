/** Several keys as one: what is asked for, and the lease of them. */
import * as Cause from "effect/Cause"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type { Lease } from "../../Lease.js"
import type { LockLost, LockStoreError, LossReason } from "../../LockError.js"
import { checkKeys, notAllInOne } from "../common/options.js"
import { inOrder, Several } from "../lease/several.js"
import type { SeveralGrant } from "../lease/severalGrant.js"
import { notItsOwn } from "./handingOver.js"
import type { OfKey, Shareable } from "../faces/holds.js"
import { HeldLease } from "./lease.js"
import { type Own, type Share, wholeLock } from "./share.js"
import { SharedLease } from "./sharedLease.js"
import { Shown } from "./shown.js"
import { BoundGrant, sourceOf } from "./sources.js"

type Held = ConstructorParameters<typeof HeldLease>

/** The lease of all of them, as the inside sees it. */
export class HeldSeveral extends HeldLease {
  readonly users: SeveralLease
  private readonly grants: SeveralGrant

  constructor(keys: ReadonlyArray<string>, ...held: Held) {
    super(...held)
    this.grants = held[2] as SeveralGrant
    for (const granted of this.grants.keys) {
      if (granted.grant instanceof BoundGrant) granted.grant = granted.grant.unbound
    }
    this.users = new SeveralLease(this, this.grants.keys, keys)
  }

  override of(key: string): OfKey {
    return this.grants.keys.find((one) => one.key === key)!
  }

  get fencingTokens(): ReadonlyArray<number> {
    return this.grants.keys.map(({ fencingToken }) => fencingToken)
  }

  protected override lostOf(reason: LossReason) {
    return this.grants.culprit(reason)
  }
}

/** Several keys that the caller's own lease has, whatever else it has. */
export class SharedSeveral extends SharedLease {
  readonly users: SeveralLease

  constructor(outer: Shareable, { first, keys, named }: SeveralKeys) {
    super(outer, first)
    this.users = new SeveralLease(
      this,
      keys.map((key) => outer.of(key)),
      named
    )
  }
}

/** What the lease of one key and that of several have in common: it is the life of all of them. */
abstract class Shared extends Shown {
  constructor(protected readonly held: Shareable) {
    super()
  }

  get remaining(): Effect.Effect<Duration.Duration> {
    return this.held.remaining
  }

  get isHeld(): Effect.Effect<boolean> {
    return this.held.isHeld
  }

  get verify(): Effect.Effect<void, LockLost | LockStoreError> {
    return this.held.verify
  }

  get awaitLost(): Effect.Effect<never, LockLost> {
    return this.held.awaitLost
  }

  get guard(): Lease["guard"] {
    return this.held.guard
  }

  get signal(): AbortSignal {
    return this.held.signal
  }

  get release(): Effect.Effect<void, LockLost | LockStoreError> {
    return this.held.release
  }
}

/** One of the keys. */
class LeaseOfOne extends Shared implements Lease {
  readonly key: string
  readonly token: string
  readonly fencingToken: number

  constructor(held: Shareable, { fencingToken, key, token }: OfKey) {
    super(held)
    this.key = key
    this.token = token
    this.fencingToken = fencingToken
  }

  get handOver(): Lease["handOver"] {
    return Effect.suspend((): Lease["handOver"] =>
      this.held.checkHeld() ? notItsOwn(this.key) : Effect.fail(this.held.loss)
    )
  }

  override toJSON(): unknown {
    return { _id: "Lease", key: this.key, fencingToken: this.fencingToken }
  }
}

/** All of them, as users see it. */
export class SeveralLease extends Shared {
  private all: ReadonlyArray<Lease> | undefined = undefined

  constructor(
    held: Shareable,
    private readonly granted: ReadonlyArray<OfKey>,
    /** As the user named them. */
    private readonly keys: ReadonlyArray<string>
  ) {
    super(held)
  }

  get leases(): ReadonlyArray<Lease> {
    if (this.all === undefined) {
      const byKey = new Map(this.granted.map((one) => [one.key, new LeaseOfOne(this.held, one)]))
      this.all = this.keys.map((key) => byKey.get(key)!)
    }
    return this.all
  }

  /** A function by itself, as `guard`. */
  readonly fencingToken = (key: string): number => {
    const granted = this.granted.find((one) => one.key === key)
    if (granted !== undefined) return granted.fencingToken
    throw new Cause.IllegalArgumentError(
      `The key ${JSON.stringify(key)} is not among those of this lease: ${JSON.stringify(this.keys)}.`
    )
  }

  override toJSON(): unknown {
    return {
      _id: "MultiLease",
      leases: this.leases.map(({ fencingToken, key }) => ({ key, fencingToken }))
    }
  }
}

const spans = { acquire: "MultiLock.acquire", hold: "MultiLock.hold" }

export class SeveralKeys implements Share<HeldSeveral, SharedSeveral> {
  readonly kind = wholeLock.kind
  readonly share = wholeLock.share
  readonly limit = wholeLock.limit
  readonly spans = spans
  readonly attributes = {}
  /** Each once, in the order in which they are taken. */
  readonly keys: ReadonlyArray<string>

  constructor(readonly named: ReadonlyArray<string>) {
    // (what is wrong with the others is said where the options are checked)
    this.keys = isStrings(named) ? inOrder(named) : []
  }

  get first(): string {
    return this.keys[0] ?? ""
  }

  readonly makeLease = (...held: Held): HeldSeveral => new HeldSeveral(this.named, ...held)

  within(lease: Shareable, { isGuarded, isReentrant }: Own): SharedSeveral | string | undefined {
    if (!isGuarded || !isReentrant) return undefined
    return this.keys.every((key) => lease.hold.isOf(key))
      ? new SharedSeveral(lease, this)
      : notAllInOne(this.named)
  }

  readonly check = (): string | undefined => checkKeys(this.named)

  readonly take: NonNullable<Share["take"]> = (claim, options, store, caller, onExit) => {
    const source = sourceOf(store, caller.fiber)
    const several = new Several(this.keys, claim, options, source, onExit)
    several.begin()
    return several.cancel
  }
}

const isStrings = (keys: unknown): boolean =>
  Array.isArray(keys) && keys.every((key) => typeof key === "string")

export const severalKeys = (keys: ReadonlyArray<string>): SeveralKeys => new SeveralKeys(keys)
