/** The lease of a claim with bounds. */
import {
  cannotHandOver,
  countedFrom,
  type Forget,
  type OwnershipExit,
  type RenewExit,
  tickStays
} from "../engine.js"
import { validUntil } from "../common/timing.js"
import { readBound, replyOf } from "./answers.js"
import { unusedEnding } from "./adoption.js"
import { boundEnding } from "./bounds.js"
import type { Call, Outcome } from "./call.js"
import type { Commands } from "./commands.js"
import { RedisGrant } from "./grant.js"
import type { Line } from "./line.js"
import type { Script } from "./lua.js"
import { confirmBound } from "./nodeScripts.js"
import type { Turn } from "./tenure.js"

class RedisBoundGrant extends RedisGrant {
  private isUnused = false

  get holdUntil(): number | undefined {
    return this.turn.tenure.holdUntil
  }

  override get ending(): ReadonlyArray<string> | undefined {
    const { claim } = this.turn
    return this.isUnused ? unusedEnding(claim) : boundEnding(claim, this.fencingToken)
  }

  override release(since: number, onExit: (exit: OwnershipExit) => void, unused = false): void {
    this.isUnused = unused
    super.release(since, onExit)
  }

  override handOver(onExit: (exit: RenewExit) => void): Forget {
    const { key, tick } = this.turn.claim
    if (tick === undefined) return super.handOver(onExit)
    onExit(cannotHandOver(key, tickStays))
    return () => {}
  }

  protected override get confirming(): Script {
    return confirmBound
  }

  protected override renewalArgs(ttlMillis: number): ReadonlyArray<string> {
    const { bounds, commands, line, token } = this
    const args = [token, String(ttlMillis)]
    // (what several can hold stands in no record)
    if (!line.protocol.several) {
      args.push(this.turn.tenure.mustRecord(ttlMillis, commands.clock.unsafeNow()) ? "1" : "")
    }
    return args.concat(bounds)
  }

  protected override askForTtl(ttlMillis: number, patienceMillis?: number): Call {
    const { protocol } = this.line
    return this.commands.call(
      protocol.renew,
      this.line.firstKeys(protocol.renewedKeys),
      this.renewalArgs(ttlMillis),
      patienceMillis
    )
  }

  /** Less, where `maxHold` is near. (The server says so as well, by its own clock.) */
  protected override get askedMillis(): number {
    const { holdUntil } = this
    const { ttlMillis } = this.turn.claim
    if (holdUntil === undefined) return ttlMillis
    return Math.max(1, Math.min(ttlMillis, Math.ceil(holdUntil - this.commands.clock.unsafeNow())))
  }

  protected override get bounds(): ReadonlyArray<string> {
    const { claim } = this.turn
    const { maxHoldMillis } = claim
    if (maxHoldMillis === undefined) return []
    return [String(countedFrom(claim) ?? this.fencingToken), String(maxHoldMillis)]
  }

  /** The answer says for how long. */
  protected override renewed(
    operation: "renew" | "reshare" | "handOver",
    call: Call,
    outcome: Outcome,
    askedMillis: number
  ): RenewExit {
    const bound = readBound(replyOf(outcome))
    if (bound === undefined) return super.renewed(operation, call, outcome, askedMillis)
    const { claim, tenure } = this.turn
    const provenMillis = this.provenBy(call, bound.leftMillis)
    tenure.prove(call.sentAt, provenMillis)
    // (it can have been executed just now: an answer that took long does not end it earlier)
    tenure.mayBeHeld(this.commands.clock.unsafeNow(), bound.holdMillis)
    return this.knows(validUntil(call.sentAt, Math.min(provenMillis, claim.ttlMillis)))
  }
}

/** A turn, as its caller is granted it. */
export const grantOf = (commands: Commands, line: Line, turn: Turn): RedisGrant =>
  line.protocol.bounds === undefined
    ? new RedisGrant(commands, line, turn)
    : new RedisBoundGrant(commands, line, turn)
