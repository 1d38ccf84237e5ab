/** Leases in one Redis (or Sentinel group, or Cluster): one script per step. */
import { Dictionary } from "../common/dictionary.js"
import {
  type AcquireExit,
  type Capability,
  type Claim,
  Granted,
  type Forget,
  Impossible,
  keptMillis,
  lacking,
  type LockClock,
  type Look,
  notCapable,
  type Store,
  StoreFailure,
  Unavailable
} from "../engine.js"
import { Fifo, Link } from "../common/fifo.js"
import { validUntil } from "../common/timing.js"
import { makeToken } from "../common/token.js"
import {
  readBound,
  readBusy,
  readFence,
  readFloor,
  readLast,
  readLastTick,
  readLimit,
  replyOf
} from "./answers.js"
import { grantOf } from "./boundGrant.js"
import { BoundLines } from "./boundLines.js"
import { boundProtocol, isBound } from "./bounds.js"
import type { Call, Outcome } from "./call.js"
import { storeError, tooLate } from "./errors.js"
import { RedisGrant } from "./grant.js"
import { type LockKeys, lockKeys } from "./layout.js"
import { Line } from "./line.js"
import type { GrantMessage } from "./messages.js"
import { readLook } from "./look.js"
import { look } from "./lookScript.js"
import { type Protocol, protocols } from "./protocol.js"
import type { Surroundings } from "./surroundings.js"
import { Tenure, Turn } from "./tenure.js"
import { contentionOf, tellLimit, Waiter } from "./waiter.js"

/** So many grants that nobody waits for are given back in a heartbeat: who sends more has made them up. */
const mostStrays = 16

type OnExit = (exit: AcquireExit) => void

/** A single attempt that is under way, and how to give back what it may bring. */
class Attempt extends Link {
  /** What it has brought. */
  line: Line | undefined = undefined
  turn: Turn | undefined = undefined

  constructor(
    readonly token: string,
    readonly call: Call,
    readonly claim: Claim,
    readonly protocol: Protocol,
    readonly keys: LockKeys
  ) {
    super()
  }
}

export class RedisStore implements Store {
  readonly clock: LockClock
  readonly capabilities: ReadonlySet<Capability> = new Set([
    "semaphore",
    "readWriteLock",
    "reshare",
    "look",
    "maxHold",
    "holdAtLeast",
    "tick"
  ])
  /** Of each kind: the server says which of them a key is of. */
  private readonly linesOf = {
    lock: new Dictionary<Line>(),
    semaphore: new Dictionary<Line>(),
    readWriteLock: new Dictionary<Line>()
  }
  private readonly boundLines = new BoundLines()
  private readonly attempts = new Fifo<Attempt>()
  private strays = 0
  private closed = false
  private readonly around: Surroundings

  constructor(
    around: Omit<Surroundings, "serverTime">,
    private readonly prefix: string
  ) {
    this.clock = around.commands.clock
    this.around = { ...around, serverTime: undefined }
    around.messages.recipient = {
      onGrant: (message) => this.onGrant(message),
      onSubscribed: () => this.lines.forEach((line) => line.ask())
    }
  }

  private get lines(): ReadonlyArray<Line> {
    const plain = Object.values(this.linesOf).flatMap((lines) => lines.values)
    return this.boundLines.size === 0 ? plain : plain.concat(this.boundLines.all)
  }

  get lastAnswerAt(): number {
    return this.around.commands.transport.lastAnswerAt
  }

  acquire(claim: Claim, onExit: OnExit): () => void {
    if (isBound(claim)) return this.acquireBound(claim, onExit)
    const { keyPrefix = "" } = this.around.commands.transport.options
    const protocol = protocols[claim.kind]
    const line = this.linesOf[claim.kind].get(claim.key)
    const shared = protocol.shared && !this.closed ? line?.share(claim) : undefined
    if (line !== undefined && shared !== undefined) {
      onExit(new Granted(new RedisGrant(this.around.commands, line, shared)))
      return () => line.leaveTurn(shared)
    }
    // (mostly there is none, but where there is one, many want the key)
    const keys = line?.keys ?? lockKeys(keyPrefix, this.prefix, claim.key, protocol.several)
    const mistake =
      typeof keys === "string"
        ? new Impossible(keys)
        : this.closed
          ? this.closedError(claim.key)
          : undefined
    if (mistake !== undefined) {
      onExit(mistake)
      return nothing
    }
    return claim.waitMillis === 0
      ? this.acquireNow(claim, protocol, keys as LockKeys, onExit)
      : this.acquireInTurn(claim, protocol, keys as LockKeys, onExit)
  }

  private acquireBound(claim: Claim, onExit: OnExit): () => void {
    const { key, waitMillis } = claim
    const { keyPrefix = "" } = this.around.commands.transport.options
    const needed = lacking(claim, this.capabilities)
    const protocol = boundProtocol(claim)
    const keys = lockKeys(keyPrefix, this.prefix, key, protocol.several, true)
    if (this.closed || needed !== undefined || typeof keys === "string") {
      onExit(
        needed !== undefined
          ? notCapable("acquire", key, needed)
          : typeof keys === "string"
            ? new Impossible(keys)
            : this.closedError(key)
      )
      return nothing
    }
    return waitMillis === 0
      ? this.acquireNow(claim, protocol, keys, onExit)
      : this.acquireInTurn(claim, protocol, keys, onExit)
  }

  private acquireInTurn(
    claim: Claim,
    protocol: Protocol,
    keys: LockKeys,
    onExit: OnExit
  ): () => void {
    const line = this.line(claim.key, protocol, keys)
    const waiter = new Waiter(claim, this.clock.unsafeNow())
    const resume = (exit: Turn | Unavailable | StoreFailure): void =>
      onExit(exit instanceof Turn ? new Granted(grantOf(this.around.commands, line, exit)) : exit)
    line.join(waiter)
    if (waiter.exit === undefined) waiter.resume = resume
    else resume(waiter.exit)
    return () => {
      waiter.resume = undefined
      line.leave(waiter)
    }
  }

  private acquireNow(claim: Claim, protocol: Protocol, keys: LockKeys, onExit: OnExit): () => void {
    const { commands, owner, storeId } = this.around
    const token = makeToken(storeId)
    const args = [token, String(claim.ttlMillis), protocol.claimOf(claim, owner)]
    if (protocol.bounds !== undefined) args.push("", "", ...protocol.bounds)
    const call = commands.call(protocol.acquire, keys, args)
    const attempt = new Attempt(token, call, claim, protocol, keys)
    this.attempts.add(attempt)
    const forget = call.within(commands.timeoutMillis, (outcome) =>
      onExit(this.attempted(attempt, outcome))
    )
    return () => {
      forget()
      if (attempt.turn === undefined) this.undo(attempt)
      else attempt.line!.leaveTurn(attempt.turn)
    }
  }

  private attempted(attempt: Attempt, outcome: Outcome): AcquireExit {
    const { commands } = this.around
    const { call, claim, keys, protocol, token } = attempt
    // the close has given it back
    if (this.closed) return this.closedError(claim.key)
    const reply = replyOf(outcome)
    const now = this.clock.unsafeNow()
    const fencingToken = readFence(reply)
    const bound = protocol.bounds === undefined ? undefined : readBound(reply)
    const ttlMillis = bound === undefined ? claim.ttlMillis : bound.leftMillis
    if (fencingToken !== undefined) {
      if (now >= validUntil(call.sentAt, ttlMillis)) {
        this.undo(attempt)
        return tooLate(claim, now - call.sentAt)
      }
      this.attempts.delete(attempt)
      const line = (attempt.line = this.line(claim.key, protocol, keys))
      const tenure = new Tenure(
        token,
        claim.share,
        claim.limit,
        fencingToken,
        readFloor(reply, fencingToken),
        call.sentAt,
        ttlMillis,
        now,
        undefined
      )
      tenure.mayBeHeld(call.sentAt, bound?.holdMillis)
      attempt.turn = line.adopt(tenure, claim, readLast(reply))
      tellLimit(claim, readLimit(reply))
      return new Granted(grantOf(commands, line, attempt.turn))
    }
    const lastTick = readLastTick(reply)
    if (lastTick !== undefined) {
      this.attempts.delete(attempt)
      return new Unavailable(claim.key, 0, contentionOf(undefined, undefined, 0), lastTick)
    }
    const busy = readBusy(reply)
    if (busy === undefined) {
      this.undo(attempt)
      return storeError(commands, "acquire", claim.key, outcome)
    }
    this.attempts.delete(attempt)
    tellLimit(claim, busy.limit)
    return new Unavailable(claim.key, 0, contentionOf(busy, undefined, 0))
  }

  look(key: string, atMost: number, onExit: (exit: Look | StoreFailure) => void): Forget {
    const { commands } = this.around
    const { keyPrefix = "" } = commands.transport.options
    const keys = lockKeys(keyPrefix, this.prefix, key, true)
    if (typeof keys === "string") {
      onExit(new StoreFailure("look", key, keys, false))
      return nothing
    }
    const call = commands.call(look, keys, [String(atMost)])
    return call.within(commands.timeoutMillis, (outcome) =>
      onExit(
        (outcome._tag === "Answered" ? readLook(outcome.reply) : undefined) ??
          storeError(commands, "look", key, outcome)
      )
    )
  }

  /** Nobody is served any more; what is granted or queued for those who waited is given back. */
  close(onClosed: () => void): void {
    this.closed = true
    const held = this.lines.filter((line) => line.isHeld).map(({ key }) => key)
    if (held.length > 0) {
      this.around.warn(
        `The store is closed while ${held.length} of its locks ${held.length === 1 ? "is" : "are"} held (${JSON.stringify(held[0]!.slice(0, 200))}${held.length === 1 ? "" : ", …"}). They are not renewed any more, and are lost when their margins begin. Close the store's layer after everything that holds locks.`
      )
    }
    for (const line of this.lines) line.close(this.closedError(line.key))
    for (const attempt of this.attempts.all) this.undo(attempt)
    this.around.messages.close()
    this.around.commands.close(onClosed)
  }

  private undo(attempt: Attempt): void {
    if (!this.attempts.delete(attempt)) return
    const { call, claim, keys, protocol, token } = attempt
    this.around.commands.giveBack(call, protocol, keys, token, keptMillis(claim))
  }

  private onGrant(told: GrantMessage): void {
    const { key: stored, token, ttlMillis } = told
    const { commands, storeId } = this.around
    const { keyPrefix = "" } = commands.transport.options
    const prefix = keyPrefix + this.prefix
    if (this.closed || !token.startsWith(`${storeId}.`)) return
    const key = stored.startsWith(prefix) ? stored.slice(prefix.length) : ""
    const possible = Object.values(protocols).filter(({ several }) => several === told.several)
    for (const { kind } of possible) {
      if (this.linesOf[kind].get(key)?.onGrant(token, told, ttlMillis) === true) return
    }
    if (this.boundLines.of(key).some((line) => line.onGrant(token, told, ttlMillis))) return
    if (this.strays >= mostStrays) return
    // (under another name: behind a proxy that changes names)
    if (this.lines.some((line) => line.onGrant(token, told, ttlMillis))) return
    if (this.attempts.all.some((attempt) => attempt.token === token)) return
    if (key === "") return
    const keys = lockKeys(keyPrefix, this.prefix, key, told.several)
    if (typeof keys === "string") return
    // (of which kind the key is, the server knows)
    for (const protocol of possible) this.onStray(protocol, keys, token, ttlMillis)
  }

  /**
   * A grant for a token that nobody here has any more: an acquire can come to the server behind the
   * release that was to undo it, from a connection that was given up.
   */
  private onStray(protocol: Protocol, keys: LockKeys, token: string, ttlMillis: number): void {
    const { commands, heartbeatMillis } = this.around
    this.strays++
    this.clock.unsafeSchedule(this.clock.unsafeNow() + heartbeatMillis, () => this.strays--)
    commands.giveBack(undefined, protocol, keys, token, Math.min(ttlMillis, 3 * heartbeatMillis))
  }

  private closedError(key: string): StoreFailure {
    return new StoreFailure(
      "acquire",
      key,
      "The store is closed: its layer's scope has ended.",
      false
    )
  }

  private line(key: string, protocol: Protocol, keys: LockKeys): Line {
    if (protocol.bounds !== undefined) {
      return this.boundLines.line(key, protocol, keys, this.around)
    }
    const lines = this.linesOf[protocol.kind]
    let line = lines.get(key)
    if (line === undefined) {
      const made = new Line(key, protocol, keys, this.around, () => {
        if (lines.get(key) === made) lines.delete(key)
      })
      line = made
      lines.set(key, line)
    }
    return line
  }
}

const nothing = (): void => {}
