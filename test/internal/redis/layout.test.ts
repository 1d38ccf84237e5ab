import * as fc from "fast-check"
import { describe, expect, it } from "vitest"
import { hashed, keyNamed, lockKeys, revokedKey } from "../../../src/internal/redis/layout.js"

/** XMODEM, byte by byte, as in the specification of Redis Cluster. */
const slotOfAll = (text: string): number => {
  let crc = 0
  for (const byte of Buffer.from(text)) {
    crc ^= byte << 8
    for (let bit = 0; bit < 8; bit++)
      crc = ((crc << 1) ^ ((crc & 0x8000) === 0 ? 0 : 0x1021)) & 0xffff
  }
  return crc % 16_384
}

/** (ioredis takes the second pair of braces where the first is empty, and is redirected.) */
const slotOf = (key: string): number => {
  const tag = /^[^{]*\{([^}]+)\}/.exec(key)?.[1]
  return slotOfAll(tag ?? key)
}

/** The lock's key, and the keys beside it, as sent; or the refusal. */
const keysOf = (
  clientPrefix: string,
  prefix: string,
  key: string
): ReadonlyArray<string> | string => {
  const keys = lockKeys(clientPrefix, prefix, key, false, true)
  return typeof keys === "string"
    ? keys
    : [...Object.values(keys), revokedKey(clientPrefix, prefix, key)]
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

  it("slots are those of Redis Cluster", () => {
    // from its specification, and from a server
    expect(slotOfAll("123456789")).toBe(0x31c3)
    for (const [key, slot] of [
      ["somekey", 11058],
      ["foo{hash_tag}", 2515],
      ["bar{hash_tag}", 2515],
      ["{}foo{bar}", 6127],
      ["{}a}b", 5168]
    ] as const) {
      expect(slotOf(key)).toBe(slot)
    }
  })

  it("everything stands in the slot of the stored key, whatever its braces", () => {
    let accepted = 0
    fc.assert(
      fc.property(prefix, prefix, key, (clientPrefix, prefix, key) => {
        const keys = keysOf(clientPrefix, prefix, key)
        if (typeof keys === "string") {
          return / Keys that end in :lock-\w+ are used by the library itself\.$/.test(keys)
        }
        accepted++
        const slot = slotOf(clientPrefix + prefix + key)
        return keys.every((sent) => slotOf(clientPrefix + sent) === slot)
      }),
      { numRuns: 10_000 }
    )
    expect(accepted).toBeGreaterThan(9_900)
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

  it("a key that cannot become a tag has one that is computed, for what stands beside it", () => {
    for (const key of ["a}b", "{}x", "{}", "}", "a{}b"]) {
      const [lock, ...beside] = keysOf("", "p:", key) as ReadonlyArray<string>
      expect(lock).toBe(`p:${key}`)
      for (const name of beside) expect(name).toMatch(/^p:\{[0-7]{6}\}\{.*\}:lock-\w+$/)
    }
    for (const [clientPrefix, prefix] of [
      ["", "{x"],
      ["{x", ""],
      ["{", "x{"]
    ] as const) {
      const [, record] = keysOf(clientPrefix, prefix, "key") as ReadonlyArray<string>
      expect(record).toMatch(/^[{x]*[0-7]{6}\}:\{key\}:lock-record$/)
    }
    for (const name of (keysOf("{}", "", "k") as ReadonlyArray<string>).slice(1)) {
      expect(name).toMatch(/^[0-7]{6}\{k\}:lock-\w+$/)
    }
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

describe("keyNamed", () => {
  it("finds the key by its own name and by those of its queue and its last tick, and by nothing else that is its", () => {
    let accepted = 0
    fc.assert(
      fc.property(prefix, prefix, key, (clientPrefix, prefix, key) => {
        const keys = lockKeys(clientPrefix, prefix, key, true)
        const bound = lockKeys(clientPrefix, prefix, key, false, true)
        if (typeof keys === "string") return
        accepted++
        const found = keys.map((sent) => keyNamed(clientPrefix, prefix, clientPrefix + sent))
        expect(found).toEqual([key, undefined, key, undefined, undefined, undefined])
        expect(keyNamed(clientPrefix, prefix, clientPrefix + bound[4])).toBe(key)
        const revoked = clientPrefix + revokedKey(clientPrefix, prefix, key)
        expect(keyNamed(clientPrefix, prefix, revoked)).toBe(undefined)
      }),
      { numRuns: 5_000 }
    )
    expect(accepted).toBeGreaterThan(4_900)
  })

  it("takes nothing for a key that is not below the prefixes, or is no queue of ours", () => {
    expect(keyNamed("c:", "p:", "c:p:")).toBe(undefined)
    expect(keyNamed("c:", "p:", "c:other")).toBe(undefined)
    expect(keyNamed("c:", "p:", "p:c:key")).toBe(undefined)
    expect(keyNamed("", "", ":lock-queue")).toBe(undefined)
    expect(keyNamed("", "", "a:lock-queue")).toBe(undefined)
    // (another prefix, of which this one is the beginning)
    expect(keyNamed("", "p:", "p:{other:a}:lock-queue")).toBe(undefined)
    expect(keyNamed("", "p:", "p:{other:a}:lock-tick")).toBe(undefined)
  })
})
