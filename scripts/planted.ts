/**
 * Puts known bugs into copies of the library, runs the fault suite on each of them, and prints a
 * table of the checks that caught them. Exit code 1 if a bug was not caught, or if the unchanged
 * library did not pass the same runs.
 *
 *   npm run faults:planted
 *   npm run faults:planted -- --only "validity"
 */
import * as Effect from "effect/Effect"
import { parseArgs } from "node:util"
import { bugs, type Catch, control, hunt } from "../test/faults/planted.js"
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
const chosen = bugs.filter(({ name }) => name.includes(values.only))
const controls = [...new Set(chosen.map(({ row }) => row))].map(control)

const hunted = (bugs: typeof chosen) =>
  Effect.forEach(
    bugs,
    (bug) =>
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

const results = await Effect.runPromise(hunted(chosen))
const clean = await Effect.runPromise(hunted(controls))

const line = ({ bug, caughtBy, of, plan, runs }: Catch): string =>
  runs === undefined
    ? `| ${bug} | - | - | none in ${of} |`
    : `| ${bug} | ${caughtBy.join(", ")} | ${plan} | ${runs} of ${of} |`

console.log("| planted | caught by | in the plan | runs |")
console.log("| --- | --- | --- | ---: |")
for (const result of [...results, ...clean]) console.log(line(result))
const good =
  results.every(({ runs }) => runs !== undefined) &&
  clean.every(({ caughtBy, runs }) => runs === undefined && caughtBy.length === 0)
process.exit(good ? 0 : 1)
