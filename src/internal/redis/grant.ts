/** A turn, as the holder of a lease uses it: renewed, verified, given back. */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type { LockStoreError } from "../../LockError.js"
import type { Contention, Grant, Ownership, Renewal } from "../../LockStore.js"
import { inContext } from "../asyncContext.js"
import { closingSince, releaseEnded } from "../closing.js"
import { retryDelay, validUntil } from "../timing.js"
import { readFence, readOwnership } from "./answers.js"
import type { Call, Outcome } from "./call.js"
import type { Commands } from "./commands.js"
import { cameLate, isTransient, storeError } from "./errors.js"
import type { Line } from "./line.js"
import { isServerError } from "./replyErrors.js"
import * as scripts from "./scripts.js"
import type { Turn } from "./tenure.js"

/**
 * All that a holder is given: own properties, so that a copy with some of them replaced works, and
 * nothing behind them that a copy could show. (Set by a constructor: the engine takes objects that
 * hot literals make for long-lived.)
 */
export class RedisGrant implements Grant {
  readonly token: string
  readonly fencingToken: number
  readonly validUntil: number
  readonly contention: Contention | undefined
  readonly renew: Grant["renew"]
  readonly verify: Grant["verify"]
  readonly release: Grant["release"]
  readonly whenLost: NonNullable<Grant["whenLost"]>

  constructor(commands: Commands, line: Line, turn: Turn) {
    const holder = new Holder(commands, line, turn)
    this.token = turn.tenure.token
    this.fencingToken = turn.fencingToken
    this.validUntil = turn.validUntil
    this.contention = turn.contention
    this.renew = Effect.suspend(() => holder.renew())
    this.verify = Effect.suspend(() => holder.verify())
    this.release = Effect.suspend(() => holder.release())
    this.whenLost = (listener) => turn.whenLost(listener)
  }

  toJSON(): unknown {
    return { _id: "Grant", fencingToken: this.fencingToken }
  }
}

class Holder {
  private readonly token: string

  constructor(
    private readonly commands: Commands,
    private readonly line: Line,
    private readonly turn: Turn
  ) {
    this.token = turn.tenure.token
  }

  renew(): Effect.Effect<Renewal, LockStoreError> {
    return Effect.async((resume) => {
      const { claim, tenure } = this.turn
      const { ttlMillis } = claim
      const mustRecord = tenure.mustRecord(ttlMillis)
      const call = this.commands.call(
        scripts.renew,
        this.line.keys.slice(0, 2),
        mustRecord ? [this.token, String(ttlMillis), "1"] : [this.token, String(ttlMillis)],
        this.commands.patience(ttlMillis),
        // a batch has no place for that
        mustRecord
      )
      const resumed = inContext((outcome: Outcome) => resume(this.renewed(call, outcome)))
      const forget = call.whenSettled(resumed)
      return Effect.sync(forget)
    })
  }

  private renewed(call: Call, outcome: Outcome): Effect.Effect<Renewal, LockStoreError> {
    const found = this.ownership(outcome)
    if (found === undefined) return this.fail("renew", outcome)
    if (found !== "Ours") return Effect.succeed({ _tag: "NotOurs", reason: found })
    const { claim, tenure } = this.turn
    tenure.prove(call.sentAt, claim.ttlMillis)
    return Exit.succeed(new Renewed(validUntil(call.sentAt, claim.ttlMillis)))
  }

  verify(): Effect.Effect<Ownership, LockStoreError> {
    const call = this.commands.call(scripts.verify, this.line.keys.slice(0, 1), [this.token])
    return Effect.flatMap(call.bounded(), (outcome) => {
      const found = this.ownership(outcome)
      return found === undefined ? this.fail("verify", outcome) : Effect.succeed(found)
    })
  }

  release(): Effect.Effect<Ownership, LockStoreError> {
    const { tenure } = this.turn
    if (this.line.passOn(tenure)) return ours
    const { clock, timeoutMillis, transport } = this.commands
    const begunAt = clock.unsafeNow()
    const since = closingSince(begunAt, transport.lastAnswerAt)
    const closing = new Closing(since, begunAt, since + timeoutMillis)
    const { pending } = tenure
    return pending === undefined || pending.settled !== undefined
      ? this.releaseBy(closing, false)
      : // what is still on its way about this token must not arrive behind the release
        Effect.flatMap(
          pending.bounded(Math.min(closing.deadline, pending.askedAt + timeoutMillis)),
          (outcome) =>
            outcome._tag === "Silent"
              ? Effect.ensuring(this.releaseBy(closing, false), this.undo(pending))
              : this.releaseBy(closing, false)
        )
  }

  /** It may have come behind the release. Where the token was kept, that is for the next one to see to. */
  private undo(pending: Call): Effect.Effect<void> {
    return Effect.sync(() => {
      const { tenure } = this.turn
      if (this.line.has(tenure)) return
      this.commands.giveBack(pending, this.line.keys, this.token, tenure.ttlMillis)
    })
  }

  private releaseBy(
    closing: Closing,
    sentBefore: boolean
  ): Effect.Effect<Ownership, LockStoreError> {
    const { clock, transport } = this.commands
    const { line } = this
    const { claim, tenure } = this.turn
    const provenUntil = tenure.validUntil
    const pass = line.askToPass(tenure)
    const call = pass?.call ?? this.commands.release(line.keys, this.token, line.contended)
    if (pass === undefined) line.ended(tenure)
    return Effect.flatMap(call.bounded(closing.deadline), (outcome) => {
      const now = clock.unsafeNow()
      releaseEnded(closing.since, closing.begunAt, now, outcome._tag === "Answered")
      const fencingToken = outcome._tag === "Answered" ? readFence(outcome.reply) : undefined
      if (pass !== undefined && fencingToken !== undefined) {
        line.kept(tenure, fencingToken, call, pass.ttlMillis)
        return ours
      }
      const pause = retryDelay(claim.ttlMillis)
      if (
        outcome._tag === "Failed" &&
        isTransient(outcome.error) &&
        !transport.ended &&
        now + pause < closing.deadline
      ) {
        return Effect.zipRight(
          sleep(pause),
          // a server's refusal says that nothing was done
          Effect.suspend(() => this.releaseBy(closing, sentBefore || !isServerError(outcome.error)))
        )
      }
      if (pass !== undefined) line.ended(tenure)
      const found = readOwnership(outcome)
      if (found !== undefined) {
        // sent twice, the second finds the first one's work
        if (found === "Ours" || sentBefore || call.resent) return ours
        // it may have come to Redis when the lease had ended by its ttl, behind work that had it
        if (now >= provenUntil) return Effect.fail(cameLate(claim, now - call.askedAt))
        return Effect.succeed(found)
      }
      const longest = Math.max(claim.ttlMillis, pass?.ttlMillis ?? 0)
      this.commands.giveBack(call, line.keys, this.token, longest)
      return this.fail("release", outcome)
    })
  }

  /** A holder that has lost its lease must not keep the callers behind it waiting. */
  private ownership(outcome: Outcome): Ownership | undefined {
    const found = readOwnership(outcome)
    if (found === "Missing" || found === "Taken") this.line.lost(this.turn.tenure, found)
    return found
  }

  private fail(
    operation: "renew" | "verify" | "release",
    outcome: Outcome
  ): Effect.Effect<never, LockStoreError> {
    return Effect.fail(storeError(this.commands, operation, this.turn.claim.key, outcome))
  }
}

/** A release on its way: when it began, and the close that it belongs to. */
class Closing {
  constructor(
    readonly since: number,
    readonly begunAt: number,
    readonly deadline: number
  ) {}
}

class Renewed {
  readonly _tag = "Renewed"
  constructor(readonly validUntil: number) {}
}

const ours: Effect.Effect<Ownership> = Effect.succeed("Ours")

/** Somebody waits for it: unlike other timers of the store it keeps the process alive. */
const sleep = (millis: number): Effect.Effect<void> =>
  Effect.async((resume) => {
    const timer = setTimeout(() => resume(Effect.void), millis)
    return Effect.sync(() => clearTimeout(timer))
  })
