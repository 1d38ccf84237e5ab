/**
 * Distributed locks on Redis as scoped Effect resources.
 *
 * Five modules are imported by their own paths only, so that programs that do not use them do not load what
 * they need: `effect-redis-lock/HttpLock` and `effect-redis-lock/LockInspectorHttp` (`@effect/platform`),
 * `effect-redis-lock/Handle` (Effect's `Schema`), and for tests `effect-redis-lock/TestLockStore` and
 * `effect-redis-lock/LockStoreContract`.
 *
 * @since 0.1.0
 */
import "./internal/with-effect-4-import/effect-redis-lock/effect4.js"

/** @since 0.1.0 */
export * as CronJob from "./CronJob.js"
/** @since 0.1.0 */
export * as Leader from "./Leader.js"
/** @since 0.1.0 */
export * as Lease from "./Lease.js"
/** @since 0.1.0 */
export * as Lock from "./Lock.js"
/** @since 0.1.0 */
export * as LockError from "./LockError.js"
/** @since 0.1.0 */
export * as LockInspector from "./LockInspector.js"
/** @since 0.1.0 */
export * as LockStore from "./LockStore.js"
/** @since 0.1.0 */
export * as MemoryLockStore from "./MemoryLockStore.js"
/** @since 0.1.0 */
export * as MultiLock from "./MultiLock.js"
/** @since 0.1.0 */
export * as QuorumLockStore from "./QuorumLockStore.js"
/** @since 0.1.0 */
export * as ReadWriteLock from "./ReadWriteLock.js"
/** @since 0.1.0 */
export * as RedisLockStore from "./RedisLockStore.js"
/** @since 0.1.0 */
export * as Semaphore from "./Semaphore.js"
