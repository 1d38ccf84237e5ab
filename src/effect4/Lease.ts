/**
 * What a holder of a lock has, and the options of every way to take one: the same for both faces.
 *
 * @since 0.1.0
 */
import "../internal/with-effect-3-import/effect-redis-lock.js"

export * from "../Lease.js"
