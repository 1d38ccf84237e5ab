/**
 * Prepares and starts a benchmark; `npm run bench` and `npm run bench:smoke` come here.
 *
 * The other libraries live in bench/node_modules, never in the package's own. The library itself is
 * put there as a user would have it: the built files, without the repository around them, so that
 * everyone shares one Effect and one ioredis. A smoke run installs nothing: what it needs is found
 * in the repository's own node_modules.
 */
import { spawnSync } from "node:child_process"
import { cpSync, existsSync, mkdirSync, readFileSync, rmSync, symlinkSync } from "node:fs"
import { join } from "node:path"

const bench = import.meta.dirname
const root = join(bench, "..")
const args = process.argv.slice(2)

const run = (cwd: string, command: string, ...more: ReadonlyArray<string>): void => {
  const { error, status } = spawnSync(command, more, { cwd, stdio: "inherit" })
  if (status !== 0) {
    const why = error === undefined ? "" : `: ${error.message}`
    console.error(`\n${[command, ...more].join(" ")} failed${why}`)
    process.exit(status ?? 1)
  }
}

/** Whether npm has put there what the lock file says. */
const isInstalled = (): boolean => {
  const installed = join(bench, "node_modules/.package-lock.json")
  if (!existsSync(installed)) return false
  const versions = (path: string) => {
    const { packages } = JSON.parse(readFileSync(path, "utf8"))
    return new Map<string, { version: string; optional?: boolean }>(Object.entries(packages))
  }
  const present = versions(installed)
  return [...versions(join(bench, "package-lock.json"))].every(
    ([path, { optional, version }]) =>
      path === "" || optional === true || present.get(path)?.version === version
  )
}

if (!args.includes("--smoke") && !args.includes("--help") && !isInstalled()) {
  run(bench, "npm", "ci", "--no-audit", "--no-fund")
}

if (!existsSync(join(root, "dist/index.js"))) {
  console.error("dist/ is missing: npm run build")
  process.exit(1)
}
const library = join(bench, "node_modules/effect-redis-lock")
rmSync(library, { recursive: true, force: true })
mkdirSync(library, { recursive: true })
for (const name of ["package.json", "dist"]) {
  cpSync(join(root, name), join(library, name), { recursive: true })
}

// The face for Effect 4 has an `effect` of its own.
const onEffect4 = join(bench, "node_modules/effect-redis-lock-on-effect4")
rmSync(onEffect4, { recursive: true, force: true })
cpSync(library, onEffect4, { recursive: true })
mkdirSync(join(onEffect4, "node_modules"))
symlinkSync(join(root, "node_modules/effect4"), join(onEffect4, "node_modules/effect"))

rmSync(join(bench, "dist"), { recursive: true, force: true })
// Compiled, so that no loader stands between the code and its measurement; checked elsewhere.
const tsc = join(root, "node_modules/typescript/bin/tsc")
for (const project of ["tsconfig.json", "tsconfig.effect4.json"]) {
  run(bench, process.execPath, tsc, "-p", project, "--noEmit", "false", "--noCheck")
}
run(root, process.execPath, join(bench, "dist/bench/src/main.js"), ...args)
