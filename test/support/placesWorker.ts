/**
 * A process of its own that locks once where it is told, closes its store, and has nothing left to do: it must
 * end by itself. Started by `Workers`.
 */
import * as Effect from "effect/Effect"
import * as Logger from "effect/Logger"
import { Lock, RedisLockStore } from "effect-redis-lock"

export type News =
  | { readonly _tag: "Ready" }
  | { readonly _tag: "Closed"; readonly locked: boolean }
  | { readonly _tag: "Failed"; readonly message: string }

export interface Environment {
  readonly KIND: "layer" | "layerCluster"
  /** Of the layer, as JSON. */
  readonly OPTIONS: string
}

const { KIND, OPTIONS } = process.env as unknown as Environment

const tell = (news: News) => Effect.sync(() => void process.send!(news))

const store =
  KIND === "layer"
    ? RedisLockStore.layer(JSON.parse(OPTIONS) as RedisLockStore.Options)
    : RedisLockStore.layerCluster(JSON.parse(OPTIONS) as RedisLockStore.ClusterOptions)

const program = Effect.gen(function* () {
  yield* tell({ _tag: "Ready" })
  const exit = yield* Effect.exit(
    Lock.withLock("k", { ttl: "1 minute" })(Effect.void).pipe(Effect.provide(store))
  )
  yield* tell({ _tag: "Closed", locked: exit._tag === "Success" })
  process.disconnect()
})

Effect.runFork(
  program.pipe(
    Effect.catchAllCause((cause) => tell({ _tag: "Failed", message: String(cause) })),
    Effect.provide(Logger.remove(Logger.defaultLogger))
  )
)
