import { expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as ExecutionStrategy from "effect/ExecutionStrategy"
import * as Exit from "effect/Exit"
import * as FiberRef from "effect/FiberRef"
import * as Scope from "effect/Scope"
import { Lock, MemoryLockStore } from "effect-redis-lock"
import { currentHolds } from "../../src/internal/face/currentHolds.js"

const known = Effect.map(FiberRef.get(currentHolds), (holds) => {
  let count = 0
  for (let one = holds; one !== undefined; one = one.others) count++
  return count
})

it.scoped(
  "a fiber that always has a lease knows of those that it has, and of one more at most",
  () =>
    Effect.gen(function* () {
      const scope = yield* Effect.scope
      let last: Scope.CloseableScope | undefined
      for (let index = 0; index < 1_000; index++) {
        const next = yield* Scope.fork(scope, ExecutionStrategy.sequential)
        yield* Scope.extend(Lock.acquire(`hand-over-hand-${index}`), next)
        if (last !== undefined) yield* Scope.close(last, Exit.void)
        last = next
        expect(yield* known).toBeLessThanOrEqual(2)
        if (index < 500) continue
        // (joined)
        yield* Lock.withLock(`inside-${index}`)(FiberRef.set(touched, index))
        expect(yield* known).toBeLessThanOrEqual(2)
      }
    }).pipe(Effect.provide(MemoryLockStore.layer))
)

const touched = FiberRef.unsafeMake(0)
