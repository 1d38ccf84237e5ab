import { Config, Effect, Layer, Option } from "effect"
import { MemoryLockStore, RedisLockStore } from "effect-redis-lock"

/** Leases in Redis if REDIS_URL is set, in this process's memory if it is not. */
export const StoreLive = Layer.unwrapEffect(
  Effect.map(
    Config.option(Config.nonEmptyString("REDIS_URL")),
    Option.match({
      onNone: () => MemoryLockStore.layer,
      onSome: (url) => RedisLockStore.layer({ url, prefix: "examples:" })
    })
  )
)
