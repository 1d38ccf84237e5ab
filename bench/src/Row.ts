/** What is measured: one row is one load, under which every contender is put in turn. */
import type { Load } from "./Contender.js"
import { peers, type ContenderId } from "./contenders/index.js"

export type Group = "check" | "free" | "hot" | "handoff"

export interface Row {
  readonly id: string
  readonly group: Group
  readonly title: string
  readonly contenders: ReadonlyArray<ContenderId>
  /** To whom the others are compared, within each round. */
  readonly base: ContenderId
  readonly processes: number
  readonly load: Load
  /** Relative to the length of other rows' rounds. */
  readonly length: number
}

const throughRedis = "effect-redis-lock, localHandoff 0"

/** Enough to see that everything works, in a few seconds and without the other libraries. */
export const smoke = (all: ReadonlyArray<Row>): ReadonlyArray<Row> =>
  all
    .filter(({ id }) => ["check", "free-64-scoped", "hot-4x10", "handoff"].includes(id))
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
          row.group === "handoff" ? throughRedis : ""
        ].includes(it)
      ),
      length: 1
    }))

const free: Omit<Row, "id" | "title" | "load"> = {
  group: "free",
  contenders: ["raw", "raw + autoPipelining", "effect-redis-lock", ...peers],
  base: "raw",
  processes: 1,
  length: 1
}

const hot: Omit<Row, "id" | "title" | "load" | "processes"> = {
  group: "hot",
  contenders: ["raw", "effect-redis-lock", throughRedis, ...peers],
  base: "raw",
  length: 1.5
}

const hotLoad = { keys: { shared: 1 }, body: "suspends", shape: "withLock" } as const

export const rows: ReadonlyArray<Row> = [
  {
    id: "check",
    group: "check",
    title: "A counter in Redis, read and written back under the lock: 4 processes, 5 callers each",
    contenders: ["no lock", "raw", "effect-redis-lock", throughRedis, ...peers],
    base: "raw",
    processes: 4,
    load: { callers: 5, keys: { shared: 1 }, body: "counter", shape: "withLock" },
    length: 2
  },
  {
    ...free,
    id: "free-1",
    title: "One caller, an empty body",
    load: { callers: 1, keys: "own", body: "empty", shape: "withLock" }
  },
  {
    ...free,
    id: "free-64-empty",
    title: "64 callers, a key each, an empty body",
    load: { callers: 64, keys: "own", body: "empty", shape: "withLock" }
  },
  {
    ...free,
    id: "free-64-suspends",
    title: "64 callers, a key each, a body that suspends once",
    load: { callers: 64, keys: "own", body: "suspends", shape: "withLock" }
  },
  {
    ...free,
    id: "free-64-scoped",
    title: "64 callers, a key each, acquire and release (scoped `acquire`)",
    load: { callers: 64, keys: "own", body: "empty", shape: "scoped" }
  },
  {
    ...hot,
    id: "hot-1x50",
    title: "1 process, 50 callers",
    processes: 1,
    load: { ...hotLoad, callers: 50 }
  },
  {
    ...hot,
    id: "hot-4x1",
    title: "4 processes, 1 caller each",
    processes: 4,
    load: { ...hotLoad, callers: 1 }
  },
  {
    ...hot,
    id: "hot-4x10",
    title: "4 processes, 10 callers each",
    processes: 4,
    load: { ...hotLoad, callers: 10 }
  },
  {
    ...hot,
    id: "hot-4x50",
    title: "4 processes, 50 callers each",
    processes: 4,
    load: { ...hotLoad, callers: 50 }
  },
  {
    id: "handoff",
    group: "handoff",
    title: "From the end of one process's work to the start of the other's",
    contenders: ["echo", throughRedis, "raw", ...peers],
    base: "echo",
    processes: 2,
    load: { callers: 1, keys: { shared: 1 }, body: { holdMillis: 2 }, shape: "withLock" },
    length: 1
  }
]
