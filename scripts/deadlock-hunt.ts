/**
 * Hunts for deadlocks: processes that take random sets of keys in random order, with locks and with
 * several locks at once, with time limits and interruptions, while one of them is killed every 2 s (or less often: when all have started again).
 *
 *   npm run deadlock-hunt                                  one minute
 *   npm run deadlock-hunt -- --minutes 10
 *   npm run deadlock-hunt -- --processes 4 --fibers 8 --keys 3 --most 3
 *
 * Exit code 1 if nobody got on for a time that no death can explain, if two were in the same section,
 * or if anything was left in Redis.
 */
import * as Effect from "effect/Effect"
import { parseArgs } from "node:util"
import { announceRedisServer } from "../test/setup.js"
import * as DeadlockHunt from "../test/support/DeadlockHunt.js"

const { values } = parseArgs({
  options: {
    minutes: { type: "string", default: "1" },
    processes: { type: "string", default: String(DeadlockHunt.defaults.processes) },
    fibers: { type: "string", default: String(DeadlockHunt.defaults.fibers) },
    keys: { type: "string", default: String(DeadlockHunt.defaults.keys) },
    most: { type: "string", default: String(DeadlockHunt.defaults.most) }
  }
})

await announceRedisServer()
let told = performance.now()
const report = await Effect.runPromise(
  Effect.scoped(
    DeadlockHunt.hunt({
      ...DeadlockHunt.defaults,
      millis: Number(values.minutes) * 60_000,
      processes: Number(values.processes),
      fibers: Number(values.fibers),
      keys: Number(values.keys),
      most: Number(values.most),
      onProgress: ({ deaths, sections, seconds }) => {
        if (performance.now() - told < 30_000) return
        told = performance.now()
        console.log(`${seconds} s: ${sections} sections, ${deaths} deaths`)
      }
    })
  )
)
console.log(`
| processes | seconds | critical sections | of several keys | without the locks | deaths | longest gap, ms | longest wait, ms | violations | left |
| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |
| ${[values.processes, report.seconds, report.sections, report.several, report.without, report.deaths, report.longestGapMillis, report.longestWaitMillis, report.violations.length, report.left.length].join(" | ")} |`)
for (const violation of report.violations) console.log(violation)
for (const key of report.left) console.log(`left: ${key}`)
process.exit(report.violations.length + report.left.length === 0 ? 0 : 1)
