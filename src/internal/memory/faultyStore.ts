/**
 * A store that can be made to answer nothing, or to refuse everything: for tests of what uses it.
 *
 * | mode      | what is asked                                    | what waits already                   |
 * | --------- | ------------------------------------------------ | ------------------------------------ |
 * | answering | is asked of the store behind it                  | is answered                          |
 * | silent    | is kept; fails when `timeoutMillis` have passed  | the same, counted from the beginning |
 * | refusing  | fails at once                                    | fails at once                        |
 *
 * What was kept is asked, and what was answered meanwhile is told, when it answers again.
 */
import { Fifo, Link } from "../common/fifo.js"
import { isolated } from "../common/isolated.js"
import {
  type AcquireExit,
  type Capability,
  type Claim,
  type Contention,
  type Forget,
  type Grant,
  Granted,
  type Joining,
  type LockClock,
  type LockStoreOperation,
  type Look,
  type NotOurs,
  type OwnershipExit,
  type Page,
  type RenewExit,
  type ScheduledCall,
  type Store,
  StoreFailure,
  type OnAnswer
} from "../engine.js"
import type { MemoryStore } from "./store.js"

/** What everything fails with. */
export interface Refusal {
  readonly detail: string
  readonly transient: boolean
  readonly cause?: unknown
}

const nothing = (): void => {}

/** What has been asked, and not been answered. */
abstract class Pending extends Link {
  /** The store answers again. */
  abstract goOn(): void
  /** The store is silent: it fails if that goes on until then. */
  abstract waitUntil(at: number): void
  abstract fail(refusal: Refusal): void
}

export class FaultyStore implements Store {
  readonly clock: LockClock
  readonly capabilities: ReadonlySet<Capability>
  readonly identity: string
  private mode: "answering" | "silent" | Refusal = "answering"
  private readonly pending = new Fifo<Pending>()

  constructor(
    private readonly inner: MemoryStore,
    private readonly timeoutMillis: number
  ) {
    this.clock = inner.clock
    this.capabilities = inner.capabilities
    this.identity = inner.identity
  }

  // ---------------------------------------------------------------- what a test does with it

  get answers(): boolean {
    return this.mode === "answering"
  }

  silence(): void {
    if (this.mode === "silent") return
    this.mode = "silent"
    const until = this.clock.unsafeNow() + this.timeoutMillis
    for (const one of this.pending.all) one.waitUntil(until)
  }

  refuse(refusal: Refusal): void {
    this.mode = refusal
    for (const one of this.pending.drain()) one.fail(refusal)
  }

  restore(): void {
    if (this.mode === "answering") return
    this.mode = "answering"
    for (const one of this.pending.all) one.goOn()
  }

  // ---------------------------------------------------------------- what a store does

  acquire(claim: Claim, onExit: (exit: AcquireExit) => void): () => void {
    const { key } = claim
    return this.ask<AcquireExit>(
      "acquire",
      key,
      (tell) => this.inner.acquire(claim, tell),
      (exit) =>
        onExit(exit._tag === "Granted" ? new Granted(new FaultyGrant(this, key, exit.grant)) : exit)
    )
  }

  look(key: string, atMost: number, ended: ReadonlyArray<number>, onExit: OnAnswer<Look>): Forget {
    return this.ask("look", key, (tell) => this.inner.look(key, atMost, ended, tell), onExit)
  }

  keys(prefix: string, from: string | undefined, onExit: OnAnswer<Page>): Forget {
    return this.ask("keys", undefined, (tell) => this.inner.keys(prefix, from, tell), onExit)
  }

  revoke(key: string, fencingToken: number, onExit: OnAnswer<boolean>): Forget {
    return this.ask("revoke", key, (tell) => this.inner.revoke(key, fencingToken, tell), onExit)
  }

  identify(onExit: OnAnswer<string>): Forget {
    return this.ask("acquire", undefined, (tell) => this.inner.identify(tell), onExit)
  }

  close(onClosed: () => void): void {
    this.inner.close(onClosed)
  }

  // ---------------------------------------------------------------- for its grants

  /** `since`: from when on its time counts. */
  ask<A>(
    operation: LockStoreOperation,
    key: string | undefined,
    ask: (tell: (exit: A | StoreFailure) => void) => Forget,
    tell: (exit: A | StoreFailure) => void,
    since = this.clock.unsafeNow()
  ): Forget {
    const question = new Question(this, operation, key, ask, tell, this.timeoutMillis)
    if (this.mode === "answering") question.goOn()
    else if (this.mode === "silent") question.waitUntil(since + this.timeoutMillis)
    else question.fail(this.mode)
    if (!question.isOver) this.pending.add(question)
    return () => {
      this.pending.delete(question)
      question.forget()
    }
  }

  isAnswered(question: Pending): void {
    this.pending.delete(question)
  }
}

class Question<A> extends Pending {
  isOver = false
  private isAsked = false
  private forgetAsked: Forget = nothing
  private answer: A | StoreFailure | undefined = undefined
  private deadline: ScheduledCall | undefined = undefined

  constructor(
    private readonly store: FaultyStore,
    private readonly operation: LockStoreOperation,
    private readonly key: string | undefined,
    private readonly ask: (tell: (exit: A | StoreFailure) => void) => Forget,
    private readonly tell: (exit: A | StoreFailure) => void,
    private readonly timeoutMillis: number
  ) {
    super()
  }

  goOn(): void {
    if (this.isOver) return
    this.deadline?.cancel()
    if (this.answer !== undefined) return this.settle(this.answer)
    if (this.isAsked) return
    this.isAsked = true
    this.forgetAsked = this.ask((exit) => {
      this.answer = exit
      if (this.store.answers) this.settle(exit)
    })
  }

  waitUntil(at: number): void {
    this.deadline = this.store.clock.unsafeSchedule(at, () =>
      this.fail({
        detail: `The store did not answer within ${this.timeoutMillis} ms: a test has silenced it.`,
        transient: true
      })
    )
  }

  fail({ cause, detail, transient }: Refusal): void {
    if (this.isOver) return
    this.forget()
    this.settle(new StoreFailure(this.operation, this.key, detail, transient, cause))
  }

  /** Also of a grant that has been told: whoever it was told to may have gone. */
  forget(): void {
    this.isOver = true
    this.deadline?.cancel()
    this.forgetAsked()
    this.forgetAsked = nothing
  }

  private settle(exit: A | StoreFailure): void {
    this.isOver = true
    this.store.isAnswered(this)
    isolated(this.tell, exit)
  }
}

class FaultyGrant implements Grant {
  readonly token: string
  readonly fencingToken: number
  readonly fencingFloor: number
  readonly validUntil: number
  readonly contention: Contention | undefined

  constructor(
    private readonly store: FaultyStore,
    private readonly key: string,
    private readonly grant: Grant
  ) {
    this.token = grant.token
    this.fencingToken = grant.fencingToken
    this.fencingFloor = grant.fencingFloor
    this.validUntil = grant.validUntil
    this.contention = grant.contention
  }

  get holdUntil(): number | undefined {
    return this.grant.holdUntil
  }

  renew(onExit: (exit: RenewExit) => void): Forget {
    return this.store.ask<RenewExit>("renew", this.key, (tell) => this.grant.renew(tell), onExit)
  }

  confirm(
    fencingToken: number,
    longestTtlMillis: number,
    onExit: (exit: RenewExit | Joining) => void
  ): Forget {
    const ask = (tell: (exit: RenewExit | Joining) => void) =>
      this.grant.confirm!(fencingToken, longestTtlMillis, tell)
    return this.store.ask<RenewExit | Joining>("renew", this.key, ask, onExit)
  }

  verify(onExit: (exit: OwnershipExit) => void): Forget {
    const ask = (tell: (exit: OwnershipExit) => void) => this.grant.verify(tell)
    return this.store.ask<OwnershipExit>("verify", this.key, ask, onExit)
  }

  reshare(share: number, onExit: (exit: RenewExit) => void): Forget {
    const ask = (tell: (exit: RenewExit) => void) => this.grant.reshare!(share, tell)
    return this.store.ask<RenewExit>("reshare", this.key, ask, onExit)
  }

  handOver(onExit: (exit: RenewExit) => void): Forget {
    const ask = (tell: (exit: RenewExit) => void) => this.grant.handOver!(tell)
    return this.store.ask<RenewExit>("handOver", this.key, ask, onExit)
  }

  release(since: number, onExit: (exit: OwnershipExit) => void, unused?: boolean): void {
    const ask = (tell: (exit: OwnershipExit) => void) => {
      this.grant.release(since, tell, unused)
      return nothing
    }
    this.store.ask<OwnershipExit>("release", this.key, ask, onExit, since)
  }

  /** What is silent, or refuses, tells nobody. */
  whenLost(listener: (reason: NotOurs) => void): void {
    this.grant.whenLost((reason) => {
      if (this.store.answers) listener(reason)
    })
  }
}
