/** What tests use of @effect/vitest, whose edition for Effect 4 asks for a later vitest. */
import type * as Context from "effect4/Context"
import * as Effect from "effect4/Effect"
import * as Exit from "effect4/Exit"
import * as Layer from "effect4/Layer"
import * as Scope from "effect4/Scope"
import * as TestClock from "effect4/testing/TestClock"
import { afterAll, beforeAll, describe, it as plain, type TestOptions } from "vitest"

export * from "vitest"

type Run = (effect: Effect.Effect<unknown, unknown, Scope.Scope>) => Promise<void>

const live: Run = (effect) => Effect.runPromise(Effect.asVoid(Effect.scoped(effect)))

const byTestClock: Run = (effect) =>
  live(Effect.provide(effect, TestClock.layer()) as typeof effect)

type Test<Case> = (of: Case) => Effect.Effect<unknown, unknown, never>

const runner = (run: Run) => {
  const one = (name: string, test: Test<unknown>, options?: number | TestOptions): void =>
    plain(name, () => run(Effect.suspend(() => test(undefined))), options as number)
  const each =
    <Case>(cases: ReadonlyArray<Case>) =>
    (name: string, test: Test<Case>, timeout?: number): void =>
      plain.for(cases)(name, timeout === undefined ? {} : { timeout }, (of) =>
        run(Effect.suspend(() => test(of)))
      )
  return Object.assign(one, { each })
}

const testing = (run: Run, live: Run) => ({
  effect: runner(run),
  scoped: runner(run),
  live: runner(live),
  scopedLive: runner(live)
})

export const it = Object.assign(plain.bind(undefined), plain, testing(byTestClock, live))

interface Options {
  readonly excludeTestServices?: boolean
}

/** Tests that share what the layer makes. */
export const layer =
  <R, E>(of: Layer.Layer<R, E>, { excludeTestServices = false }: Options = {}) =>
  (
    ...args: readonly [string, (tests: typeof it) => void] | readonly [(tests: typeof it) => void]
  ) => {
    const tests = args.length === 1 ? args[0] : args[1]
    const given = excludeTestServices ? of : Layer.provideMerge(of, TestClock.layer())
    const group = () => {
      const scope = Scope.makeUnsafe()
      let context: Context.Context<R>
      beforeAll(async () => {
        context = await Effect.runPromise(
          Layer.buildWithScope(given, scope) as Effect.Effect<Context.Context<R>, E>
        )
      })
      afterAll(() => Effect.runPromise(Scope.close(scope, Exit.void)))
      const run: Run = (effect) => live(Effect.provide(effect, context) as typeof effect)
      tests(Object.assign(plain.bind(undefined), plain, testing(run, run)))
    }
    if (args.length === 1) group()
    else describe(args[0], group)
  }
