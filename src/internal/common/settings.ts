/** What a store in Redis is told, with its options checked and durations decoded. */
export interface Settings {
  readonly batch: boolean
  readonly prefix: string
  readonly owner: string | undefined
  readonly commandTimeoutMillis: number
  readonly foreignPollMillis: number
  readonly localHandoffMillis: number
  /** Who must have a grant or a renewal before it counts; `undefined`: the server alone. */
  readonly acknowledged:
    { readonly replicas: number; readonly disk: boolean; readonly withinMillis: number } | undefined
}

/** Where a node of a Cluster is, or a Sentinel. */
export interface Address {
  readonly host: string
  readonly port: number
}
