/**
 * Scripts on a connection, below Effect: each call knows when it was sent, on which connection, and
 * what became of it, also after its caller has gone. What is left to be undone is undone here.
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type { LockClock, ScheduledCall } from "../../LockStore.js"
import type { RedisClient } from "./client.js"
import type { Script } from "./scripts.js"

export type Outcome =
  | { readonly _tag: "Answered"; readonly reply: unknown }
  | { readonly _tag: "Failed"; readonly error: unknown }
  /** No answer within the deadline. One can still come. */
  | { readonly _tag: "Silent" }

/** A script call that was handed to the client. */
export class Call {
  readonly sentAt: number
  /** What came of it; `undefined` while nothing did. */
  settled: Outcome | undefined = undefined

  private readonly connection: number
  private readonly observers: Array<(outcome: Outcome) => void> = []
  private deadline: ScheduledCall | undefined

  constructor(
    private readonly commands: Commands,
    script: Script,
    keysAndArgs: Array<string>,
    numberOfKeys: number
  ) {
    this.sentAt = commands.clock.unsafeNow()
    this.connection = commands.connection
    this.deadline = commands.clock.unsafeSchedule(
      this.sentAt + commands.timeoutMillis,
      this.onDeadline
    )
    commands.execute(script, numberOfKeys, keysAndArgs).then(this.onReply, this.onError)
  }

  /** Whether the connection was renewed since: the command may have been applied twice. */
  get resent(): boolean {
    return this.connection !== this.commands.connection
  }

  /** Calls back when the command has settled, however late. */
  whenSettled(observer: (outcome: Outcome) => void): void {
    if (this.settled !== undefined) observer(this.settled)
    else this.observers.push(observer)
  }

  /** The outcome, at the command deadline at the latest. */
  get bounded(): Effect.Effect<Outcome> {
    return Effect.async((resume) => {
      if (this.settled !== undefined) return resume(Exit.succeed(this.settled))
      this.onSilence = () => resume(Exit.succeed({ _tag: "Silent" }))
      this.observers.push((outcome) => resume(Exit.succeed(outcome)))
    })
  }

  /** The outcome, whenever it comes. For callers that have a deadline of their own. */
  get unbounded(): Effect.Effect<Outcome> {
    return Effect.async((resume) => this.whenSettled((outcome) => resume(Exit.succeed(outcome))))
  }

  private onSilence: (() => void) | undefined

  private readonly onDeadline = (): void => {
    this.deadline = undefined
    this.commands.suspect(this)
    this.onSilence?.()
  }

  private readonly onReply = (reply: unknown): void => {
    this.commands.lastAnswerAt = this.commands.clock.unsafeNow()
    this.settle({ _tag: "Answered", reply })
  }

  private readonly onError = (error: unknown): void => this.settle({ _tag: "Failed", error })

  private settle(outcome: Outcome): void {
    this.deadline?.cancel()
    this.settled = outcome
    for (const observer of this.observers) observer(outcome)
  }
}

export class Commands {
  /** Counts the connections: a command that was sent on an earlier one may have been sent again. */
  connection = 0
  lastAnswerAt = 0
  /** The last trouble with the connection: why nothing is answered. */
  lastError: unknown = undefined

  private readonly loaded = new Set<Script>()
  private undoing = 0
  private whenUndone: Array<() => void> = []
  private closed = false

  constructor(
    readonly client: RedisClient,
    readonly clock: LockClock,
    readonly timeoutMillis: number,
    /** Only a client of our own may be reconnected, and closed. */
    private readonly owned: boolean
  ) {
    client.on("close", this.onClose)
    client.on("error", this.onError)
    client.on("ready", this.onReady)
  }

  call(script: Script, keys: ReadonlyArray<string>, args: ReadonlyArray<string>): Call {
    return new Call(this, script, [...keys, ...args], keys.length)
  }

  /** By its digest; with its text the first time, and where the server has forgotten it. */
  execute(script: Script, numberOfKeys: number, keysAndArgs: Array<string>): Promise<unknown> {
    try {
      if (!this.loaded.has(script)) {
        this.loaded.add(script)
        return this.client.eval(script.lua, numberOfKeys, ...keysAndArgs)
      }
      return this.client.evalsha(script.sha, numberOfKeys, ...keysAndArgs).catch((error) => {
        if (!messageOf(error).startsWith("NOSCRIPT")) throw error
        return this.client.eval(script.lua, numberOfKeys, ...keysAndArgs)
      })
    } catch (error) {
      return Promise.reject(error)
    }
  }

  /**
   * Undoes what a call whose caller has gone may have done, once it has settled: a command that
   * undoes must not overtake the one that does (the second try after NOSCRIPT comes last).
   * `undo` is tried again until it is answered, or until the ttl has done its work.
   */
  compensate(call: Call, ttlMillis: number, undo: (settled: Outcome) => Call | undefined): void {
    this.undoing++
    const done = () => {
      if (--this.undoing > 0) return
      const waiting = this.whenUndone
      this.whenUndone = []
      for (const resume of waiting) resume()
    }
    const attempt = (settled: Outcome): void => {
      const undoCall = undo(settled)
      if (undoCall === undefined) return done()
      undoCall.whenSettled((outcome) => {
        const expired = this.clock.unsafeNow() > call.sentAt + ttlMillis
        if (outcome._tag === "Answered" || expired || this.closed) return done()
        this.clock.unsafeSchedule(this.clock.unsafeNow() + 200, () => attempt(settled))
      })
    }
    call.whenSettled(attempt)
  }

  /** A connection that has said nothing since this call was sent is replaced by a new one. */
  suspect(call: Call): void {
    if (this.owned && this.client.status === "ready" && this.lastAnswerAt < call.sentAt) {
      this.client.disconnect(true)
    }
  }

  /** Waits for what is being undone, at most one command deadline; then lets go of the client. */
  get close(): Effect.Effect<void> {
    return Effect.async<void>((resume) => {
      const end = () => {
        if (this.closed) return
        this.closed = true
        this.client.off("close", this.onClose)
        this.client.off("ready", this.onReady)
        if (this.owned) this.client.disconnect()
        else this.client.off("error", this.onError)
        resume(Effect.void)
      }
      if (this.undoing === 0) return end()
      this.whenUndone.push(end)
      this.clock.unsafeSchedule(this.clock.unsafeNow() + this.timeoutMillis, end)
    })
  }

  private readonly onClose = () => {
    this.connection++
  }
  private readonly onReady = () => {
    this.lastError = undefined
  }
  private readonly onError = (error: unknown) => {
    this.lastError = error
  }
}

export const messageOf = (error: unknown): string =>
  error instanceof Error ? error.message : String(error)
