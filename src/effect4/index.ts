/**
 * The locks for Effect 4.
 *
 * @since 0.1.0
 */
import "../internal/with-effect-3-import/effect-redis-lock.js"

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
