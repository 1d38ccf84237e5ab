/** The life of a lease, with a clock and a grant that do what the test says. */
import * as fc from "fast-check"
import { describe, expect, it } from "vitest"
import { drift, validUntil } from "../../../src/internal/common/timing.js"
import {
  type Grant,
  type NotOurs,
  type OwnershipExit,
  type RenewExit,
  StoreFailure
} from "../../../src/internal/engine.js"
import { LeaseCore } from "../../../src/internal/lease/core.js"
import {
  type Failure,
  type LeaseFace,
  Loss,
  type ReleaseExit
} from "../../../src/internal/lease/terms.js"
import { ManualClock } from "../manualClock.js"

const ttlMillis = 10_000
const terms = { ttlMillis, renewEveryMillis: 5_000, marginMillis: 1_000 }
/** For how long an answer proves the lease, counted from when its command was sent. */
const proof = ttlMillis - drift(ttlMillis)

const failure = (detail = "no answer"): StoreFailure =>
  new StoreFailure("renew", "key", detail, true)

class ScriptedGrant implements Grant {
  readonly token = "token"
  readonly fencingToken = 1
  readonly fencingFloor = 1
  readonly contention = undefined
  renewals: Array<(exit: RenewExit) => void> = []
  verifications: Array<(exit: OwnershipExit) => void> = []
  releases: Array<(exit: OwnershipExit) => void> = []
  since: number | undefined = undefined
  forgotten = 0
  tellLost: (reason: NotOurs) => void = () => {}
  /** What `release` throws. */
  broken: Error | undefined = undefined

  constructor(readonly validUntil: number) {}

  renew(onExit: (exit: RenewExit) => void): () => void {
    this.renewals.push(onExit)
    return () => void this.forgotten++
  }

  verify(onExit: (exit: OwnershipExit) => void): () => void {
    this.verifications.push(onExit)
    return () => {}
  }

  release(since: number, onExit: (exit: OwnershipExit) => void): void {
    if (this.broken !== undefined) throw this.broken
    this.since = since
    this.releases.push(onExit)
  }

  whenLost(listener: (reason: NotOurs) => void): void {
    this.tellLost = listener
  }
}

/** A lease that is held, by a face that asks for each renewal as soon as it is due. */
const held = (left = proof) => {
  const clock = new ManualClock()
  const grant = new ScriptedGrant(clock.now + left)
  const told: Array<string> = []
  const failures: Array<Failure | undefined> = []
  const face: LeaseFace = {
    renewalDue: () => core.renew((exit) => failures.push(exit)),
    lost: (reason) => told.push(`lost: ${reason}`),
    ending: (heldMillis) => told.push(`ending after ${heldMillis}`),
    hasEnded: () => told.push("has ended"),
    releaseFailed: () => told.push("release failed")
  }
  const core: LeaseCore = new LeaseCore(grant, clock, terms, face)
  core.begin()
  core.start()
  return { clock, core, failures, grant, told }
}

const renewed = (at: number): RenewExit => ({
  _tag: "Renewed",
  validUntil: validUntil(at, ttlMillis)
})

describe("a lease is held", () => {
  it("as long as it is proven, less the margin", () => {
    const { clock, core, told } = held()
    clock.advance(proof - 1_000 - 1)
    expect(core.checkHeld()).toBe(true)
    expect(core.provenMillis).toBe(1_001)
    clock.advance(1)
    expect(told).toEqual(["lost: Unreachable", `ending after ${proof - 1_000}`, "has ended"])
    expect(core.ended).toBe("Unreachable")
    // nobody else can have it yet
    expect(core.provenMillis).toBe(1_000)
    clock.advance(1_000)
    expect(core.provenMillis).toBe(0)
  })

  it("with a margin in proportion, where the proof is short", () => {
    const { clock, core } = held(proof / 10)
    clock.advance(proof / 10 - 100 - 1)
    expect(core.checkHeld()).toBe(true)
    clock.advance(1)
    expect(core.checkHeld()).toBe(false)
  })

  it("compares clocks, also where its timers have not fired", () => {
    const { clock, core, told } = held()
    // as after a stall of the process
    clock.now += proof
    expect(core.checkHeld()).toBe(false)
    expect(told[0]).toBe("lost: Unreachable")
  })

  it.each(["Missing", "Taken", "Revoked"] as const)("until the store says %s", (reason) => {
    const { clock, core, grant, told } = held()
    grant.tellLost(reason)
    grant.tellLost("Taken")
    expect(core.ended).toBe(reason)
    expect(told).toEqual([`lost: ${reason}`, "ending after 0", "has ended"])
    expect(core.provenMillis).toBe(0)
    expect(clock.timers).toBe(0)
  })

  it("and tells its end to those who watch it still, once, and before the last", () => {
    const { core, grant, told } = held()
    core.onEnd(() => told.push("first"))
    const forget = core.onEnd(() => told.push("second"))
    core.onEnd(() => told.push("third"))
    forget()
    grant.tellLost("Missing")
    core.abandon()
    expect(told).toEqual(["lost: Missing", "ending after 0", "first", "third", "has ended"])
  })
})

describe("a renewal", () => {
  it("is due so long after the command was sent that proved the lease", () => {
    const { clock, grant } = held()
    clock.advance(4_999)
    expect(grant.renewals).toHaveLength(0)
    clock.advance(1)
    expect(grant.renewals).toHaveLength(1)
    // answered late: the next one counts from its sending
    clock.advance(300)
    grant.renewals[0]!(renewed(clock.now - 300))
    clock.advance(4_699)
    expect(grant.renewals).toHaveLength(1)
    clock.advance(1)
    expect(grant.renewals).toHaveLength(2)
  })

  it("comes early in what is left of a short proof", () => {
    const { clock, grant } = held(1_000)
    const margin = 1_000 * (1_000 / proof)
    clock.advance((1_000 - margin) / 4 - 1)
    expect(grant.renewals).toHaveLength(0)
    clock.advance(1.1)
    expect(grant.renewals).toHaveLength(1)
  })

  it("moves validity on, never back", () => {
    const { clock, core, grant } = held()
    clock.advance(5_000)
    grant.renewals[0]!(renewed(clock.now))
    expect(core.provenMillis).toBe(proof)
    clock.advance(5_000)
    grant.renewals[1]!(renewed(clock.now - 9_000))
    expect(core.provenMillis).toBe(proof - 5_000)
  })

  it.each(["Missing", "Taken", "Revoked"] as const)("that finds %s ends it", (reason) => {
    const { clock, core, failures, grant, told } = held()
    clock.advance(5_000)
    grant.renewals[0]!({ _tag: "NotOurs", reason })
    expect(core.ended).toBe(reason)
    expect(told).toEqual([`lost: ${reason}`, "ending after 5000", "has ended"])
    expect(failures).toEqual([undefined])
    expect(clock.timers).toBe(0)
  })

  it("that fails is tried again soon, and remembered until one is confirmed", () => {
    const { clock, core, failures, grant } = held()
    const first = failure("first")
    clock.advance(5_000)
    grant.renewals[0]!(first)
    expect(failures).toEqual([first])
    expect(core.renewalFailure).toBe(first)
    clock.advance(300)
    expect(grant.renewals).toHaveLength(2)
    grant.renewals[1]!(renewed(clock.now))
    expect(core.renewalFailure).toBeUndefined()
    expect(core.checkHeld()).toBe(true)
  })

  it("without an answer does not keep the deadline waiting, and nobody asks twice", () => {
    const { clock, core, grant } = held()
    clock.advance(proof - 1_001)
    expect(grant.renewals).toHaveLength(1)
    expect(core.ended).toBeUndefined()
    clock.advance(1)
    expect(core.ended).toBe("Unreachable")
    expect(grant.forgotten).toBe(1)
    expect(clock.timers).toBe(0)
    // the answer that comes then changes nothing
    grant.renewals[0]!(renewed(clock.now))
    expect(core.ended).toBe("Unreachable")
    expect(clock.timers).toBe(0)
  })

  it("that is answered in place is a renewal as well", () => {
    const { clock, core, grant } = held()
    grant.renew = (onExit) => {
      onExit(renewed(clock.now))
      return () => void grant.forgotten++
    }
    clock.advance(50_000)
    expect(core.checkHeld()).toBe(true)
    core.abandon()
    expect(grant.forgotten).toBe(0)
  })
})

describe("a question whether it is ours", () => {
  it.each(["Missing", "Taken", "Revoked"] as const)("ends it with the answer %s", (reason) => {
    const { core, grant } = held()
    const answers: Array<Failure | undefined> = []
    core.verify((exit) => answers.push(exit))
    grant.verifications[0]!(reason)
    expect(answers).toEqual([undefined])
    expect(core.ended).toBe(reason)
  })

  it("changes nothing otherwise", () => {
    const { core, grant } = held()
    const answers: Array<Failure | undefined> = []
    core.verify((exit) => answers.push(exit))
    core.verify((exit) => answers.push(exit))
    const unknown = failure()
    grant.verifications[0]!("Ours")
    grant.verifications[1]!(unknown)
    expect(answers).toEqual([undefined, unknown])
    expect(core.checkHeld()).toBe(true)
  })
})

describe("a release", () => {
  it.each([0, proof])(
    "that is asked for by who is told of the end is made once (%d ms)",
    (late) => {
      const { clock, core, grant } = held()
      const exits: Array<ReleaseExit> = []
      const release = () => core.release(clock.now, (exit) => exits.push(exit))
      core.onEnd(release)
      clock.now += late
      release()
      expect(grant.releases).toHaveLength(1)
      grant.releases[0]!("Ours")
      expect(exits).toHaveLength(2)
      expect(exits[1]).toBe(exits[0])
      release()
      expect(grant.releases).toHaveLength(1)
    }
  )

  const releasing = (world: ReturnType<typeof held>) => {
    const exits: Array<ReleaseExit> = []
    world.core.release(7, (exit) => exits.push(exit))
    return exits
  }

  it("ends the lease at once, and is asked for once", () => {
    const world = held()
    const { clock, core, grant, told } = world
    const first = releasing(world)
    const second = releasing(world)
    expect(told).toEqual(["ending after 0", "has ended"])
    expect([core.ended, core.isReleasing, core.provenMillis]).toEqual(["Released", true, 0])
    expect([grant.releases.length, grant.since, clock.timers]).toEqual([1, 7, 0])
    grant.releases[0]!("Ours")
    expect([first, second, releasing(world)]).toEqual([["Confirmed"], ["Confirmed"], ["Confirmed"]])
  })

  it("forgets the renewal that is under way", () => {
    const world = held()
    world.clock.advance(5_000)
    releasing(world)
    expect(world.grant.forgotten).toBe(1)
    world.grant.renewals[0]!({ _tag: "NotOurs", reason: "Missing" })
    expect(world.core.ended).toBe("Released")
    expect(world.told).toEqual(["ending after 5000", "has ended"])
  })

  it.each(["Missing", "Taken", "Revoked"] as const)("that finds %s is a loss", (reason) => {
    const world = held()
    const exits = releasing(world)
    world.grant.releases[0]!(reason)
    expect(exits).toEqual([new Loss(reason, false, reason)])
    expect(world.told).toEqual(["ending after 0", "has ended", `lost: ${reason}`])
  })

  it("of a lease that was lost before is asked for as well, and stays that loss", () => {
    const world = held()
    world.clock.advance(proof - 500)
    expect(world.core.provenMillis).toBe(500)
    const exits = releasing(world)
    // from here on somebody else can have it
    expect(world.core.provenMillis).toBe(0)
    world.grant.releases[0]!("Ours")
    expect(exits).toEqual([new Loss("Unreachable", true, "Ours")])
    expect(world.told.slice(3)).toEqual([])
  })

  it("that is not confirmed says why", () => {
    const world = held()
    const exits = releasing(world)
    const unknown = failure()
    world.grant.releases[0]!(unknown)
    expect(exits).toEqual([unknown])
    expect(world.told).toEqual(["ending after 0", "has ended", "release failed"])
  })

  it("of a lease that was abandoned is that of one that was held", () => {
    const world = held()
    world.core.abandon()
    const exits = releasing(world)
    world.grant.releases[0]!("Ours")
    expect(exits).toEqual(["Confirmed"])
  })

  it("that cannot begin can be tried again", () => {
    const world = held()
    world.grant.broken = new Error("of the stack")
    expect(() => releasing(world)).toThrow("of the stack")
    expect(world.core.isReleasing).toBe(false)
    world.grant.broken = undefined
    const exits = releasing(world)
    world.grant.releases[0]!("Ours")
    expect(exits).toEqual(["Confirmed"])
  })
})

it("whatever happens, in whichever order: one end, no proof beyond what was answered, no timer left", () => {
  const event = fc.oneof(
    {
      weight: 4,
      arbitrary: fc.integer({ min: 1, max: 4_000 }).map((ms) => ["advance", ms] as const)
    },
    fc.integer({ min: 1, max: 12_000 }).map((ms) => ["stall", ms] as const),
    { weight: 3, arbitrary: fc.constant(["renewed"] as const) },
    fc.constantFrom("Missing" as const, "Taken" as const).map((why) => ["not ours", why] as const),
    fc.constantFrom(["fails"] as const, ["release"] as const, ["released"] as const),
    fc.constant(["told"] as const)
  )
  fc.assert(
    fc.property(fc.array(event, { maxLength: 30 }), (events) => {
      const world = held()
      const { clock, core, grant, told } = world
      let provenUntil = clock.now + proof
      const sentAt: Array<number> = []
      const ends = new Set<string>()
      const exits: Array<ReleaseExit> = []
      const answer = (exit: RenewExit) => {
        const onExit = grant.renewals.shift()
        if (onExit === undefined) return
        const sent = sentAt.shift()!
        const isHeld = core.ended === undefined
        onExit(exit._tag === "Renewed" ? renewed(sent) : exit)
        if (isHeld && exit._tag === "Renewed") {
          provenUntil = Math.max(provenUntil, validUntil(sent, ttlMillis))
        }
      }
      const renew = grant.renew.bind(grant)
      grant.renew = (onExit) => {
        sentAt.push(clock.now)
        return renew(onExit)
      }
      for (const [what, detail] of events) {
        if (what === "advance") clock.advance(detail)
        else if (what === "stall") clock.now += detail
        else if (what === "renewed") answer(renewed(0))
        else if (what === "not ours") answer({ _tag: "NotOurs", reason: detail })
        else if (what === "fails") answer(failure())
        else if (what === "release") core.release(0, (exit) => exits.push(exit))
        else if (what === "released") grant.releases.shift()?.("Ours")
        else grant.tellLost("Taken")
        expect(core.checkHeld() && clock.now >= provenUntil).toBe(false)
        expect(core.provenMillis).toBeLessThanOrEqual(Math.max(0, provenUntil - clock.now))
        if (core.ended === undefined) continue
        ends.add(core.ended)
        expect(clock.timers).toBe(0)
      }
      expect(ends.size).toBeLessThanOrEqual(1)
      expect(told.filter((one) => one === "has ended")).toHaveLength(ends.size)
      expect(new Set(exits).size).toBeLessThanOrEqual(1)
    }),
    { numRuns: 500 }
  )
})
