/** Options of locks that are given once, for a store. */
import { describe, expect, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Config from "effect/Config"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Metric from "effect/Metric"
import { Lock, LockStore, MemoryLockStore, RedisLockStore } from "effect-redis-lock"
import * as RedisServer from "./support/RedisServer.js"
import { freshKey } from "./support/stores.js"

const defaults: LockStore.Defaults = {
  ttl: "4 seconds",
  renewEvery: "500 millis",
  margin: 100,
  waitAtMost: "30 millis",
  warnAfter: "1 hour",
  name: "of-the-store"
}

const redis = (options: RedisLockStore.Options) =>
  Layer.unwrapScoped(
    Effect.map(RedisServer.make(), ({ url }) => RedisLockStore.layer({ url, ...options }))
  )

const stores = {
  memory: MemoryLockStore.layerWith({ defaults }),
  Redis: redis({ defaults })
}

/** What a store is asked for, and when it is asked to renew. */
const recorded = Effect.map(LockStore.LockStore, (inner) => {
  const claims: Array<readonly [ttl: number, wait: number]> = []
  let renewals = 0
  const store: LockStore.LockStore = {
    ...inner,
    acquire: (claim, restore) => {
      claims.push([claim.ttlMillis, claim.waitMillis])
      return Effect.map(inner.acquire(claim, restore), (grant) => ({
        ...grant,
        renew: Effect.suspend(() => {
          renewals++
          return grant.renew
        })
      }))
    }
  }
  return {
    claims,
    renewals: () => renewals,
    use: Effect.provideService(LockStore.LockStore, store)
  }
})

describe.each(Object.entries(stores))("%s", (_, store) => {
  it.live("options are the store's where a caller gives none", () =>
    Effect.gen(function* () {
      const { claims, renewals, use } = yield* recorded
      const key = freshKey()
      yield* Lock.withLock(key)(
        Effect.gen(function* () {
          const error = yield* Effect.flip(Lock.withLock(key)(Effect.void))
          expect(error._tag).toBe("LockUnavailable")
          yield* Effect.flip(Effect.scoped(Lock.acquire(key, { waitAtMost: 1 })))
          yield* Effect.flip(Effect.scoped(Lock.tryAcquire(key)))
          expect(yield* Lock.withLockIfAvailable(key)(Effect.void)).toMatchObject({ _tag: "None" })
          yield* Effect.sleep(650)
        })
      ).pipe(use)
      expect(claims).toEqual([
        [4_000, 30],
        [4_000, 30],
        [4_000, 1],
        [4_000, 0],
        [4_000, 0]
      ])
      expect(renewals()).toBe(1)
      const names = (yield* Metric.snapshot).flatMap(({ metricKey }) =>
        [...metricKey.tags].flatMap(({ key, value }) => (key === "lock" ? [value] : []))
      )
      expect(names).toContain("of-the-store")
    }).pipe(Effect.provide(store))
  )

  it.live("a caller's ttl has a renewal and a margin of its own", () =>
    Effect.gen(function* () {
      const { claims, renewals, use } = yield* recorded
      // (25 ms after the third renewal, and before the next one)
      const body = Effect.sleep(158)
      yield* Lock.withLock(freshKey(), { ttl: 200 })(body).pipe(use)
      expect(claims).toEqual([[200, 30]])
      expect(renewals()).toBe(1)
      yield* Lock.withLock(freshKey(), { ttl: 200, renewEvery: 45 })(body).pipe(use)
      expect(renewals()).toBe(4)
    }).pipe(Effect.provide(store))
  )

  it.live("a caller's renewEvery has a margin of its own", () =>
    Effect.gen(function* () {
      const store = yield* LockStore.LockStore
      const wide = { ...store, defaults: { ttl: "10 seconds", margin: "3 seconds" } } as const
      const taken = Effect.scoped(Lock.tryAcquire(freshKey(), { renewEvery: "7 seconds" }))
      yield* Effect.provideService(taken, LockStore.LockStore, wide)
    }).pipe(Effect.provide(store))
  )

  it.live("a caller's options are checked together with the store's", () =>
    Effect.gen(function* () {
      const exit = yield* Effect.exit(
        Lock.withLock(freshKey(), { renewEvery: "5 seconds" })(Effect.void)
      )
      expect(Exit.isFailure(exit) ? Cause.pretty(exit.cause) : "").toContain(
        "Impossible lock option renewEvery: 5000 ms"
      )
    }).pipe(Effect.provide(store))
  )
})

describe("an impossible one", () => {
  const cases: ReadonlyArray<readonly [LockStore.Defaults, string]> = [
    [{ ttl: -1 }, "Impossible option defaults.ttl: -1 ms."],
    [{ ttl: "soon" as never }, 'Impossible option defaults.ttl: "soon".'],
    [{ ttl: 1_000, renewEvery: 1_000 }, "Impossible option defaults.renewEvery: 1000 ms."],
    [{ margin: "3 seconds" }, "Impossible option defaults.margin: 3000 ms."],
    [{ waitAtMost: Number.NaN }, "Impossible option defaults.waitAtMost: NaN ms."],
    [{ warnAfter: 0 }, "Impossible option defaults.warnAfter: 0 ms."],
    [{ name: 1 as never }, "Impossible option defaults.name: 1."]
  ]

  for (const [defaults, says] of cases) {
    it.effect(`is named when the layer is built: ${says}`, () =>
      Effect.gen(function* () {
        const ofRedis = yield* Effect.flip(
          Effect.scoped(Layer.build(RedisLockStore.layer({ defaults })))
        )
        expect(ofRedis).toMatchObject({ _tag: "LockStoreError", operation: "configure" })
        expect(ofRedis.detail).toContain(says)
        const ofMemory = yield* Effect.exit(
          Effect.scoped(Layer.build(MemoryLockStore.layerWith({ defaults })))
        )
        expect(Exit.isFailure(ofMemory) ? Cause.pretty(ofMemory.cause) : "").toContain(says)
      })
    )
  }
})

it.scoped("can be read from the configuration", () =>
  Effect.gen(function* () {
    const { url } = yield* RedisServer.make()
    const layer = RedisLockStore.layerConfig({
      url: Config.succeed(url),
      defaults: { ttl: Config.duration("LOCK_TTL"), name: Config.succeed("configured") }
    }).pipe(
      Layer.provide(
        Layer.setConfigProvider(ConfigProvider.fromMap(new Map([["LOCK_TTL", "3 seconds"]])))
      )
    )
    const { claims, use } = yield* Effect.provide(recorded, layer)
    yield* Lock.tryAcquire(freshKey()).pipe(use, Effect.exit)
    expect(claims).toEqual([[3_000, 0]])
  })
)
