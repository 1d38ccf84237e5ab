/**
 * Figures of the benchmark that README.md and docs/ quote:
 *
 *   reach <!-- figure:free-one -->0.66<!-- /figure --> of the cycles
 *
 * `npm run figures` writes them from docs/benchmarks/results.json, and `npm run docs:check` fails if they differ. Where
 * the sources are not those that were measured, docs/benchmarks.md says so.
 */
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { hash } from "../bench/src/Sources.js"

const root = join(import.meta.dirname, "..")
const results = "docs/benchmarks/results.json"
const page = "docs/benchmarks.md"
const isOld = "**The sources have changed since these figures were measured.**"

interface Results {
  readonly sources: string
  readonly figures: Readonly<Record<string, string>>
}

const marked = /(<!-- figure:(\S+) -->)([^<]*)(<!-- \/figure -->)/g

/** The pages that are not as they should be, and what is wrong with marks. */
const look = (): {
  readonly texts: ReadonlyMap<string, string>
  readonly problems: Array<string>
} => {
  const { figures, sources } = JSON.parse(readFileSync(join(root, results), "utf8")) as Results
  const problems: Array<string> = []
  const texts = new Map<string, string>()
  const used = new Set<string>()
  const docs = readdirSync(join(root, "docs"), { recursive: true, encoding: "utf8" })
  const pages = docs.filter((name) => name.endsWith(".md")).map((name) => join("docs", name))
  for (const name of ["README.md", ...pages]) {
    const before = readFileSync(join(root, name), "utf8")
    let text = before.replace(marked, (all, open: string, figure: string, _, close: string) => {
      used.add(figure)
      const value = figures[figure]
      if (value === undefined) problems.push(`${name}: ${results} has no figure ${figure}`)
      return value === undefined ? all : open + value + close
    })
    const left = text.replace(marked, "").split(/<!-- \/?figure/).length - 1
    if (left > 0) problems.push(`${name}: a mark of a figure without its other half`)
    // (a comment there would make the whole line HTML)
    if (/^\s*<!-- figure/m.test(text)) problems.push(`${name}: a figure at the beginning of a line`)
    if (name === page) {
      const without = text.replace(`${isOld}\n\n`, "")
      text = sources === hash(root) ? without : without.replace("\n\n", `\n\n${isOld}\n\n`)
    }
    if (text !== before) texts.set(name, text)
  }
  for (const figure of Object.keys(figures)) {
    if (!used.has(figure)) problems.push(`${results}: no page has the figure ${figure}`)
  }
  return { texts, problems }
}

/** For docs:check. */
export const figureProblems = (): ReadonlyArray<string> => {
  if (!existsSync(join(root, results))) return [`${results} is missing: npm run bench`]
  const { problems, texts } = look()
  return [
    ...problems,
    ...[...texts.keys()].map((name) =>
      name === page
        ? `${name}: whether the sources have changed since is not what it says: npm run figures`
        : `${name}: its figures are not those of ${results}: npm run figures`
    )
  ]
}

if (process.argv[1] === import.meta.filename) {
  const { problems, texts } = look()
  for (const [name, text] of texts) {
    writeFileSync(join(root, name), text)
    console.log(`wrote ${name}`)
  }
  if (problems.length > 0) console.error(problems.join("\n"))
  process.exitCode = problems.length > 0 ? 1 : 0
}
