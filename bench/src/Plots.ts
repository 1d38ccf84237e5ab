/** The pictures of a report: dots are medians, lines go from the least to the most. */
import * as Plot from "@observablehq/plot"
import { parseHTML } from "linkedom"
import { allCosts, costs, type Cost, type Line } from "./Growth.js"
import type { Result } from "./Measure.js"
import { isMeasured, number, rowsOf, type Report } from "./Report.js"
import type { Group } from "./Row.js"

interface Mark {
  readonly row: string
  readonly contender: string
  readonly least: number
  readonly middle: number
  readonly most: number
}

interface Picture {
  readonly name: string
  readonly alt: string
  readonly group: Group
  readonly label: string
  readonly scale: "linear" | "log"
  readonly values: (
    result: Result
  ) => readonly [least: number, middle: number, most: number] | undefined
  /** A line to compare with. */
  readonly reference?: number
  /** Where the axis ends, however far a line goes. */
  readonly cutAt?: number
}

const pictures: ReadonlyArray<Picture> = [
  {
    name: "free-locks",
    alt: "Cycles per second of free locks as a multiple of the hand-written loop's",
    group: "free",
    label: "cycles per second ÷ raw's in the same round (median, least and most of the rounds)",
    scale: "linear",
    reference: 1,
    values: ({ ratio }) => [ratio.min, ratio.median, ratio.max]
  },
  {
    name: "free-locks-cpu",
    alt: "CPU time of the client per cycle of a free lock",
    group: "free",
    label: "client CPU per cycle, µs (median, least and most of the rounds; log scale)",
    scale: "log",
    values: ({ cpuMicros }) => [cpuMicros.min, cpuMicros.median, cpuMicros.max]
  },
  {
    name: "hot-key-throughput",
    alt: "Cycles per second of all callers on one key",
    group: "hot",
    label: "cycles per second, all callers (median, least and most of the rounds; log scale)",
    scale: "log",
    values: ({ cyclesPerSecond: { max, median, min } }) => [min, median, max]
  },
  {
    name: "hot-key-wait",
    alt: "Waiting times for one key",
    group: "hot",
    label: "wait, ms: line from the median to the longest, dot at the 99th percentile (log scale)",
    scale: "log",
    values: ({ wait: { max, p50, p99 } }) => [p50.median, p99.median, max]
  },
  {
    name: "hot-key-fairness",
    alt: "Turns of single callers on one key",
    group: "hot",
    label: "turns of a caller ÷ an equal share: line from the fewest to the most (cut off at 6)",
    scale: "linear",
    reference: 1,
    cutAt: 6,
    values: ({ equalShare, fewest, most }) => [
      fewest.median / equalShare.median,
      1,
      most.median / equalShare.median
    ]
  },
  {
    name: "handoff",
    alt: "Time from the end of one process's work to the start of the other's",
    group: "handoff",
    label: "µs: line from the median to the longest, dot at the 99th percentile (log scale)",
    scale: "log",
    values: ({ handoff }) =>
      handoff === undefined
        ? undefined
        : [1e3 * handoff.p50.median, 1e3 * handoff.p99.median, 1e3 * handoff.max]
  },
  {
    name: "slow-network",
    alt: "Cycles per second over a slow network as a multiple of the hand-written loop's",
    group: "slow",
    label: "cycles per second ÷ raw's in the same round (median, least and most; log scale)",
    scale: "log",
    reference: 1,
    values: ({ ratio }) => [ratio.min, ratio.median, ratio.max]
  }
]

export interface Svg {
  readonly name: string
  readonly alt: string
  readonly group: Group
  readonly text: string
}

/** A picture for each group of rows that was measured, and for everything that grows. */
export const plots = (report: Report): ReadonlyArray<Svg> => [
  ...pictures.flatMap((picture) => {
    const marks = marksOf(report, picture)
    const { alt, group, name } = picture
    return marks.length === 0 ? [] : [{ name, alt, group, text: draw(picture, marks) }]
  }),
  ...allCosts.flatMap((cost) => {
    const lines = costs(report, cost)
    const { name, title } = cost
    return lines.length === 0
      ? []
      : [{ name, alt: title, group: "growth" as const, text: drawGrowth(cost, lines) }]
  })
]

const marksOf = (report: Report, { group, values }: Picture): ReadonlyArray<Mark> =>
  rowsOf(report, group).flatMap(({ results, row }) =>
    results.filter(isMeasured).flatMap((result) => {
      const found = values(result)
      if (found === undefined || !found.every(Number.isFinite)) return []
      const [least, middle, most] = found
      return [{ row: row.title, contender: result.contender, least, middle, most }]
    })
  )

const colorOf = ({ contender }: { readonly contender: string }): string =>
  contender.startsWith("effect-redis-lock")
    ? "#0b62c4"
    : contender.startsWith("raw") || contender === "echo"
      ? "#333333"
      : "#b3541e"

const draw = (
  { alt, cutAt, label, reference, scale }: Picture,
  marks: ReadonlyArray<Mark>
): string => {
  const contenders = [...new Set(marks.map(({ contender }) => contender))]
  const titles = [...new Set(marks.map(({ row }) => row))]
  const lineHeight = 17
  // A log scale has no zero; half of the least that is there stands in for it.
  const floor =
    Math.min(
      ...marks.flatMap(({ least, middle, most }) => [least, middle, most]).filter((it) => it > 0)
    ) / 2
  const at = (value: number) => (scale === "log" ? Math.max(value, floor) : value)
  return textOf({
    width: 820,
    height: 60 + titles.length * (contenders.length * lineHeight + 34),
    marginLeft: 220,
    marginRight: 24,
    marginTop: 30,
    marginBottom: 44,
    ariaLabel: alt,
    x: {
      type: scale,
      label,
      labelAnchor: "center",
      labelArrow: "none",
      labelOffset: 38,
      grid: true,
      nice: true,
      ...(scale === "linear" ? { zero: true } : { ticks: 6, tickFormat: number }),
      ...(cutAt === undefined ? {} : { domain: [0, cutAt], clamp: true })
    },
    y: { domain: contenders, label: null, padding: 0.4, tickSize: 0 },
    fy: { domain: titles, axis: null, padding: 0.16 },
    marks: [
      Plot.frame({ stroke: "#d0d0d0" }),
      Plot.text(titles, {
        fy: (title: string) => title,
        text: (title: string) => title,
        frameAnchor: "top-left",
        dy: -15,
        fontWeight: "bold"
      }),
      ...(reference === undefined
        ? []
        : [Plot.ruleX([reference], { stroke: "#888888", strokeDasharray: "4 3" })]),
      Plot.ruleY(marks, {
        fy: "row",
        y: "contender",
        x1: (mark: Mark) => at(mark.least),
        x2: (mark: Mark) => at(mark.most),
        stroke: colorOf,
        strokeWidth: 2
      }),
      Plot.dot(marks, {
        fy: "row",
        y: "contender",
        x: (mark: Mark) => at(mark.middle),
        fill: colorOf,
        r: 4
      })
    ]
  })
}

/** Both ways on a log scale: a line that does not rise is a cost that does not grow. */
const drawGrowth = ({ label, of, title }: Cost, lines: ReadonlyArray<Line>): string => {
  const points = lines.flatMap(({ contender, points }) =>
    points.map((point) => ({ contender, ...point }))
  )
  const values = points.map(({ value }) => value)
  const sizes = [...new Set(points.map(({ size }) => size))].sort((a, b) => a - b)
  return textOf({
    width: 820,
    height: 320,
    marginLeft: 70,
    marginRight: 230,
    marginTop: 24,
    marginBottom: 44,
    ariaLabel: title,
    x: {
      type: "log",
      label: of,
      labelAnchor: "center",
      labelArrow: "none",
      labelOffset: 38,
      ticks: sizes,
      tickFormat: (size: number) => size.toLocaleString("en-US")
    },
    y: {
      type: "log",
      // at least a factor of a hundred, so that noise does not look like a slope
      domain: [Math.min(...values) / 3, Math.max(...values, 30 * Math.min(...values)) * 1.5],
      label,
      labelArrow: "none",
      grid: true,
      ticks: 5,
      tickFormat: number
    },
    marks: [
      Plot.frame({ stroke: "#d0d0d0" }),
      Plot.line(points, { x: "size", y: "value", z: "contender", stroke: colorOf, strokeWidth: 2 }),
      Plot.dot(points, { x: "size", y: "value", fill: colorOf, r: 4 }),
      Plot.text(apart(lines), {
        x: "size",
        y: "at",
        text: "contender",
        fill: colorOf,
        textAnchor: "start",
        dx: 10
      })
    ]
  })
}

/** Where the names of lines are written, so that none covers another. */
const apart = (lines: ReadonlyArray<Line>) => {
  const range = lines.flatMap(({ points }) => points.map(({ value }) => value))
  const step = Math.max(Math.max(...range) / Math.min(...range), 100) ** 0.06
  let last = 0
  return lines
    .map(({ contender, points }) => ({ contender, ...points.at(-1)! }))
    .sort((a, b) => a.value - b.value)
    .map(({ contender, size, value }) => {
      last = Math.max(value, last * step)
      return { contender, size, at: last }
    })
}

const textOf = (options: Plot.PlotOptions): string => {
  const { document } = parseHTML("<!doctype html><html><body></body></html>")
  const svg = Plot.plot({
    ...options,
    document: document as never,
    style: { background: "white", color: "#1a1a1a", fontFamily: "sans-serif", fontSize: "12px" }
  })
  svg.setAttribute("xmlns", "http://www.w3.org/2000/svg")
  return `${svg.outerHTML}\n`
}
