/** The pages by task. Each page of docs/ must be in it, or the site is not built. */
import type { DefaultTheme } from "vitepress"
import { documents, hasApi, pageOf } from "./links.js"

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
      ["Sizes", "size"],
      ["API", "api/index"]
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

/** Their names as links. */
const names = documents.map((document) => pageOf(document)!.replace(/\.md$/, ""))

const sidebar = (): Array<Item> => {
  const listed = byTask.flatMap(([, entries]) => entries.map(([, name]) => name))
  const missed = documents.filter(
    (document, index) => /^docs\/(?!api\/)/.test(document) && !listed.includes(names[index]!)
  )
  if (missed.length > 0) {
    throw new Error(`site/.vitepress/sidebar.ts: not in it: ${missed.join(", ")}`)
  }
  const beside = names.filter((_, index) => !documents[index]!.includes("/")).sort()
  return [
    ...byTask.map(([text, entries]) => ({
      text,
      // (the API's are there once a script has written them)
      items: entries.filter(([, name]) => names.includes(name)).map(entry)
    })),
    {
      text: "Project",
      items: beside.map((name) => entry([name[0]!.toUpperCase() + name.slice(1), name]))
    }
  ]
}

const api = (): Array<Item> => {
  const modules = names.filter((name) => name.startsWith("api/") && name !== "api/index").sort()
  return [
    { text: "All pages by task", link: "/guide" },
    {
      text: "API",
      link: "/api/",
      items: modules.map((name) => entry([name.slice("api/".length), name]))
    }
  ]
}

/** By where a page is: the API has its own. (No group can be folded: the theme's are no good by keyboard.) */
export const sidebars = (): DefaultTheme.SidebarMulti => ({
  "/": sidebar(),
  ...(hasApi ? { "/api/": api() } : {})
})
