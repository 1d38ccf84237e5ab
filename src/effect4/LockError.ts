/**
 * What locks fail with: the same for both faces.
 *
 * @since 0.1.0
 */
import "../internal/with-effect-3-import/effect-redis-lock.js"

export * from "../LockError.js"
