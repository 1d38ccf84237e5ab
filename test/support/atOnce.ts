/**
 * Tests that run at the same time, each with what it needs for itself: most of a test is waiting. Not for
 * what blocks the event loop, or counts what is in the whole process.
 *
 * @example
 * ```ts
 * atOnce(RedisServer.layer())("a silent network", (it) => {
 *   it.scoped("interrupts the body in time", () => …)
 * })
 * ```
 */
import { describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"

export interface Tests<R> {
  readonly scoped: <A, E>(
    name: string,
    test: () => Effect.Effect<A, E, R | Scope.Scope>,
    timeout?: number | { readonly timeout: number }
  ) => void
}

export const atOnce =
  <R, E>(own: Layer.Layer<R, E>) =>
  (name: string, define: (it: Tests<R>) => void): void => {
    // oxlint-disable-next-line vitest/valid-title
    describe.concurrent(name, () => {
      define({
        scoped: (name, test, timeout) =>
          it.scopedLive(
            name,
            // (built in the test's scope: what the test has acquired is let go first)
            () => Effect.flatMap(Layer.build(own), (context) => Effect.provide(test(), context)),
            timeout
          )
      })
    })
  }
