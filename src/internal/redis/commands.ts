/**
 * Scripts on a connection, below Effect: sent together where that is possible, watched, and undone
 * where nobody wants what they brought.
 */
import * as Effect from "effect/Effect"
import type { LockClock } from "../../LockStore.js"
import { maxDelay } from "../timing.js"
import { Call, type Carrier } from "./call.js"
import { type RedisClient, watchConnection } from "./client.js"
import { closedMessage, isServerError, messageOf, withoutTokens } from "./replyErrors.js"
import * as scripts from "./scripts.js"
import type { Script } from "./scripts.js"

/** Larger ones make client and server wait for each other. */
const batchSize = 16

/** What an ioredis client's status is while it has no connection, and will have one. */
const disconnected: ReadonlySet<string> = new Set([
  "connecting",
  "connect",
  "close",
  "reconnecting"
])

/** How fast the slowest answer is forgotten, which can have been a stall of this process. */
const halfLife = 5_000

/** What ioredis says of a command that it has not sent, and will not. */
const notWriteable = "Stream isn't writeable"

/** What `batch` takes of each call, in the order in which it takes them. */
const inBatch = new Map<Script, { readonly keys: ReadonlyArray<number>; readonly args: number }>([
  [scripts.release, { keys: [0, 2], args: 1 }],
  [scripts.renew, { keys: [0], args: 2 }],
  [scripts.acquire, { keys: [0, 2, 1], args: 3 }]
])

/** Scripts on one client. */
export class Commands implements Carrier {
  /** Counts the connections: a command that was sent on an earlier one may have been sent again. */
  connection = 0
  /** The last trouble with the connection: why nothing is answered. */
  lastError: unknown = undefined

  private lastAnswerAt = 0
  /** The slowest answer of late: a maximum that fades. */
  private slowest = 0
  private silentSince = 0
  private connectedAt = 0
  private demotedAt = Number.NEGATIVE_INFINITY
  private readyAt = 0
  /** The connection that is being replaced: once is enough. */
  private suspected = -1
  private readonly loaded = new Set<Script>()
  /** Keys of one call must be in one slot of a Cluster: there, every call stands alone. */
  private batches: boolean
  private waiting: Array<Call> = []
  /** While there is no connection: a client would keep, and send, what nobody wants any more. */
  private readonly parked = new Set<Call>()
  /** Whether the client would (or else say at once that there is no connection). */
  private readonly queues: boolean
  /** Whether the client is known to send unfulfilled commands again. */
  private readonly resends: boolean
  private undoing = 0
  private whenUndone: Array<() => void> = []
  private closed = false
  private readonly unwatch: () => void

  constructor(
    readonly client: RedisClient,
    readonly clock: LockClock,
    readonly timeoutMillis: number,
    /** Only a client of our own may be reconnected, and closed. */
    private readonly owned: boolean
  ) {
    this.batches = client.isCluster !== true
    this.queues = client.options?.enableOfflineQueue !== false
    this.resends = owned || client.isCluster === true
    this.unwatch = watchConnection(client, {
      onConnect: () => {
        this.connectedAt = clock.unsafeNow()
      },
      onReady: () => {
        this.readyAt = clock.unsafeNow()
        this.lastError = undefined
        this.unpark()
      },
      onEnd: () => this.unpark(),
      onClose: () => {
        this.connection++
      },
      onError: (error) => {
        this.lastError = this.withoutSecrets(error)
      }
    })
  }

  /** `contended`: others want the key, so that a batch would answer it with nothing. */
  call(
    script: Script,
    keys: ReadonlyArray<string>,
    args: ReadonlyArray<string>,
    patienceMillis = this.timeoutMillis,
    contended = false
  ): Call {
    const call = new Call(this, script, keys, args, patienceMillis)
    if (this.queues && disconnected.has(this.client.status)) this.parked.add(call)
    else this.dispatch(call, contended)
    return call
  }

  private dispatch(call: Call, contended: boolean): void {
    if (this.batches && !contended && inBatch.has(call.script)) {
      if (this.waiting.push(call) === 1) process.nextTick(this.flush)
    } else {
      this.send(call)
    }
  }

  /** There is a connection again, or there never will be: the client says which. */
  private unpark(): void {
    const parked = [...this.parked]
    this.parked.clear()
    for (const call of parked) {
      call.isSentNow()
      this.dispatch(call, false)
    }
  }

  /**
   * How long a silent connection is trusted by a command that must be answered within a ttl: long
   * enough for several answers as slow as the slowest of late, since a new connection takes three.
   */
  patience(ttlMillis: number): number {
    return Math.min(this.timeoutMillis, Math.max(50, ttlMillis / 6, 4 * this.slowest))
  }

  /** Gives back what a token holds, or its place in the queue. */
  release(keys: ReadonlyArray<string>, token: string, contended = false): Call {
    return this.call(scripts.release, keys, [token], this.timeoutMillis, contended)
  }

  failed(error: unknown): unknown {
    this.leaveReplica(error)
    return this.withoutSecrets(error)
  }

  /** A master that was demoted keeps its connections; its address may lead to the new one. */
  private leaveReplica(error: unknown): void {
    if (!this.owned || !isServerError(error) || !messageOf(error).startsWith("READONLY")) return
    const now = this.clock.unsafeNow()
    if (this.client.status !== "ready" || now < this.demotedAt + this.timeoutMillis) return
    this.demotedAt = now
    this.client.disconnect(true)
  }

  /**
   * ioredis attaches the command to its errors, with all arguments, and Redis repeats those of a
   * command that it does not know: a password, or a token. Errors are printed and logged; these must
   * not be.
   */
  private withoutSecrets(error: unknown): unknown {
    if (!(error instanceof Error)) return error
    const { password, redisOptions, sentinelPassword } = this.client.options ?? {}
    const hide = (text: string) =>
      [password, sentinelPassword, redisOptions?.password].reduce<string>(
        (shown, secret) =>
          secret === undefined || secret === null || secret === ""
            ? shown
            : shown.replaceAll(secret, "***"),
        withoutTokens(text)
      )
    const clean = new Error(hide(messageOf(error)))
    clean.name = error.name
    if (error.stack !== undefined) clean.stack = hide(error.stack)
    return "code" in error ? Object.assign(clean, { code: error.code }) : clean
  }

  answered(sentAt: number): void {
    const now = this.clock.unsafeNow()
    // on this connection: how long one was away says nothing of how fast answers are
    const took = now - Math.max(sentAt, this.readyAt)
    this.slowest = Math.max(took, this.slowest * 2 ** ((this.lastAnswerAt - now) / halfLife))
    this.lastAnswerAt = now
  }

  /** Some command was not answered in its time, and nothing has been answered since. */
  get silent(): boolean {
    return this.silentSince > this.lastAnswerAt
  }

  wentSilent(): void {
    this.silentSince = this.clock.unsafeNow()
  }

  private send(call: Call): void {
    // given up meanwhile, and undone: it must not come behind that
    if (call.settled !== undefined) return
    const { args, keys, script } = call
    this.execute(script, keys.length, keys.concat(args), call).then(call.onReply, call.onError)
  }

  /** By its digest; with its text the first time, and where the server has forgotten it. */
  private execute(
    script: Script,
    numberOfKeys: number,
    keysAndArgs: Array<string>,
    call?: Call
  ): Promise<unknown> {
    if (this.closed) return Promise.reject(new Error(closedMessage))
    try {
      if (!this.loaded.has(script)) {
        this.loaded.add(script)
        return this.client.eval(script.lua, numberOfKeys, ...keysAndArgs)
      }
      return this.client.evalsha(script.sha, numberOfKeys, ...keysAndArgs).catch((error) => {
        if (!messageOf(error).startsWith("NOSCRIPT") || call?.settled !== undefined) throw error
        return this.client.eval(script.lua, numberOfKeys, ...keysAndArgs)
      })
    } catch (error) {
      return Promise.reject(error)
    }
  }

  /** What many callers asked for in this turn of the event loop goes out together. */
  private readonly flush = (): void => {
    const waiting = this.waiting
    this.waiting = []
    for (let i = 0; i < waiting.length; i += batchSize) {
      const calls = waiting.slice(i, i + batchSize)
      if (calls.length === 1) this.send(calls[0]!)
      else this.sendTogether(calls)
    }
  }

  private sendTogether(calls: Array<Call>): void {
    const ordered: Array<Call> = []
    const keys: Array<string> = []
    const args: Array<string> = []
    const counts: Array<string> = []
    for (const [script, takes] of inBatch) {
      const before = ordered.length
      for (const call of calls) {
        if (call.script !== script) continue
        ordered.push(call)
        for (const index of takes.keys) keys.push(call.keys[index]!)
        for (let index = 0; index < takes.args; index++) args.push(call.args[index]!)
      }
      counts.push(String(ordered.length - before))
    }
    const answered = (answers: unknown) => {
      ordered.forEach((call, index) => {
        const answer = Array.isArray(answers) ? answers[index] : null
        // not a free lock without a queue, or some trouble of its own: by itself, then
        if (answer === null || answer === undefined) this.send(call)
        else call.onReply(answer)
      })
    }
    this.execute(scripts.batch, keys.length, keys.concat(counts, args)).then(answered, (error) => {
      // refused as a whole, or perhaps applied: each finds out for itself
      // (a proxy in front of a Cluster refuses every batch)
      if (messageOf(error).startsWith("CROSSSLOT")) this.batches = false
      if (isServerError(error)) answered(null)
      else for (const call of ordered) call.onError(error)
    })
  }

  /**
   * Gives back what a token has got, or will have when the call about it that is still on its way has
   * settled: the release must not overtake that (the second try after NOSCRIPT comes last). Tried
   * again until it is answered, or the ttl has done its work.
   */
  giveBack(
    onItsWay: Call | undefined,
    keys: ReadonlyArray<string>,
    token: string,
    ttlMillis: number
  ): void {
    if (onItsWay !== undefined && this.neverSent(onItsWay)) return
    let until = Number.POSITIVE_INFINITY
    let pause = 100
    const attempt = (): void => {
      // it can have been applied just now, however long ago it was sent
      until = Math.min(until, this.clock.unsafeNow() + ttlMillis)
      this.release(keys, token).whenSettled((outcome) => {
        const now = this.clock.unsafeNow()
        const over = outcome._tag === "Answered" || now > until || this.closed
        if (over || this.client.status === "end") return this.undone()
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
    if (call.script !== scripts.acquire) return false
    if (this.parked.delete(call)) {
      call.onError(new Error("There was no connection to send it on."))
      return true
    }
    return call.settled?._tag === "Failed" && messageOf(call.settled.error).startsWith(notWriteable)
  }

  private undone(): void {
    if (--this.undoing > 0) return
    const waiting = this.whenUndone
    this.whenUndone = []
    for (const resume of waiting) resume()
  }

  /**
   * Whether the client will never say what became of a command of an earlier connection: the
   * present one has had the time to answer it. (ioredis drops such commands without a word where it
   * is told not to send them again, as a user's client can be.)
   */
  hasForgotten(connection: number, patienceMillis: number): boolean {
    if (this.closed) return true
    return (
      !this.resends &&
      connection !== this.connection &&
      this.client.status === "ready" &&
      this.clock.unsafeNow() >= this.readyAt + patienceMillis
    )
  }

  /**
   * Replaces a connection that has said nothing since a command was sent on it, or that was opened
   * and never became ready. (A connection that is being opened has ioredis's own deadline.)
   */
  suspect(sentAt: number, patienceMillis: number): void {
    if (!this.owned) return
    const { status } = this.client
    // since it was sent, or sent again on this connection, or something else was answered
    const silentSince = Math.max(sentAt, this.readyAt, this.lastAnswerAt)
    const silent = status === "ready" && this.clock.unsafeNow() + 10 >= silentSince + patienceMillis
    const stuck =
      status === "connect" && this.clock.unsafeNow() > this.connectedAt + this.timeoutMillis / 2
    if (!(silent || stuck) || this.suspected === this.connection) return
    this.suspected = this.connection
    this.client.disconnect(true)
  }

  /** Waits for what is being undone, at most one command deadline; then lets go of the client. */
  get close(): Effect.Effect<void> {
    return Effect.async<void>((resume) => {
      const end = () => {
        if (this.closed) return
        this.closed = true
        this.unwatch()
        if (this.owned) this.client.disconnect()
        this.unpark()
        resume(Effect.void)
      }
      if (this.undoing === 0) return end()
      this.whenUndone.push(end)
      // (somebody waits for it: unlike other timers of the store it keeps the process alive)
      const atMost = setTimeout(end, Math.min(this.timeoutMillis, maxDelay))
      this.whenUndone.push(() => clearTimeout(atMost))
    })
  }
}
