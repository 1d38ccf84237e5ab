/** What README.md and docs/ quote from a report, in a file of its own: `npm run figures` puts it into them. */
import { writeFileSync } from "node:fs"
import { join } from "node:path"
import type { ContenderId } from "./contenders/index.js"
import type { Result } from "./Measure.js"
import { isMeasured, type Report } from "./Report.js"

export const path = "docs/benchmarks/results.json"

const onEffect4 = "effect-redis-lock, Effect 4"

const find = (report: Report, row: string, contender: ContenderId): Result | undefined =>
  report.rows
    .find((it) => it.row.id === row)
    ?.results.find((it) => it.contender === contender && isMeasured(it))

/** Its cycles, as a multiple of those of the loop written by hand. */
const ratio =
  (row: string, contender: ContenderId = "effect-redis-lock") =>
  (report: Report): number | undefined =>
    find(report, row, contender)?.ratio.median

const quoted: Readonly<Record<string, (report: Report) => number | undefined>> = {
  "free-one": ratio("free-1"),
  "free-one-effect4": ratio("free-1", onEffect4),
  "free-one-redlock": ratio("free-1", "redlock"),
  "free-one-redis-semaphore": ratio("free-1", "redis-semaphore"),
  "free-many": ratio("free-64-empty"),
  "free-many-effect4": ratio("free-64-empty", onEffect4),
  "free-many-redlock": ratio("free-64-empty", "redlock"),
  "free-many-redis-semaphore": ratio("free-64-empty", "redis-semaphore"),
  "free-many-scoped": ratio("free-64-scoped"),
  "free-many-scoped-effect4": ratio("free-64-scoped", onEffect4),
  hot: ratio("hot-1x50"),
  "hot-wait": (report) => {
    const mine = find(report, "hot-1x50", "effect-redis-lock")
    const raw = find(report, "hot-1x50", "raw")
    return mine && raw && mine.wait.p99.median / raw.wait.p99.median
  }
}

/** Two significant digits: the third is another one in each run. */
export const write = (root: string, report: Report): void => {
  const figures = Object.entries(quoted).flatMap(([name, measure]) => {
    const value = measure(report)
    return value === undefined ? [] : [[name, value.toPrecision(2)] as const]
  })
  const results = { sources: report.sources, figures: Object.fromEntries(figures) }
  writeFileSync(join(root, path), `${JSON.stringify(results, undefined, 2)}\n`)
}
