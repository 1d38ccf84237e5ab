/**
 * Type-checks every ```ts block of README.md and the other pages at the root, of docs/ and of the JSDoc comments in src/, each as a
 * module of its own, in which the package's name means src/. There is no way to exempt a block.
 * Blocks keep their line numbers, so that an error is reported at its place in the document.
 *
 * And every link of README.md and of docs/ to a file or a heading must lead to one, docs/guide.md must lead to every
 * page, and every figure of the benchmark that they quote must be the one that was measured last.
 *
 * Each block of README.md and docs/, and each example that needs no package of `@effect`, is compiled for Effect 4,
 * too: with the other import path, and with the names of the first table of docs/effect-4.md. Where that is not
 * enough, that page must have the block's other form, in a section with a link to the heading under which the block is.
 */
import { spawnSync } from "node:child_process"
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { basename, dirname, join, relative } from "node:path"
import { figureProblems } from "./figures.js"

process.chdir(join(import.meta.dirname, ".."))
const outDir = ".cache/docs"
/** Blocks that import from here are for Effect 4: they have a folder of their own. */
const effect4 = "effect-redis-lock/effect4"
/** What both versions of Effect have under different names, and blocks in another form. */
const page4 = "docs/effect-4.md"
const problems: Array<string> = []
const documents = new Map<string, string>()

/** The table of contents: it leads to every other page. */
const contents = "docs/guide.md"

const filesIn = (directory: string, extension: string): ReadonlyArray<string> =>
  existsSync(directory)
    ? readdirSync(directory, { recursive: true, encoding: "utf8" })
        .filter((name) => name.endsWith(extension))
        .map((name) => join(directory, name))
    : []

function extract(document: string): void {
  const inComment = document.endsWith(".ts")
  const lines = readFileSync(document, "utf8").split("\n")
  let start: number | undefined
  for (const [index, raw] of lines.entries()) {
    const line = inComment ? raw.replace(/^\s*\* ?/, "") : raw
    const fence = inComment && line === raw ? null : /^\s*```(.*)$/.exec(line)
    if (fence === null) continue
    const info = fence[1]!.trim()
    if (start !== undefined) {
      const code = lines.slice(start, index)
      write(document, start, inComment ? code.map((it) => it.replace(/^\s*\* ?/, "")) : code)
      start = undefined
    } else if (info === "ts") {
      start = index + 1
    } else if (/^(ts|tsx|typescript)\b/.test(info)) {
      problems.push(`${document}:${index + 1}: a block is \`\`\`ts and nothing else, not "${info}"`)
    }
  }
  if (start !== undefined) problems.push(`${document}:${start}: the block is not closed`)
}

function write(document: string, start: number, code: ReadonlyArray<string>): void {
  const name = `${document.replaceAll("/", "-")}.${start}.ts`
  documents.set(name, document)
  const text = "\n".repeat(start) + code.join("\n") + "\n"
  const isFor4 = text.includes(`"${effect4}`)
  writeFileSync(join(outDir, isFor4 ? "effect4" : "", name), text)
  // (the module that is for Effect 3 alone)
  const isFor3 = text.includes(`"effect-redis-lock/LockInspectorHttp"`)
  if (!isFor4 && !isFor3 && !document.endsWith(".ts") && !hasOtherForm(document, start)) {
    writeFor4(`as-4.${name}`, document, text)
  }
}

function writeFor4(name: string, document: string, text: string): void {
  const [paths, others] = [/"effect-redis-lock(\/\w+)?"/g, renamed(text)]
  const file = join(outDir, "effect4", name)
  documents.set(basename(name), `${document}, for Effect 4`)
  mkdirSync(dirname(file), { recursive: true })
  writeFileSync(file, others.replace(paths, `"${effect4}$1"`))
}

/** The table: `| on Effect 3 | on Effect 4 |`. */
const names4 = [...readFileSync(page4, "utf8").matchAll(/^\| `([^`]+)` +\| `([^`]+)` +\|$/gm)]

const sections4 = readFileSync(page4, "utf8").split(/^#+ /m)

const renamed = (text: string): string =>
  names4.reduce((all, [, on3, on4]) => all.replaceAll(on3!, on4!), text)

/** Whether a section of the page has a block, and links to the last heading before that line: it has another form. */
function hasOtherForm(document: string, line: number): boolean {
  const anchor = [...anchorsOf(document)].filter(([, at]) => at <= line).at(-1)?.[0]
  return sections4.some(
    (section) =>
      section.includes("```ts\n") &&
      section.includes(`](${relative(dirname(page4), document)}#${anchor})`)
  )
}

/** The lines of a document that are not in a block of code, with their numbers. */
function proseOf(document: string): ReadonlyArray<readonly [line: string, number: number]> {
  let inBlock = false
  return readFileSync(document, "utf8")
    .split("\n")
    .flatMap((line, index) => {
      const isFence = /^\s*```/.test(line)
      if (isFence) inBlock = !inBlock
      return isFence || inBlock ? [] : [[line, index + 1] as const]
    })
}

/** What links to headings are called, and the headings' lines: as GitHub does it, a number behind those that are there already. */
function anchorsOf(document: string): ReadonlyMap<string, number> {
  const anchors = new Map<string, number>()
  for (const [line, at] of proseOf(document)) {
    const heading = /^#+ (.*)$/.exec(line)?.[1]
    if (heading === undefined) continue
    const text = heading.replace(/\[([^\]]*)\]\([^)]*\)/g, "$1").toLowerCase()
    const name = text.replace(/[^\p{L}\p{N}_ -]/gu, "").replaceAll(" ", "-")
    let anchor = name
    for (let count = 1; anchors.has(anchor); count++) anchor = `${name}-${count}`
    anchors.set(anchor, at)
  }
  return anchors
}

let links = 0

function checkLinks(document: string): void {
  for (const [line, number] of proseOf(document)) {
    for (const [, link] of line.matchAll(/\]\(([^)\s]+)\)/g)) {
      if (/^[a-z]+:/.test(link!)) continue
      links++
      const [path, anchor] = link!.split("#") as [string, string?]
      const target = path === "" ? document : join(dirname(document), path)
      const leads =
        existsSync(target) &&
        (anchor === undefined || !target.endsWith(".md") || anchorsOf(target).has(anchor))
      if (!leads) problems.push(`${document}:${number}: a link that leads nowhere: ${link}`)
    }
  }
}

rmSync(outDir, { recursive: true, force: true })
mkdirSync(join(outDir, "effect4"), { recursive: true })
const projects = [
  [outDir, "../../tsconfig.json"],
  [join(outDir, "effect4"), "../../../tsconfig.effect4.json"]
] as const
for (const [project, config] of projects) {
  writeFileSync(
    join(project, "tsconfig.json"),
    JSON.stringify({ extends: config, include: ["*.ts", "examples"], exclude: [] })
  )
}
// (the API reference is made of the comments in src/, and is not in git)
const pages = filesIn("docs", ".md").filter((page) => !page.startsWith(join("docs", "api")))
const front = [
  "README.md",
  "CHANGELOG.md",
  "CONTRIBUTING.md",
  "SECURITY.md",
  "AGENTS.md",
  "llms.txt"
]
for (const document of [...front, ...pages, ...filesIn("src", ".ts")]) extract(document)
// (of the API reference, where it was written: its examples are those of src/)
for (const document of [...front, ...filesIn("docs", ".md")]) checkLinks(document)
const listed = readFileSync(contents, "utf8")
for (const page of pages) {
  if (page !== contents && !listed.includes(`](${relative(dirname(contents), page)})`)) {
    problems.push(`${contents}: no link to ${page}`)
  }
}
// (the first page of the site)
extract("site/index.md")
checkLinks("site/index.md")
problems.push(...figureProblems())
for (const example of filesIn("examples", ".ts")) {
  const text = readFileSync(example, "utf8")
  if (!text.includes('from "@effect/')) writeFor4(example, example, text)
}

for (const [project] of projects) {
  const tsc = spawnSync("npx", ["tsc", "--pretty", "false", "-p", project], { encoding: "utf8" })
  for (const line of tsc.stdout.split("\n").filter((it) => it.trim() !== "")) {
    const at = /^(.+?)\((\d+),(\d+)\): (.*)$/.exec(line)
    const document = at === null ? undefined : documents.get(basename(at[1]!))
    problems.push(document === undefined ? line : `${document}:${at![2]}:${at![3]}: ${at![4]}`)
  }
  if (tsc.status !== 0 && problems.length === 0) problems.push(tsc.stderr)
}

if (problems.length > 0) console.error(problems.join("\n"))
else console.log(`${documents.size} blocks and examples compile, ${links} links lead to something`)
process.exitCode = problems.length > 0 ? 1 : 0
