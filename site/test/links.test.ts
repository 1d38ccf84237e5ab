/** What the build of the site refuses, and where its links lead. */
import { spawnSync } from "node:child_process"
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { dirname, join } from "node:path"
import { afterEach, describe, expect, it } from "vitest"
import { documents, onSite, urlOf } from "../.vitepress/links.js"

describe("a link of a document", () => {
  it("leads to a page, with its heading", () => {
    expect(onSite("docs/lock.md", "semaphore.md#who-is-next")).toBe("/semaphore.md#who-is-next")
    expect(onSite("docs/coming-from/redlock.md", "../lock.md")).toBe("/lock.md")
    expect(onSite("docs/page.md", "../CHANGELOG.md")).toBe("/changelog.md")
    expect(onSite("site/index.md", "../docs/start.md")).toBe("/start.md")
  })

  it("is left alone if it is to the same page, or leads out", () => {
    for (const link of ["#here", "https://redis.io/docs", "mailto:a@b.example"]) {
      expect(onSite("docs/lock.md", link)).toBe(link)
    }
  })

  it("to a file leads to the repository, or to a page that shows the file", () => {
    const link = "../examples/scoped.ts"
    const github = "https://github.com/owner/name"
    expect(onSite("docs/lock.md", link, github)).toBe(`${github}/blob/main/examples/scoped.ts`)
    expect(onSite("docs/lock.md", "../examples", github)).toBe(`${github}/tree/main/examples`)
    expect(onSite("docs/lock.md", "page.md", github)).toBe("/page.md")
    expect(onSite("docs/lock.md", link, undefined)).toMatch(/\/examples\/scoped\.ts(\.md)?$/)
    for (const repository of ["github:owner/name", { url: `git+${github}.git` }, github]) {
      expect(urlOf(repository)).toBe(github)
    }
  })

  it("that leads nowhere, or out of the repository, is an error", () => {
    for (const link of ["no-such.md", "../examples/no-such.ts", "../../../etc/hostname"]) {
      expect(() => onSite("docs/lock.md", link)).toThrow(
        `docs/lock.md: a link that leads nowhere: ${link}`
      )
    }
  })

  it("there are pages for all documents", () => {
    expect(documents).toEqual(
      expect.arrayContaining(["docs/lock.md", "docs/coming-from/redlock.md"])
    )
  })
})

describe("the check of what was built", () => {
  const folder = mkdtempSync(join(tmpdir(), "site-"))
  afterEach(() => rmSync(folder, { recursive: true, force: true }))

  const check = (files: Readonly<Record<string, string>>, ...args: ReadonlyArray<string>) => {
    for (const [name, text] of Object.entries(files)) {
      mkdirSync(dirname(join(folder, name)), { recursive: true })
      writeFileSync(join(folder, name), text)
    }
    const script = join(import.meta.dirname, "../check.ts")
    const command = ["tsx", script, "--outDir", folder, ...args]
    const { status, stderr, stdout } = spawnSync("npx", command, { encoding: "utf8" })
    return { status, stderr: stderr.trim().split("\n"), stdout: stdout.trim() }
  }

  it("is content with links that lead to something, and to others' pages", () => {
    const index = `<link href="/base/a.css"><a href="/base/b/c.html#x">c</a><a href="https://redis.io">r</a>`
    const files = {
      "index.html": index,
      "b/c.html": `<h1 id="x"><a href="#x">x</a></h1><a href="../">back</a>`,
      "a.css": `a { background: url(data:image/png;base64,AA==) }`
    }
    expect(check(files, "--base", "/base/")).toEqual({
      status: 0,
      stderr: [""],
      stdout: "2 pages, 5 links lead to something, nothing is from elsewhere"
    })
  })

  it("names what leads nowhere, and what is from elsewhere", () => {
    const { status, stderr } = check({
      "index.html": `<a href="/no.html">1</a><a href="/b.html#no">2</a><script src="//cdn.example/x.js"></script>`,
      "b.html": `<h1 id="yes">b</h1><a href="#no">3</a><img src="https://cdn.example/i.png">`,
      "a.css": `@import "https://fonts.example/f.css"; a { background: url('//cdn.example/p.png') }`
    })
    expect(status).toBe(1)
    expect(stderr.sort()).toEqual(
      [
        "a.css: is loaded from elsewhere: //cdn.example/p.png",
        "a.css: is loaded from elsewhere: https://fonts.example/f.css",
        "b.html: is loaded from elsewhere: https://cdn.example/i.png",
        "b.html: leads to no such heading: #no",
        "index.html: is loaded from elsewhere: //cdn.example/x.js",
        "index.html: leads nowhere: /no.html",
        "index.html: leads to no such heading: /b.html#no"
      ].sort()
    )
  })
})
