/**
 * Many command lines want one key, each in a process of its own:
 *
 *   npm run cli:crowd -- [how many, 200]
 *
 * They stand in one queue. The order in which they got their places, as the server has it, must be the
 * order in which their commands ran; none may be missing, and no two may have run at the same time. They
 * are started by few at a time: what is tested is the queue, and not how a machine starts 200 processes.
 */
import * as Effect from "effect/Effect"
import assert from "node:assert/strict"
import { readFileSync } from "node:fs"
import { join } from "node:path"
import * as Cli from "../test/support/Cli.js"
import * as RedisServer from "../test/support/RedisServer.js"

const atATime = 6

/** Runs them, and answers how long the queue was at its longest. */
export const crowd = (count: number) =>
  Effect.scoped(
    Effect.gen(function* () {
      const server = yield* RedisServer.make()
      const { url } = server
      const file = join(server.dir, "ran")
      // the first one holds it until all others stand in the queue
      const first = yield* Cli.start(["run", "k", "--", "sh", "-c", "echo in; read x"], { url })
      yield* first.prints("in\n")

      const places = server.command("ZRANGE", "{k}:lock-queue", 0, -1) as Effect.Effect<
        Array<string>
      >
      const script = `echo "begin $0 $LOCK_FENCING_TOKEN" >>${file}; echo "end $0" >>${file}`
      const started: Array<Cli.Process> = []
      for (let begin = 0; begin < count; begin += atATime) {
        const end = Math.min(count, begin + atATime)
        for (let number = begin; number < end; number++) {
          const args = [
            "run",
            "k",
            "--owner",
            `cli-${number}`,
            "--",
            "sh",
            "-c",
            script,
            `${number}`
          ]
          started.push(yield* Cli.start(args, { url }))
        }
        const allStand = Effect.map(places, ({ length }) => length === end)
        const oneHasEnded = Effect.raceAll(
          started.map((cli) =>
            Effect.flatMap(cli.ended, (end) => Effect.dieMessage(`${end}: ${cli.stderr}`))
          )
        )
        yield* Effect.raceFirst(RedisServer.eventually(allStand), oneHasEnded)
      }
      const inQueue = yield* places
      const claims = (yield* server.command("HGETALL", "{k}:lock-waiters")) as Array<string>
      const ownerOf = (token: string): string => {
        const about = claims[claims.indexOf(token) + 1]
        return /cli-(\d+)/.exec(about ?? "")?.[1] ?? `unknown: ${about}`
      }
      const order = inQueue.map(ownerOf)

      yield* first.endOfInput
      const ends = yield* Effect.forEach(started, ({ ended }) => ended, {
        concurrency: "unbounded"
      })
      assert.deepEqual(
        ends.filter((end) => end !== 0),
        []
      )
      const lines = readFileSync(file, "utf8").trim().split("\n")
      assert.deepEqual(
        lines.map((line) =>
          line.replace(/ \d+$/, (token) => (line.startsWith("begin") ? "" : token))
        ),
        order.flatMap((number) => [`begin ${number}`, `end ${number}`])
      )
      const tokens = lines.flatMap((line) => /^begin \d+ (\d+)$/.exec(line)?.[1] ?? []).map(Number)
      assert.deepEqual(
        tokens,
        [...new Set(tokens)].sort((a, b) => a - b)
      )
      return order.length
    })
  )

if (process.argv[1] === import.meta.filename) {
  const count = Number(process.argv[2] ?? 200)
  const began = performance.now()
  const longest = await Effect.runPromise(crowd(count))
  const seconds = ((performance.now() - began) / 1_000).toFixed(0)
  console.log(
    `${count} command lines on one key, ${longest} of them in the queue: all ran, in order, in ${seconds} s`
  )
}
