/**
 * Makes sure that a Redis server's binary is there: the one that REDIS_SERVER names, or the first
 * one on the PATH. Where there is none, a root user of a Debian (a container, CI) gets the
 * distribution's, and everyone else is told what to do. Says once which server it is.
 */
import { spawnSync } from "node:child_process"
import { existsSync, rmSync, writeFileSync } from "node:fs"
import { askVersion, serverBinary } from "./support/serverBinary.js"

const howTo =
  "install Redis 6.2 or later (Debian: apt-get install redis-server; macOS: brew install redis), " +
  "or set REDIS_SERVER to the path of its server"

const howToBrowse =
  "install Chromium (Debian: apt-get install chromium), or set CHROMIUM to the path of one"

export function ensureRedisServer(): string {
  const server = serverBinary()
  if (runs(server)) return server
  if (!process.env.REDIS_SERVER && process.getuid?.() === 0 && runs("apt-get")) {
    console.log(`No ${server} found: installing it with apt-get`)
    withoutStartingServices(() => {
      apt(howTo, "update", "-qq")
      apt(howTo, "install", "-qq", "-y", "--no-install-recommends", "redis-server", "redis-tools")
    })
    if (runs(server)) return server
  }
  throw new Error(`${server} cannot be run: ${howTo}`)
}

/**
 * Chromium, for the tests of the page: the one that CHROMIUM names, or the first one on the PATH; installed in
 * the same way.
 */
export function ensureChromium(): string {
  const named = process.env.CHROMIUM
  const names = named ? [named] : ["chromium", "chromium-browser", "google-chrome"]
  const found = () => names.find(runs)
  let browser = found()
  if (browser === undefined && !named && process.getuid?.() === 0 && runs("apt-get")) {
    console.log("No chromium found: installing it with apt-get")
    apt(howToBrowse, "update", "-qq")
    apt(howToBrowse, "install", "-qq", "-y", "--no-install-recommends", "chromium")
    browser = found()
  }
  if (browser === undefined) throw new Error(`${names[0]} cannot be run: ${howToBrowse}`)
  return whereIs(browser)
}

/** The same, and prints which server the run is with; once, however many projects are run. */
export async function announceRedisServer(): Promise<void> {
  const server = ensureRedisServer()
  const announced = Symbol.for("effect-redis-lock/test/announced")
  const shared = globalThis as { [announced]?: boolean }
  if (shared[announced] === true) return
  shared[announced] = true
  console.log(`server: ${await askVersion()} (${server})`)
}

/** Whether that run has tests of the page. (Installed here, and not in one of them: it takes a minute.) */
function hasPages(): boolean {
  const files = process.argv.filter((argument) => argument.startsWith("test/"))
  return files.length === 0 || files.some((file) => file.startsWith("test/ui"))
}

export default async function setup(): Promise<void> {
  try {
    await announceRedisServer()
    if (hasPages()) ensureChromium()
  } catch (error) {
    console.error(error instanceof Error ? error.message : error)
    process.exit(1)
  }
}

function runs(command: string): boolean {
  return spawnSync(command, ["--version"], { stdio: "ignore" }).status === 0
}

function whereIs(command: string): string {
  if (command.includes("/")) return command
  return spawnSync("which", [command], { encoding: "utf8" }).stdout.trim()
}

function apt(howTo: string, ...args: ReadonlyArray<string>): void {
  const { status } = spawnSync("apt-get", args, {
    stdio: ["ignore", "ignore", "inherit"],
    env: { ...process.env, DEBIAN_FRONTEND: "noninteractive" }
  })
  if (status !== 0) throw new Error(`apt-get ${args.join(" ")} failed: ${howTo}`)
}

// Debian's packages start their daemon on installation, unless this file forbids it.
function withoutStartingServices(install: () => void): void {
  const policy = "/usr/sbin/policy-rc.d"
  if (existsSync(policy)) return install()
  writeFileSync(policy, "#!/bin/sh\nexit 101\n", { mode: 0o755 })
  try {
    install()
  } finally {
    rmSync(policy)
  }
}
