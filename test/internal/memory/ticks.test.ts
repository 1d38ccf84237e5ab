import { expect, it } from "vitest"
import type { Claim } from "../../../src/internal/engine.js"
import { Ticks } from "../../../src/internal/memory/ticks.js"

const claimOf = (key: string, tick: number, tickKeptMillis: number): Claim => ({
  key,
  kind: "lock",
  share: 1,
  limit: 1,
  ttlMillis: 1_000,
  waitMillis: 0,
  owner: undefined,
  tick,
  tickKeptMillis
})

it("ticks whose time is over are forgotten, also of keys that nobody asks for again", () => {
  const ticks = new Ticks()
  const { last } = ticks as unknown as { readonly last: ReadonlyMap<string, unknown> }
  for (let now = 0; now < 10_000; now++) {
    ticks.granted(claimOf(`key ${now}`, 1, 100), "token", now)
    // (one that is kept for long is in the way only until it is granted again)
    if (now % 50 === 0) ticks.granted(claimOf("long", now, 1_000), "token", now)
    expect(last.size).toBeLessThan(250)
  }
  expect(ticks.refusing(claimOf("long", 1, 0), 10_000)).toBe(9_950)
  expect(ticks.refusing(claimOf("key 9950", 1, 0), 10_000)).toBe(1)
  expect(ticks.refusing(claimOf("key 9800", 1, 0), 10_000)).toBeUndefined()
})
