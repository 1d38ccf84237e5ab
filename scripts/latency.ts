/**
 * Measures which latency, which silence, and which dead connections leases and waiters survive, for
 * several ttls: with a store's own connection, and on a client that the user passes in. Prints the
 * table of docs/guarantees.md.
 *
 *   npm run latency                                  takes about four minutes
 *   npm run latency -- --smoke                       takes seconds
 *   npm run latency -- --ttl 1,5 --commandTimeout 2000 --verbose
 *
 * All measurements run at the same time. Exit code 1 if the store's own connection survives less
 * than the client.
 */
import * as Effect from "effect/Effect"
import { monitorEventLoopDelay } from "node:perf_hooks"
import { parseArgs } from "node:util"
import * as Latency from "../test/support/Latency.js"
import * as RedisServer from "../test/support/RedisServer.js"
import { announceRedisServer } from "../test/setup.js"

const { values } = parseArgs({
  options: {
    smoke: { type: "boolean", default: false },
    ttl: { type: "string" },
    commandTimeout: { type: "string", default: "2000" },
    verbose: { type: "boolean", default: false }
  }
})
const { smoke, verbose } = values
const seconds = values.ttl ?? (smoke ? "2" : "1,2,5,15,60")
const ttls = seconds.split(",").map((ttl) => Number(ttl) * 1_000)
const commandTimeoutMillis = Number(values.commandTimeout)

// -----------------------------------------------------------------------------
// the questions
// -----------------------------------------------------------------------------

/** In ascending order, none within a tenth of the one before. */
const ladder = (steps: ReadonlyArray<number>): ReadonlyArray<number> =>
  [...steps]
    .sort((a, b) => a - b)
    .reduce<ReadonlyArray<number>>((kept, step) => {
      const last = kept.at(-1)
      return last === undefined || step > last * 1.1 ? [...kept, Math.round(step)] : kept
    }, [])

/** A lease that is renewed after half of its ttl cannot be kept over much more than a third. */
const ways = (ttl: number): ReadonlyArray<number> =>
  smoke
    ? [0.1 * ttl, 0.3 * ttl]
    : ladder([
        ...[0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 1 / 3, 0.45].map((share) => share * ttl),
        ...[250, 600, 900, 1_300, 1_600, 1_900, 2_500, 4_000].filter((way) => way < 0.3 * ttl)
      ])

const silences = (ttl: number): ReadonlyArray<number> =>
  smoke ? [0.2 * ttl] : ladder([0.1, 0.2, 0.3, 0.35, 0.45, 0.6].map((share) => share * ttl))

const longSilences = (ttl: number): ReadonlyArray<number> =>
  smoke ? [0.5 * ttl] : ladder([0.3 * ttl, 0.6 * ttl, ttl, 1.5 * ttl, 1_000, 1_800, 3_000, 5_000])

interface Column {
  readonly title: string
  readonly subject: Latency.Subject
  readonly troubles: (ttl: number) => ReadonlyArray<Latency.Trouble>
}

const each =
  (_tag: "Slow" | "Jump" | "Silence", steps: (ttl: number) => ReadonlyArray<number>) =>
  (ttl: number): ReadonlyArray<Latency.Trouble> =>
    steps(ttl).map((millis) => ({ _tag, millis }))

const dead = (): ReadonlyArray<Latency.Trouble> => [{ _tag: "Dead" }]

const columns: ReadonlyArray<Column> = [
  { title: "round trip: lease", subject: "lease", troubles: each("Slow", ways) },
  { title: "waiter", subject: "waiter", troubles: each("Slow", ways) },
  { title: "after a jump: lease", subject: "lease", troubles: each("Jump", ways) },
  { title: "waiter", subject: "waiter", troubles: each("Jump", ways) },
  { title: "silence: lease", subject: "lease", troubles: each("Silence", silences) },
  { title: "waiter", subject: "waiter", troubles: each("Silence", longSilences) },
  { title: "dead connection: lease", subject: "lease", troubles: dead },
  { title: "waiter", subject: "waiter", troubles: dead },
  { title: "the next acquire", subject: "acquire", troubles: dead }
]

const connections: ReadonlyArray<Latency.Connection> = ["own", "client"]

interface Asked {
  readonly column: Column
  readonly question: Latency.Question
  readonly answer: Latency.Answer
}

// -----------------------------------------------------------------------------
// the answers
// -----------------------------------------------------------------------------

const shown = (millis: number): string =>
  millis < 1_000 ? `${millis} ms` : `${Number((millis / 1_000).toFixed(2))} s`

/** The longest that was got through, with everything that is shorter; and if that was all of it. */
const most = (asked: ReadonlyArray<Asked>): { readonly millis: number; readonly all: boolean } => {
  let millis = 0
  for (const { answer, question } of asked) {
    if (!answer.ok) return { millis, all: false }
    millis = "millis" in question.trouble ? question.trouble.millis : Number.POSITIVE_INFINITY
  }
  return { millis, all: true }
}

const cell = (asked: ReadonlyArray<Asked>): string => {
  const { answer, question } = asked[0]!
  if (!("millis" in question.trouble)) {
    return answer.ok ? (answer.millis > 0 ? `after ${shown(answer.millis)}` : "yes") : "no"
  }
  const { all, millis } = most(asked)
  if (millis === 0) return `below ${shown(question.trouble.millis)}`
  return `${all ? "≥ " : ""}${shown(millis)}`
}

await announceRedisServer()
const stalls = monitorEventLoopDelay({ resolution: 5 })
const asked = await Effect.runPromise(
  Effect.scoped(
    Effect.gen(function* () {
      const server = yield* RedisServer.make()
      const place = yield* Latency.makePlace(server.port)
      const questions = ttls.flatMap((ttlMillis) =>
        columns.flatMap((column) =>
          column.troubles(ttlMillis).flatMap((trouble) =>
            connections.map((connection) => {
              const { subject } = column
              return {
                column,
                question: { connection, ttlMillis, commandTimeoutMillis, trouble, subject }
              }
            })
          )
        )
      )
      console.error(`${questions.length} questions, ttl ${seconds} s`)
      stalls.enable()
      return yield* Effect.forEach(
        // the longest first, and not all connections in the same moment
        questions
          .slice()
          .reverse()
          .map((one, index) => ({ ...one, index })),
        ({ column, index, question }) =>
          Effect.sleep(index * 12).pipe(
            Effect.zipRight(Latency.ask(place, question)),
            Effect.map((answer): Asked => {
              if (verbose) console.error(JSON.stringify({ ...question, ...answer }))
              return { column, question, answer }
            })
          ),
        { concurrency: "unbounded" }
      )
    })
  )
)
asked.reverse()

const of = (ttl: number, column: Column, connection: Latency.Connection) =>
  asked.filter(
    (one) =>
      one.column === column &&
      one.question.ttlMillis === ttl &&
      one.question.connection === connection
  )

console.log(`| ttl | connection | ${columns.map(({ title }) => title).join(" | ")} |`)
console.log(`| ---: | --- |${" ---: |".repeat(columns.length)}`)
for (const ttl of ttls) {
  for (const connection of connections) {
    const cells = columns.map((column) => cell(of(ttl, column, connection)))
    console.log(`| ${shown(ttl)} | ${connection} | ${cells.join(" | ")} |`)
  }
}
console.log(
  `\ncommandTimeout ${shown(commandTimeoutMillis)}; the event loop stood still for at most ${Math.round(stalls.max / 1e6)} ms`
)

const worse = ttls.flatMap((ttl) =>
  columns
    .filter(
      (column) => most(of(ttl, column, "own")).millis < most(of(ttl, column, "client")).millis
    )
    .map(({ subject, troubles }) => `ttl ${shown(ttl)}, ${troubles(ttl)[0]!._tag}, ${subject}`)
)
for (const one of worse)
  console.log(`the store's own connection survives less than the client: ${one}`)
process.exit(worse.length === 0 ? 0 : 1)
