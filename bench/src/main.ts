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
import { announceRedisServer } from "../../test/setup.js"
import * as Crew from "./Crew.js"
import * as Failover from "./Failover.js"
import * as Held from "./Held.js"
import * as Measure from "./Measure.js"
import * as Network from "./Network.js"
import * as Report from "./Report.js"
import { rows as allRows, inForm, type Form } from "./Row.js"
import * as Sources from "./Sources.js"
import * as StartUp from "./StartUp.js"
import {
  complaintsOf,
  failoverTable,
  heldComplaintsOf,
  heldTable,
  startComplaintsOf,
  startTable,
  tableOf,
  terminal
} from "./Tables.js"

/** What is measured besides rows. */
const others = ["held", "start-up", "failover"] as const

const usage = `usage: npm run bench [-- options]

  --full           all libraries in all rows, more and longer rounds (more than an hour)
  --smoke          a few short rounds without the other libraries, to check that the benchmark works
  --only <words>   rows whose id is, or contains, one of the words, separated by commas:
                   ${[...allRows.map(({ id }) => id), ...others].join(", ")}
  --rounds <n>     how many rounds each row has
  --write          writes docs/benchmarks.md (a run of all rows always does)
  --from <file>    writes docs/benchmarks.md from the report of an earlier run, without measuring
  --help           prints this text`

const root = fileURLToPath(new URL("../../../../", import.meta.url))
const reportFile = join(root, ".cache/bench.json")

const forms = {
  short: { rounds: 9, millis: 125, warmUpMillis: 2_500, holds: 1, starts: 3, failovers: 3 },
  full: { rounds: 14, millis: 1_000, warmUpMillis: 6_000, holds: 3, starts: 15, failovers: 9 },
  smoke: { rounds: 1, millis: 200, warmUpMillis: 100, holds: 1, starts: 1, failovers: 1 }
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
    if (values.full && values.smoke) return fail("--full and --smoke cannot be used together")
    if (values.rounds !== undefined && !/^[1-9]\d*$/.test(values.rounds)) {
      return fail(`--rounds needs a number, not "${values.rounds}"`)
    }
    const words = values.only?.split(",")
    const names = new Set([...allRows.map(({ id }) => id), ...others])
    const isWanted = (id: string) =>
      words?.some((word) => (names.has(word) ? id === word : id.includes(word))) ?? true
    const form: Form = values.full ? "full" : values.smoke ? "smoke" : "short"
    const inThisForm = inForm(form, allRows)
    const ids = new Set(inThisForm.map(({ id }) => id))
    // by name, a row is also had in a form that leaves it out
    const more = values.only === undefined ? [] : allRows.filter(({ id }) => !ids.has(id))
    const rows = [...inThisForm, ...more].filter(({ id }) => isWanted(id))
    const wanted = others.filter(isWanted)
    if (rows.length + wanted.length === 0)
      return fail(`no row has an id that contains ${values.only}`)
    return { ...values, form, rows, wanted }
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
    const { form, wanted } = options
    const { failovers, holds, millis, starts, warmUpMillis } = forms[form]
    const sources = Sources.hash(root)
    const given = options.rounds === undefined ? undefined : Number(options.rounds)
    const rounds = given ?? forms[form].rounds
    const settings = { ttlMillis: 5_000, pollMillis: [2, 8] } as const
    const server = yield* RedisServer.make()
    const machine = Report.machine(String(yield* server.command("INFO", "server")))
    yield* Console.log(
      `${machine.cpu}, ${machine.cores} cores, Node.js ${machine.node}, ${machine.redis}`
    )
    const timed = timer()

    const startUp = wanted.includes("start-up")
      ? yield* StartUp.measure(form, given ?? starts, server.url, root, progress)
      : undefined
    if (startUp !== undefined) {
      yield* timed(terminal("start-up", startTable(startUp), startComplaintsOf(startUp)))
    }

    const results = yield* Effect.scoped(
      Effect.gen(function* () {
        const crews = yield* Crew.pool(settings)
        const networks = new Map<number, Network.Network>()
        const results: Array<Measure.RowResult> = []
        for (const row of options.rows) {
          const oneWayMillis = row.oneWayMillis ?? 0
          const network =
            networks.get(oneWayMillis) ?? (yield* Network.make(server.port, oneWayMillis))
          networks.set(oneWayMillis, network)
          const result = yield* Measure.measure(row, server, {
            rounds: form === "short" && given === undefined ? (row.shortRounds ?? rounds) : rounds,
            millis,
            warmUpMillis,
            crews,
            ...network,
            progress: (text) => progress(`${row.id}: ${text}`)
          })
          results.push(result)
          yield* timed(terminal(`${row.id}: ${row.title}`, tableOf(result), complaintsOf(result)))
        }
        return results
      })
    )

    const held = wanted.includes("held")
      ? yield* Held.measure(form, given ?? holds, settings, progress)
      : undefined
    if (held !== undefined) {
      yield* timed(terminal("held", heldTable(held), heldComplaintsOf(held)))
    }
    const failover = wanted.includes("failover")
      ? yield* Failover.measure(form, given ?? failovers, progress)
      : undefined
    if (failover !== undefined) yield* timed(terminal("failover", failoverTable(failover), []))
    return {
      sources,
      form,
      rounds,
      millis,
      warmUpMillis,
      ...settings,
      machine,
      rows: results,
      held,
      startUp,
      failover
    } satisfies Report.Report
  }).pipe(Effect.scoped)

/** Says what was seen, and how long it took. */
const timer = () => {
  let since = performance.now()
  return (text: string) =>
    Effect.sync(() => {
      const seconds = Math.round((performance.now() - since) / 1_000)
      since = performance.now()
      progress("")
      console.log(`${text}\n(${seconds} s)`)
    })
}

/** One line that is written over. */
const progress = (text: string): void => {
  if (process.stdout.isTTY) process.stdout.write(`\r\u001b[K${text}`)
}

const write = async (report: Report.Report): Promise<void> => {
  const { write } = await import("./Document.js")
  for (const path of await write(root, report)) console.log(`wrote ${path}`)
  console.log("Pages that quote these figures: npm run figures")
}

const options = arguments_()
if (options.help) {
  console.log(usage)
} else if (options.from !== undefined) {
  await write(Report.read(options.from))
} else {
  await announceRedisServer()
  const began = performance.now()
  const report = await Effect.runPromise(measureAll(options))
  console.log(`\n${Math.round((performance.now() - began) / 1_000)} s`)
  if (!options.smoke) {
    mkdirSync(dirname(reportFile), { recursive: true })
    Report.write(reportFile, report)
    console.log(`wrote ${relative(root, reportFile)}`)
  }
  if (options.write || (!options.smoke && options.only === undefined)) await write(report)
  const failed = failures(report)
  if (failed.length > 0) console.error(["", "failed:", ...failed].join("\n"))
  // (clients of a master that has died can keep a process alive)
  process.exit(failed.length > 0 ? 1 : 0)
}

/** Others may fail, and are reported; this library must not, and the checks must find something. */
function failures(report: Report.Report): ReadonlyArray<string> {
  const isOwn = ({ contender }: { readonly contender: string }) =>
    /^(raw|echo|queue|semaphore by hand|effect-redis-lock)/.test(contender)
  // That the hand-written loop lets somebody starve is a finding, and no failure of the benchmark.
  const isExpected = ({ contender, violations }: Measure.Result) =>
    contender.startsWith("raw") && violations.stuck > 0
  const rows = report.rows.map((row) => ({
    ...row,
    results: row.results.filter((result) => isOwn(result) && !isExpected(result))
  }))
  const held = report.held?.results ?? []
  const all = report.rows.flatMap(({ results }) => results)
  return [
    ...rows.flatMap(complaintsOf),
    ...rows.flatMap(({ results, row }) =>
      results
        .filter((it) => !Report.isMeasured(it))
        .map((it) => `${row.id}: ${it.contender}: no cycles`)
    ),
    ...held.filter(isOwn).flatMap((each) => Report.heldComplaint(each) ?? []),
    ...all
      .filter(({ contender, violations }) => contender === "no lock" && violations.overlaps === 0)
      .map(() => "no lock: no overlap was seen, so the check does not work"),
    ...held
      .filter(({ contender, leases, lost }) => contender === "redlock" && lost < leases)
      .map(() => "redlock renews nothing, and no loss was seen, so the check does not work")
  ]
}
