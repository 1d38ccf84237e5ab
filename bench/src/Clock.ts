/** Milliseconds of the machine's monotonic clock: the same in all processes. */

// performance.now() is cheaper than hrtime.bigint(), and the same clock with another origin.
const origin = Math.max(
  ...Array.from({ length: 100 }, () => {
    const mine = performance.now()
    return mine - Number(process.hrtime.bigint()) / 1e6
  })
)

export const now = (): number => performance.now() - origin
