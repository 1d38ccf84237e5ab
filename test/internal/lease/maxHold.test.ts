/** The end that `maxHold` sets to a lease, with a clock and a grant that do what the test says. */
import { describe, expect, it } from "vitest"
import { drift, validUntil } from "../../../src/internal/common/timing.js"
import { type Grant, type RenewExit, StoreFailure } from "../../../src/internal/engine.js"
import { LeaseCore } from "../../../src/internal/lease/core.js"
import { SeveralGrant } from "../../../src/internal/lease/severalGrant.js"
import { ManualClock } from "../manualClock.js"

const ttlMillis = 10_000
const terms = { ttlMillis, renewEveryMillis: 5_000, marginMillis: 1_000 }

class GrantUntil implements Grant {
  readonly token = "token"
  readonly fencingToken = 1
  readonly fencingFloor = 1
  readonly contention = undefined
  asked: Array<(exit: RenewExit) => void> = []

  constructor(
    readonly validUntil: number,
    public holdUntil: number | undefined
  ) {}

  renew(onExit: (exit: RenewExit) => void): () => void {
    this.asked.push(onExit)
    return () => {}
  }

  verify(): () => void {
    return () => {}
  }

  release(): void {}
  whenLost(): void {}
}

const held = (maxHoldMillis: number, grant: (now: number) => Grant & { asked?: unknown }) => {
  const clock = new ManualClock()
  const granted = grant(clock.now)
  const lost: Array<string> = []
  const core: LeaseCore = new LeaseCore(
    granted,
    clock,
    { ...terms, maxHoldMillis },
    {
      renewalDue: () => core.renew(() => {}),
      lost: (reason) => lost.push(reason),
      ending: () => {},
      hasEnded: () => {},
      releaseFailed: () => {}
    }
  )
  core.begin()
  core.start()
  return { clock, core, lost, startedAt: clock.now }
}

/** A store that answers at once, with no more than is left. */
const answering = (maxHoldMillis: number, saysSo = true) => {
  let grant: GrantUntil
  const it = held(maxHoldMillis, (now) => {
    grant = new GrantUntil(validUntil(now, ttlMillis), saysSo ? now + maxHoldMillis : undefined)
    return grant
  })
  const answer = (left = maxHoldMillis - (it.clock.now - it.startedAt)) => {
    for (const tell of grant.asked.splice(0)) {
      const until = validUntil(it.clock.now, Math.min(ttlMillis, left))
      tell({ _tag: "Renewed", validUntil: until })
    }
  }
  return { ...it, answer, grant: grant! }
}

describe("a lease with a maxHold", () => {
  for (const saysSo of [true, false]) {
    it(`is lost the margin before it, and not renewed where that adds nothing (${saysSo})`, () => {
      const { answer, clock, core, grant, lost } = answering(23_000, saysSo)
      let renewals = 0
      for (let at = 1_000; at < 22_000; at += 1_000) {
        clock.advance(1_000)
        renewals += grant.asked.length
        answer()
        expect(core.checkHeld()).toBe(true)
      }
      // at 5, 10, and 15 seconds, whose proof reaches to the end
      expect(renewals).toBe(3)
      expect(core.provenMillis).toBeGreaterThan(1_900)
      expect(core.provenMillis).toBeLessThanOrEqual(2_000)
      clock.advance(999)
      expect(lost).toEqual([])
      clock.advance(1)
      expect(lost).toEqual(["MaxHold"])
      // nobody else can have it yet
      expect(core.provenMillis).toBeGreaterThan(800)
    })
  }

  it("that is its ttl is lost by its timer, and never renewed", () => {
    const { clock, grant, lost } = answering(ttlMillis)
    clock.advance(ttlMillis - drift(ttlMillis) - 1_000 - 1)
    expect([grant.asked.length, lost.length]).toEqual([0, 0])
    clock.advance(1)
    expect([grant.asked.length, lost]).toEqual([0, ["MaxHold"]])
  })

  it("is Unreachable where its proof ends before that, for want of an answer", () => {
    const { clock, lost } = answering(23_000)
    clock.advance(ttlMillis)
    expect(lost).toEqual(["Unreachable"])
  })

  it("is Unreachable also where the last renewals before it have no answer", () => {
    const { answer, clock, grant, lost } = answering(23_000)
    clock.advance(5_000)
    answer()
    clock.advance(5_000)
    for (const tell of grant.asked.splice(0)) tell(new StoreFailure("renew", "key", "no", true))
    clock.advance(13_000)
    expect(lost).toEqual(["Unreachable"])
  })

  it("ends earlier, where an answer says that it does", () => {
    const { answer, clock, grant, lost } = answering(23_000)
    clock.advance(5_000)
    answer()
    clock.advance(5_000)
    // the store's clock is faster than this one
    grant.holdUntil = clock.now + 7_000
    answer(7_000)
    clock.advance(5_999)
    expect([lost, grant.asked.length]).toEqual([[], 0])
    clock.advance(1)
    expect(lost).toEqual(["MaxHold"])
  })

  it("compares clocks, also where its timers have not fired", () => {
    const { answer, clock, core } = answering(12_000)
    clock.advance(5_000)
    answer()
    clock.now += 60_000
    expect(core.checkHeld()).toBe(false)
    expect(core.ended).toBe("MaxHold")
  })

  it("is not proven beyond it, where a store forgets that", () => {
    const { answer, clock, core } = answering(12_000)
    clock.advance(5_000)
    answer(ttlMillis)
    expect(core.provenMillis).toBe(7_000)
  })

  it("of which little was left when it was granted has a margin in proportion", () => {
    const { clock, core, lost } = held(10_000, (now) => {
      const left = 2_000
      return new GrantUntil(validUntil(now, left), now + left)
    })
    expect(core.checkHeld()).toBe(true)
    clock.advance(1_700)
    expect(lost).toEqual([])
    clock.advance(200)
    expect(lost).toEqual(["MaxHold"])
  })

  it("of several keys ends with the first of them", () => {
    const several = new SeveralGrant()
    expect(several.holdUntil).toBeUndefined()
    several.add("a", new GrantUntil(1_000, undefined))
    expect(several.holdUntil).toBeUndefined()
    several.add("b", new GrantUntil(1_000, 7_000))
    several.add("c", new GrantUntil(900, 5_000))
    several.add("d", new GrantUntil(1_000, 6_000))
    expect(several.holdUntil).toBe(5_000)
    expect(several.culprit("MaxHold").key).toBe("c")
  })
})
