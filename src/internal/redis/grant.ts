/** A turn, as the holder of a lease uses it: renewed, verified, given back. */
import {
  badShare,
  cannotHandOver,
  type Contention,
  type Forget,
  type Grant,
  Joining,
  type LockStoreOperation,
  notCapable,
  type NotOurs,
  type Ownership,
  type OwnershipExit,
  Renewed,
  type RenewExit,
  type StoreFailure
} from "../engine.js"
import { validUntil } from "../common/timing.js"
import { readJoining, readOwnership, replyOf } from "./answers.js"
import type { Call, Outcome } from "./call.js"
import type { Commands } from "./commands.js"
import { storeError } from "./errors.js"
import type { Line } from "./line.js"
import type { Script } from "./lua.js"
import { confirm } from "./nodeScripts.js"
import { lockProtocol } from "./protocol.js"
import { Release } from "./release.js"
import { prolong } from "./semaphoreScripts.js"
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

  /** Of a node of a quorum. */
  confirm(
    fencingToken: number,
    longestTtlMillis: number,
    onExit: (exit: RenewExit | Joining) => void
  ): Forget {
    const { askedMillis, commands, line } = this
    const { nodeKey } = commands
    const args = this.renewalArgs(askedMillis)
    const call = commands.call(
      this.confirming,
      line.firstKeys(lockProtocol.renewedKeys).concat(nodeKey),
      args.concat(String(fencingToken), String(longestTtlMillis)),
      commands.patience(nodeKey, this.turn.claim.ttlMillis),
      // a batch has no place for more
      args.length > 2
    )
    return call.whenSettled((outcome) => {
      const joining = readJoining(replyOf(outcome))
      if (joining !== undefined) onExit(new Joining(joining))
      else onExit(this.renewed("renew", call, outcome, askedMillis))
    })
  }

  protected get confirming(): Script {
    return confirm
  }

  /** What a renewal with room for all that it can say is sent. */
  protected renewalArgs(ttlMillis: number): ReadonlyArray<string> {
    const mustRecord = this.turn.tenure.mustRecord(ttlMillis, this.commands.clock.unsafeNow())
    return mustRecord ? [this.token, String(ttlMillis), "1"] : [this.token, String(ttlMillis)]
  }

  protected askForTtl(ttlMillis: number, patienceMillis?: number): Call {
    const { protocol } = this.line
    const args = this.renewalArgs(ttlMillis)
    return this.commands.call(
      protocol.renew,
      this.line.firstKeys(protocol.renewedKeys),
      args,
      patienceMillis,
      // a batch has no place for more
      args.length > 2
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
    const provenMillis = this.provenBy(call, askedMillis)
    tenure.prove(call.sentAt, provenMillis)
    // (a renewal that was on its way when this one joined can have asked for less)
    return this.knows(validUntil(call.sentAt, Math.min(provenMillis, claim.ttlMillis)))
  }

  /**
   * What a renewal to that ttl proves. By one key, nothing that stands beside it was touched: so an earlier
   * renewal that comes late may still make the ttl what is recorded there.
   */
  protected provenBy(call: Call, ttlMillis: number): number {
    if (!call.byOneKey) return ttlMillis
    const { keys, protocol } = this.line
    // what several have in use must not end before they do
    for (const key of protocol.several ? keys.slice(4) : none) {
      this.commands.call(prolong, [key], [String(ttlMillis)])
    }
    return Math.min(ttlMillis, this.turn.tenure.recordedMillis)
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
    else new Release(this, this.releaseUntil(since), onExit).begin()
  }

  /**
   * What closes together has one deadline. Where that is over, another shard of a Cluster may have held it up: one
   * that answers soon is given a moment more.
   */
  private releaseUntil(since: number): number {
    const { clock, timeoutMillis, transport } = this.commands
    if (!transport.isCluster) return since + timeoutMillis
    const moment = timeoutMillis / 10
    const now = clock.unsafeNow()
    const { isReady, silentSince = now, slowestMillis } = this.commands.routeOf(this.line.keys[0])
    const isWell = isReady && now - silentSince < moment && 4 * slowestMillis < moment
    const until = since + timeoutMillis
    return isWell ? Math.max(until, now + moment) : until
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

const nothing = (): void => {}
const none: ReadonlyArray<string> = []
