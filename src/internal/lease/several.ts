/**
 * Takes several keys, all or none, with no deadlock.
 *
 * All are asked for at once, and nobody is waited for. If not all are free, the unbroken beginning of
 * what was got is kept, in the one order that is the same for everybody, and the rest is given back;
 * then the first key that was not free is waited for, and so on for those behind it. So nobody who
 * waits for a key holds one behind it, and among all who wait, the one that holds the last key waits
 * for nobody who waits.
 *
 * | state   | under way                                      | what follows                                                                      |
 * | ------- | ---------------------------------------------- | --------------------------------------------------------------------------------- |
 * | asking  | single attempts for all keys that are not held | all granted: granted. Some not free: waiting, or unavailable. A failure: fails, or is waited for if it passes |
 * | waiting | a claim that waits for the first of those keys | granted: asking. Time is over: unavailable. A failure: fails. A loss: asking, with nothing held |
 * | ending  | releases of what was held                      | unavailable, or the failure                                                       |
 * | over    | nothing                                        | a cancellation can still give back what was granted                               |
 */
import {
  type AcquireExit,
  type Claim,
  type Contention,
  type Died,
  Granted,
  type Grant,
  type Kind,
  type LockClock,
  StoreFailure,
  Unavailable
} from "../engine.js"
import { LeaseCore } from "./core.js"
import type { LeaseFace, Terms } from "./terms.js"
import { SeveralGrant } from "./severalGrant.js"

/** Cancels, and calls back when what had to be undone for that is undone, or sure to be. */
export type Cancel = (onDone: () => void) => void

export type SeveralExit = AcquireExit | Died

/** Where single keys are asked for. */
export interface Source {
  readonly clock: LockClock
  /** As that of an engine's store. */
  acquire(claim: Claim, onExit: (exit: SeveralExit) => void): Cancel
}

/** What is asked for, of each key. Its waiting time is for all of them. */
export interface SeveralClaim extends Omit<Claim, "whenWaiting"> {
  /** Called for each key that is waited for. */
  readonly whenWaiting?: ((contention: () => Contention, key: string) => void) | undefined
}

/** In the order in which all who want several keys take them: by UTF-16 code units. */
export const inOrder = (keys: ReadonlyArray<string>): ReadonlyArray<string> =>
  [...new Set(keys)].sort((a, b) => (a < b ? -1 : 1))

/** So often all are granted when the proof of one of them is over already, and then it fails. */
const mostLate = 3

/** A key that has been asked for. */
class Asked implements Claim {
  readonly kind: Kind
  readonly share: number
  readonly limit: number
  readonly ttlMillis: number
  readonly owner: string | undefined
  readonly maxHoldMillis: number | undefined
  readonly holdAtLeastMillis: number | undefined
  cancel: Cancel | undefined = undefined
  exit: SeveralExit | undefined = undefined

  constructor(
    readonly key: string,
    readonly waitMillis: number,
    private readonly claim: SeveralClaim
  ) {
    this.kind = claim.kind
    this.share = claim.share
    this.limit = claim.limit
    this.ttlMillis = claim.ttlMillis
    this.owner = claim.owner
    this.maxHoldMillis = claim.maxHoldMillis
    this.holdAtLeastMillis = claim.holdAtLeastMillis
  }

  whenWaiting(contention: () => Contention): void {
    this.claim.whenWaiting?.(contention, this.key)
  }

  get granted(): Grant | undefined {
    return this.exit?._tag === "Granted" ? this.exit.grant : undefined
  }
}

/** (See `SeveralGrant` for what is no literal here.) */
const nobody: ReadonlyArray<Asked> = []

/** Whether a key cannot be had by waiting for it. */
const isFinal = (exit: SeveralExit): boolean =>
  exit._tag === "StoreFailure"
    ? !exit.isPassing
    : exit._tag !== "Granted" && exit._tag !== "Unavailable"

export class Several {
  private held = new SeveralGrant()
  private asked = nobody
  /** Renews what is held while another key is waited for. */
  private core: LeaseCore | undefined = undefined
  private readonly askedAt: number
  /** The last answer that said that a key is not free. */
  private busy: Unavailable | undefined = undefined
  private late = 0
  private isOver = false
  /** Releases and cancellations that are under way, and what follows on the last of them. */
  private returning = 0
  private whenReturned: (() => void) | undefined = undefined

  constructor(
    /** Each once, in order. */
    private readonly keys: ReadonlyArray<string>,
    private readonly claim: SeveralClaim,
    private readonly terms: Terms,
    private readonly source: Source,
    private readonly onExit: (exit: SeveralExit) => void
  ) {
    this.askedAt = source.clock.unsafeNow()
  }

  begin(): void {
    this.goOn()
  }

  /** At any time, as for any claim: whatever there is of it is given back. */
  readonly cancel: Cancel = (onDone) => {
    this.isOver = true
    this.whenReturned = onDone
    this.giveBackAll()
  }

  private get leftMillis(): number {
    return this.claim.waitMillis - (this.source.clock.unsafeNow() - this.askedAt)
  }

  // ---------------------------------------------------------------- asking

  private goOn(): void {
    const rest = this.keys.slice(this.held.keys.length)
    if (rest.length === 0) return this.complete()
    // the last one can be waited for at once
    if (rest.length === 1) return this.waitFor(rest[0]!)
    const asked = (this.asked = rest.map((key) => new Asked(key, 0, this.claim)))
    let left = asked.length
    for (const one of asked) {
      one.cancel = this.source.acquire(one, (exit) => {
        one.exit = exit
        if (--left === 0) this.onAnswers(asked)
      })
    }
  }

  private onAnswers(asked: ReadonlyArray<Asked>): void {
    this.asked = nobody
    const first = asked.find(({ granted }) => granted === undefined)
    const beginning = first === undefined ? asked.length : asked.indexOf(first)
    asked.forEach(({ granted, key }, index) => {
      if (granted === undefined) return
      if (index < beginning) this.held.add(key, granted)
      else this.giveBack(granted)
    })
    if (first === undefined) return this.complete()
    const failed = asked.find(({ exit }) => exit !== undefined && isFinal(exit))
    if (failed !== undefined) return this.end(failed.exit!)
    const { exit } = first
    if (exit?._tag === "Unavailable") this.busy = exit
    else if (this.leftMillis <= 0) return this.end(exit!)
    this.waitFor(first.key)
  }

  private complete(): void {
    if (this.held.isProven(this.source.clock.unsafeNow())) {
      this.isOver = true
      return this.onExit(new Granted(this.held))
    }
    if (++this.late < mostLate) return this.beginAgain()
    const { key } = this.held.culprit("Unreachable")
    this.end(
      new StoreFailure(
        "acquire",
        key,
        `When the last of ${this.keys.length} keys was granted, the lease of this one was over, ${mostLate} times in a row. A longer ttl (it is ${this.claim.ttlMillis} ms) leaves time for all of them.`,
        true
      )
    )
  }

  // ---------------------------------------------------------------- waiting

  private waitFor(key: string): void {
    const { leftMillis } = this
    if (this.busy !== undefined && leftMillis <= 0) return this.end(this.unavailable(this.busy))
    if (this.held.keys.length > 0 && !this.keepHeld()) return this.beginAgain()
    const one = new Asked(key, Math.max(0, leftMillis), this.claim)
    this.asked = nobody.concat(one)
    one.cancel = this.source.acquire(one, (exit) => {
      one.exit = exit
      this.onWaited(one)
    })
  }

  private onWaited({ exit, granted, key }: Asked): void {
    this.asked = nobody
    const isHeld = this.core?.checkHeld() !== false
    this.letGo()
    if (granted === undefined) {
      return this.end(exit!._tag === "Unavailable" ? this.unavailable(exit!) : exit!)
    }
    this.held.add(key, granted)
    if (isHeld) this.goOn()
    else this.beginAgain()
  }

  /** Renews what is held, until it is let go; answers whether it is held. */
  private keepHeld(): boolean {
    const core: LeaseCore = new LeaseCore(
      this.held,
      this.source.clock,
      this.terms,
      new Keeper(
        () => core.renew(() => {}),
        // (whoever tells of a loss may be in the middle of a step)
        () => queueMicrotask(() => this.core === core && this.beginAgain())
      )
    )
    core.begin()
    if (!core.checkHeld()) return false
    core.start()
    this.core = core
    return true
  }

  private letGo(): void {
    const { core } = this
    this.core = undefined
    core?.abandon()
  }

  /** Something of what was held is lost. */
  private beginAgain(): void {
    this.giveBackAll()
    if (this.busy !== undefined && this.leftMillis <= 0) this.end(this.unavailable(this.busy))
    else this.goOn()
  }

  private unavailable({ contention, key }: Unavailable): Unavailable {
    const { claim, source } = this
    const waited = claim.waitMillis === 0 ? 0 : Math.round(source.clock.unsafeNow() - this.askedAt)
    return new Unavailable(key, waited, contention)
  }

  // ---------------------------------------------------------------- ending

  /** With nothing held any more, as far as the store has confirmed that. */
  private end(exit: SeveralExit): void {
    this.isOver = true
    this.whenReturned = () => this.onExit(exit)
    this.giveBackAll()
  }

  private giveBackAll(): void {
    const { asked, held } = this
    this.letGo()
    this.asked = nobody
    this.held = new SeveralGrant()
    // (so that the last of them is not over before all have begun)
    this.returning++
    for (const { cancel, exit, granted } of asked) {
      if (granted !== undefined) this.giveBack(granted)
      else if (exit === undefined && cancel !== undefined) {
        this.returning++
        cancel(this.returned)
      }
    }
    if (held.keys.length > 0) this.giveBack(held)
    this.returned()
  }

  private giveBack(grant: Grant): void {
    this.returning++
    grant.release(this.source.clock.unsafeNow(), this.returned, true)
  }

  private readonly returned = (): void => {
    if (--this.returning > 0 || !this.isOver) return
    const { whenReturned } = this
    this.whenReturned = undefined
    whenReturned?.()
  }
}

/** The life of what is held, while it is of no use yet. */
class Keeper implements LeaseFace {
  constructor(
    readonly renewalDue: () => void,
    readonly lost: () => void
  ) {}

  ending(): void {}
  hasEnded(): void {}
  releaseFailed(): void {}
}
