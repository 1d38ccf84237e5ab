/** What jobs promise of their ticks, over every store. */
import { describe, expect, layer } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Cron from "effect/Cron"
import * as DateTime from "effect/DateTime"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Queue from "effect/Queue"
import * as Schedule from "effect/Schedule"
import * as Scope from "effect/Scope"
import * as TestClock from "effect/TestClock"
import * as TestContext from "effect/TestContext"
import {
  CronJob,
  Lock,
  type LockError,
  LockStore,
  MemoryLockStore,
  Semaphore
} from "effect-redis-lock"
import { it as vitest } from "vitest"
import { collecting, impossible, storeError } from "./support/background.js"
import {
  controlled,
  freshKey,
  kindsOf,
  lateAtFirst,
  lose,
  quiet,
  storesOf
} from "./support/stores.js"

// ---------------------------------------------------------------- helpers

const everySecond = "* * * * * *"

/** The wall clock of one process, which is off. */
const skewed = (clock: Clock.Clock, offset: () => number): Clock.Clock => ({
  ...clock,
  [Clock.ClockTypeId]: Clock.ClockTypeId,
  unsafeCurrentTimeMillis: () => clock.unsafeCurrentTimeMillis() + offset(),
  currentTimeMillis: Effect.map(clock.currentTimeMillis, (now) => now + offset()),
  unsafeCurrentTimeNanos: () => clock.unsafeCurrentTimeNanos(),
  currentTimeNanos: clock.currentTimeNanos,
  sleep: (duration) => clock.sleep(duration)
})

const withSkew =
  (offset: () => number) =>
  <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
    Effect.flatMap(Effect.clock, (clock) => Effect.withClock(effect, skewed(clock, offset)))

/** In whole seconds, as the ticks of these tests are. */
const secondsOf = ({ scheduledAt }: CronJob.Tick) => DateTime.toEpochMillis(scheduledAt) / 1_000

const underTestClock = <A, E>(
  effect: Effect.Effect<A, E, Scope.Scope | LockStore.LockStore>,
  logger: Layer.Layer<never> = quiet
) =>
  Effect.runPromise(
    effect.pipe(
      Effect.provide(MemoryLockStore.layer),
      Effect.scoped,
      Effect.provide(Layer.merge(TestContext.TestContext, logger))
    )
  )

// ---------------------------------------------------------------- tests

describe.each(storesOf("lock"))("%s", (_, rawStore, capabilities) => {
  layer(Layer.merge(rawStore, quiet), { excludeTestServices: true })("a job", (it) => {
    it.scoped("of several processes is run once for each tick, with its time and its lease", () =>
      Effect.gen(function* () {
        const key = freshKey()
        const ticks = yield* Queue.unbounded<readonly [CronJob.Tick, held: boolean]>()
        const job = CronJob.run(key, { cron: everySecond })((tick) =>
          Effect.flatMap(tick.lease.isHeld, (held) => Queue.offer(ticks, [tick, held]))
        )
        const all = yield* Effect.forEach([1, 2, 3, 4, 5], () => Effect.forkScoped(job))
        const runs = yield* Queue.takeN(ticks, 4)
        const [first] = [...runs].map(([tick]) => secondsOf(tick))
        expect([...runs].map(([tick]) => secondsOf(tick))).toEqual(
          [0, 1, 2, 3].map((second) => first! + second)
        )
        for (const [{ lease }, held] of runs) {
          expect(held).toBe(true)
          expect(lease.key).toBe(key)
        }
        const tokens = [...runs].map(([{ lease }]) => lease.fencingToken)
        expect(tokens).toEqual([...tokens].sort((a, b) => a - b))
        yield* Fiber.interruptAll(all)
        // and nobody holds it
        yield* Effect.scoped(Lock.tryAcquire(key))
      })
    )

    it.scoped("that has lost its lease is interrupted, and its tick is not run again", () =>
      Effect.gen(function* () {
        const key = freshKey()
        const begun = yield* Queue.unbounded<CronJob.Tick>()
        const ended: Array<number> = []
        const job = yield* Effect.forkScoped(
          CronJob.run(key, { cron: everySecond })((tick) =>
            Effect.zipRight(
              Queue.offer(begun, tick),
              Effect.onInterrupt(Effect.never, () =>
                Effect.sync(() => void ended.push(secondsOf(tick)))
              )
            )
          )
        )
        const first = yield* Queue.take(begun)
        yield* lose(first.lease)
        const second = yield* Queue.take(begun)
        expect(ended).toEqual([secondsOf(first)])
        expect(secondsOf(second)).toBeGreaterThan(secondsOf(first))
        yield* Fiber.interrupt(job)
        expect(ended).toEqual([secondsOf(first), secondsOf(second)])
      })
    )

    it.scoped("whose claim fails by an outage asks again, for what is due by then", () => {
      const { layer: logger, lines } = collecting()
      return Effect.gen(function* () {
        const key = freshKey()
        const store = yield* LockStore.LockStore
        let error: LockError.LockStoreError | undefined = storeError(true)
        let asked = 0
        const use = Effect.provideService(LockStore.LockStore, {
          ...store,
          acquire: (claim, restore) =>
            Effect.suspend(() => {
              asked++
              return error ?? store.acquire(claim, restore)
            })
        } satisfies LockStore.LockStore)
        const ran = yield* Deferred.make<CronJob.Tick>()
        const job = yield* Effect.forkScoped(
          use(CronJob.run(key, { cron: everySecond })((tick) => Deferred.succeed(ran, tick)))
        )
        yield* Effect.repeat(Effect.sleep(20), { until: () => asked > 5 })
        yield* Effect.sleep(1_000)
        error = undefined
        const now = Date.now()
        const tick = yield* Deferred.await(ran)
        expect(secondsOf(tick)).toBeGreaterThanOrEqual(Math.floor(now / 1_000))
        yield* Fiber.interrupt(job)
        expect(lines.filter(({ level }) => level === "WARN")).toMatchObject([
          { text: expect.stringMatching(/made to fail.*tried again/) as string }
        ])

        const once = CronJob.run(key, { cron: everySecond, retry: Schedule.stop })(Effect.void)
        const passing = (error = storeError(true))
        expect(yield* Effect.flip(use(once))).toBe(passing)
        const lasting = (error = storeError(false))
        expect(yield* Effect.flip(use(CronJob.run(key, { cron: everySecond })(Effect.void)))).toBe(
          lasting
        )
        // what is used otherwise
        error = undefined
        if (!kindsOf(capabilities).includes("semaphore")) return
        const other = freshKey()
        const refused = yield* Semaphore.withPermits(other, { limit: 1 })(
          Effect.flip(CronJob.run(other, { cron: everySecond })(Effect.void))
        )
        expect(refused).toMatchObject({ _tag: "LockStoreError", transient: false })
      }).pipe(Effect.provide(logger))
    })

    it.scoped("needs options that are possible, and a store that knows ticks", () =>
      Effect.gen(function* () {
        const run = (options: Partial<CronJob.Options>) =>
          Effect.map(
            Effect.exit(
              CronJob.run("key", { cron: everySecond, ...options } as CronJob.Options)(Effect.void)
            ),
            impossible
          )
        expect(yield* run({ cron: "61 * * * *" })).toContain('cron: "61 * * * *"')
        expect(yield* run({ timeZone: "Mars" })).toContain('timeZone: "Mars"')
        expect(yield* run({ skipIfOlderThan: 999 })).toContain("skipIfOlderThan: 999")
        expect(yield* run({ skipIfOlderThan: "long" as never })).toContain(
          'skipIfOlderThan: "long"'
        )
        expect(yield* run({ whenRunning: "queue" as never })).toContain('whenRunning: "queue"')
        expect(yield* run({ retry: 1 as never })).toContain("retry: 1")
        expect(yield* run({ ttl: 1 })).toContain("ttl: 1 ms")
        expect(
          impossible(yield* Effect.exit(CronJob.run("key", undefined as never)(Effect.void)))
        ).toContain("cron: undefined")
        const layered = (options: Partial<CronJob.Options>) =>
          Effect.map(
            Effect.exit(
              Layer.build(
                CronJob.layer("key", { cron: everySecond, ...options } as CronJob.Options)(
                  Effect.void
                )
              )
            ),
            impossible
          )
        expect(yield* layered({ cron: "0 0 31 2 *" })).toContain('cron: "0 0 31 2 *"')
        expect(yield* layered({ margin: "1 hour" })).toContain("margin: 3600000 ms")

        const { acquire, clock } = yield* LockStore.LockStore
        const without = Effect.provideService(LockStore.LockStore, { acquire, clock })
        expect(
          yield* Effect.flip(without(CronJob.run("key", { cron: everySecond })(Effect.die("ran"))))
        ).toMatchObject({ transient: false, detail: expect.stringContaining("no tick") as string })
      })
    )

    it.scoped("in a layer runs while that lives, with a scope for each run", () =>
      Effect.gen(function* () {
        const key = freshKey()
        const events = yield* Queue.unbounded<string>()
        const scope = yield* Scope.make()
        const job = CronJob.layer(
          () =>
            Effect.zipRight(
              Effect.addFinalizer(() => Queue.offer(events, "closed")),
              Queue.offer(events, "ran")
            ),
          key,
          { cron: everySecond }
        )
        yield* Layer.buildWithScope(job, scope)
        expect([...(yield* Queue.takeN(events, 4))]).toEqual(["ran", "closed", "ran", "closed"])
        yield* Scope.close(scope, Exit.void)
        yield* Effect.sleep(1_100)
        expect(yield* Queue.size(events)).toBe(0)
      })
    )
  })
})

describe("by a clock of its own", () => {
  /** Ten processes whose clocks are apart by a third of a period, and what they run, in seconds. */
  const fleet = (
    work: (tick: CronJob.Tick) => Effect.Effect<unknown, unknown>,
    options?: Partial<CronJob.Options>,
    third = 333
  ) =>
    Effect.gen(function* () {
      const runs: Array<number> = []
      const job = CronJob.run("job", { cron: everySecond, ...options })((tick) => {
        runs.push(secondsOf(tick))
        return work(tick)
      })
      yield* Effect.forEach(
        Array.from({ length: 10 }, (_, index) => index),
        (index) => Effect.forkScoped(withSkew(() => Math.round((index * third) / 9))(job))
      )
      return runs
    })

  const seconds = (from: number, to: number) =>
    Array.from({ length: to - from + 1 }, (_, index) => from + index)

  vitest("jobs of a millisecond are run once for each tick by ten processes", () =>
    underTestClock(
      Effect.gen(function* () {
        yield* TestClock.adjust("1000 seconds")
        const runs = yield* fleet(() => Effect.sleep(1))
        for (let step = 0; step < 600; step++) yield* TestClock.adjust(50)
        // (the clock of the fastest is ahead by a third)
        expect(runs).toEqual(seconds(1_000, 1_030))
      })
    )
  )

  vitest("jobs of two periods wait for each other, and the latest tick is the next", () =>
    underTestClock(
      Effect.gen(function* () {
        yield* TestClock.adjust("1000 seconds")
        let inside = 0
        const runs = yield* fleet(() =>
          Effect.acquireUseRelease(
            Effect.sync(() => expect(++inside).toBe(1)),
            () => Effect.sleep("2 seconds"),
            () => Effect.sync(() => inside--)
          )
        )
        for (let step = 0; step < 400; step++) yield* TestClock.adjust(50)
        expect(runs).toEqual([...new Set(runs)])
        // one after the other, each for what was due by then
        expect(runs.length).toBeGreaterThanOrEqual(10)
        runs.forEach((tick, index) => {
          expect(tick - (1_000 + 2 * index)).toBeGreaterThanOrEqual(-1)
          expect(tick - (1_000 + 2 * index)).toBeLessThanOrEqual(1)
        })
      })
    )
  )

  vitest("or are skipped while an earlier one runs, where that is said", () =>
    underTestClock(
      Effect.gen(function* () {
        yield* TestClock.adjust("1000 seconds")
        const runs = yield* fleet(() => Effect.sleep(1_500), { whenRunning: "skip" }, 0)
        for (let step = 0; step < 400; step++) yield* TestClock.adjust(50)
        expect(runs).toEqual(seconds(0, 10).map((index) => 1_000 + 2 * index))
      })
    )
  )

  vitest("holdAtLeast keeps out the ticks that are due meanwhile, and the latest is run then", () =>
    underTestClock(
      Effect.gen(function* () {
        const runs: Array<string> = []
        const job = (key: string, whenRunning: "wait" | "skip") =>
          Effect.forkScoped(
            CronJob.run(key, { cron: "* * * * *", holdAtLeast: "150 seconds", whenRunning })(
              (tick) =>
                Effect.flatMap(Clock.currentTimeMillis, (now) =>
                  Effect.sync(() => void runs.push(`${key}: ${secondsOf(tick)} at ${now / 1_000}`))
                )
            )
          )
        yield* job("waits", "wait")
        yield* job("skips", "skip")
        yield* TestClock.adjust("190 seconds")
        expect(runs.filter((run) => run.startsWith("waits"))).toEqual([
          "waits: 0 at 0",
          "waits: 120 at 150"
        ])
        expect(runs.filter((run) => run.startsWith("skips"))).toEqual([
          "skips: 0 at 0",
          "skips: 180 at 180"
        ])
      })
    )
  )

  vitest("of ticks that nobody was there for the latest is run, unless it is too old", () =>
    underTestClock(
      Effect.gen(function* () {
        const runs: Array<number> = []
        const work = (tick: CronJob.Tick) => Effect.sync(() => void runs.push(secondsOf(tick) / 60))
        const process = (options?: Partial<CronJob.Options>) =>
          Effect.forkScoped(CronJob.run("job", { cron: "*/10 * * * *", ...options })(work))
        yield* TestClock.adjust("1 hour")
        const first = yield* process()
        yield* TestClock.adjust("11 minutes")
        expect(runs).toEqual([60, 70])
        yield* Fiber.interrupt(first)
        yield* TestClock.adjust("34 minutes")
        // 80, 90 and 100 were missed, five minutes ago
        const second = yield* process({ skipIfOlderThan: "299 seconds" })
        yield* TestClock.adjust("1 minute")
        expect(runs).toEqual([60, 70])
        yield* Fiber.interrupt(second)
        const third = yield* process({ skipIfOlderThan: "6 minutes" })
        yield* TestClock.adjust(1)
        expect(runs).toEqual([60, 70, 100])
        yield* Fiber.interrupt(third)
        // not twice, by whoever comes
        yield* process()
        yield* TestClock.adjust("4 minutes")
        expect(runs).toEqual([60, 70, 100, 110])
      })
    )
  )

  vitest("another expression makes its latest tick a missed one, unless that is too old", () =>
    underTestClock(
      Effect.gen(function* () {
        const runs: Array<string> = []
        const deployed = (
          version: string,
          key: string,
          minute: number,
          skipIfOlderThan?: Duration.DurationInput
        ) =>
          Effect.forkScoped(
            CronJob.run(key, { cron: `${minute} * * * *`, skipIfOlderThan })((tick) =>
              Effect.sync(() => void runs.push(`${version} ${secondsOf(tick) / 60}`))
            )
          )
        const old = yield* Effect.forEach(["job", "other"], (key) =>
          deployed(key, key, 4, "5 minutes")
        )
        yield* TestClock.adjust("10 minutes")
        expect(runs.sort()).toEqual(["job 4", "other 4"])
        yield* Fiber.interruptAll(old)
        // ten past, and from now on six past is the time
        runs.length = 0
        const careful = yield* deployed("careful", "job", 6, "1 minute")
        yield* deployed("other", "other", 6)
        yield* TestClock.adjust("1 minute")
        expect(runs).toEqual(["other 6"])
        yield* Fiber.interrupt(careful)
        // (the old one that is still there does no harm)
        yield* deployed("late", "other", 4)
        yield* TestClock.adjust("1 minute")
        expect(runs).toEqual(["other 6"])
        // and under another key it was never run
        yield* deployed("renamed", "renamed", 6)
        yield* TestClock.adjust(1)
        expect(runs).toEqual(["other 6", "renamed 6"])
      })
    )
  )

  vitest("a process that was stopped for several ticks runs the latest, and none twice", () =>
    underTestClock(
      Effect.gen(function* () {
        let ahead = 0
        const runs: Array<number> = []
        yield* Effect.forkScoped(
          CronJob.run("job", { cron: "*/10 * * * *" })((tick) =>
            Effect.sync(() => void runs.push(secondsOf(tick) / 60))
          ).pipe(withSkew(() => ahead))
        )
        yield* TestClock.adjust("5 minutes")
        expect(runs).toEqual([0])
        ahead = 37 * 60_000
        yield* TestClock.adjust("1 minute")
        expect(runs).toEqual([0, 40])
        // its clock is set back
        ahead = 0
        yield* TestClock.adjust("34 minutes")
        expect(runs).toEqual([0, 40])
        yield* TestClock.adjust("10 minutes")
        expect(runs).toEqual([0, 40, 50])
      })
    )
  )

  vitest("a tick of the future keeps the job from being run until then, and that is told", () => {
    const { layer: logger, lines } = collecting()
    const warnings = () => lines.filter(({ level }) => level === "WARN").map(({ text }) => text)
    return underTestClock(
      Effect.gen(function* () {
        const runs: Array<string> = []
        const job = (who: string) =>
          CronJob.run("job", { cron: "*/10 * * * *" })((tick) =>
            Effect.sync(() => void runs.push(`${who} ${secondsOf(tick) / 60}`))
          )
        const wrong = yield* Effect.forkScoped(withSkew(() => 25 * 60_000)(job("wrong")))
        yield* TestClock.adjust(1)
        yield* Fiber.interrupt(wrong)
        // (less than a period is no reason)
        yield* TestClock.adjust("9 minutes")
        yield* Effect.forkScoped(withSkew(() => 2 * 60_000)(job("right")))
        yield* TestClock.adjust(1)
        expect(warnings()).toEqual([])
        yield* Effect.forkScoped(job("behind"))
        yield* TestClock.adjust(1)
        expect(warnings()).toMatchObject([
          expect.stringMatching(/"job" is not run for 1970-01-01T00:00:00.*for 1970-01-01T00:20:00/)
        ])
        yield* TestClock.adjust("12 minutes")
        expect(runs).toEqual(["wrong 20"])
        yield* TestClock.adjust("10 minutes")
        expect(runs).toEqual(["wrong 20", "right 30"])
        expect(warnings()).toHaveLength(1)
      }),
      logger
    )
  })

  vitest("a clock that is set forward while all sleep is seen within a minute", () =>
    underTestClock(
      Effect.gen(function* () {
        let ahead = 0
        const runs: Array<number> = []
        yield* Effect.forkScoped(
          CronJob.run("job", { cron: "0 0 1 1 *", skipIfOlderThan: Duration.infinity })((tick) =>
            Effect.sync(() => void runs.push(DateTime.getPartUtc(tick.scheduledAt, "year")))
          ).pipe(withSkew(() => ahead))
        )
        yield* TestClock.adjust("10 minutes")
        expect(runs).toEqual([1970])
        ahead = 366 * 24 * 3_600_000
        yield* TestClock.adjust("1 minute")
        expect(runs).toEqual([1970, 1971])
      })
    )
  )

  vitest("what a run fails with, or dies of, is logged, and the next tick is run", () => {
    const { layer: logger, lines } = collecting()
    return underTestClock(
      Effect.gen(function* () {
        const ends = [Effect.fail("refused"), Effect.die("bug"), Effect.interrupt, Effect.void]
        const runs: Array<number> = []
        yield* Effect.forkScoped(
          CronJob.run("job", { cron: everySecond })((tick) => {
            runs.push(secondsOf(tick))
            return ends[runs.length - 1] ?? Effect.void
          })
        )
        yield* TestClock.adjust("4 seconds")
        expect(runs).toEqual([0, 1, 2, 3, 4])
        expect(lines.filter(({ level }) => level === "ERROR")).toMatchObject([
          {
            text: expect.stringMatching(
              /"job" has failed for 1970-01-01T00:00:00[^]*refused/
            ) as string
          },
          {
            text: expect.stringMatching(/"job" has failed for 1970-01-01T00:00:01[^]*bug/) as string
          }
        ])
      }),
      logger
    )
  })

  vitest("a run whose lease was lost before it could begin is told as one that has failed", () => {
    const { layer: logger, lines } = collecting()
    return underTestClock(
      Effect.gen(function* () {
        const late = lateAtFirst(yield* LockStore.LockStore)
        const runs: Array<number> = []
        yield* Effect.forkScoped(
          CronJob.run("job", { cron: everySecond })((tick) =>
            Effect.sync(() => void runs.push(secondsOf(tick)))
          ).pipe(Effect.provideService(LockStore.LockStore, late))
        )
        yield* TestClock.adjust("2 seconds")
        expect(runs).toEqual([1, 2])
        expect(lines.filter(({ level }) => level === "ERROR")).toMatchObject([
          { text: expect.stringMatching(/has failed for 1970-01-01T00:00:00[^]*lost/) as string }
        ])
      }),
      logger
    )
  })

  vitest("in a time zone whose clocks are changed, a tick is run when Cron says so, and once", () =>
    underTestClock(
      Effect.gen(function* () {
        const from = Date.UTC(2026, 9, 25, 0, 15)
        yield* TestClock.setTime(from)
        const runs: Array<string> = []
        const job = CronJob.run("job", {
          cron: "30 2 * * *",
          timeZone: "Europe/Berlin",
          skipIfOlderThan: "5 minutes"
        })(({ scheduledAt }) => Effect.sync(() => void runs.push(DateTime.formatIso(scheduledAt))))
        yield* Effect.forkScoped(job)
        yield* TestClock.setTime(Date.UTC(2026, 9, 25, 0, 20))
        // others come and go, in the hour that is there twice as well
        for (let minutes = 20; minutes < 150; minutes += 5) {
          const other = yield* Effect.fork(job)
          yield* TestClock.adjust("5 minutes")
          yield* Fiber.interrupt(other)
        }
        yield* TestClock.setTime(Date.UTC(2026, 9, 26, 1, 31))
        const cron = Cron.unsafeParse("30 2 * * *", "Europe/Berlin")
        const first = Cron.next(cron, new Date(from))
        const second = Cron.next(cron, first)
        expect(runs).toEqual([first.toISOString(), second.toISOString()])
      })
    )
  )

  vitest("a run that is given up by its store's silence is interrupted before others can run", () =>
    underTestClock(
      Effect.gen(function* () {
        const { controls, store } = controlled(yield* LockStore.LockStore)
        const inside: Array<string> = []
        yield* Effect.forkScoped(
          CronJob.run("job", { cron: "*/10 * * * * *", ttl: "4 seconds" })(({ scheduledAt }) =>
            Effect.onInterrupt(Effect.never, () =>
              Effect.flatMap(Clock.currentTimeMillis, (now) =>
                Effect.sync(
                  () =>
                    void inside.push(
                      `${DateTime.toEpochMillis(scheduledAt) / 1_000} until ${now / 1_000}`
                    )
                )
              )
            )
          ).pipe(Effect.provideService(LockStore.LockStore, store))
        )
        yield* TestClock.adjust("1 second")
        controls.silenceRenewals("job")
        yield* TestClock.adjust("8 seconds")
        // before the ttl of four seconds, less the margin
        expect(inside).toEqual(["0 until 3.558"])
      })
    )
  )
})
