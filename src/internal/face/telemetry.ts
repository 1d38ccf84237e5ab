/**
 * Metrics and spans. Metrics are tagged by a lock's `name`, never by its key: the registry keeps
 * every combination of tags for ever.
 */
import * as Context from "effect/Context"
import * as DefaultServices from "effect/DefaultServices"
import type * as Fiber from "effect/Fiber"
import * as FiberRef from "effect/FiberRef"
import type * as Metric from "effect/Metric"
import * as MetricModule from "effect/Metric"
import * as MetricBoundaries from "effect/MetricBoundaries"
import * as MetricKey from "effect/MetricKey"
import * as MetricLabel from "effect/MetricLabel"
import * as Tracer from "effect/Tracer"
import type { LossReason } from "../../LockError.js"

type Labels = ReadonlyArray<MetricLabel.MetricLabel>

/** The metrics of one lock name, as one fiber sees them (with its own metric labels). */
export interface LockMetrics {
  readonly ended: (heldMillis: number) => void
  readonly acquired: (waitedMillis: number, contended: boolean) => void
  readonly waiting: (change: 1 | -1) => void
  readonly unavailable: (waitedMillis: number) => void
  readonly failed: () => void
  readonly lost: (reason: LossReason) => void
  readonly renewalFailed: () => void
  readonly releaseFailed: () => void
}

/** 1 ms to half a minute and more. */
const millis = MetricBoundaries.exponential({ start: 1, factor: 2, count: 17 })

/** Incremental: what is no counter for sure is exported as a gauge. */
const counter = (name: string, description: string, labels: Labels) =>
  MetricModule.fromMetricKey(
    MetricKey.taggedWithLabels(
      MetricKey.counter(`effect_redis_lock_${name}`, { description, incremental: true }),
      labels
    )
  )

/** Counted by the registry, for each set of labels: it keeps them anyway. */
const gauge = (name: string, description: string, labels: Labels) =>
  MetricModule.fromMetricKey(
    MetricKey.taggedWithLabels(
      MetricKey.gauge(`effect_redis_lock_${name}`, { description }),
      labels
    )
  )

const histogram = (name: string, description: string, labels: Labels) =>
  MetricModule.fromMetricKey(
    MetricKey.taggedWithLabels(
      MetricKey.histogram(`effect_redis_lock_${name}`, millis, description),
      labels
    )
  )

const makeNamed = (name: string) => {
  const labels = [MetricLabel.make("lock", name)]
  const lost = (reason: LossReason) =>
    counter("lost", "Leases lost, by reason", [...labels, MetricLabel.make("reason", reason)])
  return {
    /** The sets of labels that it was used with. */
    begun: new Set<string>(),
    held: gauge("held", "Leases held now", labels),
    waiting: gauge("waiting", "Callers that wait for a lock that somebody else has", labels),
    acquired: counter("acquired", "Leases granted", labels),
    contended: counter("contended", "Acquisitions that found the lock taken", labels),
    unavailable: counter("unavailable", "Acquisitions that ended without the lock", labels),
    failures: counter("failures", "Acquisitions that failed with a LockStoreError", labels),
    renewalFailures: counter("renewal_failures", "Renewals without a usable answer", labels),
    releaseFailures: counter("release_failures", "Releases that were not confirmed", labels),
    wait: histogram("wait_millis", "Time from the request to the grant", labels),
    hold: histogram("hold_millis", "Time from the grant to the release or the loss", labels),
    lost: {
      Missing: lost("Missing"),
      Taken: lost("Taken"),
      Unreachable: lost("Unreachable"),
      Released: lost("Released"),
      Revoked: lost("Revoked"),
      MaxHold: lost("MaxHold")
    } satisfies Record<LossReason, Metric.Metric.Counter<number>>
  }
}

type Named = ReturnType<typeof makeNamed>

const byName = new Map<string, Named>()

export const metricsFor = (
  name: string = "default",
  fiber: Fiber.RuntimeFiber<unknown, unknown>
): LockMetrics => {
  let named = byName.get(name)
  if (named === undefined) byName.set(name, (named = makeNamed(name)))
  const labels = fiber.getFiberRef(FiberRef.currentMetricLabels)
  beginAtZero(named, labels)
  return new FiberMetrics(named, labels)
}

/**
 * With the first use of a name all that is counted is there: Prometheus sees no increase in a counter
 * that appears with its first loss.
 */
const beginAtZero = (named: Named, labels: Labels): void => {
  const id = labels.length === 0 ? "" : JSON.stringify(labels.map(({ key, value }) => [key, value]))
  if (named.begun.has(id)) return
  named.begun.add(id)
  const { acquired, contended, failures, lost, releaseFailures, renewalFailures, unavailable } =
    named
  const counters = [acquired, contended, unavailable, failures, renewalFailures, releaseFailures]
  for (const counter of [...counters, ...Object.values(lost)]) counter.unsafeUpdate(0, labels)
  for (const gauge of [named.held, named.waiting]) gauge.unsafeModify(0, labels)
}

class FiberMetrics implements LockMetrics {
  constructor(
    private readonly named: Named,
    private readonly labels: Labels
  ) {}
  ended(heldMillis: number) {
    this.named.held.unsafeModify(-1, this.labels)
    this.named.hold.unsafeUpdate(heldMillis, this.labels)
  }
  acquired(waitedMillis: number, contended: boolean) {
    this.named.held.unsafeModify(1, this.labels)
    this.named.acquired.unsafeUpdate(1, this.labels)
    if (contended) this.named.contended.unsafeUpdate(1, this.labels)
    this.named.wait.unsafeUpdate(waitedMillis, this.labels)
  }
  waiting(change: 1 | -1) {
    this.named.waiting.unsafeModify(change, this.labels)
  }
  unavailable(waitedMillis: number) {
    this.named.contended.unsafeUpdate(1, this.labels)
    this.named.unavailable.unsafeUpdate(1, this.labels)
    this.named.wait.unsafeUpdate(waitedMillis, this.labels)
  }
  failed() {
    this.named.failures.unsafeUpdate(1, this.labels)
  }
  lost(reason: LossReason) {
    this.named.lost[reason].unsafeUpdate(1, this.labels)
  }
  renewalFailed() {
    this.named.renewalFailures.unsafeUpdate(1, this.labels)
  }
  releaseFailed() {
    this.named.releaseFailures.unsafeUpdate(1, this.labels)
  }
}

const nativeTracer = Context.get(DefaultServices.liveServices, Tracer.Tracer)

/**
 * Whether anyone receives spans. Effect's own tracer only keeps them in memory, and making one
 * costs as much as the rest of an uncontended lock.
 */
export const isTraced = (fiber: Fiber.RuntimeFiber<unknown, unknown>): boolean =>
  fiber.currentTracer !== nativeTracer && fiber.getFiberRef(FiberRef.currentTracerEnabled)
