/** Every check is seen to fail, on a history written by hand that violates it and nothing else. */
import { describe, expect, it } from "@effect/vitest"
import { checks, judge, slope, type Terms } from "./checks.js"
import { type Event, parse } from "./History.js"

const terms: Terms = {
  ttl: 1_000,
  renewEvery: 500,
  behind: 0,
  inOrder: true,
  everyoneServed: true,
  harmless: false,
  way: 0,
  handoff: undefined
}

/** The wall clock of these histories is ahead of the other one by a second. */
const wall = (at: number) => at + 1_000

interface Turn {
  readonly worker?: string
  readonly key?: string
  readonly asked?: number
  readonly at: number
  readonly until?: number
  readonly ended?: number
  readonly how?: "done" | "interrupted"
  /** Until when it was proven at its end. */
  readonly endedUntil?: number
  readonly outcome?: string
  readonly fence?: number
  readonly floor?: number
  readonly weight?: number
  readonly limit?: number
  readonly seen?: ReadonlyArray<readonly [at: number, until: number]>
  readonly tick?: number
}

let last = 0

/** A section from the question to the answer, in good order but for what is said. */
const turn = ({
  asked,
  at,
  ended = at + 50,
  fence = wall(at) * 1_000,
  floor = fence,
  how = "done",
  key = "k",
  limit = 1,
  outcome = "ok",
  seen = [],
  until = at + 990,
  endedUntil = until,
  tick,
  weight = 1,
  worker = "a"
}: Turn): Array<Event> => {
  const section = `${worker}/${++last}`
  return [
    { _tag: "Asked", at: asked ?? at - 5, worker, section, key, way: "withLock", weight, limit },
    { _tag: "Granted", at, section, token: section, fence, until, tick },
    { _tag: "Write", at: at + 1, key, section, phase: "enter", fence, floor, accepted: true },
    ...seen.map(([at, until]): Event => ({ _tag: "Seen", at, section, until })),
    { _tag: "Ended", at: ended, section, how, until: endedUntil },
    { _tag: "Settled", at: ended + 1, section, outcome }
  ]
}

const fault = (
  fault: string,
  at: number,
  until = at + 10,
  forgets = false,
  target = "redis"
): Event => ({
  _tag: "Fault",
  at,
  until,
  fault,
  target,
  forgets: forgets ? ["k"] : [],
  wallAt: wall(at),
  wallUntil: wall(until)
})

const stalled = (from: number, at: number, worker = "a"): Event => ({
  _tag: "Stalled",
  at,
  worker,
  from
})

const without = (section: string, tag: Event["_tag"], events: ReadonlyArray<Event>) =>
  events.filter((event) => !(event._tag === tag && "section" in event && event.section === section))

/** The names of the checks that find something. */
const found = (history: ReadonlyArray<Event>, other: Partial<Terms> = {}) => [
  ...new Set(judge(history, { ...terms, ...other }).map(({ check }) => check))
]

const two = (first: Turn, second: Turn) => [
  ...turn({ worker: "a", ...first }),
  ...turn({ worker: "b", ...second })
]

const write = (
  section: string,
  fence: number,
  at: number,
  accepted = true,
  floor = fence
): Event => ({
  _tag: "Write",
  at,
  key: "k",
  section,
  phase: "middle",
  fence,
  floor,
  accepted
})

/** They hold a key at the same time, each in a process of its own. */
const together = (turns: ReadonlyArray<Partial<Turn>>) => {
  const floor = wall(100) * 1_000
  return turns.flatMap((one, index) =>
    turn({ at: 100 + 10 * index, ended: 500, floor, worker: `m${index}`, ...one })
  )
}

describe("a history in good order", () => {
  it("violates nothing", () => {
    expect(found(two({ at: 100 }, { at: 200 }))).toEqual([])
  })

  it("nor does one of leases that were lost in time", () => {
    const lost = { ended: 1_000, endedUntil: 1_050, how: "interrupted", until: 1_050 } as const
    expect(
      found(two({ at: 100, ...lost, outcome: "LockLost Unreachable" }, { at: 1_200, asked: 150 }))
    ).toEqual([])
  })
})

describe("exclusion", () => {
  it("is violated by two bodies whose leases are proven at the same time", () => {
    expect(found(two({ at: 100, ended: 300 }, { at: 200, ended: 250 }))).toEqual(["exclusion"])
  })

  it("not by two keys, nor where the first one's proof had run out", () => {
    expect(found(two({ at: 100, ended: 300 }, { at: 200, key: "other" }))).toEqual([])
    const late = { at: 100, until: 150, ended: 300, endedUntil: 0, outcome: "LockLost Unreachable" }
    const history = [...two(late, { at: 200 }), stalled(120, 290)]
    expect(found(history)).toEqual([])
  })

  it("a process that was killed holds until its proof runs out", () => {
    const [first, second] = [turn({ at: 100, worker: "a" }), turn({ at: 500, worker: "b" })]
    const section = `a/${last - 1}`
    const killed = without(section, "Ended", without(section, "Settled", first))
    const history: Array<Event> = [...killed, { _tag: "Killed", at: 120, worker: "a" }, ...second]
    expect(found(history)).toEqual(["exclusion"])
  })

  it("is violated by as many as there is room for, and one more", () => {
    const three = (limit: number) => together(["a", "b", "c"].map((worker) => ({ worker, limit })))
    expect(found(three(3))).toEqual([])
    expect(found(three(2))).toEqual(["exclusion"])
  })

  it("counts how much each of them has", () => {
    const two = (weight: number) =>
      together([
        { limit: 3, weight },
        { limit: 3, weight: 2 }
      ])
    expect(found(two(1))).toEqual([])
    expect(found(two(2))).toEqual(["exclusion"])
  })

  it("is violated where the limit of one that holds is exceeded, whatever that of the others is", () => {
    const three = (limit: number) => together([{ limit }, { limit: 3 }, { limit: 3 }])
    expect(found(three(3))).toEqual([])
    expect(found(three(2))).toEqual(["exclusion"])
    expect(found(together([{ limit: 3 }, { limit: 3 }, { limit: 2 }]))).toEqual(["exclusion"])
  })

  it("is excused where the store forgot the first lease before it granted the second, only", () => {
    const first = { at: 100, ended: 400, endedUntil: 0, outcome: "LockLost Missing" }
    const overlap = (at: number) => two(first, { at, ended: at + 20 })
    expect(found([...overlap(300), fault("flushall", 200, 210, true)])).toEqual([])
    expect(found([...overlap(300), fault("flushall", 350, 360, true)])).toEqual(["exclusion"])
    expect(found([...overlap(300), fault("restart", 200, 210, false)])).toEqual(["exclusion"])
    const elsewhere = { ...fault("flushall", 200, 210), forgets: ["other"] } as Event
    expect(found([...overlap(300), elsewhere])).toEqual(["exclusion"])
  })
})

describe("no tick twice", () => {
  it("is violated by two runs of a tick, whenever", () => {
    expect(found(two({ at: 100, tick: 5 }, { at: 200, tick: 6 }))).toEqual([])
    expect(found(two({ at: 100, tick: 5 }, { at: 200, tick: 5, key: "other" }))).toEqual([])
    expect(found(two({ at: 100 }, { at: 200 }))).toEqual([])
    expect(found(two({ at: 100, tick: 5 }, { at: 200, tick: 5 }))).toEqual(["no tick twice"])
  })

  it("is excused where the store forgot the first before it granted the second, only", () => {
    const both = two({ at: 100, tick: 5 }, { at: 300, tick: 5 })
    expect(found([...both, fault("flushall", 200, 210, true)])).toEqual([])
    expect(found([...both, fault("restart", 200, 210, false)])).toEqual(["no tick twice"])
    expect(found([...both, fault("flushall", 50, 60, true)])).toEqual(["no tick twice"])
  })
})

describe("fencing", () => {
  it("is violated where the register accepts a smaller token", () => {
    const history = two({ at: 100, fence: 1_000_000 }, { at: 200, fence: 2_000_000 })
    const stale = write(`a/${last - 1}`, 1_000_000, 230)
    expect(found([...history, stale])).toEqual(["fencing"])
  })

  it("is violated where two sections have the same token", () => {
    const history = two({ at: 100, fence: 1_000_000 }, { at: 200, asked: 90, fence: 1_000_000 })
    expect(found(history)).toEqual(["fencing"])
  })

  it("where several hold a key, only a floor shuts out those below it", () => {
    const three = together([
      { fence: 1_000_000, floor: 1_000_000, limit: 3 },
      { fence: 2_000_000, floor: 1_000_000, limit: 3 },
      { fence: 3_000_000, floor: 2_000_000, limit: 3 }
    ])
    const [one, two] = [`m0/${last - 2}`, `m1/${last - 1}`]
    expect(found([...three, write(two, 2_000_000, 230, true, 1_000_000)])).toEqual([])
    expect(found([...three, write(one, 1_000_000, 230)])).toEqual(["fencing"])
    // a holder that is refused by the floor of another one, and could not know better
    expect(found([...three, write(one, 1_000_000, 230, false)])).toEqual(["fencing"])
    expect(found([...three, write(one, 1_000_000, 230, false), stalled(150, 220, "m0")])).toEqual(
      []
    )
  })

  it("is violated by a floor above its own token, and a token that comes twice, not in a row", () => {
    expect(found(turn({ at: 100, fence: 1_000_000, floor: 1_000_001 }))).toEqual(["fencing"])
    const three = together([
      { fence: 1_000_000, floor: 1_000_000, limit: 3 },
      { fence: 2_000_000, floor: 1_000_000, limit: 3 },
      { asked: 90, fence: 1_000_000, floor: 1_000_000, limit: 3 }
    ])
    expect(found(three)).toEqual(["fencing"])
  })

  it("a refusal is excused by a stall of the writer, or a store that forgot its lease", () => {
    const history = two({ at: 100, fence: 1_000_000 }, { at: 200, fence: 2_000_000 })
    const refused = write(`a/${last - 1}`, 1_000_000, 230, false)
    expect(found([...history, refused])).toEqual(["fencing"])
    expect(found([...history, stalled(140, 220), refused])).toEqual([])
    expect(found([...history, stalled(140, 220, "b"), refused])).toEqual(["fencing"])
    expect(found([...history, fault("flushall", 180, 185, true), refused])).toEqual([])
  })
})

describe("a master that dies, and whose replica had been cut off", () => {
  /** Cut off at 150, dead at 200; what the replica had of the last section but so many. */
  const death = (back: number, had: { readonly fence?: number; readonly end?: number }): Event => ({
    _tag: "TakenOver",
    at: 200,
    diedAt: 200,
    wallDiedAt: wall(200),
    wallCutAt: wall(150),
    keys: ["k"],
    fences: had.fence === undefined ? {} : { k: wall(had.fence) * 1_000 },
    ends: had.end === undefined ? {} : { [`a/${last - back}`]: wall(had.end) }
  })
  const first = { at: 170, ended: 400 }
  const second = { at: 300, ended: 350 }

  it("excuses the next one's grant beside one that it had not heard of", () => {
    expect(found([...two(first, second), death(1, { fence: 100 })])).toEqual([])
    expect(found([...two(first, second), death(1, {})])).toEqual([])
  })

  it("and none beside one that it had heard of, until that had run out there", () => {
    const known = { ...first, at: 120 }
    expect(found([...two(known, second), death(1, { fence: 120, end: 290 })])).toEqual([])
    expect(found([...two(known, second), death(1, { fence: 120, end: 330 })])).toEqual([
      "exclusion"
    ])
    expect(found([...two(first, second), death(1, { fence: 100, end: 330 })])).toEqual([
      "exclusion"
    ])
    expect(found([...two(known, second), death(1, { fence: 120 })])).toEqual(["exclusion"])
  })

  it("nor two grants of its own, nor another key's", () => {
    const both = two({ at: 160, ended: 400 }, { at: 180, ended: 350 })
    expect(found([...both, death(1, { fence: 100 })])).toEqual(["exclusion"])
    const others = two({ ...first, key: "l" }, { ...second, key: "l" })
    expect(found([...others, death(1, {})])).toEqual(["exclusion"])
  })

  it("nor a holder that believes in what a dead master cannot have told it", () => {
    const believes = { ...first, until: 1_160, seen: [[1_000, 1_900]], ended: 1_500 } as const
    expect(found([...two(believes, { at: 1_250, ended: 1_300 }), death(1, {})])).toEqual([
      "exclusion",
      "forgotten leases are noticed"
    ])
  })

  it("nor a token of the next one that is not greater", () => {
    const history = two({ at: 170 }, { at: 300, until: 1_100, fence: wall(160) * 1_000 }).filter(
      ({ _tag }) => _tag !== "Write"
    )
    expect(found([...history, death(1, {})])).toEqual(["growing tokens"])
  })

  it("excuses a refusal to whom it had not heard of, and a tick that is run again", () => {
    const history = two({ ...first, ended: 290 }, { at: 300, ended: 310 })
    const refused = write(`a/${last - 1}`, wall(170) * 1_000, 320, false)
    expect(found([...history, refused])).toEqual(["fencing"])
    expect(found([...history, refused, death(1, {})])).toEqual([])
    expect(found([...history, refused, death(1, { fence: 170 })])).toEqual(["fencing"])
    const runs = two({ at: 170, tick: 1 }, { at: 300, tick: 1 })
    expect(found([...runs, death(1, {})])).toEqual([])
    expect(found([...runs, death(1, { fence: 170, end: 250 })])).toEqual(["no tick twice"])
  })
})

describe("growing tokens", () => {
  it("is violated where who asked later has a smaller one", () => {
    const history = two({ at: 100, fence: 2_000_000 }, { at: 200, fence: 1_000_000 })
    expect(found(history.filter(({ _tag }) => _tag !== "Write"))).toEqual(["growing tokens"])
  })

  it("says nothing of two masters, while a failover goes on and a ttl longer", () => {
    const history = two({ at: 100, fence: 2_000_000 }, { at: 200, fence: 1_000_000 }).filter(
      ({ _tag }) => _tag !== "Write"
    )
    expect(found([...history, fault("failover", 90, 150)])).toEqual([])
    expect(found([...history, fault("failover", 110, 150)])).toEqual(["growing tokens"])
  })

  it("but for as far as a process can have one before its caller comes, where several hold a key", () => {
    const history = two({ at: 100, fence: 2_000_000 }, { at: 200, fence: 1_980_000 }).filter(
      ({ _tag }) => _tag !== "Write"
    )
    expect(found(history)).toEqual(["growing tokens"])
    expect(found(history, { behind: 50 })).toEqual([])
    expect(found(history, { behind: 10 })).toEqual(["growing tokens"])
  })

  it("says nothing of those who asked at the same time", () => {
    const history = two({ at: 100, fence: 2_000_000 }, { at: 200, asked: 90, fence: 1_000_000 })
    expect(found(history.filter(({ _tag }) => _tag !== "Write"))).toEqual([])
  })
})

describe("interruption", () => {
  const late = {
    at: 100,
    until: 1_090,
    ended: 1_300,
    how: "interrupted",
    endedUntil: 0,
    outcome: "LockLost Unreachable"
  } as const

  it("is violated by a body that goes on after its validity", () => {
    expect(found(turn(late))).toEqual(["interruption"])
  })

  it("not if its event loop did not turn, and it ended then; not much later", () => {
    expect(found([...turn(late), stalled(800, 1_290)])).toEqual([])
    expect(found([...turn(late), stalled(800, 1_000)])).toEqual(["interruption"])
    expect(found([...turn(late), stalled(800, 1_290, "b")])).toEqual(["interruption"])
  })

  it("nor if it was stopped or blocked, and killed before it could say so", () => {
    const done = (name: string, target: string) => fault(name, 800, 1_295, false, target)
    expect(found([...turn(late), done("blocked", "a")])).toEqual([])
    expect(found([...turn(late), done("stopped", "a")])).toEqual([])
    expect(found([...turn(late), done("blocked", "b")])).toEqual(["interruption"])
    expect(found([...turn(late), done("clock moved", "a")])).toEqual(["interruption"])
    const killed = (at: number): Event => ({ _tag: "Killed", at, worker: "a" })
    expect(found([...turn(late), stalled(700, 900), killed(1_400)])).toEqual([])
    expect(found([...turn(late), stalled(200, 300), killed(1_400)])).toEqual(["interruption"])
    expect(found([...turn(late), killed(1_400)])).toEqual(["interruption"])
  })

  it("a timer may miss it by some milliseconds, unless somebody else had the key by then", () => {
    const short = { ...late, ended: 1_100 }
    expect(found(turn(short))).toEqual([])
    expect(found(two(short, { at: 1_095, asked: 150 }))).toEqual(["interruption"])
    // … and there was no room for both
    const another = { at: 1_095, floor: 1_100_000 }
    expect(found(two({ ...short, limit: 2 }, { ...another, limit: 2 }))).toEqual([])
    const larger = { ...another, limit: 2, weight: 2 }
    expect(found(two({ ...short, limit: 2 }, larger))).toEqual(["interruption"])
  })

  it("is violated by one that looks twice at a lease that it has not got", () => {
    const seen = [
      [1_291, 0],
      [1_295, 0]
    ] as const
    expect(found([...turn({ ...late, seen }), stalled(800, 1_290)])).toEqual(["interruption"])
    expect(found([...turn({ ...late, seen: seen.slice(1) }), stalled(800, 1_290)])).toEqual([])
  })

  it("but not by one that does so after two stalls: it can have been proven again in between", () => {
    const seen = [
      [1_101, 0],
      [1_291, 0]
    ] as const
    const first = [...turn({ ...late, seen }), stalled(800, 1_100)]
    expect(found([...first, stalled(1_102, 1_290)])).toEqual([])
    expect(found([...first, stalled(1_280, 1_290)])).toEqual(["interruption"])
    expect(found([...first, stalled(1_102, 1_290, "b")])).toEqual(["interruption"])
  })
})

describe("losses are told", () => {
  it("is violated by a section without a lease at its end that settles as if it had one", () => {
    const silent = { at: 100, until: 140, ended: 150, endedUntil: 0 }
    expect(found(turn(silent))).toEqual(["losses are told"])
    expect(found(turn({ ...silent, outcome: "LockLost Taken" }))).toEqual([])
  })
})

describe("forgotten leases are noticed", () => {
  const flush = fault("flushall", 200, 205, true)

  it("is violated by a holder that proves its lease after it was forgotten", () => {
    const believer = turn({ at: 100, ended: 900, seen: [[700, 1_690]], endedUntil: 1_690 })
    expect(found([...believer, flush])).toContain("forgotten leases are noticed")
    // of the two masters of a failover, only one was flushed
    expect(found([...believer, flush, fault("failover", 50, 190)])).toContain(
      "forgotten leases are noticed"
    )
    expect(found([...believer, flush, fault("failover", 50, 300)])).toEqual([])
  })

  it("is violated by a body that goes on behind its next renewal", () => {
    const slow = { at: 100, ended: 1_180, endedUntil: 0, outcome: "LockLost Missing" }
    expect(found([...turn(slow), flush])).toEqual(["forgotten leases are noticed"])
    expect(found([...turn({ ...slow, ended: 700 }), flush])).toEqual([])
    expect(found([...turn(slow), flush, fault("client pause", 300, 900)])).toEqual([])
  })
})

describe("no lease outlives its process", () => {
  const dead: ReadonlyArray<Event> = [...turn({ at: 50 }), { _tag: "Killed", at: 100, worker: "a" }]
  const held = `a/${last}`
  const at = (at: number, token: string): Event => ({
    _tag: "Found",
    at,
    worker: "a",
    key: "k",
    token
  })

  it("is violated by a key that it has for longer than the ttl", () => {
    expect(found([...dead, at(1_200, held)])).toEqual([])
    expect(found([...dead, at(1_500, held)])).toEqual(["no lease outlives its process"])
    expect(found([...dead, fault("redis stopped", 150, 900), at(1_500, held)])).toEqual([])
  })

  it("or, where it died in the queue, for longer than its claim window and the ttl", () => {
    expect(found([...dead, at(2_200, "queued")])).toEqual([])
    expect(found([...dead, at(2_500, "queued")])).toEqual(["no lease outlives its process"])
  })

  it("or, where it died in the queue, is granted after its claim window", () => {
    const granted = (since: number) => [...dead, { ...at(1_600, "queued"), since }]
    expect(found(granted(1_200))).toEqual([])
    expect(found(granted(1_300))).toEqual(["no lease outlives its process"])
    expect(found([...granted(1_300), fault("redis stopped", 150, 300)])).toEqual([])
  })
})

describe("no waiter is forgotten", () => {
  const asked = (worker: string): Event => ({
    _tag: "Asked",
    at: 120,
    worker,
    section: `${worker}/waits`,
    key: "k",
    way: "withLock",
    weight: 1,
    limit: 1
  })

  it("is violated by one who is never answered, unless its process was killed", () => {
    const history = [...turn({ at: 100, worker: "a" }), asked("a")]
    expect(found(history)).toEqual(["no waiter is forgotten"])
    expect(found([...history, { _tag: "Killed", at: 130, worker: "a" }])).toEqual([])
  })

  it("is violated by a process that never has a turn, and where nobody has", () => {
    const gaveUp: Event = {
      _tag: "Settled",
      at: 200,
      section: "b/waits",
      outcome: "LockUnavailable"
    }
    const history = [...turn({ at: 100, worker: "a" }), asked("b"), gaveUp]
    expect(found(history)).toEqual(["no waiter is forgotten"])
    expect(found(history, { everyoneServed: false })).toEqual([])
    expect(found([])).toEqual(["no waiter is forgotten"])
  })
})

describe("no key is idle while somebody waits", () => {
  it("is violated by a handoff that takes longer than a heartbeat", () => {
    const slow = two({ at: 100, ended: 200 }, { at: 950, asked: 150 })
    expect(found(slow)).toEqual(["no key is idle while somebody waits"])
    expect(found(two({ at: 100, ended: 200 }, { at: 950, asked: 900 }))).toEqual([])
    expect(found([...slow, stalled(250, 600)])).toEqual([])
    expect(found([...slow, fault("messages lost", 150, 300)])).toEqual([])
  })

  it("is violated by one who waits although there is room for it, and all before it", () => {
    const holder = turn({ at: 100, ended: 900, limit: 3, worker: "a" })
    const floor = wall(100) * 1_000
    const waiter = (asked: number, weight: number, worker = "b", limit = 3) =>
      turn({ asked, at: 950, limit, weight, worker, ...(asked < 900 ? { floor } : {}) })
    const waited = ["no key is idle while somebody waits"]
    expect(found([...holder, ...waiter(150, 2)], { inOrder: false })).toEqual(waited)
    expect(found([...holder, ...waiter(850, 2)], { inOrder: false })).toEqual([])
    // there is no room for it, by its own limit, or that of the holder
    expect(found([...holder, ...waiter(150, 3)], { inOrder: false })).toEqual([])
    expect(found([...holder, ...waiter(150, 2, "b", 2)], { inOrder: false })).toEqual([])
    const strict = turn({ at: 100, ended: 900, limit: 2, worker: "a" })
    expect(found([...strict, ...waiter(150, 2)], { inOrder: false })).toEqual([])
    // it may be behind one for whom there is none
    const large = turn({ asked: 120, at: 910, ended: 940, limit: 3, weight: 3, worker: "c" })
    expect(found([...holder, ...large, ...waiter(150, 1)], { inOrder: false })).toEqual([])
    const behind = turn({ asked: 120, at: 1_010, limit: 3, weight: 3, worker: "c" })
    expect(found([...holder, ...waiter(150, 1), ...behind], { inOrder: false })).toEqual(waited)
    const gaveUp = large.flatMap((event): Array<Event> =>
      event._tag === "Asked"
        ? [event]
        : event._tag === "Settled"
          ? [{ ...event, at: 300, outcome: "LockUnavailable" }]
          : []
    )
    const others = { everyoneServed: false, inOrder: false }
    expect(found([...holder, ...gaveUp, ...waiter(150, 1)], others)).toEqual(waited)
  })

  it("is violated by a permit that nobody has, while others go on", () => {
    const floor = wall(100) * 1_000
    const history = (limit: number) => [
      ...turn({ at: 100, ended: 2_000, limit, floor, worker: "a", until: 2_500 }),
      ...Array.from({ length: 15 }, (_, index) =>
        turn({ asked: 80, at: 200 + 100 * index, ended: 295 + 100 * index, limit, floor })
      ).flat()
    ]
    const terms = { inOrder: false, ttl: 1_000 }
    expect(found(history(2), terms)).toEqual([])
    expect(found(history(3), terms)).toEqual(["no key is idle while somebody waits"])
    // what it may take to hear of a grant
    expect(
      found([...history(3), fault("subscriber cut", 50, 60)], { ...terms, handoff: 1_400 })
    ).toEqual([])
  })

  it("a process that died, or stood still, costs a claim window and a ttl, and no longer", () => {
    const history = (at: number) => {
      const dead = without(`a/${last + 1}`, "Settled", turn({ at: 100, limit: 2, worker: "a" }))
      const killed = without(`a/${last}`, "Ended", dead)
      return [
        ...killed,
        fault("killed", 120, 130),
        { _tag: "Killed", at: 130, worker: "a" } as const,
        ...turn({ asked: 140, at, limit: 2, weight: 2, worker: "b" })
      ]
    }
    expect(found(history(2_500))).toEqual([])
    expect(found(history(3_400))).toEqual(["no key is idle while somebody waits"])
    expect(found([...history(3_400), fault("refused", 150, 160)])).toEqual([])
  })

  it("nor where messages are all that is lost, and it is known how long that may take", () => {
    const slow = [
      ...two({ at: 100, ended: 200 }, { at: 950, asked: 150 }),
      fault("subscriber cut", 50, 900, false, "b")
    ]
    expect(found(slow, { handoff: 334 })).toEqual(["no key is idle while somebody waits"])
    expect(found(slow, { handoff: 600 })).toEqual([])
  })
})

describe("what is harmless", () => {
  const harmless = { harmless: true }
  const lost = {
    ended: 1_000,
    endedUntil: 1_080,
    how: "interrupted",
    outcome: "LockLost Unreachable"
  } as const

  it("costs nobody a lease", () => {
    const section = turn({ at: 100, ...lost, seen: [[600, 1_080]] })
    expect(found(section)).toEqual([])
    expect(found(section, harmless)).toEqual(["no lease is lost that can be kept"])
    const died = (at: number, target = "a") =>
      fault("connections lead nowhere", at, at, false, target)
    const found_ = (...more: ReadonlyArray<Event>) => found([...section, ...more], harmless)
    expect(found_(died(300))).toEqual(["no lease is lost that can be kept"])
    // half of its time was over when it happened
    expect(found_(died(700))).toEqual([])
    expect(found_(died(700, "b"))).toEqual(["no lease is lost that can be kept"])
    // nothing ran for long enough to be late
    expect(found_(stalled(700, 740))).toEqual([])
    expect(found_(stalled(700, 740, "the network"))).toEqual([])
    expect(found_(stalled(700, 740, "the server"))).toEqual([])
    expect(found_(stalled(700, 740, "b"))).toEqual(["no lease is lost that can be kept"])
    expect(found_(stalled(700, 720))).toEqual(["no lease is lost that can be kept"])
  })

  it("fails no call", () => {
    const section = turn({ at: 100, outcome: "LockStoreError" })
    expect(found(section)).toEqual([])
    expect(found(section, harmless)).toEqual(["no call fails without need"])
    const late = turn({ asked: 100, at: 990, ended: 991, outcome: "LockStoreError" })
    const because = (...stalls: ReadonlyArray<Event>) => found([...late, ...stalls], harmless)
    expect(because(stalled(200, 500), stalled(450, 750, "the server"))).toEqual([])
    expect(because(stalled(200, 500), stalled(250, 500, "the server"))).toEqual([
      "no call fails without need"
    ])
  })

  it("lets a subscriber that is refused come back less and less often", () => {
    const refused = (connections: number, subscribes: number): ReadonlyArray<Event> => [
      ...turn({ at: 100 }),
      { _tag: "Refused", at: 5_000, from: 0, worker: "a", connections, subscribes }
    ]
    expect(found(refused(8, 1), harmless)).toEqual([])
    expect(found(refused(20, 1))).toEqual([])
    expect(found(refused(20, 1), harmless)).toEqual(["a refused subscriber is patient"])
    expect(found(refused(2, 9), harmless)).toEqual(["a refused subscriber is patient"])
  })
})

describe("first come, first served", () => {
  const passedBy = [
    ...turn({ at: 100, ended: 600, worker: "a" }),
    ...turn({ at: 610, asked: 500, worker: "c" }),
    ...turn({ at: 700, asked: 110, worker: "b" })
  ]

  it("is violated by a process that is served after one that came later", () => {
    expect(found(passedBy)).toEqual(["first come, first served"])
  })

  it("is asked of rows that promise it, and of processes that were not stalled", () => {
    expect(found(passedBy, { inOrder: false })).toEqual([])
    expect(found([...passedBy, stalled(105, 300, "b")])).toEqual([])
    expect(found([...passedBy, stalled(105, 200, "b")])).toEqual(["first come, first served"])
    expect(found([...passedBy, stalled(105, 300, "a")])).toEqual(["first come, first served"])
    // it may have lost its place
    expect(found([...passedBy, stalled(200, 600, "b")])).toEqual([])
    expect(found([...passedBy, stalled(200, 500, "b"), stalled(450, 560, "the server")])).toEqual(
      []
    )
    expect(found([...passedBy, stalled(200, 500, "b"), stalled(300, 500, "the server")])).toEqual([
      "first come, first served"
    ])
  })

  it("is the order of grants, also where several hold a key: the small do not overtake", () => {
    const floor = wall(100) * 1_000
    const overtaken = (fence: number) => [
      ...turn({ at: 100, ended: 900, limit: 3, weight: 2, worker: "a" }),
      ...turn({ asked: 500, at: 610, ended: 650, limit: 3, worker: "c", floor }),
      ...turn({ asked: 110, at: 910, limit: 3, weight: 2, worker: "b", fence, floor: fence })
    ]
    const order = ["first come, first served"]
    expect(found(overtaken(wall(910) * 1_000))).toEqual(order)
    // granted before it, and told later
    expect(found(overtaken(wall(105) * 1_000), { ttl: 3_000 })).toEqual([])
    // it was not in line: its own process had what there is
    const own = turn({ at: 95, ended: 905, limit: 3, weight: 2, worker: "b" })
    const others = overtaken(wall(910) * 1_000).slice(5)
    expect(found([...own, ...others])).toEqual([])
  })

  it("counts from the end of the process's own last turn", () => {
    const again = [
      ...turn({ at: 100, ended: 150, worker: "b" }),
      ...turn({ at: 160, asked: 90, ended: 590, worker: "a" }),
      ...turn({ at: 600, asked: 400, worker: "c" }),
      ...turn({ at: 700, asked: 95, worker: "b" })
    ]
    expect(found(again)).toEqual(["first come, first served"])
    const fair = again.map((event) =>
      event._tag === "Asked" && event.at === 400 ? { ...event, at: 155 } : event
    )
    expect(found(fair)).toEqual([])
  })
})

describe("what is left, and what breaks", () => {
  const good = turn({ at: 100 })

  it("is reported", () => {
    const left: Event = { _tag: "Left", at: 500, where: "redis", what: "a key" }
    expect(found([...good, left])).toEqual(["nothing is left"])
    const broke: Event = { _tag: "Broke", at: 500, worker: "a", what: "an uncaught exception" }
    expect(found([...good, broke])).toEqual(["nothing breaks"])
  })

  it("memory is flat, or it is not", () => {
    const heap = (growth: number, once = 0) =>
      Array.from({ length: 60 }, (_, minute): Event => ({
        _tag: "Memory",
        at: minute * 60_000,
        worker: "a",
        // warming up, then growing, and a garbage collector that has its own ideas
        bytes:
          20e6 +
          Math.min(minute, 3) * 5e6 +
          minute * growth +
          (minute % 3) * 100_000 +
          (minute > 40 ? once : 0)
      }))
    expect(checks["memory is flat"](heap(0))).toEqual([])
    expect(checks["memory is flat"](heap(0, 10e6))).toEqual([])
    expect(checks["memory is flat"](heap(200_000))).toHaveLength(1)
    expect(
      slope([
        [0, 1],
        [1, 3],
        [2, 5]
      ])
    ).toBe(2)
  })
})

describe("a file of a process that was killed", () => {
  it("is read up to its last whole line", () => {
    const [event] = turn({ at: 100 })
    expect(parse(`${JSON.stringify(event)}\n{"_tag":"Seen","at":1`)).toEqual([event])
  })
})
