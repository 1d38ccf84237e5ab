/** A lease of the store in memory, as its holder uses it. */
import {
  badShare,
  cannotHandOver,
  type Contention,
  type Forget,
  type LockClock,
  type NotOurs,
  type OwnershipExit,
  Renewed,
  type RenewExit,
  tickStays
} from "../engine.js"
import type { Entry, Holding, Returnable, TimedEntry } from "./entry.js"

/** The store, as far as its grants know it. */
export interface Keeper {
  readonly clock: LockClock
  /** Whether a grant is still held. */
  ownership(entry: Entry, holding: Holding): "Ours" | NotOurs
  /** Grants as much of the beginning of the queue as fits. */
  serve(entry: TimedEntry): void
  /** Ends a lease, and answers whose it was. */
  giveBack(entry: TimedEntry, holding: Holding): "Ours" | NotOurs
  /** It has that fencing token at least, and later grants have a greater one. */
  raise(holding: Holding, fencingToken: number): void
  /** Of a grant that did not come to its caller. */
  undoTick(entry: Entry, token: string): void
}

export class MemoryGrant implements Returnable {
  readonly token: string
  readonly fencingToken: number

  constructor(
    private readonly store: Keeper,
    private readonly entry: TimedEntry,
    private readonly holding: Holding,
    readonly fencingFloor: number,
    readonly validUntil: number,
    readonly contention: Contention | undefined
  ) {
    this.token = holding.token
    this.fencingToken = holding.fencingToken
  }

  get holdUntil(): number | undefined {
    return this.holding.holdUntil
  }

  renew(onExit: (exit: RenewExit) => void): Forget {
    return this.reshare(this.holding.share, onExit)
  }

  confirm(fencingToken: number, _: number, onExit: (exit: RenewExit) => void): Forget {
    return this.renew((exit) => {
      if (exit._tag === "Renewed") this.store.raise(this.holding, fencingToken)
      onExit(exit)
    })
  }

  verify(onExit: (exit: OwnershipExit) => void): Forget {
    onExit(this.store.ownership(this.entry, this.holding))
    return nothing
  }

  release(_: number, onExit: (exit: OwnershipExit) => void, unused = false): void {
    onExit(unused ? this.giveBack() : this.leave())
  }

  reshare(share: number, onExit: (exit: RenewExit) => void): Forget {
    const { entry, holding, store } = this
    const found = store.ownership(entry, holding)
    const mistake = badShare(entry.key, share, holding.share)
    if (found !== "Ours") {
      onExit({ _tag: "NotOurs", reason: found })
    } else if (mistake !== undefined) {
      onExit(mistake)
    } else {
      const now = store.clock.unsafeNow()
      entry.renew(holding, holding.expiryAt(now))
      if (share < holding.share) {
        entry.reshare(holding, share)
        store.serve(entry)
      }
      onExit(new Renewed(holding.provenAt(now)))
    }
    return nothing
  }

  /** The token stands where it stood, for whoever adopts it. */
  handOver(onExit: (exit: RenewExit) => void): Forget {
    const { key, tick } = this.holding.claim
    if (tick === undefined) return this.renew(onExit)
    onExit(cannotHandOver(key, tickStays))
    return nothing
  }

  whenLost(listener: (reason: NotOurs) => void): void {
    const { lost } = this.holding
    if (lost === undefined) this.holding.whenLost = listener
    else listener(lost)
  }

  giveBack(): "Ours" | NotOurs {
    // (it was used before it was adopted)
    if (this.holding.claim.adopt !== undefined) return this.leave()
    this.store.undoTick(this.entry, this.token)
    return this.end()
  }

  /** Before its time is over, it stays where it is. */
  private leave(): "Ours" | NotOurs {
    const { entry, holding, store } = this
    const { leastUntil } = holding
    if (holding.isLeft) return "Ours"
    const found = store.ownership(entry, holding)
    if (found !== "Ours" || store.clock.unsafeNow() >= leastUntil) return this.end()
    holding.isLeft = true
    entry.renew(holding, leastUntil)
    store.serve(entry)
    return found
  }

  private end(): "Ours" | NotOurs {
    return this.store.giveBack(this.entry, this.holding)
  }
}

const nothing = (): void => {}
