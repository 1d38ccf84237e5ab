import * as Effect from "effect4/Effect"
import * as Metric from "effect4/Metric"

export * from "effect4/Metric"

export const snapshot = Effect.map(Metric.snapshot, (all) =>
  all.map(({ attributes = {}, id, state, type }) => ({
    metricKey: {
      name: id,
      keyType: { type, ...state },
      tags: Object.entries(attributes).map(([key, value]) => ({ key, value }))
    },
    metricState: state
  }))
)
