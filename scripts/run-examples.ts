/**
 * Runs every file of examples/ as a user would, and expects it to end by itself with exit code 0. A
 * file with "runs until interrupted" in a comment gets a SIGINT, and must then end with exit code
 * 0.
 */
import { spawn } from "node:child_process"
import { once } from "node:events"
import { readdirSync, readFileSync } from "node:fs"
import { join } from "node:path"

const directory = join(import.meta.dirname, "../examples")
const failed: Array<string> = []

for (const name of readdirSync(directory).filter((it) => it.endsWith(".ts"))) {
  const path = join(directory, name)
  console.log(`\n── examples/${name}`)
  const child = spawn(process.execPath, ["--import", "tsx", path], {
    stdio: ["ignore", "inherit", "inherit"]
  })
  const interrupt = readFileSync(path, "utf8").includes("runs until interrupted")
    ? setTimeout(() => child.kill("SIGINT"), 5_000)
    : undefined
  const kill = setTimeout(() => child.kill("SIGKILL"), 60_000)
  const [code, signal] = await once(child, "exit")
  clearTimeout(interrupt)
  clearTimeout(kill)
  if (code !== 0) failed.push(`examples/${name}: ${signal ?? `exit code ${code}`}`)
}

console.log(failed.length === 0 ? "\nevery example ended well" : `\n${failed.join("\n")}`)
process.exitCode = failed.length === 0 ? 0 : 1
