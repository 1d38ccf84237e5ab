/** The tables of a report, for the terminal and for the documentation alike. */
import type { Result, RowResult } from "./Measure.js"
import { complaint, isMeasured, number, time } from "./Report.js"
import type { Group } from "./Row.js"
import type { Spread } from "./Stats.js"

export interface Table {
  readonly header: ReadonlyArray<string>
  readonly rows: ReadonlyArray<ReadonlyArray<string>>
}

interface Column {
  readonly title: string
  readonly cell: (result: Result) => string
}

const range = ({ max, median, min }: Spread, format = number): string =>
  `${format(median)} (${format(min)}–${format(max)})`

const ratioColumn = (title: string): Column => ({ title, cell: ({ ratio }) => range(ratio) })

const cost: ReadonlyArray<Column> = [
  { title: "client CPU µs", cell: ({ cpuMicros }) => number(cpuMicros.median) },
  { title: "server CPU µs", cell: ({ serverCpuMicros }) => number(serverCpuMicros.median) },
  { title: "requests", cell: ({ requests }) => number(requests) },
  { title: "commands", cell: ({ commands }) => number(commands.median) },
  { title: "bytes", cell: ({ bytes }) => number(bytes.median) },
  { title: "connections", cell: ({ connections }) => String(connections) }
]

const wait: ReadonlyArray<Column> = [
  { title: "wait p50", cell: (result) => time(result.wait.p50.median) },
  { title: "p99", cell: (result) => time(result.wait.p99.median) },
  { title: "max", cell: (result) => time(result.wait.max) }
]

const cycles: Column = {
  title: "cycles/s",
  cell: ({ cyclesPerSecond }) => range(cyclesPerSecond)
}

const columns: Readonly<Record<Group, ReadonlyArray<Column>>> = {
  check: [
    { title: "increments", cell: ({ cycles }) => number(cycles) },
    { title: "lost", cell: ({ violations }) => String(violations.lostUpdates) },
    { title: "two holders", cell: ({ violations }) => String(violations.overlaps) },
    { title: "failures", cell: ({ violations }) => String(violations.failures) },
    { title: "still waiting", cell: ({ violations }) => String(violations.stuck) }
  ],
  free: [cycles, ratioColumn("× raw"), ...cost, ...wait],
  hot: [
    cycles,
    ratioColumn("× raw"),
    ...wait,
    {
      title: "turns of a caller",
      cell: ({ fewest, most }) => `${number(fewest.median)}–${number(most.median)}`
    },
    ...cost
  ],
  handoff: [
    {
      title: "p50",
      cell: ({ handoff }) => (handoff === undefined ? "–" : range(handoff.p50, time))
    },
    ratioColumn("× echo"),
    { title: "p99", cell: ({ handoff }) => time(handoff?.p99.median ?? Number.NaN) },
    { title: "max", cell: ({ handoff }) => time(handoff?.max ?? Number.NaN) },
    { title: "changes hands", cell: ({ changes }) => `${Math.round(100 * changes.median)} %` },
    cycles,
    ...wait,
    ...cost.slice(2)
  ]
}

export const tableOf = ({ results, row }: RowResult): Table => ({
  header: ["", ...columns[row.group].map(({ title }) => title)],
  rows: results.map((result) => [
    result.contender,
    ...columns[row.group].map(({ cell }) => (isMeasured(result) ? cell(result) : "–"))
  ])
})

/** One line for everyone with whom something was wrong. */
export const complaintsOf = ({ results }: RowResult): ReadonlyArray<string> =>
  results.flatMap((result) => {
    const text = complaint(result)
    return text === undefined ? [] : [`${result.contender}: ${text}`]
  })

export const terminal = (result: RowResult): string => {
  const { header, rows } = tableOf(result)
  const lines = [header, ...rows]
  const widths = header.map((_, column) => Math.max(...lines.map((line) => line[column]!.length)))
  return [
    `\n${result.row.id}: ${result.row.title}`,
    ...lines.map((line) =>
      line
        .map((cell, column) =>
          column === 0 ? cell.padEnd(widths[column]!) : cell.padStart(widths[column]!)
        )
        .join("  ")
    ),
    ...complaintsOf(result).map((text) => `! ${text}`)
  ].join("\n")
}

export const markdown = (result: RowResult): string => {
  const { header, rows } = tableOf(result)
  const line = (cells: ReadonlyArray<string>) => `| ${cells.join(" | ")} |`
  return [
    line(header),
    line(header.map((_, column) => (column === 0 ? "---" : "--:"))),
    ...rows.map((cells) => line(cells.map((cell) => cell.replaceAll("|", "\\|"))))
  ].join("\n")
}
