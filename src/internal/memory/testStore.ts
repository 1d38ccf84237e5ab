/**
 * The store in memory, for tests of what uses it: it remembers what it granted, and its keys can be
 * stolen, or expire.
 */
import type { AcquireExit, Claim, Kind, NotOurs } from "../engine.js"
import { isolated } from "../common/isolated.js"
import type { Holding, TimedEntry } from "./entry.js"
import { MemoryStore } from "./store.js"

/** What became of a grant. */
export type GrantState = "held" | "released" | "expired" | "stolen" | "revoked" | "adopted"

/** Who has a stolen key: all of it, and for ever. */
class Thief implements Claim {
  readonly share: number
  readonly ttlMillis = Number.POSITIVE_INFINITY
  readonly waitMillis = 0
  readonly owner = "somebody else"

  constructor(
    readonly key: string,
    readonly kind: Kind,
    readonly limit: number,
    /** Whether the key was free, so that nobody knows of what kind it is. */
    readonly isOfAnyKind: boolean
  ) {
    this.share = limit
  }
}

export class TestStore extends MemoryStore {
  private readonly given: Array<Holding> = []
  private readonly ends = new Map<Holding, "released" | "stolen">()

  /** Every lease that was granted, in the order of the grants. */
  get grants() {
    const now = this.clock.unsafeNow()
    return this.given.map((holding) => ({
      key: holding.claim.key,
      kind: holding.claim.kind,
      share: holding.share,
      limit: holding.claim.limit,
      owner: holding.claim.owner,
      fencingToken: holding.fencingToken,
      since: holding.since,
      state: this.stateOf(holding, now)
    }))
  }

  /** Somebody else has the key from now on, before all who wait. */
  steal(key: string): void {
    const entry = this.entry(key, "lock", this.clock.unsafeNow())
    const limit = entry.leastLimit ?? entry.waiters.first?.claim.limit ?? 1
    for (const holding of entry.holders.all) this.ends.set(holding, "stolen")
    this.end(entry, new Thief(key, entry.kind, limit, entry.isIdle))
  }

  /** As if the ttl of all who hold the key were over. */
  expire(key: string): void {
    const entry = this.present(key, this.clock.unsafeNow())
    if (entry !== undefined) this.end(entry, undefined)
  }

  override acquire(claim: Claim, onExit: (exit: AcquireExit) => void): () => void {
    const { key, kind, limit } = claim
    const now = this.clock.unsafeNow()
    const thief = this.present(key, now)?.holders.first?.claim
    // whoever took a free key has it as what it is first asked for
    if (thief instanceof Thief && thief.isOfAnyKind) {
      this.expire(key)
      super.hold(this.entry(key, kind, now), new Thief(key, kind, limit, false))
    }
    return super.acquire(claim, onExit)
  }

  override giveBack(entry: TimedEntry, holding: Holding): "Ours" | NotOurs {
    const found = super.giveBack(entry, holding)
    if (found === "Ours") this.ends.set(holding, "released")
    return found
  }

  protected override hold(entry: TimedEntry, claim: Claim, token?: string): Holding {
    const holding = super.hold(entry, claim, token)
    this.given.push(holding)
    return holding
  }

  /** Ends all leases of a key, which somebody may have instead; whoever held it is told. */
  private end(entry: TimedEntry, thief: Thief | undefined): void {
    const losers = entry.holders.all
    for (const holding of losers) entry.delete(holding)
    if (thief !== undefined) super.hold(entry, thief)
    this.serve(entry)
    for (const holding of losers) {
      // (as a renewal would find it)
      const found = this.ownership(entry, holding)
      if (found === "Ours") continue
      holding.lost = found
      if (holding.whenLost !== undefined) isolated(holding.whenLost, found)
    }
  }

  private stateOf(holding: Holding, now: number): GrantState {
    // (what is held on by nobody can be stolen, and is no one's loss)
    if (holding.isLeft === true) return "released"
    const end = this.ends.get(holding)
    if (end !== undefined) return end
    if (holding.lost === "Revoked") return "revoked"
    if (holding.isAdopted) return "adopted"
    return holding.stands && holding.rank > now ? "held" : "expired"
  }
}
