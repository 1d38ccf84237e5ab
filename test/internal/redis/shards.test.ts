/** Which connections carry which keys of a Cluster, by what is known of it. */
import { describe, expect, it } from "vitest"
import { Commands } from "../../../src/internal/redis/commands.js"
import type { Connection } from "../../../src/internal/redis/connection.js"
import { type ClusterNetwork, type Shard, Shards } from "../../../src/internal/redis/shards.js"
import * as scripts from "../../../src/internal/redis/scripts.js"
import { slotOf } from "../../../src/internal/redis/layout.js"
import { ManualClock } from "../manualClock.js"
import { Scripted } from "./scriptedNetwork.js"

/** Masters of the Cluster, each with an equal part of the slots. */
const makeWorld = () => {
  const clock = new ManualClock()
  const dialled: Array<{ readonly shard: Shard; readonly connection: Scripted }> = []
  let masters: ReadonlyArray<string> = []
  let whenLearnt = (): void => {}
  const network: ClusterNetwork = {
    options: { keyPrefix: "app:" },
    isLazy: false,
    whenLearnt: (listener) => {
      whenLearnt = listener
    },
    masterOf: (slot) => masters[Math.floor((slot * masters.length) / 16_384)],
    hasSlots: (master) => masters.includes(master),
    networkOf: (shard) => ({
      options: {},
      isCluster: true,
      byName: false,
      isLazy: false,
      dial: (events): Connection => {
        const connection = new Scripted(
          events,
          () => {},
          () => {}
        )
        dialled.push({ shard, connection })
        return connection
      },
      subscriber: () => {
        throw new Error("not here")
      },
      pause: () => 100,
      shown: (error) => error
    }),
    subscriber: () => {
      throw new Error("not here")
    },
    shown: (error) => error
  }
  const shards = new Shards(network, clock, 2_000, clock.unsafeSchedule)
  const commands = new Commands(shards, { batch: true, prefix: "locks:" })
  const learn = (...names: ReadonlyArray<string>) => {
    masters = names
    whenLearnt()
  }
  /** A key, as the user names it, in the slots of that one of so many masters. */
  const keyOf = (index: number, count: number): string => {
    for (let i = 0; ; i++) {
      if (Math.floor((slotOf(`app:locks:k${i}`) * count) / 16_384) === index) return `k${i}`
    }
  }
  return {
    commands,
    dialled,
    keyOf,
    learn,
    shards,
    ask: (key: string) => {
      const call = commands.call(scripts.verify, [`locks:${key}`], ["token"])
      call.whenSettled(() => {})
      return call
    },
    live: () => dialled.filter(({ connection }) => connection.isLive)
  }
}

describe("the shards of a Cluster", () => {
  it("by the first connections as long as nothing is known", () => {
    const { ask, dialled, keyOf } = makeWorld()
    const calls = [ask(keyOf(0, 2)), ask(keyOf(1, 2))]
    expect(dialled).toHaveLength(1)
    dialled[0]!.connection.greet()
    expect(dialled[0]!.connection.sent).toHaveLength(2)
    dialled[0]!.connection.answer()
    dialled[0]!.connection.answer()
    for (const call of calls) expect(call.settled).toMatchObject({ _tag: "Answered" })
  })

  it("the first shard that is asked takes the first connections, others get their own", () => {
    const { ask, dialled, keyOf, learn } = makeWorld()
    dialled[0]!.connection.greet()
    learn("a", "b", "c")
    ask(keyOf(1, 3))
    expect(dialled.map(({ shard }) => shard.master)).toEqual(["b"])
    expect(dialled[0]!.connection.sent).toHaveLength(1)
    ask(keyOf(0, 3))
    ask(keyOf(1, 3))
    // (of the third nothing is asked)
    expect(dialled.map(({ shard }) => shard.master)).toEqual(["b", "a"])
    dialled[1]!.connection.greet()
    expect(dialled.map(({ connection }) => connection.sent.length)).toEqual([2, 1])
  })

  it("the shards of what was asked before they were known have connections when it is asked about again", () => {
    const { ask, dialled, keyOf, learn } = makeWorld()
    const calls = [ask(keyOf(1, 3)), ask(keyOf(0, 3)), ask(keyOf(1, 3))]
    learn("a", "b", "c")
    expect(dialled.map(({ shard }) => shard.master)).toEqual(["b", "a"])
    // (it goes out by those that are there first)
    dialled[0]!.connection.greet()
    expect(dialled[0]!.connection.sent).toHaveLength(3)
    for (const call of calls) {
      dialled[0]!.connection.answer()
      expect(call.settled).toMatchObject({ _tag: "Answered" })
    }
    dialled[1]!.connection.greet()
    ask(keyOf(0, 3))
    expect(dialled.map(({ connection }) => connection.sent.length)).toEqual([3, 1])
  })

  it("a shard that is doubted has a second connection, and the others stay as they are", () => {
    const { ask, commands, dialled, keyOf, learn } = makeWorld()
    dialled[0]!.connection.greet()
    learn("a", "b")
    for (const index of [0, 1]) ask(keyOf(index, 2))
    dialled[1]!.connection.greet()
    dialled[1]!.connection.answer()
    ;(commands.clock as ManualClock).advance(1_000)
    expect(dialled.map(({ shard }) => shard.master)).toEqual(["a", "b", "a"])
    expect(commands.routeOfLock(keyOf(0, 2)).status).toBe("bridging")
    expect(commands.routeOfLock(keyOf(1, 2)).status).toBe("ready")
    // its slow answer makes nobody else wait longer
    dialled[0]!.connection.answer()
    expect(commands.routeOfLock(keyOf(0, 2)).slowestMillis).toBe(1_000)
    expect(commands.routeOfLock(keyOf(1, 2)).slowestMillis).toBe(0)
    expect(commands.patience(`locks:${keyOf(1, 2)}`, 3_000)).toBe(500)
  })

  it("of a master that has no slots any more they are ended, when nothing waits there", () => {
    const { ask, dialled, keyOf, learn, live } = makeWorld()
    dialled[0]!.connection.greet()
    learn("a", "b")
    const waiting = ask(keyOf(0, 2))
    ask(keyOf(1, 2))
    // a failover
    learn("c", "b")
    ask(keyOf(0, 2))
    expect(live().map(({ shard }) => shard.master)).toEqual(["a", "b", "c"])
    dialled[0]!.connection.answer()
    expect(waiting.settled).toMatchObject({ _tag: "Answered" })
    ask(keyOf(1, 2))
    expect(live().map(({ shard }) => shard.master)).toEqual(["b", "c"])
  })

  it("what waits for a shard's connection goes on by another one's when that has the slot", () => {
    const { ask, dialled, keyOf, learn, live } = makeWorld()
    dialled[0]!.connection.greet()
    learn("a", "b")
    ask(keyOf(0, 2))
    ask(keyOf(1, 2))
    // (the first one is sent again by whatever comes next, and the second has never gone out)
    dialled[0]!.connection.close()
    expect(live().map(({ shard }) => shard.master)).toEqual(["b"])
    dialled[1]!.connection.greet()
    learn("b")
    expect(dialled[1]!.connection.sent).toHaveLength(2)
    learn("c", "b")
    // (what was sent on a connection that is there stays)
    expect(live().map(({ shard }) => shard.master)).toEqual(["b"])
  })

  it("what waits for a connection is kept by those of the new master, until they are there", () => {
    const { ask, dialled, keyOf, learn, live } = makeWorld()
    dialled[0]!.connection.greet()
    learn("a", "b")
    const call = ask(keyOf(0, 2))
    dialled[0]!.connection.close()
    expect(call.settled).toBe(undefined)
    learn("c", "b")
    expect(live().map(({ shard }) => shard.master)).toEqual(["c"])
    live()[0]!.connection.greet()
    live()[0]!.connection.answer()
    expect(call.settled).toMatchObject({ _tag: "Answered" })
    expect(dialled.map(({ shard }) => shard.master)).toEqual(["a", "c"])
  })

  it("first connections that end leave to each shard what is its own", () => {
    const { ask, commands, dialled, keyOf, learn, live } = makeWorld()
    const calls = [0, 1, 2].map((index) => ask(keyOf(index, 3)))
    dialled[0]!.connection.greet()
    expect(dialled[0]!.connection.sent).toHaveLength(3)
    learn("a", "b", "c")
    dialled[0]!.connection.answer()
    dialled[0]!.connection.close()
    expect(calls[0]!.settled).toMatchObject({ _tag: "Answered" })
    // (one of them after the pause, which follows on the end of its own)
    ;(commands.clock as ManualClock).advance(100)
    expect(live().map(({ shard }) => shard.master)).toEqual(["c", "b"])
    for (const { connection } of live()) connection.greet()
    for (const { connection } of live()) expect(connection.sent).toHaveLength(1)
  })

  it("a slot without a master goes by whatever there is", () => {
    const { ask, dialled, keyOf, learn } = makeWorld()
    dialled[0]!.connection.greet()
    learn("a")
    ask(keyOf(0, 1))
    learn()
    ask(keyOf(0, 1))
    expect(dialled.map(({ connection }) => connection.sent.length)).toEqual([2])
  })

  it("at the end all are given up, what waits fails, and so does what comes after", () => {
    const { ask, dialled, keyOf, learn, live, shards } = makeWorld()
    dialled[0]!.connection.greet()
    learn("a", "b")
    const calls = [ask(keyOf(0, 2)), ask(keyOf(1, 2))]
    shards.end()
    expect(live()).toEqual([])
    for (const call of calls) expect(call.settled).toMatchObject({ _tag: "Failed" })
    learn("c", "b")
    expect(shards.routeOf(`locks:${keyOf(0, 2)}`).ended).toBe(true)
    expect(dialled).toHaveLength(2)
  })
})
