/**
 * Scripts on a transport: sent together where that is possible, and undone where nobody needs what
 * they brought.
 */
import type { LockClock } from "../engine.js"
import { maxDelay } from "../common/timing.js"
import { AcknowledgedCall, type Acknowledging, proves } from "./acknowledging.js"
import { readOwnership } from "./answers.js"
import { Call } from "./call.js"
import { nodeKey } from "./layout.js"
import { alone, canTravelTogether, pack } from "./parcel.js"
import { Probe } from "./probe.js"
import { closedMessage, isFinal, isOnItsWay, messageOf } from "./replyErrors.js"
import type { Script } from "./lua.js"
import type { Protocol } from "./protocol.js"
import type { Route, Transport } from "./transport.js"

/** The error of ioredis for a command that it has not sent and will not send. */
const notWriteable = "Stream isn't writeable"

export class Commands {
  readonly clock: LockClock
  /** How long a command may take. */
  readonly timeoutMillis: number

  private readonly prefix: string
  private readonly waiting: Array<Call> = []
  private undoing = 0
  private whenUndone: Array<() => void> = []
  private closed = false

  /** Finds out whether calls may travel together; `undefined`: they never do. */
  private readonly probe: Probe | undefined

  constructor(
    readonly transport: Transport,
    options: { readonly batch: boolean; readonly prefix: string } = { batch: false, prefix: "" },
    /** Sees to it that what proves something counts only when others have it; `undefined`: it counts at once. */
    readonly acknowledging?: Acknowledging
  ) {
    this.clock = transport.clock
    this.timeoutMillis = transport.timeoutMillis
    this.prefix = options.prefix
    this.probe =
      options.batch && !transport.isCluster
        ? new Probe(this, options.prefix, () => {
            transport.together = true
          })
        : undefined
  }

  /** `contended`: others want the key, so that a batch would answer it with nothing. */
  call(
    script: Script,
    keys: ReadonlyArray<string>,
    args: ReadonlyArray<string>,
    patienceMillis = this.patience(keys[0]!, 1.5 * this.timeoutMillis),
    contended = false
  ): Call {
    const route = this.routeOf(keys[0]!)
    const { acknowledging } = this
    const call =
      acknowledging !== undefined && proves(script)
        ? new AcknowledgedCall(acknowledging, route, script, keys, args, patienceMillis)
        : new Call(route, script, keys, args, patienceMillis)
    // (not before the caller listens)
    if (this.closed) queueMicrotask(() => call.fail(new Error(closedMessage)))
    else if (!route.isReady) route.keep(call)
    else if (contended || this.probe === undefined || !canTravelTogether(script)) {
      route.send(alone(call))
    } else if (this.waiting.push(call) === 1) process.nextTick(this.flush)
    return call
  }

  /** What carries calls about that key, which is without the client's own prefix. */
  routeOf(key: string): Route {
    return this.transport.routeOf(key)
  }

  /** The same, of a key as its user names it. */
  routeOfLock(key: string): Route {
    return this.routeOf(this.prefix + key)
  }

  /** Where it stands since when the server is a node of a quorum. */
  get nodeKey(): string {
    return nodeKey(this.prefix)
  }

  /** What many callers asked for in this turn of the event loop goes out together. */
  private readonly flush = (): void => {
    // (without those that were given up in the same turn: nobody undoes what was never sent)
    const waiting = this.waiting.splice(0).filter((call) => call.settled === undefined)
    for (const parcel of pack(waiting, this.transport.together)) {
      this.routeOf(parcel.keys[0]!).send(parcel)
    }
    if (waiting.length > 1 && !this.transport.together) this.probe?.ask()
  }

  /**
   * How long an answer about a key is waited for before the connection is doubted, where the answer is of use
   * for so many milliseconds: so that another connection can be made and answer within them, and
   * that one which is merely slow is not doubted each time.
   */
  patience(key: string, withinMillis: number): number {
    const slow = Math.min(withinMillis / 4, 2 * this.routeOf(key).slowestMillis)
    return Math.max(50, withinMillis / 6, slow)
  }

  /**
   * Gives back what a token holds, or its place in the queue. `ending`: what a release has more where it
   * is that of a lease that was used.
   */
  release(
    { release }: Protocol,
    keys: ReadonlyArray<string>,
    token: string,
    contended = false,
    ending?: ReadonlyArray<string>
  ): Call {
    const args = ending === undefined ? [token] : [token, ...ending]
    return this.call(release, keys, args, undefined, contended)
  }

  /**
   * Gives back what a token has got, or will have when the call about it that is still on its way has
   * settled: the release must not overtake that (the second try after NOSCRIPT comes last). Tried
   * again until it is answered, is refused for good, or the ttl has done its work.
   */
  giveBack(
    onItsWay: Call | undefined,
    protocol: Protocol,
    keys: ReadonlyArray<string>,
    token: string,
    ttlMillis: number,
    ending?: ReadonlyArray<string>
  ): void {
    if (onItsWay !== undefined && this.neverSent(onItsWay)) return
    let until = Number.POSITIVE_INFINITY
    let pause = 100
    const attempt = (): void => {
      // it can have been applied just now, however long ago it was sent
      until = Math.min(until, this.clock.unsafeNow() + ttlMillis)
      const call = this.release(protocol, keys, token, false, ending)
      call.until(until, (outcome) => {
        if (outcome._tag === "Silent") call.abandon()
        const now = this.clock.unsafeNow()
        const refused = outcome._tag === "Failed" && isFinal(outcome.error)
        // by one key it was not found to be held: the queue may have it
        const isLeft = call.byOneKey && readOwnership(outcome) !== "Ours"
        const answered = outcome._tag !== "Failed" && !isLeft
        const over = answered || refused || now > until || this.closed
        if (over || this.routeOf(keys[0]!).ended) return this.undone()
        pause = Math.min(2 * pause, 5_000)
        this.clock.unsafeSchedule(now + pause, attempt)
      })
    }
    this.undoing++
    if (onItsWay === undefined) attempt()
    else onItsWay.whenSettled(attempt)
  }

  /** The first command about a token, which has not gone out, and will not: there is nothing to undo. */
  private neverSent(call: Call): boolean {
    call.abandon()
    if (call.script.name !== "acquire" || call.settled?._tag !== "Failed") return false
    const { error } = call.settled
    // (a client that was refused it in the end can have sent it before, on another connection)
    if (call.timesSent === 0) return !call.resent || !isOnItsWay(error)
    return messageOf(error).startsWith(notWriteable)
  }

  private undone(): void {
    if (--this.undoing > 0) return
    const waiting = this.whenUndone
    this.whenUndone = []
    for (const resume of waiting) resume()
  }

  /**
   * Waits for commands that undo something, one command deadline at most; then releases the client.
   */
  close(onClosed: () => void): void {
    const end = () => {
      if (this.closed) return
      this.closed = true
      this.transport.end()
      this.acknowledging?.end()
      onClosed()
    }
    if (this.undoing === 0) return end()
    this.whenUndone.push(end)
    // (somebody waits for it: unlike other timers of the store it keeps the process alive)
    const atMost = setTimeout(end, Math.min(this.timeoutMillis, maxDelay))
    this.whenUndone.push(() => clearTimeout(atMost))
  }
}
