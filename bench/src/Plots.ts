/** The pictures of a report: dots are medians, lines go from the least to the most. */
import * as Plot from "@observablehq/plot"
import { parseHTML } from "linkedom"
import type { Result } from "./Measure.js"
import { isMeasured, rowsOf, type Report } from "./Report.js"
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
  readonly values: (result: Result) => readonly [least: number, middle: number, most: number] | undefined
  /** A line to compare with. */
  readonly reference?: number
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
    label: "turns of a caller ÷ an equal share: line from the fewest to the most",
    scale: "linear",
    reference: 1,
    values: ({ cycles, fewest, most, rounds }) => {
      const share = cycles / rounds / callersOf
      return [fewest.median / share, 1, most.median / share]
    }
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
  }
]

export interface Svg {
  readonly name: string
  readonly alt: string
  readonly group: Group
  readonly text: string
}
