/**
 * Runs the commands of docs/cli.md against a server of its own, and puts what they print into that page:
 *
 *   npm run cli:transcript
 *
 * test/cli/transcript.test.ts compares: what the page shows is what is printed today.
 */
import * as Effect from "effect/Effect"
import { readFileSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import * as Cli from "../test/support/Cli.js"
import * as RedisServer from "../test/support/RedisServer.js"

const file = join(import.meta.dirname, "../docs/cli.md")

const place = /(<!-- transcript -->\n+```text\n)([^]*?)(```\n)/

export const transcript = Effect.scoped(
  Effect.gen(function* () {
    const { command, url } = yield* RedisServer.make()
    const lines: Array<string> = []
    const show = (args: ReadonlyArray<string>, output: string, code: number | string) => {
      const typed = args.map((arg) => (/^[\w=/:.-]+$/.test(arg) ? arg : `'${arg}'`)).join(" ")
      lines.push(`$ effect-redis-lock ${typed}`, ...output.trimEnd().split("\n"))
      if (code !== 0) lines.push(`(exit code ${code})`)
      lines.push("")
    }
    const run = (...args: ReadonlyArray<string>) =>
      Effect.map(Cli.run(args, { url }), ({ code, stderr, stdout }) => {
        show(args, stdout + stderr, code)
        return stdout
      })
    const args = ["run", "deploy", "--owner", "ci-7", "--ttl", "3s", "--"]
    const script = "echo deploying with $LOCK_FENCING_TOKEN; read line"
    const first = yield* Cli.start([...args, "sh", "-c", script], { url })
    yield* first.prints("\n")
    yield* run("run", "deploy", "--no-wait", "--", "./deploy.sh")
    const next = yield* Cli.start(["run", "deploy", "--owner", "ci-8", "--", "true"], { url })
    const queue = command("ZCARD", "{deploy}:lock-queue")
    yield* RedisServer.eventually(Effect.map(queue, (count) => count === 1))
    yield* run("ls")
    const page = yield* run("show", "deploy")
    const token = /\d{16}/.exec(page)![0]
    yield* run("release", "deploy", "--fencing-token", token, "--yes")
    yield* next.ended
    const code = yield* first.ended
    show([...args, "sh", "-c", script], first.stdout + first.stderr, code)
    yield* run("doctor")
    return `${lines.join("\n").trimEnd()}\n`
  })
)

/** What is the same each time. */
export const normalized = (text: string): string =>
  text
    .split("\n")
    .filter((line) => !/^\S+ +latency/.test(line))
    .map((line) =>
      line
        .replace(/\d{16}/g, "<token>")
        .replace(/(\d+(\.\d+)?(ms| ms| s|s) ?)+/g, "<time> ")
        .replace(/(Redis|Valkey) [\d.]+/g, "<server>")
        .replace(/ {2,}/g, "  ")
        .trimEnd()
    )
    .join("\n")

export const inPage = (): string => place.exec(readFileSync(file, "utf8"))![2]!

if (process.argv[1] === import.meta.filename) {
  const text = await Effect.runPromise(transcript)
  writeFileSync(
    file,
    readFileSync(file, "utf8").replace(place, (_, before, __, after) => before + text + after)
  )
}
