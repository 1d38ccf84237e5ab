/**
 * What the package adds to a program that has Effect already: bundled by esbuild without its peers, minified and
 * compressed. `npm run size` writes docs/size.md; `npm run package:check` fails if that page is out of date, or if
 * something is larger than its budget here.
 *
 * (size-limit does the same for one compression and one import at a time. It does not say what one import adds to
 * another, nor what is in a bundle, so esbuild would be asked again for each of these; and its newest version does
 * not run on Node.js 20.)
 */
import * as esbuild from "esbuild"
import { mkdirSync, readFileSync, writeFileSync } from "node:fs"
import { join, relative } from "node:path"
import { brotliCompressSync, gzipSync } from "node:zlib"
import { folder, pack, root, unpack } from "./packed.js"

// -----------------------------------------------------------------------------
// budgets, in kB of gzip; the same for both versions of Effect
// -----------------------------------------------------------------------------

/** What a program pays that imports these modules, and uses everything in them. */
const programs: Readonly<Record<string, number>> = {
  Lock: 17.5,
  MemoryLockStore: 10.5,
  RedisLockStore: 54,
  "Lock, MemoryLockStore": 22.5,
  "Lock, RedisLockStore": 66,
  "Lock, RedisLockStore, QuorumLockStore": 74,
  "Lock, TestLockStore": 24
}

/** What one more module costs a program that has these two. */
const base = "Lock, RedisLockStore"
const additions: Readonly<Record<string, number>> = {
  Semaphore: 1,
  ReadWriteLock: 1.3,
  MultiLock: 3.2,
  Leader: 2.2,
  CronJob: 2.8,
  HttpLock: 3.2,
  LockInspector: 2.4,
  QuorumLockStore: 8.5,
  MemoryLockStore: 4.5,
  Handle: 0.6
}

/** All that the first path exports, and nothing left out. */
const everything = 87

/** Bytes of what is downloaded from npm: code, its sources and maps, and the pages. */
export const tarballBudget = 1_600_000

// -----------------------------------------------------------------------------
// what is measured
// -----------------------------------------------------------------------------

const faces = ["effect-redis-lock", "effect-redis-lock/effect4"] as const
type Face = (typeof faces)[number]

interface Size {
  readonly gzip: number
  readonly brotli: number
}

export interface Row {
  readonly name: string
  readonly sizes: ReadonlyArray<Size>
  readonly budget: number
}

export interface Sizes {
  readonly programs: ReadonlyArray<Row>
  readonly additions: ReadonlyArray<Row>
  /** The two modules of `base` by their own paths: what leaving the rest to the bundler must not exceed. */
  readonly byPaths: ReadonlyArray<Size>
}

const peers = ["effect", "@effect/platform", "ioredis"]

/** These have a path of their own, and are not in what the first path exports. */
const byPath = new Set(["Handle", "HttpLock", "TestLockStore"])

const importing = (face: Face, names: string): string =>
  names
    .split(", ")
    .map((name) =>
      byPath.has(name)
        ? `export * as ${name} from "${face}/${name}"`
        : `export { ${name} } from "${face}"`
    )
    .join("\n")

const options = {
  absWorkingDir: root,
  bundle: true,
  format: "esm",
  platform: "node",
  target: "node20",
  write: false,
  metafile: true,
  outdir: join(folder, "out"),
  // (not the repository's, which leads the package's name to src/)
  tsconfigRaw: {},
  logLevel: "error"
} as const satisfies esbuild.BuildOptions

const compressed = (bundle: Uint8Array): Size => ({
  gzip: gzipSync(bundle, { level: 9 }).length / 1000,
  brotli: brotliCompressSync(bundle).length / 1000
})

/** Several programs in one run, each bundled by itself. */
async function bundle(sources: ReadonlyArray<string>): Promise<ReadonlyArray<Size>> {
  mkdirSync(folder, { recursive: true })
  const entryPoints = sources.map((source, index) => {
    const file = join(folder, `program-${index}.js`)
    writeFileSync(file, source)
    return file
  })
  const { outputFiles } = await esbuild.build({
    ...options,
    entryPoints,
    minify: true,
    external: peers
  })
  const byName = new Map(outputFiles.map((file) => [relative(options.outdir, file.path), file]))
  return entryPoints.map((_, index) => compressed(byName.get(`program-${index}.js`)!.contents))
}

export async function measure(): Promise<Sizes> {
  const withBase = (name: string) => `${base}, ${name}`
  const names = [...Object.keys(programs), base, ...Object.keys(additions).map(withBase)]
  const sources = faces.flatMap((face) => [
    ...names.map((it) => importing(face, it)),
    base.replaceAll(/(\w+)(, )?/g, `export * as $1 from "${face}/$1"\n`),
    `export * from "${face}"`
  ])
  const sizes = await bundle(sources)
  const perFace = names.length + 2
  const of = (name: string) => faces.map((_, face) => sizes[face * perFace + names.indexOf(name)]!)
  const without = of(base)
  return {
    byPaths: faces.map((_, face) => sizes[(face + 1) * perFace - 2]!),
    programs: [
      ...Object.entries(programs).map(([name, budget]) => ({ name, sizes: of(name), budget })),
      {
        name: "all that the first path exports",
        sizes: faces.map((_, face) => sizes[(face + 1) * perFace - 1]!),
        budget: everything
      }
    ],
    additions: Object.entries(additions).map(([name, budget]) => ({
      name,
      sizes: of(withBase(name)).map(({ brotli, gzip }, face) => ({
        gzip: gzip - without[face]!.gzip,
        brotli: brotli - without[face]!.brotli
      })),
      budget
    }))
  }
}

/** What is larger than it may be, a sentence each. */
export const tooLarge = (sizes: Sizes): ReadonlyArray<string> => [
  ...[...sizes.programs, ...sizes.additions].flatMap((row) =>
    row.sizes.flatMap(({ gzip }, face) =>
      gzip > row.budget
        ? [
            `${row.name} of ${faces[face]}: ${gzip.toFixed(1)} kB of gzip, the budget is ${row.budget} kB`
          ]
        : []
    )
  ),
  ...sizes.programs
    .find(({ name }) => name === base)!
    .sizes.flatMap(({ gzip }, face) =>
      gzip > sizes.byPaths[face]!.gzip + 0.2
        ? [`${base} of ${faces[face]} are larger than by their own paths: something more is kept`]
        : []
    )
]

// -----------------------------------------------------------------------------
// each path alone
// -----------------------------------------------------------------------------

/** The peers, beside `effect`, that a path may load. */
const mayLoad = (path: string): ReadonlyArray<string> => {
  const isOf4 = path.startsWith("effect4")
  const name = path.replace(/^effect4\/?/, "")
  if (["", "RedisLockStore"].includes(name)) return ["ioredis"]
  return ["HttpLock", "LockInspectorHttp"].includes(name) && !isOf4 ? ["@effect/platform"] : []
}

/**
 * Bundles every path of `exports` by itself, with its peers, as a bundler sees it that takes nothing on trust: each
 * name that is imported has to be there. Answers what is wrong, a sentence each.
 */
export async function checkAlone(directory: string): Promise<ReadonlyArray<string>> {
  const manifest = JSON.parse(readFileSync(join(directory, "package.json"), "utf8"))
  const problems: Array<string> = []
  const paths = Object.keys(manifest.exports).filter((it) => !/\*|\.json$/.test(it))
  const all = paths.map((it) => it.replace(/^\.\/?/, ""))
  const face4 = all.filter((path) => path.startsWith("effect4"))
  const face3 = all.filter((path) => !face4.includes(path))
  for (const [effect, group] of [
    ["effect", face3],
    ["effect4", face4]
  ] as const) {
    const built = await esbuild
      .build({
        ...options,
        entryPoints: Object.fromEntries(
          group.map((path) => [path === "" ? "index" : path, join(manifest.name, path)])
        ),
        absWorkingDir: folder,
        alias: effect === "effect" ? {} : { effect },
        logLevel: "silent"
      })
      .catch((failure: esbuild.BuildFailure) => failure)
    if (built instanceof Error) {
      problems.push(built.message)
      continue
    }
    for (const [path, output] of Object.entries(built.metafile.outputs)) {
      const name = relative(options.outdir, join(folder, path)).replace(
        /(^|\/)?index\.js$|\.js$/,
        ""
      )
      for (const peer of ["ioredis", "@effect/platform"]) {
        const loads = Object.keys(output.inputs).some((it) => it.includes(`node_modules/${peer}/`))
        const may = mayLoad(name).includes(peer)
        if (loads === may) continue
        const said = loads ? "loads, and should not," : "does not load, as scripts/size.ts has it,"
        problems.push(`${join(manifest.name, name)} ${said} ${peer}`)
      }
    }
  }
  return problems
}

// -----------------------------------------------------------------------------
// the page
// -----------------------------------------------------------------------------

export const page = join(root, "docs/size.md")

const table = (rows: ReadonlyArray<Row>): string => {
  const cells = rows.map(({ budget, name, sizes }) => [
    name.replaceAll(/[A-Z]\w+/g, "`$&`"),
    ...sizes.flatMap(({ brotli, gzip }) => [gzip.toFixed(1), brotli.toFixed(1)]),
    budget.toFixed(1)
  ])
  const head = ["", "Effect 3, gzip", "brotli", "Effect 4, gzip", "brotli", "budget, gzip"]
  const widths = head.map((it, column) =>
    Math.max(it.length, 4, ...cells.map((row) => row[column]!.length))
  )
  const line = (row: ReadonlyArray<string>) =>
    `| ${row.map((it, at) => (at === 0 ? it.padEnd(widths[at]!) : it.padStart(widths[at]!))).join(" | ")} |`
  const rule = widths.map((width, at) =>
    at === 0 ? "-".repeat(width) : `${"-".repeat(width - 1)}:`
  )
  return [line(head), `| ${rule.join(" | ")} |`, ...cells.map(line)].join("\n")
}

export const pageOf = (sizes: Sizes): string => `# Size

What this package adds to a program that has Effect already, in kB (1,000 bytes): bundled by esbuild ${esbuild.version}, minified and compressed, without \`effect\`, \`@effect/platform\` and \`ioredis\`. \`npm run size\` writes this page, \`npm run package:check\` checks it, and the budgets are in \`scripts/size.ts\`.

A program that imports these modules, and uses everything in them:

${table(sizes.programs)}

The store for Redis is the largest part: the scripts that run in the server are in it, for all kinds of locks. What a kind adds to a program that has \`Lock\` and \`RedisLockStore\`:

${table(sizes.additions)}

Whatever a program does not import, a bundler leaves out: the path \`effect-redis-lock\` costs no more than the paths of single modules. Only \`RedisLockStore\` loads \`ioredis\`, and only \`HttpLock\` and \`LockInspectorHttp\` load \`@effect/platform\` (none does on Effect 4); each path is bundled alone to check that.
`

/** Versions of Node.js compress a little differently, and a sum of two changes need not be written again. */
const isNear = (one: number, other: number) =>
  Math.abs(one - other) <= Math.max(0.3, 0.02 * Math.abs(other))

/** Whether it says what is measured. */
export function pageIsTrue(sizes: Sizes): boolean {
  const [said, measured] = [readFileSync(page, "utf8"), pageOf(sizes)].map((text) =>
    text.replaceAll(/ {2,}|-{2,}/g, " ").split(/(\d+\.\d)(?= +\|)/)
  ) as [Array<string>, Array<string>]
  return (
    said.length === measured.length &&
    said.every((part, index) =>
      index % 2 === 0 ? part === measured[index] : isNear(Number(part), Number(measured[index]))
    )
  )
}

if (process.argv[1] === import.meta.filename) {
  unpack(pack().tarball)
  const sizes = await measure()
  writeFileSync(page, pageOf(sizes))
  console.log(pageOf(sizes))
  for (const problem of tooLarge(sizes)) {
    console.error(problem)
    process.exitCode = 1
  }
}
