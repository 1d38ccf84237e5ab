/**
 * Metrics, and whether there are spans. Metrics are tagged by a lock's `name`, never by its key: the
 * registry keeps every combination of tags for ever.
 */
import * as Context from "effect/Context"
import type * as Fiber from "effect/Fiber"
import * as Metric from "effect/Metric"
import type { LossReason } from "../../LockError.js"

/** The metrics of one lock name, as one fiber sees them (with its own attributes, and registry). */
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

/** 1 ms to half a minute, and more. */
const boundaries = Metric.exponentialBoundaries({ start: 1, factor: 2, count: 17 })

const makeNamed = (name: string) => {
  const attributes = { lock: name }
  const named = (metric: string) => `effect_redis_lock_${metric}`
  const counter = (
    metric: string,
    description: string,
    more: Readonly<Record<string, string>> = {}
  ) =>
    Metric.counter(named(metric), {
      description,
      attributes: { ...attributes, ...more },
      // what is no counter for sure is exported as a gauge
      incremental: true
    })
  const gauge = (metric: string, description: string) =>
    Metric.gauge(named(metric), { description, attributes })
  const histogram = (metric: string, description: string) =>
    Metric.histogram(named(metric), { description, attributes, boundaries })
  const lost = (reason: LossReason) => counter("lost", "Leases lost, by reason", { reason })
  return {
    /** As whom it was used last. */
    registry: undefined as Metric.MetricRegistry | undefined,
    labels: undefined as Readonly<Record<string, string>> | undefined,
    held: gauge("held", "Leases held now"),
    waiting: gauge("waiting", "Callers that wait for a lock that somebody else has"),
    acquired: counter("acquired", "Leases granted"),
    contended: counter("contended", "Acquisitions that found the lock taken"),
    unavailable: counter("unavailable", "Acquisitions that ended without the lock"),
    failures: counter("failures", "Acquisitions that failed with a LockStoreError"),
    renewalFailures: counter("renewal_failures", "Renewals without a usable answer"),
    releaseFailures: counter("release_failures", "Releases that were not confirmed"),
    wait: histogram("wait_millis", "Time from the request to the grant"),
    hold: histogram("hold_millis", "Time from the grant to the release or the loss"),
    lost: {
      Missing: lost("Missing"),
      Taken: lost("Taken"),
      Unreachable: lost("Unreachable"),
      Released: lost("Released"),
      Revoked: lost("Revoked"),
      MaxHold: lost("MaxHold")
    } satisfies Record<LossReason, Metric.Counter<number>>
  }
}

type Named = ReturnType<typeof makeNamed>

const byName = new Map<string, Named>()

export const metricsFor = (
  name: string = "default",
  context: Context.Context<never>
): LockMetrics => {
  let named = byName.get(name)
  if (named === undefined) byName.set(name, (named = makeNamed(name)))
  beginAtZero(named, context)
  return new FiberMetrics(named, context)
}

/**
 * With the first use of a name all that is counted is there: Prometheus sees no increase in a counter
 * that appears with its first loss.
 */
const beginAtZero = (named: Named, context: Context.Context<never>): void => {
  const registry = Context.get(context, Metric.MetricRegistry)
  const labels = Context.get(context, Metric.CurrentMetricAttributes)
  if (named.registry === registry && named.labels === labels) return
  named.registry = registry
  named.labels = labels
  const { acquired, contended, failures, lost, releaseFailures, renewalFailures, unavailable } =
    named
  const counters = [acquired, contended, unavailable, failures, renewalFailures, releaseFailures]
  for (const counter of [...counters, ...Object.values(lost)]) counter.updateUnsafe(0, context)
  for (const gauge of [named.held, named.waiting]) gauge.modifyUnsafe(0, context)
}

class FiberMetrics implements LockMetrics {
  constructor(
    private readonly named: Named,
    private readonly context: Context.Context<never>
  ) {}
  ended(heldMillis: number) {
    this.named.held.modifyUnsafe(-1, this.context)
    this.named.hold.updateUnsafe(heldMillis, this.context)
  }
  acquired(waitedMillis: number, contended: boolean) {
    this.named.held.modifyUnsafe(1, this.context)
    this.named.acquired.updateUnsafe(1, this.context)
    if (contended) this.named.contended.updateUnsafe(1, this.context)
    this.named.wait.updateUnsafe(waitedMillis, this.context)
  }
  waiting(change: 1 | -1) {
    this.named.waiting.modifyUnsafe(change, this.context)
  }
  unavailable(waitedMillis: number) {
    this.named.contended.updateUnsafe(1, this.context)
    this.named.unavailable.updateUnsafe(1, this.context)
    this.named.wait.updateUnsafe(waitedMillis, this.context)
  }
  failed() {
    this.named.failures.updateUnsafe(1, this.context)
  }
  lost(reason: LossReason) {
    this.named.lost[reason].updateUnsafe(1, this.context)
  }
  renewalFailed() {
    this.named.renewalFailures.updateUnsafe(1, this.context)
  }
  releaseFailed() {
    this.named.releaseFailures.updateUnsafe(1, this.context)
  }
}

/** Whether anyone receives spans: Effect's own tracer only keeps them in memory. */
export const isTraced = ({ cache }: Fiber.Fiber<unknown, unknown>): boolean =>
  cache.tracer !== undefined && cache.tracerEnabled
