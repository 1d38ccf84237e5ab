/** Workers that contend for a lock, and all that happened to them. */
import { Resource } from "./resource.js"
import { RememberingStore } from "./store.js"
import { type Kind, type Log, type Sent, type Trouble, type Turn, Worker } from "./worker.js"
import { World } from "./world.js"

/** What happened, in words. */
export interface Said {
  readonly id: number
  readonly at: number
  readonly text: string
}

const names = ["A", "B", "C", "D"]

/** What is longer ago is forgotten. */
const keptMillis = 60_000

export class Play implements Log {
  readonly world = new World()
  readonly store = new RememberingStore(this.world)
  readonly workers: ReadonlyArray<Worker>
  turns: Array<Turn> = []
  accesses: Array<Sent> = []
  troubles: Array<Trouble> = []
  said: Array<Said> = []
  /** What was in one of these, for who draws them. */
  readonly forgotten: Array<object> = []
  private readonly resource = new Resource()
  private readonly expired = new Set<number>()
  private count = 0

  constructor(readonly kind: Kind) {
    this.workers = names.map(
      (name, index) => new Worker(name, index, kind, this.world, this.store, this.resource, this)
    )
  }

  async advance(millis: number): Promise<void> {
    await this.world.advance(millis)
    this.sayExpired()
    this.forget()
  }

  // ---------------------------------------------------------------- what the workers tell

  asked(turn: Turn): void {
    this.turns.push(turn)
  }

  entered({ askedAt, fencingToken, mode, worker }: Turn): void {
    this.sayExpired()
    const waited = this.world.now - askedAt
    const after = waited < 50 ? "" : ` after ${seconds(waited)}`
    this.say(`${worker} ${enters[mode]}${after}, with fencing token ${fencingToken}.`)
  }

  sent(sent: Sent): void {
    this.accesses.push(sent)
    const { accepted, least, turn } = sent
    if (accepted) return
    const what = turn.mode === "read" ? "read" : "write"
    this.say(
      `The ${what} of ${turn.worker} comes late, with fencing token ${turn.fencingToken}: the resource wants ${least} or more, and refuses it.`
    )
  }

  ended({ fencingToken, mode, outcome, worker }: Turn): void {
    if (outcome === "done") {
      const isCut = this.workers.some((one) => one.name === worker && one.has("cut"))
      const unanswered = isCut ? ", but its store does not answer: the lease ends by its ttl" : ""
      this.say(`${worker} ${leaves[mode]}${unanswered}.`)
    }
    if (outcome !== "interrupted") return
    const lease = this.store.leases.find((one) => one.fencingToken === fencingToken)!
    const left = lease.until - this.world.now
    this.say(
      left > 0
        ? `${worker} could not renew its lease: its code is interrupted ${seconds(left)} before anybody else can enter.`
        : `${worker} finds its lease lost: its code is interrupted.`
    )
  }

  noAnswer({ worker }: Turn): void {
    this.say(`${worker} asked the store, and got no answer. Its code has not run.`)
  }

  trouble(trouble: Trouble): void {
    const { to, what, worker } = trouble
    if (to === undefined) this.troubles.push(trouble)
    const isIn = what === "killed" && this.workers.some((one) => one.name === worker && one.isIn)
    const rest =
      isIn && to === undefined ? " What it holds stays in the store until its ttl is over." : ""
    this.say(`${worker} ${troubleWords[what][to === undefined ? 0 : 1]}${rest}`)
  }

  // ---------------------------------------------------------------- inside

  /** What nobody else tells: that the store ended a lease by itself. */
  private sayExpired(): void {
    for (const { fencingToken, isExpired, owner } of this.store.leases) {
      if (!isExpired || this.expired.has(fencingToken)) continue
      this.expired.add(fencingToken)
      this.say(`The store ends the lease of ${owner}: nobody has renewed it for its ttl.`)
    }
  }

  private say(text: string): void {
    this.said.push({ id: this.count++, at: this.world.now, text })
  }

  private forget(): void {
    const since = this.world.now - keptMillis
    const recent = <A extends object>(
      all: Array<A>,
      endOf: (one: A) => number | undefined
    ): Array<A> => {
      if (all.every((one) => (endOf(one) ?? Infinity) > since)) return all
      return all.filter((one) => {
        const isRecent = (endOf(one) ?? Infinity) > since
        if (!isRecent) this.forgotten.push(one)
        return isRecent
      })
    }
    this.turns = recent(this.turns, ({ endedAt }) => endedAt)
    this.accesses = recent(this.accesses, ({ at }) => at)
    this.troubles = recent(this.troubles, ({ to }) => to)
    this.store.leases = recent(this.store.leases, ({ to }) => to)
    this.said = this.said.slice(-20)
  }
}

const enters = {
  lock: "has the lock",
  permit: "has a permit",
  read: "reads",
  write: "writes"
} as const

const leaves = {
  lock: "gives the lock back",
  permit: "gives its permit back",
  read: "has read, and gives it back",
  write: "has written, and gives it back"
} as const

const troubleWords = {
  cut: ["has no network any more: its store does not answer.", "has its network again."],
  frozen: [
    "stands still: its clock goes on, and its code does not look at it.",
    "goes on where it stood still."
  ],
  killed: ["is killed.", "is started again, as a new process."]
} as const

export const seconds = (millis: number): string => `${(millis / 1_000).toFixed(1)}\u00a0s`
