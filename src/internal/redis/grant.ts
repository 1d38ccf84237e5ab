/** A turn, as the holder of a lease uses it: renewed, verified, given back. */
import {
  badShare,
  cannotHandOver,
  type Contention,
  type Forget,
  type Grant,
  keptMillis,
  type LockStoreOperation,
  notCapable,
  type NotOurs,
  type Ownership,
  type OwnershipExit,
  Renewed,
  type RenewExit,
  type StoreFailure
} from "../engine.js"
import { retryDelay, validUntil } from "../common/timing.js"
import { readBusy, readFence, readOwnership, replyOf } from "./answers.js"
import type { Call, Outcome } from "./call.js"
import type { Commands } from "./commands.js"
import { cameLate, isTransient, storeError } from "./errors.js"
import type { Line } from "./line.js"
import { isServerError } from "./replyErrors.js"
import type { Turn } from "./tenure.js"

export class RedisGrant implements Grant {
  readonly token: string
  readonly fencingToken: number
  readonly fencingFloor: number
  readonly validUntil: number
  readonly contention: Contention | undefined

  constructor(
    readonly commands: Commands,
    readonly line: Line,
    readonly turn: Turn
  ) {
    this.token = turn.tenure.token
    this.fencingToken = turn.fencingToken
    this.fencingFloor = turn.fencingFloor
    this.validUntil = turn.validUntil
    this.contention = turn.contention
  }

  whenLost(listener: (reason: NotOurs) => void): void {
    this.turn.whenLost(listener)
  }

  /** What its release has more than that of what was not used. */
  get ending(): ReadonlyArray<string> | undefined {
    return undefined
  }

  /** Renews it, where its share was made smaller so that it is that small from then on. */
  renew(onExit: (exit: RenewExit) => void): Forget {
    const { claim, tenure } = this.turn
    const patience = this.commands.patience(this.line.keys[0], claim.ttlMillis)
    if (tenure.reshared) return this.askForLess("renew", patience, onExit)
    if (tenure.isShared) return this.renewForAll(onExit)
    const ttlMillis = this.askedMillis
    const call = this.askForTtl(ttlMillis, patience)
    return call.whenSettled((outcome) => onExit(this.renewed("renew", call, outcome, ttlMillis)))
  }

  protected askForTtl(ttlMillis: number, patienceMillis?: number): Call {
    const { protocol } = this.line
    const mustRecord = this.turn.tenure.mustRecord(ttlMillis, this.commands.clock.unsafeNow())
    return this.commands.call(
      protocol.renew,
      this.line.firstKeys(protocol.renewedKeys),
      mustRecord ? [this.token, String(ttlMillis), "1"] : [this.token, String(ttlMillis)],
      patienceMillis,
      // a batch has no place for that
      mustRecord
    )
  }

  /** A renewal, after which the tenure is not this process's any more. */
  handOver(onExit: (exit: RenewExit) => void): Forget {
    const { commands, line, turn } = this
    const { claim, tenure } = turn
    const { pending } = tenure
    if (tenure.isShared) {
      onExit(cannotHandOver(claim.key, "Other readers of this process share it."))
      return nothing
    }
    if (pending !== undefined && pending.settled === undefined) {
      // what comes late must not find the token where another process has it
      return pending.within(commands.timeoutMillis, (outcome) => {
        if (outcome._tag === "Silent") onExit(this.failure("handOver", outcome))
        else this.handOver(onExit)
      })
    }
    const onRenewed = (exit: RenewExit): void => {
      if (exit._tag === "Renewed") line.handedOver(tenure)
      onExit(exit)
    }
    // from here on nobody shares it
    if (line.protocol.shared) line.reshare(tenure, tenure.share)
    if (tenure.reshared) return this.askForLess("handOver", undefined, onRenewed)
    const { askedMillis } = this
    const call = this.askForTtl(askedMillis)
    return call.within(commands.timeoutMillis, (outcome) =>
      onRenewed(this.renewed("handOver", call, outcome, askedMillis))
    )
  }

  reshare(share: number, onExit: (exit: RenewExit) => void): Forget {
    const { claim, tenure } = this.turn
    if (this.line.protocol.reshare === undefined) {
      onExit(notCapable("reshare", claim.key, "reshare"))
      return nothing
    }
    const mistake = badShare(claim.key, share, tenure.share)
    if (mistake !== undefined) {
      onExit(mistake)
      return nothing
    }
    // from the sending on
    this.line.reshare(tenure, share)
    return this.askForLess("reshare", undefined, onExit)
  }

  /** The ttl of a renewal, and what it has more than that of a plain claim. */
  protected get askedMillis(): number {
    return this.turn.claim.ttlMillis
  }

  protected get bounds(): ReadonlyArray<string> {
    return none
  }

  protected askForLess(
    operation: "renew" | "reshare" | "handOver",
    patienceMillis: number | undefined,
    onExit: (exit: RenewExit) => void
  ): Forget {
    const { askedMillis: ttlMillis, commands, line, token } = this
    const { tenure } = this.turn
    const call = commands.call(
      line.protocol.reshare!,
      line.firstKeys(line.protocol.renewedKeys),
      [token, String(ttlMillis), String(tenure.share), ...this.bounds],
      patienceMillis
    )
    const onOutcome = (outcome: Outcome): void =>
      onExit(this.renewed(operation, call, outcome, ttlMillis))
    // (whoever makes it smaller waits for the answer, and no longer than for any)
    return operation === "renew"
      ? call.whenSettled(onOutcome)
      : call.within(commands.timeoutMillis, onOutcome)
  }

  /** `askedMillis`: the ttl that was asked for, of the tenure. */
  protected renewed(
    operation: "renew" | "reshare" | "handOver",
    call: Call,
    outcome: Outcome,
    askedMillis: number
  ): RenewExit {
    const found = this.ownership(outcome)
    if (found === undefined) return this.failure(operation, outcome)
    if (found !== "Ours") return { _tag: "NotOurs", reason: found }
    const { claim, tenure } = this.turn
    tenure.prove(call.sentAt, askedMillis)
    // (a renewal that was on its way when this one joined can have asked for less)
    return this.knows(validUntil(call.sentAt, Math.min(askedMillis, claim.ttlMillis)))
  }

  protected knows(until: number): Renewed {
    this.turn.knownUntil = Math.max(this.turn.knownUntil, until)
    return new Renewed(until)
  }

  /** One renewal, for the longest ttl of those who share it, proves for all of them. */
  private renewForAll(onExit: (exit: RenewExit) => void): Forget {
    const { commands, line, token, turn } = this
    const { claim, tenure } = turn
    const now = commands.clock.unsafeNow()
    const proven = tenure.provenFor(claim.ttlMillis)
    if (proven > turn.knownUntil && proven - now > claim.ttlMillis / 2) {
      onExit(this.knows(proven))
      return nothing
    }
    const { protocol } = line
    if (tenure.renewal === undefined || tenure.renewal.settled !== undefined) {
      const { longest, shortest } = tenure.ttls
      tenure.renewal = commands.call(
        protocol.renew,
        line.firstKeys(protocol.renewedKeys),
        [token, String(longest)],
        commands.patience(line.keys[0], shortest)
      )
    }
    const call = tenure.renewal
    const askedMillis = Number(call.args[1])
    return call.whenSettled((outcome) => onExit(this.renewed("renew", call, outcome, askedMillis)))
  }

  verify(onExit: (exit: OwnershipExit) => void): Forget {
    return this.line.verify(this.token).within(this.commands.timeoutMillis, (outcome) => {
      onExit(this.ownership(outcome) ?? this.failure("verify", outcome))
    })
  }

  release(since: number, onExit: (exit: OwnershipExit) => void): void {
    const { tenure } = this.turn
    // others go on with it, or the next one does
    if (tenure.leave(this.turn) || this.line.passOn(tenure)) onExit("Ours")
    else new Release(this, since + this.commands.timeoutMillis, onExit).begin()
  }

  /** A holder that has lost its lease must not keep the callers behind it waiting. */
  private ownership(outcome: Outcome): Ownership | undefined {
    const found = readOwnership(outcome)
    if (found !== undefined && found !== "Ours") this.line.lost(this.turn.tenure, found)
    return found
  }

  failure(operation: LockStoreOperation, outcome: Outcome): StoreFailure {
    return storeError(this.commands, operation, this.turn.claim.key, outcome)
  }

  toJSON(): unknown {
    return { _id: "Grant", fencingToken: this.fencingToken }
  }
}

/** A release on its way, which is tried again until its deadline. */
class Release {
  /** Whether an earlier try may have been applied. */
  private sentBefore = false
  /** A command about this token that may come behind the release. */
  private late: Call | undefined = undefined

  constructor(
    private readonly grant: RedisGrant,
    private readonly deadline: number,
    private readonly onExit: (exit: OwnershipExit) => void
  ) {}

  begin(): void {
    const { commands, turn } = this.grant
    const { pending } = turn.tenure
    if (pending === undefined || pending.settled !== undefined) return this.send()
    // what is still on its way about this token must not arrive behind the release
    const until = Math.min(this.deadline, pending.askedAt + commands.timeoutMillis)
    pending.until(until, (outcome) => {
      if (outcome._tag === "Silent") this.late = pending
      this.send()
    })
  }

  private send(): void {
    const { commands, ending, line, token, turn } = this.grant
    const { tenure } = turn
    const provenUntil = tenure.validUntil
    const pass = line.askToPass(tenure)
    const call =
      pass?.call ?? commands.release(line.protocol, line.keys, token, line.contended, ending)
    if (pass === undefined) line.ended(tenure)
    call.until(this.deadline, (outcome) => {
      const now = commands.clock.unsafeNow()
      const reply = replyOf(outcome)
      const fencingToken = readFence(reply)
      if (pass !== undefined && fencingToken !== undefined) {
        line.kept(tenure, fencingToken, reply, call, pass.ttlMillis)
        return this.end("Ours")
      }
      // handed over, and the next caller here stands in the queue
      if (pass !== undefined && readBusy(reply) !== undefined) {
        line.ended(tenure)
        return this.end("Ours")
      }
      const pause = retryDelay(turn.claim.ttlMillis)
      if (
        outcome._tag === "Failed" &&
        isTransient(outcome.error) &&
        !commands.routeOf(line.keys[0]).ended &&
        now + pause < this.deadline
      ) {
        // a server's refusal says that nothing was done
        this.sentBefore ||= !isServerError(outcome.error)
        // (somebody waits for it: unlike other timers of the store it keeps the process alive)
        setTimeout(() => this.send(), pause)
        return
      }
      if (pass !== undefined) {
        line.ended(tenure)
        // unlike a release it leaves the queue alone, where a late acquire can have put the token
        const found = readOwnership(outcome)
        if (found === "Missing" || found === "Taken") {
          commands.giveBack(undefined, line.protocol, line.keys, tenure.token, pass.ttlMillis)
        }
      }
      const told = (): OwnershipExit => this.judge(call, outcome, provenUntil, pass?.ttlMillis ?? 0)
      const isGone = (readOwnership(outcome) ?? "Ours") !== "Ours"
      if (!isGone) return this.end(told())
      if (turn.lostBecause !== undefined) return this.end(turn.lostBecause)
      // (a release is sent for every lock, and has no key more than it needs)
      line.verify(token).until(this.deadline, (answer) => {
        this.end(readOwnership(answer) === "Revoked" ? "Revoked" : told())
      })
    })
  }

  private judge(
    call: Call,
    outcome: Outcome,
    provenUntil: number,
    passedMillis: number
  ): OwnershipExit {
    const { commands, ending, line, token, turn } = this.grant
    const { claim } = turn
    const found = readOwnership(outcome)
    if (found === undefined) {
      const longest = Math.max(keptMillis(claim), passedMillis)
      commands.giveBack(call, line.protocol, line.keys, token, longest, ending)
      return this.grant.failure("release", outcome)
    }
    // sent twice, the second finds the first one's work
    if (found === "Ours" || this.sentBefore || call.resent) return "Ours"
    const now = commands.clock.unsafeNow()
    // it may have come to Redis when the lease had ended by its ttl, behind work that had it
    return now >= provenUntil ? cameLate(claim, now - call.askedAt) : found
  }

  private end(exit: OwnershipExit): void {
    const { commands, ending, line, token, turn } = this.grant
    const { tenure } = turn
    // where the token was kept, what comes behind is for the next one to see to
    if (this.late !== undefined && !line.has(tenure)) {
      commands.giveBack(this.late, line.protocol, line.keys, token, tenure.ttlMillis, ending)
    }
    this.onExit(exit)
  }
}

const nothing = (): void => {}
const none: ReadonlyArray<string> = []
