import * as Clock from "effect/Clock"
import type * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import { dual } from "effect/Function"
import * as Metric from "effect/Metric"
import * as Option from "effect/Option"
import * as References from "effect/References"
import * as Scheduler from "effect/Scheduler"
import * as Scope from "effect/Scope"
import * as Semaphore from "effect/Semaphore"

export * from "effect/Effect"

type Any = Effect.Effect<unknown, unknown, unknown>

export const async = Effect.callback
export const catchAll = Effect.catch
export const catchAllCause = Effect.catchCause
export const tapErrorCause = Effect.tapCause
export const fork = Effect.forkChild
export const forkDaemon = Effect.forkDetach
export const either = Effect.result
export const runtime = Effect.context
export const mapInputContext = Effect.updateContext
export const dieMessage = (message: string) => Effect.die(new Error(message))
export const yieldNow = () => Effect.yieldNow
export const withFiberRuntime = Effect.withFiber
export const unsafeMakeSemaphore = Semaphore.makeUnsafe
export const checkInterruptible = Effect.withFiber((fiber) =>
  Effect.succeed((fiber as unknown as { readonly interruptible: boolean }).interruptible)
)
export const logAnnotations = Effect.map(References.CurrentLogAnnotations, (all) =>
  Object.entries(all)
)

export const zipRight: {
  (that: Any): (self: Any) => Any
  (self: Any, that: Any): Any
} = dual(2, (self: Any, that: Any) => Effect.flatMap(self, () => that))

export const zipLeft: {
  (that: Any): (self: Any) => Any
  (self: Any, that: Any): Any
} = dual(2, (self: Any, that: Any) => Effect.tap(self, that))

export const locally: {
  <A>(reference: Context.Reference<A>, value: A): (self: Any) => Any
  <A>(self: Any, reference: Context.Reference<A>, value: A): Any
} = dual(3, <A>(self: Any, reference: Context.Reference<A>, value: A) =>
  Effect.provideService(self, reference, value)
)

export const orDieWith: {
  (f: (error: unknown) => unknown): (self: Any) => Any
  (self: Any, f: (error: unknown) => unknown): Any
} = dual(2, (self: Any, f: (error: unknown) => unknown) => Effect.orDie(Effect.mapError(self, f)))

export const repeatN: {
  (times: number): (self: Any) => Any
  (self: Any, times: number): Any
} = dual(2, (self: Any, times: number) => Effect.repeat(self, { times }))

export const merge = (self: Any) =>
  Effect.match(self, { onFailure: (error) => error, onSuccess: (value) => value })

export const intoDeferred: {
  (deferred: Deferred.Deferred<unknown, unknown>): (self: Any) => Any
  (self: Any, deferred: Deferred.Deferred<unknown, unknown>): Any
} = dual(2, (self: Any, deferred: Deferred.Deferred<unknown, unknown>) =>
  Deferred.into(self, deferred)
)

export const timeoutTo: {
  (options: {
    readonly duration: string
    readonly onSuccess: (value: unknown) => unknown
    readonly onTimeout: () => unknown
  }): (self: Any) => Any
} =
  ({ duration, onSuccess, onTimeout }) =>
  (self) =>
    Effect.map(
      Effect.timeoutOption(self, duration as never),
      Option.match({ onNone: onTimeout, onSome: onSuccess })
    )

export const tagMetrics: {
  (key: string, value: string): (self: Any) => Any
  (self: Any, key: string, value: string): Any
} = dual(3, (self: Any, key: string, value: string) =>
  Effect.flatMap(Metric.CurrentMetricAttributes, (attributes) =>
    Effect.provideService(self, Metric.CurrentMetricAttributes, { ...attributes, [key]: value })
  )
)

interface Supervisor {
  readonly service: Metric.FiberRuntimeMetricsService
}

export const supervised: {
  (supervisor: Supervisor): (self: Any) => Any
  (self: Any, supervisor: Supervisor): Any
} = dual(2, (self: Any, { service }: Supervisor) =>
  Effect.provideService(self, Metric.FiberRuntimeMetrics, service)
)

export const parallelFinalizers = (self: Any) =>
  Effect.flatMap(Effect.scope, (parent) =>
    Effect.provideService(self, Scope.Scope, Scope.forkUnsafe(parent, "parallel"))
  )

/** A `Scheduler` as Effect 3 has it: it answers with what priority a fiber yields. */
interface NamedScheduler {
  readonly shouldYield: (fiber: RuntimeFiber) => number | false
  readonly scheduleTask: (task: () => void, priority: number) => void
}

export const withScheduler: {
  (scheduler: NamedScheduler): (self: Any) => Any
  (self: Any, scheduler: NamedScheduler): Any
} = dual(2, (self: Any, { scheduleTask, shouldYield }: NamedScheduler) =>
  Effect.provideService(self, Scheduler.Scheduler, {
    executionMode: "async",
    shouldYield: (fiber) => shouldYield(fiber) !== false,
    makeDispatcher: () => ({ scheduleTask, flush: () => {} })
  })
)

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

export const withClock = (self: Any, clock: NamedClock): Any =>
  Effect.provideService(self, Clock.Clock, {
    currentTimeMillisUnsafe: clock.unsafeCurrentTimeMillis,
    currentTimeNanosUnsafe: clock.unsafeCurrentTimeNanos,
    monotonicTimeNanosUnsafe: clock.unsafeCurrentTimeNanos,
    currentTimeMillis: clock.currentTimeMillis,
    currentTimeNanos: clock.currentTimeNanos,
    monotonicTimeNanos: clock.currentTimeNanos,
    sleep: clock.sleep
  })

/** Of the fiber that runs, as far as tests ask. */
export type RuntimeFiber = Fiber.Fiber<unknown, unknown>
export type { Context }

/** Effect 3 takes a value, or a function of one that answers a value, where Effect 4 wants an effect. */
const asEffect = (next: unknown, value: unknown): Any => {
  const answer = typeof next === "function" && !Effect.isEffect(next) ? next(value) : next
  return Effect.isEffect(answer) ? answer : Effect.succeed(answer)
}

export const tap: {
  (next: unknown): (self: Any) => Any
  (self: Any, next: unknown): Any
} = dual(2, (self: Any, next: unknown) =>
  Effect.flatMap(self, (value) => Effect.as(asEffect(next, value), value))
)

export const andThen: {
  (next: unknown): (self: Any) => Any
  (self: Any, next: unknown): Any
} = dual(2, (self: Any, next: unknown) => Effect.flatMap(self, (value) => asEffect(next, value)))
