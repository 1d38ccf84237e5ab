/**
 * Failovers to a replica that lags: how many leases does the next master lack, with `acknowledged` and without?
 *
 *   npm run lost-grants                    a thousand failovers with it, and as many without: half an hour or more
 *   npm run lost-grants -- --tries 100
 *   npm run lost-grants -- --seed 7
 *
 * Exit code 1 if one was lost with it, or none without.
 */
import * as Effect from "effect/Effect"
import * as Logger from "effect/Logger"
import { parseArgs } from "node:util"
import { announceRedisServer } from "../test/setup.js"
import * as LostGrants from "../test/support/LostGrants.js"

const { values } = parseArgs({
  options: {
    tries: { type: "string", default: "1000" },
    seed: { type: "string", default: "1" }
  }
})

/** A store that is closed warns of what is held, and of what cannot be given back to a dead master. */
const quiet = Effect.provide(Logger.remove(Logger.defaultLogger))

await announceRedisServer()

const run = (acknowledged: boolean) => {
  let told = performance.now()
  return Effect.runPromise(
    Effect.scoped(
      LostGrants.run({
        tries: Number(values.tries),
        seed: Number(values.seed),
        acknowledged,
        onTry: ({ lost, tries }) => {
          if (performance.now() - told < 30_000) return
          told = performance.now()
          console.log(`${acknowledged ? "with" : "without"}: ${tries} failovers, ${lost} lost`)
        }
      }).pipe(quiet)
    )
  )
}

const [without, withIt] = [await run(false), await run(true)]
const row = (name: string, { granted, lost, refused, renewed, tries }: LostGrants.Report) =>
  `| ${[name, tries, granted, renewed, refused, lost].join(" | ")} |`
console.log(`
| | failovers | grants | renewals | failed | lost |
| --- | ---: | ---: | ---: | ---: | ---: |
${row("without", without)}
${row("acknowledged", withIt)}`)
process.exit(without.lost > 0 && withIt.lost === 0 ? 0 : 1)
