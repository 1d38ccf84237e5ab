/** What `Metric.snapshot` here gives a counter as its type. */
export const isCounterKey = ({ type }: { readonly type: string }) => type === "Counter"
