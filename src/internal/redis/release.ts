/** The release of a lease. */
import {
  keptMillis,
  type LockStoreOperation,
  type OwnershipExit,
  type StoreFailure
} from "../engine.js"
import { retryDelay } from "../common/timing.js"
import { isUnacknowledged } from "./acknowledging.js"
import { readBusy, readFence, readOwnership, replyOf } from "./answers.js"
import type { Call, Outcome } from "./call.js"
import type { Commands } from "./commands.js"
import { cameLate, isTransient } from "./errors.js"
import type { Line } from "./line.js"
import { isServerError } from "./replyErrors.js"
import type { Turn } from "./tenure.js"

/** The grant that is given back. */
interface Released {
  readonly commands: Commands
  readonly line: Line
  readonly turn: Turn
  readonly token: string
  readonly ending: ReadonlyArray<string> | undefined
  failure(operation: LockStoreOperation, outcome: Outcome): StoreFailure
}

/** A release on its way, which is tried again until its deadline. */
export class Release {
  /** Whether an earlier try may have been applied. */
  private sentBefore = false
  /** A command about this token that may come behind the release. */
  private late: Call | undefined = undefined

  constructor(
    private readonly grant: Released,
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
        if (!call.sentByOneKey) line.kept(tenure, fencingToken, reply, call, pass.ttlMillis)
        else {
          // what was sent with the first key alone gives the key back, and may come yet
          line.ended(tenure)
          commands.giveBack(call, line.protocol, line.keys, tenure.token, pass.ttlMillis)
        }
        return this.end("Ours")
      }
      // handed over, and the next caller here stands in the queue
      if (pass !== undefined && readBusy(reply) !== undefined) {
        line.ended(tenure)
        return this.end("Ours")
      }
      // it was kept, and is given back: the next caller here asks for itself
      if (pass !== undefined && isUnacknowledged(outcome)) {
        line.ended(tenure)
        commands.giveBack(call, line.protocol, line.keys, token, pass.ttlMillis)
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
