/** What tests use of `@effect/vitest`, which for Effect 4 needs a later vitest. */
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Scheduler from "effect/Scheduler"
import * as Scope from "effect/Scope"
import * as TestClock from "effect/testing/TestClock"
import { afterAll, beforeAll, describe, it as plain } from "vitest"

export * from "vitest"

// a fiber's own names
Object.assign(Object.getPrototypeOf(Effect.runFork(Effect.void)), {
  unsafePoll(this: Fiber.Fiber<unknown, unknown>) {
    return this.pollUnsafe() ?? null
  },
  unsafeInterruptAsFork(this: Fiber.Fiber<unknown, unknown>) {
    this.interruptUnsafe()
  }
})

type Test = (...args: ReadonlyArray<unknown>) => Effect.Effect<unknown, unknown, never>
type Options = number | { readonly timeout?: number }

/** Fibers yield so often, where a run asks for that. */
const maxOps = Number(process.env.MAX_OPS ?? 2048)

const testers = (provide: (test: ReturnType<Test>) => ReturnType<Test>, hasOwnClock: boolean) => {
  const tester = (clock: Layer.Layer<never>) => {
    const run = (test: Test, ...args: ReadonlyArray<unknown>) =>
      Effect.suspend(() => test(...args)).pipe(
        Effect.scoped,
        Effect.provide(clock),
        provide,
        Effect.provideService(Scheduler.MaxOpsBeforeYield, maxOps),
        Effect.asVoid,
        Effect.runPromise
      )
    return Object.assign(
      (name: string, test: Test, options?: Options) =>
        plain(name, options as never, (context) => run(test, context)),
      {
        each: (cases: ReadonlyArray<unknown>) => (name: string, test: Test, options?: Options) =>
          plain.for(cases)(name, options as never, (value, context) => run(test, value, context))
      }
    )
  }
  const live = tester(Layer.empty)
  const onTestClock = hasOwnClock
    ? tester(TestClock.layer() as unknown as Layer.Layer<never>)
    : live
  return Object.assign((...args: Parameters<typeof plain>) => plain(...args), plain, {
    effect: onTestClock,
    scoped: onTestClock,
    live,
    scopedLive: live
  })
}

export const it = testers((test) => test, true)

/** A layer that is built once for several tests. */
export const layer =
  (given: Layer.Layer<unknown, unknown>, { excludeTestServices = false, timeout = 30_000 } = {}) =>
  (
    ...[first, second]:
      | [string, (it: ReturnType<typeof testers>) => void]
      | [(it: ReturnType<typeof testers>) => void]
  ) => {
    const suite = () => {
      const scope = Scope.makeUnsafe()
      let context: Context.Context<unknown>
      beforeAll(async () => {
        const services = excludeTestServices ? given : Layer.provideMerge(given, TestClock.layer())
        context = await Effect.runPromise(
          Layer.buildWithScope(services, scope) as Effect.Effect<Context.Context<unknown>>
        )
      }, timeout)
      afterAll(() => Effect.runPromise(Scope.close(scope, Exit.void)), timeout)
      const define = (second ?? first) as (it: ReturnType<typeof testers>) => void
      define(testers((test) => Effect.provide(test, context) as ReturnType<Test>, false))
    }
    return typeof first === "string" ? describe(first, suite) : suite()
  }
