/** A store that is made of stores: what it says counts as soon as a majority of them says it. */
import {
  type AcquireExit,
  type Capability,
  type Claim,
  type Forget,
  Granted,
  Impossible,
  keptMillis,
  lacking,
  type LockClock,
  notCapable,
  type OnAnswer,
  type Store,
  StoreFailure
} from "../engine.js"
import { show } from "../common/options.js"
import { Candidate } from "./candidate.js"
import { Identities } from "./identities.js"
import { type Look, lookAtAll } from "./look.js"
import { majorityOf } from "./majority.js"
import { Node, nodeTimeoutOf, type Terms } from "./node.js"

/** Of several holders at once nothing is promised. */
const possible: ReadonlyArray<Capability> = [
  "look",
  "keys",
  "revoke",
  "maxHold",
  "holdAtLeast",
  "tick"
]

const reasons: Partial<Record<Capability, string>> = {
  semaphore:
    "it is a quorum, whose nodes count holders each by itself. Of three nodes that let two in, three callers can have two nodes each.",
  readWriteLock:
    "it is a quorum, whose nodes count holders each by itself, and keeps locks that have one holder.",
  reshare: "it is a quorum, and keeps locks that have one holder.",
  handOver:
    "it is a quorum: each node knows the lease by a token of its own, and a handle has one of them."
}

const nothing = (): void => {}

export class QuorumStore implements Store {
  readonly clock: LockClock
  readonly capabilities: ReadonlySet<Capability>
  readonly identity: string
  private readonly nodes: ReadonlyArray<Node>
  private readonly terms: Terms
  private readonly identities: Identities
  private readonly candidates = new Map<string, Set<Candidate>>()
  private isClosed = false

  /** The nodes can be nodes (`canBeNode`), and their number is odd. */
  constructor(
    stores: ReadonlyArray<Store>,
    settings: Pick<Terms, "longestTtlMillis" | "nodeTimeoutMillis">
  ) {
    this.clock = stores[0]!.clock
    this.nodes = stores.map((store, index) => new Node(store, index + 1, this.clock))
    this.terms = { ...settings, clock: this.clock, majority: majorityOf(stores.length) }
    this.capabilities = new Set(
      possible.filter((one) => stores.every(({ capabilities }) => capabilities.has(one)))
    )
    this.identity = `a quorum of ${stores.map(({ identity }) => identity ?? "a store").join("; ")}`
    this.identities = new Identities(this.nodes, this.terms)
  }

  get answeredAt(): number {
    return Math.max(...this.nodes.map(({ store }) => store.answeredAt ?? Number.NEGATIVE_INFINITY))
  }

  readonly whyNot = (needed: Capability): string | undefined => reasons[needed]

  acquire(claim: Claim, onExit: (exit: AcquireExit) => void): () => void {
    const refusal = this.refusal(claim)
    if (refusal !== undefined) {
      onExit(refusal)
      return nothing
    }
    const { key } = claim
    const others = this.candidates.get(key) ?? new Set()
    const candidate: Candidate = new Candidate(
      claim,
      this.inOrder(key),
      this.terms,
      () => [...others].some(({ isWaiting }) => isWaiting),
      (exit) => {
        others.delete(candidate)
        if (others.size === 0) this.candidates.delete(key)
        forget = this.identities.whenKnown(nodeTimeoutOf(claim, this.terms), (mistake) => {
          if (mistake !== undefined && exit instanceof Granted) candidate.cancel()
          onExit(mistake === undefined ? exit : mistake(key))
        })
      }
    )
    let forget: Forget = nothing
    others.add(candidate)
    this.candidates.set(key, others)
    this.identities.ask()
    candidate.begin()
    return () => {
      others.delete(candidate)
      if (others.size === 0) this.candidates.delete(key)
      forget()
      candidate.cancel()
    }
  }

  private refusal(claim: Claim): StoreFailure | Impossible | undefined {
    const { key, ttlMillis } = claim
    const { longestTtlMillis } = this.terms
    if (this.isClosed) return closed(key)
    const needed = lacking(claim, this.capabilities)
    if (needed !== undefined) return notCapable("acquire", key, needed, this.whyNot(needed))
    if (keptMillis(claim) <= longestTtlMillis) return undefined
    const [option, value] =
      ttlMillis > longestTtlMillis ? ["ttl", ttlMillis] : ["holdAtLeast", claim.holdAtLeastMillis]
    return new Impossible(
      `Impossible lock option ${option}: ${show(value)} ms. It must be at most longestTtl of the quorum, which is ${longestTtlMillis} ms: a node that was emptied stays away for that long, so that no lease is left that it has forgotten.`
    )
  }

  /** The nodes, from the first one of the key on. */
  private inOrder(key: string): ReadonlyArray<Node> {
    const { nodes } = this
    let hash = 0
    for (let index = 0; index < key.length; index++) hash = (hash * 31 + key.charCodeAt(index)) | 0
    const first = Math.abs(hash) % nodes.length
    return nodes.slice(first).concat(nodes.slice(0, first))
  }

  look(key: string, atMost: number, ended: ReadonlyArray<number>, onExit: OnAnswer<Look>): Forget {
    return lookAtAll(this.inOrder(key), this.terms, key, atMost, ended, onExit)
  }

  /** Of one node after the other: `from` is which, how many could not be asked, and where it goes on. */
  keys(
    prefix: string,
    from: string | undefined,
    onExit: Parameters<NonNullable<Store["keys"]>>[2]
  ): Forget {
    const [, index = "0", failed = "0", cursor = ""] = /^(\d+) (\d+) ([^]*)$/.exec(from ?? "") ?? []
    const { majority } = this.terms
    const { length } = this.nodes
    const at = Number(index)
    const next = (failures: number) => (at + 1 < length ? `${at + 1} ${failures} ` : undefined)
    return this.nodes[at]!.store.keys!(prefix, cursor === "" ? undefined : cursor, (exit) => {
      const failures = Number(failed)
      if (!(exit instanceof StoreFailure)) {
        const rest = exit.next === undefined ? next(failures) : `${at} ${failures} ${exit.next}`
        return onExit({ keys: exit.keys, next: rest })
      }
      // (what a majority holds, one of the others knows)
      if (failures + 1 > length - majority) onExit(exit)
      else onExit({ keys: [], next: next(failures + 1) })
    })
  }

  /** The fencing token of a lease is in the records of a majority. */
  revoke(key: string, fencingToken: number, onExit: OnAnswer<boolean>): Forget {
    const { length } = this.nodes
    let [done, answered, failed] = [0, 0, 0]
    const forget = this.nodes.map(({ store }) =>
      store.revoke!(key, fencingToken, (exit) => {
        if (exit instanceof StoreFailure) failed++
        else answered++
        if (exit === true) done++
        if (answered + failed < length) return
        if (answered >= this.terms.majority) return onExit(done > 0)
        onExit(
          new StoreFailure(
            "revoke",
            key,
            `Of ${length} nodes ${answered} answered, and ${this.terms.majority} must.`,
            true,
            exit
          )
        )
      })
    )
    return () => forget.forEach((one) => one())
  }

  /** What it holds is for its holders to release; its nodes are closed by whoever made them. */
  close(onClosed: () => void): void {
    this.isClosed = true
    for (const [key, candidates] of Array.from(this.candidates)) {
      for (const candidate of Array.from(candidates)) candidate.close(closed(key))
    }
    onClosed()
  }
}

const closed = (key: string): StoreFailure =>
  new StoreFailure("acquire", key, "The store is closed: its layer's scope has ended.", false)

/** Whether a store can be a node of a quorum. */
export const canBeNode = ({ identify }: Store): boolean => identify !== undefined
