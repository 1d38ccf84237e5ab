/**
 * Prepares and starts a benchmark; `npm run bench` and `npm run bench:smoke` come here.
 *
 * The other libraries live in bench/node_modules, never in the package's own. The library itself is
 * put there as a user would have it: the built files, without the repository around them, so that
 * everyone shares one Effect and one ioredis. A smoke run installs nothing: what it needs is found
 * in the repository's own node_modules.
 */
import { cpSync, existsSync, mkdirSync, rmSync, symlinkSync } from "node:fs"
import { join } from "node:path"
import { install, run } from "../scripts/installed.js"

const bench = import.meta.dirname
const root = join(bench, "..")
const args = process.argv.slice(2)

if (!args.includes("--smoke") && !args.includes("--help")) install(bench)

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
