/** Leases in one Redis (or Sentinel group, or Cluster): one script per step. */
import { Dictionary } from "../common/dictionary.js"
import {
  type AcquireExit,
  allCapabilities,
  type Claim,
  Granted,
  Impossible,
  keptMillis,
  lacking,
  type LockClock,
  notCapable,
  type Store,
  type StoreFailure,
  Unavailable
} from "../engine.js"
import { Fifo } from "../common/fifo.js"
import { validUntil } from "../common/timing.js"
import { makeToken } from "../common/token.js"
import { askToAdopt, lossBy, lossIn, unusedEnding } from "./adoption.js"
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
import { Attempt } from "./attempt.js"
import { grantOf } from "./boundGrant.js"
import { BoundLines } from "./boundLines.js"
import { boundProtocol, isBound } from "./bounds.js"
import type { Call, Outcome } from "./call.js"
import { Doubts } from "./doubts.js"
import { closedError, storeError, tooLate } from "./errors.js"
import { RedisGrant } from "./grant.js"
import { type LockKeys, lockKeys, revokedKey, tickKey } from "./layout.js"
import { Line } from "./line.js"
import type { GrantMessage } from "./messages.js"
import { Inspection } from "./inspection.js"
import { type Protocol, protocols } from "./protocol.js"
import { Strays } from "./strays.js"
import type { Surroundings } from "./surroundings.js"
import { Tenure, Turn } from "./tenure.js"
import { contentionOf, tellLimit, Waiter } from "./waiter.js"

type OnExit = (exit: AcquireExit) => void
type Asked<Member extends "look" | "keys" | "revoke" | "identify"> = NonNullable<Store[Member]>

export class RedisStore implements Store {
  readonly clock: LockClock
  readonly capabilities = allCapabilities
  /** Of each kind: the server says which of them a key is of. */
  private readonly linesOf = {
    lock: new Dictionary<Line>(),
    semaphore: new Dictionary<Line>(),
    readWriteLock: new Dictionary<Line>()
  }
  private readonly boundLines = new BoundLines()
  private readonly attempts = new Fifo<Attempt>()
  private readonly strays: Strays
  private closed = false
  private readonly around: Surroundings
  private readonly inspection: Inspection
  readonly identify?: Asked<"identify">

  constructor(
    around: Omit<Surroundings, "serverTime" | "doubts" | "ignored" | "revokedKey" | "tickKey">,
    private readonly prefix: string
  ) {
    this.clock = around.commands.clock
    this.around = {
      ...around,
      serverTime: undefined,
      doubts: new Doubts(this.clock),
      ignored: new Set(),
      revokedKey: (key) => revokedKey(this.clientPrefix, prefix, key),
      tickKey: (key) => tickKey(this.clientPrefix, prefix, key)
    }
    // (a Cluster forgets leases by the slot, and its masters have no run in common)
    if (!around.commands.transport.isCluster) {
      this.identify = (onExit) => this.inspection.identify(onExit)
    }
    this.strays = new Strays(this.around)
    this.inspection = new Inspection(
      this.around,
      prefix,
      (key) => lockKeys(this.clientPrefix, prefix, key, true),
      (key) => this.linesOfKey(key)
    )
    around.messages.recipient = {
      onGrant: (message) => this.onGrant(message),
      onSubscribed: () => this.lines.forEach((line) => line.ask())
    }
  }

  private get lines(): ReadonlyArray<Line> {
    const plain = Object.values(this.linesOf).flatMap((lines) => lines.values)
    return this.boundLines.size === 0 ? plain : plain.concat(this.boundLines.all)
  }

  private linesOfKey(key: string): ReadonlyArray<Line> {
    const plain = Object.values(this.linesOf).flatMap((lines) => lines.get(key) ?? [])
    return plain.concat(this.boundLines.of(key))
  }

  private get clientPrefix(): string {
    return this.around.commands.transport.options.keyPrefix ?? ""
  }

  get identity(): string {
    const { db = 0 } = this.around.commands.transport.options
    return `Redis, database ${db}, prefix ${JSON.stringify(this.clientPrefix + this.prefix)}`
  }

  get answeredAt(): number {
    const { answeredAt, lastAnswerAt } = this.around.commands.transport
    return answeredAt ?? lastAnswerAt
  }

  acquire(claim: Claim, onExit: OnExit): () => void {
    if (isBound(claim)) return this.acquireBound(claim, onExit)
    const protocol = protocols[claim.kind]
    const line = this.linesOf[claim.kind].get(claim.key)
    const mayShare = protocol.shared && !this.closed && claim.adopt === undefined
    const shared = mayShare ? line?.share(claim) : undefined
    if (line !== undefined && shared !== undefined) {
      onExit(new Granted(new RedisGrant(this.around.commands, line, shared)))
      return () => line.leaveTurn(shared)
    }
    // (mostly there is none, but where there is one, many want the key)
    const keys = line?.keys ?? lockKeys(this.clientPrefix, this.prefix, claim.key, protocol.several)
    return this.ask(claim, protocol, keys, onExit)
  }

  private acquireBound(claim: Claim, onExit: OnExit): () => void {
    const needed = lacking(claim, this.capabilities)
    if (needed !== undefined) {
      onExit(notCapable("acquire", claim.key, needed))
      return nothing
    }
    const protocol = boundProtocol(claim)
    const keys = lockKeys(this.clientPrefix, this.prefix, claim.key, protocol.several, true)
    return this.ask(claim, protocol, keys, onExit)
  }

  private ask(
    claim: Claim,
    protocol: Protocol,
    keys: LockKeys | string,
    onExit: OnExit
  ): () => void {
    if (typeof keys === "string") {
      onExit(new Impossible(keys))
      return nothing
    }
    if (this.closed) {
      onExit(closedError(claim.key))
      return nothing
    }
    return claim.waitMillis === 0 || claim.adopt !== undefined
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
    let call: Call
    if (claim.adopt !== undefined) {
      call = askToAdopt(this.around, claim, protocol, keys, args)
    } else {
      if (protocol.bounds !== undefined) args.push("", "", ...protocol.bounds)
      call = commands.call(protocol.acquire, keys, args)
    }
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
    if (this.closed) return closedError(claim.key)
    const reply = replyOf(outcome)
    const now = this.clock.unsafeNow()
    const fencingToken = readFence(reply)
    const bound = protocol.bounds === undefined ? undefined : readBound(reply)
    const ttlMillis = bound === undefined ? claim.ttlMillis : bound.leftMillis
    if (fencingToken !== undefined) {
      if (now >= validUntil(call.sentAt, ttlMillis)) {
        this.undo(attempt)
        return lossBy(claim, bound, call.sentAt, now) ?? tooLate(claim, now - call.sentAt)
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
      attempt.turn = line.adopt(tenure, claim, readLast(reply, fencingToken))
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
      const operation = claim.adopt === undefined ? "acquire" : "adopt"
      return lossIn(claim, outcome) ?? storeError(commands, operation, claim.key, outcome)
    }
    this.attempts.delete(attempt)
    tellLimit(claim, busy.limit)
    return new Unavailable(claim.key, 0, contentionOf(busy, undefined, 0))
  }

  readonly look: Asked<"look"> = (...question) => this.inspection.look(...question)
  readonly keys: Asked<"keys"> = (...question) => this.inspection.keys(...question)
  readonly revoke: Asked<"revoke"> = (...question) => this.inspection.revoke(...question)

  /** Nobody is served any more; what is granted or queued for those who waited is given back. */
  close(onClosed: () => void): void {
    this.closed = true
    const held = this.lines.filter((line) => line.isHeld).map(({ key }) => key)
    if (held.length > 0) {
      this.around.warn(
        `The store is closed while ${held.length} of its locks ${held.length === 1 ? "is" : "are"} held (${JSON.stringify(held[0]!.slice(0, 200))}${held.length === 1 ? "" : ", …"}). They are not renewed any more, and are lost when their margins begin. Close the store's layer after everything that holds locks.`
      )
    }
    for (const line of this.lines) line.close(closedError(line.key))
    for (const attempt of this.attempts.all) this.undo(attempt)
    this.around.messages.close()
    this.around.commands.close(onClosed)
  }

  private undo(attempt: Attempt): void {
    if (!this.attempts.delete(attempt)) return
    const { call, claim, keys, protocol, token } = attempt
    const ending = unusedEnding(claim)
    this.around.commands.giveBack(call, protocol, keys, token, keptMillis(claim), ending)
  }

  private onGrant(told: GrantMessage): void {
    const { key: stored, token, ttlMillis } = told
    const { storeId } = this.around
    const prefix = this.clientPrefix + this.prefix
    if (this.closed || !token.startsWith(`${storeId}.`)) return
    if (this.around.ignored.has(token)) return
    const key = stored.startsWith(prefix) ? stored.slice(prefix.length) : ""
    const possible = Object.values(protocols).filter(({ several }) => several === told.several)
    for (const { kind } of possible) {
      if (this.linesOf[kind].get(key)?.onGrant(token, told, ttlMillis) === true) return
    }
    if (this.boundLines.of(key).some((line) => line.onGrant(token, told, ttlMillis))) return
    // (it only asks: nothing was granted)
    if (!Number.isFinite(told.fencingToken)) {
      for (const lines of Object.values(this.linesOf))
        lines.get(key)?.onGrant(token, told, ttlMillis)
      return
    }
    if (this.strays.areMany) return
    // (under another name: behind a proxy that changes names)
    if (this.lines.some((line) => line.onGrant(token, told, ttlMillis))) return
    if (this.attempts.all.some((attempt) => attempt.token === token)) return
    if (key === "") return
    const keys = lockKeys(this.clientPrefix, this.prefix, key, told.several)
    if (typeof keys === "string") return
    // (of which kind the key is, the server knows)
    for (const protocol of possible) this.strays.giveBack(protocol, keys, token, ttlMillis)
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
