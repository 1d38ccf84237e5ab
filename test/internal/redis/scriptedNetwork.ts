/** A network whose connections do what the test says, for `Connections`. */
import { Call, type Outcome } from "../../../src/internal/redis/call.js"
import type {
  Connection,
  ConnectionEvents,
  Network
} from "../../../src/internal/redis/connection.js"
import { Connections } from "../../../src/internal/redis/connections.js"
import { alone, type Parcel } from "../../../src/internal/redis/parcel.js"
import * as scripts from "../../../src/internal/redis/scripts.js"
import { ManualClock } from "../manualClock.js"

const serverError = (message: string): Error =>
  Object.assign(new Error(message), { name: "ReplyError" })

/** One connection, from the network's side. */
export class Scripted implements Connection {
  readonly owed: Array<{
    readonly parcel: Parcel
    readonly onReply: (reply: unknown) => void
    readonly onError: (error: unknown) => void
  }> = []
  readonly sent: Array<Parcel> = []
  pings: Array<() => void> = []
  greeted = false
  /** It has answered a command, or a ping. */
  hasAnswered = false
  closed = false
  wasReset = false

  constructor(
    readonly events: ConnectionEvents,
    private readonly onReset: (connection: Scripted) => void,
    private readonly onSent: (parcel: Parcel) => void
  ) {}

  get isLive(): boolean {
    return !this.closed && !this.wasReset
  }

  send: Connection["send"] = (parcel, onReply, onError) => {
    this.sent.push(parcel)
    this.owed.push({ parcel, onReply, onError })
    this.onSent(parcel)
  }

  ping: Connection["ping"] = (onReply) => {
    this.pings.push(onReply)
  }

  reset: Connection["reset"] = () => {
    if (this.wasReset) return
    this.wasReset = true
    this.onReset(this)
  }

  greet(): void {
    if (!this.isLive || this.greeted) return
    this.greeted = true
    this.events.greeted()
  }

  /** Answers what was sent first. */
  answer(reply: unknown = "1795342290893419"): void {
    if (!this.isLive) return
    const [first] = this.owed.splice(0, 1)
    if (first !== undefined) {
      this.hasAnswered = true
      first.onReply(reply)
      return
    }
    const pings = this.pings
    this.pings = []
    if (pings.length > 0) this.hasAnswered = true
    for (const ping of pings) ping()
  }

  refuse(message: string): void {
    if (!this.isLive) return
    this.owed.splice(0, 1)[0]?.onError(serverError(message))
  }

  close(error: Error | undefined = new Error("read ECONNRESET")): void {
    if (!this.isLive) return
    this.closed = true
    this.events.closed(error)
  }
}

export interface World {
  readonly clock: ManualClock
  readonly connections: Connections
  /** All that were ever made. */
  readonly dialled: ReadonlyArray<Scripted>
  readonly live: ReadonlyArray<Scripted>
  readonly ask: (patience?: number) => Asked
  /** What the world saw that must not be. */
  readonly violations: ReadonlyArray<string>
  readonly end: () => void
}

export interface Asked {
  readonly call: Call
  outcome: Outcome | undefined
  readonly abandon: () => void
}

export const timeout = 2_000
export const patience = 500

export const makeWorld = (
  options: {
    readonly isLazy?: boolean
    readonly byName?: boolean
    readonly pause?: (times: number) => number | undefined
  } = {}
): World => {
  const clock = new ManualClock()
  const dialled: Array<Scripted> = []
  const violations: Array<string> = []
  const abandoned = new Set<Call>()
  let ended = false
  const live = () => dialled.filter(({ isLive }) => isLive)
  const onReset = (one: Scripted) => {
    if (ended || one.closed) return
    const others = live()
    if (others.length === 0) violations.push("the last connection was given up")
    const isOlder = others.some((other) => dialled.indexOf(other) > dialled.indexOf(one))
    const better = others.some((other) => other.hasAnswered || (other.greeted && !one.greeted))
    if (isOlder && !better) {
      violations.push("a connection was given up for one that had not answered")
    }
  }
  const network: Network = {
    options: {},
    isCluster: false,
    byName: options.byName ?? false,
    isLazy: options.isLazy ?? false,
    dial: (events) => {
      const one = new Scripted(events, onReset, (parcel) => {
        if (parcel.calls.some((call) => abandoned.has(call))) {
          violations.push("a call was sent that its caller had given up")
        }
      })
      dialled.push(one)
      if (live().length > 2) violations.push("more than two connections")
      return one
    },
    subscriber: () => {
      throw new Error("not here")
    },
    pause: options.pause ?? ((times) => Math.min(1_000, 25 * 2 ** times)),
    shown: (error) => error
  }
  const connections = new Connections(network, clock, timeout, clock.unsafeSchedule)
  let asked = 0
  return {
    clock,
    connections,
    dialled,
    get live() {
      return live()
    },
    violations,
    ask: (patienceMillis = patience) => {
      const key = `k${asked++}`
      const call = new Call(connections, scripts.verify, [key], ["token"], patienceMillis)
      const one: Asked = {
        call,
        outcome: undefined,
        abandon: () => {
          abandoned.add(call)
          call.abandon()
        }
      }
      call.whenSettled((outcome) => {
        one.outcome = outcome
      })
      if (connections.isReady) connections.send(alone(call))
      else connections.keep(call)
      return one
    },
    end: () => {
      ended = true
      connections.end()
    }
  }
}
