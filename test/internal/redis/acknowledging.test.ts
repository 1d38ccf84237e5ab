/** Answers that wait until they are acknowledged: what is asked when, and what the answer proves. */
import { describe, expect, it } from "vitest"
import { acknowledgeOn } from "../../../src/internal/redis/acknowledgeScript.js"
import { Acknowledging } from "../../../src/internal/redis/acknowledging.js"
import type { Outcome } from "../../../src/internal/redis/call.js"
import { noScript, type RedisClient } from "../../../src/internal/redis/client.js"
import { Commands } from "../../../src/internal/redis/commands.js"
import { GivenClient } from "../../../src/internal/redis/given.js"
import type { Script } from "../../../src/internal/redis/scripts.js"
import * as scripts from "../../../src/internal/redis/scripts.js"
import { ManualClock } from "../manualClock.js"

interface Sent {
  readonly name: string
  readonly args: ReadonlyArray<string>
  readonly answer: (reply: unknown) => Promise<void>
  readonly refuse: (error: unknown) => Promise<void>
}

const soon = () => new Promise<void>((done) => setImmediate(done))

const serverError = (message: string): Error =>
  Object.assign(new Error(message), { name: "ReplyError" })

/** A client, each of whose commands is answered by the test. */
const makeClient = () => {
  const sent: Array<Sent> = []
  const send = (name: string, args: ReadonlyArray<string>) =>
    new Promise((resolve, reject) => {
      sent.push({
        name,
        args,
        answer: (reply) => (resolve(reply), soon()),
        refuse: (error) => (reject(error as Error), soon())
      })
    })
  const script = (script: string, _: number, ...args: Array<string>) =>
    script === noScript ? Promise.reject(serverError("NOSCRIPT")) : send("script", args)
  const nothing = () => {}
  const client = {
    status: "ready",
    options: {},
    eval: script,
    evalsha: script,
    call: (name: string, ...args: Array<string>) => send(name, args),
    on: nothing,
    off: nothing,
    connect: () => Promise.resolve(),
    disconnect: nothing,
    scan: () => Promise.reject(new Error("not needed")),
    duplicate: () => {
      throw new Error("not needed")
    }
  } satisfies RedisClient & { readonly call: unknown }
  return { client, sent }
}

const fence = "1700000000000000"

const make = () => {
  const clock = new ManualClock()
  const [main, beside] = [makeClient(), makeClient()]
  const acknowledging = new Acknowledging(new GivenClient(beside.client, clock, 2_000), {
    replicas: 2,
    disk: false,
    withinMillis: 200
  })
  const transport = new GivenClient(main.client, clock, 2_000)
  const commands = new Commands(transport, { batch: false, prefix: "" }, acknowledging)
  const ask = (script: Script, ...args: ReadonlyArray<string>) => {
    const call = commands.call(script, ["k", "k-record", "k-queue", "k-waiters"], args, 500)
    const outcomes: Array<Outcome> = []
    call.whenSettled((outcome) => outcomes.push(outcome))
    return { call, outcomes }
  }
  const acquire = (token: string) => ask(scripts.acquire, token, "5000", "lock/1 5000 me", "", "")
  return { acquire, ask, clock, commands, sent: main.sent, asked: beside.sent }
}

const failed = (message: string) => [
  { _tag: "Failed", error: { message: expect.stringContaining(message) as string } }
]

describe("an answer that proves something", () => {
  it("comes when the server has it, and so many replicas", async () => {
    const { acquire, asked, sent } = make()
    const { outcomes } = acquire("token")
    await sent[0]!.answer(fence)
    expect(outcomes).toEqual([])
    expect(asked.map(({ args, name }) => [name, ...args])).toEqual([
      ["script", "k", "token"],
      ["WAIT", "2", "200"]
    ])
    await asked[0]!.answer(4_990)
    expect(outcomes).toEqual([])
    await asked[1]!.answer(2)
    expect(outcomes).toEqual([{ _tag: "Answered", reply: fence }])
  })

  it("waits with all that come while a question is on its way, for the next one", async () => {
    const { acquire, asked, sent } = make()
    const calls = ["a", "b", "c"].map(acquire)
    await sent[0]!.answer(fence)
    await Promise.all([sent[1]!.answer(fence), sent[2]!.answer(fence)])
    expect(asked.map(({ name }) => name)).toEqual(["script", "WAIT"])
    await Promise.all([asked[0]!.answer(4_990), asked[1]!.answer(2)])
    expect(calls.map(({ outcomes }) => outcomes.length)).toEqual([1, 0, 0])
    expect(asked.slice(2).map(({ args, name }) => [name, ...args])).toEqual([
      ["script", "k", "b"],
      ["script", "k", "c"],
      ["WAIT", "2", "200"]
    ])
    // (one of them is held by nobody any more)
    await Promise.all([asked[2]!.answer(-1), asked[3]!.answer(4_990), asked[4]!.answer(2)])
    expect(calls[1]!.outcomes).toMatchObject(failed("does not have it"))
    expect(calls[2]!.outcomes).toMatchObject([{ _tag: "Answered" }])
  })

  it("proves what the server has that was asked, if that is less", async () => {
    const { ask, asked, clock, sent } = make()
    const { call } = ask(scripts.renew, "token", "5000")
    const sentAt = clock.now
    clock.advance(10)
    await sent[0]!.answer(1)
    // (the renewal is not there: it ends when the one before it said)
    await Promise.all([asked[0]!.answer(2_000), asked[1]!.answer(2)])
    expect(call.settled?._tag).toBe("Answered")
    expect(call.sentAt).toBe(sentAt + 10 - 3_000)
  })

  it("proves no more than it says itself, if the key is held for longer", async () => {
    const { ask, asked, clock, sent } = make()
    const { call } = ask(scripts.renew, "token", "5000")
    const sentAt = clock.now
    clock.advance(10)
    await sent[0]!.answer(1)
    await Promise.all([asked[0]!.answer(9_000), asked[1]!.answer(2)])
    expect(call.sentAt).toBe(sentAt)
  })

  it("of a claim with bounds is what is left of the ttl", async () => {
    const { acquire, asked, clock, sent } = make()
    const { call } = acquire("token")
    const sentAt = clock.now
    await sent[0]!.answer([fence, 1_000, 1_000])
    await Promise.all([asked[0]!.answer(900), asked[1]!.answer(2)])
    expect(call.sentAt).toBe(sentAt - 100)
  })

  it("fails where too few have it, and says how many, and how many there are", async () => {
    const { acquire, asked, sent } = make()
    const { outcomes } = acquire("token")
    await sent[0]!.answer(fence)
    await Promise.all([asked[0]!.answer(4_990), asked[1]!.answer("1")])
    expect(asked[2]).toMatchObject({ name: "INFO", args: ["replication"] })
    await asked[2]!.answer("role:master\r\nconnected_slaves:1\r\n")
    expect(outcomes).toMatchObject(
      failed(
        "1 of 2 replicas answered within 200 ms. The option acknowledged.replicas is 2, and the server has 1 connected."
      )
    )
  })

  it("fails where the question is not answered, or not allowed, or its connection ends", async () => {
    for (const [reply, why] of [
      [serverError("UNBLOCKED force unblock from blocking operation"), "UNBLOCKED"],
      [serverError("NOPERM this user has no permissions to run the 'wait' command"), "NOPERM"],
      [new Error("Connection is closed."), "Connection is closed."]
    ] as const) {
      const { acquire, asked, sent } = make()
      const { outcomes } = acquire("token")
      await sent[0]!.answer(fence)
      await Promise.all([asked[0]!.answer(4_990), asked[1]!.refuse(reply)])
      expect(outcomes).toMatchObject(failed(why))
    }
    const { acquire, clock, sent } = make()
    const { outcomes } = acquire("token")
    await sent[0]!.answer(fence)
    clock.advance(699)
    expect(outcomes).toEqual([])
    clock.advance(30)
    expect(outcomes).toMatchObject(failed("There was no answer on the connection"))
  })

  it("is not waited for by those who give it back", async () => {
    const { acquire, asked, commands, sent } = make()
    const { call } = acquire("token")
    await sent[0]!.answer(fence)
    expect(asked).toHaveLength(2)
    const protocol = { release: scripts.release } as Parameters<typeof commands.giveBack>[1]
    commands.giveBack(call, protocol, ["k", "k-record", "k-queue", "k-waiters"], "token", 5_000)
    expect(sent.map(({ args }) => args[4])).toEqual(["token", "token"])
    await Promise.all([asked[0]!.answer(-1), asked[1]!.answer(2)])
    expect(sent).toHaveLength(2)
  })

  it("is none if it says that somebody else has the key", async () => {
    const { acquire, ask, asked, sent } = make()
    const calls = [acquire("token"), ask(scripts.renew, "token", "5000")]
    await sent[0]!.answer([1_000, 1, "", fence, 0])
    await sent[1]!.answer(2)
    expect(calls.map(({ outcomes }) => outcomes.length)).toEqual([1, 1])
    expect(asked).toEqual([])
  })
})

describe("in a Cluster", () => {
  const cluster = (ports: ReadonlyArray<number>) => {
    const nodes = ports.map((port) => {
      const { client, sent } = makeClient()
      return { client: { ...client, options: { host: "h", port } }, sent }
    })
    let refreshes = 0
    const client = {
      ...makeClient().client,
      isCluster: true as const,
      slots: Array.from({ length: 16_384 }, (_, slot) => [`h:${slot < 8_192 ? 1 : 2}`]),
      nodes: () => nodes.map(({ client }) => client),
      refreshSlotsCache: () => void refreshes++
    }
    return { client, sent: nodes.map(({ sent }) => sent), refreshes: () => refreshes }
  }

  /** Of the slots 12182 and 7629. */
  const keys = ["foo", "c"]

  it("each node is asked for what it has, and its own replicas", async () => {
    const { client, sent } = cluster([1, 2])
    const found = acknowledgeOn(client, "", keys, ["1", "", "100", "t1", "t2"])
    await soon()
    expect(sent.map((of) => of.map(({ args }) => args))).toEqual([
      [
        ["c", "t2"],
        ["1", "100"]
      ],
      [
        ["foo", "t1"],
        ["1", "100"]
      ]
    ])
    for (const [first, second] of sent) {
      await first!.answer(500)
      await second!.answer(1)
    }
    const answered = { replicas: 1, onDisk: true, connected: undefined }
    expect(await found).toEqual([
      { left: 500, answered },
      { left: 500, answered }
    ])
  })

  it.each(["MOVED", "ASK"])("what %s names is asked in its place", async (how) => {
    const { client, refreshes, sent } = cluster([1, 2])
    const found = acknowledgeOn(client, "", ["c"], ["1", "", "100", "t"])
    await soon()
    await sent[0]![0]!.refuse(serverError(`${how} 7629 h:2`))
    await sent[0]![1]!.answer(1)
    expect(sent[1]!.map(({ name }) => name)).toEqual(
      how === "ASK" ? ["ASKING", "script", "WAIT"] : ["script", "WAIT"]
    )
    for (const { answer, name } of sent[1]!) await answer(name === "script" ? 700 : 1)
    expect(await found).toMatchObject([{ left: 700, answered: { replicas: 1 } }])
    expect(refreshes()).toBe(how === "MOVED" ? 1 : 0)
  })
})
