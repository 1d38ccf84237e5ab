/**
 * Tests what would be published: packs the package, and uses the tarball as a stranger would, once
 * with each major of ioredis. The stranger installs it, compiles the README's first example, and
 * runs it against a Redis server of its own.
 */
import assert from "node:assert/strict"
import { execFileSync, spawn, spawnSync, type StdioOptions } from "node:child_process"
import { once } from "node:events"
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync
} from "node:fs"
import { createServer, type AddressInfo } from "node:net"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { ensureRedisServer } from "../test/setup.js"

const root = join(import.meta.dirname, "..")
const manifest = JSON.parse(readFileSync(join(root, "package.json"), "utf8"))
const versions: Record<string, string> = manifest.devDependencies
const readme = readFileSync(join(root, "README.md"), "utf8")
const temporary = mkdtempSync(join(tmpdir(), "effect-redis-lock-"))

const run = (cwd: string, command: string, ...more: ReadonlyArray<string>): string => {
  const [file, ...args] = command.split(" ")
  const stdio: StdioOptions = ["ignore", "pipe", "inherit"]
  return execFileSync(file!, [...args, ...more], { cwd, encoding: "utf8", stdio, timeout: 180_000 })
}

/** Builds and packs; the tarball must hold the sources, what was built from them, pages, and four files. */
function pack(): string {
  run(root, "npm run build")
  const [packed] = JSON.parse(
    run(root, "npm pack --json --ignore-scripts --pack-destination", temporary)
  )
  const sources = readdirSync(join(root, "src"), { recursive: true, encoding: "utf8" }).filter(
    (name) => name.endsWith(".ts")
  )
  const expected = ["CHANGELOG.md", "LICENSE", "README.md", "package.json"]
  for (const name of readdirSync(join(root, "docs"))) {
    if (name.endsWith(".md")) expected.push(`docs/${name}`)
  }
  for (const source of sources) {
    expected.push(`src/${source}`)
    for (const built of [".js", ".js.map", ".d.ts", ".d.ts.map"]) {
      expected.push(`dist/${source.replace(/\.ts$/, built)}`)
    }
  }
  const found: ReadonlyArray<string> = packed.files.map((file: { path: string }) => file.path)
  assert.deepEqual([...found].sort(), expected.sort())
  console.log(`${packed.filename}: ${found.length} files, ${packed.size} bytes`)
  return join(temporary, packed.filename)
}

function install(project: string, tarball: string, ioredis: string): void {
  // as the README says, but for where the package comes from, and which ioredis
  const command = /^npm install effect-redis-lock (.*) ioredis$/m.exec(readme)
  assert(command !== null, "README.md does not say how to install it")
  const tools = ["typescript", "@types/node"].map((name) => `${name}@${versions[name]}`)
  const wanted = [tarball, ...command[1]!.split(" "), ioredis, ...tools]
  mkdirSync(project)
  writeFileSync(join(project, "package.json"), JSON.stringify({ private: true, type: "module" }))
  const options = "--prefer-offline --no-audit --no-fund --loglevel=error"
  run(project, `npm install ${options}`, ...wanted)
}

/** The README's first example under the strictest settings; our own types without skipLibCheck, too. */
function compile(project: string, url: string): void {
  const example = /^```ts\n([^]*?)^```$/m.exec(readme)?.[1]
  assert(example !== undefined, "README.md has no ```ts example")
  writeFileSync(join(project, "main.ts"), example.replaceAll("redis://127.0.0.1:6379", url))
  writeFileSync(
    join(project, "all.ts"),
    subpaths.map((name, index) => `export * as module${index} from "${name}"\n`).join("")
  )
  const compilerOptions = {
    target: "ES2022",
    module: "NodeNext",
    types: ["node"],
    strict: true,
    exactOptionalPropertyTypes: true,
    skipLibCheck: true
  }
  writeFileSync(join(project, "tsconfig.json"), JSON.stringify({ compilerOptions }))
  run(project, "npx tsc --pretty false")
  const { stdout } = spawnSync("npx", ["tsc", "--noEmit", "--skipLibCheck", "false"], {
    cwd: project,
    encoding: "utf8"
  })
  const ours = stdout.split("\n").filter((line) => line.includes("effect-redis-lock"))
  assert.deepEqual(ours, [], "the published types have errors")
}

const subpaths: ReadonlyArray<string> = Object.keys(manifest.exports)
  .filter((path) => !path.includes("*") && !path.endsWith(".json"))
  .map((path) => manifest.name + path.slice(1))

/** What `import(specifier)` ends with in the project: "ok", or the error's code and message. */
const tryImport = (project: string, specifier: string): string => {
  const script = `import("${specifier}").then(() => console.log("ok"), (e) => console.log(e.code, e.message))`
  return run(project, "node --input-type=module --eval", script).trim()
}

function checkImports(project: string): void {
  for (const name of subpaths) assert.equal(tryImport(project, name), "ok", name)

  for (const file of readdirSync(join(root, "dist/internal")).filter((it) => it.endsWith(".js"))) {
    const internal = `internal/${file.slice(0, -3)}`
    for (const path of [internal, `${internal}.js`, `dist/${internal}.js`]) {
      assert.match(tryImport(project, `${manifest.name}/${path}`), /^ERR_PACKAGE_PATH_NOT_EXPORTED/)
    }
  }

  // Only HttpLock needs @effect/platform: without it, the others still load.
  const platform = join(project, "node_modules/@effect/platform")
  renameSync(platform, `${platform}-away`)
  for (const name of subpaths) {
    const expected = name.endsWith("/HttpLock")
      ? /^ERR_MODULE_NOT_FOUND.*@effect\/platform/
      : /^ok$/
    assert.match(tryImport(project, name), expected, name)
  }
  renameSync(`${platform}-away`, platform)
}

async function startRedis(): Promise<{ readonly url: string; readonly stop: () => void }> {
  const probe = createServer().listen(0, "127.0.0.1")
  await once(probe, "listening")
  const { port } = probe.address() as AddressInfo
  await once(probe.close(), "close")
  const args = ["--port", `${port}`, "--bind", "127.0.0.1", "--save", "", "--dir", temporary]
  const server = spawn(ensureRedisServer(), args, { stdio: ["ignore", "pipe", "inherit"] })
  let ready = false
  for await (const chunk of server.stdout) {
    ready = `${chunk}`.includes("Ready to accept connections")
    if (ready) break
  }
  assert(ready, "redis-server did not start")
  return { url: `redis://127.0.0.1:${port}`, stop: () => server.kill() }
}

const redis = await startRedis()
try {
  const tarball = pack()
  for (const ioredis of [`ioredis@${versions.ioredis}`, versions.ioredis5!.replace("npm:", "")]) {
    const project = join(temporary, ioredis)
    install(project, tarball, ioredis)
    compile(project, redis.url)
    checkImports(project)
    console.log(`with ${ioredis}, the README's example says:\n${run(project, "node main.js")}`)
  }
} finally {
  redis.stop()
  rmSync(temporary, { recursive: true, force: true })
}
