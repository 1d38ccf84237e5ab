/** The memory store for tests, as plain code: which timers it has. They keep a process alive. */
import { describe, expect, it } from "vitest"
import type { AcquireExit, Claim } from "../../../src/internal/engine.js"
import { FaultyStore } from "../../../src/internal/memory/faultyStore.js"
import { TestStore } from "../../../src/internal/memory/testStore.js"
import { ManualClock } from "../manualClock.js"

const claim: Claim = {
  key: "key",
  kind: "lock",
  share: 1,
  limit: 1,
  ttlMillis: 1_000,
  waitMillis: Number.POSITIVE_INFINITY,
  owner: undefined
}

const make = () => {
  const clock = new ManualClock()
  const memory = new TestStore(clock, () => clock.now)
  const faulty = new FaultyStore(memory, 2_000)
  const exits: Array<AcquireExit["_tag"]> = []
  const acquire = () => faulty.acquire(claim, (exit) => exits.push(exit._tag))
  return { acquire, clock, exits, faulty, memory }
}

describe("timers", () => {
  it("a theft has none, whoever waits behind it", () => {
    const { acquire, clock, exits, memory } = make()
    acquire()
    acquire()
    expect(clock.timers).toBe(1)
    memory.steal("key")
    expect(clock.timers).toBe(0)
    clock.advance(1e9)
    expect(exits).toEqual(["Granted"])
    memory.expire("key")
    expect(exits).toEqual(["Granted", "Granted"])
    expect(clock.timers).toBe(0)
  })

  it("a silence has one for each who waits for an answer, and none is left behind", () => {
    const { acquire, clock, exits, faulty } = make()
    acquire()
    const cancel = acquire()
    faulty.silence()
    const cancelAsked = acquire()
    acquire()
    // and one for the expiry
    expect(clock.timers).toBe(4)
    cancelAsked()
    expect(clock.timers).toBe(3)
    faulty.restore()
    expect(exits).toEqual(["Granted"])
    expect(clock.timers).toBe(1)
    faulty.silence()
    faulty.silence()
    expect(clock.timers).toBe(3)
    faulty.refuse({ detail: "No.", transient: true })
    expect(exits).toEqual(["Granted", "StoreFailure", "StoreFailure"])
    expect(clock.timers).toBe(0)
    cancel()
    expect(exits).toHaveLength(3)
  })
})
