/** A lease that is handed over: what its core makes of each answer, and of what is asked meanwhile. */
import { describe, expect, it } from "vitest"
import { drift } from "../../../src/internal/common/timing.js"
import {
  type Grant,
  type NotOurs,
  type OwnershipExit,
  Renewed,
  type RenewExit,
  StoreFailure
} from "../../../src/internal/engine.js"
import { LeaseCore } from "../../../src/internal/lease/core.js"
import type { Failure, LeaseFace, ReleaseExit } from "../../../src/internal/lease/terms.js"
import { ManualClock } from "../manualClock.js"

const ttlMillis = 10_000
const terms = { ttlMillis, renewEveryMillis: 5_000, marginMillis: 1_000 }
const proof = ttlMillis - drift(ttlMillis)
const failure = new StoreFailure("handOver", "key", "no answer", true)

/** A lease that is held, and has been asked to be handed over. */
const leaving = () => {
  const clock = new ManualClock()
  const answers: Array<(exit: RenewExit) => void> = []
  const releases: Array<(exit: OwnershipExit) => void> = []
  let broken: Error | undefined
  let tellLost: (reason: NotOurs) => void = () => {}
  const grant: Grant = {
    token: "token",
    fencingToken: 1,
    fencingFloor: 1,
    contention: undefined,
    validUntil: clock.now + proof,
    renew: () => () => {},
    verify: () => () => {},
    release: (_, onExit) => void releases.push(onExit),
    handOver: (onExit) => {
      if (broken !== undefined) throw broken
      answers.push(onExit)
      return () => {}
    },
    whenLost: (listener) => {
      tellLost = listener
    }
  }
  const told: Array<string> = []
  const face: LeaseFace = {
    renewalDue: () => {},
    lost: (reason) => told.push(`lost: ${reason}`),
    ending: () => told.push("ending"),
    hasEnded: () => told.push("has ended"),
    releaseFailed: () => told.push("release failed")
  }
  const core = new LeaseCore(grant, clock, terms, face)
  core.begin()
  core.start()
  const exits: Array<Failure | undefined> = []
  const released: Array<ReleaseExit> = []
  return {
    clock,
    core,
    told,
    exits,
    releases,
    released,
    handOver: () => core.handOver((exit) => exits.push(exit)),
    release: () => core.release(clock.now, (exit) => released.push(exit)),
    answer: (exit: RenewExit) => answers.shift()!(exit),
    lose: (reason: NotOurs) => tellLost(reason),
    breaks: (error: Error | undefined) => {
      broken = error
    }
  }
}

describe("a lease that is handed over", () => {
  it("ends with the answer, and is not given back", () => {
    const { answer, clock, core, exits, handOver, release, released, releases, told } = leaving()
    handOver()
    expect(core.checkHeld()).toBe(true)
    expect(core.isReleasing).toBe(true)
    answer(new Renewed(clock.now + proof))
    expect(exits).toEqual([undefined])
    expect(core).toMatchObject({ ended: "Released", released: "Confirmed" })
    expect(told).toEqual(["ending", "has ended"])
    expect(core.provenMillis).toBe(0)
    expect(clock.timers).toBe(0)
    release()
    expect(released).toEqual(["Confirmed"])
    expect(releases).toHaveLength(0)
  })

  it("goes on after a failure, and can be handed over again, or released", () => {
    const { answer, core, exits, handOver, release, releases, told } = leaving()
    handOver()
    answer(failure)
    expect(exits).toEqual([failure])
    expect(core.checkHeld()).toBe(true)
    expect(core.provenMillis).toBe(proof)
    expect(core.released).toBeUndefined()
    expect(told).toEqual([])
    handOver()
    answer(failure)
    release()
    expect(releases).toHaveLength(1)
  })

  it.each(["Missing", "Taken", "Revoked"] as const)(
    "is lost where the answer says %s",
    (reason) => {
      const { answer, core, exits, handOver, told } = leaving()
      handOver()
      answer({ _tag: "NotOurs", reason })
      expect(exits).toEqual([undefined])
      expect(core.ended).toBe(reason)
      expect(core.released).toBeUndefined()
      expect(told).toEqual([`lost: ${reason}`, "ending", "has ended"])
    }
  )

  it("a release meanwhile waits: for its end, or for its turn", () => {
    const gone = leaving()
    gone.handOver()
    gone.release()
    expect(gone.released).toEqual([])
    gone.answer(new Renewed(gone.clock.now + proof))
    expect(gone.released).toEqual(["Confirmed"])
    expect(gone.releases).toHaveLength(0)

    const held = leaving()
    held.handOver()
    held.release()
    held.answer(failure)
    expect(held.released).toEqual([])
    expect(held.releases).toHaveLength(1)
    held.releases[0]!("Ours")
    expect(held.released).toEqual(["Confirmed"])
  })

  it("that is lost meanwhile is lost, whatever the answer says, and given back", () => {
    for (const lose of [
      (one: ReturnType<typeof leaving>) => one.lose("Taken"),
      (one: ReturnType<typeof leaving>) => one.clock.advance(proof)
    ]) {
      const one = leaving()
      one.handOver()
      lose(one)
      const reason = one.core.checkHeld() ? undefined : one.core.ended
      expect(["Taken", "Unreachable"]).toContain(reason)
      one.answer(new Renewed(one.clock.now + proof))
      expect(one.exits).toEqual([undefined])
      expect(one.core.ended).toBe(reason)
      expect(one.core.released).toBeUndefined()
      one.release()
      expect(one.releases).toHaveLength(1)
    }
  })

  it("is held as before where the store throws", () => {
    const { breaks, core, handOver, release, releases } = leaving()
    breaks(new Error("a bug"))
    expect(handOver).toThrow("a bug")
    expect(core.isReleasing).toBe(false)
    breaks(undefined)
    handOver()
    release()
    expect(releases).toHaveLength(0)
  })
})
