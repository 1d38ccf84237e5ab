/**
 * A process that locks, and says what happened to it and when, on the machine's monotonic clock, which all processes
 * share. Started by `Workers`.
 */
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Logger from "effect/Logger"
import * as LogLevel from "effect/LogLevel"
import * as Queue from "effect/Queue"
import { Lock, RedisLockStore } from "effect-redis-lock"
import { now } from "../faults/History.js"

export type Order =
  /** Takes the lock and keeps it until told, or until the lease is lost. */
  | {
      readonly _tag: "Hold"
      readonly key: string
      readonly ttl: number
      /** Stops itself (SIGSTOP) under the lock, in the middle of what cannot be interrupted: before its write. */
      readonly stops: boolean
    }
  | { readonly _tag: "Release" }

export type News =
  | { readonly _tag: "Ready" }
  | { readonly _tag: "Entered"; readonly at: number; readonly fencingToken: number }
  /** The next thing that it does is to stop. */
  | { readonly _tag: "Stopping"; readonly at: number }
  /** A write to what the lock protects, with the fencing token that it has. */
  | { readonly _tag: "Write"; readonly at: number; readonly fencingToken: number }
  | { readonly _tag: "Interrupted"; readonly at: number; readonly remaining: number }
  /** `withLock` has ended: undefined, or the reason of its LockLost. */
  | { readonly _tag: "Ended"; readonly at: number; readonly lost: string | undefined }
  | { readonly _tag: "Failed"; readonly message: string }

const tell = (news: News) => process.send!(news)

const hold = (
  { key, stops, ttl }: Extract<Order, { _tag: "Hold" }>,
  released: Deferred.Deferred<void>
) =>
  Lock.withLock(key, { ttl })((lease) =>
    Effect.gen(function* () {
      const { fencingToken } = lease
      tell({ _tag: "Entered", at: now(), fencingToken })
      yield* Effect.sync(() => {
        if (stops) {
          tell({ _tag: "Stopping", at: now() })
          process.kill(process.pid, "SIGSTOP")
        }
        tell({ _tag: "Write", at: now(), fencingToken })
      })
      yield* Deferred.await(released)
    }).pipe(
      Effect.onInterrupt(() => {
        const at = now()
        return Effect.map(lease.remaining, (left) =>
          tell({ _tag: "Interrupted", at, remaining: Duration.toMillis(left) })
        )
      })
    )
  ).pipe(
    Effect.as(undefined),
    Effect.catchTag("LockLost", ({ reason }) => Effect.succeed(reason)),
    Effect.map((lost) => tell({ _tag: "Ended", at: now(), lost })),
    Effect.catchAllCause((cause) =>
      Effect.sync(() => tell({ _tag: "Failed", message: String(cause) }))
    )
  )

const program = Effect.gen(function* () {
  const orders = yield* Queue.unbounded<Order>()
  process.on("message", (order: Order) => Queue.unsafeOffer(orders, order))
  process.on("disconnect", () => process.exit())
  const released = yield* Deferred.make<void>()
  tell({ _tag: "Ready" })
  for (;;) {
    const order = yield* Queue.take(orders)
    if (order._tag === "Release") yield* Deferred.succeed(released, undefined)
    else yield* Effect.fork(hold(order, released))
  }
})

await program.pipe(
  Effect.provide(RedisLockStore.layer({ url: process.env["REDIS_URL"] })),
  Logger.withMinimumLogLevel(LogLevel.None),
  Effect.runPromise
)
