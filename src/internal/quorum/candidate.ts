/**
 * A claim on its way to a majority of the nodes.
 *
 * One node is the first of its key. All nodes are asked at once, the first one also to wait in its queue. If
 * that queues the claim, what others have granted is given back. When its turn comes there, it asks the
 * others, and waits in their queues: nobody else who waits does, so that votes are not split among those who
 * wait. Where the first one is away, the next one is the first.
 *
 * A majority of grants is not enough: see `Ballot`.
 *
 * | state      | what is under way                         | what follows                                                                   |
 * | ---------- | ----------------------------------------- | ------------------------------------------------------------------------------ |
 * | asking     | questions to all nodes                    | a majority: confirming. Queued at the first: queued. Granted there: heading    |
 * | queued     | a place in the queue of the first         | granted: heading. The node is away: the next one is the first                  |
 * | heading    | the first is held, the others are asked   | a majority: confirming. None within some time: the others' are given back, and asked for again |
 * | confirming | the write-back                            | a majority has answered: granted. Some have not: heading, or asking            |
 * | joining    | nothing, until enough nodes count again   | asking                                                                         |
 * | outage     | nothing, for a moment                     | asking; or the end, if no majority has answered for some time                  |
 */
import {
  type AcquireExit,
  type Claim,
  type Contention,
  Granted,
  Impossible,
  type ScheduledCall,
  type StoreFailure,
  Unavailable
} from "../engine.js"
import { retryDelay } from "../common/timing.js"
import { Ballot } from "./ballot.js"
import { QuorumGrant } from "./grant.js"
import { Outage } from "./outage.js"
import { type Node, nodeTimeoutOf, type Terms } from "./node.js"
import {
  died,
  hasTick,
  isFailure,
  joiningMillis,
  mostTries,
  nobody,
  refusalOf,
  tooLate
} from "./refusal.js"
import { Seat, type SeatEvents } from "./seat.js"

export class Candidate implements SeatEvents {
  /** In the order of its key. */
  private readonly seats: ReadonlyArray<Seat>
  private first: Seat
  private readonly ballot = new Ballot()
  private contention: Contention | undefined = undefined
  private isTold = false
  private tries = 0
  private isOver = false
  private isChanged = false
  private depth = 0
  private timer: ScheduledCall | undefined = undefined
  private pause: ScheduledCall | undefined = undefined
  private forgetAway: (() => void) | undefined = undefined
  private grant: QuorumGrant | undefined = undefined
  private readonly askedAt: number
  private begunAt: number
  private readonly outage: Outage

  constructor(
    private readonly claim: Claim,
    nodes: ReadonlyArray<Node>,
    private readonly terms: Terms,
    /** Whether others of this process wait for the key. */
    private readonly isContended: () => boolean,
    private readonly onExit: (exit: AcquireExit) => void
  ) {
    this.askedAt = this.begunAt = terms.clock.unsafeNow()
    this.outage = new Outage(terms)
    this.seats = nodes.map((node) => new Seat(node, claim, terms, this))
    this.first = this.seats[0]!
  }

  get isWaiting(): boolean {
    return !this.isOver && this.isTold
  }

  begin(): void {
    const { claim, seats } = this
    const first = (this.first = seats.find(({ node }) => !node.isAway) ?? seats[0]!)
    for (const seat of seats) seat.refusal = undefined
    this.begunAt = this.terms.clock.unsafeNow()
    this.tick()
    this.inOneStep(() => {
      const isContended = claim.waitMillis > 0 && this.isContended()
      first.ask(Math.max(0, this.leftMillis))
      // (where it has to wait, that is known at once of a store in this process)
      if (isContended || first.isQueued) return
      for (const seat of seats) if (seat !== first) seat.ask(0)
    })
  }

  /** At any time: a grant that nobody took is given back. */
  readonly cancel = (): void => {
    this.end()
    this.grant?.giveBack()
    for (const seat of this.seats) seat.leave()
  }

  /** Nobody is served any more. */
  close(failure: StoreFailure): void {
    if (!this.isOver) this.settle(failure)
  }

  private get leftMillis(): number {
    return this.claim.waitMillis - (this.terms.clock.unsafeNow() - this.askedAt)
  }

  private get nodeTimeoutMillis(): number {
    return nodeTimeoutOf(this.claim, this.terms)
  }

  // ---------------------------------------------------------------- what becomes of its seats

  readonly onGranted = (): void => this.changed()
  readonly onRefused = (): void => this.changed()
  readonly onConfirmed = (): void => this.changed()

  onLost(seat: Seat): void {
    // (it is asked for again as if it had been busy)
    seat.refusal ??= new Unavailable(this.claim.key, 0, nobody)
    this.changed()
  }

  onUnconfirmed(seat: Seat, failure: Parameters<SeatEvents["onUnconfirmed"]>[1]): void {
    seat.leave()
    seat.refusal = failure._tag === "StoreFailure" ? failure : died(this.claim.key, failure.cause)
    this.changed()
  }

  onQueued(seat: Seat, contention: () => Contention): void {
    this.contention ??= contention()
    if (!this.isTold) {
      this.isTold = true
      this.claim.whenWaiting?.(contention)
    }
    if (seat !== this.first || this.held.length >= this.terms.majority) return
    this.inOneStep(() => {
      for (const one of this.seats) if (one !== seat) one.leave()
    })
    this.forgetAway?.()
    this.forgetAway = seat.node.whenAway(() => {
      if (this.isOver || seat !== this.first || !seat.isQueued) return
      seat.leave()
      this.begin()
    })
  }

  private get held(): ReadonlyArray<Seat> {
    return this.seats.filter(({ grant }) => grant !== undefined)
  }

  // ---------------------------------------------------------------- what follows

  private changed(): void {
    this.isChanged = true
    this.inOneStep(() => {})
  }

  /** Whatever is answered in place is looked at when all of it has been done. */
  private inOneStep(act: () => void): void {
    this.depth++
    act()
    if (this.depth === 1) {
      while (this.isChanged && !this.isOver) {
        this.isChanged = false
        this.goOn()
      }
    }
    this.depth--
  }

  private goOn(): void {
    const { first, held, seats, terms } = this
    const final = seats.find(({ refusal }) => refusal instanceof Impossible)
    if (final !== undefined) return this.settle(final.refusal as Impossible)
    if (held.length >= terms.majority) {
      this.outage.isOver()
      return this.confirm(held)
    }
    if (first.isAsking) return
    const failed = seats.filter(({ refusal }) => isFailure(refusal))
    if (failed.length > seats.length - terms.majority) return this.conclude()
    if (first.grant === undefined) this.onFirstRefused(first)
    else this.askOthers(first)
  }

  /** The first one decides, unless it is away. */
  private onFirstRefused(first: Seat): void {
    const { leftMillis } = this
    if (!isFailure(first.refusal)) {
      // (others may know of a later one)
      if (hasTick(first) && this.seats.some(({ isAsking }) => isAsking)) return
      if (leftMillis <= 0 || hasTick(first)) return this.conclude()
      return first.ask(leftMillis)
    }
    const next = this.seats.find(({ refusal }) => !isFailure(refusal))
    if (next === undefined) return this.conclude()
    this.first = next
    this.isChanged = true
  }

  /**
   * It has the first node: nobody else who waits asks the others. That its tick is said to be over there is not
   * the end of it: a claim that has got no majority may have noted that, and gives it back.
   */
  private askOthers(first: Seat): void {
    const { leftMillis, seats, tries } = this
    const isUnderWay = seats.some(({ isAsking }) => isAsking)
    const refused = seats.filter(
      (seat) => seat.grant === undefined && !seat.isAsking && !isFailure(seat.refusal)
    )
    const hasTicks = refused.some(hasTick)
    const most = mostTries(hasTicks)
    const busy = tries < most ? refused : refused.filter((seat) => !hasTick(seat))
    if (busy.length === 0) {
      if (!isUnderWay) this.conclude()
      return
    }
    // (it was taken for away, and it is not)
    if (seats.slice(0, seats.indexOf(first)).some(hasTick)) return this.conclude()
    // a grant by handoff is short, and its node may not count
    if (leftMillis > 0 && first.confirmed < 0 && first.confirming === undefined) first.confirm(0)
    if (this.pause !== undefined) return
    if (leftMillis > 0 && !busy.some(hasTick)) {
      for (const seat of busy) seat.ask(leftMillis)
      return
    }
    if (isUnderWay) return
    if ((this.claim.waitMillis > 0 && leftMillis <= 0) || tries >= most) return this.conclude()
    this.tries++
    const pause = retryDelay(this.claim.ttlMillis) / 10
    this.after(hasTicks ? Math.min(this.nodeTimeoutMillis, pause * 2 ** tries) : pause, () => {
      const wait = Math.max(0, this.leftMillis)
      for (const seat of busy) if (seat.grant === undefined && !seat.isAsking) seat.ask(wait)
    })
  }

  private after(millis: number, act: () => void): void {
    const { clock } = this.terms
    this.pause?.cancel()
    this.pause = clock.unsafeSchedule(clock.unsafeNow() + millis, () => {
      this.pause = undefined
      if (this.isOver) return
      this.isChanged = true
      this.inOneStep(act)
    })
  }

  /** Now and then: who does not answer is given up, and votes that are split are given back. */
  private tick(inMillis = this.nodeTimeoutMillis * (1 + Math.random() / 2)): void {
    const { clock } = this.terms
    this.timer?.cancel()
    const at = clock.unsafeNow() + inMillis
    this.timer = clock.unsafeSchedule(at, () => {
      // this process was stopped or busy: the answers may be here already, unread
      if (clock.unsafeNow() - at > 20) return this.tick(5)
      this.tick()
      this.inOneStep(() => this.onTick())
    })
  }

  private onTick(): void {
    const { claim, first, nodeTimeoutMillis, seats, terms } = this
    const now = terms.clock.unsafeNow()
    for (const seat of seats) {
      const isUnderWay = (seat.isAsking && !seat.isQueued) || seat.confirming !== undefined
      // (timers may come a little early)
      if (isUnderWay && now + 10 >= seat.askedAt + nodeTimeoutMillis) seat.giveUp()
    }
    this.isChanged = true
    if (first.grant === undefined || claim.waitMillis <= 0 || this.pause !== undefined) return
    if (this.held.length >= terms.majority) return
    const earlier = seats.slice(0, seats.indexOf(first))
    if (earlier.some(({ node }) => !node.isAway)) {
      // those who ask now queue there
      for (const seat of seats) seat.leave()
      return this.begin()
    }
    for (const seat of this.held) {
      if (seat.provenUntil - now < claim.ttlMillis / 2 && seat.confirming === undefined) {
        seat.confirm(0)
      }
    }
    const split = this.held.filter((seat) => seat !== first)
    if (split.length === 0) return
    for (const seat of split) seat.leave()
    this.after(nodeTimeoutMillis * Math.random(), () => {})
  }

  // ---------------------------------------------------------------- how it ends

  private confirm(held: ReadonlyArray<Seat>): void {
    const { clock, majority } = this.terms
    const until = this.ballot.provenUntil(held, majority)
    if (until === undefined) return
    const { fencingToken } = this.ballot
    if (clock.unsafeNow() >= until) return this.settle(tooLate(this.claim))
    this.end()
    const { claim, contention, nodeTimeoutMillis, seats, terms } = this
    this.grant = new QuorumGrant(
      seats,
      claim,
      { ...terms, nodeTimeoutMillis },
      fencingToken,
      until,
      contention
    )
    this.onExit(new Granted(this.grant))
  }

  /** It cannot be had with what is under way. */
  private conclude(): void {
    const { askedAt, claim, contention, first, leftMillis, seats, terms } = this
    const pause = this.outage.pause(seats, this.begunAt, this.nodeTimeoutMillis)
    if (pause !== undefined) {
      for (const seat of seats) seat.leave()
      this.timer?.cancel()
      return this.after(pause, () => this.begin())
    }
    const joinsIn = joiningMillis(seats, terms.majority)
    if (joinsIn === undefined || leftMillis <= 0) {
      const waited = claim.waitMillis <= 0 ? 0 : Math.round(terms.clock.unsafeNow() - askedAt)
      return this.settle(refusalOf(claim, [first, ...seats], terms, waited, contention))
    }
    for (const seat of seats) seat.leave()
    this.timer?.cancel()
    // (the node's clock is not ours)
    this.after(Math.min(joinsIn + 5, leftMillis), () => this.begin())
  }

  private settle(exit: AcquireExit): void {
    this.end()
    for (const seat of this.seats) seat.leave()
    this.onExit(exit)
  }

  private end(): void {
    this.isOver = true
    this.timer?.cancel()
    this.pause?.cancel()
    this.forgetAway?.()
  }
}
