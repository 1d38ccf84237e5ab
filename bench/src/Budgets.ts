/** The limits that the library should keep, next to what was measured. */
import type { Held } from "./Held.js"
import type { Result } from "./Measure.js"
import { isMeasured, number, type Report } from "./Report.js"
import { roundTrips, type Table } from "./Tables.js"
import type { ContenderId } from "./contenders/index.js"

interface Budget {
  readonly what: string
  readonly limit: string
  readonly measured: (report: Report) => number | undefined
  readonly isMet: (measured: number) => boolean
  readonly unit?: string
  /** Why it is not kept, if it is not. */
  readonly why?: string
}

const find = (report: Report, row: string, contender: ContenderId): Result | undefined =>
  report.rows
    .find((it) => it.row.id === row)
    ?.results.find((it) => it.contender === contender && isMeasured(it))

const ours = (report: Report, row: string) => find(report, row, "effect-redis-lock")

const ratio = (row: string, contender: ContenderId = "effect-redis-lock") => ({
  measured: (report: Report) => find(report, row, contender)?.ratio.median
})

const atLeast = (limit: number, unit: string) => ({
  limit: `at least ${limit}${unit}`,
  unit,
  isMet: (measured: number) => measured >= limit
})

const atMost = (limit: number, unit: string) => ({
  limit: `at most ${limit}${unit}`,
  unit,
  isMet: (measured: number) => measured <= limit
})

const onEffect4 = "effect-redis-lock, Effect 4"

const held = (
  value: (held: Held) => number | undefined,
  who: ContenderId = "effect-redis-lock"
) => ({
  measured: ({ held }: Report) => {
    const mine = held?.results.find(
      ({ contender, leases }) => contender === who && leases === 10_000
    )
    return mine === undefined ? undefined : value(mine)
  }
})

const trips = (row: string) => ({
  measured: (report: Report) => {
    const result = ours(report, row)
    const found = report.rows.find((it) => it.row.id === row)
    return result && found && roundTrips(found.pingMillis, result)
  }
})

const budgets: ReadonlyArray<Budget> = [
  {
    what: "free lock, one caller: requests per cycle",
    ...atMost(2, ""),
    measured: (report) => ours(report, "free-1")?.requests
  },
  {
    what: "free lock, one caller",
    ...atLeast(0.65, " × raw"),
    ...ratio("free-1"),
    why: "the queue and the fencing token need scripts, which take the server longer than a SET does. The client takes about twice as much processor time as the loop."
  },
  {
    what: "64 callers with keys of their own, `withLock`",
    ...atLeast(0.6, " × raw"),
    ...ratio("free-64-empty"),
    why: "the library makes two fibers and sets deadlines, and a call must be undone if its caller does not wait any more. The hand-written loop does none of this."
  },
  {
    what: "64 callers, `withLock`, as a multiple of the fastest library from npm",
    ...atLeast(1, ""),
    measured: (report) => {
      const row = report.rows.find((it) => it.row.id === "free-64-empty")
      const peers = row?.results.filter(
        (it) => isMeasured(it) && !/^(raw|effect-redis-lock)/.test(it.contender)
      )
      const mine = ours(report, "free-64-empty")
      if (mine === undefined || peers === undefined || peers.length === 0) return undefined
      return (
        mine.cyclesPerSecond.median /
        Math.max(...peers.map(({ cyclesPerSecond }) => cyclesPerSecond.median))
      )
    },
    why: "the faster libraries do less for each lock; the table of set-ups says what they do not do."
  },
  {
    what: "64 callers with keys of their own, scoped `acquire`",
    ...atLeast(0.4, " × raw"),
    ...ratio("free-64-scoped"),
    why: "compared with `withLock`, the additional cost is in Effect: the scope, a child scope for the lease, and the finalizers of both."
  },
  {
    what: "Effect 4: 64 callers with keys of their own, `withLock`",
    ...atLeast(1, " × raw"),
    ...ratio("free-64-empty", onEffect4)
  },
  {
    what: "Effect 4: the same, a body that suspends once",
    ...atLeast(0.7, " × raw"),
    ...ratio("free-64-suspends", onEffect4)
  },
  {
    what: "Effect 4: the same, scoped `acquire`",
    ...atLeast(0.9, " × raw"),
    ...ratio("free-64-scoped", onEffect4)
  },
  {
    what: "Effect 4: free lock, one caller",
    ...atLeast(0.8, " × raw"),
    ...ratio("free-1", onEffect4),
    why: "as on Effect 3: the scripts take the server twice as long as the hand-written loop's commands, and nothing else runs meanwhile."
  },
  {
    what: "four free keys at once, one caller: time of a cycle",
    ...atMost(1.5, " × the lock's"),
    measured: (report) => {
      const ratio = find(report, "several-1", "effect-redis-lock, 4 keys")?.ratio.median
      return ratio && 1 / ratio
    }
  },
  {
    what: "64 readers of one key in one process: cycles per second",
    ...atLeast(5, " × 64 free locks"),
    ...ratio("readers-64", "effect-redis-lock, readers"),
    why: "a reader whose process has the key already asks Redis nothing, so what is left is the process's own work for a lease: a fiber, timers, a proof. Of a cycle of free locks, 16 of which travel in one command, that is about half."
  },
  {
    what: "4 processes, every hundredth turn writes: 99th percentile of the writers' waits",
    ...atMost(2, " × the lock's"),
    measured: (report) => {
      const mine = find(report, "read-write-4x25", "effect-redis-lock, ReadWriteLock")
      const lock = ours(report, "read-write-4x25")
      return mine && lock && mine.writeWait.p99.median / lock.writeWait.p99.median
    }
  },
  {
    what: "one hot key, 50 callers in one process: cycles per second",
    ...atLeast(5, " × raw"),
    ...ratio("hot-1x50")
  },
  {
    what: "the same: 99th percentile of the waits",
    ...atMost(0.1, " × raw's"),
    measured: (report) => {
      const [mine, raw] = [ours(report, "hot-1x50"), find(report, "hot-1x50", "raw")]
      return mine && raw && mine.wait.p99.median / raw.wait.p99.median
    }
  },
  {
    what: "the same: most turns of a caller as a multiple of the fewest",
    ...atMost(1.2, ""),
    measured: (report) => {
      const mine = ours(report, "hot-1x50")
      return mine && mine.most.median / mine.fewest.median
    }
  },
  {
    what: "free semaphores, 64 callers with keys of their own",
    ...atLeast(0.9, " × the lock"),
    ...ratio("permits-64-empty", "effect-redis-lock, Semaphore"),
    why: "holders are kept in a sorted set and a hash, where a lock is one string, so the scripts take the server longer."
  },
  {
    what: "one semaphore, a limit of 10, 100 callers in one process: cycles per second",
    ...atLeast(5, " × redis-semaphore"),
    ...ratio("semaphore-1x100", "effect-redis-lock, Semaphore"),
    why: "most turns are passed on within the process, and take what those of one hot key take: the process's own work for a lease. Five times as much would be more turns than one hot lock has."
  },
  {
    what: "the same: 99th percentile of the waits",
    ...atMost(0.1, " × redis-semaphore's"),
    measured: (report) => {
      const mine = find(report, "semaphore-1x100", "effect-redis-lock, Semaphore")
      const other = find(report, "semaphore-1x100", "redis-semaphore, Semaphore")
      return mine && other && mine.wait.p99.median / other.wait.p99.median
    }
  },
  {
    what: "the same in 4 processes, 25 callers each: cycles per second",
    ...atLeast(1, " × redis-semaphore"),
    ...ratio("semaphore-4x25", "effect-redis-lock, Semaphore"),
    why: "permits go from process to process in the order of the queue, each time with a command and a message, while callers of redis-semaphore take what is free, in no order."
  },
  {
    what: "a semaphore with 10,000 holders and 1,000 waiters: the longest call",
    ...atMost(2, " ms"),
    measured: (report) => find(report, "holders-10000", "semaphore by hand")?.longestCallMillis
  },
  {
    what: "handoff between two processes",
    ...atMost(2, " × echo"),
    ...ratio("handoff", "effect-redis-lock, localHandoff 0"),
    why: "the release is a script, and both processes run code that has not run for some milliseconds. An echo runs almost no code."
  },
  {
    what: "20 ms more each way, one caller: round trips per cycle",
    ...atMost(2.1, ""),
    ...trips("slow-20ms-free-1")
  },
  {
    what: "10,000 leases held: fibers each",
    ...atMost(1, ""),
    // a few more are there, whatever the number of leases
    ...held(({ fibersPerLease }) => fibersPerLease && Math.round(10 * fibersPerLease) / 10)
  },
  { what: "10,000 leases held: lost", ...atMost(0, ""), ...held(({ lost }) => lost) },
  {
    what: "10,000 leases held, ttl 30 s: CPU",
    ...atMost(3, " % of a core"),
    ...held(({ cpuPercent }) => cpuPercent.median),
    why: "a renewal resumes a fiber, sets timers and updates the proof, while the hand-written loop only sends a command. Each lease is renewed only twice in this time, so compilation and garbage collection, much of it in helper threads, are a part of the figure."
  },
  {
    what: "10,000 leases held: heap each",
    ...atMost(14, " KB"),
    ...held(({ bytesPerLease }) => bytesPerLease.median / 1_024)
  },
  {
    what: "Effect 4: 10,000 leases held: heap each",
    ...atMost(3, " KB"),
    ...held(({ bytesPerLease }) => bytesPerLease.median / 1_024, onEffect4),
    why: "the store's book-keeping for a key is the same on both; how much of it that is was not measured apart."
  }
]

/** The limits for which this report has figures. */
const measuredIn = (report: Report) =>
  budgets.flatMap((budget) => {
    const value = budget.measured(report)
    return value === undefined || !Number.isFinite(value) ? [] : [{ ...budget, value }]
  })

/** Of the limits that are not kept. */
export const whys = (report: Report): ReadonlyArray<string> =>
  measuredIn(report).flatMap(({ isMet, value, what, why }) =>
    isMet(value) || why === undefined ? [] : [`Not kept: ${what}. The reason: ${why}`]
  )

/** Of the limits for which this report has figures. */
export const budgetTable = (report: Report): Table => ({
  header: ["", "limit", "measured", "kept"],
  rows: measuredIn(report).map(({ isMet, limit, unit, value, what }) => [
    what,
    limit,
    `${number(value)}${unit ?? ""}`,
    isMet(value) ? "yes" : "**no**"
  ])
})
