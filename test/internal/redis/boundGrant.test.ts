/** A lease with bounds, with a server that answers what the test says. */
import { describe, expect, it } from "vitest"
import { validUntil } from "../../../src/internal/common/timing.js"
import type { Claim, Grant, RenewExit } from "../../../src/internal/engine.js"
import { grantOf } from "../../../src/internal/redis/boundGrant.js"
import { boundProtocol } from "../../../src/internal/redis/bounds.js"
import { Tenure } from "../../../src/internal/redis/tenure.js"
import { ManualClock } from "../manualClock.js"

const claim: Claim = {
  key: "key",
  kind: "lock",
  share: 1,
  limit: 1,
  ttlMillis: 10_000,
  waitMillis: 0,
  owner: undefined,
  maxHoldMillis: 60_000
}

const granted = () => {
  const clock = new ManualClock()
  let sent: ReadonlyArray<string> = []
  let settle: (outcome: unknown) => void = () => {}
  const commands = {
    clock,
    patience: () => 1_000,
    call: (_: unknown, __: unknown, args: ReadonlyArray<string>) => {
      sent = args
      const sentAt = clock.now
      return { sentAt, whenSettled: (observer: typeof settle) => ((settle = observer), () => {}) }
    }
  }
  const tenure = new Tenure("token", 1, 1, 7, 7, clock.now, 10_000, clock.now, undefined)
  tenure.mayBeHeld(clock.now, 60_000)
  const turn = tenure.turn(claim, undefined, clock.now)
  const line = { protocol: boundProtocol(claim), keys: ["key"], firstKeys: () => ["key"] }
  const grant: Grant = grantOf(commands as never, line as never, turn)
  /** Renews it, with an answer after so long. */
  const renew = (tookMillis: number, ...reply: ReadonlyArray<number>): RenewExit => {
    let exit: RenewExit | undefined
    grant.renew((answer) => (exit = answer))
    clock.advance(tookMillis)
    settle({ _tag: "Answered", reply })
    return exit!
  }
  return { clock, grant, renew, sent: () => sent, startedAt: clock.now }
}

describe("a lease with maxHold", () => {
  it("is renewed for what the server says is left", () => {
    const { clock, grant, renew, sent, startedAt } = granted()
    expect(grant.holdUntil).toBe(startedAt + 60_000)
    clock.advance(5_000)
    const sentAt = clock.now
    expect(renew(100, 1, 10_000, 55_000)).toEqual({
      _tag: "Renewed",
      validUntil: validUntil(sentAt, 10_000)
    })
    expect(sent()).toEqual(["token", "10000", "", "7", "60000"])
    expect(renew(0, 1, 4_000, 54_900)).toMatchObject({ validUntil: validUntil(clock.now, 4_000) })
  })

  it("keeps the record, which a day would end, where it lasts for hours", () => {
    const { clock, renew, sent } = granted()
    clock.advance(7 * 3_600_000)
    renew(0, 1, 10_000, 50_000)
    expect(sent()[2]).toBe("1")
    clock.advance(5_000)
    renew(0, 1, 10_000, 45_000)
    expect(sent()[2]).toBe("")
  })

  it("asks for no more than is left of it", () => {
    const { clock, renew, sent } = granted()
    clock.advance(55_000)
    renew(0, 1, 5_000, 5_000)
    expect(sent()[1]).toBe("5000")
    clock.advance(5_000)
    renew(0, 1, 1, 0)
    expect(sent()[1]).toBe("1")
  })

  it("ends earlier, where the server's clock is faster; not because an answer took long", () => {
    const { clock, grant, renew, startedAt } = granted()
    clock.advance(10_000)
    renew(3_000, 1, 10_000, 47_000)
    expect(grant.holdUntil).toBe(startedAt + 60_000)
    renew(0, 1, 10_000, 40_000)
    expect(grant.holdUntil).toBe(startedAt + 53_000)
  })

  it("does not end later, where the server's clock was set back", () => {
    const { clock, grant, renew, sent, startedAt } = granted()
    clock.advance(50_000)
    renew(0, 1, 10_000, 3_610_000)
    expect(grant.holdUntil).toBe(startedAt + 60_000)
    clock.advance(8_000)
    renew(0, 1, 2_000, 3_602_000)
    expect(sent()[1]).toBe("2000")
  })
})
