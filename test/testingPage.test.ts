/** The examples of docs/testing.md, run: each block is a test file of its own. */
import { describe, expect, it } from "vitest"
import { spawnSync } from "node:child_process"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { fileURLToPath, pathToFileURL } from "node:url"

const root = fileURLToPath(new URL("..", import.meta.url))
const directory = Path.join(root, ".cache/testing")
const page = Fs.readFileSync(Path.join(root, "docs/testing.md"), "utf8")

/** Written into the project: what they import is what the tests import. */
const files = [...page.matchAll(/^```ts\n([^]*?)^```$/gm)].map(([, code = ""], index) => {
  const name = `block-${index + 1}`
  const file = Path.join(directory, `${name}.ts`)
  Fs.mkdirSync(directory, { recursive: true })
  Fs.writeFileSync(file, code)
  return { name, file, code }
})

const by = (runner: string) => files.filter(({ code }) => code.includes(` from "${runner}"`))
const [ofEffectVitest, ofVitest, ofNode] = [by("@effect/vitest"), by("vitest"), by("node:test")]

it("every block is run by a test runner", () => {
  expect(ofEffectVitest).toHaveLength(5)
  expect(ofVitest).toHaveLength(1)
  expect(ofNode).toHaveLength(2)
  expect(files).toHaveLength(8)
})

for (const { file, name } of [...ofEffectVitest, ...ofVitest]) {
  describe.concurrent(`${name}, by vitest`, async () => {
    await import(pathToFileURL(file).href)
  })
}

describe("by node:test", () => {
  it.each(ofNode)("$name", ({ code, file }) => {
    const { status, stdout } = spawnSync(
      process.execPath,
      ["--import", "tsx", "--test", "--test-reporter=tap", file],
      { cwd: root, encoding: "utf8" }
    )
    const tests = code.split(/^test\(/m).length - 1
    expect(stdout).toContain(`# pass ${tests}\n`)
    expect(status).toBe(0)
  })
})
