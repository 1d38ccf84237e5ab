/** The cost of one piece of work as the work grows: if it stays the same, the whole is linear. */
import type { Held } from "./Held.js"
import type { Result } from "./Measure.js"
import { isMeasured, seriesOf, type Report } from "./Report.js"
import type { SeriesName } from "./Row.js"

export interface Point {
  readonly size: number
  readonly value: number
}

export interface Line {
  readonly contender: string
  readonly points: ReadonlyArray<Point>
}

export interface Cost {
  readonly name: string
  readonly title: string
  /** What grows, for the axis. */
  readonly of: string
  /** What is shown, with its unit. */
  readonly label: string
  readonly from:
    | { readonly series: SeriesName; readonly value: (result: Result) => number }
    | { readonly held: (held: Held) => number }
}

export const allCosts: ReadonlyArray<Cost> = [
  {
    name: "growth-callers",
    title: "Callers with keys of their own",
    of: "callers",
    label: "client CPU per cycle, µs",
    from: { series: "callers", value: ({ cpuMicros }) => cpuMicros.median }
  },
  {
    name: "growth-hot",
    title: "Callers on one key in one process (all but one of them wait)",
    of: "callers",
    label: "client CPU per cycle, µs",
    from: { series: "hot", value: ({ cpuMicros }) => cpuMicros.median }
  },
  {
    name: "growth-queue",
    title: "Waiters in the queue in Redis: what a handoff costs the server",
    of: "waiters",
    label: "server CPU per handoff, µs",
    from: { series: "queue", value: ({ serverCpuMicros }) => serverCpuMicros.median }
  },
  {
    name: "growth-stores",
    title: "Waiters in the queue in Redis: how long a handoff between stores takes",
    of: "waiters",
    label: "median time of a handoff, µs",
    from: { series: "stores", value: ({ wait }) => 1_000 * wait.p50.median }
  },
  {
    name: "growth-holders",
    title:
      "Holders of a semaphore, and a tenth as many waiters: what a renewal and a handoff cost the server",
    of: "holders",
    label: "server CPU per renewal, handoff and new place, µs",
    from: { series: "holders", value: ({ serverCpuMicros }) => serverCpuMicros.median }
  },
  {
    name: "growth-held-cpu",
    title: "Leases held: what it costs to renew one",
    of: "leases",
    label: "client CPU per lease and second, µs",
    from: { held: ({ cpuPercent, leases }) => (1e4 * cpuPercent.median) / leases }
  },
  {
    name: "growth-held-memory",
    title: "Leases held: memory of one",
    of: "leases",
    label: "heap per lease, KB",
    from: { held: ({ bytesPerLease }) => bytesPerLease.median / 1_024 }
  }
]

/** A line for each contender, from the smallest size; of those that have more than one. */
export const costs = (report: Report, { from }: Cost): ReadonlyArray<Line> => {
  const points =
    "series" in from
      ? seriesOf(report, from.series).flatMap(({ results, row }) =>
          results.filter(isMeasured).map((result) => ({
            contender: result.contender as string,
            size: row.series!.size,
            value: from.value(result)
          }))
        )
      : (report.held?.results ?? []).map((held) => ({
          contender: held.contender as string,
          size: held.leases,
          value: from.held(held)
        }))
  return [...new Set(points.map(({ contender }) => contender))].flatMap((contender) => {
    const seen = points
      .filter((point) => point.contender === contender)
      .filter(({ value }) => Number.isFinite(value) && value > 0)
      .sort((a, b) => a.size - b.size)
    return seen.length < 2 ? [] : [{ contender, points: seen }]
  })
}

/** The slope through the points, both ways on a log scale: the cost grows as size to this power. */
export const exponent = (points: ReadonlyArray<Point>): number => {
  const x = points.map(({ size }) => Math.log(size))
  const y = points.map(({ value }) => Math.log(value))
  const mean = (values: ReadonlyArray<number>) =>
    values.reduce((sum, each) => sum + each, 0) / values.length
  const [mx, my] = [mean(x), mean(y)]
  return (
    x.reduce((sum, each, index) => sum + (each - mx) * (y[index]! - my), 0) /
    x.reduce((sum, each) => sum + (each - mx) ** 2, 0)
  )
}
