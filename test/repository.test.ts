/** What stands around the code: forms for issues, and what a release looks at before it does anything. */
import { existsSync, readdirSync, readFileSync } from "node:fs"
import { join } from "node:path"
import { describe, expect, it } from "vitest"
import * as Yaml from "yaml"
import { inTheWay, type State } from "../scripts/release.js"

const root = join(import.meta.dirname, "..")
const folder = ".github/ISSUE_TEMPLATE"

/** What a field of each type has. */
const asks = { id: expect.stringMatching(/^\w+$/), attributes: { label: expect.any(String) } }
const kinds: Readonly<Record<string, object>> = {
  markdown: { attributes: { value: expect.any(String) } },
  textarea: asks,
  dropdown: { ...asks, attributes: { ...asks.attributes, options: expect.any(Array) } }
}

describe("forms for issues", () => {
  const names = readdirSync(join(root, folder)).filter((name) => name !== "config.yml")

  it.each(names)("%s is one that GitHub takes", (name) => {
    const form = Yaml.parse(readFileSync(join(root, folder, name), "utf8"))
    expect(Object.keys(form).sort()).toEqual(["body", "description", "labels", "name"])
    const fields: ReadonlyArray<{ readonly type: string; readonly id?: string }> = form.body
    const asked = fields.filter(({ type }) => type !== "markdown")
    expect(new Set(asked.map(({ id }) => id)).size).toBe(asked.length)
    for (const field of fields) expect(field).toMatchObject(kinds[field.type] ?? { type: "known" })
  })

  const pages = [...names.map((name) => join(folder, name)), ".github/pull_request_template.md"]

  // (GitHub shows them below /<owner>/<repository>/, and leaves relative links as they are)
  it.each(pages)("each link of %s leads to a file", (page) => {
    const text = readFileSync(join(root, page), "utf8")
    const links = [...text.matchAll(/\]\(([^)]*)\)/g)].map(([, link]) => link!)
    const leads = (link: string) => {
      const path = /^\.\.\/blob\/HEAD\/([^#]+)/.exec(link)?.[1]
      return path !== undefined && existsSync(join(root, path))
    }
    expect(links.length).toBeGreaterThan(0)
    expect(links.filter((link) => !leads(link))).toEqual([])
  })
})

describe("a release", () => {
  const ready: State = {
    changedFiles: [],
    changesets: [],
    changelog: "# Changelog\n\n## 1.2.0\n\n### Minor Changes\n\n- More\n\n## 1.1.0 - 2026-01-31\n",
    manifest: { version: "1.2.0", repository: "github:somebody/something" },
    published: ["1.1.0"]
  }

  it("has nothing in its way, with or without a date, or as the first one", () => {
    expect(inTheWay(ready)).toEqual([])
    const dated = ready.changelog.replace("## 1.2.0", "## 1.2.0 - 2026-11-29")
    expect(inTheWay({ ...ready, changelog: dated, published: [] })).toEqual([])
  })

  it.each<[string, Partial<State>, RegExp]>([
    [
      "a change that is not committed",
      { changedFiles: ["src/Lock.ts"] },
      /not clean: src\/Lock\.ts/
    ],
    ["a changeset", { changesets: ["old-cats-sing.md"] }, /old-cats-sing\.md.*release:version/],
    [
      "a version that is not in the changelog",
      { changelog: "# Changelog\n\n## 1.1.0\n" },
      /"## 1\.1\.0"/
    ],
    ["one that says Unreleased", { changelog: "## 1.2.0 - Unreleased\n" }, /Unreleased/],
    ["no changelog", { changelog: "# Changelog\n" }, /no version/],
    ["no repository", { manifest: { version: "1.2.0" } }, /"repository"/],
    ["a version that npm has", { published: ["1.1.0", "1.2.0"] }, /has 1\.2\.0 already/],
    ["an npm that does not answer", { published: undefined }, /could not be asked/]
  ])("is stopped by %s", (_, changes, said) => {
    expect(inTheWay({ ...ready, ...changes })).toEqual([expect.stringMatching(said)])
  })
})
