/**
 * Checks the built site: every link of every page leads to a page or file of it, and to an element of that name; and
 * nothing is loaded from elsewhere. `tsx site/check.ts [--base /folder/] [--outDir folder]`
 */
import { parse } from "node-html-parser"
import { existsSync, readdirSync, readFileSync, statSync } from "node:fs"
import { dirname, join } from "node:path"
import { fileURLToPath } from "node:url"
import { parseArgs } from "node:util"

const { base, outDir: dist } = parseArgs({
  options: {
    base: { type: "string", default: "/" },
    outDir: {
      type: "string",
      default: join(dirname(fileURLToPath(import.meta.url)), ".vitepress/dist")
    }
  }
}).values

const files = readdirSync(dist, { recursive: true, encoding: "utf8" }).filter((name) =>
  statSync(join(dist, name)).isFile()
)
const read = (name: string): string => readFileSync(join(dist, name), "utf8")
const pages = new Map(
  files.filter((name) => name.endsWith(".html")).map((name) => [name, parse(read(name))] as const)
)
const ids = new Map(
  [...pages].map(([name, page]) => [
    name,
    new Set(page.querySelectorAll("[id]").map((element) => element.id))
  ])
)

const site = new URL(base, "http://site.invalid")
const problems: Array<string> = []
let links = 0

/** What is wrong with a link, if something is. */
const wrong = (link: URL): string | undefined => {
  if (!link.pathname.startsWith(site.pathname)) return "leads out of the site's folder"
  const path = decodeURIComponent(link.pathname.slice(site.pathname.length))
  const name = path === "" || path.endsWith("/") ? `${path}index.html` : path
  if (!existsSync(join(dist, name))) return "leads nowhere"
  const anchor = decodeURIComponent(link.hash.slice(1))
  if (anchor !== "" && ids.get(name)?.has(anchor) !== true) return "leads to no such heading"
  return undefined
}

for (const [name, page] of pages) {
  const here = new URL(name === "404.html" ? "" : name, site)
  for (const element of page.querySelectorAll("[href], [src], [srcset], [poster], object[data]")) {
    const isLink = element.rawTagName === "a"
    const { href, src, srcset, poster, data } = element.attributes
    if (srcset !== undefined) problems.push(`${name}: is not checked: srcset="${srcset}"`)
    for (const value of [href, src, poster, data]) {
      if (value === undefined || value.startsWith("data:")) continue
      links++
      const link = new URL(value, here)
      if (link.origin !== site.origin) {
        if (!isLink) problems.push(`${name}: is loaded from elsewhere: ${value}`)
        continue
      }
      const what = wrong(link)
      if (what !== undefined) problems.push(`${name}: ${what}: ${value}`)
    }
  }
}
for (const name of files.filter((it) => /\.(css|svg)$/.test(it))) {
  for (const [, value] of read(name).matchAll(/(?:url\(|@import\s|href=)\s*["']?([^"')\s]+)/g)) {
    if (/^(https?:)?\/\//.test(value!)) problems.push(`${name}: is loaded from elsewhere: ${value}`)
  }
}

if (pages.size === 0) problems.push("there are no pages")
if (problems.length > 0) console.error(problems.join("\n"))
else console.log(`${pages.size} pages, ${links} links lead to something, nothing is from elsewhere`)
process.exitCode = problems.length > 0 ? 1 : 0
