/**
 * A program of the tests in one file: as a process it starts in a fraction of the time that tsx needs for its
 * modules, which are hundreds.
 */
import { buildSync } from "esbuild"
import * as Fs from "node:fs"
import * as Os from "node:os"
import * as Path from "node:path"

const root = Path.join(import.meta.dirname, "../..")

/** Built for as long as this process lives, by source and tsconfig. */
const built = new Map<string, string>()

/** (ioredis and its like are CommonJS modules, which call `require`.) */
const banner = `import { createRequire as createRequireOfBundle } from "node:module"
const require = createRequireOfBundle(import.meta.url)`

/** The tsconfig says which ioredis it has, as it does for what tsx starts. */
export const bundled = (
  source: string,
  tsconfig = process.env["TSX_TSCONFIG_PATH"] ?? Path.join(root, "tsconfig.json")
): string => {
  const known = `${source} ${tsconfig}`
  const file = built.get(known)
  if (file !== undefined) return file
  const dir = Fs.mkdtempSync(Path.join(Os.tmpdir(), "redis-lock-program-"))
  process.once("exit", () => Fs.rmSync(dir, { recursive: true, force: true }))
  const outfile = Path.join(dir, `${Path.basename(source, ".ts")}.mjs`)
  buildSync({
    entryPoints: [source],
    tsconfig,
    outfile,
    bundle: true,
    platform: "node",
    target: "node20",
    format: "esm",
    banner: { js: banner },
    logLevel: "warning"
  })
  built.set(known, outfile)
  return outfile
}
