/**
 * Everything of a release but the publishing: looks for what is in the way, runs what CI runs, builds, packs, checks
 * the tarball, shows what would be published, and prints the command that does it. CONTRIBUTING.md says more.
 *
 *   npm run release
 *   npm run release -- --ci-has-passed     (of this commit: .ci/run is left out)
 */
import { execFileSync, spawnSync } from "node:child_process"
import { readdirSync, readFileSync, rmSync } from "node:fs"
import { join, relative } from "node:path"
import { parseArgs } from "node:util"
import { pack, root } from "./packed.js"

/** What a release depends on. */
export interface State {
  readonly changedFiles: ReadonlyArray<string>
  /** File names in `.changeset/`. */
  readonly changesets: ReadonlyArray<string>
  readonly changelog: string
  readonly manifest: { readonly version: string; readonly repository?: unknown }
  /** Those that npm has, or undefined if it could not be asked. */
  readonly published: ReadonlyArray<string> | undefined
}

/** What is in the way of a release, a sentence each. */
export function inTheWay(state: State): ReadonlyArray<string> {
  const { changedFiles, changelog, changesets, manifest, published } = state
  const { version } = manifest
  const heading = changelog.split("\n").find((line) => line.startsWith("## "))
  const says = heading === undefined ? "no version" : `"${heading}"`
  return [
    changedFiles.length > 0 && `The tree is not clean: ${changedFiles.join(", ")}`,
    changesets.length > 0 &&
      `Not in the changelog yet: ${changesets.join(", ")}. First: npm run release:version`,
    heading?.replace(/ - \d{4}-\d\d-\d\d$/, "") !== `## ${version}` &&
      `CHANGELOG.md begins with ${says}, and not with "## ${version}" or that and a date.`,
    manifest.repository === undefined &&
      'package.json has no "repository", so no link of the README works on npm.',
    published === undefined && "npm could not be asked which versions there are.",
    published?.includes(version) === true && `npm has ${version} already.`
  ].filter((it) => it !== false)
}

const run = (command: string, ...args: ReadonlyArray<string>): void => {
  console.log(`\n> ${[command, ...args].join(" ")}`)
  execFileSync(command, args, { cwd: root, stdio: "inherit" })
}

function publishedVersions(name: string): ReadonlyArray<string> | undefined {
  const { status, stdout } = spawnSync("npm", ["view", name, "versions", "--json"], {
    cwd: root,
    encoding: "utf8"
  })
  if (status === 0) return [JSON.parse(stdout)].flat()
  return stdout.includes("E404") ? [] : undefined
}

const git = (...args: ReadonlyArray<string>): string =>
  execFileSync("git", args, { cwd: root, encoding: "utf8" }).trimEnd()

const changedFiles = (): ReadonlyArray<string> =>
  git("status", "--porcelain")
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => line.slice(3))

function currentState(manifest: State["manifest"] & { readonly name: string }): State {
  return {
    changedFiles: changedFiles(),
    changesets: readdirSync(join(root, ".changeset")).filter((it) => it.endsWith(".md")),
    changelog: readFileSync(join(root, "CHANGELOG.md"), "utf8"),
    manifest,
    published: publishedVersions(manifest.name)
  }
}

/** How many files of which folder. */
function countsOf(files: ReadonlyArray<string>): string {
  const counts = new Map<string, number>()
  for (const file of files) {
    const folder = file.includes("/") ? `${file.split("/")[0]}/` : file
    counts.set(folder, (counts.get(folder) ?? 0) + 1)
  }
  return [...counts].map(([name, count]) => `  ${name}${count > 1 ? ` ${count}` : ""}`).join("\n")
}

function release(): void {
  const options = { "ci-has-passed": { type: "boolean", default: false } } as const
  const { values } = parseArgs({ options })
  const manifest = JSON.parse(readFileSync(join(root, "package.json"), "utf8"))
  const problems = inTheWay(currentState(manifest))
  if (problems.length > 0) {
    console.error(problems.join("\n"))
    process.exitCode = 1
    return
  }
  if (!values["ci-has-passed"]) run(join(root, ".ci/run"))
  run("npm", "run", "build")
  const folder = join(root, ".cache/release")
  rmSync(folder, { recursive: true, force: true })
  const { files, size, tarball, unpackedSize } = pack(folder)
  run("npx", "tsx", "scripts/package-check.ts", "--tarball", tarball)
  run("npm", "publish", tarball, "--dry-run")
  const written = changedFiles()
  if (written.length > 0) throw new Error(`The build has changed files: ${written.join(", ")}`)
  const commit = git("rev-parse", "HEAD")
  console.log(`
${manifest.name} ${manifest.version}, of ${commit}: ${size} bytes, ${unpackedSize} unpacked, ${files.length} files:
${countsOf(files)}

Nothing is published yet. To publish this file, and to tag the commit:

  npm publish ${relative(root, tarball)}
  git tag v${manifest.version} ${commit} && git push origin v${manifest.version}`)
}

if (process.argv[1] === import.meta.filename) release()
