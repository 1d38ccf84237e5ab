import { expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Register from "./Register.js"

const write = (section: string, fence: number, phase: "enter" | "middle" | "exit" = "enter") => ({
  key: "k",
  section,
  worker: "a",
  phase,
  fence,
  floor: fence,
  hold: 1
})

it.scopedLive("the register refuses a smaller token than it has seen, and says who is inside", () =>
  Effect.gen(function* () {
    const register = yield* Register.listen
    const [a, b] = yield* Effect.all([
      Register.connect(register.port),
      Register.connect(register.port)
    ])
    expect(yield* a(write("a/1", 1))).toBe(true)
    expect(yield* b(write("b/1", 2))).toBe(true)
    expect(register.inside("k").map(({ section }) => section)).toEqual(["b/1"])
    expect(yield* a(write("a/1", 1, "middle"))).toBe(false)
    expect(yield* a({ ...write("a/1", 1, "middle"), key: "other" })).toBe(true)
    expect(yield* b(write("b/1", 2, "exit"))).toBe(true)
    expect(register.inside("k")).toEqual([])
    const decided = register.take().map((event) => event._tag === "Write" && event.accepted)
    expect(decided).toEqual([true, true, false, true, true])
    expect(register.take()).toEqual([])
  })
)

it("where several hold a key, the register refuses what is below the greatest floor", () => {
  const register = Register.make()
  expect(register.write(write("a/1", 1))).toBe(true)
  expect(register.write({ ...write("b/1", 2), floor: 1 })).toBe(true)
  expect(register.write(write("a/1", 1, "middle"))).toBe(true)
  expect(register.inside("k").map(({ section }) => section)).toEqual(["a/1", "b/1"])
  expect(register.write({ ...write("c/1", 3), floor: 2 })).toBe(true)
  expect(register.inside("k").map(({ section }) => section)).toEqual(["c/1", "b/1"])
  expect(register.write(write("a/1", 1, "exit"))).toBe(false)
  expect(register.write({ ...write("b/1", 2, "exit"), floor: 1 })).toBe(true)
  // a floor above its own token is nobody's
  expect(register.write({ ...write("d/1", 4), floor: 5 })).toBe(false)
})
