/**
 * A lease of a quorum: held as long as a majority of its seats is proven. Each renewal also asks nodes that
 * do not have it, because they were away or have been emptied: so the nodes of a lease that lasts can be
 * restarted one after the other.
 */
import {
  type Claim,
  type Contention,
  type Died,
  type Forget,
  type Grant,
  type NotOurs,
  type OwnershipExit,
  Renewed,
  type RenewExit,
  type ScheduledCall,
  StoreFailure
} from "../engine.js"
import { mostCommon, provenBy, verdict } from "./majority.js"
import type { Terms } from "./node.js"
import type { Seat, SeatEvents } from "./seat.js"

/** A renewal that is under way. */
interface Round {
  readonly onExit: (exit: RenewExit) => void
  readonly timer: ScheduledCall
  /** Those that have not answered yet. */
  readonly asked: Set<Seat>
  readonly renewed: Set<Seat>
}

export class QuorumGrant implements Grant, SeatEvents {
  /** Each node has another one. This is that of the first node, as a look tells it. */
  readonly token: string
  readonly fencingFloor: number
  readonly holdUntil: number | undefined
  private round: Round | undefined = undefined
  private listener: ((reason: NotOurs) => void) | undefined = undefined
  private readonly reasons: Array<NotOurs> = []
  private failure: StoreFailure | Died | undefined = undefined
  private isReleased = false

  constructor(
    private readonly seats: ReadonlyArray<Seat>,
    private readonly claim: Claim,
    private readonly terms: Terms,
    readonly fencingToken: number,
    readonly validUntil: number,
    readonly contention: Contention | undefined
  ) {
    this.fencingFloor = fencingToken
    this.token = seats.find(isConfirmed)!.grant!.token
    const bounds = seats.flatMap(({ grant, node }) =>
      grant?.holdUntil === undefined ? [] : node.here(grant.holdUntil)
    )
    this.holdUntil = claim.maxHoldMillis === undefined ? undefined : Math.min(...bounds)
    for (const seat of seats) {
      seat.events = this
      if (seat.grant !== undefined && seat.confirming === undefined && !isConfirmed(seat)) {
        seat.confirm(fencingToken)
      }
    }
  }

  whenLost(listener: (reason: NotOurs) => void): void {
    this.listener = listener
    if (this.isLost) listener(mostCommon(this.reasons))
  }

  /** Too few nodes are left that have it. (One that does not answer may have it still.) */
  private get isLost(): boolean {
    return this.reasons.length > 0 && this.seats.filter(isConfirmed).length < this.terms.majority
  }

  // ---------------------------------------------------------------- renewals

  renew(onExit: (exit: RenewExit) => void): Forget {
    const { clock, nodeTimeoutMillis } = this.terms
    if (this.isLost) return this.tellLoss(onExit)
    this.endRound()
    this.failure = undefined
    const timer = clock.unsafeSchedule(clock.unsafeNow() + nodeTimeoutMillis, () => {
      const silent = [...this.round!.asked]
      for (const { askedAt, node } of silent) {
        this.failure ??= node.silent("renew", this.claim.key, clock.unsafeNow() - askedAt)
      }
      this.tellFailure()
    })
    const asked = this.seats.filter(({ grant }) => grant !== undefined)
    const round: Round = (this.round = {
      onExit,
      timer,
      asked: new Set(asked),
      renewed: new Set()
    })
    for (const seat of this.seats) {
      // (a question that is under way is not asked again)
      if (seat.grant !== undefined && seat.confirming === undefined) seat.confirm(this.fencingToken)
      else if (seat.grant === undefined && !seat.isAsking) this.join(seat)
    }
    if (this.round === round && asked.length === 0) this.tellFailure()
    return () => {
      if (this.round === round) this.endRound()
    }
  }

  /** Why it is lost, the nodes may know better by now. */
  private tellLoss(onExit: (exit: RenewExit) => void): Forget {
    return this.verify((exit) => {
      const reason = exit === "Ours" ? mostCommon(this.reasons) : exit
      onExit(typeof reason === "string" ? { _tag: "NotOurs", reason } : reason)
    })
  }

  /** A node that does not have it: if it is free there, it does from now on. */
  private join(seat: Seat): void {
    const { clock } = this.terms
    const { claim, holdUntil } = this
    if (this.isReleased) return
    const left = holdUntil && Math.max(claim.ttlMillis, Math.ceil(holdUntil - clock.unsafeNow()))
    seat.ask(0, left)
  }

  private endRound(): Round | undefined {
    const { round } = this
    this.round = undefined
    round?.timer.cancel()
    return round
  }

  private tell(exit: RenewExit): void {
    this.endRound()?.onExit(exit)
  }

  private tellFailure(): void {
    this.tell(
      this.failure ??
        new StoreFailure("renew", this.claim.key, "Too few nodes have renewed it.", true)
    )
  }

  onConfirmed(seat: Seat): void {
    const { round, terms } = this
    if (round === undefined) return
    round.asked.delete(seat)
    round.renewed.add(seat)
    if (round.renewed.size < terms.majority) return this.onAnswered(round)
    const proofs = this.seats.filter(isConfirmed).map(({ provenUntil }) => provenUntil)
    this.tell(new Renewed(provenBy(proofs, terms.majority)))
  }

  onUnconfirmed(seat: Seat, failure: StoreFailure | Died): void {
    const { round } = this
    this.failure ??= failure
    if (round === undefined) return
    round.asked.delete(seat)
    this.onAnswered(round)
  }

  onLost(seat: Seat, reason: NotOurs): void {
    const { round } = this
    this.reasons.push(reason)
    round?.asked.delete(seat)
    if (!this.isLost) {
      if (round !== undefined) this.onAnswered(round)
      return
    }
    // what the others have is of no use, and who waits there must not wait for its release
    for (const { grant, node } of this.seats) {
      grant?.release(node.store.clock.unsafeNow(), () => {}, false)
    }
    const why = mostCommon(this.reasons)
    if (round === undefined) this.listener?.(why)
    else this.tell({ _tag: "NotOurs", reason: why })
  }

  private onAnswered({ asked }: Round): void {
    if (asked.size === 0) this.tellFailure()
  }

  onGranted(seat: Seat): void {
    seat.confirm(this.fencingToken)
  }

  onRefused(): void {}
  onQueued(): void {}

  // ---------------------------------------------------------------- what is asked of all

  verify(onExit: (exit: OwnershipExit) => void): Forget {
    const forget: Array<Forget> = []
    this.ask((grant, tell) => forget.push(grant.verify(tell)), onExit)
    return () => forget.forEach((one) => one())
  }

  release(since: number, onExit: (exit: OwnershipExit) => void, unused = false): void {
    const { clock } = this.terms
    const age = clock.unsafeNow() - since
    this.isReleased = true
    this.endRound()
    for (const seat of this.seats) seat.stop()
    this.ask(
      (grant, tell, seat) => grant.release(seat.node.store.clock.unsafeNow() - age, tell, unused),
      onExit
    )
  }

  /** Nobody has used it. */
  giveBack(): void {
    this.release(this.terms.clock.unsafeNow(), () => {}, true)
  }

  /** Calls back as soon as the answers of all others change nothing. */
  private ask(
    ask: (grant: Grant, tell: (exit: OwnershipExit) => void, seat: Seat) => void,
    onExit: (exit: OwnershipExit) => void
  ): void {
    const { majority } = this.terms
    const known = this.seats.filter(({ grant, lost }) => (grant ?? lost) !== undefined)
    const { length } = known
    // (of the others it is known that they do not have it)
    const rest: ReadonlyArray<OwnershipExit> = this.seats.slice(length).map(() => "Missing")
    const exits: Array<OwnershipExit> = []
    let isOver = false
    const look = (): void => {
      const ours = exits.filter((exit) => exit === "Ours").length
      if (isOver || (ours < majority && exits.length < length)) return
      isOver = true
      onExit(verdict(exits.concat(rest), majority))
    }
    for (const seat of known) {
      const { node } = seat
      const tell = (exit: OwnershipExit): void => {
        node.heard(exit)
        exits.push(exit)
        look()
      }
      ask((seat.grant ?? seat.lost)!, tell, seat)
    }
  }

  toJSON(): unknown {
    return { _id: "Grant", fencingToken: this.fencingToken }
  }
}

const isConfirmed = ({ confirmed, grant }: Seat): boolean =>
  grant !== undefined && confirmed > Number.NEGATIVE_INFINITY
