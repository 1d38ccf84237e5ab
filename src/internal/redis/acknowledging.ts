/**
 * Answers that count only when others than the master have what they say: grants, and renewals. Such an answer
 * is kept from its call until it was acknowledged, so that for everything else in the store it comes later; and
 * where it is not acknowledged, the call has failed.
 *
 * Those that are answered while one question is on its way are in the next one.
 */
import { isolated } from "../common/isolated.js"
import {
  acknowledge,
  type Answered,
  argsOf,
  notThere,
  type Seen,
  type Terms
} from "./acknowledgeScript.js"
import { readBound, readFence } from "./answers.js"
import { Call, type Carrier, type Outcome } from "./call.js"
import { messageOf } from "./replyErrors.js"
import type { Script } from "./lua.js"
import { alone } from "./parcel.js"
import type { Route, Transport } from "./transport.js"

/** The answer of the server is not enough, or there is none. */
export class Unacknowledged extends Error {
  override readonly name: string
  constructor(why: string, isFinal = false) {
    super(`It was not acknowledged, so it does not count. ${why}`)
    // (as an error of the server, which it would repeat)
    this.name = isFinal ? "ReplyError" : "Unacknowledged"
  }
}

export const isUnacknowledged = (outcome: Outcome): boolean =>
  outcome._tag === "Failed" && outcome.error instanceof Unacknowledged

/** What these answer can be a proof. */
const proving: ReadonlySet<string> = new Set([
  "acquire",
  "heartbeat",
  "adopt",
  "pass",
  "renew",
  "reshare"
])

export const proves = ({ name }: Script): boolean => proving.has(name)

/** For how many ms from its sending on the answer says that a token holds; `undefined`: it does not say so. */
const provenBy = ({ args, script }: Call, reply: unknown): number | undefined => {
  const isRenewed = (script.name === "renew" || script.name === "reshare") && Number(reply) === 1
  const bound = readBound(reply)
  if (bound !== undefined) return bound.leftMillis
  return isRenewed || readFence(reply) !== undefined ? Number(args[1]) : undefined
}

/** A call whose answer may have to wait. */
export class AcknowledgedCall extends Call {
  private isHeld = false
  private isLetGo = false

  constructor(
    private readonly acknowledging: Acknowledging,
    carrier: Carrier,
    script: Script,
    keys: ReadonlyArray<string>,
    args: ReadonlyArray<string>,
    patienceMillis: number
  ) {
    super(carrier, script, keys, args, patienceMillis)
  }

  override get isAnswered(): boolean {
    return this.isHeld || super.isAnswered
  }

  override reply(reply: unknown, sentAt: number, byOneKey = false): void {
    if (this.isAnswered) return
    const provenMillis = this.isLetGo ? undefined : provenBy(this, reply)
    if (provenMillis === undefined) return super.reply(reply, sentAt, byOneKey)
    this.isHeld = true
    this.carrier.settled(this)
    this.acknowledging.ask(this.keys[0]!, this.args[0]!, (heldUntil) => {
      this.isHeld = false
      if (heldUntil instanceof Unacknowledged) return this.fail(heldUntil)
      // (of what a renewal has brought, another server may know nothing: what it has counts)
      super.reply(reply, Math.min(sentAt, heldUntil - provenMillis), byOneKey)
    })
  }

  /** What becomes of another copy of it says nothing any more. */
  override fail(error: unknown): void {
    if (!this.isHeld || this.isLetGo) super.fail(error)
  }

  override abandon(): void {
    this.isLetGo = true
    super.abandon()
  }
}

/** So long the token holds the key; or why that is not known. */
type OnSeen = (heldUntil: number | Unacknowledged) => void

/** An answer that waits. (No literal: see `Outcome`.) */
class Held {
  constructor(
    readonly key: string,
    readonly token: string,
    readonly onSeen: OnSeen
  ) {}
}

/** What waits for one connection. */
class Waiting {
  held: Array<Held> = []
  isUnderway = false
}

export class Acknowledging {
  private readonly waiting = new WeakMap<Route, Waiting>()

  constructor(
    /** For nothing but questions: a WAIT makes everything wait that is behind it. */
    private readonly transport: Transport,
    private readonly terms: Terms
  ) {}

  /** Calls back when it has been acknowledged that the token holds the key, or was not. */
  ask(key: string, token: string, onSeen: OnSeen): void {
    const route = this.transport.routeOf(key)
    let waiting = this.waiting.get(route)
    if (waiting === undefined) this.waiting.set(route, (waiting = new Waiting()))
    waiting.held.push(new Held(key, token, onSeen))
    this.plan(route, waiting)
  }

  /** What is answered in one turn of the event loop waits together. */
  private plan(route: Route, waiting: Waiting): void {
    if (waiting.isUnderway) return
    waiting.isUnderway = true
    process.nextTick(() => this.send(route, waiting))
  }

  private send(route: Route, waiting: Waiting): void {
    const { held } = waiting
    const { terms } = this
    waiting.held = []
    const question = new Call(
      route,
      acknowledge,
      held.map(({ key }) => key),
      argsOf(
        terms,
        held.map(({ token }) => token)
      ),
      terms.withinMillis + Math.max(50, route.timeoutMillis / 8)
    )
    // (long enough for another connection, where this one leads nowhere)
    question.within(terms.withinMillis + route.timeoutMillis / 4, (outcome) => {
      waiting.isUnderway = false
      if (waiting.held.length > 0) this.plan(route, waiting)
      if (outcome._tag === "Silent") question.abandon()
      held.forEach(({ onSeen }, index) =>
        isolated(onSeen, this.heldUntil(question, outcome, index))
      )
    })
    if (route.isReady) route.send(alone(question))
    else route.keep(question)
  }

  private heldUntil(question: Call, outcome: Outcome, index: number): number | Unacknowledged {
    if (outcome._tag === "Silent") {
      return new Unacknowledged(
        "There was no answer on the connection on which the server is asked for that."
      )
    }
    if (outcome._tag === "Failed") {
      const message = messageOf(outcome.error)
      return new Unacknowledged(message.endsWith(notThere) ? notThere : message)
    }
    const { answered, left } = (outcome.reply as ReadonlyArray<Seen>)[index]!
    if (answered instanceof Error) return refused(answered, this.terms)
    if (left instanceof Error) return new Unacknowledged(messageOf(left))
    if (left < 0) return new Unacknowledged(notThere)
    return lacking(answered, this.terms) ?? question.sentAt + left
  }

  end(): void {
    this.transport.end()
  }
}

/** Why an answer is not enough. */
const lacking = (
  { connected, onDisk, replicas }: Answered,
  { disk, replicas: wanted, withinMillis }: Terms
): Unacknowledged | undefined => {
  if (replicas < wanted) {
    const few =
      connected !== undefined && connected < wanted
        ? ` The option acknowledged.replicas is ${wanted}, and the server has ${connected} connected.`
        : ""
    return new Unacknowledged(
      `${replicas} of ${wanted} replicas answered within ${withinMillis} ms.${few}`
    )
  }
  if (!disk || onDisk) return undefined
  return new Unacknowledged(
    `It was not on the server's disk within ${withinMillis} ms. (With appendfsync everysec that takes a second or more: see the option acknowledged.within.)`
  )
}

/** WAIT or WAITAOF was refused. */
const refused = (error: Error, { disk, replicas }: Terms): Unacknowledged => {
  const message = messageOf(error).replace(/\.*$/, ".")
  const option = disk ? "acknowledged.disk is true" : `acknowledged.replicas is ${replicas}`
  const isUnknown = /unknown command/i.test(message)
  const hasNoFile = /appendonly/i.test(message)
  const why = hasNoFile
    ? " Start the server with appendonly yes."
    : isUnknown && disk
      ? " Servers from 7.2 on know WAITAOF."
      : ""
  return new Unacknowledged(
    `The option ${option}, and the server says: ${message}${why}`,
    hasNoFile || isUnknown || /^NOPERM|no permissions/i.test(message)
  )
}
