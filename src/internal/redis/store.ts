/** Leases in one Redis (or Sentinel group, or Cluster): one script per step. */
import * as Cause from "effect/Cause"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import { LockStoreError, LockUnavailable } from "../../LockError.js"
import type { Claim, Defaults, LockClock, LockStore, Restore } from "../../LockStore.js"
import { inContext } from "../asyncContext.js"
import { Dictionary } from "../dictionary.js"
import { Fifo, Link } from "../fifo.js"
import { Opaque } from "../opaque.js"
import { validUntil } from "../timing.js"
import { makeToken } from "../token.js"
import { readBusy, readFence } from "./answers.js"
import type { Call } from "./call.js"
import { storeError, tooLate } from "./errors.js"
import { RedisGrant } from "./grant.js"
import { type LockKeys, lockKeys } from "./layout.js"
import { Line } from "./line.js"
import type { GrantMessage } from "./messages.js"
import * as scripts from "./scripts.js"
import type { Surroundings } from "./surroundings.js"
import { Tenure, type Turn } from "./tenure.js"
import { contentionOf, Waiter } from "./waiter.js"

/** So many grants that nobody waits for are given back in a heartbeat: who sends more has made them up. */
const mostStrays = 16

type AcquireEffect = Effect.Effect<RedisGrant, LockUnavailable | LockStoreError>

/** A single attempt that is under way, and how to give back what it may bring. */
class Attempt extends Link {
  constructor(
    readonly token: string,
    readonly call: Call,
    readonly keys: LockKeys,
    readonly ttlMillis: number
  ) {
    super()
  }
}

export class RedisStore extends Opaque implements LockStore {
  readonly clock: LockClock
  private readonly lines = new Dictionary<Line>()
  private readonly attempts = new Fifo<Attempt>()
  private strays = 0
  private closed = false
  private readonly around: Surroundings

  constructor(
    around: Omit<Surroundings, "serverTime">,
    private readonly prefix: string,
    readonly defaults: Defaults | undefined
  ) {
    super()
    this.clock = around.commands.clock
    this.around = { ...around, serverTime: undefined }
    around.messages.recipient = {
      onGrant: (message) => this.onGrant(message),
      onSubscribed: () => this.lines.values.forEach((line) => line.ask())
    }
  }

  readonly acquire = (claim: Claim, restore: Restore): AcquireEffect =>
    Effect.suspend(() => {
      const { keyPrefix = "" } = this.around.commands.transport.options
      const keys = lockKeys(keyPrefix, this.prefix, claim.key)
      if (typeof keys === "string") return Effect.die(new Cause.IllegalArgumentException(keys))
      if (this.closed) return Effect.fail(this.closedError(claim.key))
      return claim.waitMillis === 0
        ? this.acquireNow(claim, keys, restore)
        : this.acquireInTurn(claim, keys, restore)
    })

  private acquireInTurn(claim: Claim, keys: LockKeys, restore: Restore): AcquireEffect {
    const line = this.line(claim.key, keys)
    const waiter = new Waiter(claim, this.clock.unsafeNow())
    line.join(waiter)
    const turn = Effect.async<Turn, LockUnavailable | LockStoreError>((resume) => {
      if (waiter.exit === undefined) waiter.resume = inContext(resume)
      else resume(waiter.exit)
    })
    return Effect.matchCauseEffect(restore(turn), {
      onFailure: (cause) => {
        line.leave(waiter)
        return Effect.failCause(cause)
      },
      onSuccess: (turn) => Effect.succeed(new RedisGrant(this.around.commands, line, turn))
    })
  }

  private acquireNow(claim: Claim, keys: LockKeys, restore: Restore): AcquireEffect {
    const { commands, owner, storeId } = this.around
    const token = makeToken(storeId)
    const call = commands.call(scripts.acquire, keys, [
      token,
      String(claim.ttlMillis),
      claim.owner ?? owner
    ])
    const attempt = new Attempt(token, call, keys, claim.ttlMillis)
    const giveBack = () => this.undo(attempt)
    this.attempts.add(attempt)
    return Effect.flatMap(Effect.exit(restore(call.bounded())), (exit): AcquireEffect => {
      if (Exit.isFailure(exit)) {
        giveBack()
        return Effect.failCause(exit.cause)
      }
      // the close has given it back
      if (this.closed) return Effect.fail(this.closedError(claim.key))
      const outcome = exit.value
      const reply = outcome._tag === "Answered" ? outcome.reply : undefined
      const now = this.clock.unsafeNow()
      const fencingToken = readFence(reply)
      if (fencingToken !== undefined) {
        const until = validUntil(call.sentAt, claim.ttlMillis)
        if (now >= until) {
          giveBack()
          return Effect.fail(tooLate(claim, now - call.sentAt))
        }
        this.attempts.delete(attempt)
        const line = this.line(claim.key, keys)
        const tenure = new Tenure(token, fencingToken, call.sentAt, claim.ttlMillis, now, undefined)
        return Effect.succeed(new RedisGrant(commands, line, line.adopt(tenure, claim)))
      }
      const busy = readBusy(reply)
      if (busy === undefined) {
        giveBack()
        return Effect.fail(storeError(commands, "acquire", claim.key, outcome))
      }
      this.attempts.delete(attempt)
      const contention = contentionOf(busy, undefined, 0)
      return Effect.fail(
        new LockUnavailable({ key: claim.key, waited: Duration.zero, ...contention })
      )
    })
  }

  /** Nobody is served any more; what is granted or queued for those who waited is given back. */
  close(): void {
    this.closed = true
    const held = this.lines.values.filter((line) => line.isHeld).map(({ key }) => key)
    if (held.length > 0) {
      this.around.warn(
        `The store is closed while ${held.length} of its locks ${held.length === 1 ? "is" : "are"} held (${JSON.stringify(held[0]!.slice(0, 200))}${held.length === 1 ? "" : ", …"}). They are not renewed any more, and are lost when their margins begin. Close the store's layer after everything that holds locks.`
      )
    }
    for (const line of this.lines.values) line.close(this.closedError(line.key))
    for (const attempt of this.attempts.all) this.undo(attempt)
  }

  private undo(attempt: Attempt): void {
    if (!this.attempts.delete(attempt)) return
    this.around.commands.giveBack(attempt.call, attempt.keys, attempt.token, attempt.ttlMillis)
  }

  private onGrant({ fencingToken, key: stored, token, ttlMillis }: GrantMessage): void {
    const { commands, storeId } = this.around
    const { keyPrefix = "" } = commands.transport.options
    const prefix = keyPrefix + this.prefix
    if (this.closed || !token.startsWith(`${storeId}.`)) return
    const key = stored.startsWith(prefix) ? stored.slice(prefix.length) : ""
    if (this.lines.get(key)?.onGrant(token, fencingToken, ttlMillis) === true) return
    if (this.strays >= mostStrays) return
    // (under another name: behind a proxy that changes names)
    if (this.lines.values.some((line) => line.onGrant(token, fencingToken, ttlMillis))) return
    if (this.attempts.all.some((attempt) => attempt.token === token)) return
    if (key === "") return
    const keys = lockKeys(keyPrefix, this.prefix, key)
    if (typeof keys !== "string") this.onStray(keys, token, ttlMillis)
  }

  /**
   * A grant for a token that nobody here has any more: an acquire can come to the server behind the
   * release that was to undo it, from a connection that was given up.
   */
  private onStray(keys: LockKeys, token: string, ttlMillis: number): void {
    const { commands, heartbeatMillis } = this.around
    this.strays++
    this.clock.unsafeSchedule(this.clock.unsafeNow() + heartbeatMillis, () => this.strays--)
    commands.giveBack(undefined, keys, token, Math.min(ttlMillis, 3 * heartbeatMillis))
  }

  private closedError(key: string): LockStoreError {
    return new LockStoreError({
      operation: "acquire",
      key,
      detail: "The store is closed: its layer's scope has ended.",
      transient: false
    })
  }

  private line(key: string, keys: LockKeys): Line {
    let line = this.lines.get(key)
    if (line === undefined) {
      const made = new Line(key, keys, this.around, () => {
        if (this.lines.get(key) === made) this.lines.delete(key)
      })
      line = made
      this.lines.set(key, line)
    }
    return line
  }
}
