/** Medians and their like. */

export interface Spread {
  readonly median: number
  readonly min: number
  readonly max: number
}

/** Of no values: not a number. */
export const spread = (values: ReadonlyArray<number>): Spread => {
  if (values.length === 0) return { median: Number.NaN, min: Number.NaN, max: Number.NaN }
  const sorted = [...values].sort((a, b) => a - b)
  return { median: quantile(sorted, 0.5), min: sorted[0]!, max: sorted.at(-1)! }
}

/** Of sorted values. */
export const quantile = (sorted: ArrayLike<number>, share: number): number => {
  if (sorted.length === 0) return 0
  const at = share * (sorted.length - 1)
  const below = sorted[Math.floor(at)]!
  return below + (at - Math.floor(at)) * (sorted[Math.ceil(at)]! - below)
}

export interface Quantiles {
  readonly p50: number
  readonly p99: number
  readonly max: number
}

export const quantiles = (values: Float64Array): Quantiles => {
  const sorted = values.slice().sort()
  return { p50: quantile(sorted, 0.5), p99: quantile(sorted, 0.99), max: sorted.at(-1) ?? 0 }
}
