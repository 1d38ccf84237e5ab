import * as fc from "fast-check"
import { createRequire } from "node:module"
import { describe, expect, it } from "vitest"
import { hashed, lockKeys } from "../../../src/internal/redis/layout.js"

// as ioredis computes it
const slotOf = createRequire(createRequire(import.meta.url).resolve("ioredis"))(
  "cluster-key-slot"
) as (key: string) => number

/** The lock's key, and the keys beside it, as sent; or the refusal. */
const keysOf = (
  clientPrefix: string,
  prefix: string,
  key: string
): ReadonlyArray<string> | string => {
  const keys = lockKeys(clientPrefix, prefix, key)
  return typeof keys === "string" ? keys : Object.values(keys)
}

const braces = fc.string({
  unit: fc.constantFrom("{", "}", "a", "b", ":", "ю", "🔑", "\n"),
  minLength: 1,
  maxLength: 8
})
const prefix = fc.oneof(
  fc.constant(""),
  fc.constantFrom("p:", "{p}", "{", "}", "{}", "a{b}c:"),
  braces
)
const key = fc.oneof(
  braces,
  fc.string({ minLength: 1 }),
  fc.string({ minLength: 1, unit: "binary" })
)

describe("lockKeys", () => {
  it("what is hashed is what Redis Cluster hashes", () => {
    fc.assert(
      fc.property(key, (key) => {
        const part = hashed(key)
        // a part with a brace in it would be taken apart again
        return key.includes(part) && (/[{}]/.test(part) || slotOf(part) === slotOf(key))
      }),
      { numRuns: 2_000 }
    )
    const parts = ["a", "{a}b", "a{b}c{d}", "{}a", "a{", "a}b{c}", "{{a}}"].map(hashed)
    expect(parts).toEqual(["a", "a", "b", "{}a", "a{", "c", "{a"])
  })

  it("everything stands in the slot of the stored key, or the key is refused", () => {
    let accepted = 0
    fc.assert(
      fc.property(prefix, prefix, key, (clientPrefix, prefix, key) => {
        const keys = keysOf(clientPrefix, prefix, key)
        if (typeof keys === "string") {
          return keys.startsWith("Impossible lock key: ") && keys.includes(JSON.stringify(key))
        }
        accepted++
        const slot = slotOf(clientPrefix + prefix + key)
        return keys.every((sent) => slotOf(clientPrefix + sent) === slot)
      }),
      { numRuns: 10_000 }
    )
    expect(accepted).toBeGreaterThan(3_000)
  })

  it("the lock itself is exactly the prefix and the key", () => {
    const isExact = fc.property(prefix, prefix, key, (clientPrefix, prefix, key) => {
      const keys = keysOf(clientPrefix, prefix, key)
      return typeof keys === "string" || keys[0] === prefix + key
    })
    expect(fc.check(isExact).counterexample).toBeNull()
  })

  it("no key without braces is refused, and none with one hash tag", () => {
    const plain = fc.string({ unit: fc.constantFrom("a", ":", " ", "ю", "🔑"), minLength: 1 })
    fc.assert(
      fc.property(plain, plain, plain, (a, b, c) => {
        for (const key of [a, `{${a}}`, `${a}{${b}}`, `{${a}}${b}`, `${a}{${b}}${c}`]) {
          expect(keysOf("", "", key)).toBeInstanceOf(Array)
          expect(keysOf("client:", "prefix:", key)).toBeInstanceOf(Array)
        }
      })
    )
  })

  it("what cannot be placed is refused with advice", () => {
    for (const key of ["a}b", "{}x", "{}", "}", "a{}b"]) {
      const refusal = keysOf("", "", key)
      expect(refusal).toContain(`Impossible lock key: ${JSON.stringify(key)}`)
      expect(refusal).toContain("give it a hash tag")
    }
    expect(keysOf("", "{x", "key")).toContain('stored as "{xkey"')
  })

  it("different locks never share a key in the store", () => {
    fc.assert(
      fc.property(prefix, prefix, key, key, (clientPrefix, prefix, one, other) => {
        fc.pre(one !== other)
        const [ones, others] = [
          keysOf(clientPrefix, prefix, one),
          keysOf(clientPrefix, prefix, other)
        ]
        if (typeof ones === "string" || typeof others === "string") return
        expect(ones.filter((key) => others.includes(key))).toEqual([])
      }),
      { numRuns: 5_000 }
    )
    for (const [prefix, one, other] of [
      ["", "a", "{a}"],
      ["p:", "a", "{p:a}"],
      ["", "a", "{a}:lock-record"],
      ["", "a", "{a}:lock-queue"]
    ] as const) {
      const [ones, others] = [keysOf("", prefix, one), keysOf("", prefix, other)]
      if (typeof ones === "string" || typeof others === "string") continue
      expect(ones.filter((key) => others.includes(key))).toEqual([])
    }
  })

  it("a client's prefix is left to the client", () => {
    expect(keysOf("client:", "p:", "{t}k")).toEqual(keysOf("", "p:", "{t}k"))
    for (const sent of keysOf("client:", "p:", "{t}k")) {
      expect(sent.startsWith("p:{t}k")).toBe(true)
    }
  })
})
