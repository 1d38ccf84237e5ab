/**
 * Puts known bugs into copies of the library, runs the fault suite on each of them, and prints a
 * table of the checks that caught them. The unchanged library goes through the same runs, up to the
 * one in which the bug was caught, and through 20 for each row. Exit code 1 if a bug was not caught,
 * or if the unchanged library did not pass.
 *
 *   npm run faults:planted
 *   npm run faults:planted -- --only "validity"       (or a part of the name of a row)
 */
import * as Effect from "effect/Effect"
import { parseArgs } from "node:util"
import { type Bug, bugs, type Catch, control, hunt, unplanted } from "../test/faults/planted.js"
import { announceRedisServer } from "../test/setup.js"

const { values } = parseArgs({
  options: {
    only: { type: "string", default: "" },
    most: { type: "string", default: "20" },
    verbose: { type: "boolean", default: false }
  }
})
const most = Number(values.most)

await announceRedisServer()
const chosen = bugs.filter(({ name, row }) => `${name} ${row}`.includes(values.only))
const controls = [...new Set(chosen.map(({ row }) => row))].map(control)

const hunted = (bugs: ReadonlyArray<{ readonly bug: Bug; readonly most: number }>) =>
  Effect.forEach(
    bugs,
    ({ bug, most }) =>
      Effect.tap(hunt(bug, most), (result) =>
        Effect.sync(() => {
          const { caughtBy, plan, report, runs } = result
          const fate =
            runs === undefined
              ? `not caught in ${most} runs`
              : `run ${runs}, ${plan}: ${caughtBy.join(", ")}`
          console.error(`${bug.name}: ${fate}`)
          if (values.verbose && report !== undefined) console.error(`${report}\n`)
        })
      ),
    { concurrency: 3 }
  )

const results = await Effect.runPromise(hunted(chosen.map((bug) => ({ bug, most }))))
const sameRuns = chosen.flatMap((bug, index) => {
  const runs = results[index]?.runs
  return runs === undefined ? [] : [{ bug: unplanted(bug), most: runs }]
})
const same = await Effect.runPromise(hunted(sameRuns))
const clean = await Effect.runPromise(hunted(controls.map((bug) => ({ bug, most }))))

const isClean = ({ caughtBy, runs }: Catch): boolean => runs === undefined && caughtBy.length === 0

const line = ({ bug, caughtBy, of, plan, runs }: Catch): string =>
  runs === undefined
    ? `| ${bug} | - | - | none in ${of} |`
    : `| ${bug} | ${caughtBy.join(", ")} | ${plan} | ${runs} of ${of} |`

console.log("| planted | caught by | in the plan | runs |")
console.log("| --- | --- | --- | ---: |")
const dirty = same.filter((result) => !isClean(result))
for (const result of [...results, ...clean, ...dirty]) console.log(line(result))
const good =
  results.every(({ runs }) => runs !== undefined) && clean.every(isClean) && dirty.length === 0
process.exit(good ? 0 : 1)
