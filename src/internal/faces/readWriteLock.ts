/** What is asked for of a read-write lock, and what is given, on every face. */
import type * as Effect from "effect/Effect"
import type {
  Lease,
  Options as LeaseOptions,
  WaitOptions as LeaseWaitOptions
} from "../../Lease.js"
import type { LockLost, LockStoreError } from "../../LockError.js"

/**
 * Options of every way to take a read or the write; those of a lock. An impossible option is a defect,
 * as with every lock.
 *
 * @since 0.1.0
 * @category models
 */
export interface Options extends LeaseOptions {}

/**
 * Options of every way to take a read or the write that can wait for it; those of a lock.
 *
 * @since 0.1.0
 * @category models
 */
export interface WaitOptions extends LeaseWaitOptions {}

/**
 * The lease of a writer.
 *
 * @since 0.1.0
 * @category models
 */
export interface WriteLease extends Lease {
  /**
   * Makes a read of the write, with no moment in between in which somebody else could write. Readers
   * that wait at the head of the queue enter at once. The lease goes on with its token, its fencing
   * token and its renewal.
   *
   * The lease is to be used as a read as soon as this is called. If the store did not answer it fails
   * with a `LockStoreError` that is `transient`: the store may still keep it as a write, and the next
   * renewal that is answered makes a read of it. It can be called again then. Once it has succeeded,
   * another call fails with a `LockStoreError` that is not transient. Fails with `LockLost` if the
   * lease is lost or released.
   *
   * With the option `reentrant`, writes inside of this one end with it (`LockLost`, `Released`). The
   * downgrade of a write inside of another one is of this inner use only: for the outer one it is still
   * a write, and nobody else enters.
   */
  readonly downgrade: Effect.Effect<void, LockLost | LockStoreError>
}
