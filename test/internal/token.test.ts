import { expect, it } from "vitest"
import { makeStoreId, makeToken, tokenMark } from "../../src/internal/common/token.js"

const store = makeStoreId()

const bitsOf = (token: string): Buffer =>
  Buffer.from(token.slice(token.lastIndexOf(".") + 1), "base64url")

it("tokens can be told from what other programs write, name their store, and carry 128 bits", () => {
  const token = makeToken(store)
  expect(store.startsWith(tokenMark)).toBe(true)
  expect(token.startsWith(`${store}.`)).toBe(true)
  expect(bitsOf(token)).toHaveLength(16)
  expect(makeStoreId()).not.toBe(store)
})

it("no token comes twice, and none is made of spent bits", () => {
  const tokens = Array.from({ length: 10_000 }, () => makeToken(store))
  expect(new Set(tokens).size).toBe(tokens.length)
  expect(tokens.filter((token) => bitsOf(token).equals(Buffer.alloc(16)))).toEqual([])
})

it("every bit is as often one as zero", () => {
  const count = 4_096
  const ones = Array.from({ length: 128 }, () => 0)
  for (let i = 0; i < count; i++) {
    const bytes = bitsOf(makeToken(store))
    for (let bit = 0; bit < 128; bit++) ones[bit]! += (bytes[bit >> 3]! >> (bit & 7)) & 1
  }
  // seven standard deviations
  for (const n of ones) expect(Math.abs(n - count / 2)).toBeLessThan(7 * Math.sqrt(count / 4))
})
