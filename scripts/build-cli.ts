/** Bundles the command line into one file that needs nothing beside it: `tsx scripts/build-cli.ts [file]`. */
import { buildSync } from "esbuild"
import { readFileSync } from "node:fs"
import { join } from "node:path"

const root = join(import.meta.dirname, "..")
const { version } = JSON.parse(readFileSync(join(root, "package.json"), "utf8"))

/** (ioredis and its like are CommonJS modules, which call `require`.) */
const banner = `#!/usr/bin/env node
import { createRequire as createRequireOfCli } from "node:module"
const require = createRequireOfCli(import.meta.url)`

export const buildCli = (outfile: string): void => {
  buildSync({
    entryPoints: [join(root, "cli/main.ts")],
    tsconfig: join(root, "tsconfig.json"),
    outfile,
    bundle: true,
    platform: "node",
    target: "node20",
    format: "esm",
    minify: true,
    define: { VERSION: JSON.stringify(version) },
    banner: { js: banner },
    logLevel: "warning"
  })
}

if (process.argv[1] === import.meta.filename) {
  buildCli(process.argv[2] ?? join(root, "dist/cli.mjs"))
}
