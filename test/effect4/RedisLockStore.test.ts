import * as Config from "effect/Config"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Scheduler from "effect/Scheduler"
import * as Schema from "effect/Schema"
import { Lock, RedisLockStore } from "effect-redis-lock/effect4"
import { Redis } from "ioredis"
import { expect, it } from "vitest"
import type * as Started from "./Started.js"
import {
  faultProxy,
  logsTo,
  redisCluster,
  redisSentinel,
  redisServer,
  run,
  storeOf
} from "./support.js"

const ttl = "1 minute"

/** `layer` and `layerFromClient` keep the same promises. */
const stores = {
  layer: (url: string, options: RedisLockStore.StoreOptions) =>
    Effect.succeed(RedisLockStore.layer({ url, ...options })),
  layerFromClient: (url: string, options: RedisLockStore.StoreOptions) =>
    Effect.map(
      Effect.acquireRelease(
        Effect.sync(() => new Redis(url)),
        (client) => Effect.sync(() => client.disconnect())
      ),
      (client) => RedisLockStore.layerFromClient(client, options)
    )
}

for (const [name, layerOf] of Object.entries(stores)) {
  it(`${name}: one has the lock, the next waits for it, and nothing stays`, () =>
    run(
      Effect.gen(function* () {
        const server = yield* redisServer()
        const { use } = yield* storeOf(
          yield* layerOf(server.url, { prefix: "p:", owner: "worker 7", defaults: { ttl } })
        )
        const order: Array<string> = []
        yield* Effect.gen(function* () {
          const asked = yield* Deferred.make<void>()
          const isHeld = yield* Deferred.make<void>()
          const first = yield* Effect.forkChild(
            Lock.withLock("k")((lease) =>
              Effect.gen(function* () {
                const command = (...args: ReadonlyArray<string>) =>
                  Effect.promise(() => server.command(...args))
                expect(yield* command("GET", "p:k")).toBe(lease.token)
                expect(yield* command("PTTL", "p:k")).toBeGreaterThan(30_000)
                yield* Deferred.succeed(isHeld, undefined)
                yield* Deferred.await(asked)
                yield* lease.verify
                order.push("first")
              })
            )
          )
          yield* Deferred.await(isHeld)
          const busy = yield* Effect.flip(Effect.scoped(Lock.tryAcquire("k")))
          expect(busy).toMatchObject({ _tag: "LockUnavailable", holder: { owner: "worker 7" } })
          const next = yield* Effect.forkChild(
            Lock.withLock("k")(() => Effect.sync(() => order.push("next"))),
            { startImmediately: true }
          )
          yield* Deferred.succeed(asked, undefined)
          yield* Fiber.join(first)
          yield* Fiber.join(next)
        }).pipe(use)
        expect(order).toEqual(["first", "next"])
        expect(yield* Effect.promise(() => server.command("EXISTS", "p:k"))).toBe(0)
      })
    ))
}

it("a closed layer leaves no connection, and a client of the user's stays open", () =>
  run(
    Effect.gen(function* () {
      const server = yield* redisServer()
      const lockOnce = Lock.withLock("k", { ttl })(Effect.succeed("done"))
      const clients = Effect.promise(server.clients)
      yield* Effect.provide(lockOnce, RedisLockStore.layer({ url: server.url }))
      expect(yield* clients).toEqual([])
      const layer = yield* stores.layerFromClient(server.url, {})
      yield* Effect.provide(lockOnce, layer)
      expect(yield* clients).toHaveLength(1)
      expect(yield* Effect.provide(lockOnce, layer)).toBe("done")
    })
  ))

it("a lease is renewed in time, and an outage is bridged", () =>
  run(
    Effect.gen(function* () {
      const server = yield* redisServer()
      const proxy = yield* faultProxy(server.port)
      const { use } = yield* storeOf(RedisLockStore.layer({ url: proxy.url }))
      yield* Lock.withLock("k", { ttl: "10 seconds", renewEvery: "20 millis" })((lease) =>
        Effect.gen(function* () {
          yield* Effect.promise(() => server.command("PEXPIRE", "k", 8_000))
          const left = Effect.promise(() => server.command("PTTL", "k"))
          while (Number(yield* left) < 9_000) yield* Effect.sleep(5)
          proxy.cutAll()
          yield* lease.verify
        })
      ).pipe(use)
      expect(yield* Effect.promise(() => server.command("EXISTS", "k"))).toBe(0)
    })
  ))

it("what a store warns of is logged as what made it logs", () =>
  run(
    Effect.gen(function* () {
      const server = yield* redisServer()
      yield* Effect.promise(() => server.command("SET", "theirs", "forever"))
      const logged: Array<string> = []
      yield* Effect.scoped(
        Effect.gen(function* () {
          const layer = RedisLockStore.layer({ url: server.url })
          const { use } = yield* storeOf(Layer.provide(layer, logsTo(logged)))
          const busy = yield* use(
            Effect.flip(Effect.scoped(Lock.acquire("theirs", { waitAtMost: "50 millis" })))
          )
          expect(busy).toMatchObject({ holder: { foreign: true }, retryAfter: undefined })
        })
      )
      expect(logged).toHaveLength(1)
      expect(logged[0]).toContain("its key has no ttl")
    })
  ))

it("a Cluster has the lock on the master of the key's slot", () =>
  run(
    Effect.gen(function* () {
      const cluster = yield* redisCluster
      const { use } = yield* storeOf(RedisLockStore.layerCluster({ nodes: cluster.addresses }))
      for (const key of ["a", "b", "c"]) {
        const node = yield* Effect.promise(() => cluster.nodeOf(key))
        yield* Lock.withLock(key, { ttl })((lease) =>
          Effect.gen(function* () {
            expect(yield* Effect.promise(() => node.command("GET", key))).toBe(lease.token)
          })
        ).pipe(use)
      }
    })
  ))

it("Sentinels say where the master is, also after a failover", () =>
  run(
    Effect.gen(function* () {
      const group = yield* redisSentinel
      const { use } = yield* storeOf(
        RedisLockStore.layer({ sentinels: group.addresses, name: group.name })
      )
      const tokens = (server: Started.Server) =>
        Lock.withLock("k", { ttl })((lease) =>
          Effect.map(
            Effect.promise(() => server.command("GET", "k")),
            (token) => [token, lease.token] as const
          )
        ).pipe(use)
      const [before, first] = yield* tokens(yield* Effect.promise(group.master))
      expect(before).toBe(first)
      const [after, second] = yield* tokens(yield* Effect.promise(group.failover)).pipe(
        Effect.retry({ times: 100 })
      )
      expect(after).toBe(second)
    })
  ))

it("options come from Config: a server, and a Cluster", () =>
  run(
    Effect.gen(function* () {
      const server = yield* redisServer(["--requirepass", "s3cret"])
      const cluster = yield* redisCluster
      const provider = ConfigProvider.fromEnv({
        env: {
          REDIS_URL: server.url,
          REDIS_PASSWORD: "s3cret",
          REDIS_NODES: cluster.addresses.map(({ host, port }) => `${host}:${port}`).join(",")
        }
      })
      const layers = [
        RedisLockStore.layerConfig({
          url: Config.Redacted("REDIS_URL"),
          password: Config.Redacted("REDIS_PASSWORD"),
          prefix: Config.String("PREFIX").pipe(Config.withDefault("p:"))
        }),
        RedisLockStore.layerConfig({
          url: Config.Redacted("REDIS_URL"),
          redis: { password: Config.Redacted("REDIS_PASSWORD") }
        }),
        RedisLockStore.layerConfig(
          Config.succeed({ url: server.url, password: Redacted.make("s3cret") })
        ),
        RedisLockStore.layerClusterConfig({ nodes: Config.Array(Schema.String, "REDIS_NODES") })
      ]
      for (const layer of layers) {
        const { use } = yield* storeOf(Layer.provide(layer, ConfigProvider.layer(provider)))
        expect(yield* Lock.withLock("k", { ttl })(Effect.succeed("done")).pipe(use)).toBe("done")
      }
    })
  ))

/** What is impossible is named, with its value; a secret is not. */
const cyclic: Record<string, unknown> = { host: Config.String("HOST") }
cyclic["tls"] = { again: cyclic }

const impossible: ReadonlyArray<readonly [unknown, string]> = [
  [null, "(all of them): null. They must be an object."],
  [{ prefix: 7 }, "prefix: 7. It must be a string."],
  [{ redis: 5 }, "redis: 5. It must be an object, with options for ioredis."],
  [{ redis: Config.succeed("redis://:s3cret@host") }, "redis: redis://***@host."],
  [{ redis: cyclic }, "redis.tls.again: [object Object]. It contains itself"],
  [{ url: "http://:s3cret@host" }, "url: http://***@host."],
  [{ url: Redacted.make("http://:s3cret@host") }, "url: <redacted>."],
  [{ commandTimeout: Config.succeed("-1 second") }, "commandTimeout: -1 second."],
  [{ defaults: { ttl: "1 millis" } }, "defaults.ttl: "],
  [{ sentinels: ["127.0.0.1"], name: "m" }, "sentinels[0]: 127.0.0.1."],
  [{ owner: "s3cret".repeat(1_000) }, "owner: …."]
]

it("what is impossible in a Config is named, with its value, and no secret", () =>
  run(
    Effect.gen(function* () {
      const none = ConfigProvider.layer(ConfigProvider.fromEnv({ env: { HOST: "host.invalid" } }))
      for (const [options, text] of impossible) {
        const layer = RedisLockStore.layerConfig(
          options as Parameters<typeof RedisLockStore.layerConfig>[0]
        )
        const error = yield* Effect.flip(Layer.build(Layer.provide(layer, none)))
        expect(error).toMatchObject({ _tag: "ConfigError" })
        expect(String(error)).toContain(`Impossible option ${text}`)
        expect(String(error)).not.toContain("s3cret")
      }
      const missing = RedisLockStore.layerConfig({ url: Config.Redacted("REDIS_URL") })
      const error = yield* Effect.flip(Layer.build(Layer.provide(missing, none)))
      expect(String(error)).toContain("REDIS_URL")
    })
  ))

it("layer and layerFromClient say the same of their options, as a LockStoreError", () =>
  run(
    Effect.gen(function* () {
      const client = yield* Effect.acquireRelease(
        Effect.sync(() => new Redis({ lazyConnect: true })),
        (client) => Effect.sync(() => client.disconnect())
      )
      for (const layer of [
        RedisLockStore.layer({ localHandoff: "-1 second" }),
        RedisLockStore.layerFromClient(client, { localHandoff: "-1 second" }),
        RedisLockStore.layerCluster({ nodes: ["127.0.0.1:6379"], localHandoff: "-1 second" })
      ]) {
        const error = yield* Effect.flip(Layer.build(layer))
        expect(error).toMatchObject({
          _tag: "LockStoreError",
          operation: "configure",
          transient: false
        })
        expect(error.message).toContain("Impossible option localHandoff: -1 second.")
      }
    })
  ))

it("what is answered while a fiber yields is heard", () =>
  run(
    Effect.gen(function* () {
      const server = yield* redisServer()
      const { use } = yield* storeOf(RedisLockStore.layer({ url: server.url, defaults: { ttl } }))
      const rounds = Effect.forEach([1, 2, 3], (round) =>
        Effect.flatMap(
          Lock.withLock("k")((lease) => Effect.as(lease.verify, round)),
          (done) => Effect.scoped(Effect.as(Lock.acquire("k"), done))
        )
      )
      for (let maxOps = 3; maxOps <= 12; maxOps++) {
        const ended = use(rounds).pipe(
          Effect.provideService(Scheduler.MaxOpsBeforeYield, maxOps),
          Effect.timeoutOption("5 seconds")
        )
        expect([maxOps, yield* ended]).toEqual([maxOps, Option.some([1, 2, 3])])
      }
    })
  ))
