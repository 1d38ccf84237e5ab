/** The dashboard and the alerts of docs/grafana ask for metrics and labels that the library exports. */
import * as Metrics from "@effect/opentelemetry/Metrics"
import * as Resource from "@effect/opentelemetry/Resource"
import { describe, expect, it } from "@effect/vitest"
import { PrometheusExporter, PrometheusSerializer } from "@opentelemetry/exporter-prometheus"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as TestClock from "effect/TestClock"
import { Lock, MultiLock, ReadWriteLock, Semaphore } from "effect-redis-lock"
import * as TestLockStore from "effect-redis-lock/TestLockStore"
import { readFileSync } from "node:fs"
import { join } from "node:path"
import * as Yaml from "yaml"
import * as Exposition from "./support/Exposition.js"
import { forkSettled } from "./support/fibers.js"
import { quiet } from "./support/stores.js"

const read = (path: string) => readFileSync(join(import.meta.dirname, "..", path), "utf8")
const dashboardText = read("docs/grafana/effect-redis-lock.json")
const alertsText = read("docs/grafana/alerts.yml")

// ---------------------------------------------------------------- what they ask for

interface Panel {
  readonly type: string
  readonly title: string
  readonly targets?: ReadonlyArray<{ readonly expr: string; readonly legendFormat: string }>
}

interface Dashboard {
  readonly panels: ReadonlyArray<Panel>
  readonly templating: {
    readonly list: ReadonlyArray<
      | { readonly type: "datasource" }
      | {
          readonly type: "query"
          readonly definition: string
          readonly query: { readonly query: string }
        }
    >
  }
}

interface Rules {
  readonly groups: ReadonlyArray<{
    readonly rules: ReadonlyArray<{
      readonly alert: string
      readonly expr: string
      readonly labels: { readonly severity: string }
      readonly annotations: { readonly summary: string; readonly description: string }
    }>
  }>
}

const labelsIn = (text: string, pattern: RegExp) =>
  Array.from(text.matchAll(pattern), ([, it]) => it!)

const panelsOf = (text: string) =>
  (JSON.parse(text) as Dashboard).panels.filter(({ type }) => type !== "row")

const queriesOfDashboard = (text: string): ReadonlyArray<Exposition.Query> =>
  panelsOf(text).flatMap(({ targets = [], title }) =>
    targets.map(({ expr, legendFormat }) => ({
      where: title,
      expr,
      shown: labelsIn(legendFormat, /\{\{\s*(\w+)\s*\}\}/g)
    }))
  )

/** `label_values(METRIC, LABEL)` is no PromQL: as a query that needs the same. */
const queriesOfVariables = (text: string): ReadonlyArray<Exposition.Query> =>
  (JSON.parse(text) as Dashboard).templating.list.flatMap((variable) => {
    if (variable.type !== "query") return []
    return [variable.definition, variable.query.query].map((asked) => {
      const [, metric, label] = /^label_values\((.*), (\w+)\)$/.exec(asked) ?? []
      return { where: asked, expr: `sum by (${label}) (rate(${metric}[5m]))`, shown: [label!] }
    })
  })

const rulesOf = (text: string) => (Yaml.parse(text) as Rules).groups.flatMap(({ rules }) => rules)

const queriesOfAlerts = (text: string): ReadonlyArray<Exposition.Query> =>
  rulesOf(text).map(({ alert, annotations, expr }) => ({
    where: alert,
    expr,
    shown: labelsIn(JSON.stringify(annotations), /\$labels\.(\w+)/g)
  }))

const problems = (exposition: Exposition.Exposition, dashboard: string, alerts: string) =>
  [
    ...queriesOfDashboard(dashboard),
    ...queriesOfVariables(dashboard),
    ...queriesOfAlerts(alerts)
  ].flatMap((query) => Exposition.problemsOf(query, exposition))

// ---------------------------------------------------------------- what there is

/** In the text that Prometheus reads, as examples/metrics.ts exports it. */
const exposition = Effect.gen(function* () {
  const reader = new PrometheusExporter({ preventServerStart: true })
  reader.setMetricProducer(yield* Metrics.makeProducer)
  const { resourceMetrics } = yield* Effect.promise(() => reader.collect())
  return Exposition.parse(new PrometheusSerializer().serialize(resourceMetrics))
}).pipe(Effect.provide(Resource.layer({ serviceName: "tests" })))

/** Every kind is used, and everything that is counted happens. */
const allKinds = Effect.gen(function* () {
  const lock = { name: "invoices", ttl: "5 seconds" } as const
  const holder = yield* forkSettled(Lock.withLock("a", lock)(Effect.sleep("20 seconds")))
  const waiter = yield* forkSettled(Lock.withLock("a", lock)(Effect.void))
  yield* Effect.exit(Effect.scoped(Lock.tryAcquire("a", lock)))
  yield* TestClock.adjust("30 seconds")
  yield* Fiber.joinAll([holder, waiter])
  yield* Semaphore.withPermits("b", { permits: 1, limit: 2, name: "exports" })(Effect.void)
  yield* ReadWriteLock.withReadLock("c", { name: "catalogue" })(Effect.void)
  yield* ReadWriteLock.withWriteLock("c", { name: "catalogue" })(Effect.void)
  yield* MultiLock.withLocks(["d", "e"], { name: "transfer" })(Effect.void)
  const tooLong = yield* forkSettled(
    Effect.exit(Lock.withLock("f", { name: "report", maxHold: "10 seconds" })(Effect.never))
  )
  const stolen = yield* forkSettled(Effect.exit(Lock.withLock("g", lock)(Effect.never)))
  yield* TestLockStore.steal("g")
  yield* TestClock.adjust("15 seconds")
  yield* Fiber.joinAll([tooLong, stolen])
  const unreachable = yield* forkSettled(Effect.exit(Lock.withLock("h", lock)(Effect.never)))
  const unreleased = yield* forkSettled(
    Effect.exit(Lock.withLock("i", lock)(Effect.sleep("1 second")))
  )
  yield* TestLockStore.refuse()
  yield* Effect.exit(Lock.withLock("j", lock)(Effect.void))
  yield* TestClock.adjust("30 seconds")
  yield* Fiber.joinAll([unreachable, unreleased])
}).pipe(Effect.provide([TestLockStore.layer, quiet]))

const exported = Effect.zipRight(allKinds, exposition)

const isOurs = (name: string) => name.startsWith("effect_redis_lock_")

describe("the dashboard and the alerts", () => {
  it.effect("ask for metrics and labels that exist, each in the way of its type", () =>
    Effect.gen(function* () {
      expect(problems(yield* exported, dashboardText, alertsText)).toEqual([])
    })
  )

  it.effect("show every metric there is", () =>
    Effect.gen(function* () {
      const names = [...(yield* exported).keys()]
        .filter(isOurs)
        .map((name) => name.replace(/_(bucket|sum|count)$/, ""))
      const queries = queriesOfDashboard(dashboardText)
        .map(({ expr }) => expr)
        .join()
      expect(new Set(names).size).toBe(11)
      expect(names.filter((name) => !queries.includes(name))).toEqual([])
    })
  )

  it("have panels with titles of their own, and alerts with a severity and what to do", () => {
    const titles = panelsOf(dashboardText).map(({ title }) => title)
    expect(titles).toHaveLength(new Set(titles).size)
    expect(panelsOf(dashboardText).every(({ targets = [] }) => targets.length > 0)).toBe(true)
    const rules = rulesOf(alertsText)
    expect(rules).toHaveLength(new Set(rules.map(({ alert }) => alert)).size)
    for (const { annotations, labels } of rules) {
      expect(["warning", "critical"]).toContain(labels.severity)
      expect(annotations.summary).not.toBe("")
      expect(annotations.description).not.toBe("")
    }
  })

  it("are explained by the page: every metric by its name in Prometheus, every alert", () => {
    const page = read("docs/metrics.md")
    const named = new Set(labelsIn(page, /^\| `(effect_redis_lock_\w+)`/gm))
    const listed = labelsIn(read("docs/inspect.md"), /^\| `(effect_redis_lock_\w+)`/gm)
    expect(listed).toHaveLength(11)
    expect(listed.filter((name) => !named.has(name) && !named.has(`${name}_total`))).toEqual([])
    expect(named.size).toBe(listed.length)
    expect(labelsIn(page, /^\| `(Lock\w+)`/gm)).toEqual(rulesOf(alertsText).map((it) => it.alert))
  })
})

describe("a mistake is found:", () => {
  const mistakes: ReadonlyArray<readonly [find: string, replace: string, found: string]> = [
    [
      "effect_redis_lock_held{",
      "effect_redis_lock_hold{",
      "there is no metric effect_redis_lock_hold"
    ],
    ["lock_lost_total{", "lock_lost{", "there is no metric effect_redis_lock_lost"],
    [
      "sum by (lock) (effect_redis_lock_waiting{",
      "sum by (name) (effect_redis_lock_waiting{",
      "effect_redis_lock_waiting has no label name"
    ],
    ["{{lock}}, {{reason}}", "{{lock}}, {{cause}}", "shows no label cause"],
    ["$labels.reason", "$labels.cause", "shows no label cause"],
    ["Missing|Taken", "Missing|Stolen", 'effect_redis_lock_lost_total never has reason="Stolen"'],
    ['reason=\\"MaxHold\\"', 'reason=\\"maxHold\\"', 'never has reason="maxHold"'],
    ["[$__rate_interval]))", "[$__rate_interval])", "is no PromQL"],
    [
      "increase(effect_redis_lock_failures_total",
      "abs(effect_redis_lock_failures_total",
      "is a counter, and not rated"
    ],
    ["sum by (lock, le)", "sum by (lock)", "a quantile needs the label le"],
    [
      "label_values(effect_redis_lock_acquired_total, job)",
      "label_values(effect_redis_lock_acquired, job)",
      "there is no metric effect_redis_lock_acquired:"
    ]
  ]
  for (const [find, replace, found] of mistakes) {
    it.effect(`${replace} for ${find}`, () =>
      Effect.gen(function* () {
        const edit = (text: string) => text.replace(find, () => replace)
        const asYaml = (text: string) => text.replaceAll('\\"', '"')
        const dashboard = edit(dashboardText)
        const alerts = alertsText.replace(asYaml(find), () => asYaml(replace))
        expect([dashboard, alerts]).not.toEqual([dashboardText, alertsText])
        expect(problems(yield* exported, dashboard, alerts).join("\n")).toContain(found)
      })
    )
  }
})
