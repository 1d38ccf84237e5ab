/** The pages by task. Each page of docs/ must be in it, and each of these must exist, or the site is not built. */
import type { DefaultTheme } from "vitepress"
import { existsSync, readdirSync } from "node:fs"
import { join } from "node:path"
import { documents, hasApi, pageOf, root } from "./links.js"

type Item = DefaultTheme.SidebarItem
type Group = readonly [title: string, pages: ReadonlyArray<readonly [title: string, page: string]>]

const byTask: ReadonlyArray<Group> = [
  [
    "Start",
    [
      ["First steps", "start"],
      ["Which one do I want?", "which"],
      ["All pages", "guide"]
    ]
  ],
  [
    "Kinds",
    [
      ["Lock", "lock"],
      ["Semaphore", "semaphore"],
      ["Read-write lock", "read-write-lock"],
      ["Several keys", "multi-lock"],
      ["Leader", "leader"],
      ["Cron job", "cron-job"]
    ]
  ],
  ["HTTP", [["HTTP lock", "http-lock"]]],
  [
    "Under a lock",
    [
      ["Fencing tokens", "fencing"],
      ["Errors", "errors"],
      ["Recipes", "recipes"]
    ]
  ],
  ["Testing", [["Tests", "testing"]]],
  [
    "Operating",
    [
      ["Runbook", "operations"],
      ["Who holds what", "inspect"],
      ["Command line", "cli"],
      ["The page", "page"],
      ["Metrics and alerts", "metrics"]
    ]
  ],
  [
    "Guarantees",
    [
      ["What is guaranteed", "guarantees"],
      ["Protocol", "protocol"],
      ["Architecture", "architecture"],
      ["Evidence", "evidence"],
      ["Benchmarks", "benchmarks"]
    ]
  ],
  [
    "Reference",
    [
      ["Options", "options"],
      ["Stores and layers", "stores"],
      ["Effect 4", "effect-4"],
      ["Versions and bundlers", "versions"],
      ...(hasApi ? [["API", "api/"] as const] : [])
    ]
  ],
  [
    "Coming from",
    [
      ["redlock", "coming-from/redlock"],
      ["redis-semaphore", "coming-from/redis-semaphore"],
      ["Redisson", "coming-from/redisson"],
      ["ShedLock", "coming-from/shedlock"],
      ["effect-distributed-lock", "coming-from/effect-distributed-lock"],
      ["verrou", "coming-from/verrou"]
    ]
  ]
]

const entry = ([text, page]: readonly [string, string]): Item => ({ text, link: `/${page}` })

/** What a script wrote to docs/api: its index, its modules, and a group for each folder. */
const api = (folder: string, text: string): ReadonlyArray<Item> => {
  const names = readdirSync(join(root, "docs", folder), { withFileTypes: true })
  const modules = names.flatMap((it) =>
    it.isFile() && it.name.endsWith(".md") && it.name !== "index.md" ? [it.name.slice(0, -3)] : []
  )
  const index = existsSync(join(root, "docs", folder, "index.md")) ? { link: `/${folder}/` } : {}
  return [
    { text, ...index, items: modules.sort().map((name) => entry([name, `${folder}/${name}`])) },
    ...names
      .filter((it) => it.isDirectory())
      .flatMap((it) => api(`${folder}/${it.name}`, `API for ${it.name}`))
  ]
}

const sidebar = (): Array<Item> => {
  const listed = byTask
    .flatMap(([, pages]) => pages.map(([, page]) => `${page}.md`))
    .filter((page) => page !== "api/.md")
  const present = documents
    .filter((document) => document.startsWith("docs/") && !document.startsWith("docs/api/"))
    .map((document) => pageOf(document)!)
  const problems = [
    ...present.filter((page) => !listed.includes(page)).map((page) => `${page} is not in it`),
    ...listed.filter((page) => !present.includes(page)).map((page) => `there is no ${page}`)
  ]
  if (problems.length > 0) throw new Error(`site/.vitepress/sidebar.ts: ${problems.join("; ")}`)
  const others = documents.filter((document) => !document.includes("/")).sort()
  return [
    ...byTask.map(([text, pages]) => ({ text, items: pages.map(entry) })),
    {
      text: "Project",
      items: others.map((document) => {
        const page = pageOf(document)!.replace(/\.md$/, "")
        return entry([page[0]!.toUpperCase() + page.slice(1), page])
      })
    }
  ]
}

/** By where a page is: the API's have their own. (No group can be folded: the theme's are no good by keyboard.) */
export const sidebars = (): DefaultTheme.SidebarMulti => ({
  "/": sidebar(),
  ...(hasApi
    ? { "/api/": [{ text: "All pages by task", link: "/guide" }, ...api("api", "API")] }
    : {})
})
