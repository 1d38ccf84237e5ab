/** What is measured: one row is one load, under which every contender is measured in turn. */
import type { Load } from "./Contender.js"
import { peers, type ContenderId } from "./contenders/index.js"

export type Group =
  | "check"
  | "free"
  | "permits"
  | "several"
  | "readers"
  | "readWrite"
  | "hot"
  | "semaphore"
  | "many"
  | "handoff"
  | "queue"
  | "stores"
  | "holders"
  | "slow"
  | "growth"

/** Rows of the same load in different sizes: they show what a cycle costs as the work grows. */
export type SeriesName = "callers" | "hot" | "queue" | "stores" | "holders"

export interface Row {
  readonly id: string
  readonly group: Group
  readonly title: string
  readonly contenders: ReadonlyArray<ContenderId>
  /** The contenders of the short form, if not all. None: the row is not in the short form. */
  readonly short?: ReadonlyArray<ContenderId>
  /**
   * Fewer rounds in the short form than other rows: the callers of this one take long to finish.
   */
  readonly shortRounds?: number
  /** The contenders that do not take part in this form. */
  readonly leftOut?: ReadonlyArray<ContenderId>
  /** The contender with which the others are compared, within each round. */
  readonly base: ContenderId
  readonly processes: number
  readonly load: Load
  /** Relative to the length of other rows' rounds. */
  readonly length: number
  /** Added by the network to everything that goes to the server, and to everything that comes. */
  readonly oneWayMillis?: number
  readonly series?: { readonly name: SeriesName; readonly size: number }
}

export type Form = "short" | "full" | "smoke"

const throughRedis = "effect-redis-lock, localHandoff 0"
const onEffect4 = "effect-redis-lock, Effect 4"

/** The rows of a form, with those who take part in it. */
export const inForm = (form: Form, all: ReadonlyArray<Row>): ReadonlyArray<Row> => {
  switch (form) {
    case "full":
      return all
    case "short":
      return all.flatMap((row) => {
        const contenders = row.short ?? row.contenders
        const leftOut = row.contenders.filter((contender) => !contenders.includes(contender))
        return contenders.length === 0 ? [] : [{ ...row, contenders, leftOut }]
      })
    case "smoke":
      return smoke(all)
  }
}

/** Enough to see that everything works, in a few seconds and without the other libraries. */
const smoke = (all: ReadonlyArray<Row>): ReadonlyArray<Row> =>
  all
    .filter(({ id }) =>
      [
        "check",
        "free-64-scoped",
        "hot-4x10",
        "handoff",
        "permits-64-empty",
        "several-1",
        "readers-64",
        "read-write-4x25",
        "semaphore-4x25",
        "queue-100",
        "holders-100",
        "stores-100",
        "slow-1ms-free-1"
      ].includes(id)
    )
    .map((row) => ({
      ...row,
      title: row.title.replace("4 processes", "2 processes"),
      processes: Math.min(2, row.processes),
      contenders: row.contenders.filter((it) =>
        [
          "no lock",
          "raw",
          "echo",
          "effect-redis-lock",
          onEffect4,
          "queue by hand",
          "effect-redis-lock, Semaphore",
          "effect-redis-lock, 4 keys",
          "effect-redis-lock, readers",
          "effect-redis-lock, ReadWriteLock",
          "semaphore by hand",
          "effect-redis-lock, 10 stores",
          row.group === "handoff" ? throughRedis : ""
        ].includes(it)
      ),
      length: 1
    }))

// -----------------------------------------------------------------------------
// free locks
// -----------------------------------------------------------------------------

const free: Omit<Row, "id" | "title" | "load"> = {
  group: "free",
  contenders: ["raw", "raw + autoPipelining", "effect-redis-lock", onEffect4, ...peers],
  base: "raw",
  processes: 1,
  length: 1
}

const own = { keys: "own", body: "empty", shape: "withLock" } as const

/** In the short form: the base, and the quickest of those who poll. */
const few = ["raw", "effect-redis-lock", "redis-semaphore", "redlock-universal"] as const
const eachFace = [...few.slice(0, 2), onEffect4] as const

const freeRows: ReadonlyArray<Row> = [
  // These come first: a process with one caller is not warm before its rounds are over.
  {
    ...free,
    id: "free-64-empty",
    title: "64 callers, a key each, an empty body",
    load: { ...own, callers: 64 }
  },
  {
    ...free,
    id: "free-64-suspends",
    title: "64 callers, a key each, a body that suspends once",
    short: eachFace,
    load: { ...own, callers: 64, body: "suspends" }
  },
  {
    ...free,
    id: "free-64-scoped",
    title: "64 callers, a key each, acquire and release (scoped `acquire`)",
    short: eachFace,
    load: { ...own, callers: 64, shape: "scoped" }
  },
  {
    ...free,
    id: "free-1",
    title: "One caller, an empty body",
    short: free.contenders.filter(
      (it) => it !== "raw + autoPipelining" && it !== "effect-distributed-lock"
    ),
    load: { ...own, callers: 1 },
    series: { name: "callers", size: 1 }
  },
  {
    ...free,
    id: "free-1000",
    title: "1,000 callers, a key each, an empty body",
    short: few,
    load: { ...own, callers: 1_000 },
    length: 6,
    shortRounds: 3,
    series: { name: "callers", size: 1_000 }
  },
  ...[10, 100].map((callers): Row => ({
    ...free,
    id: `free-${callers}`,
    group: "growth",
    shortRounds: 3,
    title: `${callers} callers, a key each, an empty body`,
    short: ["raw", "effect-redis-lock"],
    load: { ...own, callers },
    series: { name: "callers", size: callers }
  }))
]

// -----------------------------------------------------------------------------
// one key, or a few
// -----------------------------------------------------------------------------

const hot: Omit<Row, "id" | "title" | "load" | "processes"> = {
  group: "hot",
  contenders: ["raw", "effect-redis-lock", throughRedis, ...peers],
  base: "raw",
  length: 3,
  shortRounds: 3
}

const hotLoad = { keys: { shared: 1 }, body: "suspends", shape: "withLock" } as const

/** Of the sizes that are only measured for the growth. */
const inShort: Readonly<Record<number, ReadonlyArray<ContenderId>>> = {
  2: few.slice(1, 2),
  5: few.slice(0, 2),
  101: few.slice(1, 2),
  500: few.slice(0, 2),
  10_001: few.slice(1, 2)
}

const hotRows: ReadonlyArray<Row> = [
  {
    ...hot,
    id: "hot-1x50",
    title: "1 process, 50 callers",
    processes: 1,
    load: { ...hotLoad, callers: 50 },
    shortRounds: 2,
    series: { name: "hot", size: 50 }
  },
  {
    ...hot,
    id: "hot-4x1",
    title: "4 processes, 1 caller each",
    short: few.slice(0, 3),
    processes: 4,
    load: { ...hotLoad, callers: 1 }
  },
  {
    ...hot,
    id: "hot-4x10",
    title: "4 processes, 10 callers each",
    short: ["raw", "effect-redis-lock", throughRedis, "redis-semaphore"],
    processes: 4,
    load: { ...hotLoad, callers: 10 }
  },
  {
    ...hot,
    id: "hot-4x50",
    title: "4 processes, 50 callers each",
    short: few,
    shortRounds: 2,
    processes: 4,
    load: { ...hotLoad, callers: 50 }
  },
  // All but one of the callers wait: 1, 4, 100, 499 and 10,000 of them.
  ...[2, 5, 101, 500, 10_001].map((callers): Row => ({
    ...hot,
    id: `hot-1x${callers}`,
    group: "growth",
    title: `1 process, ${callers} callers`,
    short: inShort[callers] ?? [],
    processes: 1,
    load: { ...hotLoad, callers },
    // long enough for some turns of each, or it would be the start of the callers that is measured
    length: callers > 1_000 ? 12 : 3,
    ...(callers > 1_000 ? { shortRounds: 2 } : {}),
    series: { name: "hot", size: callers }
  })),
  {
    ...hot,
    id: "zipf-1x1000",
    group: "many",
    title: "10 keys, 1 process, 1,000 callers",
    short: [...few, throughRedis],
    shortRounds: 1,
    processes: 1,
    load: { ...hotLoad, keys: { shared: 10 }, callers: 1_000 },
    length: 6
  },
  {
    ...hot,
    id: "zipf-4x250",
    group: "many",
    title: "10 keys, 4 processes, 250 callers each",
    short: [],
    processes: 4,
    load: { ...hotLoad, keys: { shared: 10 }, callers: 250 },
    length: 6
  }
]

// -----------------------------------------------------------------------------
// the queue in Redis
// -----------------------------------------------------------------------------

const queueLoad = { callers: 1, keys: { shared: 1 }, body: "empty", shape: "withLock" } as const

const queueRows: ReadonlyArray<Row> = [1, 100, 10_000].flatMap((places): ReadonlyArray<Row> => {
  const waiters = `${places.toLocaleString("en-US")} ${places === 1 ? "waiter" : "waiters"} in the queue`
  const load = { ...queueLoad, places }
  return [
    {
      id: `queue-${places}`,
      group: "queue",
      title: waiters,
      contenders: ["queue by hand"],
      base: "queue by hand",
      processes: 1,
      load,
      length: 2,
      shortRounds: 3,
      series: { name: "queue", size: places }
    },
    {
      id: `stores-${places}`,
      group: "stores",
      title: waiters,
      contenders: ["effect-redis-lock, 10 stores"],
      base: "effect-redis-lock, 10 stores",
      processes: 1,
      load,
      // what has to be put into the queue before each nine handoffs takes its time
      length: places > 1_000 ? 10 : 2,
      shortRounds: places > 1_000 ? 2 : 3,
      series: { name: "stores", size: places }
    }
  ]
})

// -----------------------------------------------------------------------------
// several locks at once
// -----------------------------------------------------------------------------

const severalRows: ReadonlyArray<Row> = [64, 1].map((callers) => ({
  id: `several-${callers}`,
  group: "several",
  title: callers === 1 ? "One caller, four keys" : `${callers} callers, four keys each`,
  contenders: ["effect-redis-lock", "effect-redis-lock, 4 keys"],
  base: "effect-redis-lock",
  processes: 1,
  load: { ...own, callers },
  length: 1
}))

// -----------------------------------------------------------------------------
// readers and writers
// -----------------------------------------------------------------------------

const readWriteRows: ReadonlyArray<Row> = [
  {
    id: "readers-64",
    group: "readers",
    title: "64 callers: readers of one key, or locks with a key each",
    contenders: ["effect-redis-lock", "effect-redis-lock, readers"],
    base: "effect-redis-lock",
    processes: 1,
    load: { ...own, callers: 64 },
    length: 1
  },
  {
    id: "read-write-4x25",
    group: "readWrite",
    title: "4 processes, 25 callers each, every hundredth turn writes",
    contenders: ["effect-redis-lock", "effect-redis-lock, ReadWriteLock"],
    base: "effect-redis-lock",
    processes: 4,
    load: { ...hotLoad, callers: 25, writeEvery: 100 },
    // one turn in a hundred is one for the writers' percentiles
    length: 10,
    shortRounds: 2
  }
]

// -----------------------------------------------------------------------------
// semaphores
// -----------------------------------------------------------------------------

const semaphores = [
  "effect-redis-lock, Semaphore",
  "redis-semaphore, Semaphore",
  "redis-semaphore, MultiSemaphore",
  "effect-distributed-lock"
] as const satisfies ReadonlyArray<ContenderId>

const semaphoreRows: ReadonlyArray<Row> = [
  ...(["empty", "suspends"] as const).map((body): Row => ({
    id: `permits-64-${body}`,
    group: "permits",
    title: `64 callers, a key each, ${body === "empty" ? "an empty body" : "a body that suspends once"}`,
    contenders: ["effect-redis-lock", ...semaphores],
    short:
      body === "empty"
        ? ["effect-redis-lock", ...semaphores]
        : ["effect-redis-lock", "effect-redis-lock, Semaphore"],
    base: "effect-redis-lock",
    processes: 1,
    load: { ...own, callers: 64, body, limit: 10 },
    length: 1
  })),
  ...[1, 4].map((processes): Row => ({
    id: `semaphore-${processes}x${100 / processes}`,
    group: "semaphore",
    title: `A limit of 10, ${processes === 1 ? "1 process, 100 callers" : `${processes} processes, ${100 / processes} callers each`}`,
    contenders: semaphores,
    base: "redis-semaphore, Semaphore",
    processes,
    load: { ...hotLoad, callers: 100 / processes, limit: 10 },
    length: 3,
    shortRounds: 3
  }))
]

const holderRows: ReadonlyArray<Row> = [10, 100, 1_000, 10_000].map((holders): Row => ({
  id: `holders-${holders}`,
  group: "holders",
  title: `${holders.toLocaleString("en-US")} holders, ${(holders / 10).toLocaleString("en-US")} in the queue`,
  contenders: ["semaphore by hand"],
  base: "semaphore by hand",
  processes: 1,
  load: { ...queueLoad, limit: holders },
  length: 2,
  shortRounds: 3,
  series: { name: "holders", size: holders }
}))

// -----------------------------------------------------------------------------
// a slow network
// -----------------------------------------------------------------------------

const slowRows: ReadonlyArray<Row> = [1, 20].flatMap((oneWayMillis): ReadonlyArray<Row> => {
  const slow = {
    group: "slow",
    base: "raw",
    processes: 1,
    length: oneWayMillis === 1 ? 3 : 5,
    shortRounds: 2,
    oneWayMillis
  } as const
  const network = `${oneWayMillis} ms more each way`
  const id = `slow-${oneWayMillis}ms`
  const short = ["raw", "effect-redis-lock", "redis-semaphore"] as const
  return [
    {
      ...slow,
      id: `${id}-free-1`,
      title: `${network}: one caller`,
      contenders: free.contenders,
      short,
      load: { ...own, callers: 1 }
    },
    {
      ...slow,
      id: `${id}-free-64`,
      title: `${network}: 64 callers, a key each`,
      contenders: free.contenders,
      short,
      load: { ...own, callers: 64 }
    },
    {
      ...slow,
      id: `${id}-hot-50`,
      title: `${network}: 50 callers on one key`,
      contenders: hot.contenders,
      short: oneWayMillis === 1 ? short : short.slice(0, 2),
      shortRounds: oneWayMillis === 1 ? 2 : 1,
      load: { ...hotLoad, callers: 50 }
    }
  ]
})

export const rows: ReadonlyArray<Row> = [
  {
    id: "check",
    group: "check",
    title: "A counter in Redis, read and written back under the lock: 4 processes, 5 callers each",
    contenders: [
      "no lock",
      "raw",
      "raw + autoPipelining",
      "effect-redis-lock",
      throughRedis,
      ...peers
    ],
    base: "raw",
    processes: 4,
    load: { callers: 5, keys: { shared: 1 }, body: "counter", shape: "withLock" },
    length: 4
  },
  ...freeRows,
  ...hotRows,
  {
    id: "handoff",
    group: "handoff",
    title: "From the end of one process's work to the start of the other's",
    contenders: ["echo", throughRedis, "raw", ...peers],
    short: ["echo", throughRedis, "raw", "redis-semaphore"],
    base: "echo",
    processes: 2,
    load: { callers: 1, keys: { shared: 1 }, body: { holdMillis: 2 }, shape: "withLock" },
    length: 2
  },
  ...severalRows,
  ...readWriteRows,
  ...semaphoreRows,
  ...queueRows,
  ...holderRows,
  ...slowRows
]
