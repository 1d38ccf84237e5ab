/**
 * Which servers the nodes are. One that is named twice would have two votes: its failure would be that of
 * two nodes.
 */
import { type Forget, StoreFailure } from "../engine.js"
import type { Node, Terms } from "./node.js"

type Mistake = (key: string) => StoreFailure

export class Identities {
  private mistake: Mistake | undefined = undefined
  /** Nodes that are being asked. */
  private readonly asking = new Set<Node>()
  private isBegun = false
  private isKnown = false
  private waiting = new Set<(mistake: Mistake | undefined) => void>()

  constructor(
    private readonly nodes: ReadonlyArray<Node>,
    private readonly terms: Terms
  ) {}

  /** Asks those who have not said it: beside a claim, so that this takes no time of its own. */
  ask(): void {
    for (const node of this.nodes) this.askOne(node)
    if (this.isBegun) return
    this.isBegun = true
    const { clock, nodeTimeoutMillis } = this.terms
    clock.unsafeSchedule(clock.unsafeNow() + nodeTimeoutMillis, () => this.known())
  }

  /**
   * Calls back with what is wrong. The first claims wait until all nodes have said who they are, or have not
   * for a time, which is short where a lease would end meanwhile; a node that was away is asked again beside
   * a later one.
   */
  whenKnown(atMostMillis: number, onKnown: (mistake: Mistake | undefined) => void): Forget {
    if (this.isKnown || this.asking.size === 0) {
      onKnown(this.mistake)
      return () => {}
    }
    const { clock } = this.terms
    const tell = (mistake: Mistake | undefined): void => {
      forget()
      onKnown(mistake)
    }
    const timer = clock.unsafeSchedule(clock.unsafeNow() + atMostMillis, () => tell(this.mistake))
    const forget = (): void => {
      timer.cancel()
      this.waiting.delete(tell)
    }
    this.waiting.add(tell)
    return forget
  }

  private known(): void {
    this.isKnown = true
    const { waiting } = this
    this.waiting = new Set()
    for (const tell of waiting) tell(this.mistake)
  }

  private askOne(node: Node): void {
    if (node.identity !== undefined || this.asking.has(node)) return
    this.asking.add(node)
    node.identify((exit) => {
      this.asking.delete(node)
      if (!(exit instanceof StoreFailure)) {
        node.identity = exit
        const same = this.nodes.find((one) => one !== node && one.identity === exit)
        if (same !== undefined) this.mistake ??= twice(same, node)
      }
      if (this.asking.size === 0) this.known()
    })
  }
}

const twice =
  (one: Node, other: Node): Mistake =>
  (key) =>
    new StoreFailure(
      "acquire",
      key,
      `Impossible option nodes: nodes ${Math.min(one.number, other.number)} and ${Math.max(one.number, other.number)} are the same server (${one.identity}), which would have two votes. A quorum needs servers that fail independently.`,
      false
    )
