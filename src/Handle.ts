/**
 * What `lease.handOver` gives, and `adopt` takes: a lease on its way from one process to another. It is
 * imported by its own path, `effect-redis-lock/Handle`, so that only programs that send handles load
 * Effect's `Schema`.
 *
 * @example
 * ```ts
 * import { Effect, Schema } from "effect"
 * import { type Lease, Lock } from "effect-redis-lock"
 * import { Handle } from "effect-redis-lock/Handle"
 *
 * const Json = Schema.parseJson(Handle)
 *
 * // in the old process
 * const handedOver = (lease: Lease.Lease) =>
 *   Effect.flatMap(lease.handOver, Schema.encode(Json))
 *
 * // in the new one
 * const adopted = (text: string) =>
 *   Effect.flatMap(Schema.decode(Json)(text), (handle) => Lock.adopt(handle))
 * ```
 *
 * @since 0.1.0
 */
import type * as Duration from "effect/Duration"
import type * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import { isSealed } from "./internal/face/handle.js"

/**
 * A lease that was handed over. Whoever has it can take the lease over, once; nobody can make another one
 * of it, or change it: it has a seal.
 *
 * @since 0.1.0
 * @category models
 */
export interface Handle {
  /** Of this format. */
  readonly version: 1
  /** The key, as its holder gave it: without the store's prefix. */
  readonly key: string
  readonly kind: "lock" | "semaphore" | "readWriteLock"
  /** A secret: who knows it can take the lease over. */
  readonly token: Redacted.Redacted
  /** The number that the lease had. The adopter gets a greater one. */
  readonly fencingToken: number
  /** How much of the key it is: of a lock 1, of a semaphore its permits, of a writer all. */
  readonly share: number
  /** The capacity of the key, as its holder reckoned with it. */
  readonly limit: number
  /** How long the store keeps it, from the moment on at which it was handed over. */
  readonly ttl: Duration.Duration
  /**
   * The lease's `maxHold`, all of it: it is counted from the first holder's grant, also while the handle is
   * under way. What is left of it is for the store to tell, when the lease is adopted. Absent: there is none.
   */
  readonly maxHold?: Duration.Duration | undefined
  /** The lease's `holdAtLeast`, in the same way. */
  readonly holdAtLeast?: Duration.Duration | undefined
  /**
   * Of a lease that had been adopted itself, and has one of these two: the fencing token of the first holder,
   * from whose grant they are counted. Absent: it is `fencingToken`.
   */
  readonly firstFencingToken?: number | undefined
  /** The store that it is of, as far as that can be told (`LockStore.identity`). */
  readonly store?: string | undefined
  readonly seal: string
}

/**
 * What a handle is as JSON. It has the token in it: send it where you would send a password.
 *
 * @since 0.1.0
 * @category models
 */
export interface HandleEncoded extends Omit<Handle, "token" | "ttl" | "maxHold" | "holdAtLeast"> {
  readonly token: string
  /** Times are in milliseconds. */
  readonly ttl: number
  readonly maxHold?: number | undefined
  readonly holdAtLeast?: number | undefined
}

const count = Schema.Int.pipe(Schema.positive())

/**
 * Makes JSON of handles, and handles of JSON. What is no handle, or has been changed since it was made,
 * fails with a `ParseError`.
 *
 * @since 0.1.0
 * @category schemas
 */
export const Handle: Schema.Schema<Handle, HandleEncoded> = Schema.Struct({
  version: Schema.Literal(1),
  key: Schema.String,
  kind: Schema.Literal("lock", "semaphore", "readWriteLock"),
  token: Schema.Redacted(Schema.String),
  fencingToken: count,
  share: count,
  limit: count,
  ttl: Schema.DurationFromMillis,
  maxHold: Schema.optional(Schema.DurationFromMillis),
  holdAtLeast: Schema.optional(Schema.DurationFromMillis),
  firstFencingToken: Schema.optional(count),
  store: Schema.optional(Schema.String),
  seal: Schema.String
}).pipe(
  Schema.filter(
    (handle) =>
      isSealed(handle) || "The handle has been changed since it was made: its seal does not fit."
  ),
  Schema.annotations({ identifier: "Handle" })
)
