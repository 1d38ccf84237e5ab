/**
 * One key as anyone would describe it: stores whose callers stand in line, and a queue in which each
 * store has one place; and random stories that are told to the model and to real stores alike.
 */
import * as fc from "fast-check"

export type Command =
  | { readonly _tag: "Arrive"; readonly store: number }
  | { readonly _tag: "Cancel"; readonly who: number }
  | { readonly _tag: "Release" }
  /** The holder's key is gone, as at an expiry. */
  | { readonly _tag: "Expire" }
  /** A process queues and dies at once: its heartbeat is fresh, or stale already. */
  | { readonly _tag: "DeadWaiter"; readonly fresh: boolean }

export type State = "waiting" | "granted" | "cancelled"

/** Stories with so many stores. Cancellations name somebody who waits, whoever that is then. */
export const stories = (
  stores: number,
  withDeaths: boolean
): fc.Arbitrary<ReadonlyArray<Command>> => {
  const constant = <const A>(value: A) => fc.constant(value)
  const commands: Array<fc.WeightedArbitrary<Command>> = [
    {
      weight: 6,
      arbitrary: fc.record({ _tag: constant("Arrive"), store: fc.nat({ max: stores - 1 }) })
    },
    { weight: 2, arbitrary: fc.record({ _tag: constant("Cancel"), who: fc.nat({ max: 7 }) }) },
    { weight: 4, arbitrary: fc.record({ _tag: constant("Release") }) }
  ]
  if (withDeaths) {
    commands.push(
      { weight: 1, arbitrary: fc.record({ _tag: constant("Expire") }) },
      {
        weight: 2,
        arbitrary: fc.record({ _tag: constant("DeadWaiter"), fresh: fc.boolean() })
      }
    )
  }
  return fc.array(fc.oneof(...commands), { minLength: 8, maxLength: 24, size: "max" })
}

/** How a run can be repeated: `QUEUE_SEED=… QUEUE_PATH=…`, as a failure reports them. */
export const replay = (): { seed?: number; path?: string } => ({
  ...(process.env["QUEUE_SEED"] === undefined ? {} : { seed: Number(process.env["QUEUE_SEED"]) }),
  ...(process.env["QUEUE_PATH"] === undefined ? {} : { path: process.env["QUEUE_PATH"] })
})

/** How many runs: `QUEUE_RUNS` times as many as usual. */
export const runs = (usual: number): number => usual * Number(process.env["QUEUE_RUNS"] ?? 1)

/** A dead process that the server still takes for a live one, and one that it does not. */
const fresh = -1
const stale = -2

export class Model {
  readonly callers: Array<{ readonly store: number; state: State }> = []
  /** The order in which callers were served. */
  readonly grants: Array<number> = []
  /** Stores, or a dead process, in the order of the queue in Redis. */
  readonly queue: Array<number> = []
  holder: number | undefined = undefined
  /** Who waits in each store, in order. */
  private readonly lines = new Map<number, Array<number>>()

  private line(store: number): Array<number> {
    let line = this.lines.get(store)
    if (line === undefined) this.lines.set(store, (line = []))
    return line
  }

  get waiting(): ReadonlyArray<number> {
    return [...this.callers.keys()].filter((who) => this.callers[who]!.state === "waiting")
  }

  arrive(store: number): void {
    this.line(store).push(this.callers.push({ store, state: "waiting" }) - 1)
    this.stand(store)
  }

  cancel(who: number): void {
    const { store } = this.callers[who]!
    this.callers[who]!.state = "cancelled"
    const line = this.line(store)
    line.splice(line.indexOf(who), 1)
    // the place belongs to the store: it goes with the last of its callers
    if (line.length === 0 && this.queue.includes(store)) {
      this.queue.splice(this.queue.indexOf(store), 1)
    }
  }

  /** The holder gives the lock back, or has lost it. */
  end(): void {
    const store = this.callers[this.holder!]!.store
    this.holder = undefined
    this.serve()
    this.stand(store)
  }

  dieWaiting(isFresh: boolean): void {
    this.queue.push(isFresh ? fresh : stale)
  }

  /** A store with callers, and neither the lock nor a place, takes a place. */
  private stand(store: number): void {
    const holds = this.holder !== undefined && this.callers[this.holder]!.store === store
    if (holds || this.queue.includes(store) || this.line(store).length === 0) return
    this.queue.push(store)
    if (this.holder === undefined) this.serve()
  }

  private serve(): void {
    for (;;) {
      const store = this.queue.shift()
      if (store === undefined) return
      if (store === stale) continue
      if (store === fresh) {
        // it has the lock for a moment; then somebody must be there to see that it is free
        if (this.queue.some((other) => other >= 0)) continue
        return
      }
      const who = this.line(store).shift()!
      this.callers[who]!.state = "granted"
      this.holder = who
      this.grants.push(who)
      return
    }
  }
}
