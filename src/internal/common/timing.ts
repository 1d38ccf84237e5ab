/**
 * The arithmetic of leases. Milliseconds everywhere, on one monotonic clock.
 */

/** Clocks of holder and store may run at different rates: 1 % of the ttl, and 2 ms for rounding. */
export const drift = (ttlMillis: number): number => ttlMillis * 0.01 + 2

/**
 * Until when a lease is proven: counted from before the command was sent, since the store cannot
 * have started counting earlier.
 */
export const validUntil = (sentAt: number, ttlMillis: number): number =>
  sentAt + ttlMillis - drift(ttlMillis)

/** When the command was sent whose answer proved this validity. */
export const sentAt = (validUntilMillis: number, ttlMillis: number): number =>
  validUntilMillis - ttlMillis + drift(ttlMillis)

/** How long to wait after a renewal that failed: short, and not in step with other leases. */
export const retryDelay = (ttlMillis: number): number =>
  Math.min(250, Math.max(5, ttlMillis / 50)) * (0.5 + Math.random())

/** For a timer: `setTimeout` cannot count further than 2^31 ms. */
export const maxDelay = 0x3fff_ffff
