/**
 * Tests what would be published: packs the package, and uses the tarball as a new user would, with
 * the lowest and the highest versions that its peer dependencies allow. Installs it, compiles the
 * README's first example with each module resolution of TypeScript, bundles it, requires it from
 * CommonJS, runs all that against a Redis server of its own, and follows every link.
 */
import assert from "node:assert/strict"
import { execFileSync, spawn, spawnSync, type StdioOptions } from "node:child_process"
import { once } from "node:events"
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync
} from "node:fs"
import { createServer, type AddressInfo } from "node:net"
import { tmpdir } from "node:os"
import { dirname, join, relative, resolve } from "node:path"
import { announceRedisServer } from "../test/setup.js"
import { serverBinary } from "../test/support/serverBinary.js"

const root = join(import.meta.dirname, "..")
const manifest = JSON.parse(readFileSync(join(root, "package.json"), "utf8"))
const versions: Record<string, string> = manifest.devDependencies
const readme = readFileSync(join(root, "README.md"), "utf8")
const versionsPage = readFileSync(join(root, "docs/versions.md"), "utf8")
const temporary = mkdtempSync(join(tmpdir(), "effect-redis-lock-"))

const run = (cwd: string, command: string, ...more: ReadonlyArray<string>): string => {
  const [file, ...args] = command.split(" ")
  const stdio: StdioOptions = ["ignore", "pipe", "inherit"]
  return execFileSync(file!, [...args, ...more], { cwd, encoding: "utf8", stdio, timeout: 180_000 })
}

const filesBelow = (directory: string): ReadonlyArray<string> =>
  readdirSync(join(root, directory), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => relative(root, join(entry.parentPath, entry.name)))

/**
 * Builds and packs; the tarball must hold the sources, what was built from them, the command line in one
 * file, pages, examples, and five files.
 */
function pack(): string {
  run(root, "npm run build")
  const [packed] = JSON.parse(
    run(root, "npm pack --json --ignore-scripts --pack-destination", temporary)
  )
  const sources = filesBelow("src")
  const expected = ["CHANGELOG.md", "LICENSE", "README.md", "llms.txt", "package.json"]
  const pages = filesBelow("docs").filter(
    (name) => !inRepositoryAlone.some((it) => name.startsWith(it))
  )
  expected.push("dist/cli.mjs", ...pages, ...filesBelow("examples"), ...sources)
  for (const source of sources) {
    for (const built of [".js", ".js.map", ".d.ts", ".d.ts.map"]) {
      expected.push(source.replace(/^src/, "dist").replace(/\.ts$/, built))
    }
  }
  const found: ReadonlyArray<string> = packed.files.map((file: { path: string }) => file.path)
  assert.deepEqual([...found].sort(), expected.sort())
  console.log(`${packed.filename}: ${found.length} files, ${packed.size} bytes`)
  return join(temporary, packed.filename)
}

/** What both faces share comes out of both builds, one over the other: it has to be the same. */
function compareBuilds(): void {
  const directory = join(temporary, "effect4")
  run(root, "npx tsc -p tsconfig.build4.json --outDir", directory)
  const own = /^(effect4|internal\/(face4|with-effect-3-import))\//
  const shared = readdirSync(directory, { recursive: true, encoding: "utf8" }).filter(
    (name) => /\.(js|d\.ts)$/.test(name) && !own.test(name)
  )
  assert(shared.length > 0)
  for (const name of shared) {
    const [ours, theirs] = [join(root, "dist"), directory].map((it) =>
      readFileSync(join(it, name), "utf8")
    )
    assert.equal(theirs, ours, `dist/${name} is another for Effect 4`)
  }
  console.log(`${shared.length} files are the same for both faces`)
}

/** The path of the modules for a version of Effect. */
type Face = "effect-redis-lock" | "effect-redis-lock/effect4"

interface Setup {
  readonly name: string
  readonly face: Face
  readonly packages: ReadonlyArray<string>
}

/** `HttpLock` and `LockInspectorHttp` need it, and nothing else. */
const platform = "@effect/platform"

/** The first version that a range of package.json names is its lower end. */
const lowest = (name: string): string =>
  `${name}@${/\d+\.\d+\.\d+/.exec(manifest.peerDependencies[name])![0]}`

/** What the README has one install beside the package and ioredis. */
const saidToInstall = (effect: string): ReadonlyArray<string> => {
  const commands = [...readme.matchAll(/^npm install effect-redis-lock (.*) ioredis$/gm)]
  const said = commands.map(([, packages]) => packages!.split(" ")).find((it) => it[0] === effect)
  assert(said !== undefined, `README.md does not say how to install it beside ${effect}`)
  return said
}

/** The newest as of now, or, of ioredis, what the tests are run with. */
const setups = (): ReadonlyArray<Setup> => {
  const said = saidToInstall("effect@3")
  const said4 = saidToInstall("effect@4")
  const platforms = said.includes(platform) ? [] : [`${platform}@${versions[platform]}`]
  return [
    { name: "lowest", face: manifest.name, packages: ["effect", platform, "ioredis"].map(lowest) },
    {
      name: "highest",
      face: manifest.name,
      packages: [...said, ...platforms, `ioredis@${versions.ioredis}`]
    },
    {
      name: `without ${platform}, ioredis 5`,
      face: manifest.name,
      packages: [`effect@${versions.effect}`, versions.ioredis5!.replace("npm:", "")]
    },
    {
      name: "Effect 4",
      face: `${manifest.name}/effect4`,
      packages: [...said4, "@effect/platform-node@4", `ioredis@${versions.ioredis}`]
    },
    {
      name: "the first Effect 4, ioredis 5",
      face: `${manifest.name}/effect4`,
      packages: [
        `effect@${/\d+\.\d+\.\d+$/.exec(manifest.peerDependencies.effect)![0]}`,
        versions.ioredis5!.replace("npm:", "")
      ]
    }
  ]
}

/** Without force: a conflict of peers is an error. */
function install(project: string, tarball: string, packages: ReadonlyArray<string>): void {
  const tools = ["typescript", "@types/node"].map((name) => `${name}@${versions[name]}`)
  mkdirSync(project)
  writeFileSync(join(project, "package.json"), JSON.stringify({ private: true, type: "module" }))
  const options = "--prefer-offline --no-audit --no-fund --loglevel=error"
  run(project, `npm install ${options}`, tarball, ...packages, ...tools)
}

// -----------------------------------------------------------------------------
// TypeScript
// -----------------------------------------------------------------------------

/** `requires`: whether a CommonJS file may import ES modules there. */
const resolutions = [
  { module: "node16", moduleResolution: "node16", requires: false },
  { module: "node20", moduleResolution: "node16", requires: true },
  { module: "nodenext", moduleResolution: "nodenext", requires: true },
  { module: "preserve", moduleResolution: "bundler", requires: true }
] as const

/** Answers what tsc has to say, one line each. */
const check = (project: string, file: string, options: Record<string, unknown>) => {
  const compilerOptions = {
    target: "ES2022",
    types: ["node"],
    strict: true,
    exactOptionalPropertyTypes: true,
    noEmit: true,
    ...options
  }
  writeFileSync(join(project, "tsconfig.json"), JSON.stringify({ compilerOptions, files: [file] }))
  const { stdout } = spawnSync("node_modules/.bin/tsc", ["--pretty", "false"], {
    cwd: project,
    encoding: "utf8"
  })
  return stdout.split("\n").filter((line) => line.includes("error TS"))
}

/** The README's first example under the strictest settings; our own types without skipLibCheck, too. */
function compile(project: string, face: Face, url: string, withAll: boolean): void {
  const example = /^```ts\n([^]*?)^```$/m.exec(readme)?.[1]
  assert(example !== undefined, "README.md has no ```ts example")
  writeFileSync(
    join(project, "main.ts"),
    inFace(face, example).replaceAll("redis://127.0.0.1:6379", url)
  )
  const all = subpathsOf(project, face)
    .map((name, index) => `export * as module${index} from "${name}"\n`)
    .join("")
  writeFileSync(join(project, "all.ts"), all)
  writeFileSync(join(project, "all.cts"), all)
  // what is not ours does not always pass
  const module = { module: "nodenext", moduleResolution: "nodenext" }
  const ours = check(project, "all.ts", { ...module, skipLibCheck: false }).filter((line) =>
    line.includes("effect-redis-lock")
  )
  assert.deepEqual(ours, [], "the published types have errors")
  for (const { requires, ...options } of withAll ? resolutions : []) {
    const how = JSON.stringify(options)
    assert.deepEqual(check(project, "main.ts", { ...options, skipLibCheck: true }), [], how)
    const inCommonJs = check(project, "all.cts", { ...options, skipLibCheck: true })
    if (requires) assert.deepEqual(inCommonJs, [], how)
    else assert(inCommonJs.length > 0 && inCommonJs.every((line) => line.includes("TS1479")), how)
  }
  const errors = check(project, "main.ts", { ...module, skipLibCheck: true, noEmit: false })
  assert.deepEqual(errors, [])
}

const subpaths: ReadonlyArray<string> = Object.keys(manifest.exports)
  .filter((path) => !path.includes("*") && !path.endsWith(".json"))
  .map((path) => manifest.name + path.slice(1))

/** An example for the other face differs in where it imports from. */
const inFace = (face: Face, code: string): string =>
  code.replaceAll(`"${manifest.name}"`, JSON.stringify(face))

const isOfEffect4 = (path: string): boolean => path.startsWith(`${manifest.name}/effect4`)

/** Errors and options, which are the same for both faces. */
const ofBoth = ["Lease", "LockError"].map((name) => `${manifest.name}/${name}`)

const isOf = (face: Face, path: string): boolean =>
  ofBoth.includes(path) || isOfEffect4(path) === isOfEffect4(face)

const hasPlatform = (project: string): boolean =>
  existsSync(join(project, "node_modules", platform))

/** Those that work there: two modules for Effect 3 need @effect/platform. */
const subpathsOf = (project: string, face: Face): ReadonlyArray<string> =>
  subpaths.filter(
    (name) =>
      isOf(face, name) &&
      (hasPlatform(project) || isOfEffect4(name) || !/\/(HttpLock|LockInspectorHttp)$/.test(name))
  )

// -----------------------------------------------------------------------------
// imports, requires and bundles
// -----------------------------------------------------------------------------

/** What each `import(specifier)` ends with in the project: "ok", or the error's code and message. */
const tryImports = (
  project: string,
  specifiers: ReadonlyArray<string>
): Readonly<Record<string, string>> => {
  const script = `
    const ends = {}
    for (const specifier of ${JSON.stringify(specifiers)}) {
      ends[specifier] = await import(specifier).then(() => "ok", (e) => e.code + " " + e.message)
    }
    console.log(JSON.stringify(ends))`
  return JSON.parse(run(project, "node --input-type=module --eval", script))
}

/** What is said where something is not there: a path of ours is the sentence that helps. */
const expectedOf = (project: string, face: Face, path: string): RegExp =>
  subpathsOf(project, face).includes(path)
    ? /^ok$/
    : // (LockInspectorHttp is for Effect 3 alone)
      isOf(face, path) || path.endsWith("/LockInspectorHttp")
      ? /^ERR_MODULE_NOT_FOUND.*@effect\/platform/
      : isOfEffect4(path)
        ? /^ERR_PACKAGE_PATH_NOT_EXPORTED.*\/with-effect-3-import\/effect-redis-lock\.js$/
        : /^ERR_MODULE_NOT_FOUND.*\/with-effect-4-import\/effect-redis-lock\/effect4\.js$/

function checkImports(project: string, face: Face): void {
  for (const [name, end] of Object.entries(tryImports(project, subpaths))) {
    assert.match(end, expectedOf(project, face, name), name)
  }
  const internals = filesBelow("dist/internal")
    .filter((name) => name.endsWith(".js"))
    .flatMap((file) => {
      const internal = file.replace(/^dist\//, "").replace(/\.js$/, "")
      return [internal, `${internal}.js`, `dist/${internal}.js`]
    })
    .map((path) => `${manifest.name}/${path}`)
  assert(internals.length > 0)
  for (const [name, end] of Object.entries(tryImports(project, internals))) {
    assert.match(end, /^ERR_PACKAGE_PATH_NOT_EXPORTED/, name)
  }
}

/** A lock in Redis and one in memory, by `require` or by bundled imports. */
const program = (url: string) => `
const LocksLive = RedisLockStore.layer({ url: ${JSON.stringify(url)} })
const turn = Lock.withLock("k")((lease) => Effect.succeed(lease.fencingToken > 0))
const busy = Lock.withLock("k")(Effect.flip(Effect.scoped(Lock.tryAcquire("k"))))
const both = Effect.all([turn, Effect.map(busy, (error) => error instanceof LockError.LockUnavailable)])
Promise.all([LocksLive, MemoryLockStore.layer].map((live) =>
  Effect.runPromise(Effect.provide(both, live))
)).then((answers) => console.log(answers.flat().join(" ")))
`

const names = "Lock, LockError, MemoryLockStore, RedisLockStore"
const allWell = "true true true true"

function checkCommonJs(project: string, face: Face, url: string): void {
  const required = `const { Effect } = require("effect")\nconst { ${names} } = require("${face}")`
  writeFileSync(join(project, "required.cjs"), required + program(url))
  // Node.js 20.19, 22.12 and later
  const { require_module } = process.features as { readonly require_module?: boolean }
  if (require_module === true) {
    assert.equal(run(project, "node required.cjs").trim(), allWell)
  } else {
    const { stderr } = spawnSync("node", ["required.cjs"], { cwd: project, encoding: "utf8" })
    assert.match(stderr, /ERR_REQUIRE_ESM/)
  }
  const imported = `void (async () => {\nconst { Effect } = await import("effect")\nconst { ${names} } = await import("${face}")`
  writeFileSync(join(project, "imported.cjs"), `${imported}${program(url)}})()`)
  assert.equal(run(project, "node imported.cjs").trim(), allWell)
}

/** With the banner that docs/versions.md gives, which ioredis needs in an ES module. */
function checkBundles(project: string, face: Face, url: string): void {
  const banner = /^ *--banner:js="(.*)"/m.exec(versionsPage)?.[1]
  assert(banner !== undefined, "docs/versions.md has no banner for esbuild")
  const imports = `import { Effect } from "effect"\nimport { ${names} } from "${face}"`
  writeFileSync(join(project, "bundled.mjs"), imports + program(url))
  const esbuild = join(root, "node_modules/.bin/esbuild")
  for (const [format, out, ...more] of [
    ["esm", "bundle.mjs", `--banner:js=${banner}`],
    ["cjs", "bundle.cjs"]
  ]) {
    const options = `${esbuild} bundled.mjs --bundle --platform=node --log-level=warning`
    run(project, options, `--format=${format}`, `--outfile=alone/${out}`, ...more)
    // no node_modules beside it
    const alone = join(temporary, out!)
    renameSync(join(project, "alone", out!), alone)
    assert.equal(run(temporary, "node", alone).trim(), allWell, `bundled as ${format}`)
  }
}

// -----------------------------------------------------------------------------
// the command line
// -----------------------------------------------------------------------------

/** In a folder that has nothing but the package, without its peers. */
function checkCli(tarball: string, url: string): void {
  const project = join(temporary, "cli")
  mkdirSync(project)
  writeFileSync(join(project, "package.json"), JSON.stringify({ private: true }))
  run(project, "npm install --legacy-peer-deps --no-audit --no-fund --loglevel=error", tarball)
  const installed = readdirSync(join(project, "node_modules")).filter((it) => !it.startsWith("."))
  assert.deepEqual(installed, [manifest.name])
  const npx = (...args: ReadonlyArray<string>) => run(project, "npx effect-redis-lock", ...args)
  assert.equal(npx("--version").trim(), manifest.version)
  const said = npx("run", "k", "--url", url, "--", "sh", "-c", "echo $LOCK_KEY")
  assert.equal(said.trim(), "k")
  const { size } = statSync(
    join(project, "node_modules", manifest.name, manifest.bin[manifest.name])
  )
  assert(size < 1_200_000, "docs/cli.md says how large it is")
  console.log(`the command line, ${size} bytes, runs in an empty folder`)
}

// -----------------------------------------------------------------------------
// links
// -----------------------------------------------------------------------------

/** Pictures, and the API reference, which is made of what the package has as types. */
const inRepositoryAlone = ["docs/images/", "docs/api/"]

/** As GitHub makes them of headings. */
const anchorsOf = (page: string): ReadonlySet<string> =>
  new Set(
    [...page.matchAll(/^#+ (.*)$/gm)].map(([, heading]) =>
      heading!
        .toLowerCase()
        .replace(/[^\p{L}\p{N}\- _]/gu, "")
        .replaceAll(" ", "-")
    )
  )

const isImage = /^(\.\.\/|docs\/)?images\//

/** Every relative link of a page leads to something that was installed with it. */
function checkLinks(directory: string): void {
  const broken: Array<string> = []
  let count = 0
  for (const name of readdirSync(directory, { recursive: true, encoding: "utf8" })) {
    if (!name.endsWith(".md") && name !== "llms.txt") continue
    const page = readFileSync(join(directory, name), "utf8")
    for (const [, target] of page.matchAll(/\]\(([^)\s]+)\)/g)) {
      if (/^[a-z]+:/.test(target!) || isImage.test(target!)) continue
      count++
      const [path, anchor] = target!.split("#")
      const file = path === "" ? join(directory, name) : resolve(directory, dirname(name), path!)
      const found =
        file.startsWith(directory) &&
        existsSync(file) &&
        (anchor === undefined || anchorsOf(readFileSync(file, "utf8")).has(anchor))
      if (!found) broken.push(`${name}: ${target}`)
    }
  }
  assert.deepEqual(broken, [], "links that lead nowhere in the tarball")
  assert(count > 0)
  console.log(`${count} links resolve`)
}

async function startRedis(): Promise<{ readonly url: string; readonly stop: () => void }> {
  const probe = createServer().listen(0, "127.0.0.1")
  await once(probe, "listening")
  const { port } = probe.address() as AddressInfo
  await once(probe.close(), "close")
  const args = ["--port", `${port}`, "--bind", "127.0.0.1", "--save", "", "--dir", temporary]
  const server = spawn(serverBinary(), args, { stdio: ["ignore", "pipe", "inherit"] })
  let ready = false
  for await (const chunk of server.stdout) {
    ready = `${chunk}`.includes("Ready to accept connections")
    if (ready) break
  }
  assert(ready, "redis-server did not start")
  return { url: `redis://127.0.0.1:${port}`, stop: () => server.kill() }
}

await announceRedisServer()
const redis = await startRedis()
try {
  const tarball = pack()
  compareBuilds()
  checkCli(tarball, redis.url)
  for (const [index, { face, name, packages }] of setups().entries()) {
    const project = join(temporary, `project-${index}`)
    install(project, tarball, packages)
    assert.equal(
      hasPlatform(project),
      packages.some((it) => it.startsWith(`${platform}@`))
    )
    if (index === 0) checkLinks(join(project, "node_modules", manifest.name))
    compile(project, face, redis.url, index === 0)
    checkImports(project, face)
    checkCommonJs(project, face, redis.url)
    checkBundles(project, face, redis.url)
    const said = run(project, "node main.js")
    console.log(`${name} (${packages.join(" ")}): the README's example says:\n${said}`)
  }
} finally {
  redis.stop()
  rmSync(temporary, { recursive: true, force: true })
}
