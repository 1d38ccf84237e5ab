/** The tests that a page of docs/ shows: each block is a test file of its own. */
import { describe, expect, it } from "vitest"
import { spawnSync } from "node:child_process"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { fileURLToPath, pathToFileURL } from "node:url"

const root = fileURLToPath(new URL("../..", import.meta.url))

export interface Block {
  readonly name: string
  readonly file: string
  readonly code: string
}

/** Written into the project: what they import is what the tests import. */
export const blocksOf = (page: string): ReadonlyArray<Block> => {
  const directory = Path.join(root, ".cache/pages", page)
  const text = Fs.readFileSync(Path.join(root, "docs", `${page}.md`), "utf8")
  Fs.mkdirSync(directory, { recursive: true })
  return [...text.matchAll(/^```ts\n([^]*?)^```$/gm)].map(([, code = ""], index) => {
    const name = `block-${index + 1}`
    const file = Path.join(directory, `${name}.ts`)
    Fs.writeFileSync(file, code)
    return { name, file, code }
  })
}

export const ofRunner = (
  blocks: ReadonlyArray<Block>,
  runner: "vitest" | "@effect/vitest" | "node:test"
): ReadonlyArray<Block> => blocks.filter(({ code }) => code.includes(` from "${runner}"`))

export const runByVitest = (blocks: ReadonlyArray<Block>): void => {
  for (const { file, name } of blocks) {
    describe.concurrent(`${name}, by vitest`, async () => {
      await import(pathToFileURL(file).href)
    })
  }
}

export const runByNode = (blocks: ReadonlyArray<Block>): void => {
  describe("by node:test", () => {
    it.each(blocks)("$name", ({ code, file }) => {
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
}
