import * as Config from "effect/Config"
import type * as ConfigError from "effect/ConfigError"
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Layer from "effect/Layer"
import type * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import {
  type Lease,
  Lock,
  type LockError,
  type LockStore,
  MemoryLockStore,
  RedisLockStore
} from "effect-redis-lock"
import { type Cluster, Redis } from "ioredis"
import { describe, expectTypeOf, it } from "vitest"

class Body extends Context.Tag("Body")<Body, boolean>() {}
declare const body: Effect.Effect<number, "own", Body>
declare const lease: Lease.Lease

type Store = LockStore.LockStore
type Unavailable = LockError.LockUnavailable
type Lost = LockError.LockLost
type StoreError = LockError.LockStoreError

describe("acquire and tryAcquire", () => {
  it("need a store and a scope; they cannot be lost yet", () => {
    type Acquired = Effect.Effect<Lease.Lease, Unavailable | StoreError, Store | Scope.Scope>
    expectTypeOf(Lock.acquire("key")).toEqualTypeOf<Acquired>()
    expectTypeOf(Lock.acquire("key", { waitAtMost: "1 second" })).toEqualTypeOf<Acquired>()
    expectTypeOf(Lock.tryAcquire("key")).toEqualTypeOf<Acquired>()
    expectTypeOf(Lock.tryAcquire("key", { ttl: 5_000 })).toEqualTypeOf<Acquired>()
  })

  it("LockError is everything that a lock fails with", () => {
    expectTypeOf<LockError.LockError>().toEqualTypeOf<Unavailable | Lost | StoreError>()
    expectTypeOf<StoreError["transient"]>().toEqualTypeOf<boolean>()
  })

  it("the scope goes with Effect.scoped, the errors with catchTags", () => {
    const handled = Lock.acquire("key").pipe(
      Effect.scoped,
      Effect.catchTags({
        LockUnavailable: (error) => {
          expectTypeOf(error.retryAfter).toEqualTypeOf<Duration.Duration | undefined>()
          expectTypeOf(error.holder).toEqualTypeOf<LockError.Holder>()
          return Effect.succeed("busy" as const)
        },
        LockStoreError: () => Effect.succeed("down" as const)
      })
    )
    expectTypeOf(handled).toEqualTypeOf<
      Effect.Effect<Lease.Lease | "busy" | "down", never, Store>
    >()
  })

  it("a single attempt has nothing to wait for", () => {
    expectTypeOf<Lock.Options>().not.toHaveProperty("waitAtMost")
    // @ts-expect-error waitAtMost is for those who wait
    void Lock.tryAcquire("key", { waitAtMost: "1 second" })
    // @ts-expect-error the same
    void Lock.withLockIfAvailable("key", { waitAtMost: "1 second" })
  })

  it("options are known, and each may be undefined", () => {
    expectTypeOf<Lock.WaitOptions>().toExtend<Lock.Options>()
    expectTypeOf({
      ttl: undefined,
      renewEvery: undefined,
      margin: undefined,
      maxHold: undefined,
      holdAtLeast: undefined,
      owner: undefined,
      name: undefined,
      waitAtMost: undefined
    }).toExtend<Lock.WaitOptions>()
    // @ts-expect-error no such option
    void Lock.acquire("key", { tttl: "1 second" })
    // @ts-expect-error a key is a string
    void Lock.acquire(42)
  })
})

describe("withLock", () => {
  type Locked = Effect.Effect<number, "own" | Unavailable | Lost | StoreError, Body | Store>

  it("of an effect", () => {
    expectTypeOf(Lock.withLock("key")(body)).toEqualTypeOf<Locked>()
    expectTypeOf(body.pipe(Lock.withLock("key"))).toEqualTypeOf<Locked>()
    expectTypeOf(
      body.pipe(Lock.withLock("key", { ttl: "1 second", waitAtMost: "1 second" }))
    ).toEqualTypeOf<Locked>()
  })

  it("of a function of the lease", () => {
    const locked = Lock.withLock("key")((lease) => {
      expectTypeOf(lease).toEqualTypeOf<Lease.Lease>()
      return body
    })
    expectTypeOf(locked).toEqualTypeOf<Locked>()
  })

  it("of a Tag class, which is an effect and a function", () => {
    expectTypeOf(Body.pipe(Lock.withLock("key"))).toEqualTypeOf<
      Effect.Effect<boolean, Unavailable | Lost | StoreError, Body | Store>
    >()
  })

  it("with the body first", () => {
    expectTypeOf(Lock.withLock(body, "key")).toEqualTypeOf<Locked>()
    expectTypeOf(Lock.withLock(body, "key", { waitAtMost: "1 second" })).toEqualTypeOf<Locked>()
    const locked = Lock.withLock((lease) => {
      expectTypeOf(lease).toEqualTypeOf<Lease.Lease>()
      return body
    }, "key")
    expectTypeOf(locked).toEqualTypeOf<Locked>()
    expectTypeOf(Lock.withLock(Body, "key")).toEqualTypeOf<
      Effect.Effect<boolean, Unavailable | Lost | StoreError, Body | Store>
    >()
    // @ts-expect-error no key
    void Lock.withLock(body)
    // @ts-expect-error no such option
    void Lock.withLock(body, "key", { tttl: "1 second" })
  })

  it("adds nothing that was not there", () => {
    expectTypeOf(Lock.withLock("key")(Effect.void)).toEqualTypeOf<
      Effect.Effect<void, Unavailable | Lost | StoreError, Store>
    >()
  })

  it("keeps the scope that a body needs", () => {
    expectTypeOf(Lock.withLock("outer")(Lock.acquire("inner"))).toEqualTypeOf<
      Effect.Effect<Lease.Lease, Unavailable | Lost | StoreError, Store | Scope.Scope>
    >()
  })
})

describe("withLockIfAvailable", () => {
  it("gives an option instead of LockUnavailable, of either form of the body", () => {
    type Maybe = Effect.Effect<Option.Option<number>, "own" | Lost | StoreError, Body | Store>
    expectTypeOf(body.pipe(Lock.withLockIfAvailable("key"))).toEqualTypeOf<Maybe>()
    expectTypeOf(
      Lock.withLockIfAvailable("key")((lease: Lease.Lease) => Effect.andThen(lease.isHeld, body))
    ).toEqualTypeOf<Maybe>()
  })

  it("with the body first", () => {
    type Maybe = Effect.Effect<Option.Option<number>, "own" | Lost | StoreError, Body | Store>
    expectTypeOf(Lock.withLockIfAvailable(body, "key")).toEqualTypeOf<Maybe>()
    expectTypeOf(
      Lock.withLockIfAvailable(({ isHeld }: Lease.Lease) => Effect.andThen(isHeld, body), "key", {
        ttl: 5_000
      })
    ).toEqualTypeOf<Maybe>()
    // @ts-expect-error waitAtMost is for those who wait
    void Lock.withLockIfAvailable(body, "key", { waitAtMost: "1 second" })
  })

  it("keeps a LockUnavailable of the body", () => {
    expectTypeOf(
      Effect.scoped(Lock.tryAcquire("other")).pipe(Lock.withLockIfAvailable("key"))
    ).toEqualTypeOf<
      Effect.Effect<Option.Option<Lease.Lease>, Unavailable | Lost | StoreError, Store>
    >()
  })
})

describe("Lease", () => {
  it("members", () => {
    expectTypeOf(lease.key).toEqualTypeOf<string>()
    expectTypeOf(lease.token).toEqualTypeOf<string>()
    expectTypeOf(lease.fencingToken).toEqualTypeOf<number>()
    expectTypeOf(lease.remaining).toEqualTypeOf<Effect.Effect<Duration.Duration>>()
    expectTypeOf(lease.isHeld).toEqualTypeOf<Effect.Effect<boolean>>()
    expectTypeOf(lease.verify).toEqualTypeOf<Effect.Effect<void, Lost | StoreError>>()
    expectTypeOf(lease.awaitLost).toEqualTypeOf<Effect.Effect<never, Lost>>()
    expectTypeOf(lease.signal).toEqualTypeOf<AbortSignal>()
    expectTypeOf(lease.release).toEqualTypeOf<Effect.Effect<void, Lost | StoreError>>()
    expectTypeOf(lease.guard(body)).toEqualTypeOf<Effect.Effect<number, "own" | Lost, Body>>()
  })

  it("cannot be changed", () => {
    expectTypeOf(lease).toEqualTypeOf<Readonly<Lease.Lease>>()
    // @ts-expect-error read only
    lease.key = "other"
  })
})

describe("LockError", () => {
  it("reasons and operations are closed sets", () => {
    expectTypeOf<
      "Missing" | "Taken" | "Unreachable" | "Released"
    >().toExtend<LockError.LossReason>()
    expectTypeOf<LockError.LossReason>().toExtend<string>()
    expectTypeOf<Lost["_tag"]>().toEqualTypeOf<"LockLost">()
    expectTypeOf<Unavailable["_tag"]>().toEqualTypeOf<"LockUnavailable">()
    expectTypeOf<StoreError["_tag"]>().toEqualTypeOf<"LockStoreError">()
    expectTypeOf<Lost>().toExtend<Error>()
  })
})

describe("stores", () => {
  it("memory", () => {
    expectTypeOf(MemoryLockStore.make).toEqualTypeOf<Effect.Effect<Store>>()
    expectTypeOf(MemoryLockStore.layer).toEqualTypeOf<Layer.Layer<Store>>()
  })

  it("Redis, from options", () => {
    expectTypeOf(RedisLockStore.layer()).toEqualTypeOf<Layer.Layer<Store, StoreError>>()
    expectTypeOf(
      RedisLockStore.layer({
        url: "redis://127.0.0.1",
        prefix: "locks:",
        redis: { db: 1, keyPrefix: "app:", lazyConnect: true }
      })
    ).toEqualTypeOf<Layer.Layer<Store, StoreError>>()
    expectTypeOf(RedisLockStore.make()).toEqualTypeOf<
      Effect.Effect<Store, StoreError, Scope.Scope>
    >()
  })

  it("Redis, from Config", () => {
    expectTypeOf(
      RedisLockStore.layerConfig({ url: Config.redacted("URL"), prefix: Config.string("PREFIX") })
    ).toEqualTypeOf<Layer.Layer<Store, ConfigError.ConfigError>>()
    expectTypeOf(
      RedisLockStore.layerConfig(Config.succeed({ host: "127.0.0.1", port: 6379 }))
    ).toEqualTypeOf<Layer.Layer<Store, ConfigError.ConfigError>>()
    // all that `layer` takes
    expectTypeOf<Omit<RedisLockStore.ConfigOptions, "redis">>().toMatchTypeOf<
      Omit<RedisLockStore.Options, "redis">
    >()
    expectTypeOf<keyof RedisLockStore.ConfigRedisOptions>().toEqualTypeOf<
      keyof NonNullable<RedisLockStore.Options["redis"]>
    >()
    void RedisLockStore.layerConfig({
      sentinels: Config.succeed(["127.0.0.1:26379", { host: "::1", port: 26_379 }]),
      name: Config.string("NAME"),
      sentinelPassword: Config.redacted("SENTINEL_PASSWORD"),
      redis: {
        password: Config.redacted("PASSWORD"),
        enableTLSForSentinelMode: Config.succeed(true)
      }
    })
    expectTypeOf(
      RedisLockStore.layerClusterConfig({
        nodes: Config.array(Config.string(), "NODES"),
        password: Config.redacted("PASSWORD"),
        redis: { tls: Config.succeed({}), connectionName: Config.string("NAME") },
        cluster: { keyPrefix: Config.succeed("app:") }
      })
    ).toEqualTypeOf<Layer.Layer<Store, ConfigError.ConfigError>>()
    // @ts-expect-error a Cluster has no other database
    void RedisLockStore.layerCluster({ nodes: ["127.0.0.1:6379"], redis: { db: 1 } })
    // @ts-expect-error it is begun with some node
    void RedisLockStore.layerCluster({})
    void RedisLockStore.layerConfig({
      batch: Config.boolean("BATCH"),
      redis: {
        name: Config.string("MASTER"),
        sentinels: Config.succeed([{ host: "127.0.0.1", port: 26379 }]),
        sentinelPassword: Config.redacted("SENTINEL_PASSWORD"),
        tls: { ca: Config.string("CA") },
        retryStrategy: Config.succeed(() => 100)
      }
    })
  })

  it("Redis, from a client of ioredis", () => {
    expectTypeOf(RedisLockStore.layerFromClient(new Redis({ lazyConnect: true }))).toEqualTypeOf<
      Layer.Layer<Store, StoreError>
    >()
    expectTypeOf(RedisLockStore.layerFromClient).parameter(0).toEqualTypeOf<Redis | Cluster>()
  })

  it("provide what locks need", () => {
    expectTypeOf(
      body.pipe(Lock.withLock("key"), Effect.provide(MemoryLockStore.layer))
    ).toEqualTypeOf<Effect.Effect<number, "own" | Unavailable | Lost | StoreError, Body>>()
  })
})
