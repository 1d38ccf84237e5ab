import * as Clock from "effect4/Clock"
import * as Deferred from "effect4/Deferred"
import * as Effect from "effect4/Effect"
import type * as Context from "effect4/Context"
import { dual } from "effect4/Function"
import * as Semaphore from "effect4/Semaphore"

export * from "effect4/Effect"

export const async = Effect.callback
export const catchAll = Effect.catch
export const catchAllCause = Effect.catchCause
export const intoDeferred = Deferred.into
export const either = <A, E, R>(self: Effect.Effect<A, E, R>) =>
  Effect.match(self, {
    onFailure: (left) => ({ _tag: "Left" as const, left }),
    onSuccess: (right) => ({ _tag: "Right" as const, right })
  })
export const fork = Effect.forkChild
export const forkDaemon = Effect.forkDetach
export const tapErrorCause = Effect.tapCause
export const yieldNow = () => Effect.yieldNow
export const zipRight = Effect.andThen

export const zipLeft: {
  <B, E2, R2>(
    that: Effect.Effect<B, E2, R2>
  ): <A, E, R>(self: Effect.Effect<A, E, R>) => Effect.Effect<A, E | E2, R | R2>
  <A, E, R, B, E2, R2>(
    self: Effect.Effect<A, E, R>,
    that: Effect.Effect<B, E2, R2>
  ): Effect.Effect<A, E | E2, R | R2>
} = dual(2, <A, E, R, B, E2, R2>(self: Effect.Effect<A, E, R>, that: Effect.Effect<B, E2, R2>) =>
  Effect.tap(self, () => that)
)

export const repeatN: {
  (times: number): <A, E, R>(self: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>
  <A, E, R>(self: Effect.Effect<A, E, R>, times: number): Effect.Effect<A, E, R>
} = dual(2, <A, E, R>(self: Effect.Effect<A, E, R>, times: number) =>
  Effect.repeat(self, { times })
)

export const dieMessage = (message: string): Effect.Effect<never> => Effect.die(new Error(message))

/** Also of what is no effect. */
export const tap: {
  <A>(f: (a: A) => unknown): <E, R>(self: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>
  <A, E, R>(self: Effect.Effect<A, E, R>, f: (a: A) => unknown): Effect.Effect<A, E, R>
} = dual(2, <A, E, R>(self: Effect.Effect<A, E, R>, f: (a: A) => unknown) =>
  Effect.tap(self, (a) => {
    const done = f(a)
    return Effect.isEffect(done) ? (done as Effect.Effect<unknown>) : Effect.void
  })
)

export const unsafeMakeSemaphore = Semaphore.makeUnsafe

/** A `Clock` as Effect 3 has it. */
interface NamedClock {
  readonly unsafeCurrentTimeMillis: () => number
  readonly unsafeCurrentTimeNanos: () => bigint
  readonly currentTimeMillis: Effect.Effect<number>
  readonly currentTimeNanos: Effect.Effect<bigint>
  readonly sleep: Clock.Clock["sleep"]
}

export const clock: Effect.Effect<NamedClock> = Effect.clockWith((clock) =>
  Effect.succeed({
    unsafeCurrentTimeMillis: () => clock.currentTimeMillisUnsafe(),
    unsafeCurrentTimeNanos: () => clock.currentTimeNanosUnsafe(),
    currentTimeMillis: clock.currentTimeMillis,
    currentTimeNanos: clock.currentTimeNanos,
    sleep: (duration) => clock.sleep(duration)
  })
)

export const withClock = <A, E, R>(
  effect: Effect.Effect<A, E, R>,
  clock: NamedClock
): Effect.Effect<A, E, R> =>
  Effect.provideService(effect, Clock.Clock, {
    currentTimeMillisUnsafe: clock.unsafeCurrentTimeMillis,
    currentTimeNanosUnsafe: clock.unsafeCurrentTimeNanos,
    monotonicTimeNanosUnsafe: clock.unsafeCurrentTimeNanos,
    currentTimeMillis: clock.currentTimeMillis,
    currentTimeNanos: clock.currentTimeNanos,
    monotonicTimeNanos: clock.currentTimeNanos,
    sleep: clock.sleep
  })

/** What is local to a fiber is a reference in its context here. */
export const locally = <A, E, R, S>(
  effect: Effect.Effect<A, E, R>,
  reference: Context.Reference<S>,
  value: S
): Effect.Effect<A, E, R> => Effect.provideService(effect, reference, value)

export const orDieWith: {
  <E>(f: (error: E) => unknown): <A, R>(self: Effect.Effect<A, E, R>) => Effect.Effect<A, never, R>
  <A, E, R>(self: Effect.Effect<A, E, R>, f: (error: E) => unknown): Effect.Effect<A, never, R>
} = dual(2, <A, E, R>(self: Effect.Effect<A, E, R>, f: (error: E) => unknown) =>
  Effect.orDie(Effect.mapError(self, f))
)
