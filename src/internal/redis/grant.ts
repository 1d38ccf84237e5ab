/** A turn, as the holder of a lease uses it: renewed, verified, given back. */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type { LockStoreError } from "../../LockError.js"
import type { Contention, Grant, Ownership, Renewal } from "../../LockStore.js"
import { retryDelay, validUntil } from "../timing.js"
import { readFence, readOwnership } from "./answers.js"
import type { Call, Outcome } from "./call.js"
import type { Commands } from "./commands.js"
import { isTransient, storeError } from "./errors.js"
import type { Line } from "./line.js"
import { isServerError } from "./replyErrors.js"
import * as scripts from "./scripts.js"
import type { Turn } from "./tenure.js"

export class RedisGrant implements Grant {
  readonly token: string
  readonly fencingToken: number
  readonly validUntil: number
  readonly contention: Contention | undefined

  constructor(
    private readonly commands: Commands,
    private readonly line: Line,
    private readonly turn: Turn
  ) {
    this.token = turn.tenure.token
    this.fencingToken = turn.fencingToken
    this.validUntil = turn.validUntil
    this.contention = turn.contention
  }

  whenLost(listener: (reason: "Missing" | "Taken") => void): void {
    this.turn.whenLost(listener)
  }

  toJSON(): unknown {
    return { _id: "Grant", key: this.turn.claim.key, fencingToken: this.fencingToken }
  }

  get renew(): Effect.Effect<Renewal, LockStoreError> {
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
      call.whenSettled((outcome) => resume(this.renewed(call, outcome)))
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

  get verify(): Effect.Effect<Ownership, LockStoreError> {
    return Effect.suspend(() => {
      const call = this.commands.call(scripts.verify, this.line.keys.slice(0, 1), [this.token])
      return Effect.flatMap(call.bounded(), (outcome) => {
        const found = this.ownership(outcome)
        return found === undefined ? this.fail("verify", outcome) : Effect.succeed(found)
      })
    })
  }

  get release(): Effect.Effect<Ownership, LockStoreError> {
    return Effect.suspend(() => {
      const { tenure } = this.turn
      if (this.line.passOn(tenure)) return ours
      // where nothing is answered anyway, many leases must not wait for it one after the other
      const { pending } = tenure
      const patience = this.commands.silent ? 100 : this.commands.timeoutMillis
      const deadline = this.commands.clock.unsafeNow() + patience
      return pending === undefined || pending.settled !== undefined
        ? this.releaseBy(deadline, false)
        : // what is still on its way about this token must not arrive behind the release
          Effect.flatMap(pending.bounded(), (outcome) =>
            outcome._tag === "Silent"
              ? Effect.ensuring(this.releaseBy(deadline, false), this.undo(pending))
              : this.releaseBy(deadline, false)
          )
    })
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
    deadline: number,
    sentBefore: boolean
  ): Effect.Effect<Ownership, LockStoreError> {
    const { clock } = this.commands
    const { line } = this
    const { claim, tenure } = this.turn
    const pass = line.askToPass(tenure)
    const call = pass?.call ?? this.commands.release(line.keys, this.token, line.contended)
    if (pass === undefined) line.ended(tenure)
    return Effect.flatMap(call.bounded(deadline - call.sentAt), (outcome) => {
      const fencingToken = outcome._tag === "Answered" ? readFence(outcome.reply) : undefined
      if (pass !== undefined && fencingToken !== undefined) {
        line.kept(tenure, fencingToken, call, pass.ttlMillis)
        return ours
      }
      const pause = retryDelay(claim.ttlMillis)
      if (
        outcome._tag === "Failed" &&
        isTransient(outcome.error) &&
        clock.unsafeNow() + pause < deadline
      ) {
        return Effect.zipRight(
          sleep(pause),
          // a server's refusal says that nothing was done
          Effect.suspend(() =>
            this.releaseBy(deadline, sentBefore || !isServerError(outcome.error))
          )
        )
      }
      if (pass !== undefined) line.ended(tenure)
      const found = readOwnership(outcome)
      // sent twice, the second finds the first one's work
      if (found !== undefined) return sentBefore || call.resent ? ours : Effect.succeed(found)
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
