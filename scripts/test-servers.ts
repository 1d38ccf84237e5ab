/**
 * Runs the tests of the store in Redis on further servers: Redis, Valkey and Redict of several of Debian's
 * suites (downloaded into `node_modules/.cache`, see `debianServers.ts`), and those that are named. Sentinels
 * and Clusters are made of the same server.
 *
 *   npm run test:servers                                          an hour or more
 *   npm run test:servers -- --list                                which there are, and their versions
 *   npm run test:servers -- --only valkey                         those with "valkey" in their names
 *   npm run test:servers -- --files test/redis/acl.test.ts        these tests (repeated: several)
 *   npm run test:servers -- --server ./keydb-server               this one as well (repeated: several)
 *   npm run test:servers -- --only none --server ./keydb-server   this one alone
 *
 * Says of each server which version it is, and prints a table at the end. A server that cannot be had is in
 * the table with the reason. Exit code 1 if a test failed, if a server that was named cannot be run, or if
 * nothing was run at all.
 */
import { spawnSync } from "node:child_process"
import { mkdtempSync, readFileSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { basename, join, relative } from "node:path"
import { parseArgs } from "node:util"
import { askVersion } from "../test/support/serverBinary.js"
import { debianServers, fetchServer } from "./debianServers.js"

const { values } = parseArgs({
  options: {
    only: { type: "string", multiple: true },
    server: { type: "string", multiple: true, default: [] },
    files: { type: "string", multiple: true },
    project: { type: "string", default: "ioredis-6" },
    list: { type: "boolean", default: false }
  }
})

const home = join(import.meta.dirname, "..")
const cache = join(home, "node_modules/.cache/effect-redis-lock/servers")

/** All that asks a server for something, but for what the two stores have in common in each kind. */
const files = values.files ?? [
  "test/LockStore.test.ts",
  "test/ioredis.test.ts",
  "test/redis/",
  "test/faults/faults.test.ts"
]

interface Row {
  readonly name: string
  /** Which it is, or why it is not there. */
  readonly version: string
  readonly passed: number
  readonly failed: ReadonlyArray<string>
  readonly isThere: boolean
}

interface Candidate {
  readonly name: string
  readonly command: () => string
  readonly isNamed: boolean
}

const candidates: ReadonlyArray<Candidate> = [
  ...debianServers
    .filter(({ name }) => values.only?.some((part) => name.includes(part)) ?? true)
    .map((server) => ({
      name: server.name,
      command: () => fetchServer(server, cache),
      isNamed: false
    })),
  ...values.server.map((path) => ({ name: path, command: () => path, isNamed: true }))
]

/** What vitest's reporter writes, as far as it is read here. */
interface Report {
  readonly success: boolean
  readonly numPassedTests: number
  readonly testResults: ReadonlyArray<{
    readonly name: string
    readonly status: string
    readonly message: string
    readonly assertionResults: ReadonlyArray<{ readonly status: string; readonly fullName: string }>
  }>
}

const runTests = (command: string): Pick<Row, "passed" | "failed"> => {
  const directory = mkdtempSync(join(tmpdir(), "redis-lock-servers-"))
  const file = join(directory, "report.json")
  try {
    const reporters = ["--reporter=default", "--reporter=json", `--outputFile.json=${file}`]
    const { status } = spawnSync(
      process.execPath,
      [
        join(home, "node_modules/vitest/vitest.mjs"),
        "run",
        "--project",
        values.project,
        ...reporters,
        ...files
      ],
      { cwd: home, stdio: "inherit", env: { ...process.env, REDIS_SERVER: command } }
    )
    const report = JSON.parse(readFileSync(file, "utf8")) as Report
    const failed = report.testResults.flatMap(({ assertionResults, message, name, status }) => {
      const tests = assertionResults.filter((test) => test.status === "failed")
      const names = tests.map(({ fullName }) => `${relative(home, name)}: ${fullName}`)
      // (a hook, or the file itself)
      return names.length === 0 && status === "failed"
        ? [`${relative(home, name)}: ${message}`]
        : names
    })
    if (failed.length === 0 && (status !== 0 || !report.success)) failed.push("the run as a whole")
    return { passed: report.numPassedTests, failed }
  } catch (error) {
    return { passed: 0, failed: [`the run as a whole: ${String(error)}`] }
  } finally {
    rmSync(directory, { recursive: true, force: true })
  }
}

const rowOf = async ({ command, name }: Candidate): Promise<Row> => {
  try {
    console.log(`\n${name}: looking for it`)
    const path = command()
    const version = await askVersion(path)
    console.log(`${name}: ${version} (${path})`)
    const results = values.list ? { passed: 0, failed: [] } : runTests(path)
    return { name: basename(name), version, ...results, isThere: true }
  } catch (error) {
    const version = `cannot be had: ${error instanceof Error ? error.message : String(error)}`
    console.log(`${name}: ${version}`)
    return { name: basename(name), version, passed: 0, failed: [], isThere: false }
  }
}

const rows: Array<Row> = []
for (const candidate of candidates) rows.push(await rowOf(candidate))

console.log(`\n| server | version | passed | failed |\n| --- | --- | ---: | ---: |`)
for (const { failed, isThere, name, passed, version } of rows) {
  const counts = isThere && !values.list ? `${passed} | ${failed.length}` : "- | -"
  console.log(`| ${name} | ${version} | ${counts} |`)
}
for (const { failed, name } of rows) for (const test of failed) console.log(`${name}: ${test}`)

const total = (count: (row: Row) => number) => rows.reduce((sum, row) => sum + count(row), 0)
const failures = total(({ failed }) => failed.length)
if (!values.list) console.log(`${total(({ passed }) => passed)} passed, ${failures} failed`)

const missing = candidates.some(({ isNamed }, index) => isNamed && !rows[index]!.isThere)
if (failures > 0 || missing || !rows.some(({ isThere }) => isThere)) process.exitCode = 1
