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

export function ensureRedisServer(): string {
  const server = serverBinary()
  if (runs(server)) return server
  if (!process.env.REDIS_SERVER && process.getuid?.() === 0 && runs("apt-get")) {
    console.log(`No ${server} found: installing it with apt-get`)
    withoutStartingServices(() => {
      apt("update", "-qq")
      apt("install", "-qq", "-y", "--no-install-recommends", "redis-server", "redis-tools")
    })
    if (runs(server)) return server
  }
  throw new Error(`${server} cannot be run: ${howTo}`)
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

export default async function setup(): Promise<void> {
  try {
    await announceRedisServer()
  } catch (error) {
    console.error(error instanceof Error ? error.message : error)
    process.exit(1)
  }
}

function runs(command: string): boolean {
  return spawnSync(command, ["--version"], { stdio: "ignore" }).status === 0
}

function apt(...args: ReadonlyArray<string>): void {
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
