/** Rule 12: one slot for everything that belongs to a key, and a prefix is only a prefix. */
import { expect, layer } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Scope from "effect/Scope"
import { Lock, ReadWriteLock, RedisLockStore, Semaphore } from "effect-redis-lock"
import { Cluster } from "ioredis"
import { awaitQueued, caller, queuedCaller, since, strict, subscribed } from "../support/Queue.js"
import { currentHolds } from "../../src/internal/face/currentHolds.js"
import * as RedisCluster from "../support/RedisCluster.js"
import {
  answered,
  connectedClient,
  environment,
  failure,
  failures,
  FaultProxy,
  foreign,
  leftovers,
  listeners,
  quietly,
  RedisServer,
  replies,
  storeOf,
  timed,
  touching
} from "./support.js"

class TestCluster extends Context.Tag("test/RedisCluster")<
  TestCluster,
  RedisCluster.RedisCluster
>() {}

const ttl = "1 minute"

type ClientOptions = NonNullable<ConstructorParameters<typeof Cluster>[1]>

/** A client of the whole cluster; where proxies are given, it reaches the nodes through them. */
const clusterClient = (
  cluster: Pick<RedisCluster.RedisCluster, "addresses">,
  options: ConstructorParameters<typeof Cluster>[1] = {}
) =>
  Effect.acquireRelease(
    Effect.async<Cluster>((resume) => {
      const client = new Cluster([...cluster.addresses], options)
      client.on("error", () => {})
      client.once("ready", () => resume(Effect.succeed(client)))
    }),
    (client) => Effect.sync(() => client.disconnect())
  )

const flushAll = (cluster: RedisCluster.RedisCluster) =>
  Effect.forEach(cluster.masters, (node) => node.flush, { discard: true })

const allLeftovers = (cluster: RedisCluster.RedisCluster) =>
  Effect.map(Effect.forEach(cluster.masters, leftovers), (lists) => lists.flat().sort())

const keys = [
  "plain",
  "with:colons:in:it",
  "{tag}",
  "{tag}rest",
  "before{tag}after",
  "{tag}{second}",
  "open{",
  "ключ 🔑",
  "space and 'quotes'",
  ...Array.from({ length: 40 }, (_, index) => `slot-${index}`)
]

layer(Layer.scoped(TestCluster, RedisCluster.make()), {
  excludeTestServices: true,
  timeout: "30 seconds"
})("on a Cluster", (it) => {
  it.scoped("keys with and without hash tags are locked, renewed, verified and released", () =>
    Effect.gen(function* () {
      const cluster = yield* TestCluster
      yield* flushAll(cluster)
      const client = yield* clusterClient(cluster)
      const before = listeners(client)
      const { close, use } = yield* storeOf(RedisLockStore.layerFromClient(client))
      for (const key of keys) {
        yield* Effect.scoped(
          Effect.gen(function* () {
            const lease = yield* Lock.acquire(key, { ttl })
            const node = yield* cluster.nodeOf(key)
            expect(yield* node.command("GET", key)).toBe(lease.token)
            yield* lease.verify
            const error = yield* Effect.flip(Effect.scoped(Lock.tryAcquire(key)))
            expect(error).toMatchObject({ _tag: "LockUnavailable", holder: { foreign: false } })
            yield* lease.release
          })
        ).pipe(use)
      }
      expect(yield* allLeftovers(cluster)).toEqual([])
      // all nodes were used
      const used = yield* Effect.forEach(cluster.masters, (node) => node.dump)
      for (const dump of used) expect(dump.length).toBeGreaterThan(0)
      yield* close
      expect(listeners(client)).toEqual(before)
    })
  )

  it.scoped("as many hold a semaphore as fit, and the next waits for one of them to leave", () =>
    Effect.gen(function* () {
      const cluster = yield* TestCluster
      yield* flushAll(cluster)
      const stores = yield* Effect.forEach([0, 1], () =>
        Effect.flatMap(clusterClient(cluster), (client) =>
          storeOf(RedisLockStore.layerFromClient(client, strict))
        )
      )
      const [a, b] = [stores[0]!, stores[1]!]
      const options = { ttl, limit: 2 } as const
      for (const key of ["plain", "{tag}rest", "open{"]) {
        const node = yield* cluster.nodeOf(key)
        const scope = yield* Scope.make()
        const [first, second] = yield* Effect.forEach([a, b], ({ use }) =>
          Scope.extend(Semaphore.acquire(key, options), scope).pipe(use)
        )
        expect(yield* node.command("ZCARD", key)).toBe(2)
        const busy = yield* Effect.exit(
          Effect.scoped(Semaphore.tryAcquire(key, options)).pipe(b.use)
        )
        expect(failure(busy)).toMatchObject({ _tag: "LockUnavailable" })
        yield* second!.verify
        const third = yield* Effect.fork(
          Semaphore.withPermits(
            key,
            options
          )(({ fencingToken }) => Effect.succeed(fencingToken)).pipe(a.use)
        )
        yield* awaitQueued(node, key, 1)
        yield* first!.release
        expect(yield* Fiber.join(third)).toBeGreaterThan(second!.fencingToken)
        yield* Scope.close(scope, Exit.void)
      }
      yield* RedisServer.eventually(Effect.map(allLeftovers(cluster), (keys) => keys.length === 0))
    })
  )

  it.scoped("readers share, writers are alone, and a downgrade lets readers of others in", () =>
    Effect.gen(function* () {
      const cluster = yield* TestCluster
      yield* flushAll(cluster)
      const stores = yield* Effect.forEach([0, 1], () =>
        Effect.flatMap(clusterClient(cluster), (client) =>
          storeOf(RedisLockStore.layerFromClient(client))
        )
      )
      const [a, b] = [stores[0]!, stores[1]!]
      for (const key of ["plain", "{tag}rest", "open{"]) {
        const scope = yield* Scope.make()
        const hold = <A, E, R>(effect: Effect.Effect<A, E, R>) => Scope.extend(effect, scope)
        const first = yield* hold(ReadWriteLock.readLock(key, { ttl })).pipe(a.use)
        yield* hold(ReadWriteLock.readLock(key, { ttl })).pipe(b.use)
        const busy = yield* Effect.exit(
          Effect.locally(
            Effect.scoped(ReadWriteLock.tryWriteLock(key)).pipe(b.use),
            currentHolds,
            undefined
          )
        )
        expect(failure(busy)).toMatchObject({ _tag: "LockUnavailable" })
        yield* first.verify
        yield* Scope.close(scope, Exit.void)
        const read = yield* ReadWriteLock.withWriteLock(key, { ttl })((lease) =>
          Effect.gen(function* () {
            const waiting = yield* Effect.fork(
              Effect.locally(
                ReadWriteLock.withReadLock(key, { ttl })(({ fencingToken }) =>
                  Effect.succeed(fencingToken)
                ).pipe(b.use),
                currentHolds,
                undefined
              )
            )
            yield* lease.downgrade
            return [lease.fencingToken, yield* Fiber.join(waiting)] as const
          })
        ).pipe(a.use)
        expect(read[1]).toBeGreaterThan(read[0])
      }
      yield* RedisServer.eventually(Effect.map(allLeftovers(cluster), (keys) => keys.length === 0))
    })
  )

  it.scoped("a lease is renewed, also where the node has forgotten the scripts", () =>
    Effect.gen(function* () {
      const cluster = yield* TestCluster
      yield* flushAll(cluster)
      const client = yield* clusterClient(cluster)
      const { use } = yield* storeOf(RedisLockStore.layerFromClient(client))
      const lease = yield* Lock.acquire("{tag}k", { ttl: 5_000, renewEvery: 100 }).pipe(use)
      const node = yield* cluster.nodeOf("{tag}k")
      yield* node.command("SCRIPT", "FLUSH")
      for (let i = 0; i < 3; i++) {
        yield* node.command("PEXPIRE", "{tag}k", 3_000)
        yield* RedisServer.eventually(
          Effect.map(node.command("PTTL", "{tag}k"), (left) => Number(left) > 4_000)
        )
      }
      expect(yield* lease.isHeld).toBe(true)
    })
  )

  it.scoped("a release whose reply was lost is not a loss", () =>
    Effect.gen(function* () {
      const cluster = yield* TestCluster
      yield* flushAll(cluster)
      const { client, proxyOf } = yield* throughProxies(cluster)
      const { use } = yield* storeOf(RedisLockStore.layerFromClient(client))
      for (const key of ["plain", "{tag}rest"]) {
        const proxy = yield* proxyOf(key)
        const lease = yield* Lock.acquire(key, { ttl }).pipe(use)
        const lost = proxy.resetAfterApply(touching(key))
        const { exit } = yield* timed(lease.release)
        yield* lost.fired
        expect(failures(exit)).toEqual([])
        expect(yield* allLeftovers(cluster)).toEqual([])
      }
    })
  )

  it.scoped("an acquire whose reply was lost has the lock, and its fencing token", () =>
    Effect.gen(function* () {
      const cluster = yield* TestCluster
      // ioredis follows a MOVED to the address behind its natMap's back, 16 times at most, until it has
      // read the slots again: where that takes too long it is asked once more
      for (let tries = 1; ; tries++) {
        yield* flushAll(cluster)
        const { client, proxyOf } = yield* throughProxies(cluster)
        const { use } = yield* storeOf(RedisLockStore.layerFromClient(client))
        const proxy = yield* proxyOf("k")
        const lost = proxy.resetAfterApply(touching("k"))
        const { exit, millis } = yield* timed(Lock.tryAcquire("k", { ttl }).pipe(use))
        yield* lost.fired
        if (Exit.isFailure(exit)) {
          if (tries < 5 && String(exit).includes("Too many Cluster redirections")) continue
          throw new Error(String(exit))
        }
        expect(millis).toBeLessThan(2_500)
        expect(String(replies(proxy, "k")[0])).toBe(String(exit.value.fencingToken))
        yield* exit.value.release
        expect(yield* allLeftovers(cluster)).toEqual([])
        return
      }
    })
  )

  /** How long a handoff takes from one client's store to a waiter of the other's, once that is told. */
  const handoff = (from: Cluster, to: Cluster) =>
    Effect.gen(function* () {
      const cluster = yield* TestCluster
      const holding = yield* storeOf(RedisLockStore.layerFromClient(from, strict))
      const waiting = yield* storeOf(RedisLockStore.layerFromClient(to, strict))
      const server = yield* cluster.nodeOf("k")
      const holder = yield* caller(holding.use, "k", { ttl })
      yield* holder.lease
      const waiter = yield* queuedCaller({ ...waiting, server }, "k", 0, { ttl })
      yield* Effect.raceAll(cluster.masters.map((server) => subscribed({ ...waiting, server })))
      const clients = yield* Effect.forEach(cluster.masters, (server) => server.clients)
      expect(clients.flat().map((client) => client["name"])).toContainEqual(
        expect.stringContaining("effect-redis-lock:subscriber")
      )
      return yield* since(holder.release, waiter.lease)
    }).pipe(Effect.timeout("10 seconds"))
  /** Its next heartbeat is not due for a second. */
  const fast = 450

  it.scoped("waiters hear of handoffs, also where the nodes that it began with have gone", () =>
    Effect.gen(function* () {
      const cluster = yield* TestCluster
      yield* flushAll(cluster)
      const first = yield* FaultProxy.make(cluster.masters[0]!.port)
      const client = yield* clusterClient({ addresses: [first] })
      first.refuse()
      first.cutAll()
      expect(yield* handoff(yield* clusterClient(cluster), client)).toBeLessThan(fast)
    })
  )

  it.scoped(
    "waiters hear of handoffs, also where only the first nodes' addresses have a password",
    () =>
      Effect.gen(function* () {
        const cluster = yield* TestCluster
        yield* flushAll(cluster)
        const requirePassword = (password: string) =>
          Effect.forEach(cluster.masters, ({ command }) =>
            command("CONFIG", "SET", "requirepass", password)
          )
        yield* Effect.acquireRelease(requirePassword("secret"), () => requirePassword(""))
        const addresses = cluster.addresses.map((at) => ({ ...at, password: "secret" }))
        const [from, to] = [
          yield* clusterClient({ addresses }),
          yield* clusterClient({ addresses })
        ]
        expect(yield* handoff(from, to)).toBeLessThan(fast)
      })
  )

  it.scoped("a node that is silent costs one command deadline", () =>
    quietly(
      Effect.gen(function* () {
        const cluster = yield* TestCluster
        yield* flushAll(cluster)
        const { client, proxyOf } = yield* throughProxies(cluster)
        const { use } = yield* storeOf(
          RedisLockStore.layerFromClient(client, { commandTimeout: 400 })
        )
        const proxy = yield* proxyOf("k")
        const lease = yield* Lock.acquire("k", { ttl }).pipe(use)
        proxy.blackHole()
        const { exit, millis } = yield* timed(lease.release)
        expect(failure(exit)).toMatchObject({ _tag: "LockStoreError", operation: "release" })
        expect(millis).toBeLessThan(1_500)
        proxy.heal()
        yield* proxy.until(() => answered(proxy, "k") >= 2)
        expect(yield* allLeftovers(cluster)).toEqual([])
      })
    )
  )

  for (const [where, options] of [
    ["at the top", { keyPrefix: "app:" }],
    ["for the nodes", { redisOptions: { keyPrefix: "app:" } }]
  ] as ReadonlyArray<readonly [string, ClientOptions]>) {
    it.scoped(`a keyPrefix of the client is only a prefix (set ${where})`, () =>
      Effect.gen(function* () {
        const cluster = yield* TestCluster
        yield* flushAll(cluster)
        const client = yield* clusterClient(cluster, options)
        const { use } = yield* storeOf(RedisLockStore.layerFromClient(client, { prefix: "locks:" }))
        for (const key of ["plain", "{tag}rest", "a{tag}"]) {
          const stored = `app:locks:${key}`
          const node = yield* cluster.nodeOf(stored)
          const lease = yield* Lock.acquire(key, { ttl }).pipe(use)
          expect(yield* node.command("GET", stored)).toBe(lease.token)
          yield* lease.release
          expect(yield* foreign(node).lock(stored, "go", 60_000)).toBe(true)
          const error = yield* Effect.flip(Effect.scoped(Lock.tryAcquire(key)).pipe(use))
          expect(error).toMatchObject({ _tag: "LockUnavailable", holder: { foreign: true } })
          yield* foreign(node).unlock(stored, "go")
        }
        expect(yield* allLeftovers(cluster)).toEqual([])
        const stored = (yield* Effect.forEach(cluster.masters, (node) => node.dump)).flat()
        for (const key of stored) expect(key.startsWith("app:locks:")).toBe(true)
      })
    )
  }

  it.scoped("keys whose braces leave no tag have what belongs to them in their own slot", () =>
    Effect.gen(function* () {
      const cluster = yield* TestCluster
      yield* flushAll(cluster)
      const client = yield* clusterClient(cluster)
      for (const [keyPrefix, prefix] of [
        ["", ""],
        ["app:", "locks:"],
        ["", "{x"],
        ["{x", "}"],
        ["{", ""],
        ["", "a{}:"],
        ["{}", "{y"]
      ] as const) {
        const { use } = yield* storeOf(RedisLockStore.layerFromClient(client, { prefix }))
        const prefixed = yield* clusterClient(cluster, { keyPrefix })
        const other = yield* storeOf(RedisLockStore.layerFromClient(prefixed, { prefix }))
        for (const key of ["a}b", "{}x", "}{", "{}", "a}b{", "}", "{}a}b", "юю}", "plain"]) {
          // a whole life: taken, waited for, handed over
          yield* Lock.withLock(key, { ttl })(Effect.void).pipe(use)
          const first = yield* caller(other.use, key, { ttl })
          const lease = yield* first.lease
          const stored = `${keyPrefix}${prefix}${key}`
          const node = yield* cluster.nodeOf(stored)
          expect(yield* node.command("GET", stored)).toBe(lease.token)
          const second = yield* caller(other.use, key, { ttl })
          yield* lease.verify
          yield* first.release
          yield* second.lease
          yield* second.release
          const slot = Number(yield* node.command("CLUSTER", "KEYSLOT", stored))
          const names = yield* node.command("CLUSTER", "GETKEYSINSLOT", slot, 100)
          const beside = (names as ReadonlyArray<string>).filter((name) =>
            name.endsWith(":lock-record")
          )
          expect(beside.length).toBeGreaterThan(0)
        }
      }
      expect(yield* allLeftovers(cluster)).toEqual([])
    })
  )
})

/** The client reaches every node through a proxy of its own. */
const throughProxies = (cluster: RedisCluster.RedisCluster) =>
  Effect.gen(function* () {
    const { natMap, proxyOf } = yield* RedisCluster.throughProxies(cluster)
    return { client: yield* clusterClient(cluster, { natMap: { ...natMap } }), proxyOf }
  })

layer(RedisServer.layer(), { excludeTestServices: true })("on a single server", (it) => {
  it.scoped("a keyPrefix of the client, and a prefix of the store, are only prefixes", () =>
    Effect.gen(function* () {
      const server = yield* RedisServer.RedisServer
      for (const keyPrefix of ["", "app:", "{app}:", "app{1}:"]) {
        for (const prefix of ["", "locks:"]) {
          for (const key of ["plain", "{tag}rest"]) {
            yield* server.flush
            const client = yield* connectedClient(server.port, { keyPrefix })
            const { close, use } = yield* storeOf(
              RedisLockStore.layerFromClient(client, { prefix })
            )
            const stored = keyPrefix + prefix + key
            expect(yield* foreign(server).lock(stored, "go", 60_000)).toBe(true)
            const error = yield* Effect.flip(Effect.scoped(Lock.tryAcquire(key)).pipe(use))
            expect(error).toMatchObject({ _tag: "LockUnavailable", key })
            yield* foreign(server).unlock(stored, "go")
            const lease = yield* Lock.acquire(key, { ttl: 5_000, renewEvery: 50 }).pipe(use)
            expect(lease.key).toBe(key)
            expect(yield* server.command("GET", stored)).toBe(lease.token)
            yield* server.command("PEXPIRE", stored, 4_000)
            yield* RedisServer.eventually(
              Effect.map(server.command("PTTL", stored), (left) => Number(left) > 4_500)
            )
            expect(Duration.toMillis(yield* lease.remaining)).toBeGreaterThan(3_000)
            for (const companion of yield* server.dump) {
              expect(companion.startsWith(keyPrefix + prefix)).toBe(true)
              expect(yield* slotOf(server, companion)).toBe(yield* slotOf(server, stored))
            }
            yield* lease.release
            expect(yield* leftovers(server)).toEqual([])
            yield* close
          }
        }
      }
    })
  )

  it.scoped("companions never collide with keys of a user", () =>
    Effect.gen(function* () {
      const { server, use } = yield* environment()
      yield* Effect.scoped(Lock.acquire("k", { ttl })).pipe(use)
      for (const companion of yield* server.dump) {
        const exit = yield* Effect.exit(Effect.scoped(Lock.tryAcquire(companion)).pipe(use))
        expect(String(exit)).toContain("Impossible lock key")
      }
    })
  )
})

const slotOf = (server: RedisServer.RedisProcess, key: string) =>
  Effect.map(server.command("EVAL", keySlot, 1, key), Number)

/** CLUSTER KEYSLOT wants a cluster; CRC16 in Lua does not. */
const keySlot = `
local key = KEYS[1]
local open = string.find(key, '{', 1, true)
if open then
  local close = string.find(key, '}', open + 1, true)
  if close and close > open + 1 then key = string.sub(key, open + 1, close - 1) end
end
local crc = 0
for i = 1, #key do
  crc = bit.bxor(crc, bit.lshift(string.byte(key, i), 8))
  for _ = 1, 8 do
    crc = bit.lshift(crc, 1)
    if crc >= 65536 then crc = bit.bxor(bit.band(crc, 65535), 4129) end
  end
end
return crc % 16384`
