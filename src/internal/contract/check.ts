/** What the cases of the store contract fail with, and how they look at a store. */
import * as Cause from "effect/Cause"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Scope from "effect/Scope"
import { inspect, isDeepStrictEqual } from "node:util"
import type { NotOurs } from "../faces/lockStore.js"

/**
 * A store does not do what a `LockStore` promises.
 *
 * @since 0.1.0
 * @category errors
 */
export class ContractBroken extends Data.TaggedError("ContractBroken")<{
  /** What a store promises. */
  readonly promise: string
  readonly expected: string
  readonly found: string
  /** The error that was found, if it was one. */
  readonly cause?: unknown
}> {
  override get message(): string {
    return `${this.promise}: expected ${this.expected}, found ${this.found}.`
  }
}

const show = (value: unknown): string =>
  value instanceof Error
    ? `${value.name}: ${value.message.replace(/\.$/, "")}`
    : Exit.isExit(value)
      ? Exit.match(value, {
          onSuccess: () => "success",
          onFailure: (cause) => show(Cause.squash(cause))
        })
      : inspect(value, { depth: 4, breakLength: Number.POSITIVE_INFINITY }).slice(0, 1_000)

/** `expected`: in words. */
export const broken = (promise: string, expected: string, found: unknown): ContractBroken =>
  new ContractBroken({
    promise,
    expected,
    found: show(found),
    ...(found instanceof Error ? { cause: found } : {})
  })

/** Fails with that. */
export const breaks = (
  promise: string,
  expected: string,
  found: unknown
): Effect.Effect<never, ContractBroken> => Effect.fail(broken(promise, expected, found))

type Checked<A = void> = Effect.Effect<A, ContractBroken>

/** Found what was expected, where that is something else than a value. */
export const holds = (
  promise: string,
  condition: boolean,
  expected: string,
  found: unknown
): Checked => (condition ? Effect.void : breaks(promise, expected, found))

export const equal = (promise: string, found: unknown, expected: unknown): Checked =>
  holds(promise, isDeepStrictEqual(found, expected), show(expected), found)

export const oneOf = (promise: string, found: unknown, expected: ReadonlyArray<unknown>): Checked =>
  holds(promise, expected.includes(found), expected.map(show).join(" or "), found)

export const atLeast = (promise: string, found: number, least: number): Checked =>
  holds(promise, found >= least, `${least} or more`, found)

export const atMost = (promise: string, found: number, most: number): Checked =>
  holds(promise, found <= most, `${most} or less`, found)

/** What `verify` and `release` can answer of a lease that is over. */
export const notOurs: ReadonlyArray<NotOurs> = ["Missing", "Taken", "Revoked"]

/** It must not fail. */
export const succeeds = <A, E, R>(
  promise: string,
  effect: Effect.Effect<A, E, R>
): Effect.Effect<A, ContractBroken, R> =>
  Effect.mapError(effect, (found) => broken(promise, "no error", found))

/** It must fail; answers with what. */
export const fails = <A, E, R>(
  promise: string,
  effect: Effect.Effect<A, E, R>
): Effect.Effect<E, ContractBroken, R> =>
  // (not what it succeeded with: a grant has a token)
  Effect.mapError(Effect.flip(effect), () => broken(promise, "an error", Exit.void))

/** In a fiber that belongs to nobody. */
export const detached = <A, E, R>(
  effect: Effect.Effect<A, E, R>
): Effect.Effect<Fiber.Fiber<A, E>, never, R> =>
  Effect.flatMap(Scope.make(), (scope) => Effect.forkIn(effect, scope))

/** It must be over by then; also where it cannot be interrupted. */
export const within = <A, E, R>(
  promise: string,
  millis: number,
  effect: Effect.Effect<A, E, R>
): Effect.Effect<A, E | ContractBroken, R> => {
  const late = Effect.flatMap(Effect.sleep(millis), () =>
    Effect.fail(
      new ContractBroken({ promise, expected: `an end within ${millis} ms`, found: "no end" })
    )
  )
  return Effect.flatMap(detached(effect), (fiber) =>
    Effect.onExit(Effect.raceFirst(Fiber.join(fiber), late), () => detached(Fiber.interrupt(fiber)))
  )
}
