/**
 * A process of its own that runs a job when it is told, with a wall clock that is off. Started by
 * `Workers`.
 */
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Queue from "effect/Queue"
import { CronJob, RedisLockStore } from "effect-redis-lock"
import { now } from "../faults/History.js"

export type Order =
  | {
      readonly _tag: "Start"
      readonly key: string
      readonly cron: string
      readonly holdMillis: number
      readonly ttl: number
      readonly whenRunning: "wait" | "skip"
    }
  /** Ends the job that runs now. */
  | { readonly _tag: "End" }

/** Times are those of the histories; a tick is in milliseconds since 1970. */
export type News =
  | { readonly _tag: "Ready" }
  | { readonly _tag: "Began"; readonly at: number; readonly tick: number; readonly fence: number }
  | { readonly _tag: "Done"; readonly at: number; readonly tick: number }
  | { readonly _tag: "Ended" }
  | { readonly _tag: "Failed"; readonly message: string }

const { AHEAD, REDIS_URL } = process.env as { readonly AHEAD: string; readonly REDIS_URL: string }
const ahead = Number(AHEAD)
const wallClock = Date.now
Date.now = () => wallClock() + ahead

const tell = (news: News) => Effect.sync(() => void process.send!(news))

const job = ({ cron, holdMillis, key, ttl, whenRunning }: Extract<Order, { _tag: "Start" }>) =>
  CronJob.run(key, { cron, ttl, whenRunning })(({ lease, scheduledAt }) => {
    const tick = DateTime.toEpochMillis(scheduledAt)
    return Effect.suspend(() =>
      tell({ _tag: "Began", at: now(), tick, fence: lease.fencingToken })
    ).pipe(
      Effect.zipRight(Effect.sleep(holdMillis)),
      Effect.zipRight(Effect.suspend(() => tell({ _tag: "Done", at: now(), tick })))
    )
  })

const program = Effect.gen(function* () {
  const orders = yield* Queue.unbounded<Order>()
  process.on("message", (order: Order) => Queue.unsafeOffer(orders, order))
  process.on("disconnect", () => process.exit())
  yield* tell({ _tag: "Ready" })
  for (;;) {
    const order = yield* Queue.take(orders)
    if (order._tag === "End") continue
    const fiber = yield* Effect.fork(
      Effect.catchAllCause(job(order), (cause) => tell({ _tag: "Failed", message: String(cause) }))
    )
    yield* Effect.repeat(Queue.take(orders), { until: ({ _tag }) => _tag === "End" })
    yield* Fiber.interrupt(fiber)
    yield* tell({ _tag: "Ended" })
  }
})

await Effect.runPromise(
  program.pipe(
    Effect.provide(
      Layer.merge(RedisLockStore.layer({ url: REDIS_URL }), Logger.remove(Logger.defaultLogger))
    )
  )
)
