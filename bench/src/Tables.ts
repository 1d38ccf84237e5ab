/** The tables of a report, for the terminal and for the documentation alike. */
import { costs, exponent, type Cost } from "./Growth.js"
import type { Held, HeldResult } from "./Held.js"
import type { Result, RowResult } from "./Measure.js"
import { complaint, heldComplaint, isMeasured, number, time, type Report } from "./Report.js"
import type { Group } from "./Row.js"
import type { FailoverResult, Recovery } from "./Failover.js"
import type { Start, StartUpResult } from "./StartUp.js"
import type { Spread } from "./Stats.js"

export interface Table {
  readonly header: ReadonlyArray<string>
  readonly rows: ReadonlyArray<ReadonlyArray<string>>
}

interface Column<A> {
  readonly title: string
  readonly cell: (result: A) => string
}

const range = ({ max, median, min }: Spread, format = number): string =>
  !Number.isFinite(median) || (min === median && max === median)
    ? format(median)
    : `${format(median)} (${format(min)}–${format(max)})`

const table = <A>(columns: ReadonlyArray<Column<A>>, results: ReadonlyArray<A>): Table => ({
  header: columns.map(({ title }) => title),
  rows: results.map((result) => columns.map(({ cell }) => cell(result)))
})

const ratioColumn = (title: string): Column<Result> => ({
  title,
  cell: ({ ratio }) => range(ratio)
})

const cost: ReadonlyArray<Column<Result>> = [
  { title: "client CPU µs", cell: ({ cpuMicros }) => number(cpuMicros.median) },
  { title: "server CPU µs", cell: ({ serverCpuMicros }) => number(serverCpuMicros.median) },
  { title: "requests", cell: ({ requests }) => number(requests) },
  { title: "commands", cell: ({ commands }) => number(commands.median) },
  { title: "bytes", cell: ({ bytes }) => number(bytes.median) },
  { title: "connections", cell: ({ connections }) => String(connections) }
]

const wait: ReadonlyArray<Column<Result>> = [
  { title: "wait p50", cell: (result) => time(result.wait.p50.median) },
  { title: "p99", cell: (result) => time(result.wait.p99.median) },
  { title: "max", cell: (result) => time(result.wait.max) }
]

const writeWait: ReadonlyArray<Column<Result>> = [
  { title: "writer's wait p50", cell: ({ writeWait }) => time(writeWait.p50.median) },
  { title: "p99", cell: ({ writeWait }) => range(writeWait.p99, time) },
  { title: "max", cell: ({ writeWait }) => time(writeWait.max) }
]

const cycles: Column<Result> = {
  title: "cycles/s",
  cell: ({ cyclesPerSecond }) => range(cyclesPerSecond)
}

const contended = (base: string): ReadonlyArray<Column<Result>> => [
  cycles,
  ratioColumn(`× ${base}`),
  ...wait,
  {
    title: "turns of a caller",
    cell: ({ fewest, most }) => `${number(fewest.median)}–${number(most.median)}`
  },
  ...cost
]

const handedOver: ReadonlyArray<Column<Result>> = [
  { title: "handoffs", cell: ({ cycles }) => number(cycles) },
  { title: "p50", cell: ({ wait }) => range(wait.p50, time) },
  ...wait.slice(1)
]

const columns: Readonly<Record<Exclude<Group, "slow">, ReadonlyArray<Column<Result>>>> = {
  check: [
    { title: "increments", cell: ({ cycles }) => number(cycles) },
    { title: "lost", cell: ({ violations }) => String(violations.lostUpdates) },
    { title: "two holders", cell: ({ violations }) => String(violations.overlaps) },
    { title: "failures", cell: ({ violations }) => String(violations.failures) },
    { title: "still waiting", cell: ({ violations }) => String(violations.stuck) }
  ],
  free: [cycles, ratioColumn("× raw"), ...cost, ...wait],
  several: [cycles, ratioColumn("× one lock"), ...cost, ...wait],
  permits: [cycles, ratioColumn("× the lock"), ...cost, ...wait],
  readers: [cycles, ratioColumn("× the lock"), ...cost, ...wait],
  readWrite: [cycles, ratioColumn("× the lock"), ...writeWait, ...wait, ...cost],
  hot: contended("raw"),
  semaphore: contended("redis-semaphore's"),
  many: contended("raw"),
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
  ],
  queue: [
    ...handedOver,
    { title: "server CPU µs", cell: ({ serverCpuMicros }) => range(serverCpuMicros) },
    ...cost.slice(3, 5)
  ],
  stores: handedOver,
  holders: [
    ...handedOver,
    { title: "server CPU µs", cell: ({ serverCpuMicros }) => range(serverCpuMicros) },
    { title: "longest call", cell: ({ longestCallMillis }) => time(longestCallMillis) },
    ...cost.slice(3, 5)
  ],
  growth: [cycles, ratioColumn("× raw"), ...cost.slice(0, 2), ...wait]
}

const slowColumns = (pingMillis: number): ReadonlyArray<Column<Result>> => [
  cycles,
  ratioColumn("× raw"),
  {
    title: "round trips",
    cell: (result) => number(roundTrips(pingMillis, result))
  },
  ...wait,
  ...cost.slice(3, 5)
]

/** How often the time of a PING passes in a cycle, of one caller or of all that want the key. */
export const roundTrips = (pingMillis: number, { periodMillis }: Result): number =>
  periodMillis.median / pingMillis

export const tableOf = ({ pingMillis, results, row }: RowResult): Table => {
  const mine = row.group === "slow" ? slowColumns(pingMillis) : columns[row.group]
  return table<Result>(
    [
      { title: "", cell: ({ contender }) => contender },
      ...mine.map(({ cell, title }) => ({
        title,
        cell: (result: Result) => (isMeasured(result) ? cell(result) : "–")
      }))
    ],
    results
  )
}

/** Rows of one load as a table: a line for each size. */
export const seriesTable = (results: ReadonlyArray<RowResult>): Table => {
  const { header } = tableOf(results[0]!)
  return {
    header: ["", ...header.slice(1)],
    rows: results.flatMap((result) =>
      tableOf(result).rows.map(([contender, ...cells]) => [
        result.results.length === 1 ? result.row.title : `${result.row.title}: ${contender}`,
        ...cells
      ])
    )
  }
}

const kilobytes = (bytes: number): string => number(bytes / 1_024)

const heldColumns: ReadonlyArray<Column<Held>> = [
  { title: "", cell: ({ contender }) => contender },
  { title: "leases", cell: ({ leases }) => leases.toLocaleString("en-US") },
  { title: "KB each", cell: ({ bytesPerLease }) => range(bytesPerLease, kilobytes) },
  {
    title: "fibers each",
    cell: ({ fibersPerLease }) => (fibersPerLease === undefined ? "–" : number(fibersPerLease))
  },
  { title: "CPU, % of a core", cell: ({ cpuPercent }) => range(cpuPercent) },
  { title: "server CPU, %", cell: ({ serverCpuPercent }) => range(serverCpuPercent) },
  { title: "commands/s", cell: ({ commandsPerSecond }) => number(commandsPerSecond.median) },
  { title: "KB/s", cell: ({ bytesPerSecond }) => kilobytes(bytesPerSecond.median) },
  { title: "lost", cell: ({ lost }) => String(lost) },
  { title: "taken within", cell: ({ takenMillis }) => time(takenMillis.median) }
]

export const heldTable = ({ results }: HeldResult): Table =>
  table(
    heldColumns.map(({ cell, title }, index) => ({
      title,
      cell: (held: Held) =>
        index < 2 || Number.isFinite(held.bytesPerLease.median) ? cell(held) : "–"
    })),
    results
  )

const startColumns: ReadonlyArray<Column<Start>> = [
  { title: "", cell: ({ who }) => who },
  { title: "import", cell: ({ importMillis }) => range(importMillis, time) },
  {
    title: "first lock",
    cell: ({ lockedMillis }) => (lockedMillis === undefined ? "–" : range(lockedMillis, time))
  },
  { title: "packed KB", cell: ({ size }) => kilobytes(size?.packedBytes ?? Number.NaN) },
  { title: "unpacked KB", cell: ({ size }) => kilobytes(size?.unpackedBytes ?? Number.NaN) },
  { title: "files", cell: ({ size }) => (size === undefined ? "–" : String(size.files)) }
]

export const startTable = ({ results }: StartUpResult): Table => table(startColumns, results)

const signed = (millis: number): string => (millis < 0 ? "−" : "") + time(Math.abs(millis))

const recoveryColumns: ReadonlyArray<Column<Recovery>> = [
  { title: "after +switch-master", cell: ({ who }) => who },
  {
    title: "who waited",
    cell: ({ waiterMillis }) => (waiterMillis === undefined ? "–" : range(waiterMillis, signed))
  },
  { title: "who came", cell: ({ comerMillis }) => range(comerMillis, signed) }
]

export const failoverTable = ({ results, switchMillis }: FailoverResult): Table => {
  const { header, rows } = table(recoveryColumns, results)
  const told = range(switchMillis, time)
  return {
    header,
    rows: [["the Sentinels, from the death to +switch-master", told, told], ...rows]
  }
}

export const growthTable = (report: Report, cost: Cost): Table => {
  const lines = costs(report, cost)
  const sizes = [...new Set(lines.flatMap(({ points }) => points.map(({ size }) => size)))].sort(
    (a, b) => a - b
  )
  return {
    header: ["", ...sizes.map((size) => size.toLocaleString("en-US")), "exponent"],
    rows: lines.map(({ contender, points }) => [
      contender,
      ...sizes.map((at) => number(points.find(({ size }) => size === at)?.value ?? Number.NaN)),
      points.length < 2 ? "–" : exponent(points).toFixed(2)
    ])
  }
}

/** One line for everyone with whom something was wrong. */
export const complaintsOf = ({ results }: RowResult): ReadonlyArray<string> =>
  results.flatMap((result) => {
    const text = complaint(result)
    return text === undefined ? [] : [`${result.contender}: ${text}`]
  })

export const heldComplaintsOf = ({ results }: HeldResult): ReadonlyArray<string> =>
  results.flatMap((held) => heldComplaint(held) ?? [])

export const startComplaintsOf = ({ results }: StartUpResult): ReadonlyArray<string> =>
  results.flatMap(({ problem, who }) => (problem === undefined ? [] : [`${who}: ${problem}`]))

export const terminal = (
  title: string,
  { header, rows }: Table,
  complaints: ReadonlyArray<string>
): string => {
  const lines = [header, ...rows]
  const widths = header.map((_, column) => Math.max(...lines.map((line) => line[column]!.length)))
  return [
    `\n${title}`,
    ...lines.map((line) =>
      line
        .map((cell, column) =>
          column === 0 ? cell.padEnd(widths[column]!) : cell.padStart(widths[column]!)
        )
        .join("  ")
    ),
    ...complaints.map((text) => `! ${text}`)
  ].join("\n")
}

export const markdown = ({ header, rows }: Table): string => {
  const line = (cells: ReadonlyArray<string>) => `| ${cells.join(" | ")} |`
  return [
    line(header),
    line(header.map((_, column) => (column === 0 ? "---" : "--:"))),
    ...rows.map((cells) => line(cells.map((cell) => cell.replaceAll("|", "\\|"))))
  ].join("\n")
}
