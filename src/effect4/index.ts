/**
 * The locks for Effect 4.
 *
 * @since 0.1.0
 */
export * as Lock from "./Lock.js"
export * as LockInspector from "./LockInspector.js"
export * as LockStore from "./LockStore.js"
export * as MemoryLockStore from "./MemoryLockStore.js"
export * as RedisLockStore from "./RedisLockStore.js"
