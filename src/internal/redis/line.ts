/**
 * One key, as one process sees it: the callers that want it stand in a line here. The line has tenures,
 * as many as the process holds shares of the key, and places in the queue in Redis, for as many of its
 * first callers as could be granted at once: or none, where they wait for its own tenures. (For a lock,
 * that is one tenure, or one place.)
 *
 * Everything here is synchronous, between answers, messages and timers, and every event ends in
 * `update`, which sees to it that nothing is left without a next step.
 */
import type { Claim, Contention, StoreFailure } from "../engine.js"
import { remove } from "../common/remove.js"
import { validUntil } from "../common/timing.js"
import { isUnacknowledged } from "./acknowledging.js"
import type { Told } from "./answers.js"
import type { Call, Outcome } from "./call.js"
import { storeError, tooLate } from "./errors.js"
import type { LockKeys } from "./layout.js"
import { Place } from "./place.js"
import type { PlaceEvents } from "./placeEvents.js"
import type { Protocol } from "./protocol.js"
import { Surplus } from "./surplus.js"
import type { Surroundings } from "./surroundings.js"
import { Turn } from "./tenure.js"
import { none, Tenures } from "./tenures.js"
import { contentionOf, impatient, tellLimit, type Waiter } from "./waiter.js"

/** So many places of a line stand in the queue at most: a caller has one when it comes to that. */
const mostPlaces = 32

export class Line extends Tenures implements PlaceEvents<Place> {
  /** Listeners that are called as soon as it is known who has the key. */
  private readonly unanswered: Array<Waiter> = []
  private readonly places: Array<Place> = []
  private readonly surplus: Surplus
  /** Whether the last place had to wait in the queue: so does the next one, perhaps. */
  contended = false

  constructor(
    key: string,
    protocol: Protocol,
    keys: LockKeys,
    around: Surroundings,
    /** Called when there is nobody here, and nothing held. */
    private readonly onIdle: () => void
  ) {
    super(key, protocol, keys, around)
    this.surplus = new Surplus(around.commands.clock, () => this.update())
  }

  /** How many callers wait. */
  get waiting(): number {
    return this.waiters.size
  }

  /** A message says that this token was granted; answers whether it is one of this process. */
  onGrant(token: string, told: Told, ttlMillis: number): boolean {
    const place = this.places.find((one) => one.token === token)
    place?.onMessage(told, ttlMillis)
    if (place !== undefined) return true
    const tenure = this.tenures.find((one) => one.token === token)
    // (the message of a grant can come behind the answer that has told of it)
    if (tenure !== undefined && !Number.isFinite(told.fencingToken)) this.doubt(tenure)
    return tenure !== undefined
  }

  /** Messages may have been missed. */
  ask(): void {
    for (const place of this.places) place.wake()
  }

  /** After every event: callers that wait have a place, or a tenure that is watched. */
  protected override update(): void {
    const { keys, places, protocol, tenures, waiters } = this
    if (waiters.size === 0) {
      this.unanswered.length = 0
      this.keepPlaces(0)
      if (tenures.length === 0 && places.length === 0) this.onIdle()
      return
    }
    const waitsHere = this.waitsForOwn(waiters.first!.claim)
    let asked = 0
    let placed = 0
    for (
      let waiter = waiters.first;
      waiter !== undefined && placed < mostPlaces;
      waiter = waiters.after(waiter)
    ) {
      const { claim } = waiter
      asked += claim.share
      // who asked for something else is not here any more
      while (places[placed]?.isFor(claim) === false) places.splice(placed, 1)[0]!.withdraw()
      const place = places[placed]
      if (place !== undefined) place.reshape(claim)
      else if (!waitsHere && asked <= claim.limit && !this.mayShare(claim)) {
        places.push(new Place(this.around, protocol, keys, claim, this, this.contended))
      } else break
      placed++
    }
    this.keepPlaces(placed)
    // the others wait for what this process has
    if (placed < waiters.size) for (const tenure of tenures) this.watchTenure(tenure)
  }

  /** So many places are needed. */
  private keepPlaces(needed: number): void {
    const { places, protocol, runsUntil, surplus } = this
    const isMore = protocol.several && !protocol.shared && places.length > needed
    if (surplus.isKept(isMore, runsUntil)) return
    while (places.length > needed) places.pop()!.withdraw()
  }

  /** Somebody has gone, and does not come again. */
  private updateAtOnce(): void {
    this.surplus.without(() => this.update())
  }

  /** Whether the first place is not answered yet, and its answer may be for that caller as well. */
  private mayShare({ limit, share }: Claim): boolean {
    const { places, protocol } = this
    return (
      protocol.shared &&
      this.around.localHandoffMillis > 0 &&
      share < limit &&
      places.length > 0 &&
      places.every(({ busy }) => busy === undefined)
    )
  }

  // ---------------------------------------------------------------- callers

  join(waiter: Waiter): void {
    const { clock } = this.around.commands
    waiter.cameAfter = this.waiters.size
    this.waiters.add(waiter)
    if (waiter.claim.waitMillis !== Number.POSITIVE_INFINITY) {
      waiter.deadline = clock.unsafeSchedule(waiter.askedAt + waiter.claim.waitMillis, () =>
        this.giveUp(waiter)
      )
    }
    this.update()
    if (this.isAnswered) this.waits(waiter)
    else this.unanswered.push(waiter)
  }

  /** The caller has gone: interrupted before, or while, its turn came. */
  leave(waiter: Waiter): void {
    waiter.deadline?.cancel()
    this.waiters.delete(waiter)
    if (waiter.exit instanceof Turn) this.leaveTurn(waiter.exit)
    else this.updateAtOnce()
  }

  /** The caller has gone when its turn had come. */
  leaveTurn(turn: Turn): void {
    if (!turn.tenure.leave(turn)) this.giveBack(turn.tenure)
    this.update()
  }

  /** The store is closed: nobody is served any more. */
  close(error: StoreFailure): void {
    // they may be kept for one of them
    for (const { holder, pass, token, ttlMillis } of this.tenures) {
      if (pass === undefined || holder !== undefined) continue
      this.around.commands.giveBack(pass.call, this.protocol, this.keys, token, ttlMillis)
    }
    for (const waiter of this.waiters.drain()) waiter.settle(error)
    this.updateAtOnce()
  }

  private giveUp(waiter: Waiter): void {
    if (!waiter.stands) return
    if (!this.isAnswered) {
      const moving = this.places.find(({ postponed }) => postponed !== undefined)?.postponed
      if (moving !== undefined) return this.fail([waiter], moving)
      waiter.overdue = true
      return void this.unanswered.push(waiter)
    }
    const contention = this.contention(this.waiters.before(waiter))
    this.waiters.delete(waiter)
    waiter.refuse(this.now, contention)
    this.updateAtOnce()
  }

  /** Whether it is known who has the key. */
  private get isAnswered(): boolean {
    const { places, tenures } = this
    // (without a place, it waits for a tenure of this process)
    return places.length === 0 ? tenures.length > 0 : places.some(({ busy }) => busy !== undefined)
  }

  protected override answer(): void {
    if (!this.isAnswered) return
    for (const waiter of this.unanswered.splice(0)) {
      if (!waiter.stands) continue
      this.waits(waiter)
      if (waiter.overdue) this.giveUp(waiter)
    }
  }

  /** It is known that the caller has to wait, and for whom. */
  private waits(waiter: Waiter): void {
    if (waiter.contention !== undefined) return
    waiter.contention = this.contention(waiter.cameAfter)
    waiter.claim.whenWaiting?.(() => this.contention(this.waiters.before(waiter)))
  }

  /** What is in the way of a caller that has so many of this process before it. */
  private contention(aheadHere: number): Contention {
    const { now } = this
    const busy = this.places.find((place) => place.busy !== undefined)?.busy
    const holder = this.tenures.find((tenure) => tenure.holder !== undefined)?.holder
    return busy === undefined && holder !== undefined
      ? holder.inTheWay(aheadHere, now, this.around.owner)
      : contentionOf(busy, aheadHere, busy === undefined ? 0 : now - busy.at)
  }

  // ---------------------------------------------------------------- what becomes of the place

  claimFor(place: Place): Claim | undefined {
    // (each place asks with the ttl of the caller that has as many before it)
    let waiter = this.waiters.first
    for (let index = this.places.indexOf(place); index > 0 && waiter !== undefined; index--) {
      waiter = this.waiters.after(waiter)
    }
    return waiter !== undefined && place.isFor(waiter.claim)
      ? waiter.claim
      : this.waiterFor(place)?.claim
  }

  /** The first caller that asks for what the place stands for. */
  private waiterFor(place: Place): Waiter | undefined {
    let waiter = this.waiters.first
    while (waiter !== undefined && !place.isFor(waiter.claim)) waiter = this.waiters.after(waiter)
    return waiter
  }

  onBusy(place: Place): void {
    const claim = this.claimFor(place)
    if (claim !== undefined) tellLimit(claim, place.busy?.limit)
    this.around.messages.foreign(this.keys[0], this.key, place.busy)
    this.answer()
    // (the others wait for the first one's answer)
    if (this.protocol.shared) this.update()
  }

  onGone(place: Place, askedAt: number): void {
    const { now } = this
    const head = this.waiterFor(place)
    remove(this.places, place)
    // its grant was over before the question came
    if (head !== undefined && now >= validUntil(askedAt, head.claim.ttlMillis)) {
      this.cameTooLate(head, now - askedAt)
    }
    this.update()
  }

  /**
   * Once queued, it is tried again: the process may have been stopped. But a ttl that is shorter than the
   * way to Redis and back is so each time.
   */
  private cameTooLate(head: Waiter, tookMillis: number, atOnce = false): void {
    if (++head.late < 3 && !atOnce) return
    this.waiters.delete(head)
    head.settle(tooLate(head.claim, tookMillis))
  }

  onUnanswered(place: Place, outcome: Outcome): number {
    if (isUnacknowledged(outcome)) this.onFailed(place, outcome)
    const { given, next } = impatient(this.waiters.all, this.now, place)
    if (given.length > 0) this.fail(given, outcome)
    return next
  }

  onPostponed({ postponed }: Place): void {
    const late = this.waiters.all.filter(({ overdue }) => overdue)
    if (late.length > 0) this.fail(late, postponed!)
  }

  /** These do not wait any longer. */
  private fail(given: ReadonlyArray<Waiter>, outcome: Outcome): void {
    for (const waiter of given) this.waiters.delete(waiter)
    // whoever hears of it runs in place
    this.update()
    const error = this.failure(outcome)
    for (const waiter of given) waiter.settle(error)
  }

  private failure(outcome: Outcome): StoreFailure {
    return storeError(this.around.commands, "acquire", this.key, outcome)
  }

  onRefused(place: Place, lastTick: number): void {
    remove(this.places, place)
    // (all in the line ask for the same tick)
    const refused = this.waiters.drain()
    this.update()
    for (const waiter of refused) waiter.refuse(this.now, contentionOf(place.busy, 0, 0), lastTick)
  }

  onFailed(place: Place, outcome: Outcome): void {
    const head = this.waiterFor(place)
    remove(this.places, place)
    if (!isUnacknowledged(outcome)) return this.close(this.failure(outcome))
    // (the next caller asks for itself)
    place.withdraw()
    this.fail(head === undefined ? [] : [head], outcome)
  }

  onGranted(place: Place, told: Told, sentAt: number, ttlMillis: number): void {
    const { now } = this
    const head = this.waiterFor(place)
    const pending = place.call.settled === undefined ? place.call : undefined
    this.contended = pending !== undefined || place.busy !== undefined
    let losers = none
    remove(this.places, place)
    if (head === undefined || now >= validUntil(sentAt, ttlMillis)) {
      this.around.commands.giveBack(pending, this.protocol, this.keys, place.token, ttlMillis)
      if (head !== undefined) this.cameTooLate(head, now - sentAt, place.busy === undefined)
    } else {
      // a grant by handoff can overtake the answer that says what was in the way
      if (pending !== undefined) head.contention ??= this.contention(0)
      tellLimit(head.claim, told.leastLimit)
      const tenure = this.newTenure(place, head.claim, told, sentAt, ttlMillis, pending)
      losers = this.begin(tenure)
      this.giveTo(head, tenure, now)
      this.shareWithFirst(tenure)
      this.answer()
    }
    this.update()
    this.tellTaken(losers)
  }

  protected override askWithPlace(claim: Claim, ask: (more: ReadonlyArray<string>) => Call): Call {
    const { keys, places, protocol } = this
    if (protocol.several) {
      return ask([String(places.filter(({ busy }) => busy !== undefined).length)])
    }
    if (places.length > 0) return ask([])
    // if another process has the next turn, the one after it is wanted here
    const place = new Place(this.around, protocol, keys, claim, this, true, ask)
    places.push(place)
    return place.call
  }

  onUnused(place: Place): void {
    remove(this.places, place)
    this.update()
  }
}
