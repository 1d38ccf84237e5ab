/** The memory store as plain code, on a clock that is set by hand. */
import * as fc from "fast-check"
import { describe, expect, it } from "vitest"
import {
  type AcquireExit,
  type Claim,
  type Grant,
  Granted,
  type Look,
  type Page,
  type RenewExit,
  type StoreFailure
} from "../../../src/internal/engine.js"
import { Heap } from "../../../src/internal/memory/heap.js"
import { MemoryStore } from "../../../src/internal/memory/store.js"

const makeStore = () => {
  let [now, scheduled] = [0, 0]
  const timers = new Set<{ readonly at: number; readonly callback: () => void }>()
  const store = new MemoryStore(
    {
      unsafeNow: () => now,
      unsafeSchedule: (at, callback) => {
        scheduled++
        const timer = { at, callback }
        timers.add(timer)
        return { cancel: () => timers.delete(timer) }
      }
    },
    () => 1_000
  )
  return {
    store,
    timers,
    scheduled: () => scheduled,
    advance: (millis: number) => {
      for (const end = now + millis; ;) {
        const due = [...timers].filter(({ at }) => at <= end).sort((a, b) => a.at - b.at)[0]
        if (due === undefined) return void (now = end)
        now = Math.max(now, due.at)
        timers.delete(due)
        due.callback()
      }
    }
  }
}

const claimOf = (more: Partial<Claim> = {}): Claim => ({
  key: "key",
  kind: "semaphore",
  share: 1,
  limit: 3,
  ttlMillis: 1_000,
  waitMillis: 0,
  owner: undefined,
  ...more
})

const patient = { waitMillis: Number.POSITIVE_INFINITY }

/** What came of a claim, as far as anything has. */
const ask = (store: MemoryStore, more?: Partial<Claim>) => {
  const exits: Array<AcquireExit> = []
  const cancel = store.acquire(claimOf(more), (exit) => exits.push(exit))
  return { exits, cancel }
}

const granted = (store: MemoryStore, more?: Partial<Claim>): Grant => {
  const [exit] = ask(store, more).exits
  if (!(exit instanceof Granted)) throw new Error("not granted")
  return exit.grant
}

const look = (store: MemoryStore, key = "key"): Look => {
  let found: Look | StoreFailure | undefined
  store.look(key, 10, [], (exit) => (found = exit))
  return found as Look
}

const keys = (store: MemoryStore, prefix = ""): ReadonlyArray<string> => {
  let page: Page | StoreFailure | undefined
  store.keys(prefix, undefined, (exit) => (page = exit))
  return (page as Page).keys
}

const revoke = (store: MemoryStore, fencingToken: number): unknown => {
  let answer: unknown
  store.revoke("key", fencingToken, (exit) => (answer = exit))
  return answer
}

const answerOf = <A>(question: (onExit: (exit: A) => void) => unknown): A => {
  const answers: Array<A> = []
  question((exit) => answers.push(exit))
  expect(answers).toHaveLength(1)
  return answers[0]!
}

describe("the memory store", () => {
  it("grants all that fit in one step: before the release that makes room has returned", () => {
    const { store } = makeStore()
    const whole = granted(store, { share: 3 })
    const told: Array<string> = []
    for (const name of ["a", "b", "c", "d"]) {
      store.acquire(claimOf(patient), () => told.push(`${name} of ${look(store).inUse}`))
    }
    expect(told).toEqual([])
    expect(answerOf(whole.release.bind(whole, 0))).toBe("Ours")
    // whoever is told first sees that all of them have been granted
    expect(told).toEqual(["a of 3", "b of 3", "c of 3"])
  })

  it("one who is told may do anything at once: order and limits are kept", () => {
    const { store } = makeStore()
    const whole = granted(store, { share: 3 })
    const order: Array<string> = []
    let second = () => {}
    store.acquire(claimOf(patient), (exit) => {
      order.push("first")
      // (granted already, and not told yet)
      second()
      ask(store, patient)
      if (exit instanceof Granted) exit.grant.release(0, () => {})
    })
    second = store.acquire(claimOf(patient), () => order.push("second"))
    store.acquire(claimOf(patient), () => order.push("third"))
    store.acquire(claimOf(patient), () => order.push("fourth"))
    whole.release(0, () => {})
    expect(order).toEqual(["first", "fourth", "third"].sort())
    expect(look(store)).toMatchObject({ inUse: 3, pendingCount: 0 })
  })

  it("one who throws when told keeps nobody else from being told", () => {
    const { store } = makeStore()
    const errors: Array<unknown> = []
    const original = globalThis.queueMicrotask
    globalThis.queueMicrotask = (task) => {
      try {
        task()
      } catch (error) {
        errors.push(error)
      }
    }
    try {
      const whole = granted(store, { share: 3 })
      store.acquire(claimOf(patient), () => {
        throw new Error("mine")
      })
      const other = ask(store, patient)
      whole.release(0, () => {})
      expect(other.exits).toHaveLength(1)
      expect(errors).toMatchObject([{ message: "mine" }])
    } finally {
      globalThis.queueMicrotask = original
    }
  })

  it("a cancelled claim is told nothing, whenever it is cancelled, and leaves nothing", () => {
    const { store, timers } = makeStore()
    const whole = granted(store, { share: 3 })
    const waiting = ask(store, { waitMillis: 500 })
    waiting.cancel()
    waiting.cancel()
    const late = ask(store, patient)
    whole.release(0, () => {})
    expect(waiting.exits).toEqual([])
    expect(late.exits).toHaveLength(1)
    late.cancel()
    ask(store).cancel()
    expect(keys(store)).toEqual([])
    expect(timers.size).toBe(0)
  })

  it("has one timer for a key that is waited for, and none for others", () => {
    const { advance, store, timers } = makeStore()
    const holders = [granted(store), granted(store, { ttlMillis: 300 }), granted(store)]
    expect(timers.size).toBe(0)
    const first = ask(store, patient)
    ask(store, { ...patient, share: 3 })
    expect(timers.size).toBe(1)
    for (let i = 0; i < 5; i++) {
      advance(200)
      for (const holder of holders) answerOf(holder.renew.bind(holder))
      expect(timers.size).toBe(1)
    }
    expect(first.exits).toEqual([])
    // the one with the shortest ttl ends first
    advance(299)
    expect(first.exits).toEqual([])
    advance(1)
    expect(first.exits).toHaveLength(1)
  })

  it("a handoff needs no new timer: an old one that comes too early looks again", () => {
    const { scheduled, store } = makeStore()
    let holder = granted(store, { share: 3 })
    for (let i = 0; i < 100; i++) {
      const next = ask(store, { ...patient, share: 3 })
      ask(store, { ...patient, share: 3 }).cancel()
      const other = ask(store, { ...patient, share: 3 })
      holder.release(0, () => {})
      holder = (next.exits[0] as Granted).grant
      other.cancel()
    }
    // one each time when somebody waits again, where nobody did
    expect(scheduled()).toBeLessThanOrEqual(100)
  })

  it("keeps nothing of a key that nobody has, nor waits for", () => {
    const { advance, store } = makeStore()
    for (let i = 0; i < 100; i++) {
      const holder = granted(store, { key: `key-${i}`, share: 3 })
      ask(store, { key: `key-${i}`, ...patient }).cancel()
      ask(store, { key: `key-${i}`, waitMillis: 10 })
      advance(10)
      holder.release(0, () => {})
    }
    const { entries } = store as unknown as { readonly entries: { readonly size: number } }
    expect(entries.size).toBe(0)
  })

  it("an expired one is gone before its timer: it does not count, and is not listed", () => {
    const { advance, store } = makeStore()
    const dead = granted(store, { share: 3, ttlMillis: 100 })
    advance(100)
    expect(look(store)).toMatchObject({ kind: undefined, inUse: 0, heldCount: 0 })
    expect(keys(store)).toEqual([])
    const next = granted(store, { kind: "lock", limit: 1 })
    expect(next.fencingFloor).toBe(next.fencingToken)
    expect(answerOf(dead.verify.bind(dead))).toBe("Missing")
  })

  it("lists keys by prefix, only those that somebody has or waits for", () => {
    const { store } = makeStore()
    for (const key of ["a:1", "a:2", "b:1"]) granted(store, { key })
    granted(store, { key: "a:3" }).release(0, () => {})
    expect(keys(store, "a:")).toEqual(["a:1", "a:2"])
    expect(keys(store)).toHaveLength(3)
  })

  it("looks at as many as asked for, and counts all", () => {
    const { advance, store } = makeStore()
    for (const owner of ["a", "b", "c"]) granted(store, { owner, limit: 4 })
    advance(10)
    ask(store, { ...patient, share: 2, owner: "d" })
    ask(store, { ...patient, owner: "e" })
    advance(5)
    const incarnation = expect.stringMatching(/^[\w-]{12}$/) as string
    const id = expect.stringMatching(/^[0-9a-f]{16}$/) as string
    let found: Look | StoreFailure | undefined
    store.look("key", 1, [], (exit) => (found = exit))
    expect(found).toEqual({
      kind: "semaphore",
      limit: 4,
      inUse: 3,
      held: [
        {
          owner: "a",
          heldForMillis: 15,
          foreign: false,
          share: 1,
          limit: 4,
          fencingToken: 1_000_000,
          incarnation,
          isLeft: false,
          ttlLeftMillis: 985,
          id
        }
      ],
      pending: [{ owner: "d", share: 2, limit: 3, waitedMillis: 5, incarnation, id }],
      heldCount: 3,
      pendingCount: 2,
      waitingHere: 2,
      atMillis: 1_000,
      revoked: []
    })
  })

  it("revokes by fencing token: the holder is told, everything it asks says so, the next enters", () => {
    const { store } = makeStore()
    const holder = granted(store, { share: 3 })
    const told: Array<string> = []
    holder.whenLost((reason) => told.push(reason))
    const next = ask(store, patient)
    expect(revoke(store, holder.fencingToken + 1)).toBe(false)
    expect(told).toEqual([])
    expect(revoke(store, holder.fencingToken)).toBe(true)
    expect(told).toEqual(["Revoked"])
    expect(next.exits).toHaveLength(1)
    expect(answerOf(holder.verify.bind(holder))).toBe("Revoked")
    expect(answerOf(holder.renew.bind(holder))).toEqual({ _tag: "NotOurs", reason: "Revoked" })
    expect(answerOf(holder.release.bind(holder, 0))).toBe("Revoked")
    expect(look(store).inUse).toBe(1)
    expect(revoke(store, holder.fencingToken)).toBe(false)
    // one that was revoked before anybody listened
    const late = (next.exits[0] as Granted).grant
    revoke(store, late.fencingToken)
    late.whenLost((reason) => told.push(`late ${reason}`))
    expect(told).toEqual(["Revoked", "late Revoked"])
  })

  it("makes a share smaller, renews it, and lets in who fits then; never larger", () => {
    const { advance, store } = makeStore()
    const writer = granted(store, { kind: "readWriteLock", share: 100, limit: 100 })
    const reader = { ...patient, kind: "readWriteLock", share: 1, limit: 100 } as const
    const readers = [ask(store, reader), ask(store, reader)]
    advance(900)
    const reshare = (share: number) =>
      answerOf<RenewExit>((onExit) => writer.reshare!(share, onExit))
    expect(reshare(1)).toEqual({ _tag: "Renewed", validUntil: 900 + 1_000 - 12 })
    expect(readers.map(({ exits }) => exits.length)).toEqual([1, 1])
    expect(look(store).inUse).toBe(3)
    advance(900)
    expect(answerOf(writer.verify.bind(writer))).toBe("Ours")
    for (const share of [2, 0, 0.5, -1, Number.NaN]) {
      expect(reshare(share)).toMatchObject({
        _tag: "StoreFailure",
        operation: "reshare",
        key: "key",
        transient: false
      })
    }
    expect(look(store).inUse).toBe(3)
    advance(1_000)
    expect(reshare(1)).toEqual({ _tag: "NotOurs", reason: "Missing" })
  })

  it("refuses what it has not: and says what", () => {
    const { store } = makeStore()
    const wants: ReadonlyArray<readonly [Partial<Claim>, string]> = [
      // (of locks alone; the claims here are of semaphores)
      [{ tick: 0 }, "tick"]
    ]
    for (const [more, needed] of wants) {
      expect(store.capabilities.has(needed as never)).toBe(needed === "tick")
      const [exit] = ask(store, more).exits
      expect(exit).toMatchObject({ _tag: "StoreFailure", operation: "acquire", transient: false })
      expect((exit as StoreFailure).detail).toContain(needed)
    }
    expect(keys(store)).toEqual([])
  })

  it("serves nobody after its close, and has no timer", () => {
    const { store, timers } = makeStore()
    const holder = granted(store, { share: 3 })
    const waiting = ask(store, { waitMillis: 5_000 })
    let isClosed = false
    store.close(() => (isClosed = true))
    expect(isClosed).toBe(true)
    expect(timers.size).toBe(0)
    holder.release(0, () => {})
    expect([...waiting.exits, ...ask(store).exits]).toMatchObject([
      { _tag: "StoreFailure", key: "key", transient: false },
      { _tag: "StoreFailure", key: "key", transient: false }
    ])
  })

  it("an acquire, a renewal and a release cost no more with 10,000 holders than with 100", () => {
    const costWith = (holders: number): number => {
      const { store } = makeStore()
      const limitOf = (index: number) => 500_000 + ((index * 7_919) % 100_000)
      const held = Array.from({ length: holders }, (_, index) =>
        granted(store, { limit: limitOf(index), ttlMillis: 1_000 + ((index * 7_907) % 50_000) })
      )
      let best = Number.POSITIVE_INFINITY
      for (let round = 0; round < 20; round++) {
        const before = performance.now()
        for (let i = 0; i < 200; i++) {
          const one = granted(store, { limit: limitOf(i) })
          held[(i * 31) % holders]!.renew(() => {})
          one.release(0, () => {})
        }
        best = Math.min(best, performance.now() - before)
      }
      return best
    }
    costWith(100)
    // the best of many rounds; in proportion to the number it would be 100 times as much
    expect(costWith(10_000)).toBeLessThan(10 * costWith(100))
  })
})

describe("the heap", () => {
  it("knows the least, whoever comes, goes or changes", () => {
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.constantFrom("add", "delete", "update"), fc.nat(), fc.nat(20))),
        (commands) => {
          const heap = new Heap<{ rank: number; slot: number }>()
          const all: Array<{ rank: number; slot: number }> = []
          for (const [verb, which, rank] of commands) {
            if (verb === "add") {
              const item = { rank, slot: 0 }
              all.push(item)
              heap.add(item)
            } else if (all.length > 0) {
              const item = all[which % all.length]!
              if (verb === "update") heap.update(item, rank)
              else heap.delete(all.splice(which % all.length, 1)[0]!)
            }
            const least = Math.min(...all.map((item) => item.rank))
            expect(heap.first?.rank ?? Number.POSITIVE_INFINITY).toBe(least)
          }
        }
      )
    )
  })
})
