/** What operators see: spans, metrics and logs; and what nobody may see: tokens. */
import { describe, expect, it, layer } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as HashMap from "effect/HashMap"
import * as Logger from "effect/Logger"
import * as LogLevel from "effect/LogLevel"
import * as Metric from "effect/Metric"
import * as MetricKeyType from "effect/MetricKeyType"
import type * as MetricState from "effect/MetricState"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import * as TestClock from "effect/TestClock"
import * as Tracer from "effect/Tracer"
import { Lock, LockStore, MultiLock, ReadWriteLock, Semaphore } from "effect-redis-lock"
import { inspect } from "node:util"
import { forkSettled } from "./support/fibers.js"
import { RedisServer } from "./support/RedisServer.js"
import { freshKey, memory, quiet, redis, StoreControls, stores } from "./support/stores.js"

// ---------------------------------------------------------------- collectors

interface Collected {
  readonly name: string
  readonly parent: string | undefined
  readonly attributes: Map<string, unknown>
  status: "open" | "ok" | "failed"
  /** What it failed with. */
  error?: unknown
}

const makeTracer = () => {
  const spans: Array<Collected> = []
  let ids = 0
  const tracer = Tracer.make({
    context: (execution) => execution(),
    span: (name, parent, context, links, startTime, kind) => {
      const attributes = new Map<string, unknown>()
      const collected: Collected = {
        name,
        parent: Option.getOrUndefined(
          Option.map(parent, (span) => (span._tag === "Span" ? span.name : span.spanId))
        ),
        attributes,
        status: "open"
      }
      spans.push(collected)
      return {
        _tag: "Span",
        name,
        spanId: `span-${++ids}`,
        traceId: "trace",
        parent,
        context,
        links,
        kind,
        sampled: true,
        attributes,
        status: { _tag: "Started", startTime },
        attribute: (key, value) => attributes.set(key, value),
        end: (_, exit) => {
          collected.status = Exit.isSuccess(exit) ? "ok" : "failed"
          if (Exit.isFailure(exit)) collected.error = Cause.squash(exit.cause)
        },
        event: () => {},
        addLinks: () => {}
      }
    }
  })
  return {
    spans,
    names: () =>
      spans.map(({ name, parent }) => (parent === undefined ? name : `${parent} > ${name}`)),
    one: (name: string) => {
      const found = spans.filter((span) => span.name === name)
      expect(found).toHaveLength(1)
      return { ...found[0]!, attributes: Object.fromEntries(found[0]!.attributes) }
    },
    collect: <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.withTracer(effect, tracer)
  }
}

interface Line {
  readonly level: string
  readonly text: string
  readonly annotations: Readonly<Record<string, unknown>>
}

const makeLogs = () => {
  const lines: Array<Line> = []
  const logger = Logger.make(({ annotations, cause, logLevel, message }) => {
    lines.push({
      level: logLevel.label,
      text: [message].flat().map(String).join(" ") + Cause.pretty(cause),
      annotations: Object.fromEntries(HashMap.toEntries(annotations))
    })
  })
  return {
    lines,
    loud: () => lines.filter(({ level }) => !["DEBUG", "TRACE"].includes(level)),
    collect: <A, E, R>(effect: Effect.Effect<A, E, R>) =>
      effect.pipe(
        Logger.withMinimumLogLevel(LogLevel.All),
        Effect.provide(Logger.replace(Logger.defaultLogger, logger))
      )
  }
}

/** The metrics of one lock name: `lost Missing` is a counter with a reason. */
const metricsOf = (lock: string) =>
  Effect.map(Metric.snapshot, (pairs) => {
    const found: Record<string, number> = {}
    for (const { metricKey, metricState } of pairs) {
      const tags = Object.fromEntries([...metricKey.tags].map(({ key, value }) => [key, value]))
      if (!metricKey.name.startsWith("effect_redis_lock_") || tags["lock"] !== lock) continue
      const name = metricKey.name.slice("effect_redis_lock_".length)
      const state = metricState as unknown as Partial<
        MetricState.MetricState.Counter<number> & MetricState.MetricState.Gauge<number>
      >
      const value = state.count ?? state.value ?? Number.NaN
      found[tags["reason"] === undefined ? name : `${name} ${tags["reason"]}`] = value
    }
    return found
  })

let names = 0
/** Metrics are kept for the life of the process: a name for each test. */
const freshName = () => `test-${++names}`

const started = <A, E, R>(body: Effect.Effect<A, E, R>) =>
  Effect.map(Deferred.make<void>(), (deferred) => ({
    isStarted: Deferred.await(deferred),
    body: Effect.zipRight(Deferred.succeed(deferred, undefined), body)
  }))

// ---------------------------------------------------------------- spans

describe("spans", () => {
  it.effect(
    "an acquisition, the time of holding as parent of the body's spans, and a release",
    () =>
      Effect.gen(function* () {
        const tracer = makeTracer()
        yield* Effect.void.pipe(
          Effect.withSpan("body"),
          Lock.withLock("key", { name: "invoices", owner: "worker 7" }),
          Effect.withSpan("outer"),
          tracer.collect
        )
        expect(tracer.names()).toEqual([
          "outer",
          "outer > Lock.acquire",
          "outer > Lock.hold",
          "Lock.hold > body",
          "Lock.hold > Lock.release"
        ])
        expect(tracer.spans.map(({ status }) => status)).toEqual(["ok", "ok", "ok", "ok", "ok"])
        const { attributes } = tracer.one("Lock.acquire")
        expect(attributes).toMatchObject({
          "lock.key": "key",
          "lock.name": "invoices",
          "lock.owner": "worker 7",
          "lock.outcome": "acquired",
          "lock.wait_ms": 0
        })
        expect(attributes["lock.fencing_token"]).toSatisfy(Number.isSafeInteger)
        expect(tracer.one("Lock.hold").attributes).toMatchObject({
          "lock.key": "key",
          "lock.fencing_token": attributes["lock.fencing_token"]
        })
      }).pipe(Effect.provide(memory))
  )

  it.effect("the same for a scoped lease: it is held until its scope closes", () =>
    Effect.gen(function* () {
      const tracer = makeTracer()
      yield* Effect.gen(function* () {
        const lease = yield* Lock.acquire("key")
        yield* lease.guard(Effect.withSpan(Effect.void, "body"))
        expect(tracer.one("Lock.hold").status).toBe("open")
      }).pipe(Effect.scoped, tracer.collect)
      expect(tracer.names()).toEqual([
        "Lock.acquire",
        "Lock.hold",
        "Lock.hold > body",
        "Lock.hold > Lock.release"
      ])
      expect(tracer.one("Lock.hold").status).toBe("ok")
    }).pipe(Effect.provide(memory))
  )

  it.effect("a wait says how long it was, and who was in the way", () =>
    Effect.gen(function* () {
      const tracer = makeTracer()
      yield* forkSettled(Lock.withLock("key", { owner: "worker 7" })(Effect.sleep("3 seconds")))
      const waiter = yield* forkSettled(tracer.collect(Lock.withLock("key")(Effect.void)))
      yield* TestClock.adjust("3 seconds")
      yield* Fiber.join(waiter)
      expect(tracer.one("Lock.acquire").attributes).toMatchObject({
        "lock.outcome": "acquired",
        "lock.wait_ms": 3_000,
        "lock.contended": true,
        "lock.holder": "worker 7",
        "lock.held_for_ms": 0,
        "lock.retry_after_ms": 5_000
      })
    }).pipe(Effect.provide(memory))
  )

  it.effect("acquisitions that end otherwise say how", () =>
    Effect.gen(function* () {
      yield* Lock.acquire("key", { owner: "worker 7" })
      const busy = makeTracer()
      yield* Effect.flip(busy.collect(Lock.tryAcquire("key")))
      expect(busy.one("Lock.acquire")).toMatchObject({
        status: "ok",
        attributes: { "lock.outcome": "unavailable", "lock.holder": "worker 7" }
      })

      const attempts: ReadonlyArray<Effect.Effect<unknown, unknown, LockStore.LockStore>> = [
        Effect.scoped(Lock.acquire("key", { waitAtMost: 0 })),
        Lock.withLockIfAvailable("key")(Effect.void)
      ]
      for (const attempt of attempts) {
        const skipped = makeTracer()
        yield* Effect.exit(skipped.collect(attempt))
        expect(skipped.one("Lock.acquire").status).toBe("ok")
      }

      const inVain = makeTracer()
      const waiter = yield* forkSettled(
        Effect.exit(inVain.collect(Lock.acquire("key", { waitAtMost: "1 second" })))
      )
      yield* TestClock.adjust("1 second")
      yield* Fiber.join(waiter)
      expect(inVain.one("Lock.acquire")).toMatchObject({
        status: "failed",
        attributes: { "lock.outcome": "unavailable", "lock.wait_ms": 1_000 }
      })

      const cut = makeTracer()
      yield* Fiber.interrupt(yield* forkSettled(cut.collect(Lock.acquire("key"))))
      expect(cut.one("Lock.acquire").attributes).toMatchObject({ "lock.outcome": "interrupted" })

      const down = makeTracer()
      const store = yield* LockStore.LockStore
      const { LockStoreError } = yield* Effect.promise(() => import("effect-redis-lock/LockError"))
      yield* Lock.tryAcquire("other").pipe(
        Effect.provideService(LockStore.LockStore, {
          clock: store.clock,
          acquire: () =>
            Effect.fail(
              new LockStoreError({ operation: "acquire", detail: "down", transient: true })
            )
        }),
        Effect.flip,
        down.collect
      )
      expect(down.one("Lock.acquire").attributes).toMatchObject({ "lock.outcome": "failed" })
      for (const tracer of [busy, cut, down]) expect(tracer.names()).toEqual(["Lock.acquire"])
    }).pipe(Effect.scoped, Effect.provide(memory))
  )

  it.effect("what shares the lease that it is inside of makes none, and counts as none", () =>
    Effect.gen(function* () {
      const tracer = makeTracer()
      const name = freshName()
      const inner = Lock.withLock("key", { reentrant: true, name })
      yield* Effect.void.pipe(
        Effect.withSpan("body"),
        inner,
        Effect.withSpan("between"),
        Lock.withLock("key", { name }),
        tracer.collect
      )
      expect(tracer.names()).toEqual([
        "Lock.acquire",
        "Lock.hold",
        "Lock.hold > between",
        "between > body",
        "Lock.hold > Lock.release"
      ])
      expect(yield* metricsOf(name)).toMatchObject({ acquired: 1, held: 0, hold_millis: 1 })
    }).pipe(Effect.provide(memory))
  )

  it.effect("a loss fails the body's spans and ends that of holding; renewals make none", () =>
    Effect.gen(function* () {
      const tracer = makeTracer()
      const { takeAway, until } = yield* StoreControls
      const fiber = yield* forkSettled(
        Lock.withLock("key", { ttl: "10 seconds" })((lease) =>
          Effect.zipRight(
            until("key", "renewed", 2),
            Effect.zipRight(takeAway(lease), Effect.never)
          ).pipe(Effect.withSpan("body"))
        ).pipe(tracer.collect)
      )
      yield* TestClock.adjust("15 seconds")
      expect(yield* Effect.flip(Fiber.join(fiber))).toMatchObject({ _tag: "LockLost" })
      expect(tracer.names()).toEqual([
        "Lock.acquire",
        "Lock.hold",
        "Lock.hold > body",
        "Lock.hold > Lock.release"
      ])
      expect(tracer.one("body").status).toBe("failed")
      expect(tracer.one("Lock.hold")).toMatchObject({
        status: "failed",
        error: { _tag: "LockLost", reason: "Missing" },
        attributes: { "lock.lost": "Missing" }
      })
      expect(tracer.one("Lock.release").status).toBe("ok")
      expect(tracer.spans.filter(({ status }) => status === "open")).toEqual([])
    }).pipe(Effect.provide(memory))
  )

  it.effect("a loss by the clock, or one that only the release finds, is an error as well", () =>
    Effect.gen(function* () {
      const tracer = makeTracer()
      const { failRenewals, takeAway } = yield* StoreControls
      failRenewals("late")
      yield* Effect.gen(function* () {
        yield* Lock.acquire("late")
        yield* TestClock.adjust("6 seconds")
        expect(tracer.one("Lock.hold").status).toBe("open")
      }).pipe(Effect.scoped, tracer.collect)
      expect(tracer.one("Lock.hold")).toMatchObject({
        status: "failed",
        error: { _tag: "LockLost", reason: "Unreachable", cause: { operation: "renew" } },
        attributes: { "lock.key": "late", "lock.lost": "Unreachable" }
      })

      const found = makeTracer()
      yield* Effect.exit(found.collect(Lock.withLock("key")(takeAway)))
      expect(found.one("Lock.hold")).toMatchObject({
        status: "failed",
        error: { _tag: "LockLost", reason: "Missing" },
        attributes: { "lock.lost": "Missing" }
      })

      // held to the end: what the body fails with is not of the lock's
      const kept = makeTracer()
      yield* Effect.exit(kept.collect(Lock.withLock("key")(Effect.fail("own"))))
      const { attributes, status } = kept.one("Lock.hold")
      expect(status).toBe("ok")
      expect(attributes).not.toHaveProperty("lock.lost")
    }).pipe(Effect.provide([memory, quiet]))
  )

  it.effect("no span where the tracer is disabled", () =>
    Effect.gen(function* () {
      const tracer = makeTracer()
      yield* Lock.withLock("key")(Effect.void).pipe(Effect.withTracerEnabled(false), tracer.collect)
      expect(tracer.names()).toEqual([])
    }).pipe(Effect.provide(memory))
  )
})

describe("spans of a semaphore", () => {
  it.effect("are named after it, and say limit and permits", () =>
    Effect.gen(function* () {
      const tracer = makeTracer()
      yield* Effect.void.pipe(
        Effect.withSpan("body"),
        Semaphore.withPermits("key", { limit: 3, permits: 2, name: "partner" }),
        tracer.collect
      )
      expect(tracer.names()).toEqual([
        "Semaphore.acquire",
        "Semaphore.hold",
        "Semaphore.hold > body",
        "Semaphore.hold > Semaphore.release"
      ])
      for (const name of ["Semaphore.acquire", "Semaphore.hold"]) {
        expect(tracer.one(name).attributes).toMatchObject({
          "lock.key": "key",
          "lock.name": "partner",
          "lock.limit": 3,
          "lock.permits": 2
        })
      }
    }).pipe(Effect.provide(memory))
  )
})

describe("spans of a lease that goes elsewhere", () => {
  it.effect("say that it was adopted, of whichever kind", () =>
    Effect.gen(function* () {
      const ways = [
        ["Lock", Lock.acquire, Lock.adopt],
        [
          "Semaphore",
          (key: string) => Semaphore.acquire(key, { limit: 3, permits: 2 }),
          Semaphore.adopt
        ],
        ["ReadWriteLock", ReadWriteLock.readLock, ReadWriteLock.adoptRead],
        ["ReadWriteLock", ReadWriteLock.writeLock, ReadWriteLock.adoptWrite]
      ] as const
      const holds = ["Lock.hold", "Semaphore.hold", "ReadWriteLock.read", "ReadWriteLock.write"]
      for (const [index, [kind, take, adopt]] of ways.entries()) {
        const { handOver } = yield* take("key")
        const handle = yield* handOver
        const tracer = makeTracer()
        yield* tracer.collect(Effect.scoped(adopt(handle)))
        const hold = holds[index]!
        expect(tracer.names()).toEqual([`${kind}.adopt`, hold, `${hold} > ${kind}.release`])
      }
    }).pipe(Effect.provide(memory), Effect.scoped)
  )

  it.effect("or by what it was lost: freed by force, or held for too long", () =>
    Effect.gen(function* () {
      const lossOf = (
        options: Lock.Options,
        lose: (fencingToken: number) => Effect.Effect<unknown, unknown, LockStore.LockStore>
      ) =>
        Effect.gen(function* () {
          const tracer = makeTracer()
          yield* Effect.exit(
            tracer.collect(
              Lock.withLock(
                "key",
                options
              )(({ fencingToken }) => Effect.zipRight(lose(fencingToken), Effect.never))
            )
          )
          const { attributes, status } = tracer.one("Lock.hold")
          return [status, attributes["lock.lost"]]
        })
      expect(yield* lossOf({}, (token) => Lock.forceRelease("key", token))).toEqual([
        "failed",
        "Revoked"
      ])
      const held = yield* Effect.fork(lossOf({ maxHold: "1 minute" }, () => Effect.void))
      yield* TestClock.adjust("1 minute")
      expect(yield* Fiber.join(held)).toEqual(["failed", "MaxHold"])
    }).pipe(Effect.provide(memory))
  )
})

describe("spans of several locks", () => {
  /** In no order, and one of them twice. */
  const named = ["b", "c", "a", "b"]

  it.effect(
    "are one of each for all keys, with the names and the fencing tokens in one order",
    () =>
      Effect.gen(function* () {
        const tracer = makeTracer()
        // so that no two of the tokens are the same, and their order is not that of the names
        yield* Effect.forEach(["b", "b", "c", "b"], (key) => Lock.withLock(key)(Effect.void))
        const tokens = yield* MultiLock.withLocks(named, { name: "transfers", owner: "worker 7" })(
          ({ fencingToken }) => Effect.succeed(["a", "b", "c"].map(fencingToken))
        ).pipe(tracer.collect)
        expect(new Set(tokens).size).toBe(3)
        expect(tracer.names()).toEqual([
          "MultiLock.acquire",
          "MultiLock.hold",
          "MultiLock.hold > Lock.release"
        ])
        expect(tracer.spans.map(({ status }) => status)).toEqual(["ok", "ok", "ok"])
        const { attributes } = tracer.one("MultiLock.acquire")
        expect(attributes).toMatchObject({ "lock.outcome": "acquired", "lock.wait_ms": 0 })
        for (const name of ["MultiLock.acquire", "MultiLock.hold"]) {
          const { attributes } = tracer.one(name)
          expect(attributes).toMatchObject({
            "lock.keys": ["a", "b", "c"],
            "lock.fencing_tokens": tokens,
            "lock.name": "transfers",
            "lock.owner": "worker 7"
          })
          expect(attributes).not.toHaveProperty("lock.key")
          expect(attributes).not.toHaveProperty("lock.fencing_token")
        }
      }).pipe(Effect.provide(memory))
  )

  it.effect("the same for a scoped lease: the body's spans are below the time of holding", () =>
    Effect.gen(function* () {
      const tracer = makeTracer()
      yield* Effect.gen(function* () {
        const lease = yield* MultiLock.acquire(named)
        yield* lease.guard(Effect.withSpan(Effect.void, "body"))
        expect(tracer.one("MultiLock.hold").status).toBe("open")
      }).pipe(Effect.scoped, tracer.collect)
      expect(tracer.names()).toEqual([
        "MultiLock.acquire",
        "MultiLock.hold",
        "MultiLock.hold > body",
        "MultiLock.hold > Lock.release"
      ])
      expect(tracer.one("MultiLock.hold").status).toBe("ok")
    }).pipe(Effect.provide(memory))
  )

  it.effect("one that was not free is named, and there is no span of holding", () =>
    Effect.gen(function* () {
      yield* Lock.acquire("c", { owner: "worker 8" })
      const tracer = makeTracer()
      yield* Effect.flip(tracer.collect(MultiLock.tryAcquire(named)))
      expect(tracer.names()).toEqual(["MultiLock.acquire"])
      expect(tracer.one("MultiLock.acquire")).toMatchObject({
        status: "ok",
        attributes: {
          "lock.keys": ["a", "b", "c"],
          "lock.key": "c",
          "lock.outcome": "unavailable",
          "lock.holder": "worker 8"
        }
      })
    }).pipe(Effect.scoped, Effect.provide(memory))
  )

  it.effect("a loss of one of the keys fails the span of holding, which says why", () =>
    Effect.gen(function* () {
      const tracer = makeTracer()
      const { takeAway } = yield* StoreControls
      const exit = yield* MultiLock.withLocks(named)((lease) =>
        // (the lease of "a")
        takeAway(lease.leases[2]!)
      ).pipe(Effect.flip, tracer.collect)
      expect(exit).toMatchObject({ _tag: "LockLost", key: "a" })
      expect(tracer.one("MultiLock.hold")).toMatchObject({
        status: "failed",
        error: { _tag: "LockLost", key: "a", reason: "Missing" },
        attributes: { "lock.keys": ["a", "b", "c"], "lock.lost": "Missing" }
      })
      expect(tracer.spans.filter(({ status }) => status === "open")).toEqual([])
    }).pipe(Effect.provide([memory, quiet]))
  )
})

// ---------------------------------------------------------------- metrics

describe("metrics", () => {
  it.effect("count grants, waits and times of holding, and what is held now", () =>
    Effect.gen(function* () {
      const name = freshName()
      const run = yield* forkSettled(Lock.withLock("key", { name })(Effect.sleep("3 seconds")))
      expect(yield* metricsOf(name)).toMatchObject({ acquired: 1, held: 1, wait_millis: 1 })
      const second = yield* forkSettled(Lock.withLock("key", { name })(Effect.void))
      yield* TestClock.adjust("3 seconds")
      yield* Fiber.joinAll([run, second])
      expect(yield* metricsOf(name)).toMatchObject({
        acquired: 2,
        contended: 1,
        wait_millis: 2,
        hold_millis: 2,
        held: 0
      })
      const histogram = yield* Effect.map(Metric.snapshot, (pairs) =>
        pairs.find(
          ({ metricKey }) =>
            metricKey.name === "effect_redis_lock_hold_millis" &&
            [...metricKey.tags].some(({ value }) => value === name)
        )
      )
      expect(histogram?.metricState).toMatchObject({ min: 0, max: 3_000, sum: 3_000 })
    }).pipe(Effect.provide(memory))
  )

  it.effect("count acquisitions that ended without the lock", () =>
    Effect.gen(function* () {
      const name = freshName()
      yield* Lock.acquire("key")
      yield* Effect.flip(Lock.tryAcquire("key", { name }))
      yield* Effect.void.pipe(Lock.withLockIfAvailable("key", { name }))
      const waiter = yield* forkSettled(
        Effect.flip(Effect.scoped(Lock.acquire("key", { name, waitAtMost: "2 seconds" })))
      )
      yield* TestClock.adjust("2 seconds")
      yield* Fiber.join(waiter)
      const metrics = yield* metricsOf(name)
      expect(metrics).toMatchObject({ unavailable: 3, contended: 3, wait_millis: 3 })
      expect(metrics["acquired"] ?? 0).toBe(0)
      expect(metrics["held"] ?? 0).toBe(0)
    }).pipe(Effect.scoped, Effect.provide(memory))
  )

  it.effect("count losses by reason, once each, and renewals that failed", () =>
    Effect.gen(function* () {
      const name = freshName()
      const { failRenewals, giveToAnother, takeAway } = yield* StoreControls
      const options = { name, ttl: "10 seconds" } as const

      const missing = yield* Lock.acquire("missing", options)
      yield* takeAway(missing)
      yield* Effect.flip(missing.verify)
      yield* Effect.flip(missing.release)

      const taken = yield* Lock.acquire("taken", options)
      yield* giveToAnother(taken)
      // only the release hears of it
      yield* Effect.flip(taken.release)

      failRenewals("unreachable")
      yield* Lock.acquire("unreachable", options)
      yield* TestClock.adjust("11 seconds")

      const metrics = yield* metricsOf(name)
      expect(metrics).toMatchObject({
        acquired: 3,
        "lost Missing": 1,
        "lost Taken": 1,
        "lost Unreachable": 1,
        hold_millis: 3,
        held: 0
      })
      expect(metrics["renewal_failures"]).toBeGreaterThan(5)
      expect(metrics["lost Released"] ?? 0).toBe(0)
    }).pipe(Effect.scoped, Effect.provide(memory))
  )

  it.effect("count releases that were not confirmed", () =>
    Effect.gen(function* () {
      const name = freshName()
      const { failReleases } = yield* StoreControls
      failReleases("key")
      yield* Effect.void.pipe(Lock.withLock("key", { name }))
      expect(yield* metricsOf(name)).toMatchObject({ release_failures: 1, held: 0 })
    }).pipe(Effect.provide(memory))
  )

  it.effect("have the default name where none is given, and no key in any tag", () =>
    Effect.gen(function* () {
      const key = `a key in no tag ${freshKey()}`
      const before = (yield* metricsOf("default"))["acquired"] ?? 0
      yield* Effect.void.pipe(Lock.withLock(key, { owner: "an owner in no tag" }))
      yield* Effect.scoped(Effect.zipRight(Lock.acquire(key), Effect.exit(Lock.tryAcquire(key))))
      expect((yield* metricsOf("default"))["acquired"]).toBe(before + 2)
      const ours = [...(yield* Metric.snapshot)].filter(({ metricKey }) =>
        metricKey.name.startsWith("effect_redis_lock")
      )
      expect(ours.length).toBeGreaterThan(5)
      for (const { metricKey } of ours) {
        const tags = [...metricKey.tags].flatMap((tag) => [tag.key, tag.value])
        expect(tags.join()).not.toContain("in no tag")
        expect(["lock", "lock,reason"]).toContain(
          [...metricKey.tags]
            .map(({ key }) => key)
            .sort()
            .join()
        )
      }
    }).pipe(Effect.provide(memory))
  )

  it.effect("count what is held for each set of labels, whoever ends first", () =>
    Effect.gen(function* () {
      const name = freshName()
      const hold = (tenant: string) =>
        forkSettled(
          Lock.withLock(tenant, { name })(Effect.never).pipe(Effect.tagMetrics("tenant", tenant))
        )
      const held = Effect.map(Metric.snapshot, (pairs) =>
        Object.fromEntries(
          pairs.flatMap(({ metricKey, metricState }) => {
            const tags = Object.fromEntries([...metricKey.tags].map((tag) => [tag.key, tag.value]))
            return metricKey.name === "effect_redis_lock_held" && tags["lock"] === name
              ? [[tags["tenant"], (metricState as MetricState.MetricState.Gauge<number>).value]]
              : []
          })
        )
      )
      const first = yield* hold("A")
      const second = yield* hold("B")
      expect(yield* held).toEqual({ A: 1, B: 1 })
      yield* Fiber.interrupt(first)
      expect(yield* held).toEqual({ A: 0, B: 1 })
      yield* Fiber.interrupt(second)
      expect(yield* held).toEqual({ A: 0, B: 0 })
    }).pipe(Effect.provide(memory))
  )

  it.effect("are there with the first use of a name, at 0, so that an increase can be seen", () =>
    Effect.gen(function* () {
      const name = freshName()
      const zeros = {
        held: 0,
        waiting: 0,
        acquired: 1,
        contended: 0,
        unavailable: 0,
        failures: 0,
        renewal_failures: 0,
        release_failures: 0,
        "lost Missing": 0,
        "lost Taken": 0,
        "lost Unreachable": 0,
        "lost Released": 0,
        "lost Revoked": 0,
        "lost MaxHold": 0,
        wait_millis: 1,
        hold_millis: 1
      }
      yield* Effect.void.pipe(Lock.withLock("key", { name }))
      expect(yield* metricsOf(name)).toEqual(zeros)
      const other = freshName()
      const labelled = Effect.void.pipe(
        Lock.withLock("key", { name: other }),
        Effect.tagMetrics("region", "north")
      )
      yield* labelled
      expect(yield* metricsOf(other)).toEqual(zeros)
      // with every set of labels, and once
      yield* Effect.void.pipe(Lock.withLock("key", { name: other }))
      yield* labelled
      const lost = [...(yield* Metric.snapshot)].filter(
        ({ metricKey }) =>
          metricKey.name === "effect_redis_lock_lost" &&
          [...metricKey.tags].some(({ value }) => value === other)
      )
      expect(lost).toHaveLength(12)
    }).pipe(Effect.provide(memory))
  )

  it.effect("say of what only grows that it does, by which exporters know a counter", () =>
    Effect.gen(function* () {
      yield* Effect.void.pipe(Lock.withLock("key", { name: freshName() }))
      const counters = [...(yield* Metric.snapshot)].filter(
        ({ metricKey }) =>
          metricKey.name.startsWith("effect_redis_lock") &&
          MetricKeyType.isCounterKey(metricKey.keyType)
      )
      expect(counters.length).toBeGreaterThan(5)
      for (const { metricKey } of counters) {
        expect(metricKey.keyType).toMatchObject({ incremental: true })
      }
    }).pipe(Effect.provide(memory))
  )

  it.effect("carry the labels that the caller gave to all of its metrics", () =>
    Effect.gen(function* () {
      const name = freshName()
      yield* Effect.void.pipe(Lock.withLock("key", { name }), Effect.tagMetrics("region", "north"))
      const found = [...(yield* Metric.snapshot)].filter(
        ({ metricKey }) =>
          metricKey.name === "effect_redis_lock_acquired" &&
          [...metricKey.tags].some(({ value }) => value === name)
      )
      expect(
        found.map(({ metricKey }) => [...metricKey.tags].map(({ value }) => value).sort())
      ).toEqual([["north", name].sort()])
    }).pipe(Effect.provide(memory))
  )
})

// ---------------------------------------------------------------- logs

describe("logs", () => {
  const lockWarnings = (logs: ReturnType<typeof makeLogs>) =>
    logs
      .loud()
      .map(({ annotations, level }) => [level, annotations["lock.key"], annotations["lock.owner"]])

  it.effect("normal use logs nothing that anyone is shown", () =>
    Effect.gen(function* () {
      const logs = makeLogs()
      yield* Effect.gen(function* () {
        const first = yield* forkSettled(Lock.withLock("key")(Effect.sleep("1 minute")))
        const waiter = yield* forkSettled(
          Effect.scoped(Lock.acquire("key", { warnAfter: Duration.infinity }))
        )
        const cut = yield* forkSettled(
          Effect.scoped(Lock.acquire("key", { warnAfter: "31 seconds" }))
        )
        yield* Effect.exit(Effect.scoped(Lock.tryAcquire("key")))
        yield* Effect.void.pipe(Lock.withLockIfAvailable("key"))
        yield* Effect.exit(Lock.withLock("other")(Effect.fail("own")))
        yield* Effect.exit(Lock.withLock("other")(Effect.die("own")))
        yield* TestClock.adjust("30 seconds")
        yield* Fiber.interrupt(cut)
        yield* TestClock.adjust("30 seconds")
        yield* Fiber.join(first)
        yield* Fiber.join(waiter)
        const early = yield* Effect.scoped(
          Effect.tap(Lock.acquire("key"), (lease) => lease.release)
        )
        yield* early.release
      }).pipe(logs.collect)
      expect(logs.loud()).toEqual([])
    }).pipe(Effect.provide(memory))
  )

  it.effect("a long wait is a warning, and then ever less often: key, holder, since when", () =>
    Effect.gen(function* () {
      const logs = makeLogs()
      yield* Effect.gen(function* () {
        const holder = yield* forkSettled(Lock.withLock("key", { owner: "worker 7" })(Effect.never))
        yield* TestClock.adjust("5 seconds")
        const first = yield* forkSettled(Lock.withLock("key", { warnAfter: "1 hour" })(Effect.void))
        const waiter = yield* forkSettled(
          Effect.annotateLogs(Lock.withLock("key", { owner: "worker 8" })(Effect.void), "mine", 1)
        )
        yield* TestClock.adjust("9900 millis")
        expect(logs.loud()).toEqual([])
        yield* TestClock.adjust("200 millis")
        expect(logs.loud()).toHaveLength(1)
        yield* TestClock.adjust("9 seconds")
        expect(logs.loud()).toHaveLength(1)
        yield* TestClock.adjust("80 seconds")
        // after 10, 20, 40 and 80 s
        expect(logs.loud()).toHaveLength(4)
        yield* Fiber.interrupt(holder)
        yield* Fiber.join(first)
        yield* Fiber.join(waiter)
        yield* TestClock.adjust("1 hour")
      }).pipe(logs.collect)
      expect(lockWarnings(logs)).toEqual(
        Array.from({ length: 4 }, () => ["WARN", "key", "worker 8"])
      )
      const [{ annotations, text }] = logs.loud() as [Line]
      expect(annotations).toMatchObject({ mine: 1 })
      expect(text).toContain('Still waiting. Lock "key" is not available after waiting 10s')
      expect(text).toContain("held by worker 7, for 15s so far")
      expect(text).toContain("In the queue before this caller: 1")
      expect(logs.loud()[3]!.text).toContain("held by worker 7, for 1m 25s so far")
    }).pipe(Effect.provide(memory))
  )

  it.effect("a lease that is lost is one warning, with key and owner", () =>
    Effect.gen(function* () {
      const logs = makeLogs()
      const { silenceRenewals } = yield* StoreControls
      silenceRenewals("key")
      const fiber = yield* forkSettled(
        logs.collect(Lock.withLock("key", { owner: "worker 7" })(Effect.never))
      )
      yield* TestClock.adjust("5 seconds")
      yield* Effect.flip(Fiber.join(fiber))
      expect(lockWarnings(logs)).toEqual([["WARN", "key", "worker 7"]])
      expect(logs.loud()[0]!.text).toContain('The lease of lock "key"')
      expect(logs.loud()[0]!.text).toContain("no renewal was confirmed")
    }).pipe(Effect.provide(memory))
  )

  it.effect("a loss that only the close of a scope finds is a warning, too", () =>
    Effect.gen(function* () {
      const logs = makeLogs()
      const { takeAway } = yield* StoreControls
      yield* Lock.acquire("key", { owner: "worker 7" }).pipe(
        Effect.tap(takeAway),
        Effect.scoped,
        logs.collect
      )
      expect(lockWarnings(logs)).toEqual([["WARN", "key", "worker 7"]])
      expect(logs.loud()[0]!.text).toContain("its key was gone")
    }).pipe(Effect.provide(memory))
  )

  it.effect("a release that was not confirmed is a warning, with key and owner", () =>
    Effect.gen(function* () {
      const { failReleases } = yield* StoreControls
      failReleases("key")
      for (const use of [
        Effect.scoped(Lock.acquire("key", { owner: "worker 7", ttl: "1 second" })),
        Lock.withLock("key", { owner: "worker 7", ttl: "1 second" })(Effect.void)
      ]) {
        const logs = makeLogs()
        const using = yield* forkSettled(logs.collect(use))
        yield* TestClock.adjust("1 second")
        yield* Fiber.join(using)
        expect(lockWarnings(logs)).toEqual([["WARN", "key", "worker 7"]])
        expect(logs.loud()[0]!.text).toContain('The lock store failed (release of lock "key")')
      }
    }).pipe(Effect.provide(memory))
  )

  it.effect("renewals that fail are for those who debug", () =>
    Effect.gen(function* () {
      const logs = makeLogs()
      const { failRenewals, heal } = yield* StoreControls
      failRenewals("key")
      const fiber = yield* forkSettled(
        logs.collect(Lock.withLock("key", { ttl: "10 seconds" })(Effect.sleep("20 seconds")))
      )
      yield* TestClock.adjust("6 seconds")
      heal("key")
      yield* TestClock.adjust("14 seconds")
      yield* Fiber.join(fiber)
      expect(logs.loud()).toEqual([])
      expect(
        logs.lines.filter(({ text }) => text.startsWith("Renewal failed")).length
      ).toBeGreaterThan(0)
    }).pipe(Effect.provide(memory))
  )

  it.effect("an interruption by the caller is not worth a line", () =>
    Effect.gen(function* () {
      const logs = makeLogs()
      const { body, isStarted } = yield* started(Effect.never)
      const fiber = yield* Effect.fork(logs.collect(Lock.withLock("key")(body)))
      yield* isStarted
      yield* Fiber.interrupt(fiber)
      expect(logs.loud()).toEqual([])
    }).pipe(Effect.provide(memory))
  )
})

// ---------------------------------------------------------------- secrets

for (const [where, store] of stores) {
  layer(store, { excludeTestServices: true })(`metrics (${where})`, (it) => {
    it.effect("count those who wait, however their wait ends", () =>
      Effect.gen(function* () {
        const name = freshName()
        const key = freshKey()
        const waiting = Effect.map(metricsOf(name), (metrics) => metrics["waiting"] ?? 0)
        const untilWaiting = (count: number) =>
          Effect.repeat(waiting, { until: (now) => now === count, schedule: Schedule.spaced(5) })
        const { until } = yield* StoreControls
        const release = yield* Deferred.make<void>()
        const holder = yield* Effect.fork(Lock.withLock(key, { name })(Deferred.await(release)))
        yield* until(key, "granted")
        expect(yield* waiting).toBe(0)
        yield* Effect.exit(Effect.scoped(Lock.tryAcquire(key, { name })))
        expect(yield* waiting).toBe(0)
        const wait = (waitAtMost?: number) =>
          Effect.fork(Effect.exit(Lock.withLock(key, { name, waitAtMost })(Effect.void)))
        const granted = yield* wait()
        const interrupted = yield* wait()
        const inVain = yield* wait(400)
        yield* untilWaiting(3)
        yield* Fiber.interrupt(interrupted)
        expect(yield* waiting).toBe(2)
        yield* Fiber.join(inVain)
        expect(yield* waiting).toBe(1)
        yield* Deferred.succeed(release, undefined)
        yield* Fiber.join(holder)
        yield* Fiber.join(granted)
        expect(yield* waiting).toBe(0)
      })
    )

    it.effect("count all who came at one moment as contended, but for the first", () =>
      Effect.gen(function* () {
        const name = freshName()
        const take = Lock.withLock(freshKey(), { name })(Effect.yieldNow())
        yield* Effect.all(
          Array.from({ length: 5 }, () => take),
          { concurrency: "unbounded" }
        )
        expect(yield* metricsOf(name)).toMatchObject({ acquired: 5, contended: 4 })
      })
    )
  })
}

layer(redis, { excludeTestServices: true })("secrets", (it) => {
  it.scoped("no token in a log line, a span, a metric or an error, however it is printed", () =>
    Effect.gen(function* () {
      const server = yield* RedisServer
      const { failReleases, giveToAnother } = yield* StoreControls
      const tracer = makeTracer()
      const logs = makeLogs()
      const tokens: Array<string> = []
      const errors: Array<unknown> = []
      const use = (prepare: (key: string) => Effect.Effect<unknown, never, never>) =>
        Effect.gen(function* () {
          const key = freshKey()
          const exit = yield* Effect.exit(
            Lock.withLock(key, { ttl: "300 millis", owner: "me" })((lease) =>
              Effect.gen(function* () {
                tokens.push(lease.token)
                yield* prepare(key)
                errors.push(
                  yield* Effect.merge(Effect.as(Effect.scoped(Lock.tryAcquire(key)), "free"))
                )
                errors.push(yield* Effect.exit(lease.verify))
                yield* Effect.sleep(400)
              })
            )
          )
          errors.push(exit)
        })
      yield* Effect.all(
        [
          use(() => Effect.void),
          use((key) => server.command("DEL", key)),
          use((key) => server.command("SET", key, "foreign")),
          // an error of the server's: the client attaches the command, with all its arguments
          use((key) =>
            Effect.zipRight(server.command("DEL", key), server.command("LPUSH", key, "not a lock"))
          ),
          use((key) => Effect.sync(() => failReleases(key)))
        ],
        { concurrency: "unbounded" }
      ).pipe(tracer.collect, logs.collect)
      yield* Effect.gen(function* () {
        const lease = yield* Lock.acquire(freshKey())
        const other = yield* giveToAnother(lease)
        tokens.push(lease.token, other.token)
        errors.push(yield* Effect.exit(lease.verify))
      }).pipe(logs.collect)

      const metrics = yield* Metric.snapshot
      expect(logs.lines.length).toBeGreaterThan(0)
      expect(tracer.spans.length).toBeGreaterThan(0)
      const seen = [logs.lines, tracer.spans, errors, metrics].map((value) =>
        inspect(value, { depth: Number.POSITIVE_INFINITY, showHidden: true })
      )
      seen.push(
        JSON.stringify(errors, (_, value) => (typeof value === "bigint" ? `${value}` : value)),
        ...errors.map((error) =>
          Exit.isExit(error)
            ? Exit.match(error, {
                onFailure: (cause) => Cause.pretty(cause, { renderErrorCause: true }),
                onSuccess: String
              })
            : String(error)
        )
      )
      expect(tokens).toHaveLength(7)
      for (const token of tokens) {
        const secret = token.slice(-22)
        for (const text of seen) {
          const at = text.indexOf(secret)
          if (at !== -1) throw new Error(`a token, after ${text.slice(Math.max(0, at - 300), at)}`)
        }
      }
    })
  )
})
