/**
 * The locks for Effect 4.
 *
 * @since 0.1.0
 */
import "../internal/with-effect-3-import/effect-redis-lock.js"

export * as CronJob from "./CronJob.js"
export * as Leader from "./Leader.js"
export * as Lease from "./Lease.js"
export * as Lock from "./Lock.js"
export * as LockError from "./LockError.js"
export * as LockInspector from "./LockInspector.js"
export * as LockStore from "./LockStore.js"
export * as MemoryLockStore from "./MemoryLockStore.js"
export * as MultiLock from "./MultiLock.js"
export * as QuorumLockStore from "./QuorumLockStore.js"
export * as ReadWriteLock from "./ReadWriteLock.js"
export * as RedisLockStore from "./RedisLockStore.js"
export * as Semaphore from "./Semaphore.js"
