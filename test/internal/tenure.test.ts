/** A tenure that readers share: who can join, and with whom it ends. */
import { describe, expect, it } from "vitest"
import { Tenure } from "../../src/internal/redis/tenure.js"

const claim = {
  key: "k",
  kind: "readWriteLock",
  share: 1,
  limit: 100,
  ttlMillis: 1_000,
  waitMillis: 0,
  owner: undefined
} as const

/** Granted at 0 with so many fencing tokens, and looked at then. */
const granted = (tokens = 10, share = 1) => {
  const tenure = new Tenure("token", share, 100, 500, 500, 0, 1_000, 0, undefined)
  tenure.reservedUntil = 500 + tokens - 1
  return tenure
}

describe("a tenure that readers share", () => {
  it("ends with its last turn, whoever that is", () => {
    const tenure = granted()
    const first = tenure.turn(claim, undefined, 0)
    const second = tenure.shareWith(claim, undefined, 1)
    const third = tenure.shareWith(claim, undefined, 2)
    expect([first, second, third].map(({ fencingToken }) => fencingToken)).toEqual([500, 501, 502])
    expect(tenure.turns).toEqual([first, second, third])
    expect(tenure.leave(first)).toBe(true)
    expect(tenure.leave(third)).toBe(true)
    expect(tenure.isShared).toBe(false)
    expect(tenure.turns).toEqual([second])
    expect(tenure.leave(second)).toBe(false)
  })

  it("ends with its last turn, also where the line has ended it before", () => {
    const tenure = granted()
    const first = tenure.turn(claim, undefined, 0)
    const second = tenure.shareWith(claim, undefined, 1)
    const third = tenure.shareWith(claim, undefined, 2)
    tenure.holder = undefined
    expect(tenure.leave(second)).toBe(true)
    expect(tenure.leave(first)).toBe(true)
    expect(tenure.leave(third)).toBe(false)
  })

  it("is proven for no less by a later command with a shorter ttl", () => {
    const tenure = granted()
    tenure.turn(claim, undefined, 0)
    tenure.prove(100, 60_000)
    const { validUntil } = tenure
    tenure.prove(200, 1_000)
    expect(tenure.validUntil).toBe(validUntil)
    // of a lock, a pass can make it shorter
    const lock = granted(10, 100)
    lock.prove(100, 60_000)
    lock.prove(200, 1_000)
    expect(lock.validUntil).toBeLessThan(1_200)
  })

  it("is proven for less by a command that made it shorter, also where that was acknowledged late", () => {
    const lock = granted(10, 100)
    lock.prove(100, 60_000)
    // an older one, which did not
    lock.prove(50, 60_000)
    expect(lock.validUntil).toBeGreaterThan(59_000)
    lock.prove(50, 1_000)
    expect(lock.validUntil).toBeLessThan(1_050)
  })

  it("is open for readers alike, soon after a look, while there are tokens and time", () => {
    const tenure = granted(2)
    expect(tenure.isOpenFor(claim, 0, 20)).toBe(false)
    tenure.turn(claim, undefined, 0)
    expect(tenure.isOpenFor(claim, 19, 20)).toBe(true)
    expect(tenure.isOpenFor({ ...claim, ttlMillis: 60_000 }, 19, 20)).toBe(true)
    expect(tenure.isOpenFor(claim, 20, 20)).toBe(false)
    expect(tenure.isOpenFor({ ...claim, share: 100 }, 0, 20)).toBe(false)
    // of what is proven, half is over
    expect(tenure.isOpenFor(claim, 500, 10_000)).toBe(false)
    tenure.shareWith(claim, undefined, 0)
    expect(tenure.isOpenFor(claim, 0, 20)).toBe(false)
  })

  it("is not open for others once its last turn leaves, unless it is passed on", () => {
    const tenure = granted()
    const turn = tenure.turn(claim, undefined, 0)
    expect(tenure.leave(turn)).toBe(false)
    expect(tenure.isOpenFor(claim, 0, 20)).toBe(false)
    tenure.turn(claim, undefined, 1)
    expect(tenure.isOpenFor(claim, 1, 20)).toBe(true)
  })

  it("of a writer, or of what was one, is open for nobody", () => {
    const tenure = granted(10, 100)
    tenure.turn({ ...claim, share: 100 }, undefined, 0)
    expect(tenure.isOpenFor(claim, 0, 20)).toBe(false)
    expect(tenure.isOpenFor({ ...claim, share: 100 }, 0, 20)).toBe(false)
    tenure.reshare(1)
    expect(tenure.isOpenFor(claim, 0, 20)).toBe(false)
    expect(tenure.isFor(claim)).toBe(false)
  })

  it("knows the longest and the shortest ttl of those present", () => {
    const tenure = granted()
    tenure.turn(claim, undefined, 0)
    const long = tenure.shareWith({ ...claim, ttlMillis: 9_000 }, undefined, 0)
    expect(tenure.ttls).toEqual({ longest: 9_000, shortest: 1_000 })
    tenure.leave(long)
    expect(tenure.ttls).toEqual({ longest: 1_000, shortest: 1_000 })
  })
})

describe("the record of a tenure", () => {
  const hour = 3_600_000
  const held = (provenAt: number) =>
    new Tenure("token", 100, 100, 500, 500, provenAt, 1_000, provenAt, undefined)

  it("is seen to where a caller asks for a longer ttl than it says", () => {
    const tenure = held(0)
    expect(tenure.mustRecord(1_000, 500)).toBe(false)
    expect(tenure.mustRecord(1_001, 500)).toBe(true)
    tenure.prove(500, 1_001)
    expect(tenure.mustRecord(1_001, 900)).toBe(false)
  })

  it("is kept from its expiry: once in six hours, until that is answered", () => {
    const tenure = held(hour)
    expect(tenure.mustRecord(1_000, 6 * hour - 1)).toBe(false)
    tenure.prove(6 * hour - 1, 1_000)
    expect(tenure.mustRecord(1_000, 6 * hour)).toBe(true)
    // (no answer)
    expect(tenure.mustRecord(1_000, 6 * hour + 500)).toBe(true)
    tenure.prove(6 * hour + 500, 1_000)
    for (let now = 6 * hour + 1_000; now < 12 * hour; now += hour / 2) {
      expect(tenure.mustRecord(1_000, now)).toBe(false)
      tenure.prove(now, 1_000)
    }
    expect(tenure.mustRecord(1_000, 12 * hour)).toBe(true)
  })

  it("says nothing of another claim that wants a grant of its own", () => {
    const tenure = held(0)
    expect(tenure.isFor({ ...claim, share: 100 })).toBe(true)
    expect(tenure.isFor({ ...claim, share: 100, direct: false })).toBe(true)
    expect(tenure.isFor({ ...claim, share: 100, direct: true })).toBe(false)
  })
})
