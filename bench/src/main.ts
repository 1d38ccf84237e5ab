/**
 * Measures this library beside a hand-written loop and the other lock libraries of npm.
 *
 * `npm run bench` at the root of the repository builds everything that is needed, and runs this.
 */
import { mkdirSync } from "node:fs"
import { dirname, join, relative } from "node:path"
import { fileURLToPath } from "node:url"
import { parseArgs } from "node:util"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as RedisServer from "../../test/support/RedisServer.js"
import { ensureRedisServer } from "../../test/setup.js"
import * as Crew from "./Crew.js"
import * as Measure from "./Measure.js"
import * as Report from "./Report.js"
import { rows as allRows, smoke } from "./Row.js"
import { complaintsOf, terminal } from "./Tables.js"

const usage = `usage: npm run bench [-- options]

  --full           more and longer rounds (about half an hour)
  --smoke          a few short rounds without the other libraries, to see that all of this works
  --only <words>   rows whose id contains one of the words, separated by commas:
                   ${allRows.map(({ id }) => id).join(", ")}
  --rounds <n>     rounds of each row
  --write          writes docs/benchmarks.md; what a run of all rows does anyway
  --from <file>    measures nothing, and writes docs/benchmarks.md from an earlier run's report
  --help           says this`

const root = fileURLToPath(new URL("../../../../", import.meta.url))
const reportFile = join(root, ".cache/bench.json")

const forms = {
  short: { rounds: 3, millis: 350, warmUpMillis: 1_400 },
  full: { rounds: 7, millis: 2_000, warmUpMillis: 3_000 },
  smoke: { rounds: 1, millis: 200, warmUpMillis: 100 }
}

const arguments_ = () => {
  try {
    const { values } = parseArgs({
      options: {
        full: { type: "boolean", default: false },
        smoke: { type: "boolean", default: false },
        only: { type: "string" },
        rounds: { type: "string" },
        write: { type: "boolean", default: false },
        from: { type: "string" },
        help: { type: "boolean", default: false }
      }
    })
    if (values.full && values.smoke) return fail("either --full or --smoke")
    if (values.rounds !== undefined && !/^[1-9]\d*$/.test(values.rounds)) {
      return fail(`--rounds wants a number, not "${values.rounds}"`)
    }
    const words = values.only?.split(",")
    const rows = allRows.filter(({ id }) => words?.some((word) => id.includes(word)) ?? true)
    if (rows.length === 0) return fail(`no row has an id with ${values.only}`)
    return { ...values, rows }
  } catch (error) {
    return fail(error instanceof Error ? error.message : String(error))
  }
}

const fail = (message: string): never => {
  console.error(`${message}\n\n${usage}`)
  process.exit(2)
}

const measureAll = (options: ReturnType<typeof arguments_>) =>
  Effect.gen(function* () {
    const form = options.full ? "full" : options.smoke ? "smoke" : "short"
    const { millis, warmUpMillis } = forms[form]
    const rounds = options.rounds === undefined ? forms[form].rounds : Number(options.rounds)
    const settings = { ttlMillis: 5_000, pollMillis: [2, 8] } as const
    const server = yield* RedisServer.make()
    const machine = Report.machine(String(yield* server.command("INFO", "server")))
    yield* Console.log(
      `${machine.cpu}, ${machine.cores} cores, Node.js ${machine.node}, Redis ${machine.redis}`
    )
    const crews = yield* Crew.pool({ ...settings, url: server.url })
    const results: Array<Measure.RowResult> = []
    for (const row of options.smoke ? smoke(options.rows) : options.rows) {
      const result = yield* Measure.measure(row, server, {
        rounds,
        millis,
        warmUpMillis,
        crews,
        progress: (text) => progress(`${row.id}: ${text}`)
      })
      progress("")
      results.push(result)
      yield* Console.log(terminal(result))
    }
    return { form, rounds, millis, ...settings, machine, rows: results } satisfies Report.Report
  }).pipe(Effect.scoped)

/** One line that is written over. */
const progress = (text: string): void => {
  if (process.stdout.isTTY) process.stdout.write(`\r\u001b[K${text}`)
}

const write = async (report: Report.Report): Promise<void> => {
  const { write } = await import("./Document.js")
  for (const path of await write(root, report)) console.log(`wrote ${path}`)
}

const options = arguments_()
if (options.help) {
  console.log(usage)
} else if (options.from !== undefined) {
  await write(Report.read(options.from))
} else {
  ensureRedisServer()
  const began = performance.now()
  const report = await Effect.runPromise(measureAll(options))
  console.log(`\n${Math.round((performance.now() - began) / 1_000)} s`)
  if (!options.smoke) {
    mkdirSync(dirname(reportFile), { recursive: true })
    Report.write(reportFile, report)
    console.log(`wrote ${relative(root, reportFile)}`)
  }
  if (options.write || (!options.smoke && report.rows.length === allRows.length)) {
    await write(report)
  }
  // Others may fail, and are reported; this library and the hand-written loop must not.
  const own = report.rows.map((row) => ({
    ...row,
    results: row.results.filter(({ contender }) => /^(raw|echo|effect-redis-lock)/.test(contender))
  }))
  const complaints = own.flatMap(complaintsOf)
  const idle = own.flatMap(({ results, row }) =>
    results.filter((it) => !Report.isMeasured(it)).map((it) => `${row.id}: ${it.contender}`)
  )
  // And without a lock the check must have found something.
  const blind = report.rows
    .flatMap(({ results }) => results)
    .filter(({ contender, violations }) => contender === "no lock" && violations.overlaps === 0)
    .map(() => "no lock: no overlap was seen, so the check does not work")
  const failed = [...complaints, ...idle.map((it) => `${it}: no cycles`), ...blind]
  if (failed.length > 0) {
    console.error(["", "failed:", ...failed].join("\n"))
    process.exitCode = 1
  }
}
