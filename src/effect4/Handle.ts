/**
 * What `lease.handOver` gives, and `adopt` takes: a lease on its way from one process to another. It is
 * imported by its own path, so that only programs that send handles load Effect's `Schema`. See
 * `effect-redis-lock/Handle`; the JSON is the same, so a handle can go from a process on Effect 3 to one on
 * Effect 4, and back.
 *
 * @example
 * ```ts
 * import { Effect, Schema } from "effect"
 * import { type Lease, Lock } from "effect-redis-lock/effect4"
 * import { Handle } from "effect-redis-lock/effect4/Handle"
 *
 * const Json = Schema.fromJsonString(Handle)
 *
 * // in the old process
 * const handedOver = (lease: Lease.Lease) =>
 *   Effect.flatMap(lease.handOver, Schema.encodeEffect(Json))
 *
 * // in the new one
 * const adopted = (text: string) =>
 *   Effect.flatMap(Schema.decodeEffect(Json)(text), (handle) => Lock.adopt(handle))
 * ```
 *
 * @since 0.1.0
 */
import "../internal/with-effect-3-import/effect-redis-lock.js"
import * as Schema from "effect/Schema"
import { type Handle as Sealed, type HandleEncoded, isSealed } from "../internal/faces/handle.js"

export type { HandleEncoded } from "../internal/faces/handle.js"

/**
 * A lease that was handed over. Whoever has it can take the lease over, once; nobody can make another one
 * of it, or change it: it has a seal.
 *
 * @since 0.1.0
 * @category models
 */
export interface Handle extends Sealed {}

const count = Schema.Int.check(Schema.isGreaterThan(0))

/**
 * Makes JSON of handles, and handles of JSON. What is no handle, or has been changed since it was made,
 * fails with a `SchemaError`.
 *
 * @since 0.1.0
 * @category schemas
 */
export const Handle: Schema.Codec<Handle, HandleEncoded> = Schema.Struct({
  version: Schema.Literal(1),
  key: Schema.String,
  kind: Schema.Literals(["lock", "semaphore", "readWriteLock"]),
  token: Schema.RedactedFromValue(Schema.String),
  fencingToken: count,
  share: count,
  limit: count,
  ttl: Schema.DurationFromMillis,
  maxHold: Schema.optional(Schema.DurationFromMillis),
  holdAtLeast: Schema.optional(Schema.DurationFromMillis),
  firstFencingToken: Schema.optional(count),
  store: Schema.optional(Schema.String),
  seal: Schema.String
})
  .check(
    Schema.makeFilter(
      (handle) =>
        isSealed(handle) || "The handle has been changed since it was made: its seal does not fit."
    )
  )
  .annotate({ identifier: "Handle" })
