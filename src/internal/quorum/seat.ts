/**
 * What one claim has of one node: it is asked for there, granted there, and confirmed there, or not.
 *
 * | state      | what it has                  | what can follow                                                     |
 * | ---------- | ---------------------------- | ------------------------------------------------------------------- |
 * | idle       | nothing, or why it has not   | asking                                                              |
 * | asking     | a claim that is under way    | granted; refused: idle; left: idle, and what comes late is undone   |
 * | granted    | a grant                      | confirming; lost: idle; left: idle                                  |
 * | confirming | a grant, and a question      | confirmed; not known: as it was; lost: idle; left: idle             |
 * | confirmed  | a grant that counts          | confirming; lost: idle; left: idle                                  |
 */
import type { Joining } from "../engine.js"
import {
  type Claim,
  type Contention,
  type Died,
  type Grant,
  type Impossible,
  type Lost,
  type NotOurs,
  type StoreFailure,
  type Unavailable
} from "../engine.js"
import type { Node, Terms } from "./node.js"

/** Why a node does not grant it. */
export type Refusal = Unavailable | StoreFailure | Impossible | Lost | Joining

/** Whoever has the seats, and goes on when something becomes of one of them. */
export interface SeatEvents {
  onGranted(seat: Seat): void
  onRefused(seat: Seat): void
  /** It stands in the node's queue. */
  onQueued(seat: Seat, contention: () => Contention): void
  onConfirmed(seat: Seat): void
  /** Whether it is still held is not known. */
  onUnconfirmed(seat: Seat, failure: StoreFailure | Died): void
  onLost(seat: Seat, reason: NotOurs): void
}

/** A claim as a node is asked it. (Members of the caller's claim can be those of its class.) */
class NodeClaim implements Claim {
  readonly key: string
  readonly kind: Claim["kind"]
  readonly share: number
  readonly limit: number
  readonly ttlMillis: number
  readonly owner: string | undefined
  readonly holdAtLeastMillis: number | undefined
  readonly tick: number | undefined
  readonly tickKeptMillis: number | undefined
  /** A number that the server has minted now: the one that is confirmed must be the greatest of them. */
  readonly direct = true

  constructor(
    claim: Claim,
    readonly waitMillis: number,
    readonly maxHoldMillis: number | undefined,
    readonly whenWaiting: (contention: () => Contention) => void
  ) {
    this.key = claim.key
    this.kind = claim.kind
    this.share = claim.share
    this.limit = claim.limit
    this.ttlMillis = claim.ttlMillis
    this.owner = claim.owner
    this.holdAtLeastMillis = claim.holdAtLeastMillis
    this.tick = claim.tick
    this.tickKeptMillis = claim.tickKeptMillis
  }
}

const nothing = (): void => {}

export class Seat {
  grant: Grant | undefined = undefined
  /** One that was lost: its node still knows why. */
  lost: Grant | undefined = undefined
  refusal: Refusal | undefined = undefined
  /** Until when it is proven, on the quorum's clock; and by which fencing token at least the next one is greater. */
  provenUntil = Number.NEGATIVE_INFINITY
  confirmed = Number.NEGATIVE_INFINITY
  isAsking = false
  isQueued = false
  /** The greatest fencing token that is being confirmed; `undefined`: none is. */
  confirming: number | undefined = undefined
  /** When the question was asked that is under way. */
  askedAt = 0
  private cancel: (() => void) | undefined = undefined
  /** What becomes of earlier ones is not for this one any more. */
  private round = 0

  constructor(
    readonly node: Node,
    private readonly claim: Claim,
    private readonly terms: Terms,
    /** Whoever has it now. */
    public events: SeatEvents
  ) {}

  /** Whether it was asked for without waiting. */
  isSingle = true

  ask(waitMillis: number, maxHoldMillis = this.claim.maxHoldMillis): void {
    const round = ++this.round
    const { node } = this
    this.refusal = undefined
    this.isAsking = true
    this.isQueued = false
    this.isSingle = waitMillis <= 0
    this.askedAt = this.terms.clock.unsafeNow()
    let isOver = false
    const claim = new NodeClaim(this.claim, waitMillis, maxHoldMillis, (contention) => {
      if (this.round !== round) return
      this.isQueued = true
      this.events.onQueued(this, contention)
    })
    const cancel = node.store.acquire(claim, (exit) => {
      isOver = true
      node.heard(exit)
      if (this.round !== round) return
      this.isAsking = this.isQueued = false
      this.cancel = undefined
      if (exit._tag === "Granted") this.take(exit.grant, round)
      else this.refuse(exit)
    })
    if (isOver) return
    if (this.round === round) this.cancel = cancel
    else cancel()
  }

  private take(grant: Grant, round: number): void {
    this.grant = grant
    this.provenUntil = this.confirmed = Number.NEGATIVE_INFINITY
    this.confirming = undefined
    grant.whenLost((reason) => {
      if (this.round === round) this.lose(reason)
    })
    if (this.grant === grant) this.events.onGranted(this)
  }

  private refuse(refusal: Refusal): void {
    this.refusal = refusal
    this.events.onRefused(this)
  }

  /** The node has forgotten it, or given it to somebody else: there is nothing to give back. */
  private lose(reason: NotOurs): void {
    this.lost = this.grant
    this.grant = undefined
    this.leave()
    this.events.onLost(this, reason)
  }

  /** Renews it, so that every later grant of this node has a greater fencing token than that. */
  confirm(fencingToken: number): void {
    const { node, round } = this
    const grant = this.grant!
    this.confirming = fencingToken
    this.askedAt = this.terms.clock.unsafeNow()
    grant.confirm!(fencingToken, this.terms.longestTtlMillis, (exit) => {
      node.heard(exit)
      if (this.round !== round || this.grant !== grant) return
      if (this.confirming === fencingToken) this.confirming = undefined
      switch (exit._tag) {
        case "Renewed":
          this.provenUntil = Math.max(this.provenUntil, node.here(exit.validUntil))
          this.confirmed = Math.max(this.confirmed, fencingToken)
          return this.events.onConfirmed(this)
        case "NotOurs":
          return this.lose(exit.reason)
        case "Joining":
          this.leave()
          this.refusal = exit
          return this.events.onLost(this, "Missing")
        default:
          return this.events.onUnconfirmed(this, exit)
      }
    })
  }

  /** There is no answer: what comes late is undone. */
  giveUp(): void {
    const afterMillis = this.terms.clock.unsafeNow() - this.askedAt
    const operation = this.grant === undefined ? "acquire" : "renew"
    const failure = this.node.silent(operation, this.claim.key, afterMillis)
    this.leave()
    this.refuse(failure)
  }

  /** Gives back what it has, or will have. */
  leave(): void {
    const { cancel, grant, node } = this
    this.round++
    this.isAsking = this.isQueued = false
    this.cancel = this.grant = this.confirming = undefined
    this.provenUntil = this.confirmed = Number.NEGATIVE_INFINITY
    cancel?.()
    grant?.release(node.store.clock.unsafeNow(), nothing, true)
  }

  /** What is under way is not wanted any more; what is granted stays, for its holder's release. */
  stop(): void {
    if (this.isAsking) this.leave()
    this.round++
  }
}
