/**
 * What stands in the options of `layerConfig` without being a Config: it is taken as it is, or the
 * layer fails and says which option and which value are wrong. (Types refuse most of it.)
 */
import { expect, it } from "@effect/vitest"
import * as Config from "effect/Config"
import type * as ConfigError from "effect/ConfigError"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import { Lock, RedisLockStore } from "effect-redis-lock"
import { RedisServer, storeOf } from "./support.js"

type Options = Parameters<typeof RedisLockStore.layerConfig>[0]

const provider = ConfigProvider.fromMap(new Map([["HOST", "host.invalid"]]))

const layerOf = (options: unknown) =>
  RedisLockStore.layerConfig(options as Options).pipe(
    Layer.provide(Layer.setConfigProvider(provider))
  )

/** What the layer's failure says. */
const failureOf = (options: unknown): Effect.Effect<ConfigError.ConfigError> =>
  Effect.flip(Effect.scoped(Effect.asVoid(Layer.build(layerOf(options))))).pipe(Effect.orDie)

/** What ioredis is given for these options. */
const givenToClient = (redis: Record<string, unknown>) =>
  Effect.gen(function* () {
    let given: Record<string, unknown> = {}
    class Connector {
      constructor(options: Record<string, unknown>) {
        given = options
      }
      check = () => true
      disconnect = () => {}
      connect = () => Promise.reject(new Error("not here"))
    }
    yield* Layer.build(layerOf({ redis: { ...redis, Connector } }))
    return given
  })

it.scoped("constants of every kind stand beside Configs, and alone", () =>
  Effect.gen(function* () {
    const server = yield* RedisServer.make({ args: ["--requirepass", "s3cret"] })
    const constants = {
      url: server.url,
      prefix: "constant:",
      owner: "worker 7",
      batch: false,
      localHandoff: 0,
      foreignPollEvery: undefined,
      commandTimeout: Duration.seconds(1),
      defaults: { ttl: "20 seconds", name: "constant" },
      redis: { db: 3, connectionName: "constant", retryStrategy: () => 100, username: undefined }
    }
    for (const options of [
      { ...constants, password: Redacted.make("s3cret") },
      { ...constants, password: "s3cret" },
      { ...constants, password: Config.succeed("s3cret") },
      {
        ...constants,
        redis: { ...constants.redis, db: Config.succeed(3), password: Redacted.make("s3cret") }
      }
    ]) {
      const { use } = yield* storeOf(layerOf(options))
      yield* Lock.withLock("k")(() =>
        Effect.gen(function* () {
          const busy = yield* Effect.flip(Effect.scoped(Lock.tryAcquire("k")))
          expect(busy).toMatchObject({ holder: { owner: "worker 7" } })
          yield* server.command("SELECT", 3)
          expect(yield* server.command("PTTL", "constant:k")).toBeGreaterThan(15_000)
          yield* server.command("SELECT", 0)
          const clients = yield* server.clients
          expect(clients.some(({ name }) => name === "constant")).toBe(true)
        })
      ).pipe(use)
    }
  })
)

it.scoped("ioredis is given functions, instances and arrays as they are", () =>
  Effect.gen(function* () {
    class Agent {
      readonly self = this
      readonly nothing = null
    }
    const alone = {
      natMap: () => null,
      tls: { ca: Buffer.from("a certificate"), agent: new Agent(), since: new Date(0), not: null },
      sentinels: [{ host: "127.0.0.1", port: 26_379 }],
      db: 3,
      keepAlive: 5n,
      readOnly: false,
      name: Symbol.for("name")
    }
    for (const more of [{}, { host: Config.string("HOST") }]) {
      const given = yield* givenToClient({ ...alone, ...more })
      // the same, not copies of them
      for (const [name, value] of Object.entries(alone)) expect(given[name]).toBe(value)
      expect(given["host"]).toBe("host" in more ? "host.invalid" : "localhost")
    }
  })
)

it.scoped("a Config is read wherever it stands: in arrays, and in instances", () =>
  Effect.gen(function* () {
    class Tls {
      readonly servername = Config.string("HOST")
      readonly port = 6_380
    }
    const sentinel = { host: Config.string("HOST"), port: 26_379 }
    const given = yield* givenToClient({
      tls: new Tls(),
      sentinels: [sentinel, sentinel],
      name: "m"
    })
    expect(given).toMatchObject({
      tls: { servername: "host.invalid", port: 6_380 },
      sentinels: [
        { host: "host.invalid", port: 26_379 },
        { host: "host.invalid", port: 26_379 }
      ]
    })
    const missing = yield* failureOf({ redis: { sentinels: [{ host: Config.string("NONE") }] } })
    expect(String(missing)).toContain("NONE")
  })
)

it.scoped("no options at all are those of layer", () => Layer.build(layerOf({})))

/** What ioredis throws is told. */
const throwing = function () {
  throw new Error("Not s3cret.")
}

it.effect("what is impossible is named, with its value", () =>
  Effect.gen(function* () {
    const cyclic: Record<string, unknown> = { host: Config.string("HOST") }
    cyclic["tls"] = { again: cyclic }
    const expected: ReadonlyArray<readonly [unknown, string]> = [
      [null, "(all of them): null. They must be an object."],
      [undefined, "(all of them): undefined."],
      ["redis://:s3cret@host", "(all of them): redis://***@host."],
      [Config.succeed(null), "(all of them): null."],
      [{ redis: 5 }, "redis: 5. It must be an object, with options for ioredis."],
      [{ redis: Config.succeed("redis://:s3cret@host") }, "redis: redis://***@host."],
      [{ redis: cyclic }, "redis.tls.again: [object Object]. It contains itself"],
      [{ prefix: Symbol("x") }, "prefix: Symbol(x). It must be a string."],
      [{ batch: null, prefix: 7 }, "prefix: 7. It must be a string."],
      [{ commandTimeout: () => 1 }, "commandTimeout: () => 1."],
      [{ commandTimeout: null }, "commandTimeout: null."],
      [{ owner: new Date(0) }, "owner: "],
      [{ defaults: { ttl: new Map() } }, "defaults.ttl: [object Map]."],
      [
        { redis: { Connector: throwing, password: "s3cret" } },
        "redis: ioredis does not take it. Not ***."
      ]
    ]
    for (const [options, text] of expected) {
      const error = yield* failureOf(options)
      expect(error).toMatchObject({ _op: "InvalidData" })
      expect(String(error)).toContain(`Impossible option ${text}`)
      expect(String(error)).not.toContain("s3cret")
    }
  })
)

it.effect("layer, too, fails where ioredis does not take its options, or they are none", () =>
  Effect.gen(function* () {
    for (const [redis, text] of [
      [{ Connector: throwing }, "Impossible option redis: ioredis does not take it. Not s3cret."],
      ["redis://:s3cret@host", "Impossible option redis: redis://***@host."]
    ] as const) {
      const error = yield* Effect.flip(
        Effect.scoped(Layer.build(RedisLockStore.layer({ redis: redis as never })))
      )
      expect(error).toMatchObject({ operation: "configure", transient: false })
      expect(error.message).toContain(text)
    }
  })
)
