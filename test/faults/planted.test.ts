import { expect, it } from "@effect/vitest"
import { readFileSync } from "node:fs"
import { join } from "node:path"
import { bugs } from "./planted.js"

it("every bug that can be planted has its place in the library", () => {
  expect(bugs.length).toBeGreaterThan(10)
  for (const { file, find, name } of bugs) {
    const text = readFileSync(join(import.meta.dirname, "../../src", file), "utf8")
    expect([name, text.split(find).length - 1]).toEqual([name, 1])
  }
})
