/**
 * Is this tree slower than another one? Both are measured in turn, in processes of their own, on the
 * same redis-server. The two measurements of one round are compared with each other.
 *
 *   npm run bench:pairs -- DIRECTORY                 another checkout, built (npm run build)
 *   npm run bench:pairs -- DIRECTORY --pairs 20 --seconds 2 --only "free, one caller"
 *
 * Prints this tree's cycles per second, its processor time per cycle, and that of the server, as multiples
 * of the other's: geometric means, with their 95 % intervals (Student's t, of the logarithms).
 */
import * as Effect from "effect/Effect"
import { execFileSync } from "node:child_process"
import { existsSync } from "node:fs"
import { join, resolve } from "node:path"
import { parseArgs } from "node:util"
import * as RedisServer from "../test/support/RedisServer.js"

const { positionals, values } = parseArgs({
  allowPositionals: true,
  options: {
    pairs: { type: "string", default: "20" },
    seconds: { type: "string", default: "2" },
    only: { type: "string" }
  }
})
const [other] = positionals
if (other === undefined || !existsSync(join(other, "dist/index.js"))) {
  console.error(`No built tree there: ${other}. npm run bench:pairs -- DIRECTORY`)
  process.exit(1)
}
const pairs = Number(values.pairs)
const trees = { other: resolve(other), own: join(import.meta.dirname, "..") }

const worker = (...args: ReadonlyArray<string>): unknown =>
  JSON.parse(
    execFileSync(process.execPath, [join(import.meta.dirname, "pairs-worker.mjs"), ...args], {
      encoding: "utf8"
    })
  )

interface Sample {
  readonly perSecond: number
  readonly micros: number
  readonly cycles: number
}

/** The 97.5th percentile of Student's t, by degrees of freedom; beyond them it is hardly less. */
const student = [12.71, 4.3, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26, 2.23, 2.2, 2.18, 2.16, 2.14]
const quantile = (freedom: number): number => student[freedom - 1] ?? (freedom < 20 ? 2.1 : 2.09)

const interval = (ratios: ReadonlyArray<number>): string => {
  const logs = ratios.map(Math.log)
  const mean = logs.reduce((sum, log) => sum + log, 0) / logs.length
  const variance = logs.reduce((sum, log) => sum + (log - mean) ** 2, 0) / (logs.length - 1)
  const width = quantile(logs.length - 1) * Math.sqrt(variance / logs.length)
  const show = (log: number) => Math.exp(log).toFixed(2)
  return `${show(mean)} (${show(mean - width)} to ${show(mean + width)})`
}

const measure = (server: RedisServer.RedisProcess, load: string) =>
  Effect.gen(function* () {
    /** The processor time that the server has used, in µs. */
    const used = Effect.map(server.command("INFO", "cpu"), (info) => {
      const seconds = /used_cpu_sys:([\d.]+)\s+used_cpu_user:([\d.]+)/.exec(String(info))!
      return (Number(seconds[1]) + Number(seconds[2])) * 1e6
    })
    const sample = (tree: keyof typeof trees) =>
      Effect.gen(function* () {
        const before = yield* used
        const told = worker(trees[tree], server.url, load, values.seconds) as Sample
        return { ...told, server: ((yield* used) - before) / told.cycles }
      })
    const rounds: Array<Record<"speed" | "cost" | "server", number>> = []
    for (let round = 0; round < pairs; round++) {
      // each is first in half of the rounds
      const first = round % 2 === 0 ? yield* sample("own") : undefined
      const base = yield* sample("other")
      const own = first ?? (yield* sample("own"))
      rounds.push({
        speed: own.perSecond / base.perSecond,
        cost: own.micros / base.micros,
        server: own.server / base.server
      })
    }
    const column = (pick: "speed" | "cost" | "server") =>
      interval(rounds.map((round) => round[pick]))
    console.log(`| ${load} | ${column("speed")} | ${column("cost")} | ${column("server")} |`)
  })

await Effect.gen(function* () {
  const server = yield* RedisServer.make()
  const loads = worker(trees.own, "") as ReadonlyArray<string>
  console.log(`| load | cycles per second | processor time per cycle | of the server |
| --- | --- | --- | --- |`)
  for (const load of loads) {
    if (values.only === undefined || values.only === load) yield* measure(server, load)
  }
}).pipe(Effect.scoped, Effect.runPromise)
