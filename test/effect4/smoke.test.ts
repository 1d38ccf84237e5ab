import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import { describe, expect, it } from "vitest"
import * as Lock from "../../src/effect4/Lock.js"
import * as MemoryLockStore from "../../src/effect4/MemoryLockStore.js"

const run = <A, E>(effect: Effect.Effect<A, E, never>) => Effect.runPromise(effect)

describe("Lock on Effect 4", () => {
  it("runs one at a time, in order", () =>
    run(
      Effect.gen(function* () {
        const seen: Array<number> = []
        let inside = 0
        yield* Effect.all(
          [1, 2, 3].map((n) =>
            Lock.withLock("k")(
              Effect.gen(function* () {
                expect(++inside).toBe(1)
                yield* Effect.sleep(5)
                seen.push(n)
                inside--
              })
            )
          ),
          { concurrency: "unbounded" }
        )
        expect(seen).toEqual([1, 2, 3])
      }).pipe(Effect.provide(MemoryLockStore.layer))
    ))
  it("gives back at an interruption", () =>
    run(
      Effect.gen(function* () {
        const fiber = yield* Effect.forkChild(Lock.withLock("k")(Effect.never))
        yield* Effect.sleep(5)
        yield* Fiber.interrupt(fiber)
        const exit = yield* Effect.exit(Effect.scoped(Lock.tryAcquire("k")))
        expect(Exit.isSuccess(exit)).toBe(true)
      }).pipe(Effect.provide(MemoryLockStore.layer))
    ))
  it("interrupts the body at a loss", () =>
    run(
      Effect.gen(function* () {
        const exit = yield* Effect.exit(
          Lock.withLock("k")((lease) =>
            Effect.gen(function* () {
              expect(yield* Lock.forceRelease("k", lease.fencingToken)).toBe(true)
              return yield* Effect.never
            })
          )
        )
        expect(Exit.isFailure(exit) && exit.cause.reasons.length).toBe(1)
      }).pipe(Effect.provide(MemoryLockStore.layer))
    ))
})
