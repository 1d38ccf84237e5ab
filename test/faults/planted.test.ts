import { expect, it } from "@effect/vitest"
import { readFileSync } from "node:fs"
import { join } from "node:path"
import { bugs, editsOf } from "./planted.js"

it("every bug that can be planted has its place in the library", () => {
  expect(bugs.length).toBeGreaterThan(10)
  for (const bug of bugs) {
    for (const { file, find } of editsOf(bug)) {
      const text = readFileSync(join(import.meta.dirname, "../../src", file), "utf8")
      expect([bug.name, find, text.split(find).length - 1]).toEqual([bug.name, find, 1])
    }
  }
})
