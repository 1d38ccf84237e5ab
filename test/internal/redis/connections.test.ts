/** A store's own connections, event by event: with a clock and a network that do what the test says. */
import * as fc from "fast-check"
import { describe, expect, it } from "vitest"
import { makeWorld, patience, type Scripted, timeout, type World } from "./scriptedNetwork.js"

const states = ["away", "dialling", "ready", "doubted", "bridging", "proving", "ended"] as const
type State = (typeof states)[number]

/** A way into each state; answers the world in it. */
const into: Readonly<Record<State, () => World>> = {
  away: () => {
    const world = makeWorld()
    world.dialled[0]!.close()
    return world
  },
  dialling: () => makeWorld(),
  ready: () => {
    const world = makeWorld()
    world.dialled[0]!.greet()
    return world
  },
  // silent, and no second one may be made yet
  doubted: () => {
    const world = into.bridging()
    world.dialled[0]!.answer()
    world.ask()
    world.clock.advance(patience)
    return world
  },
  bridging: () => {
    const world = into.ready()
    world.ask()
    world.clock.advance(patience)
    return world
  },
  proving: () => {
    const world = into.bridging()
    world.dialled[1]!.greet()
    return world
  },
  ended: () => {
    const world = into.ready()
    world.end()
    return world
  }
}

const older = (world: World): Scripted | undefined => world.live[0]
const younger = (world: World): Scripted | undefined => world.live[1]

const events: Readonly<Record<string, (world: World) => void>> = {
  "the older is greeted": (world) => older(world)?.greet(),
  "the younger is greeted": (world) => younger(world)?.greet(),
  "the older answers": (world) => older(world)?.answer(),
  "the younger answers": (world) => younger(world)?.answer(),
  "the older says READONLY": (world) => older(world)?.refuse("READONLY You can't write"),
  "the older closes": (world) => older(world)?.close(),
  "the younger closes": (world) => younger(world)?.close(),
  "something is asked": (world) => void world.ask(),
  "a short time passes": (world) => world.clock.advance(20),
  "a patience passes": (world) => world.clock.advance(patience),
  end: (world) => world.end()
}

/** What follows. Where nothing is said, nothing does. */
const follows: Readonly<Record<State, Partial<Record<keyof typeof events, State>>>> = {
  away: { "a patience passes": "dialling", end: "ended" },
  dialling: {
    "the older is greeted": "ready",
    "the older closes": "away",
    end: "ended"
  },
  ready: { "the older closes": "away", end: "ended" },
  doubted: {
    "the older answers": "ready",
    // no second one yet, and the next may be made only later
    "the older closes": "away",
    "a patience passes": "bridging",
    end: "ended"
  },
  bridging: {
    "the younger is greeted": "proving",
    "the older answers": "ready",
    "the older closes": "dialling",
    "the younger closes": "doubted",
    end: "ended"
  },
  proving: {
    "the older answers": "ready",
    "the younger answers": "ready",
    "the older closes": "ready",
    "the younger closes": "doubted",
    end: "ended"
  },
  ended: {}
}

describe("each event in each state", () => {
  for (const state of states) {
    for (const [name, happens] of Object.entries(events)) {
      const next = follows[state][name] ?? state
      it(`${state}: ${name}: ${next}`, () => {
        const world = into[state]()
        expect(world.connections.status).toBe(state)
        happens(world)
        expect(world.connections.status).toBe(next)
        expect(world.violations).toEqual([])
      })
    }
  }
})

const lastSent = (one: Scripted | undefined) => one?.sent.map(({ calls }) => calls[0]!.keys[0])

describe("what waits for an answer", () => {
  it("goes out on a second connection as well, and the first answer counts", () => {
    const world = into.ready()
    const asked = world.ask()
    world.clock.advance(patience + 100)
    const [first, second] = world.live
    second!.greet()
    expect(lastSent(second)).toEqual(lastSent(first))
    const sentAt = world.clock.now
    world.clock.advance(30)
    second!.answer("first")
    expect(asked.outcome).toMatchObject({ _tag: "Answered", reply: "first" })
    // what was proven counts from the copy that was answered
    expect(asked.call.sentAt).toBe(sentAt)
    expect(first!.wasReset).toBe(true)
    expect(world.live).toEqual([second])
  })

  it("may still be answered on the old one, which stays then", () => {
    const world = into.proving()
    const [first, second] = world.live
    first!.answer()
    expect(world.live).toEqual([first])
    expect(second!.wasReset).toBe(true)
  })

  it("on an old one of a thousand times the latency is not cut", () => {
    // a place that greets at once, and passes commands on slowly
    const world = into.ready()
    const asked = world.ask()
    const sentAt = world.clock.now
    while (world.clock.now < sentAt + 30_000) {
      world.clock.advance(50)
      for (const one of world.live) one.greet()
    }
    world.dialled[0]!.answer("late")
    expect(asked.outcome).toMatchObject({ _tag: "Answered", reply: "late" })
    expect(asked.call.sentAt).toBe(sentAt)
    // tried again, less and less often
    expect(world.dialled.length).toBeGreaterThan(3)
    expect(world.dialled.length).toBeLessThan(8)
    expect(world.violations).toEqual([])
  })

  it("is asked of the server where nobody waits any more, before the old one is given up", () => {
    const world = into.ready()
    const asked = world.ask()
    world.clock.advance(patience)
    asked.abandon()
    const [first, second] = world.live
    second!.greet()
    expect(second!.sent).toEqual([])
    expect(first!.isLive).toBe(true)
    second!.answer()
    expect(world.live).toEqual([second])
    // and then it is known that it will not be answered
    expect(asked.outcome).toMatchObject({ _tag: "Failed" })
  })

  it("is kept while there is no connection, and causes none to be replaced", () => {
    const world = makeWorld()
    const asked = Array.from({ length: 50 }, () => world.ask(50))
    // a handshake of 5 s: others beside it, with more time each, and never more than one
    for (let i = 0; i < 100; i++) world.clock.advance(50)
    expect(world.dialled.length).toBeLessThan(5)
    world.dialled[0]!.greet()
    expect(world.live).toEqual([world.dialled[0]])
    for (let i = 0; i < 50; i++) world.dialled[0]!.answer()
    expect(asked.every(({ outcome }) => outcome?._tag === "Answered")).toBe(true)
    expect(world.violations).toEqual([])
  })

  it("after a close goes out on the next connection, in order, without what was given up", () => {
    const world = into.ready()
    const asked = [world.ask(), world.ask(), world.ask()]
    asked[1]!.abandon()
    world.dialled[0]!.close()
    expect(asked[1]!.outcome).toMatchObject({ _tag: "Failed" })
    world.clock.advance(100)
    world.dialled[1]!.greet()
    expect(lastSent(world.dialled[1])).toEqual(["k0", "k2"])
    expect(asked[0]!.call.resent).toBe(true)
  })
})

describe("connections are made", () => {
  it("by the first call, where the client is to be lazy", () => {
    const world = makeWorld({ isLazy: true })
    world.clock.advance(10_000)
    expect(world.dialled).toEqual([])
    world.ask()
    expect(world.dialled).toHaveLength(1)
  })

  it("after pauses that double up to a second, where the server closes on every command", () => {
    const world = makeWorld()
    const at: Array<number> = []
    for (let i = 0; i < 6; i++) {
      const before = world.dialled.length
      world.live[0]!.greet()
      world.ask()
      world.live[0]!.close()
      const from = world.clock.now
      while (world.dialled.length === before) world.clock.advance(1)
      at.push(world.clock.now - from)
    }
    for (let i = 1; i < at.length; i++) {
      expect(at[i]).toBeGreaterThanOrEqual(Math.min(1_000, 1.9 * at[i - 1]!))
    }
  })

  for (const [where, byName, longest] of [
    ["", false, 60_000],
    [", not too long where it is asked for the server by name", true, 10_000]
  ] as const) {
    it(`for twice as long each time, where nothing is ever greeted${where}`, () => {
      const world = makeWorld({ byName })
      world.dialled[0]!.greet()
      world.ask()
      const at: Array<number> = []
      let known = 1
      while (at.length < 12) {
        world.clock.advance(50)
        if (world.dialled.length > known) at.push(world.clock.now)
        known = world.dialled.length
      }
      const tries = at.slice(1).map((time, index) => time - at[index]!)
      for (let i = 1; i < tries.length; i++) {
        expect(tries[i]).toBeGreaterThanOrEqual(Math.min(longest - 50, 1.9 * tries[i - 1]!))
      }
      expect(Math.max(...tries)).toBeLessThanOrEqual(longest + 50)
      expect(world.violations).toEqual([])
    })
  }

  it("no more, where the user's retryStrategy says so", async () => {
    const world = makeWorld({ pause: () => undefined })
    const asked = world.ask()
    world.dialled[0]!.close()
    expect(world.connections.ended).toBe(true)
    expect(asked.outcome).toMatchObject({ _tag: "Failed" })
    const later = world.ask()
    // a caller that is told before it listens would not be told at all
    expect(later.outcome).toBe(undefined)
    await Promise.resolve()
    expect(later.outcome).toMatchObject({ _tag: "Failed" })
    expect(world.clock.timers).toBe(0)
  })

  it("beside a replica, as long as it says READONLY", () => {
    const world = into.ready()
    world.ask()
    world.dialled[0]!.refuse("READONLY You can't write against a read only replica.")
    world.clock.advance(10)
    expect(world.dialled).toHaveLength(2)
    world.dialled[1]!.greet()
    world.dialled[1]!.answer()
    expect(world.live).toEqual([world.dialled[1]])
  })
})

type Step =
  | { readonly _tag: "ask" | "abandon"; readonly which: number }
  | { readonly _tag: "greet" | "answer" | "close" | "readonly"; readonly which: number }
  | { readonly _tag: "advance"; readonly which: number }

const step: fc.Arbitrary<Step> = fc.record({
  _tag: fc.constantFrom(
    "ask",
    "ask",
    "abandon",
    "greet",
    "greet",
    "answer",
    "answer",
    "close",
    "readonly",
    "advance",
    "advance",
    "advance"
  ),
  which: fc.nat(3_000)
})

it("any order of events: never both gone by our hand, one spare, nothing for those who gave up, progress, nothing left", () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 120 }), (steps) => {
      const world = makeWorld()
      const asked: Array<ReturnType<World["ask"]>> = []
      const one = (which: number) => world.live[which % Math.max(1, world.live.length)]
      const gaveUp = new Set<unknown>()
      for (const { _tag, which } of steps) {
        if (_tag === "ask") asked.push(world.ask(50 + (which % 1_000)))
        else if (_tag === "abandon") {
          const call = asked[which % Math.max(1, asked.length)]
          call?.abandon()
          gaveUp.add(call)
        } else if (_tag === "advance") world.clock.advance(which)
        else if (_tag === "greet") one(which)?.greet()
        else if (_tag === "answer") one(which)?.answer()
        else if (_tag === "close") one(which)?.close()
        else one(which)?.refuse("READONLY")
        expect(world.violations).toEqual([])
      }
      // the network is well again: connections that are made are greeted and answer
      for (let i = 0; i < 200; i++) {
        world.clock.advance(50)
        for (const connection of world.live) {
          connection.greet()
          while (connection.isLive && connection.owed.length > 0) connection.answer()
          connection.answer()
        }
      }
      const forgotten = asked.filter((call) => !gaveUp.has(call) && call.outcome === undefined)
      expect(forgotten).toEqual([])
      expect(world.connections.status).toBe("ready")
      expect(world.live).toHaveLength(1)
      const last = world.ask()
      world.live[0]!.answer()
      expect(last.outcome).toMatchObject({ _tag: "Answered" })
      expect(world.violations).toEqual([])
      world.ask()
      world.end()
      expect(asked.every(({ outcome }) => outcome !== undefined)).toBe(true)
      expect(world.live).toEqual([])
      expect(world.clock.timers).toBe(0)
    }),
    { numRuns: 1_000 }
  )
})

/** How long a call waits whose connection is dead, and that only a second one answers; at most that. */
const bridged = (world: World, asked: ReturnType<World["ask"]>, atMost: number): number => {
  const from = world.clock.now
  while (asked.outcome === undefined && world.clock.now < from + atMost) {
    world.clock.advance(10)
    world.live[1]?.greet()
    world.live[1]?.answer()
  }
  return world.clock.now - from
}

it("a dead connection is bridged well within the proof, for every ttl", () => {
  for (const ttl of [1_000, 2_000, 5_000, 15_000, 60_000]) {
    const world = into.ready()
    // renewed at half of the ttl
    const asked = world.ask(ttl / 6)
    expect(bridged(world, asked, ttl)).toBeLessThan(ttl / 4)
  }
})

it("a connection that dies after many needless second ones is bridged as well", () => {
  const world = into.ready()
  // late again and again, and doubted each time
  for (let i = 0; i < 20; i++) {
    const asked = world.ask(50)
    world.clock.advance(90)
    world.live[0]!.answer()
    expect(asked.outcome?._tag).toBe("Answered")
    world.clock.advance(400)
  }
  const asked = world.ask(patience)
  expect(bridged(world, asked, timeout)).toBeLessThan(0.75 * timeout)
  expect(world.violations).toEqual([])
})

it("a connection that dies after a stall of a second is bridged as well", () => {
  const world = into.ready()
  world.ask(timeout)
  world.clock.advance(1_080)
  world.live[0]!.answer()
  // and a needless second one
  world.ask(50)
  world.clock.advance(90)
  world.live[0]!.answer()
  expect(world.dialled).toHaveLength(2)
  world.clock.advance(1_500)
  const asked = world.ask(250)
  expect(bridged(world, asked, timeout)).toBeLessThan(0.75 * timeout)
  expect(world.violations).toEqual([])
})

it("a lease on a network of any latency is not doubted more often than some times a minute", () => {
  for (const latency of [300, 900, 1_500, timeout]) {
    const world = into.ready()
    for (let i = 0; i < 24; i++) {
      world.ask(833)
      world.clock.advance(latency)
      world.dialled[0]!.answer()
      world.clock.advance(2_500 - latency)
    }
    expect(world.dialled[0]!.isLive).toBe(true)
    expect(world.dialled.length).toBeLessThan(10)
  }
})
