/** The lease of a claim with bounds. */
import type { Forget, RenewExit } from "../engine.js"
import { validUntil } from "../common/timing.js"
import { readBound, replyOf } from "./answers.js"
import type { Call, Outcome } from "./call.js"
import { RedisGrant } from "./grant.js"

export class RedisBoundGrant extends RedisGrant {
  get holdUntil(): number | undefined {
    return this.turn.tenure.holdUntil
  }

  override renew(onExit: (exit: RenewExit) => void): Forget {
    const { commands, line, token } = this
    const { claim, tenure } = this.turn
    const patience = commands.patience(claim.ttlMillis)
    if (tenure.reshared) return this.askForLess("renew", patience, onExit)
    const { protocol } = line
    const ttlMillis = this.askedMillis
    const call = commands.call(
      protocol.renew,
      line.keys.slice(0, protocol.renewedKeys),
      [token, String(ttlMillis), ...this.bounds],
      patience
    )
    return call.whenSettled((outcome) => onExit(this.renewed("renew", call, outcome, ttlMillis)))
  }

  /** Less, where `maxHold` is near. (The server says so as well, by its own clock.) */
  protected override get askedMillis(): number {
    const { holdUntil } = this
    const { ttlMillis } = this.turn.claim
    if (holdUntil === undefined) return ttlMillis
    return Math.max(1, Math.min(ttlMillis, Math.ceil(holdUntil - this.commands.clock.unsafeNow())))
  }

  protected override get bounds(): ReadonlyArray<string> {
    const { maxHoldMillis } = this.turn.claim
    return maxHoldMillis === undefined ? [] : [String(this.fencingToken), String(maxHoldMillis)]
  }

  /** The answer says for how long. */
  protected override renewed(
    operation: "renew" | "reshare",
    call: Call,
    outcome: Outcome,
    askedMillis: number
  ): RenewExit {
    const bound = readBound(replyOf(outcome))
    if (bound === undefined) return super.renewed(operation, call, outcome, askedMillis)
    const { claim, tenure } = this.turn
    tenure.prove(call.sentAt, bound.leftMillis)
    tenure.mayBeHeld(call.sentAt, bound.holdMillis)
    return this.knows(validUntil(call.sentAt, Math.min(bound.leftMillis, claim.ttlMillis)))
  }
}
