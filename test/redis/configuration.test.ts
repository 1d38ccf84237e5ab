/** How a store is configured, and what it says when the configuration or the server is wrong. */
import { expect, layer } from "@effect/vitest"
import * as ConfigModule from "effect/Config"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as Scope from "effect/Scope"
import { Lock, type LockError, type LockStore, RedisLockStore } from "effect-redis-lock"
import type { Redis, RedisOptions } from "ioredis"
import { inspect } from "node:util"
import {
  answered,
  connectedClient,
  failure,
  FaultProxy,
  leftovers,
  listeners,
  quietly,
  RedisServer,
  sent,
  storeOf,
  timed,
  unhandledErrors
} from "./support.js"

const ttl = "1 minute"
const secret = "s3cret/pa:ss@word"

/** Everything that a log of this value could show. */
const everything = (value: unknown): string =>
  `${String(value)}\n${inspect(value, { depth: 20, showHidden: true })}\n${JSON.stringify(value)}`

/** What defineCommand adds to a client. */
const ownCommands = (client: Redis): ReadonlyArray<string> => [
  ...Object.entries(client).flatMap(([name, value]) => (typeof value === "function" ? [name] : [])),
  ...Object.keys(client.scriptsSet),
  ...client.addedBuiltinSet
]

const lockOnce = Lock.withLock("k", { ttl })(Effect.succeed("done"))

layer(RedisServer.layer({ args: ["--requirepass", secret] }), { excludeTestServices: true })(
  "a server with a password",
  (it) => {
    const withPassword = (server: RedisServer.RedisProcess, password = secret) =>
      `redis://:${encodeURIComponent(password)}@127.0.0.1:${server.port}`

    it.scoped("by a URL", () =>
      Effect.gen(function* () {
        const server = yield* RedisServer.RedisServer
        for (const url of [withPassword(server), Redacted.make(withPassword(server))]) {
          expect(yield* Effect.provide(lockOnce, RedisLockStore.layer({ url }))).toBe("done")
        }
      })
    )

    it.scoped("by the options of ioredis, alone or beside a URL", () =>
      Effect.gen(function* () {
        const server = yield* RedisServer.RedisServer
        const { port } = server
        for (const options of [
          { redis: { host: "127.0.0.1", port, password: secret } },
          { url: server.url, redis: { password: secret } }
        ]) {
          expect(yield* Effect.provide(lockOnce, RedisLockStore.layer(options))).toBe("done")
        }
      })
    )

    it.scoped("by Config: all that layer takes, with the options of ioredis", () =>
      Effect.gen(function* () {
        const server = yield* RedisServer.RedisServer
        yield* server.flush
        const provider = ConfigProvider.fromMap(
          new Map([
            ["PORT", String(server.port)],
            ["PASSWORD", secret],
            ["OWNER", "worker 7"],
            ["BATCH", "false"]
          ])
        )
        const { use } = yield* storeOf(
          RedisLockStore.layerConfig({
            owner: ConfigModule.string("OWNER"),
            batch: ConfigModule.boolean("BATCH"),
            localHandoff: ConfigModule.succeed(0),
            redis: {
              host: ConfigModule.succeed("127.0.0.1"),
              port: ConfigModule.integer("PORT"),
              password: ConfigModule.redacted("PASSWORD"),
              db: ConfigModule.succeed(3),
              connectionName: ConfigModule.succeed("configured"),
              retryStrategy: ConfigModule.succeed(() => 100)
            }
          }).pipe(Layer.provide(Layer.setConfigProvider(provider)))
        )
        yield* Lock.withLock("k", { ttl })(() =>
          Effect.gen(function* () {
            const busy = yield* Effect.flip(Effect.scoped(Lock.tryAcquire("k")))
            expect(busy).toMatchObject({ holder: { owner: "worker 7" } })
            expect(yield* leftovers(server)).toEqual([])
            const clients = yield* server.clients
            expect(clients.map((client) => [client["name"], client["db"]])).toEqual([
              ["configured", "3"]
            ])
          })
        ).pipe(use)
      })
    )

    it.scoped("by Config: a URL, or its parts", () =>
      Effect.gen(function* () {
        const server = yield* RedisServer.RedisServer
        const provider = ConfigProvider.fromMap(
          new Map([
            ["REDIS_URL", withPassword(server)],
            ["REDIS_HOST", "127.0.0.1"],
            ["REDIS_PORT", String(server.port)],
            ["REDIS_PASSWORD", secret],
            ["LOCK_PREFIX", "configured:"]
          ])
        )
        const layers = [
          RedisLockStore.layerConfig({
            url: ConfigModule.redacted("REDIS_URL"),
            prefix: ConfigModule.string("LOCK_PREFIX")
          }),
          RedisLockStore.layerConfig({
            host: ConfigModule.string("REDIS_HOST"),
            port: ConfigModule.integer("REDIS_PORT"),
            password: ConfigModule.redacted("REDIS_PASSWORD"),
            prefix: ConfigModule.string("LOCK_PREFIX"),
            commandTimeout: ConfigModule.succeed(1_000)
          })
        ]
        for (const layer of layers) {
          const { use } = yield* storeOf(
            layer.pipe(Layer.provide(Layer.setConfigProvider(provider)))
          )
          yield* Lock.withLock("k", { ttl })(
            Effect.map(leftovers(server), (keys) => expect(keys).toEqual(["configured:k"]))
          ).pipe(use)
        }
        const missing = yield* Effect.exit(
          Effect.provide(
            lockOnce,
            RedisLockStore.layerConfig({ url: ConfigModule.redacted("NOT_THERE") }).pipe(
              Layer.provide(Layer.setConfigProvider(provider))
            )
          )
        )
        expect(String(missing)).toContain("NOT_THERE")
        const wrong = yield* Effect.exit(
          Effect.provide(
            lockOnce,
            RedisLockStore.layerConfig({ commandTimeout: ConfigModule.succeed(-5) })
          )
        )
        expect(String(wrong)).toContain('"RedisLockStore"')
        expect(String(wrong)).toContain("Impossible option commandTimeout: -5")
      })
    )

    for (const [name, url, said] of [
      ["wrong", "wrong/se:cr@et", /WRONGPASS|invalid .*password/i],
      ["missing", undefined, /NOAUTH/]
    ] as const) {
      it.scoped(
        `a ${name} password is named, within the command deadline, and kept to itself`,
        () =>
          Effect.gen(function* () {
            const errors = yield* unhandledErrors
            const server = yield* RedisServer.RedisServer
            const { close, use } = yield* storeOf(
              RedisLockStore.layer({
                url: url === undefined ? server.url : Redacted.make(withPassword(server, url)),
                commandTimeout: 800
              })
            )
            for (let i = 0; i < 2; i++) {
              const { exit, millis } = yield* timed(lockOnce.pipe(use))
              const error = failure(exit)
              expect(error).toMatchObject({
                _tag: "LockStoreError",
                operation: "acquire",
                key: "k"
              })
              expect(error.message).toMatch(said)
              expect(error.message).toContain("Check the user name and the password")
              expect(millis).toBeLessThan(1_800)
            }
            yield* close
            expect(yield* leftovers(server)).toEqual([])
            expect(errors).toEqual([])
          })
      )
    }

    it.scoped("no error shows a password, whether right or wrong, nor its cause", () =>
      Effect.gen(function* () {
        const server = yield* RedisServer.RedisServer
        const wrong = "Wr0ngButSecret"
        for (const username of ["", "someone"]) {
          const { use } = yield* storeOf(
            RedisLockStore.layer({
              url: `redis://${username}:${wrong}@127.0.0.1:${server.port}`,
              commandTimeout: 500
            })
          )
          const { exit } = yield* timed(lockOnce.pipe(use))
          const error = failure(exit)
          expect(error).toMatchObject({ transient: false })
          expect(everything(error)).not.toContain(wrong)
          expect(everything((error as LockError.LockStoreError).cause)).not.toContain(wrong)
          expect(everything(exit)).not.toContain(wrong)
        }
      })
    )

    it.scoped("no error of a server shows a token", () =>
      Effect.gen(function* () {
        const server = yield* RedisServer.RedisServer
        const { use } = yield* storeOf(
          RedisLockStore.layer({ url: withPassword(server), commandTimeout: 500 })
        )
        const lease = yield* Lock.acquire("token", { ttl }).pipe(use)
        const queue = "{token}:lock-queue"
        yield* server.command("RPUSH", queue, "not a queue")
        const error = yield* Effect.flip(lease.release)
        yield* server.command("DEL", "token", queue)
        expect(error).toMatchObject({ _tag: "LockStoreError", operation: "release" })
        expect(everything(error)).not.toContain(lease.token)
      })
    )

    it.scoped("a URL that is wrong fails the layer, and does not show its password", () =>
      Effect.gen(function* () {
        const urls = [
          `http://user:${secret}@127.0.0.1`,
          `user:${secret}@127.0.0.1:6379`,
          `127.0.0.1:6379`,
          `redis:///`,
          ``,
          `redis//user:${secret}@127.0.0.1:6379`,
          `redis://user:${secret}@127.0.0.1:port`
        ]
        for (const url of urls) {
          const exit = yield* Effect.exit(Effect.scoped(Layer.build(RedisLockStore.layer({ url }))))
          const error = failure(exit)
          expect(error).toMatchObject({
            _tag: "LockStoreError",
            operation: "configure",
            transient: false
          })
          expect(error.message).toContain("url")
          for (const part of ["s3cret", "pa:ss", "word@"]) {
            expect(everything(error)).not.toContain(part)
          }
          const redacted = yield* Effect.exit(
            Effect.scoped(
              Layer.build(
                RedisLockStore.layerConfig({ url: ConfigModule.succeed(Redacted.make(url)) })
              )
            )
          )
          expect(everything(redacted)).toContain("Impossible option url")
          for (const part of ["s3cret", "pa:ss", "word@"]) {
            expect(everything(redacted)).not.toContain(part)
          }
        }
      })
    )

    it.scoped("options that are impossible fail the layer, by name and value", () =>
      Effect.gen(function* () {
        const { url } = yield* RedisServer.RedisServer
        const impossible: ReadonlyArray<readonly [string, RedisLockStore.Options]> = [
          ["commandTimeout: 0", { commandTimeout: 0 }],
          ["commandTimeout: -5", { commandTimeout: -5 }],
          ["commandTimeout: Infinity", { commandTimeout: Number.POSITIVE_INFINITY }],
          ["commandTimeout: soon", { commandTimeout: "soon" as never }],
          ["commandTimeout: -5 seconds", { commandTimeout: "-5 seconds" }],
          ["owner: …", { owner: "x".repeat(1_025) }],
          ["foreignPollEvery: NaN", { foreignPollEvery: Number.NaN }],
          [
            'localHandoff: -1. It must be a duration of 0 ms or more, for example "20 millis"',
            { localHandoff: -1 }
          ],
          ["prefix: 7", { prefix: 7 as never }],
          ["prefix: [object Object]", { prefix: Object.create(null) as never }],
          ["url: 5", { url: 5 as never }],
          // a database is a number: the server's refusal of a name would come when nobody listens
          ["url: redis://***@host/name", { url: "redis://user:pw@host/name" }],
          ["url: redis://host/name", { url: "redis://host/name" }]
        ]
        for (const [text, options] of impossible) {
          const error = failure(
            yield* Effect.exit(
              Effect.scoped(Layer.build(RedisLockStore.layer({ url, ...options })))
            )
          )
          expect(error).toMatchObject({
            _tag: "LockStoreError",
            operation: "configure",
            transient: false
          })
          expect(error.message).toContain(text)
        }
      })
    )
  }
)

layer(RedisServer.layer(), { excludeTestServices: true })("a store's options", (it) => {
  it.scoped("commandTimeout bounds the first operation where nobody listens", () =>
    quietly(
      Effect.gen(function* () {
        const errors = yield* unhandledErrors
        const port = yield* RedisServer.freePort
        const { close, use } = yield* storeOf(
          RedisLockStore.layer({ url: `redis://127.0.0.1:${port}`, commandTimeout: 400 })
        )
        for (let i = 0; i < 2; i++) {
          const { exit, millis } = yield* timed(lockOnce.pipe(use))
          const error = failure(exit)
          expect(error).toMatchObject({
            _tag: "LockStoreError",
            operation: "acquire",
            key: "k",
            transient: true
          })
          expect(error.message).toContain("ECONNREFUSED")
          expect(error.message).toContain("is Redis running")
          expect(millis).toBeLessThan(1_400)
        }
        const closed = yield* timed(close)
        expect(closed.millis).toBeLessThan(1_400)
        expect(errors).toEqual([])
      })
    )
  )

  it.scoped("a host that does not exist is named", () =>
    Effect.gen(function* () {
      const { use } = yield* storeOf(
        RedisLockStore.layer({ url: "redis://no-such-host.invalid", commandTimeout: 1_500 })
      )
      const { exit, millis } = yield* timed(lockOnce.pipe(use))
      expect(failure(exit)).toMatchObject({ _tag: "LockStoreError", operation: "acquire" })
      expect(String(exit)).toMatch(/no-such-host|did not answer/)
      expect(millis).toBeLessThan(2_500)
    })
  )

  it.scoped("a store that is not used connects once, and closes at once", () =>
    Effect.gen(function* () {
      const server = yield* RedisServer.RedisServer
      yield* server.flush
      const { close } = yield* storeOf(RedisLockStore.layer({ url: server.url }))
      const { millis } = yield* timed(close)
      expect(millis).toBeLessThan(500)
      yield* RedisServer.eventually(Effect.map(server.clientCount, (count) => count === 0))
    })
  )

  /** Names in CLIENT LIST, once a waiter has come for a lock, by the store that it waits in. */
  const namesOf = (
    store: (
      server: RedisServer.RedisProcess
    ) => Effect.Effect<Layer.Layer<LockStore.LockStore, unknown>, never, Scope.Scope>
  ) =>
    Effect.gen(function* () {
      const server = yield* RedisServer.RedisServer
      yield* server.flush
      const { use } = yield* storeOf(yield* store(server))
      yield* server.command("SET", "k", "foreign", "PX", 60_000)
      const waiter = yield* Effect.fork(lockOnce.pipe(use))
      yield* RedisServer.eventually(
        Effect.map(server.clients, (clients) => clients.some((client) => client["sub"] !== "0"))
      )
      const clients = yield* server.clients
      yield* Fiber.interrupt(waiter)
      return clients.map((client) => client["name"]).sort()
    })

  for (const [name, redis, expected] of [
    ["that of the library", {}, "effect-redis-lock"],
    ["the user's own", { connectionName: "jobs" }, "jobs"]
  ] as const) {
    it.scoped(`its connections have a name in CLIENT LIST: ${name}`, () =>
      Effect.gen(function* () {
        expect(
          yield* namesOf(({ url }) => Effect.succeed(RedisLockStore.layer({ url, redis })))
        ).toEqual([expected, `${expected}:subscriber`])
      })
    )
  }

  for (const [name, options, expected] of [
    ["none", {}, ["", "effect-redis-lock:subscriber"]],
    ["one", { connectionName: "app" }, ["app", "app:subscriber"]]
  ] as const) {
    it.scoped(`a client of the user's keeps its name (${name}), the one beside it has one`, () =>
      Effect.gen(function* () {
        const names = namesOf(({ port }) =>
          Effect.map(connectedClient(port, options), (client) =>
            RedisLockStore.layerFromClient(client)
          )
        )
        expect(yield* names).toEqual(expected)
      })
    )
  }

  it.scoped("a prefix, a database, and an owner are where they were asked for", () =>
    Effect.gen(function* () {
      const server = yield* RedisServer.RedisServer
      yield* server.flush
      const { use } = yield* storeOf(
        RedisLockStore.layer({
          url: `${server.url}/3`,
          prefix: "locks:",
          owner: "worker-7",
          redis: { keyPrefix: "app:" }
        })
      )
      const client = yield* connectedClient(server.port, { db: 3 })
      const lease = yield* Lock.acquire("k", { ttl }).pipe(use)
      expect(yield* Effect.promise(() => client.get("app:locks:k"))).toBe(lease.token)
      expect(yield* server.dump).toEqual([])
      const error = yield* Effect.flip(Effect.scoped(Lock.tryAcquire("k")).pipe(use))
      expect(error).toMatchObject({ holder: { owner: "worker-7" } })
      // by default: where the holder runs
      const { use: useDefault } = yield* storeOf(RedisLockStore.layer({ url: server.url }))
      yield* Lock.acquire("k2", { ttl }).pipe(useDefault)
      const other = yield* Effect.flip(Effect.scoped(Lock.tryAcquire("k2")).pipe(useDefault))
      if (other._tag !== "LockUnavailable") throw other
      expect(other.holder.owner).toContain(String(process.pid))
    })
  )

  it.scoped("a database that the server does not have is an error, and not another one", () =>
    Effect.gen(function* () {
      const server = yield* RedisServer.RedisServer
      yield* server.flush
      const { close, use } = yield* storeOf(
        RedisLockStore.layer({ url: `${server.url}/99`, commandTimeout: 600 })
      )
      for (const attempt of [Lock.tryAcquire("k"), Lock.acquire("k"), Lock.acquire("k")]) {
        const { exit, millis } = yield* timed(Effect.scoped(attempt).pipe(use))
        expect(failure(exit)).toMatchObject({ _tag: "LockStoreError", operation: "acquire" })
        expect(String(exit)).toContain("does not have the database")
        expect(millis).toBeLessThan(1_600)
      }
      yield* close
      expect(yield* server.dump).toEqual([])
    })
  )

  it.scoped("options of ioredis that decide how commands are retried have no effect", () =>
    Effect.gen(function* () {
      const server = yield* RedisServer.RedisServer
      yield* server.flush
      const proxy = yield* FaultProxy.make(server.port)
      const { use } = yield* storeOf(
        RedisLockStore.layer({
          url: proxy.url,
          redis: {
            maxRetriesPerRequest: 0,
            enableOfflineQueue: false,
            autoResendUnfulfilledCommands: false,
            commandTimeout: 1
          }
        })
      )
      proxy.delay({ toClient: 30 })
      const lease = yield* Lock.acquire("k", { ttl }).pipe(use)
      proxy.cutAll()
      yield* lease.verify
      yield* lease.release
    })
  )
})

layer(RedisServer.layer(), { excludeTestServices: true })("a client of the user's", (it) => {
  const clients: ReadonlyArray<readonly [string, Omit<RedisOptions, "replyMapping">, string]> = [
    ["as it comes", {}, "k"],
    ["enableOfflineQueue: false", { enableOfflineQueue: false }, "k"],
    ["commandTimeout", { commandTimeout: 3_000 }, "k"],
    ["stringNumbers: true", { stringNumbers: true }, "k"],
    ["keyPrefix", { keyPrefix: "mine:" }, "mine:k"],
    ["lazyConnect", { lazyConnect: true }, "k"],
    ["enableAutoPipelining", { enableAutoPipelining: true }, "k"],
    ["maxRetriesPerRequest: 0", { maxRetriesPerRequest: 0 }, "k"],
    ["enableReadyCheck: false", { enableReadyCheck: false }, "k"],
    ["showFriendlyErrorStack", { showFriendlyErrorStack: true }, "k"]
  ]
  for (const [name, options, stored] of clients) {
    it.scoped(`is left as it was found (${name})`, () =>
      Effect.gen(function* () {
        const errors = yield* unhandledErrors
        const server = yield* RedisServer.RedisServer
        yield* server.flush
        const client = yield* connectedClient(server.port, options)
        const before = listeners(client)
        const optionsBefore = inspect(client.options, { depth: 3 })
        const commandsBefore = ownCommands(client)
        const { close, use } = yield* storeOf(RedisLockStore.layerFromClient(client))
        const lease = yield* Lock.acquire("k", { ttl, renewEvery: 30 }).pipe(use)
        expect(yield* server.command("GET", stored)).toBe(lease.token)
        yield* server.command("PEXPIRE", stored, 30_000)
        yield* RedisServer.eventually(
          Effect.map(server.command("PTTL", stored), (left) => Number(left) > 40_000)
        )
        yield* lease.verify
        const busy = yield* Effect.flip(Effect.scoped(Lock.tryAcquire("k")).pipe(use))
        expect(busy).toMatchObject({ _tag: "LockUnavailable", holder: { foreign: false } })
        // numbers are numbers, however the client reads them
        expect(Number.isSafeInteger(lease.fencingToken)).toBe(true)
        yield* lease.release
        yield* close
        expect(listeners(client)).toEqual(before)
        expect(ownCommands(client)).toEqual(commandsBefore)
        expect(inspect(client.options, { depth: 3 })).toBe(optionsBefore)
        expect(client.status).toBe("ready")
        expect(yield* Effect.promise(() => client.set("still", "open"))).toBe("OK")
        expect(errors).toEqual([])
      })
    )
  }

  it.scoped("in a database of its own", () =>
    Effect.gen(function* () {
      const server = yield* RedisServer.RedisServer
      yield* server.flush
      const client = yield* connectedClient(server.port, { db: 5 })
      const { use } = yield* storeOf(RedisLockStore.layerFromClient(client))
      yield* Lock.withLock("k", { ttl })(
        Effect.promise(async () => expect(await client.exists("k")).toBe(1))
      ).pipe(use)
      expect(yield* server.dump).toEqual([])
    })
  )

  it.scoped("that commandTimeout of ioredis cuts short: the acquire fails, and is undone", () =>
    Effect.gen(function* () {
      const errors = yield* unhandledErrors
      const server = yield* RedisServer.RedisServer
      yield* server.flush
      const proxy = yield* FaultProxy.make(server.port)
      const client = yield* connectedClient(proxy.port, { commandTimeout: 100 })
      const { close, use } = yield* storeOf(RedisLockStore.layerFromClient(client))
      yield* lockOnce.pipe(use)
      proxy.delay({ toServer: 200 })
      const { exit } = yield* timed(lockOnce.pipe(use))
      expect(failure(exit)).toMatchObject({ _tag: "LockStoreError", operation: "acquire" })
      proxy.delay({})
      yield* proxy.until(() => answered(proxy, "k") >= 4)
      yield* close
      expect(yield* leftovers(server)).toEqual([])
      expect(errors).toEqual([])
    })
  )

  it.scoped("twenty stores on one client do not make Node warn of its listeners", () =>
    Effect.gen(function* () {
      const errors = yield* unhandledErrors
      const server = yield* RedisServer.RedisServer
      const client = yield* connectedClient(server.port)
      const before = listeners(client)
      const scope = yield* Scope.make()
      for (let i = 0; i < 20; i++) {
        yield* Layer.buildWithScope(
          RedisLockStore.layerFromClient(client, { prefix: `${i}:` }),
          scope
        )
      }
      yield* Effect.sleep(20)
      expect(errors).toEqual([])
      yield* Scope.close(scope, Exit.void)
      expect(listeners(client)).toEqual(before)
    })
  )

  it.scoped("that was closed already gives an error, not a hang", () =>
    Effect.gen(function* () {
      const errors = yield* unhandledErrors
      const server = yield* RedisServer.RedisServer
      const client = yield* connectedClient(server.port)
      client.disconnect()
      const { close, use } = yield* storeOf(
        RedisLockStore.layerFromClient(client, { commandTimeout: 400 })
      )
      const { exit, millis } = yield* timed(lockOnce.pipe(use))
      expect(failure(exit)).toMatchObject({
        _tag: "LockStoreError",
        operation: "acquire",
        transient: false
      })
      expect(millis).toBeLessThan(1_400)
      const closed = yield* timed(close)
      expect(closed.millis).toBeLessThan(1_400)
      expect(errors).toEqual([])
    })
  )

  it.scoped("a layer bound to a constant is one connection, however often it is provided", () =>
    Effect.gen(function* () {
      const server = yield* RedisServer.RedisServer
      yield* server.flush
      const proxy = yield* FaultProxy.make(server.port)
      const store = RedisLockStore.layer({ url: proxy.url })
      const user = Layer.scopedDiscard(lockOnce)
      yield* Layer.build(
        Layer.mergeAll(user, Layer.fresh(user)).pipe(Layer.provide(store)) as Layer.Layer<
          never,
          Layer.Layer.Error<typeof store>
        >
      )
      expect(sent(proxy, "k")).toBeGreaterThanOrEqual(3)
      expect(new Set(proxy.requests.map(({ connection }) => connection)).size).toBe(1)
    })
  )
})

layer(RedisServer.layer(), { excludeTestServices: true })("a server that refuses", (it) => {
  /** One attempt under a condition: an error of the operation that says what to do, and nothing locked. */
  const refused = (
    use: <A, E>(effect: Effect.Effect<A, E, LockStore.LockStore>) => Effect.Effect<A, E>,
    server: RedisServer.RedisProcess,
    said: ReadonlyArray<RegExp | string>,
    mayPass = false
  ) =>
    Effect.gen(function* () {
      const errors = yield* unhandledErrors
      const keysBefore = yield* server.dump
      const { exit, millis } = yield* timed(lockOnce.pipe(use))
      const error = failure(exit)
      expect(error).toMatchObject({
        _tag: "LockStoreError",
        operation: "acquire",
        key: "k",
        transient: mayPass
      })
      expect((error as LockError.LockStoreError).cause).toBeDefined()
      for (const text of said) expect(error.message).toMatch(text)
      expect(millis).toBeLessThan(1_600)
      expect(yield* server.dump).toEqual(keysBefore)
      expect(errors).toEqual([])
    })
  const fresh = Effect.gen(function* () {
    const server = yield* RedisServer.RedisServer
    yield* server.flush
    const { use } = yield* storeOf(RedisLockStore.layer({ url: server.url, commandTimeout: 1_000 }))
    return { server, use }
  })
  const configured = (
    server: RedisServer.RedisProcess,
    name: string,
    value: string,
    back: string
  ) =>
    Effect.acquireRelease(server.command("CONFIG", "SET", name, value), () =>
      server.command("CONFIG", "SET", name, back)
    )

  it.scoped("the key's type", () =>
    Effect.gen(function* () {
      const { server, use } = yield* fresh
      yield* server.command("RPUSH", "k", "a list")
      yield* refused(use, server, ["WRONGTYPE", "another key or prefix"])
      expect(yield* server.command("LRANGE", "k", 0, -1)).toEqual(["a list"])
    })
  )

  it.scoped("the type of a key beside it", () =>
    Effect.gen(function* () {
      const { server, use } = yield* fresh
      yield* server.command("RPUSH", "{k}:lock-record", "a list")
      yield* refused(use, server, ["WRONGTYPE", "another key or prefix"])
      expect(yield* server.command("EXISTS", "k")).toBe(0)
    })
  )

  for (const [name, rules] of [
    ["a command (EVAL)", ["~*", "&*", "+@all", "-eval", "-evalsha"]],
    ["a command in the script (SET)", ["~*", "&*", "+@all", "-set"]],
    ["the key's pattern", ["~allowed:*", "&*", "+@all"]],
    ["the pattern of the key beside it", ["~k", "&*", "+@all"]]
  ] as const) {
    it.scoped(`an ACL that forbids ${name}`, () =>
      Effect.gen(function* () {
        const server = yield* RedisServer.RedisServer
        yield* server.flush
        yield* server.command("ACL", "SETUSER", "app", "reset", "on", ">pass", ...rules)
        const { use } = yield* storeOf(
          RedisLockStore.layer({
            url: `redis://app:pass@127.0.0.1:${server.port}`,
            commandTimeout: 1_000
          })
        )
        yield* refused(use, server, [/NOPERM|permissions/, "ACL", /command|key/])
        expect(yield* server.dump).toEqual([])
      })
    )
  }

  it.scoped("an ACL that allows what the library says it needs is enough", () =>
    Effect.gen(function* () {
      const server = yield* RedisServer.RedisServer
      yield* server.flush
      const rules = "+hello +auth +info +client +eval +evalsha +@read +@write +time +publish +ping"
      yield* server.command(
        "ACL",
        "SETUSER",
        "min",
        "reset",
        "on",
        ">pass",
        "~*",
        "&*",
        ...rules.split(" ")
      )
      const { use } = yield* storeOf(
        RedisLockStore.layer({ url: `redis://min:pass@127.0.0.1:${server.port}` })
      )
      expect(yield* lockOnce.pipe(use)).toBe("done")
    })
  )

  it.scoped("its memory (OOM, noeviction)", () =>
    Effect.gen(function* () {
      const { server, use } = yield* fresh
      yield* lockOnce.pipe(use)
      yield* configured(server, "maxmemory", "1", "0")
      yield* refused(use, server, ["OOM", "out of memory"], true)
    })
  )

  it.scoped("a read-only replica", () =>
    Effect.gen(function* () {
      const { server, use } = yield* fresh
      yield* Effect.acquireRelease(server.command("REPLICAOF", "127.0.0.1", 1), () =>
        server.command("REPLICAOF", "NO", "ONE")
      )
      yield* refused(use, server, ["READONLY", "connect to the master"], true)
    })
  )

  it.scoped("too few replicas", () =>
    Effect.gen(function* () {
      const { server, use } = yield* fresh
      yield* configured(server, "min-replicas-to-write", "1", "0")
      yield* refused(use, server, ["NOREPLICAS"], true)
    })
  )

  it.scoped("a script that does not end: BUSY", () =>
    Effect.gen(function* () {
      const { server, use } = yield* fresh
      yield* lockOnce.pipe(use)
      yield* configured(server, "busy-reply-threshold", "1", "5000")
      const client = yield* connectedClient(server.port)
      const probe = yield* connectedClient(server.port)
      const endless = client.eval("while true do end", 0).catch(() => {})
      // until the server says so itself
      yield* RedisServer.eventually(
        Effect.promise(() =>
          probe.get("x").then(
            () => false,
            (error) => String(error).includes("BUSY")
          )
        )
      )
      const { exit, millis } = yield* timed(lockOnce.pipe(use))
      const { command } = server
      yield* command("SCRIPT", "KILL")
      yield* Effect.promise(() => endless)
      expect(failure(exit)).toMatchObject({ _tag: "LockStoreError", operation: "acquire" })
      expect(String(failure(exit))).toMatch(/BUSY/)
      expect(millis).toBeLessThan(1_600)
      yield* RedisServer.eventually(Effect.map(leftovers(server), (keys) => keys.length === 0))
    })
  )

  it.scoped("while it loads its data: the next attempt works", () =>
    quietly(
      Effect.gen(function* () {
        const { server, use } = yield* fresh
        const fiber = yield* Effect.fork(server.restart)
        const attempt = Effect.exit(lockOnce.pipe(use))
        yield* Fiber.join(fiber)
        yield* RedisServer.eventually(Effect.map(attempt, Exit.isSuccess))
        expect(yield* leftovers(server)).toEqual([])
      })
    )
  )
})
