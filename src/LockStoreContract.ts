/**
 * What every `LockStore` promises, as a list of effects to run against yours. It needs no test runner
 * of a certain kind: a case has a name, and an effect that fails with `ContractBroken` where the store
 * does not do what it should. The stores of this package pass it.
 *
 * @example
 * ```ts
 * import { Effect, type Layer } from "effect"
 * import type { LockStore } from "effect-redis-lock"
 * import * as LockStoreContract from "effect-redis-lock/LockStoreContract"
 * import { test } from "node:test"
 *
 * declare const MyStore: Layer.Layer<LockStore.LockStore>
 *
 * for (const { effect, name, timeoutMillis } of LockStoreContract.cases({ capabilities: ["look"] })) {
 *   test(name, { timeout: timeoutMillis }, () => Effect.runPromise(Effect.provide(effect, MyStore)))
 * }
 * ```
 *
 * This module has an import path of its own, and is not part of the package's index: it is for tests.
 *
 * @since 0.1.0
 */
import "./internal/with-effect-4-import/effect-redis-lock/effect4.js"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import { casesOf } from "./internal/contract/cases.js"
import type { ContractBroken } from "./internal/contract/check.js"
import { type Capability, LockStore } from "./LockStore.js"

export {
  /**
   * A store does not do what is promised. The message says what that is, what was expected, and what
   * was found.
   *
   * @since 0.1.0
   * @category errors
   */
  ContractBroken
} from "./internal/contract/check.js"

/**
 * A promise, and a program that finds out whether a store keeps it.
 *
 * @since 0.1.0
 * @category models
 */
export interface Case {
  /** What is promised: of which kind of lock, and a sentence. */
  readonly name: string
  /**
   * Fails if the promise is broken, or if it is not known after some 20 seconds. It runs by the live
   * `Clock`, whichever the test has, since ttls pass: a store that follows Effect's `Clock` must be made
   * under the live one. It uses keys of its own, and gives back what it has taken (those of the cases for
   * `holdAtLeast` stay held for up to 8 seconds more): all cases may share a store, also at the same
   * time.
   */
  readonly effect: Effect.Effect<void, ContractBroken, LockStore>
  /** A limit for the test runner, in milliseconds: a little more than the effect's own. */
  readonly timeoutMillis: number
}

/**
 * What the store is to be tried for.
 *
 * @since 0.1.0
 * @category models
 */
export interface Options {
  /**
   * What the store can do beyond plain locks: its `capabilities`. There are cases for each. Default:
   * none.
   */
  readonly capabilities?: Iterable<Capability> | undefined
}

/**
 * The cases for a store with those capabilities. A store is an argument as well: `cases(store)`.
 *
 * @since 0.1.0
 * @category constructors
 */
export const cases = ({ capabilities }: Options = {}): ReadonlyArray<Case> =>
  casesOf(new Set(capabilities), {
    store: LockStore,
    live: (effect) => Effect.withClock(effect, liveClock)
  })

const liveClock = Clock.make()
