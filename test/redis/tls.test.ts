/**
 * TLS: `rediss://` against a real server with a certificate of the tests' own authority. Needs a
 * redis-server that was built with TLS, as those of the distributions are.
 */
import { expect, layer } from "@effect/vitest"
import * as Config from "effect/Config"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { Lock, RedisLockStore } from "effect-redis-lock"
import type { RedisOptions } from "ioredis"
import { readFileSync } from "node:fs"
import { fileURLToPath } from "node:url"
import { awaitQueued, caller, strict } from "../support/Queue.js"
import {
  connectedClient,
  failure,
  leftovers,
  nothingLeft,
  quietly,
  RedisServer,
  storeOf,
  timed,
  unhandledErrors
} from "./support.js"

const ttl = "1 minute"
const commandTimeout = 800
/** Of an operation that ends by its deadline, on a machine that is busy. */
const inTime = commandTimeout + 2_000

const path = (name: string) => fileURLToPath(new URL(`../support/tls/${name}`, import.meta.url))
const read = (name: string) => readFileSync(path(name), "utf8")

type Tls = NonNullable<RedisOptions["tls"]>
const ca = read("ca.crt")
const certificate = { cert: read("server.crt"), key: read("server.key") }

/** A server with a port for TLS beside its plain one. */
const withTls = (certificate: string, config: Readonly<Record<string, string>> = {}) =>
  Layer.unwrapScoped(
    Effect.map(RedisServer.freePort, (port) => {
      const args = RedisServer.flags({
        "tls-port": port,
        "tls-cert-file": path(`${certificate}.crt`),
        "tls-key-file": path(`${certificate}.key`),
        "tls-ca-cert-file": path("ca.crt"),
        "tls-auth-clients": "no",
        ...config
      })
      return RedisServer.layer({ args })
    })
  )

const tlsPort = (server: RedisServer.RedisProcess) =>
  Effect.map(server.command("CONFIG", "GET", "tls-port"), (found) =>
    Number((found as ReadonlyArray<string>)[1])
  )

const secured = (port: number, tls: Tls | undefined, host = "127.0.0.1") =>
  RedisLockStore.layer({
    url: `rediss://${host}:${port}`,
    commandTimeout,
    ...strict,
    ...(tls === undefined ? {} : { redis: { tls } })
  })

/** Two attempts that cannot connect: an error of the acquire that says why, each in its time. */
const refused = (store: ReturnType<typeof secured>, said: RegExp) =>
  quietly(
    Effect.gen(function* () {
      const unhandled = yield* unhandledErrors
      const server = yield* RedisServer.RedisServer
      const { close, use } = yield* storeOf(store)
      for (const acquire of [Lock.tryAcquire("k", { ttl }), Lock.acquire("k", { ttl })]) {
        const { exit, millis } = yield* timed(Effect.scoped(acquire).pipe(use))
        const error = failure(exit)
        expect(error).toMatchObject({ _tag: "LockStoreError", operation: "acquire", key: "k" })
        expect(error.message).toMatch(said)
        expect(millis).toBeLessThan(inTime)
      }
      const closed = yield* timed(close)
      expect(closed.millis).toBeLessThan(inTime)
      expect(yield* leftovers(server)).toEqual([])
      expect(unhandled).toEqual([])
    })
  )

layer(withTls("server"), { excludeTestServices: true })("a server with TLS", (it) => {
  for (const host of ["127.0.0.1", "localhost"]) {
    it.scoped(`by a URL with ${host}: the whole life of a lock, messages included`, () =>
      Effect.gen(function* () {
        const unhandled = yield* unhandledErrors
        const server = yield* RedisServer.RedisServer
        yield* server.flush
        const port = yield* tlsPort(server)
        const a = yield* storeOf(secured(port, { ca }, host))
        const b = yield* storeOf(
          RedisLockStore.layerConfig({
            url: Config.succeed(`rediss://${host}:${port}`),
            commandTimeout: Config.succeed(commandTimeout),
            redis: { tls: { ca: Config.succeed(ca) } }
          })
        )
        expect(yield* Lock.withLock("k", { ttl })(Effect.succeed("done")).pipe(a.use)).toBe("done")

        const holder = yield* caller(a.use, "k", { ttl, renewEvery: 30 })
        const lease = yield* holder.lease
        yield* lease.verify
        yield* server.command("PEXPIRE", "k", 30_000)
        yield* RedisServer.eventually(
          Effect.map(server.command("PTTL", "k"), (left) => Number(left) > 40_000)
        )
        const busy = yield* Effect.flip(Effect.scoped(Lock.tryAcquire("k")).pipe(b.use))
        expect(busy).toMatchObject({ _tag: "LockUnavailable" })

        const waiting = yield* caller(b.use, "k", { ttl })
        yield* awaitQueued(server, "k", 1)
        // both of the waiter's connections are there, and secured as the first one is
        yield* RedisServer.eventually(
          Effect.map(server.clients, (clients) => clients.some(({ sub }) => sub === "1"))
        )
        const clients = yield* server.clients
        expect(clients.map(({ laddr }) => laddr)).toEqual(clients.map(() => `127.0.0.1:${port}`))
        yield* holder.release
        expect((yield* waiting.lease).fencingToken).toBeGreaterThan(lease.fencingToken)
        yield* waiting.release

        yield* Effect.forEach(
          Array.from({ length: 64 }, (_, i) => `k${i}`),
          (key) => Lock.withLock(key, { ttl })(Effect.void),
          { concurrency: "unbounded" }
        ).pipe(a.use)
        yield* nothingLeft(server)
        expect(unhandled).toEqual([])
      })
    )
  }

  it.scoped("by a client of the user's", () =>
    Effect.gen(function* () {
      const server = yield* RedisServer.RedisServer
      yield* server.flush
      const client = yield* connectedClient(yield* tlsPort(server), { tls: { ca } })
      const { use } = yield* storeOf(RedisLockStore.layerFromClient(client, strict))
      const other = yield* storeOf(RedisLockStore.layer({ url: server.url, ...strict }))
      const holder = yield* caller(other.use, "k", { ttl })
      yield* holder.lease
      const waiting = yield* caller(use, "k", { ttl })
      yield* awaitQueued(server, "k", 1)
      yield* holder.release
      yield* waiting.lease
    })
  )

  const advice = "Check the TLS options and the certificate"

  it.scoped("whose authority is not known is refused", () =>
    Effect.gen(function* () {
      const port = yield* tlsPort(yield* RedisServer.RedisServer)
      for (const tls of [undefined, { ca: read("other-ca.crt") }]) {
        yield* refused(secured(port, tls), new RegExp(`certificate.*${advice}`))
      }
    })
  )

  it.scoped("spoken to without TLS", () =>
    Effect.gen(function* () {
      const port = yield* tlsPort(yield* RedisServer.RedisServer)
      yield* refused(
        RedisLockStore.layer({ url: `redis://127.0.0.1:${port}`, commandTimeout, ...strict }),
        /connection.*(down|closed|close|connecting)|did not answer|Protocol error/i
      )
    })
  )

  it.scoped("whose plain port is spoken to with TLS", () =>
    Effect.gen(function* () {
      const { port } = yield* RedisServer.RedisServer
      yield* refused(secured(port, { ca }), /SSL|TLS|connection|did not answer/i)
    })
  )
})

layer(RedisServer.layer(), { excludeTestServices: true })("a server without TLS", (it) => {
  it.scoped("is asked whether it speaks it", () =>
    Effect.gen(function* () {
      const { port } = yield* RedisServer.RedisServer
      yield* refused(secured(port, { ca }), /does the server speak TLS on that port\?/)
    })
  )
})

layer(withTls("elsewhere"), { excludeTestServices: true })(
  "a server with another host's certificate",
  (it) => {
    it.scoped("is refused", () =>
      Effect.gen(function* () {
        const port = yield* tlsPort(yield* RedisServer.RedisServer)
        yield* refused(secured(port, { ca }), /certificate.*Check the TLS options/)
      })
    )
  }
)

layer(withTls("server", { "tls-auth-clients": "yes" }), { excludeTestServices: true })(
  "a server that asks clients for a certificate",
  (it) => {
    it.scoped("is content with one that the same authority has signed", () =>
      Effect.gen(function* () {
        const server = yield* RedisServer.RedisServer
        const { use } = yield* storeOf(secured(yield* tlsPort(server), { ca, ...certificate }))
        const lock = Lock.withLock("k", { ttl })(Effect.succeed("done"))
        expect(yield* lock.pipe(use)).toBe("done")
        yield* nothingLeft(server)
        yield* server.flush
      })
    )

    it.scoped("refuses who has none", () =>
      Effect.gen(function* () {
        const port = yield* tlsPort(yield* RedisServer.RedisServer)
        yield* refused(secured(port, { ca }), /certificate|SSL|TLS|connection|did not answer/i)
      })
    )
  }
)
