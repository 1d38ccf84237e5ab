/** The store that all workers share. */
import type { Claim } from "../../src/internal/engine.js"
import type { Holding, TimedEntry } from "../../src/internal/memory/entry.js"
import { MemoryStore } from "../../src/internal/memory/store.js"
import type { World } from "./world.js"

/** A lease, as the store knows it. */
export interface Kept {
  readonly owner: string
  readonly fencingToken: number
  readonly share: number
  readonly from: number
  /** When it expires, unless it is renewed or given back. */
  readonly until: number
  /** When it was given back, or expired; absent: it is still kept. */
  readonly to: number | undefined
  readonly isExpired: boolean
}

class Remembered implements Kept {
  readonly owner: string
  readonly fencingToken: number
  readonly share: number
  readonly from: number
  givenBackAt: number | undefined = undefined

  constructor(
    private readonly holding: Holding,
    private readonly world: World
  ) {
    this.owner = holding.claim.owner ?? ""
    this.fencingToken = holding.fencingToken
    this.share = holding.share
    this.from = holding.since
  }

  get until(): number {
    return this.holding.rank
  }

  get to(): number | undefined {
    return this.givenBackAt ?? (this.isExpired ? this.until : undefined)
  }

  get isExpired(): boolean {
    return this.givenBackAt === undefined && this.until <= this.world.now
  }
}

/** The store in memory, which remembers what it granted. Its fencing tokens are 1, 2, 3: easy to compare. */
export class RememberingStore extends MemoryStore {
  leases: Array<Kept> = []
  private readonly ofHoldings = new WeakMap<Holding, Remembered>()

  constructor(private readonly world: World) {
    super(world, () => 0)
  }

  override giveBack(entry: TimedEntry, holding: Holding): ReturnType<MemoryStore["giveBack"]> {
    const found = super.giveBack(entry, holding)
    if (found === "Ours") this.ofHoldings.get(holding)!.givenBackAt = this.world.now
    return found
  }

  protected override hold(entry: TimedEntry, claim: Claim, token?: string): Holding {
    const holding = super.hold(entry, claim, token)
    const remembered = new Remembered(holding, this.world)
    this.ofHoldings.set(holding, remembered)
    this.leases.push(remembered)
    return holding
  }
}
