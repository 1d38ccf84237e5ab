/**
 * A process of its own with stores of its own, told what to do by messages of its parent. Started
 * by `Workers`.
 */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Queue from "effect/Queue"
import { Lock, RedisLockStore, type LockStore } from "effect-redis-lock"
import * as Judge from "./Judge.js"

export type Order =
  /** Takes the lock so often, in so many fibers, and says to the judge when it has it. */
  | {
      readonly _tag: "Run"
      readonly key: string
      readonly ttl: number
      readonly fibers: number
      readonly cycles: number
      readonly holdMillis: number
      readonly judge: number
      readonly name: string
      readonly localHandoff: number
    }
  /** Takes the lock, and keeps it until told. */
  | {
      readonly _tag: "Hold"
      readonly key: string
      readonly ttl: number
      readonly localHandoff: number
    }
  | { readonly _tag: "Release" }

export type News =
  | { readonly _tag: "Ready" }
  | { readonly _tag: "Held"; readonly fencingToken: number }
  | { readonly _tag: "Released" }
  | { readonly _tag: "Done"; readonly turns: number }
  | { readonly _tag: "Failed"; readonly message: string }

const tell = (news: News) => process.send!(news)

const run = (order: Extract<Order, { _tag: "Run" }>) =>
  Effect.gen(function* () {
    const say = yield* Judge.visit(order.judge)
    let turns = 0
    const turn = Lock.withLock(order.key, { ttl: order.ttl })((lease) =>
      Effect.gen(function* () {
        yield* say(`enter ${lease.fencingToken} ${order.name}`)
        turns++
        if (order.holdMillis > 0) yield* Effect.sleep(order.holdMillis)
        yield* say(`exit ${lease.fencingToken}`)
      })
    )
    yield* Effect.forEach(
      Array.from({ length: order.fibers }),
      () => Effect.repeatN(turn, order.cycles - 1),
      { concurrency: "unbounded", discard: true }
    )
    tell({ _tag: "Done", turns })
  })

const program = Effect.gen(function* () {
  const url = process.env["REDIS_URL"]
  const stores = new Map<number, Layer.Layer<LockStore.LockStore>>()
  const storeOf = (localHandoff: number) =>
    Effect.gen(function* () {
      let store = stores.get(localHandoff)
      if (store === undefined) {
        const context = yield* Layer.build(RedisLockStore.layer({ url, localHandoff }))
        stores.set(localHandoff, (store = Layer.succeedContext(context)))
      }
      return store
    })
  const orders = yield* Queue.unbounded<Order>()
  process.on("message", (order: Order) => Queue.unsafeOffer(orders, order))
  process.on("disconnect", () => process.exit())
  let released = yield* Deferred.make<void>()
  tell({ _tag: "Ready" })
  for (;;) {
    const order = yield* Queue.take(orders)
    if (order._tag === "Release") {
      yield* Deferred.succeed(released, undefined)
      continue
    }
    const until = (released = yield* Deferred.make<void>())
    const work =
      order._tag === "Run"
        ? run(order)
        : Effect.zipRight(
            Lock.withLock(order.key, { ttl: order.ttl })((lease) =>
              Effect.zipRight(
                Effect.sync(() => tell({ _tag: "Held", fencingToken: lease.fencingToken })),
                Deferred.await(until)
              )
            ),
            Effect.sync(() => tell({ _tag: "Released" }))
          )
    yield* Effect.scoped(work).pipe(
      Effect.provide(yield* storeOf(order.localHandoff)),
      Effect.catchAllCause((cause) =>
        Effect.sync(() => tell({ _tag: "Failed", message: String(cause) }))
      ),
      Effect.fork
    )
  }
})

await Effect.runPromise(Effect.scoped(program))
