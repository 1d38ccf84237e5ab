/**
 * Where the documents of the repository, and the links between them, are on the site. Links are written as GitHub
 * wants them: relative to the file that they stand in.
 */
import { execFileSync } from "node:child_process"
import { existsSync, readdirSync, readFileSync, statSync } from "node:fs"
import { dirname, join, posix } from "node:path"
import { fileURLToPath } from "node:url"

export const root = join(dirname(fileURLToPath(import.meta.url)), "../..")

type Repository = string | { readonly url: string } | undefined

/** Where a repository can be read, as package.json says it. */
export const urlOf = (repository: Repository): string | undefined =>
  (typeof repository === "string" ? repository : repository?.url)
    ?.replace(/^git\+/, "")
    .replace(/^github:/, "https://github.com/")
    .replace(/\.git$/, "")

/** This one's, if package.json says it. */
export const repositoryUrl = urlOf(
  (
    JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as {
      readonly repository?: Repository
    }
  ).repository
)

/** Whether a script has written docs/api, which is not in git. */
export const hasApi = existsSync(join(root, "docs/api/index.md"))

/** Documents at the root of the repository that are pages. */
const atRoot = /^(CHANGELOG|CONTRIBUTING|SECURITY)\.md$/

/** The page that a document is, if it is one: docs/lock.md is lock.md. */
export const pageOf = (document: string): string | undefined => {
  if (!document.endsWith(".md")) return undefined
  if (atRoot.test(document)) return document.toLowerCase()
  const [folder, ...rest] = document.split("/")
  return folder === "docs" || folder === "site" ? rest.join("/") : undefined
}

/** All of them, by their paths in the repository. */
export const documents: ReadonlyArray<string> = [
  ...readdirSync(root).filter((name) => atRoot.test(name)),
  ...readdirSync(join(root, "docs"), { recursive: true, encoding: "utf8" })
    .filter((name) => name.endsWith(".md"))
    .map((name) => `docs/${name}`),
  "site/index.md"
]

/** What a link of a document leads to, as a path in the repository; nothing, if it leads out of it or to itself. */
const leadsTo = (document: string, link: string): string | undefined => {
  if (/^([a-z][a-z+.-]*:|\/|#)/i.test(link)) return undefined
  const path = posix.join(posix.dirname(document), decodeURI(link.replace(/[?#].*$/s, "")))
  if (path.startsWith("..") || !existsSync(join(root, path))) {
    throw new Error(`${document}: a link that leads nowhere: ${link}`)
  }
  return path.replace(/\/$/, "")
}

/**
 * The link as it is on the site. What is no page is read in the repository, or else, where nobody knows its address,
 * on a page that shows the file.
 */
export const onSite = (document: string, link: string, repository = repositoryUrl): string => {
  const path = leadsTo(document, link)
  if (path === undefined) return link
  const anchor = /#.*$/s.exec(link)?.[0] ?? ""
  const page = pageOf(path)
  if (page !== undefined) return `/${page}${anchor}`
  if (repository === undefined) return `/source/${path}.md${anchor}`
  const kind = statSync(join(root, path)).isDirectory() ? "tree" : "blob"
  return `${repository}/${kind}/main/${path}${anchor}`
}

export interface Source {
  readonly path: string
  /** The names in a folder. */
  readonly names?: ReadonlyArray<string>
}

/** What documents link to, and is no page; for a folder, what is in it, too. */
export const linkedSources = (): ReadonlyArray<Source> => {
  if (repositoryUrl !== undefined) return []
  const found = new Map<string, Source>()
  const add = (path: string): void => {
    if (found.has(path) || pageOf(path) !== undefined) return
    if (!statSync(join(root, path)).isDirectory()) {
      found.set(path, { path })
      return
    }
    // (what is not in git is not in the repository that others see)
    const tracked = execFileSync("git", ["ls-files", "--", path], { cwd: root, encoding: "utf8" })
    const names = tracked.split("\n").flatMap((file) => {
      const rest = file.slice(path.length + 1)
      return rest === "" ? [] : [rest]
    })
    found.set(path, { path, names })
    for (const name of names) add(`${path}/${name}`)
  }
  for (const document of documents) {
    for (const link of linksOf(readFileSync(join(root, document), "utf8"))) {
      const path = leadsTo(document, link)
      if (path !== undefined && path !== "") add(path)
    }
  }
  return [...found.values()]
}

/** The links in a document's prose: not those in its code, nor its pictures. */
const linksOf = (text: string): ReadonlyArray<string> =>
  [
    ...text
      .replace(/^ *```.*?^ *```/gms, "")
      .replace(/`[^`\n]+`/g, "")
      .matchAll(/(?<!!\[[^\]]*)\]\(([^)\s]+)\)/g)
  ].map(([, link]) => link!)
