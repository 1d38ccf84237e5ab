/** What is remembered of a key, and how much. */
import { describe, expect, it } from "@effect/vitest"
import * as DateTime from "effect/DateTime"
import type { LockInspector } from "effect-redis-lock"
import { History } from "../../../src/internal/inspector/history.js"

const change = (
  _tag: LockInspector.Change["_tag"],
  at: number,
  id: string,
  {
    key = "k",
    since = at,
    ...more
  }: Partial<Record<"key" | "mode", string>> & { since?: number } = {}
): LockInspector.Change => {
  const one = { id, owner: id, mode: "exclusive", since: DateTime.unsafeMake(since), ...more }
  const which = _tag === "Queued" || _tag === "Left" ? { pending: one } : { held: one }
  const all = { _tag, key, kind: "lock", at: DateTime.unsafeMake(at), initial: false, ...which }
  return all as unknown as LockInspector.Change
}

const told = (history: History, key = "k") =>
  history.of(key).map(({ end, from, owner, to, what }) => [what, owner, from, to, end])

describe("the history of a key", () => {
  it("is who waited and who held it, from when to when, and how that ended", () => {
    const history = new History()
    for (const one of [
      change("Granted", 10, "a", { since: 5 }),
      change("Queued", 12, "b", { since: 11 }),
      change("Queued", 13, "c"),
      change("Left", 20, "c"),
      change("Expired", 30, "a"),
      change("Granted", 30, "b", { since: 29 }),
      change("Lost", 40, "b"),
      change("Granted", 41, "d"),
      // (it has become a reader)
      change("Granted", 45, "d", { mode: "shared", since: 41 }),
      change("Released", 50, "d")
    ]) {
      history.note(one)
    }
    expect(told(history)).toEqual([
      ["held", "a", 5, 30, "expired"],
      ["waited", "b", 11, 29, "granted"],
      ["waited", "c", 13, 20, "left"],
      ["held", "b", 29, 40, "freed by force"],
      ["held", "d", 41, 45, "changed"],
      ["held", "d", 45, 50, "released"]
    ])
    expect(told(history, "other")).toEqual([])
  })

  it("forgets what was over an hour ago, and not what goes on", () => {
    const history = new History()
    history.note(change("Granted", 0, "long"))
    history.note(change("Granted", 0, "a"))
    history.note(change("Released", 1_000, "a"))
    history.forget(3_600_999)
    expect(told(history).length).toBe(2)
    history.forget(3_601_000)
    expect(told(history)).toEqual([["held", "long", 0, null, null]])
  })

  it("is bounded, of a key and of all keys", () => {
    const history = new History()
    history.note(change("Granted", 0, "long"))
    for (let at = 1; at <= 1_000; at++) {
      history.note(change("Granted", at, `${at}`))
      history.note(change("Released", at, `${at}`))
    }
    const all = told(history)
    expect(all.length).toBe(200)
    expect([all[0]![1], all[1]![1], all.at(-1)![1]]).toEqual(["long", "802", "1000"])
    for (let at = 0; at < 60_000; at++) history.note(change("Granted", at, "a", { key: `k${at}` }))
    expect(told(history)).toEqual([])
    expect(told(history, "k59999").length).toBe(1)
    const kept = Array.from({ length: 60_000 }, (_, at) => told(history, `k${at}`).length)
    expect(kept.reduce((sum, count) => sum + count, 0)).toBe(50_000)
  })
})
