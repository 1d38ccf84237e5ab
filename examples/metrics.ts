/**
 * Metrics for Prometheus: what the library counts, served at http://127.0.0.1:9464/metrics (PORT names
 * another port). It runs until interrupted, and works with locks of several kinds all the time, so that
 * there is something to see.
 *
 *   npx -y tsx examples/metrics.ts
 *   curl http://127.0.0.1:9464/metrics
 *
 * A dashboard for Grafana and alerts for Prometheus: docs/metrics.md. Each lock has a `name`, by which its
 * metrics are told from the others': one for each purpose, never one for each key.
 */
import { NodeSdk } from "@effect/opentelemetry"
import { NodeRuntime } from "@effect/platform-node"
import { PrometheusExporter } from "@opentelemetry/exporter-prometheus"
import { Config, Console, Effect, Random, Schedule } from "effect"
import { Lock, MultiLock, ReadWriteLock, Semaphore } from "effect-redis-lock"
import { StoreLive } from "./support/store.js"

// ---------------------------------------------------------------- the metrics

/** All metrics of Effect, and so the library's, are read when Prometheus asks for them. */
const MetricsLive = NodeSdk.layer(
  Effect.gen(function* () {
    const port = yield* Config.withDefault(Config.port("PORT"), 9464)
    // (started here and not by itself, so that a port that is taken is an error)
    const exporter = new PrometheusExporter({ host: "127.0.0.1", port, preventServerStart: true })
    yield* Effect.tryPromise(() => exporter.startServer())
    yield* Console.log(`metrics: http://127.0.0.1:${port}/metrics`)
    return { resource: { serviceName: "examples" }, metricReader: exporter }
  })
)

// ---------------------------------------------------------------- something to see

const some = Effect.flatMap(Random.nextIntBetween(5, 50), (millis) => Effect.sleep(millis))
const account = Effect.map(Random.nextIntBetween(1, 4), (id) => `account:${id}`)

const settle = Effect.flatMap(account, (key) =>
  Lock.withLock(key, { name: "settlement", waitAtMost: "2 seconds" })(some)
)
const transfer = Effect.flatMap(Effect.all([account, account]), (keys) =>
  MultiLock.withLocks(keys, { name: "transfer" })(some)
)
const render = Semaphore.withPermits("renderer", { permits: 1, limit: 2, name: "renderer" })(some)
const read = ReadWriteLock.withReadLock("catalogue", { name: "catalogue" })(some)
const write = ReadWriteLock.withWriteLock("catalogue", { name: "catalogue" })(some)
// one of many tries, and most of them do not get it
const report = Lock.withLockIfAvailable("report", { name: "report" })(some)

const busy = <A, E, R>(work: Effect.Effect<A, E, R>) =>
  work.pipe(
    Effect.andThen(some),
    Effect.catchAll((error) => Effect.logWarning(error)),
    Effect.repeat(Schedule.forever)
  )

const program = Effect.all(
  [settle, settle, transfer, render, render, render, read, read, write, report, report].map(busy),
  { concurrency: "unbounded", discard: true }
)

program.pipe(Effect.provide([StoreLive, MetricsLive]), NodeRuntime.runMain)
