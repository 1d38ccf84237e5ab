/** Rule 10 between processes of the operating system, judged by a resource that knows no Redis. */
import { expect, layer } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import { Lock } from "effect-redis-lock"
import * as Judge from "../support/Judge.js"
import {
  awaitQueued,
  caller,
  environments,
  idle,
  pair,
  queuedCaller,
  queueOf,
  strict,
  subscribed
} from "../support/Queue.js"
import * as Workers from "../support/Workers.js"
import { leftovers, nothingLeft, pttl, quietly, RedisServer, timed } from "./support.js"

const key = "k"

/** A heartbeat of 300 ms, a claim window of 900. */
const brisk = 900
const window = 900
const tolerance = 500

/** Three processes for all tests, since each takes seconds to start. The last tests kill them. */
class Processes extends Context.Tag("test/Processes")<
  Processes,
  readonly [Workers.Worker, Workers.Worker, Workers.Worker]
>() {}

const processes = Layer.scoped(
  Processes,
  Effect.flatMap(RedisServer.RedisServer, ({ url }) =>
    Effect.all([Workers.make(url), Workers.make(url), Workers.make(url)], {
      concurrency: "unbounded"
    })
  )
).pipe(Layer.provideMerge(RedisServer.layer()))

layer(processes, { excludeTestServices: true, timeout: "30 seconds" })(
  "several processes",
  (it) => {
    for (const localHandoff of [20, 0]) {
      it.scoped(
        `exclude each other, and the tokens grow in the order of entry (localHandoff ${localHandoff} ms)`,
        () =>
          Effect.gen(function* () {
            const [a, b] = yield* pair({ localHandoff })
            const judge = yield* Judge.listen
            const all = yield* Processes
            const run = {
              _tag: "Run",
              localHandoff,
              key,
              ttl: 5_000,
              holdMillis: 0,
              judge: judge.port
            } as const
            for (const [index, worker] of all.entries()) {
              yield* worker.order({ ...run, fibers: 4, cycles: 40, name: `process${index}` })
            }
            // and two stores of this process in between
            const say = yield* Judge.visit(judge.port)
            const turn = Lock.withLock(key, { ttl: 5_000 })((lease) =>
              Effect.zipRight(
                say(`enter ${lease.fencingToken} here`),
                say(`exit ${lease.fencingToken}`)
              )
            )
            yield* Effect.forEach([a, b], ({ use }) => Effect.repeatN(turn, 39).pipe(use), {
              concurrency: "unbounded",
              discard: true
            })
            for (const worker of all) {
              expect((yield* worker.next("Done")).turns).toBe(160)
            }
            expect(judge.verdict()).toEqual([])
            expect(judge.entries().length).toBe(3 * 160 + 80)
            yield* idle(a.store)
            yield* nothingLeft(a.server)
          })
      )
    }

    it.scoped("are served first come, first served, where localHandoff is 0", () =>
      Effect.gen(function* () {
        const [a] = yield* environments([strict])
        const all = yield* Processes
        const judge = yield* Judge.listen
        for (const order of [
          [0, 1, 2],
          [2, 0, 1],
          [1, 2, 0]
        ]) {
          const held = yield* caller(a.use, key, { ttl: 60_000 })
          yield* held.lease
          for (const [position, index] of order.entries()) {
            yield* all[index]!.order({
              _tag: "Run",
              localHandoff: 0,
              key,
              ttl: 60_000,
              fibers: 1,
              cycles: 1,
              holdMillis: 5,
              judge: judge.port,
              name: String(index)
            })
            yield* awaitQueued(a.server, key, position + 1)
          }
          const before = judge.visitors().length
          yield* held.release
          for (const worker of all) yield* worker.next("Done")
          expect(judge.visitors().slice(before)).toEqual(order.map(String))
        }
        expect(judge.verdict()).toEqual([])
      })
    )

    it.scoped("with local handoff: no process starves another, and its run is bounded", () =>
      Effect.gen(function* () {
        yield* (yield* RedisServer.RedisServer).flush
        const [many, single] = yield* Processes
        const judge = yield* Judge.listen
        const run = {
          _tag: "Run",
          localHandoff: 20,
          key,
          ttl: 60_000,
          cycles: 30,
          judge: judge.port
        } as const
        yield* many.order({ ...run, fibers: 20, holdMillis: 2, name: "crowd" })
        yield* RedisServer.eventually(Effect.sync(() => judge.visitors().length > 10))
        yield* single.order({ ...run, fibers: 1, cycles: 5, holdMillis: 2, name: "one" })
        yield* single.next("Done")
        expect(many.has("Done")).toBe(false)
        const visitors = judge.visitors().slice()
        const runs = visitors.join(" ").split("one")
        // 20 ms of turns of 2 ms and more, and the one that was under way
        for (const crowd of runs.slice(1, -1)) {
          expect(crowd.trim().split(" ").length).toBeLessThanOrEqual(14)
        }
        yield* many.next("Done")
        expect(judge.verdict()).toEqual([])
      })
    )

    it.scoped(
      "a waiter that was stopped, and goes on with its grant gone, does not believe in it",
      () =>
        quietly(
          Effect.gen(function* () {
            const [a, b] = yield* pair()
            const [, , worker] = yield* Processes
            const held = yield* caller(a.use, key, { ttl: 60_000 })
            yield* held.lease
            yield* worker.order({ _tag: "Hold", localHandoff: 0, key, ttl: brisk })
            yield* awaitQueued(a.server, key, 1)
            yield* worker.stop
            // its grant is published, into a socket that nobody reads, and runs out
            const [token] = yield* queueOf(a.server, key)
            const next = yield* queuedCaller(b, key, 1, { ttl: 60_000 })
            yield* held.release
            const lease = yield* next.lease
            expect(lease.token).not.toBe(token)
            yield* worker.cont
            // it queues again, behind us
            yield* awaitQueued(a.server, key, 1)
            expect(worker.has("Held")).toBe(false)
            expect(yield* lease.isHeld).toBe(true)
            yield* lease.verify
            const releasing = yield* Effect.fork(next.release)
            const { fencingToken } = yield* worker.next("Held")
            expect(fencingToken).toBeGreaterThan(lease.fencingToken)
            yield* Fiber.join(releasing)
            yield* worker.order({ _tag: "Release" })
            yield* worker.next("Released")
            expect(yield* leftovers(a.server)).toEqual([])
          })
        )
    )

    it.scoped("a waiter that is killed costs the others at most its window, and then nothing", () =>
      Effect.gen(function* () {
        const [a, b] = yield* pair()
        const [first, second] = yield* Processes
        const held = yield* caller(a.use, key, { ttl: brisk })
        yield* held.lease
        // fresh: the lock goes to the dead one for a window
        yield* first.order({ _tag: "Hold", localHandoff: 0, key, ttl: 60_000 })
        yield* awaitQueued(a.server, key, 1)
        const behind = yield* queuedCaller(b, key, 1, { ttl: brisk })
        yield* subscribed(b)
        yield* first.kill
        const { millis } = yield* timed(Effect.zipRight(held.release, behind.lease))
        expect(millis).toBeLessThan(3_000 + tolerance)
        // stale: the next release passes it by
        yield* second.order({ _tag: "Hold", localHandoff: 0, key, ttl: brisk })
        yield* awaitQueued(a.server, key, 1)
        yield* second.kill
        const third = yield* queuedCaller(a, key, 1, { ttl: 60_000 })
        yield* Effect.sleep(window + 50)
        const later = yield* timed(Effect.zipRight(behind.release, third.lease))
        expect(later.millis).toBeLessThan(400)
        yield* third.release
        expect(yield* leftovers(a.server)).toEqual([])
      })
    )

    it.scoped("a holder that is killed is followed, in order, when its key expires", () =>
      Effect.gen(function* () {
        const [a, b] = yield* pair()
        const [, , worker] = yield* Processes
        yield* worker.order({ _tag: "Hold", localHandoff: 0, key, ttl: 1_400 })
        const { fencingToken } = yield* worker.next("Held")
        // heartbeats of a second: the expiry is not one of them
        const first = yield* queuedCaller(b, key, 0, { ttl: 60_000 })
        const second = yield* queuedCaller(a, key, 1, { ttl: 60_000 })
        yield* worker.kill
        const left = yield* pttl(a.server, key)
        const { millis } = yield* timed(first.lease)
        expect(millis).toBeGreaterThan(left - 30)
        expect(millis).toBeLessThan(left + 300)
        expect((yield* first.lease).fencingToken).toBeGreaterThan(fencingToken)
        expect(second.state()).toBe("waiting")
        yield* first.release
        yield* second.lease
      })
    )
  }
)
