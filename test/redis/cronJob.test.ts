/** Jobs of ten processes of the operating system, whose wall clocks are apart by a third of a period. */
import { expect, layer } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type { News } from "../support/jobWorker.js"
import * as Workers from "../support/Workers.js"
import { leftovers, RedisServer } from "./support.js"

// ---------------------------------------------------------------- helpers

const count = 10
/** The period of all jobs here, and by how much the last clock is ahead of the first. */
const period = 1_000
const apart = period / 3

/** For all tests, since each takes a second to start. The last tests kill some. */
class Processes extends Context.Tag("test/Processes")<
  Processes,
  ReadonlyArray<Workers.JobWorker>
>() {}

const processes = Layer.scoped(
  Processes,
  Effect.flatMap(RedisServer.RedisServer, ({ url }) =>
    Effect.forEach(
      Array.from({ length: count }, (_, index) => Math.round((index * apart) / (count - 1))),
      (ahead) => Workers.jobs(url, ahead),
      { concurrency: 3 }
    )
  )
).pipe(
  Layer.provideMerge(
    // (a restart keeps the data)
    RedisServer.layer({ args: RedisServer.flags({ appendonly: "yes", appendfsync: "always" }) })
  )
)

type Began = Extract<News, { readonly _tag: "Began" }>

interface Terms {
  readonly key: string
  readonly holdMillis: number
  readonly ttl: number
  readonly whenRunning?: "wait" | "skip"
}

/** A job of those processes, and what they run of it, in the order of the ticks. */
const start = (
  workers: ReadonlyArray<Workers.JobWorker>,
  { holdMillis, key, ttl, whenRunning = "wait" }: Terms
) =>
  Effect.gen(function* () {
    const before = workers.map(({ told }) => told.length)
    const startedAt = Date.now()
    const order = { _tag: "Start", key, cron: "* * * * * *", holdMillis, ttl, whenRunning } as const
    yield* Effect.forEach(workers, (worker) => worker.order(order), { discard: true })
    const news = <Tag extends News["_tag"]>(tag: Tag) =>
      workers.flatMap(({ told }, index) =>
        told
          .slice(before[index])
          .filter((one): one is Extract<News, { readonly _tag: Tag }> => one._tag === tag)
      )
    const runs = (): ReadonlyArray<Began> => [...news("Began")].sort((a, b) => a.tick - b.tick)
    return {
      startedAt,
      news,
      runs,
      ticks: () => runs().map(({ tick }) => tick),
      /** Ends when a tick has been begun for which that holds. */
      began: (which: (run: Began) => boolean) =>
        Effect.raceAll(
          workers.map((worker, index) =>
            Effect.as(
              worker.until(() =>
                worker.told.slice(before[index]).some((one) => one._tag === "Began" && which(one))
              ),
              worker
            )
          )
        ),
      end: Effect.forEach(
        workers,
        (worker) => Effect.zipRight(worker.order({ _tag: "End" }), worker.next("Ended")),
        { discard: true, concurrency: "unbounded" }
      )
    }
  })

/** None twice, and the fencing tokens grow with them. */
const expectOnce = (runs: ReadonlyArray<Began>) => {
  const ticks = runs.map(({ tick }) => tick)
  expect(ticks).toEqual([...new Set(ticks)])
  const fences = runs.map(({ fence }) => fence)
  expect(fences).toEqual([...fences].sort((a, b) => a - b))
}

// ---------------------------------------------------------------- tests

layer(processes, { excludeTestServices: true, timeout: "2 minutes" })(
  "a job of ten processes",
  (it) => {
    it.scoped("that takes a millisecond is run once for each tick, and no tick is left out", () =>
      Effect.gen(function* () {
        const job = yield* start(yield* Processes, { key: "short", holdMillis: 1, ttl: 5_000 })
        yield* Effect.sleep(8 * period)
        yield* job.end
        expectOnce(job.runs())
        const ticks = job.ticks()
        expect(ticks.length).toBeGreaterThanOrEqual(8)
        const [first] = ticks
        expect(ticks).toEqual(ticks.map((_, index) => first! + index * period))
        expect(yield* leftovers(yield* RedisServer.RedisServer)).toEqual(["{short}:lock-tick"])
      })
    )

    it.scoped("that takes two periods is run for the latest tick, one after the other", () =>
      Effect.gen(function* () {
        const holdMillis = 2 * period
        const job = yield* start(yield* Processes, { key: "long", holdMillis, ttl: 5_000 })
        yield* Effect.sleep(11 * period)
        yield* job.end
        const runs = job.runs()
        expectOnce(runs)
        expect(runs.length).toBeGreaterThanOrEqual(5)
        for (const [index, { at, tick }] of runs.entries()) {
          const next = runs[index + 1]
          if (next === undefined) continue
          expect(next.at - at).toBeGreaterThanOrEqual(holdMillis)
          // soon after the one before has ended, for what was due by then
          expect(next.at - at).toBeLessThan(holdMillis + 1.5 * period)
          expect(next.tick - tick).toBeGreaterThanOrEqual(period)
          expect(next.tick - tick).toBeLessThanOrEqual(4 * period)
        }
      })
    )

    it.scoped("skips what is due while it runs, where that is said", () =>
      Effect.gen(function* () {
        const job = yield* start(yield* Processes, {
          key: "skipped",
          holdMillis: 1.4 * period,
          ttl: 5_000,
          whenRunning: "skip"
        })
        yield* Effect.sleep(9 * period)
        yield* job.end
        const runs = job.runs()
        expectOnce(runs)
        for (const [index, { tick }] of runs.entries()) {
          const next = runs[index + 1]
          if (next !== undefined) expect(next.tick - tick).toBeGreaterThanOrEqual(2 * period)
        }
      })
    )

    it.scoped("that is due while Redis is away is run when that is back, for the latest tick", () =>
      Effect.gen(function* () {
        const server = yield* RedisServer.RedisServer
        const job = yield* start(yield* Processes, { key: "away", holdMillis: 1, ttl: 5_000 })
        yield* Effect.sleep(2.5 * period)
        yield* server.kill
        yield* Effect.sleep(4 * period)
        yield* server.restart
        const backAt = Date.now()
        yield* job.began(({ tick }) => tick >= backAt - period - apart)
        yield* Effect.sleep(3 * period)
        yield* job.end
        const runs = job.runs()
        expectOnce(runs)
        const ticks = job.ticks()
        const gaps = ticks.slice(1).map((tick, index) => tick - ticks[index]!)
        // the ticks of the outage but for the latest are lost, and no others
        const [gap, ...others] = gaps.filter((gap) => gap > period)
        expect(others).toEqual([])
        expect(gap).toBeGreaterThanOrEqual(3 * period)
        expect(gap).toBeLessThanOrEqual(6 * period)
      })
    )

    it.scoped("whose process is stopped over several ticks runs the latest, and none twice", () =>
      Effect.gen(function* () {
        const [alone] = yield* Processes
        const job = yield* start([alone!], { key: "stopped", holdMillis: 1, ttl: 5_000 })
        yield* job.began(() => true)
        yield* alone!.stop
        yield* Effect.sleep(4.5 * period)
        const before = job.ticks().at(-1)!
        const wokenAt = Date.now()
        yield* alone!.cont
        yield* job.began(({ tick }) => tick > before)
        const [first] = job.ticks().filter((tick) => tick > before)
        expect(first).toBeGreaterThan(wokenAt - period)
        yield* Effect.sleep(2 * period)
        yield* job.end
        expectOnce(job.runs())
      })
    )

    it.scoped(
      "loses the tick of a process that dies in the middle, and goes on after its ttl",
      () =>
        Effect.gen(function* () {
          const workers = yield* Processes
          const ttl = 2_000
          const job = yield* start(workers, { key: "killed", holdMillis: 1.5 * period, ttl })
          const first = yield* job.began(() => true)
          const [{ tick }] = job.runs() as [Began]
          yield* first.kill
          const killedAt = Date.now()
          const others = workers.filter((worker) => worker !== first)
          yield* job.began((run) => run.tick > tick)
          expect(Date.now() - killedAt).toBeLessThan(ttl + 2 * period)
          yield* Effect.sleep(4 * period)
          const rest = yield* Effect.forEach(
            others,
            (worker) => Effect.zipRight(worker.order({ _tag: "End" }), worker.next("Ended")),
            { concurrency: "unbounded" }
          )
          expect(rest.length).toBe(count - 1)
          const runs = job.runs()
          expectOnce(runs)
          expect(runs.length).toBeGreaterThanOrEqual(3)
          // it was never done
          expect(job.news("Done").map((done) => done.tick)).not.toContain(tick)
        })
    )
  }
)
