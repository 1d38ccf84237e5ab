/**
 * Checks the model of the protocol, docs/protocol.pml, in all its schedules, and then plants mistakes
 * into it, to see that they are found. Exit code 1 if a property does not hold, if a search was cut
 * short, or if a mistake got away.
 *
 *   npm run model
 *   npm run model -- --only "3 clients"
 */
import { spawnSync } from "node:child_process"
import { mkdtempSync, readFileSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { parseArgs } from "node:util"

interface Check {
  readonly name: string
  /** What Spin's preprocessor is told: the size of the world, and the mistake. */
  readonly define: Readonly<Record<string, string | number>>
}

interface Result {
  readonly errors: number
  readonly states: number
  readonly seconds: number
  /** Nothing was left out for want of memory or depth. */
  readonly isWhole: boolean
}

const { values } = parseArgs({ options: { only: { type: "string", default: "" } } })
const model = join(import.meta.dirname, "../docs/protocol.pml")

const checks: ReadonlyArray<Check> = [
  {
    name: "2 clients; commands that come late, or twice; deaths",
    define: { N: 2 }
  },
  {
    name: "2 clients, whose callers have two ttls",
    define: { N: 2, SHORT: 2, LATE: 0 }
  }
]

const two = { N: 2 }
const twoTtls = { N: 2, SHORT: 2 }

const mistakes: ReadonlyArray<Check> = [
  { name: "validity is counted from the answer", define: { ...two, BUG: "validFromAnswer" } },
  { name: "a grant is counted from its message", define: { ...two, BUG: "validFromMessage" } },
  {
    name: "… or from a heartbeat that is not answered yet",
    define: { ...two, BUG: "proofFromUnanswered" }
  },
  {
    name: "the message of an old grant is believed",
    define: { ...two, BUG: "oldMessageBelieved" }
  },
  { name: "a release does not check the token", define: { ...two, BUG: "releaseUnchecked" } },
  { name: "a renewal does not check the token", define: { ...two, BUG: "renewUnchecked" } },
  { name: "a late command shortens the ttl", define: { ...twoTtls, BUG: "lateShortens" } },
  { name: "a late pass hands the lock over", define: { ...two, BUG: "latePassServes" } }
]

const run = (cwd: string, command: string, args: ReadonlyArray<string>): string => {
  const { error, status, stderr, stdout } = spawnSync(command, args, {
    cwd,
    encoding: "utf8",
    maxBuffer: 1 << 28
  })
  if (error !== undefined || status !== 0) {
    throw new Error(
      `${command} ${args.join(" ")} failed: ${error?.message ?? ""}${stderr}${stdout.slice(-2_000)}`
    )
  }
  return stdout
}

const isThere = (command: string): boolean =>
  spawnSync(command, ["--version"], { stdio: "ignore" }).error === undefined

/** Spin, and the C compiler that it needs: a root user of a Debian gets them. */
const ensureTools = (): void => {
  const missing = ["spin", "cc"].filter((command) => !isThere(command))
  if (missing.length === 0) return
  if (process.getuid?.() === 0 && isThere("apt-get")) {
    console.log(`No ${missing.join(", no ")} found: installing with apt-get`)
    run("/", "apt-get", ["update", "-qq"])
    run("/", "apt-get", [
      "install",
      "-qq",
      "-y",
      "--no-install-recommends",
      "spin",
      "gcc",
      "libc6-dev"
    ])
    return
  }
  console.error(
    `${missing.join(" and ")} not found: install Spin and a C compiler (Debian: apt-get install spin gcc)`
  )
  process.exit(1)
}

const search = ({ define }: Check): Result => {
  const dir = mkdtempSync(join(tmpdir(), "lock-model-"))
  try {
    const world = Object.entries(define).map(([name, value]) => `-D${name}=${value}`)
    run(dir, "spin", ["-a", ...world, model])
    // without partial order reduction: every step here touches the server, or a clock
    run(dir, "cc", ["-w", "-O2", "-DSAFETY", "-DNOREDUCE", "-DMEMLIM=6000", "-o", "pan", "pan.c"])
    const output = run(dir, "./pan", ["-m4000000", "-w24"])
    const number = (pattern: RegExp) => Number(pattern.exec(output)?.[1] ?? Number.NaN)
    return {
      errors: number(/errors: (\d+)/),
      states: number(/([\d.e+]+) states, stored/),
      seconds: number(/elapsed time ([\d.e+-]+) seconds/),
      isWhole: !/max search depth too small|Search not completed|out of memory/.test(output)
    }
  } finally {
    rmSync(dir, { recursive: true, force: true })
  }
}

const row = (cells: ReadonlyArray<string>): void => console.log(`| ${cells.join(" | ")} |`)

const report = (
  title: string,
  list: ReadonlyArray<Check>,
  verdict: (result: Result) => readonly [boolean, string]
): boolean => {
  row([title, "states", "seconds", ""])
  row(["---", "---:", "---:", "---"])
  const verdicts = list.map((check) => {
    const result = search(check)
    const [isGood, words] = verdict(result)
    row([check.name, result.states.toLocaleString("en"), result.seconds.toFixed(1), words])
    return isGood
  })
  console.log()
  return verdicts.every((isGood) => isGood)
}

ensureTools()
console.log(`${readFileSync(model, "utf8").split("\n").length} lines of model\n`)
const chosen = (list: ReadonlyArray<Check>) => list.filter(({ name }) => name.includes(values.only))

const hold = report("one holder at a time", chosen(checks), ({ errors, isWhole }) =>
  errors > 0
    ? [false, "two holders"]
    : isWhole
      ? [true, "holds in every schedule"]
      : [false, "not searched to the end"]
)
const found = report("planted", chosen(mistakes), ({ errors }) =>
  errors > 0 ? [true, "found"] : [false, "NOT found"]
)
process.exit(hold && found ? 0 : 1)
