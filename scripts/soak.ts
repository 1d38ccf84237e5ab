/**
 * The long form of the fault suite: random plans of faults, one after the other, on the same
 * processes.
 *
 *   npm run soak                                                       for an hour, all rows
 *   npm run soak -- --minutes 5 --only "mutex, one Redis"
 *   npm run soak -- --at-once 2                                        two rows at a time, for less load
 *   npm run soak -- --only "mutex, one Redis" --seed 4711 --runs 1     repeats a random plan
 *   npm run soak -- --only "mutex, one Redis" --script flushall        runs a scripted plan
 *
 * Prints each violation when it is found, and a table at the end. Exit code 1 if there was one.
 */
import * as Effect from "effect/Effect"
import { parseArgs } from "node:util"
import * as Plan from "../test/faults/Plan.js"
import { type Row, rowNamed, rows } from "../test/faults/Rows.js"
import * as Soak from "../test/faults/Soak.js"
import { announceRedisServer } from "../test/setup.js"

const { values } = parseArgs({
  options: {
    minutes: { type: "string", default: "60" },
    seed: { type: "string", default: String(Date.now() % 1_000_000) },
    only: { type: "string" },
    "at-once": { type: "string" },
    processes: { type: "string" },
    runs: { type: "string" },
    length: { type: "string", default: "10000" },
    script: { type: "string" },
    verbose: { type: "boolean", default: false }
  }
})

/** How long the workload of one random plan goes on, in milliseconds. */
const length = Number(values.length)
const firstSeed = Number(values.seed)
const chosen = values.only === undefined ? rows : [rowNamed(values.only)]
/** How many rows run at the same time. */
const atOnce = Math.min(Number(values["at-once"] ?? chosen.length), chosen.length)
/** How long each row runs, in milliseconds, so that all of them take the time that was asked for. */
const share = (Number(values.minutes) * 60_000 * atOnce) / chosen.length

/** The scripted plans of that name, or random ones until the time is over. */
const plansOf = (row: Row): (() => Plan.Plan | undefined) => {
  const { script } = values
  if (script !== undefined) {
    const scripted = Plan.scripts(row).filter(({ name }) => name.includes(script))
    const all = Array.from({ length: Number(values.runs ?? 1) }, () => scripted).flat()
    return () => all.shift()
  }
  let seed = firstSeed
  let endsAt: number | undefined
  const until = firstSeed + Number(values.runs ?? Number.POSITIVE_INFINITY)
  return () => {
    endsAt ??= performance.now() + share
    return performance.now() < endsAt && seed < until ? Plan.random(seed++, row, length) : undefined
  }
}

const soak = (row: Row) => {
  let told = performance.now()
  return Soak.onOneCrew(row, plansOf(row), {
    ...(values.processes === undefined ? {} : { processes: Number(values.processes) }),
    onRun: (tally, result) =>
      Effect.sync(() => {
        if (result.violations.length > 0) console.log(`\n${tally.reports.at(-1)}\n`)
        else if (values.verbose || performance.now() - told > 60_000) {
          told = performance.now()
          const { faults, granted } = tally.counts
          console.log(
            `${row.name}: ${tally.runs} runs up to ${result.plan.name}, ${granted} sections, ${faults} faults, ${tally.failed} failed`
          )
        }
      })
  })
}

await announceRedisServer()
console.log(`rows: ${chosen.map(({ name }) => name).join("; ")}; first seed: ${firstSeed}`)
const tallies = await Effect.runPromise(Effect.forEach(chosen, soak, { concurrency: atOnce }))

const heap = (growth: ReadonlyArray<number>) =>
  growth.length === 0 ? "–" : `${(Math.max(...growth) / 1024).toFixed(1)} KB`

console.log(`
| row | runs | faults | critical sections | leases lost | writes refused | heap, a minute | runs that failed |
| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |`)
for (const { counts, failed, growth, row, runs } of tallies) {
  console.log(
    `| ${row.name} | ${runs} | ${counts.faults} | ${counts.granted} | ${counts.lost} | ${counts.refused} | ${heap(growth)} | ${failed} |`
  )
}
console.log("\n| fault | times |\n| --- | ---: |")
const faults = new Map<string, number>()
for (const tally of tallies) {
  for (const [fault, times] of tally.faults) faults.set(fault, times + (faults.get(fault) ?? 0))
}
for (const [fault, times] of [...faults].sort(([, a], [, b]) => b - a)) {
  console.log(`| ${fault} | ${times} |`)
}
const failed = tallies.flatMap(({ reports }) => reports)
console.log(failed.length === 0 ? "\nno violations" : `\n${failed.join("\n\n")}`)
// (some handle of a row that has ended keeps the process alive)
process.exit(failed.length === 0 ? 0 : 1)
