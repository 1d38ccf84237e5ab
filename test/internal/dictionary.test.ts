import { expect, it } from "@effect/vitest"
import { Dictionary } from "../../src/internal/common/dictionary.js"

it("any name can be looked up, and is gone once it has been deleted", () => {
  const dictionary = new Dictionary<{ readonly name: string }>()
  const names = [
    "a",
    "",
    "0",
    "-1",
    "1e3",
    "__proto__",
    "constructor",
    "toString",
    "hasOwnProperty"
  ]
  for (const name of names) expect(dictionary.get(name)).toBe(undefined)
  for (const name of names) dictionary.set(name, { name: `not ${name}` })
  for (const name of names) dictionary.set(name, { name })
  for (const name of names) expect(dictionary.get(name)).toEqual({ name })
  expect(dictionary.size).toBe(names.length)
  expect(dictionary.values.map(({ name }) => name).sort()).toEqual([...names].sort())
  for (const name of names) {
    dictionary.delete(name)
    dictionary.delete(name)
    expect(dictionary.get(name)).toBe(undefined)
  }
  expect(dictionary.size).toBe(0)
  expect(dictionary.values).toEqual([])
})
