/**
 * The order in which waiters are served, told to the memory store in the same random stories as to
 * Redis (test/redis/queueOrder.test.ts). Expiries: test/MemoryLockStore.test.ts, on a TestClock.
 */
import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Scope from "effect/Scope"
import { Lock, MemoryLockStore, type Lease } from "effect-redis-lock"
import * as fc from "fast-check"
import { exitOf, settle } from "./support/fibers.js"
import * as Judge from "./support/Judge.js"
import { type Command, Model, replay, runs, stories } from "./support/queueModel.js"

const key = "key"

const play = (commands: ReadonlyArray<Command>) =>
  Effect.gen(function* () {
    const model = new Model()
    const served: Array<number> = []
    const fences: Array<number> = []
    const callers: Array<{
      readonly scope: Scope.CloseableScope
      readonly fiber: Fiber.RuntimeFiber<Lease.Lease, unknown>
    }> = []
    const state = ({ fiber }: (typeof callers)[number]) => {
      const exit = exitOf(fiber)
      return exit === null ? "waiting" : Exit.isSuccess(exit) ? "granted" : "cancelled"
    }
    for (const command of commands) {
      switch (command._tag) {
        case "Arrive": {
          model.arrive(0)
          const scope = yield* Scope.make()
          const who = callers.length
          const acquire = Effect.tap(Lock.acquire(key), (lease) =>
            Effect.sync(() => {
              served.push(who)
              fences.push(lease.fencingToken)
            })
          )
          callers.push({ scope, fiber: yield* Effect.fork(Scope.extend(acquire, scope)) })
          break
        }
        case "Cancel": {
          const { waiting } = model
          if (waiting.length === 0) continue
          const who = waiting[command.who % waiting.length]!
          model.cancel(who)
          yield* Fiber.interrupt(callers[who]!.fiber)
          break
        }
        default: {
          const { holder } = model
          if (holder === undefined) continue
          model.end()
          yield* Scope.close(callers[holder]!.scope, Exit.void)
        }
      }
      yield* settle
      expect(callers.map(state)).toEqual(model.callers.map((caller) => caller.state))
      expect(served).toEqual(model.grants)
      expect(fences).toEqual([...new Set(fences)].sort((a, b) => a - b))
    }
    for (const { fiber, scope } of callers) {
      yield* Fiber.interruptFork(fiber)
      yield* Scope.close(scope, Exit.void)
    }
    yield* settle
    yield* Effect.scoped(Lock.tryAcquire(key))
    return served.length
  })

describe("the queue in memory", () => {
  it.live(
    "serves arrivals in their order, whoever leaves",
    () =>
      Effect.promise(async () => {
        let grants = 0
        await fc.assert(
          fc.asyncProperty(stories(1, false), async (commands) => {
            grants += await Effect.runPromise(
              play(commands).pipe(Effect.provide(MemoryLockStore.layer))
            )
          }),
          { numRuns: runs(200), ...replay() }
        )
        expect(grants).toBeGreaterThan(replay().path === undefined ? 500 : -1)
      }),
    runs(30_000)
  )

  it.live("has one holder at a time, and starves nobody, in a crowd that comes and goes", () =>
    Effect.gen(function* () {
      const judge = Judge.referee()
      const counts = new Map<number, number>()
      const turn = (who: number) =>
        Lock.withLock(key)((lease) =>
          Effect.acquireUseRelease(
            Effect.sync(() => judge.enter(lease.fencingToken)),
            () => Effect.yieldNow(),
            () =>
              Effect.sync(() => {
                judge.exit(lease.fencingToken)
                counts.set(who, (counts.get(who) ?? 0) + 1)
              })
          )
        )
      yield* Effect.forEach(
        Array.from({ length: 50 }, (_, who) => who),
        (who) =>
          // every third one loses its patience now and then
          who % 3 === 0
            ? Effect.repeatN(Effect.timeoutOption(turn(who), who / 10), 19)
            : Effect.repeatN(turn(who), 19),
        { concurrency: "unbounded", discard: true }
      )
      expect(judge.verdict()).toEqual([])
      for (let who = 0; who < 50; who++) if (who % 3 !== 0) expect(counts.get(who)).toBe(20)
      yield* Effect.scoped(Lock.tryAcquire(key))
    }).pipe(Effect.provide(MemoryLockStore.layer))
  )
})
