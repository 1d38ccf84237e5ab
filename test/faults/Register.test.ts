import { expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Register from "./Register.js"

const write = (section: string, fence: number, phase: "enter" | "middle" | "exit" = "enter") => ({
  key: "k",
  section,
  worker: "a",
  phase,
  fence,
  fenced: true,
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
    expect(register.inside("k")?.section).toBe("b/1")
    expect(yield* a(write("a/1", 1, "middle"))).toBe(false)
    expect(yield* a({ ...write("a/1", 1, "middle"), key: "other" })).toBe(true)
    expect(yield* a({ ...write("a/1", 1, "exit"), fenced: false })).toBe(true)
    expect(yield* b(write("b/1", 2, "exit"))).toBe(true)
    expect(register.inside("k")).toBeUndefined()
    const decided = register.take().map((event) => event._tag === "Write" && event.accepted)
    expect(decided).toEqual([true, true, false, true, true, true])
    expect(register.take()).toEqual([])
  })
)
