/**
 * Tries the runtimes that the package says it works on. Gets each of them from npm into a cache folder
 * (.cache/runtimes), the newest of its line, and asks it for its version. Then runs
 *
 * - on each of them, a program that uses the package as it would be published, installed beside ioredis 6
 *   and beside ioredis 5: the contract of stores in memory and in Redis, a handoff between two processes,
 *   a connection that is dead, a network that goes silent, a clean exit (test/runtimes);
 * - on each line of Node, the tests, with ioredis 6.
 *
 *   npm run test:runtimes
 *   npm run test:runtimes -- --only node-24 --only bun
 *   npm run test:runtimes -- --only node --files test/redis/renewal --files test/lease
 *   npm run test:runtimes -- --no-tests                               the program alone
 *
 * A runtime that cannot be had is said, with the reason, and fails the run, as everything else does that
 * is not as it should be: exit code 1.
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as esbuild from "esbuild"
import { execFileSync, spawn, spawnSync } from "node:child_process"
import { once } from "node:events"
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { delimiter, dirname, join } from "node:path"
import { parseArgs } from "node:util"
import { checks, type Runtime } from "../test/runtimes/checks.js"
import { announceRedisServer } from "../test/setup.js"
import * as RedisServer from "../test/support/RedisServer.js"

const { values } = parseArgs({
  options: {
    only: { type: "string", multiple: true, default: [""] },
    files: { type: "string", multiple: true, default: [] },
    "no-tests": { type: "boolean", default: false }
  }
})

const root = join(import.meta.dirname, "..")
const cache = join(root, ".cache/runtimes")
const manifest = JSON.parse(readFileSync(join(root, "package.json"), "utf8"))
const versions: Record<string, string> = manifest.devDependencies

// -----------------------------------------------------------------------------
// where they come from
// -----------------------------------------------------------------------------

interface Source {
  readonly name: string
  /** What npm is asked for. */
  readonly wanted: string
  /** Where its binary can be in the folder's node_modules, below a scope for all that depends on the platform. */
  readonly binary: string
  /** Its arguments before the program. */
  readonly args: ReadonlyArray<string>
  readonly runsTests: boolean
}

const platform = process.platform === "win32" ? "win" : process.platform

/** npm's package `node` gets the platform's package in a script of its installation: so ask for that one. */
const node = (line: number): Source => ({
  name: `node-${line}`,
  wanted: `node-${platform}-${process.arch}@${line}`,
  binary: `node-${platform}-${process.arch}/bin/node`,
  args: [],
  runsTests: true
})

const sources: ReadonlyArray<Source> = [
  node(22),
  node(24),
  node(26),
  { name: "bun", wanted: "bun@1", binary: "@oven/*/bin/bun", args: ["run"], runsTests: false },
  {
    name: "deno",
    wanted: "deno@2",
    binary: "@deno/*/deno",
    // what docs/versions.md says that it needs
    args: ["run", "--no-prompt", "--allow-net", "--allow-env", "--allow-sys=hostname"],
    runsTests: false
  }
]

const npm = (cwd: string, ...args: ReadonlyArray<string>): void => {
  const options = ["--no-audit", "--no-fund", "--loglevel=error"]
  execFileSync("npm", ["install", ...options, ...args], {
    cwd,
    stdio: ["ignore", "ignore", "pipe"],
    encoding: "utf8",
    timeout: 600_000
  })
}

/** A folder of its own: npm changes nothing that stands above it. */
const folder = (name: string): string => {
  const path = join(cache, name)
  mkdirSync(path, { recursive: true })
  if (!existsSync(join(path, "package.json"))) {
    writeFileSync(
      join(path, "package.json"),
      JSON.stringify({ name, private: true, type: "module" })
    )
  }
  return path
}

const binariesIn = (modules: string, pattern: string): ReadonlyArray<string> => {
  const [scope, rest] = pattern.split("/*/")
  if (rest === undefined) return [join(modules, pattern)]
  const packages = existsSync(join(modules, scope!)) ? readdirSync(join(modules, scope!)) : []
  return packages.map((name) => join(modules, scope!, name, rest))
}

interface Installed extends Source {
  readonly file: string
  readonly version: string
}

/** Without the packages' own scripts: the binaries are in the packages. */
const install = (source: Source): Installed => {
  const path = folder(source.name)
  let trouble = ""
  try {
    npm(path, "--ignore-scripts", source.wanted)
  } catch (error) {
    // (one of an earlier run may be there)
    trouble = error instanceof Error ? error.message : String(error)
  }
  for (const file of binariesIn(join(path, "node_modules"), source.binary)) {
    const { status, stdout } = spawnSync(file, ["--version"], { encoding: "utf8" })
    const version = /\d+\.\d+\.\d+\S*/.exec(stdout ?? "")?.[0]
    if (status !== 0 || version === undefined) continue
    if (trouble !== "") console.error(`${source.name}: not brought up to date: ${trouble}`)
    return { ...source, file, version }
  }
  throw new Error(`npm install ${source.wanted} brought none that runs here. ${trouble}`)
}

// -----------------------------------------------------------------------------
// the package, as users have it
// -----------------------------------------------------------------------------

interface Project {
  readonly client: string
  /** The program that the runtimes run. */
  readonly guest: string
}

const clients = { "ioredis 6": versions["ioredis"]!, "ioredis 5": versions["ioredis5"]! }

const projects = (): ReadonlyArray<Project> => {
  const run = (...args: ReadonlyArray<string>) =>
    execFileSync("npm", args, { cwd: root, encoding: "utf8", stdio: ["ignore", "pipe", "inherit"] })
  run("run", "build")
  // (npm makes no folder for what it packs)
  mkdirSync(cache, { recursive: true })
  const [packed] = JSON.parse(
    run("pack", "--json", "--ignore-scripts", "--pack-destination", cache)
  ) as ReadonlyArray<{ readonly filename: string }>
  const typescript = readFileSync(join(root, "test/runtimes/guest.ts"), "utf8")
  const { code } = esbuild.transformSync(typescript, { loader: "ts", format: "esm" })
  return Object.entries(clients).map(([client, version]) => {
    const path = folder(client.replace(" ", "-"))
    // (npm takes a tarball of the same name and version for the same)
    rmSync(join(path, "node_modules"), { recursive: true, force: true })
    rmSync(join(path, "package-lock.json"), { force: true })
    const peers = ["effect", "@effect/platform"].map((name) => `${name}@${versions[name]}`)
    const ioredis = version.startsWith("npm:") ? version.slice(4) : `ioredis@${version}`
    npm(path, join(cache, packed!.filename), ...peers, ioredis)
    const guest = join(path, "guest.mjs")
    writeFileSync(guest, code)
    return { client, guest }
  })
}

// -----------------------------------------------------------------------------
// what is run
// -----------------------------------------------------------------------------

interface Row {
  readonly what: string
  readonly seen: string
  readonly failed: boolean
}

const row = (what: string, seen: string, failed: boolean): Row => {
  console.log(`  ${failed ? "FAILED " : "ok     "} ${what}: ${seen}`)
  return { what, seen, failed }
}

const check = async ({ args, file, name }: Installed): Promise<ReadonlyArray<Row>> => {
  const rows: Array<Row> = []
  for (const [index, { client, guest }] of guests.entries()) {
    const runtime: Runtime = { name, command: [file, ...args, guest], cwd: dirname(guest) }
    for (const { inRedis, name, run } of checks) {
      // what is in memory is the same beside every client
      if (!inRedis && index > 0) continue
      const exit = await Effect.runPromiseExit(
        Effect.scoped(run(runtime)).pipe(Effect.provide(RedisServer.layer()))
      )
      const failed = Exit.isFailure(exit)
      const what = inRedis ? `${name}, ${client}` : name
      rows.push(row(what, failed ? Cause.pretty(exit.cause) : exit.value, failed))
    }
  }
  return rows
}

/** With the line's own binary for the processes that tests start as well. */
const test = async ({ file, version }: Installed): Promise<Row> => {
  const vitest = join(root, "node_modules/vitest/vitest.mjs")
  const args = [vitest, "run", "--project", "ioredis-6", ...values.files]
  const child = spawn(file, args, {
    cwd: root,
    stdio: ["ignore", "pipe", "inherit"],
    env: { ...process.env, PATH: `${dirname(file)}${delimiter}${process.env["PATH"]}` }
  })
  let output = ""
  child.stdout.setEncoding("utf8").on("data", (chunk: string) => {
    output += chunk
    process.stdout.write(chunk)
  })
  const [code, signal] = await once(child, "close")
  const totals = /^\d+ passed, \d+ failed$/m.exec(output)?.[0] ?? "no totals"
  const which = values.files.length === 0 ? "" : ` of ${values.files.join(", ")}`
  return row(`tests${which}`, `${totals} (Node ${version})`, signal !== null || code !== 0)
}

const chosen = sources.filter(({ name }) => values.only.some((part) => name.includes(part)))
if (chosen.length === 0) {
  console.error(
    `--only ${values.only.join()} names none of ${sources.map(({ name }) => name).join(", ")}`
  )
  process.exit(1)
}

await announceRedisServer()
const guests = projects()
const results: Array<Row & { readonly runtime: string }> = []
for (const source of chosen) {
  const add = (runtime: string, rows: ReadonlyArray<Row>) =>
    results.push(...rows.map((row) => ({ ...row, runtime })))
  let installed: Installed
  try {
    installed = install(source)
  } catch (error) {
    console.log(`\n${source.name}`)
    const reason = error instanceof Error ? error.message : String(error)
    add(source.name, [row("cannot be had", reason, true)])
    continue
  }
  const title = `${installed.name} ${installed.version}`
  console.log(`\n${title}`)
  add(title, await check(installed))
  if (source.runsTests && !values["no-tests"]) add(title, [await test(installed)])
}

console.log("\n| runtime | what | seen |\n| --- | --- | --- |")
for (const { failed, runtime, seen, what } of results) {
  console.log(`| ${runtime} | ${what} | ${failed ? "FAILED" : seen} |`)
}
const failures = results.filter(({ failed }) => failed)
console.log(failures.length === 0 ? "\nall is well" : `\n${failures.length} failed`)
process.exitCode = failures.length === 0 ? 0 : 1
