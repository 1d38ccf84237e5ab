/** What is sent with the first key alone, while the slot of a Cluster is on its way, and what that proves. */
import { describe, expect, it } from "vitest"
import { validUntil } from "../../../src/internal/common/timing.js"
import type { Claim, OwnershipExit, RenewExit } from "../../../src/internal/engine.js"
import { grantOf } from "../../../src/internal/redis/boundGrant.js"
import { lockScripts } from "../../../src/internal/redis/boundScripts.js"
import type { Outcome } from "../../../src/internal/redis/call.js"
import { noScript, type RedisClient } from "../../../src/internal/redis/client.js"
import { Commands } from "../../../src/internal/redis/commands.js"
import { GivenClient } from "../../../src/internal/redis/given.js"
import { lockProtocol } from "../../../src/internal/redis/protocol.js"
import type { Script } from "../../../src/internal/redis/scripts.js"
import * as scripts from "../../../src/internal/redis/scripts.js"
import { Tenure } from "../../../src/internal/redis/tenure.js"
import { ManualClock } from "../manualClock.js"

const moving = new Error(
  "Too many Cluster redirections. Last error: ReplyError: TRYAGAIN Multiple keys request during rehashing of slot"
)

interface Sent {
  readonly keysAndArgs: ReadonlyArray<string>
  readonly count: number
  readonly answer: (reply: unknown) => Promise<void>
  readonly refuse: (error: unknown) => Promise<void>
}

/** A Cluster client of the user's, each of whose commands is answered by the test. */
const make = () => {
  const clock = new ManualClock()
  const sent: Array<Sent> = []
  const send = (script: string, count: number, ...keysAndArgs: ReadonlyArray<string>) => {
    // (whether there are scripts)
    if (script === noScript) return Promise.reject(new Error("NOSCRIPT"))
    return new Promise((resolve, reject) => {
      const settled = () => new Promise<void>((done) => setImmediate(done))
      sent.push({
        keysAndArgs,
        count,
        answer: (reply) => (resolve(reply), settled()),
        refuse: (error) => (reject(error as Error), settled())
      })
    })
  }
  const nothing = () => {}
  const client: RedisClient = {
    status: "ready",
    isCluster: true,
    options: {},
    eval: send,
    evalsha: send,
    nodes: () => [],
    on: nothing,
    off: nothing,
    connect: () => Promise.resolve(),
    disconnect: nothing,
    scan: () => Promise.reject(new Error("not needed")),
    duplicate: () => {
      throw new Error("not needed")
    }
  }
  const commands = new Commands(new GivenClient(client, clock, 2_000))
  const ask = (script: Script, ...args: ReadonlyArray<string>) => {
    const call = commands.call(script, ["k", "k-record", "k-queue"], args, 500)
    const outcomes: Array<Outcome> = []
    call.whenSettled((outcome) => outcomes.push(outcome))
    return { call, outcomes }
  }
  return { clock, sent, ask }
}

describe("by the first key", () => {
  it("what was refused is sent at once, with the same arguments, and not as a repetition", async () => {
    const { ask, sent } = make()
    const { call, outcomes } = ask(scripts.renew, "token", "5000")
    await sent[0]!.refuse(moving)
    expect(sent[1]).toMatchObject({ count: 1, keysAndArgs: ["k", "token", "5000"] })
    await sent[1]!.answer(2)
    expect(outcomes).toMatchObject([{ _tag: "Answered", reply: 2 }])
    expect(call).toMatchObject({ byOneKey: true, resent: false })
  })

  it("what is not answered in its patience is sent as well: the first answer counts", async () => {
    const { ask, clock, sent } = make()
    const { call, outcomes } = ask(scripts.release, "token")
    clock.advance(499)
    expect(sent.length).toBe(1)
    clock.advance(2_000)
    expect(sent.length).toBe(2)
    await sent[1]!.answer(1)
    expect(outcomes).toMatchObject([{ _tag: "Answered", reply: 1 }])
    expect(call).toMatchObject({ byOneKey: true, resent: true })
    await sent[0]!.refuse(moving)
    expect(sent.length).toBe(2)
    expect(outcomes.length).toBe(1)
  })

  it("a call fails only when none of its copies can be answered any more", async () => {
    for (const [first, second] of [
      [0, 1],
      [1, 0]
    ] as const) {
      const { ask, clock, sent } = make()
      const { outcomes } = ask(scripts.verify, "token")
      clock.advance(600)
      await sent[first]!.refuse(moving)
      expect(outcomes).toEqual([])
      await sent[second]!.refuse(moving)
      expect(outcomes).toMatchObject([{ _tag: "Failed", error: moving }])
      expect(sent.length).toBe(2)
    }
  })

  it("a pass that is only slow may have kept the key: it is given back when it was refused", async () => {
    const { ask, clock, sent } = make()
    const { outcomes } = ask(scripts.pass, "token", "5000", "claim", "7")
    clock.advance(1_900)
    expect(sent.length).toBe(1)
    await sent[0]!.refuse(moving)
    expect(sent[1]).toMatchObject({ count: 1, keysAndArgs: ["k", "token", "5000", "claim", "7"] })
    await sent[1]!.answer(1)
    expect(outcomes).toMatchObject([{ _tag: "Answered", reply: 1 }])
  })

  it("nobody is made a holder, and no tick is given back", async () => {
    for (const [script, ...args] of [
      [scripts.acquire, "token", "5000", "claim"],
      [scripts.heartbeat, "token", "5000", "claim", "3000", "3000"],
      [scripts.adopt, "token", "5000", "claim", "other"],
      [lockScripts.release, "token"]
    ] as const) {
      const { ask, clock, sent } = make()
      const { outcomes } = ask(script, ...args)
      clock.advance(1_900)
      await sent[0]!.refuse(moving)
      expect(sent.length).toBe(1)
      expect(outcomes).toMatchObject([{ _tag: "Failed", error: moving }])
    }
    const { ask, sent } = make()
    ask(lockScripts.release, "token", "0", "7")
    await sent[0]!.refuse(moving)
    expect(sent.length).toBe(2)
  })
})

const claim: Claim = {
  key: "key",
  kind: "lock",
  share: 1,
  limit: 1,
  ttlMillis: 10_000,
  waitMillis: 0,
  owner: undefined
}

describe("a renewal by the first key", () => {
  it("proves no more than what is known to be recorded, and leaves the record to the next one", () => {
    const clock = new ManualClock()
    const asked: Array<ReadonlyArray<string>> = []
    let byOneKey = true
    const commands = {
      clock,
      patience: () => 1_000,
      call: (_: unknown, __: unknown, args: ReadonlyArray<string>) => {
        asked.push(args)
        const answered = { _tag: "Answered", reply: 1 }
        return {
          sentAt: clock.now,
          byOneKey,
          whenSettled: (observer: (outcome: unknown) => void) => (observer(answered), () => {})
        }
      }
    }
    // handed over, with the ttl of a claim window
    const tenure = new Tenure("token", 1, 1, 7, 7, clock.now, 3_000, clock.now, undefined)
    const turn = tenure.turn(claim, undefined, clock.now)
    const line = { protocol: lockProtocol, keys: ["key"], firstKeys: () => ["key"] }
    const grant = grantOf(commands as never, line as never, turn)
    const renew = (): RenewExit => {
      let exit: RenewExit | undefined
      grant.renew((answer) => (exit = answer))
      return exit!
    }
    clock.advance(500)
    expect(renew()).toEqual({ _tag: "Renewed", validUntil: validUntil(clock.now, 3_000) })
    clock.advance(500)
    byOneKey = false
    expect(renew()).toEqual({ _tag: "Renewed", validUntil: validUntil(clock.now, 10_000) })
    expect(asked).toEqual([
      ["token", "10000", "1"],
      ["token", "10000", "1"]
    ])
  })
})

describe("a pass that kept the key", () => {
  for (const [sentByOneKey, expected] of [
    [false, ["kept 1795972818521022"]],
    [true, ["ended", "given back"]]
  ] as const) {
    it(`keeps it for the next caller ${sentByOneKey ? "not where it was also sent by the first key" : "here"}`, () => {
      const clock = new ManualClock()
      const done: Array<string> = []
      const call = {
        sentByOneKey,
        until: (_: number, observer: (outcome: unknown) => void) =>
          observer({ _tag: "Answered", reply: "1795972818521022" })
      }
      const commands = {
        clock,
        timeoutMillis: 1_000,
        transport: { isCluster: false },
        giveBack: () => done.push("given back")
      }
      const line = {
        protocol: lockProtocol,
        keys: ["key"],
        passOn: () => false,
        has: () => true,
        askToPass: () => ({ call, ttlMillis: 10_000 }),
        kept: (_: unknown, fencingToken: number) => done.push(`kept ${fencingToken}`),
        ended: () => done.push("ended")
      }
      const tenure = new Tenure("token", 1, 1, 7, 7, clock.now, 3_000, clock.now, undefined)
      const turn = tenure.turn(claim, undefined, clock.now)
      let exit: OwnershipExit | undefined
      grantOf(commands as never, line as never, turn).release(clock.now, (one) => (exit = one))
      expect(exit).toBe("Ours")
      expect(done).toEqual(expected)
    })
  }
})
