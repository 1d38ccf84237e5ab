/**
 * Keys with a capacity, as anyone would describe them: holders with shares and limits, and one queue
 * for each key, first come, first served; and random stories that are told to the model and to real
 * stores alike.
 *
 * Callers stand for themselves here. Where a process has one place for all of its callers, let each
 * caller of a story ask in a store of its own.
 */
import type { LockStore } from "effect-redis-lock"
import * as fc from "fast-check"

export interface Ask {
  readonly key: number
  readonly kind: LockStore.Kind
  readonly share: number
  readonly limit: number
  readonly ttl: number
  readonly wait: number
}

/** `who` counts among those whom the command can be about at that moment. */
export type Command =
  | ({ readonly _tag: "Arrive" } & Ask)
  | { readonly _tag: "Cancel"; readonly who: number }
  | { readonly _tag: "Release"; readonly who: number }
  | { readonly _tag: "Renew"; readonly who: number }
  | { readonly _tag: "Reshare"; readonly who: number; readonly share: number }
  /** A holder's entry is gone, behind its back, as when it had died a ttl ago. */
  | { readonly _tag: "Vanish"; readonly who: number }
  /** Somebody queues, dies at once, and is passed over: nothing changes for anybody else. */
  | { readonly _tag: "DeadWaiter"; readonly key: number }
  | { readonly _tag: "Advance"; readonly millis: number }

/**
 * - `withTime`: leases expire, and waits end. Without, all waits are for ever, or not at all, and a ttl
 *   is longer than any story.
 * - `withShares`: shares are made smaller.
 * - `withDead`: there are waiters that have died.
 */
export interface Stories {
  readonly kinds: ReadonlyArray<LockStore.Kind>
  readonly withTime: boolean
  readonly withShares: boolean
  readonly withDead?: boolean
}

const hundreds = (max: number) => fc.integer({ min: 1, max }).map((n) => n * 100)
const constant = <const A>(value: A) => fc.constant(value)
const who = fc.nat({ max: 30 })

/** More than there will ever be readers. */
const writers = 100

const shares: Record<LockStore.Kind, fc.Arbitrary<Pick<Ask, "kind" | "share" | "limit">>> = {
  lock: constant({ kind: "lock", share: 1, limit: 1 }),
  semaphore: fc
    .tuple(fc.constantFrom(3, 5, 8), fc.constantFrom(1, 1, 2, 3, 8))
    .map(([limit, share]) => ({ kind: "semaphore", share: Math.min(share, limit), limit })),
  readWriteLock: fc
    .constantFrom(1, 1, writers)
    .map((share) => ({ kind: "readWriteLock", share, limit: writers }))
}

/** Times are multiples of 100, but for the ends of waits; see `patience`. */
export const stories = ({
  kinds,
  withDead = false,
  withShares,
  withTime
}: Stories): fc.Arbitrary<ReadonlyArray<Command>> => {
  const times = withTime
    ? {
        ttl: hundreds(40),
        wait: fc.oneof(constant(0), constant(Number.POSITIVE_INFINITY), hundreds(20))
      }
    : { ttl: constant(60_000), wait: fc.constantFrom(0, Number.POSITIVE_INFINITY) }
  // mostly the first kind: where several meet, little happens
  const share = fc.oneof(
    ...kinds.map((kind, index) => ({ weight: index === 0 ? 8 : 2, arbitrary: shares[kind] }))
  )
  const arrival = fc
    .record({ _tag: constant("Arrive"), key: fc.constantFrom(0, 0, 0, 1, 2), share, ...times })
    .map(({ share, ...rest }) => ({ ...rest, ...share }))
  const commands: Array<fc.WeightedArbitrary<Command>> = [
    { weight: 8, arbitrary: arrival },
    { weight: 2, arbitrary: fc.record({ _tag: constant("Cancel"), who }) },
    { weight: 4, arbitrary: fc.record({ _tag: constant("Release"), who }) },
    { weight: 2, arbitrary: fc.record({ _tag: constant("Renew"), who }) },
    { weight: 1, arbitrary: fc.record({ _tag: constant("Vanish"), who }) }
  ]
  if (withShares) {
    commands.push({
      weight: 1,
      arbitrary: fc.record({
        _tag: constant("Reshare"),
        who,
        share: fc.integer({ min: 1, max: 4 })
      })
    })
  }
  if (withDead) {
    commands.push({
      weight: 1,
      arbitrary: fc.record({ _tag: constant("DeadWaiter"), key: fc.constantFrom(0, 0, 0, 1, 2) })
    })
  }
  if (withTime) {
    commands.push({
      weight: 3,
      arbitrary: fc.record({ _tag: constant("Advance"), millis: hundreds(12) })
    })
  }
  return fc.array(fc.oneof(...commands), { minLength: 10, maxLength: 50, size: "max" })
}

/** How long a caller waits: no two things happen in the same moment whose order is not fixed. */
export const patience = (who: number, { wait }: Ask): number => (wait === 0 ? 0 : wait + 1 + who)

export type State = "waiting" | "granted" | "unavailable" | "refused" | "cancelled"

interface Caller extends Ask {
  readonly deadline: number
  state: State
  share: number
  expiresAt: number
  /** Who had been granted the longest ago, of those who held when this one was granted. */
  floor: number | undefined
}

interface Room {
  readonly kind: LockStore.Kind
  /** In the order of their grants. */
  holders: Array<number>
  readonly queue: Array<number>
}

export class Model {
  now = 0
  readonly callers: Array<Caller> = []
  /** The order in which callers were served. */
  readonly grants: Array<number> = []
  private readonly rooms = new Map<number, Room>()

  get waiting(): ReadonlyArray<number> {
    return [...this.callers.keys()].filter((who) => this.callers[who]!.state === "waiting")
  }

  get holders(): ReadonlyArray<number> {
    return [...this.rooms.values()].flatMap(({ holders }) => holders).sort((a, b) => a - b)
  }

  /** What anyone sees of a key. */
  room(key: number): Room | undefined {
    const room = this.rooms.get(key)
    return room === undefined || room.holders.length + room.queue.length === 0 ? undefined : room
  }

  holds(who: number): boolean {
    return this.room(this.callers[who]!.key)?.holders.includes(who) === true
  }

  limit({ holders }: Room): number {
    return Math.min(...holders.map((who) => this.callers[who]!.limit))
  }

  inUse({ holders }: Room): number {
    return holders.reduce((sum, who) => sum + this.callers[who]!.share, 0)
  }

  arrive(ask: Ask): void {
    const who = this.callers.length
    const caller: Caller = {
      ...ask,
      deadline: this.now + patience(who, ask),
      state: "waiting",
      expiresAt: 0,
      floor: undefined
    }
    this.callers.push(caller)
    let room = this.room(ask.key)
    if (room === undefined) {
      room = { kind: ask.kind, holders: [], queue: [] }
      this.rooms.set(ask.key, room)
    }
    if (room.kind !== ask.kind) {
      caller.state = "refused"
    } else if (ask.wait === 0 && (room.queue.length > 0 || !this.fits(room, caller))) {
      caller.state = "unavailable"
    } else {
      room.queue.push(who)
      this.serve(room)
    }
  }

  cancel(who: number): void {
    this.leave(who, "cancelled")
  }

  /** A release, or an entry that is gone. */
  end(who: number): void {
    const room = this.rooms.get(this.callers[who]!.key)!
    room.holders = room.holders.filter((other) => other !== who)
    this.serve(room)
  }

  renew(who: number): void {
    const caller = this.callers[who]!
    caller.expiresAt = this.now + caller.ttl
  }

  reshare(who: number, share: number): void {
    this.renew(who)
    this.callers[who]!.share = share
    this.serve(this.rooms.get(this.callers[who]!.key)!)
  }

  /** How long nothing happens by itself. */
  get quiet(): number {
    return (
      Math.min(
        ...this.waiting.map((who) => this.callers[who]!.deadline),
        ...this.holders.map((who) => this.callers[who]!.expiresAt)
      ) - this.now
    )
  }

  /** To the next event at most. */
  advance(millis: number): void {
    this.now += millis
    const late = this.waiting.find((who) => this.callers[who]!.deadline <= this.now)
    if (late !== undefined) this.leave(late, "unavailable")
    for (const room of this.rooms.values()) {
      room.holders = room.holders.filter((who) => this.callers[who]!.expiresAt > this.now)
      this.serve(room)
    }
  }

  private leave(who: number, state: State): void {
    const caller = this.callers[who]!
    const room = this.rooms.get(caller.key)!
    room.queue.splice(room.queue.indexOf(who), 1)
    caller.state = state
    this.serve(room)
  }

  private fits(room: Room, { limit, share }: Caller): boolean {
    return this.inUse(room) + share <= Math.min(limit, this.limit(room))
  }

  private serve(room: Room): void {
    for (;;) {
      const who = room.queue[0]
      if (who === undefined || !this.fits(room, this.callers[who]!)) return
      const caller = this.callers[who]!
      room.queue.shift()
      room.holders.push(who)
      caller.state = "granted"
      caller.expiresAt = this.now + caller.ttl
      caller.floor = room.holders[0]!
      this.grants.push(who)
    }
  }
}
