/** A worker: a program that takes the lock, works, gives it back, rests, and so on; and what is seen of it. */
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Logger from "effect/Logger"
import * as Lock from "../../src/effect4/Lock.js"
import { LockStore } from "../../src/effect4/LockStore.js"
import * as ReadWriteLock from "../../src/effect4/ReadWriteLock.js"
import * as Semaphore from "../../src/effect4/Semaphore.js"
import type { Lease } from "../../src/Lease.js"
import { Machine } from "./machine.js"
import type { Mode, Resource } from "./resource.js"
import type { RememberingStore } from "./store.js"
import type { World } from "./world.js"

export type Kind = "lock" | "semaphore" | "readWriteLock"

const key = "report"
const ttlMillis = 4_000
const stepMillis = 500
export const limit = 2

/** One use of the lock, as the worker saw it. Times are the world's. */
export interface Turn {
  readonly worker: string
  readonly mode: Mode
  readonly askedAt: number
  /** When its code began to run under the lease. */
  enteredAt?: number
  fencingToken?: number
  /** From when on it was proven, until when; the first by the grant, the others by renewals. */
  readonly proofs: Array<{ readonly at: number; readonly until: number }>
  /** When its code ended; that of a killed process, when it was killed. */
  endedAt?: number
  outcome?: "done" | "interrupted" | "refused" | "no answer" | "killed"
}

/** A write (or a read) that came to the resource. */
export interface Sent {
  readonly turn: Turn
  readonly at: number
  readonly accepted: boolean
  /** The least fencing token that it would have accepted. */
  readonly least: number
}

/** When something was wrong with a worker's machine. */
export interface Trouble {
  readonly worker: string
  readonly what: "cut" | "frozen" | "killed"
  readonly from: number
  to?: number
}

/** What a worker tells of itself. */
export interface Log {
  asked(turn: Turn): void
  entered(turn: Turn): void
  sent(sent: Sent): void
  ended(turn: Turn): void
  noAnswer(turn: Turn): void
  trouble(trouble: Trouble): void
}

/** (That of a semaphore has a floor.) */
type AnyLease = Lease & Partial<Pick<Semaphore.SemaphoreLease, "fencingFloor">>

class Refused {
  readonly _tag = "Refused"
}

export class Worker {
  turn: Turn | undefined = undefined
  /** To be frozen as soon as its code comes to a write. */
  isFreezing = false
  private machine: Machine
  private readonly troubles = new Map<Trouble["what"], Trouble>()
  private turns = 0

  constructor(
    readonly name: string,
    private readonly index: number,
    private readonly kind: Kind,
    private readonly world: World,
    private readonly store: RememberingStore,
    private readonly resource: Resource,
    private readonly log: Log
  ) {
    this.machine = this.started()
  }

  // ---------------------------------------------------------------- what is seen

  has(what: Trouble["what"]): boolean {
    return this.troubles.has(what)
  }

  /** Its code runs under the lease, or stands still there. */
  get isIn(): boolean {
    return this.turn?.enteredAt !== undefined && this.turn.endedAt === undefined
  }

  /** Until when its lease is proven to be held; nothing, if it has none. */
  get provenUntil(): number | undefined {
    return this.isIn ? this.turn!.proofs.at(-1)?.until : undefined
  }

  // ---------------------------------------------------------------- what can be done to it

  cut(): void {
    this.machine.cut()
    this.begin("cut")
  }

  connect(): void {
    this.end("cut")
    this.machine.connect()
  }

  freeze(): void {
    const isFrozen = () => {
      this.isFreezing = false
      this.begin("frozen")
    }
    if (this.isIn) {
      // at the worst moment: a write is on its way
      this.isFreezing = true
      this.machine.freezeAtStep(isFrozen)
    } else {
      this.machine.freeze()
      isFrozen()
    }
  }

  thaw(): void {
    this.isFreezing = false
    this.end("frozen")
    this.machine.thaw()
  }

  kill(): void {
    this.isFreezing = false
    this.machine.kill()
    for (const what of ["cut", "frozen"] as const) this.end(what)
    this.begin("killed")
    const { turn } = this
    this.turn = undefined
    if (turn === undefined || turn.endedAt !== undefined) return
    turn.endedAt = this.world.now
    turn.outcome = "killed"
  }

  restart(): void {
    this.end("killed")
    this.machine = this.started()
  }

  private begin(what: Trouble["what"]): void {
    if (this.troubles.has(what)) return
    const trouble: Trouble = { worker: this.name, what, from: this.world.now }
    this.troubles.set(what, trouble)
    this.log.trouble(trouble)
  }

  private end(what: Trouble["what"]): void {
    const trouble = this.troubles.get(what)
    if (trouble === undefined) return
    trouble.to = this.world.now
    this.troubles.delete(what)
    this.log.trouble(trouble)
  }

  // ---------------------------------------------------------------- its program

  /** A new process that runs it. */
  private started(): Machine {
    const machine = new Machine(this.world, this.store)
    const store = machine.store((until) => {
      this.turn?.proofs.push({ at: this.world.now, until })
    })
    const program = Effect.suspend(() => this.oneTurn(machine)).pipe(
      Effect.forever,
      Effect.provideService(LockStore, store),
      Effect.provideService(Clock.Clock, machine.effectClock),
      // (what the library logs is told by the page)
      Effect.provideService(Logger.CurrentLoggers, new Set())
    )
    Effect.runFork(program)
    return machine
  }

  private oneTurn(machine: Machine): Effect.Effect<void, never, LockStore> {
    const count = this.turns++
    const rest = count === 0 ? 400 * (this.index + 1) : 1_000 + 600 * ((count + this.index) % 3)
    const writes = 9 + ((count * 3 + this.index * 2) % 5)
    const mode =
      this.kind === "readWriteLock"
        ? (count + this.index) % 3 === 0
          ? "write"
          : "read"
        : this.kind === "semaphore"
          ? "permit"
          : "lock"
    return Effect.gen({ self: this }, function* () {
      yield* Effect.sleep(rest)
      const turn: Turn = { worker: this.name, mode, askedAt: this.world.now, proofs: [] }
      this.turn = turn
      this.log.asked(turn)
      // (how its code ended, it has told itself)
      yield* Effect.exit(this.under(mode, (lease) => this.work(machine, turn, lease, writes)))
      this.turn = undefined
      if (turn.enteredAt === undefined) {
        turn.endedAt = this.world.now
        turn.outcome = "no answer"
        this.log.noAnswer(turn)
      }
    })
  }

  /** This is all that a program has to do with locks. */
  private under<A, E>(mode: Mode, body: (lease: AnyLease) => Effect.Effect<A, E>) {
    const options = { ttl: ttlMillis, owner: this.name }
    switch (mode) {
      case "lock":
        return Lock.withLock(key, options)(body)
      case "permit":
        return Semaphore.withPermits(key, { limit, ...options })(body)
      case "read":
        return ReadWriteLock.withReadLock(key, options)(body)
      case "write":
        return ReadWriteLock.withWriteLock(key, options)(body)
    }
  }

  private work(
    machine: Machine,
    turn: Turn,
    lease: AnyLease,
    writes: number
  ): Effect.Effect<void, Refused> {
    const { fencingToken, fencingFloor = fencingToken } = lease
    const send = Effect.suspend(() => {
      const { mode } = turn
      const least = this.resource.least(mode)
      const accepted = this.resource.accepts({ mode, fencingToken, fencingFloor })
      this.log.sent({ turn, at: this.world.now, accepted, least })
      return accepted ? Effect.void : Effect.fail(new Refused())
    })
    const step = Effect.sleep(stepMillis).pipe(Effect.andThen(machine.step), Effect.andThen(send))
    return Effect.suspend(() => {
      turn.enteredAt = this.world.now
      turn.fencingToken = fencingToken
      this.log.entered(turn)
      return Effect.repeat(step, { times: writes - 1 })
    }).pipe(
      Effect.onExit((exit) =>
        Effect.sync(() => {
          turn.endedAt = this.world.now
          turn.outcome = Exit.isSuccess(exit)
            ? "done"
            : Cause.hasInterruptsOnly(exit.cause)
              ? "interrupted"
              : "refused"
          this.log.ended(turn)
        })
      ),
      Effect.asVoid
    )
  }
}
