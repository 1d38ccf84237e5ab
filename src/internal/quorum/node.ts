/** A node of a quorum: a store, on its own clock, which can be away. */
import {
  type AcquireExit,
  type Claim,
  type Forget,
  type Joining,
  keptMillis,
  type LockClock,
  type LockStoreOperation,
  type OnAnswer,
  type OwnershipExit,
  type RenewExit,
  type Store,
  StoreFailure
} from "../engine.js"
import { isolated } from "../common/isolated.js"

/** What all nodes of a quorum have to know of it. */
export interface Terms {
  readonly clock: LockClock
  readonly majority: number
  /** No lease is granted or renewed for longer. */
  readonly longestTtlMillis: number
  /** For so long an answer of a node is waited for, if the ttl is not short. */
  readonly nodeTimeoutMillis: number
}

/** A node's deadline is far below the ttl (unless that is so short that any answer would be late). */
export const nodeTimeoutOf = (claim: Claim, { nodeTimeoutMillis }: Terms): number =>
  Math.min(nodeTimeoutMillis, Math.max(50, keptMillis(claim) / 4))

export class Node {
  /** Which server it is, once it has said so. */
  identity: string | undefined = undefined
  private isFailing = false
  private joinsAt = Number.NEGATIVE_INFINITY
  private readonly watchers = new Set<() => void>()

  constructor(
    readonly store: Store,
    /** From 1 on, as people count. */
    readonly number: number,
    private readonly clock: LockClock
  ) {}

  /** A time of the node's clock, on that of the quorum. */
  here(time: number): number {
    const { clock, store } = this
    if (store.clock === clock) return time
    const now = clock.unsafeNow()
    return now + (time - store.clock.unsafeNow())
  }

  /** It has not answered of late, or does not count yet. It is asked all the same, but nobody queues there. */
  get isAway(): boolean {
    if (this.isFailing || this.joinsAt === Number.NEGATIVE_INFINITY) return this.isFailing
    return this.clock.unsafeNow() < this.joinsAt
  }

  /** Calls back when it goes away. */
  whenAway(watcher: () => void): Forget {
    this.watchers.add(watcher)
    return () => this.watchers.delete(watcher)
  }

  /** An answer, or what stands for the missing of one, says whether it is there. */
  heard(exit: AcquireExit | RenewExit | OwnershipExit | Joining): void {
    const wasAway = this.isAway
    if (typeof exit === "string") this.isFailing = false
    else if (exit._tag === "Joining") this.joinsAt = this.clock.unsafeNow() + exit.leftMillis
    // (what is refused for good says nothing of other keys)
    else if (exit._tag !== "StoreFailure") this.isFailing = false
    else if (exit.transient && !exit.isPassing) this.isFailing = true
    if (wasAway || !this.isAway) return
    for (const watcher of Array.from(this.watchers)) isolated(watcher, undefined)
  }

  /** There was no answer in time. */
  silent(operation: LockStoreOperation, key: string, afterMillis: number): StoreFailure {
    const detail = `It did not answer within ${Math.round(afterMillis)} ms.`
    const failure = new StoreFailure(operation, key, detail, true)
    this.heard(failure)
    return failure
  }

  identify(onExit: OnAnswer<string>): Forget {
    return this.store.identify!(onExit)
  }
}
