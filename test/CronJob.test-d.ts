import * as Context from "effect/Context"
import * as Cron from "effect/Cron"
import * as DateTime from "effect/DateTime"
import type * as Effect from "effect/Effect"
import type * as Layer from "effect/Layer"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import { CronJob, type Lease, type LockError, type LockStore } from "effect-redis-lock"
import { describe, expectTypeOf, it } from "vitest"

class Body extends Context.Tag("Body")<Body, boolean>() {}
declare const body: Effect.Effect<number, "own", Body>
declare const scoped: Effect.Effect<number, "own", Body | Scope.Scope>

type Store = LockStore.LockStore
type StoreError = LockError.LockStoreError

describe("CronJob", () => {
  it("run never ends, but by a store's error; the work's own are not told", () => {
    type Job = Effect.Effect<never, StoreError, Body | Store>
    expectTypeOf(CronJob.run("key", { cron: "0 4 * * *" })(body)).toEqualTypeOf<Job>()
    expectTypeOf(CronJob.run(body, "key", { cron: "0 4 * * *" })).toEqualTypeOf<Job>()
    const last = CronJob.run("key", { cron: "0 4 * * *" })((tick) => {
      expectTypeOf(tick).toEqualTypeOf<CronJob.Tick>()
      expectTypeOf(tick.scheduledAt).toEqualTypeOf<DateTime.Utc>()
      expectTypeOf(tick.lease).toEqualTypeOf<Lease.Lease>()
      return body
    })
    expectTypeOf(last).toEqualTypeOf<Job>()
  })

  it("layer gives nothing, cannot fail, and gives a scope to each run", () => {
    type Background = Layer.Layer<never, never, Body | Store>
    expectTypeOf(CronJob.layer("key", { cron: "0 4 * * *" })(scoped)).toEqualTypeOf<Background>()
    expectTypeOf(CronJob.layer(body, "key", { cron: "0 4 * * *" })).toEqualTypeOf<Background>()
  })

  it("has the options of a lock, and its own; only cron must be given", () => {
    expectTypeOf({
      cron: Cron.unsafeParse("0 4 * * *"),
      timeZone: DateTime.zoneMakeOffset(0),
      skipIfOlderThan: "1 hour",
      whenRunning: "skip",
      retry: Schedule.recurs(3),
      ttl: "10 seconds",
      owner: undefined
    } as const).toExtend<CronJob.Options>()
    // @ts-expect-error no cron
    void CronJob.run("key")
    // @ts-expect-error no cron
    void CronJob.run("key", { ttl: 5_000 })
    // @ts-expect-error it decides by itself how long it waits
    void CronJob.run("key", { cron: "0 4 * * *", waitAtMost: "1 second" })
    // @ts-expect-error "wait" or "skip"
    void CronJob.run("key", { cron: "0 4 * * *", whenRunning: "queue" })
  })
})
