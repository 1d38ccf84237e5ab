/** The last tick of each key that was granted. */
import { type Claim, tickKeptMillis } from "../engine.js"

class Tick {
  constructor(
    readonly tick: number,
    /** Of the grant. */
    readonly token: string,
    readonly keptUntil: number,
    /** The one before it, as long as this one can be undone. */
    readonly before: Tick | undefined
  ) {}
}

export class Ticks {
  /** In the order of their grants. */
  private readonly last = new Map<string, Tick>()

  /** The last one of the key, if the claim's is not later. */
  refusing({ key, tick }: Claim, now: number): number | undefined {
    if (tick === undefined) return undefined
    const last = this.kept(key, now)?.tick
    return last !== undefined && last >= tick ? last : undefined
  }

  lastOf(key: string, now: number): number | undefined {
    return this.kept(key, now)?.tick
  }

  keys(now: number): ReadonlyArray<string> {
    return [...this.last.keys()].filter((key) => this.kept(key, now) !== undefined)
  }

  granted(claim: Claim, token: string, now: number): void {
    const { key, tick } = claim
    if (tick === undefined) return
    const before = this.kept(key, now)
    // at the end of the order, so that what is over comes to its beginning
    this.last.delete(key)
    this.last.set(key, new Tick(tick, token, now + tickKeptMillis(claim), before && alone(before)))
    this.forgetSome(now)
  }

  /** The grant did not come to its caller. */
  undo(key: string, token: string): void {
    const last = this.last.get(key)
    if (last?.token !== token) return
    if (last.before === undefined) this.last.delete(key)
    else this.last.set(key, last.before)
  }

  private kept(key: string, now: number): Tick | undefined {
    const last = this.last.get(key)
    return last !== undefined && now < last.keptUntil ? last : undefined
  }

  /** Two for each that comes: so no more stand here than are remembered, or soon. */
  private forgetSome(now: number): void {
    let most = 2
    for (const [key, { keptUntil }] of this.last) {
      if (most-- === 0 || now < keptUntil) return
      this.last.delete(key)
    }
  }
}

const alone = ({ keptUntil, tick, token }: Tick): Tick =>
  new Tick(tick, token, keptUntil, undefined)
