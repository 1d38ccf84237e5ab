/** Everything that was seen in one run. */
import { cpus } from "node:os"
import { readFileSync, writeFileSync } from "node:fs"
import type { FailoverResult } from "./Failover.js"
import type { Held, HeldResult } from "./Held.js"
import type { Result, RowResult } from "./Measure.js"
import type { Form, Group, SeriesName } from "./Row.js"
import type { StartUpResult } from "./StartUp.js"
import { versionIn } from "../../test/support/serverBinary.js"

export interface Report {
  /** The hash of what was measured. */
  readonly sources: string
  readonly form: Form
  readonly rounds: number
  readonly millis: number
  readonly warmUpMillis: number
  readonly ttlMillis: number
  readonly pollMillis: readonly [least: number, most: number]
  readonly machine: Machine
  readonly rows: ReadonlyArray<RowResult>
  readonly held: HeldResult | undefined
  readonly startUp: StartUpResult | undefined
  readonly failover: FailoverResult | undefined
}

/** What matters of the machine, and nothing that tells whose it is. */
export interface Machine {
  readonly cpu: string
  readonly cores: number
  readonly platform: string
  readonly node: string
  readonly redis: string
}

export const machine = (redisInfo: string): Machine => ({
  cpu: cpus()[0]?.model.trim() ?? "unknown",
  cores: cpus().length,
  platform: `${process.platform} ${process.arch}`,
  node: process.version.slice(1),
  redis: versionIn(redisInfo)
})

export const write = (path: string, report: Report): void =>
  writeFileSync(path, JSON.stringify(report, undefined, 1))

export const read = (path: string): Report => JSON.parse(readFileSync(path, "utf8"))

export const rowsOf = (report: Report, group: Group): ReadonlyArray<RowResult> =>
  report.rows.filter(({ row }) => row.group === group)

/** The sizes of a load, from the smallest. */
export const seriesOf = (report: Report, name: SeriesName): ReadonlyArray<RowResult> =>
  report.rows
    .filter(({ row }) => row.series?.name === name)
    .sort((a, b) => a.row.series!.size - b.row.series!.size)

/** Package and version of everyone who took part. */
export const versions = (report: Report): ReadonlyMap<string, string> =>
  new Map(
    [...report.rows, report.held ?? { results: [] }]
      .flatMap(({ results }): ReadonlyArray<Result | Held> => results)
      .flatMap(({ about }) => (about === undefined ? [] : [[about.package, about.version]]))
  )

/** What went wrong, in words; undefined if nothing did. */
export const complaint = ({ problem, violations }: Result): string | undefined => {
  const { failures, firstFailure, lostUpdates, overlaps } = violations
  const all = [
    overlaps > 0 ? `${overlaps} overlaps: more holders at a time than may be` : undefined,
    lostUpdates > 0 ? `${lostUpdates} updates lost` : undefined,
    failures > 0 ? `${failures} failures, the first: ${firstFailure}` : undefined,
    problem
  ].filter((it) => it !== undefined)
  return all.length === 0 ? undefined : all.join("; ")
}

/** The same, of leases that were held. */
export const heldComplaint = ({
  contender,
  failures,
  firstFailure,
  leases,
  lost,
  problem
}: Held): string | undefined => {
  const all = [
    lost > 0 ? `${lost} of ${leases.toLocaleString("en-US")} leases lost` : undefined,
    failures > 0 ? `${failures} failures, the first: ${firstFailure}` : undefined,
    problem
  ].filter((it) => it !== undefined)
  return all.length === 0 ? undefined : `${contender}: ${all.join("; ")}`
}

export const isMeasured = ({ cycles, rounds }: Result): boolean => rounds > 0 && cycles > 0

/** Three significant digits. */
export const number = (value: number): string => {
  if (value === 0 || !Number.isFinite(value)) return Number.isFinite(value) ? "0" : "–"
  const rounded = Number(value.toPrecision(3))
  return Math.abs(rounded) >= 1_000 ? rounded.toLocaleString("en-US") : String(rounded)
}

/** A time in milliseconds, with a unit that suits it. */
export const time = (millis: number): string =>
  millis < 1 ? `${number(1_000 * millis)} µs` : `${number(millis)} ms`
