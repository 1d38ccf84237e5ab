/** A store's own connections to a Cluster: what holds for one server holds for each of its shards. */
import { clusterNetworkOf } from "../../src/internal/redis/clusterNetwork.js"
import type { Connection } from "../../src/internal/redis/connection.js"
import { isOlderClient } from "../support/client.js"
import { describe, expect, layer } from "@effect/vitest"
import * as Config from "effect/Config"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import { Lock, type LockStore, RedisLockStore } from "effect-redis-lock"
import * as LockStoreContract from "effect-redis-lock/LockStoreContract"
import { caller, queuedCaller, since, strict, subscribed } from "../support/Queue.js"
import { readFileSync } from "node:fs"
import { fileURLToPath } from "node:url"
import * as LyingProxy from "../support/LyingProxy.js"
import * as RedisCluster from "../support/RedisCluster.js"
import { allCapabilities } from "../support/stores.js"
import * as Workers from "../support/Workers.js"
import {
  type Environment,
  failure,
  type FaultProxy,
  leftovers,
  quietly,
  RedisServer,
  storeOf,
  timed,
  undisturbed
} from "./support.js"

class TestCluster extends Context.Tag("test/clusterLayer/Cluster")<
  TestCluster,
  RedisCluster.RedisCluster
>() {}

const ttl = "1 minute"

const flushAll = (cluster: RedisCluster.RedisCluster) =>
  Effect.forEach(cluster.masters, (node) => node.flush, { discard: true })

const nothingLeftIn = (cluster: RedisCluster.RedisCluster) =>
  RedisServer.eventually(
    Effect.map(Effect.forEach(cluster.masters, leftovers), (lists) => lists.flat().length === 0)
  )

/** An empty Cluster, proxies before its nodes, and a store of its own connections through them. */
const proxied = (options: Partial<RedisLockStore.ClusterOptions> = {}) =>
  Effect.gen(function* () {
    const cluster = yield* TestCluster
    yield* flushAll(cluster)
    const through = yield* RedisCluster.throughProxies(cluster)
    return { cluster, ...through, ...(yield* storeThrough(through, options)) }
  })

type Through = Effect.Effect.Success<ReturnType<typeof RedisCluster.throughProxies>>

const storeThrough = (through: Through, options: Partial<RedisLockStore.ClusterOptions> = {}) =>
  storeOf(
    RedisLockStore.layerCluster({
      nodes: through.addresses,
      ...options,
      cluster: { natMap: { ...through.natMap }, ...options.cluster }
    })
  )

/** A key of each shard, in the order of the masters. */
const keyOfEach = (cluster: RedisCluster.RedisCluster) =>
  Effect.gen(function* () {
    const keys = new Map<number, string>()
    for (let i = 0; keys.size < cluster.masters.length; i++) {
      const { port } = yield* cluster.nodeOf(`shard-${i}`)
      if (!keys.has(port)) keys.set(port, `shard-${i}`)
    }
    return cluster.masters.map(({ port }) => keys.get(port)!)
  })

const warm = ({ use }: Pick<Environment, "use">, keys: ReadonlyArray<string>) =>
  Effect.forEach(keys, (key) => Lock.withLock(key, { ttl })(Effect.void).pipe(use))

layer(Layer.scoped(TestCluster, RedisCluster.make()), {
  excludeTestServices: true,
  timeout: "30 seconds"
})("own connections to a Cluster", (it) => {
  it.scoped("lock, renew, verify and release keys of every shard: one connection for each", () =>
    Effect.gen(function* () {
      const { cluster, proxies, use } = yield* proxied()
      const keys = yield* keyOfEach(cluster)
      for (const key of keys) {
        const lease = yield* Lock.acquire(key, { ttl: 5_000, renewEvery: 50 }).pipe(use)
        const node = yield* cluster.nodeOf(key)
        expect(yield* node.command("GET", key)).toBe(lease.token)
        yield* node.command("PEXPIRE", key, 3_000)
        yield* RedisServer.eventually(
          Effect.map(node.command("PTTL", key), (left) => Number(left) > 4_000)
        )
        yield* lease.verify
        yield* lease.release
      }
      yield* nothingLeftIn(cluster)
      for (const proxy of proxies) yield* proxy.until(() => proxy.connections.length === 1)
    })
  )

  it.scoped("a shard that is silent has another connection made, and the others keep theirs", () =>
    quietly(
      Effect.gen(function* () {
        const { cluster, proxies, use } = yield* proxied()
        const keys = yield* keyOfEach(cluster)
        yield* warm({ use }, keys)
        for (const proxy of proxies) yield* proxy.until(() => proxy.connections.length === 1)
        const [held, ...others] = yield* Effect.forEach(keys, (key) =>
          Lock.acquire(key, { ttl: 3_000, renewEvery: 300 }).pipe(use)
        )
        const before = proxies.map(({ connections }) => connections[0]!.id)
        proxies[0]!.blackHole()
        yield* Effect.flip(held!.awaitLost)
        expect(proxies[0]!.connections.length).toBeGreaterThan(1)
        // the same connections, and they answer
        for (const other of others) yield* other.verify
        for (const index of [1, 2]) {
          expect(proxies[index]!.connections.map(({ id }) => id)).toContain(before[index])
        }
        proxies[0]!.heal()
        yield* warm({ use }, keys.slice(0, 1))
        yield* Effect.forEach(others, ({ release }) => release)
      })
    )
  )

  /** Runs it while an acquire in that shard waits in vain: it is over first. */
  const meanwhile = <A, E>(
    { use }: Pick<Environment, "use">,
    silentKey: string,
    effect: Effect.Effect<A, E, LockStore.LockStore>
  ) =>
    Effect.gen(function* () {
      const waiting = yield* Effect.fork(Effect.exit(Lock.acquire(silentKey, { ttl }).pipe(use)))
      const value = yield* effect.pipe(use)
      expect(Option.isNone(yield* Fiber.poll(waiting))).toBe(true)
      expect(failure(yield* Fiber.join(waiting))).toMatchObject({ _tag: "LockStoreError" })
      return value
    }).pipe(Effect.scoped)

  for (const [how, begin] of [
    ["silent", (proxy: FaultProxy.FaultProxy) => proxy.blackHole()],
    [
      "dead",
      (proxy: FaultProxy.FaultProxy) => {
        proxy.refuse()
        proxy.cutAll()
      }
    ],
    ["slow", (proxy: FaultProxy.FaultProxy) => proxy.link({ toClient: 60_000 })]
  ] as const) {
    it.scoped(`a shard that is ${how} delays no acquire, renewal or release of another`, () =>
      quietly(
        undisturbed(
          500,
          Effect.gen(function* () {
            const { cluster, proxies, use } = yield* proxied()
            const keys = yield* keyOfEach(cluster)
            yield* warm({ use }, keys)
            const [silent, ...others] = keys
            const leases = yield* Effect.forEach(others, (key) => Lock.acquire(key, { ttl })).pipe(
              use
            )
            begin(proxies[0]!)
            yield* meanwhile(
              { use },
              silent!,
              Effect.gen(function* () {
                for (const lease of leases) yield* lease.verify
                yield* Effect.forEach(others, (key) =>
                  Effect.forEach(
                    Array.from({ length: 20 }, (_, i) => `{${key}}${i}`),
                    (key) => Lock.withLock(key, { ttl })(({ verify }) => verify),
                    { concurrency: 4 }
                  )
                )
                for (const lease of leases) yield* lease.release
              })
            )
          })
        )
      )
    )
  }

  it.scoped("a shard that is silent from the start keeps no other from being connected to", () =>
    quietly(
      Effect.gen(function* () {
        const cluster = yield* TestCluster
        const through = yield* RedisCluster.throughProxies(cluster)
        const [, ...others] = yield* keyOfEach(cluster)
        through.proxies[0]!.blackHole()
        // (each begins with another node)
        for (let i = 0; i < 4; i++) {
          const store = yield* storeOf(
            RedisLockStore.layerCluster({
              nodes: through.addresses,
              cluster: { natMap: { ...through.natMap } }
            })
          )
          yield* warm(store, others)
          yield* store.close
        }
      })
    )
  )

  it.scoped("a connection that died idle is bridged within a command deadline", () =>
    Effect.gen(function* () {
      const { cluster, proxies, use } = yield* proxied()
      const keys = yield* keyOfEach(cluster)
      for (const callers of [1, 20]) {
        yield* warm({ use }, keys)
        for (const proxy of proxies) proxy.abandon()
        const { exit, millis } = yield* timed(
          Effect.forEach(
            keys.flatMap((key) => Array.from({ length: callers }, (_, i) => `{${key}}${i}`)),
            (key) => Lock.withLock(key, { ttl, waitAtMost: "10 seconds" })(Effect.void).pipe(use),
            { concurrency: "unbounded" }
          )
        )
        expect(Exit.isSuccess(exit)).toBe(true)
        expect(millis).toBeLessThan(2_000)
      }
      yield* nothingLeftIn(cluster)
    })
  )

  for (const [ttl, latency] of [
    [2_000, 600],
    [5_000, 900]
  ] as const) {
    it.scoped(`no lease of ${ttl} ms is lost by answers that take ${latency} ms from now on`, () =>
      undisturbed(
        100,
        Effect.gen(function* () {
          const cluster = yield* TestCluster
          const keys = yield* keyOfEach(cluster)
          const through = yield* RedisCluster.throughProxies(cluster)
          const { proxies } = through
          const { use } = yield* storeThrough(through)
          // (asked for before anything is known of the Cluster)
          const leases = yield* Effect.forEach(keys, (key) => Lock.acquire(key, { ttl }), {
            concurrency: "unbounded"
          }).pipe(use)
          // what each shard has connections for, beside that
          yield* Effect.sleep(400)
          for (const proxy of proxies) proxy.link({ toClient: latency })
          const lost = yield* Effect.raceFirst(
            Effect.raceAll(leases.map(({ awaitLost }) => Effect.flip(awaitLost))),
            Effect.as(Effect.sleep(2.2 * ttl), undefined)
          )
          expect(lost).toBe(undefined)
          // (one after the other they would have one deadline)
          yield* Effect.forEach(leases, ({ release }) => release, { concurrency: "unbounded" })
        })
      )
    )
  }

  it.scoped("a waiter has its turn, though answers become slow", () =>
    Effect.gen(function* () {
      const { cluster, proxies, use } = yield* proxied(strict)
      const holding = yield* storeOf(RedisLockStore.layerCluster({ nodes: cluster.addresses }))
      const holder = yield* caller(holding.use, "k", { ttl: 60_000 })
      yield* holder.lease
      const server = yield* cluster.nodeOf("k")
      const waiter = yield* queuedCaller({ use, server }, "k", 0, { ttl: 1_000 })
      for (const proxy of proxies) proxy.link({ toClient: 400 })
      yield* Effect.sleep(2_500)
      yield* holder.release
      yield* waiter.lease
    })
  )

  it.scoped("waiters hear of handoffs, and again when the node has gone that told them", () =>
    Effect.gen(function* () {
      const { cluster, proxies, store, use } = yield* proxied(strict)
      const holding = yield* storeOf(
        RedisLockStore.layerCluster({ nodes: cluster.addresses, ...strict })
      )
      for (const round of [1, 2, 3]) {
        const server = yield* cluster.nodeOf("k")
        const holder = yield* caller(holding.use, "k", { ttl })
        yield* holder.lease
        const waiter = yield* queuedCaller({ use, server }, "k", 0, { ttl })
        const told = () => proxies.filter(hasSubscriber)
        yield* Effect.raceAll(proxies.map((proxy) => proxy.until(() => hasSubscriber(proxy))))
        yield* Effect.raceAll(cluster.masters.map((server) => subscribed({ store, server })))
        // (its next heartbeat is not due for a second)
        expect(yield* since(holder.release, waiter.lease)).toBeLessThan(450)
        expect(told()).toHaveLength(1)
        yield* waiter.release
        if (round < 3) told()[0]!.cutSubscribers()
      }
      yield* nothingLeftIn(cluster)
    })
  )

  it.scoped(
    "when the store is closed, no connection is left, also of those that are being made",
    () =>
      quietly(
        Effect.gen(function* () {
          const { close, cluster, proxies, use } = yield* proxied({ commandTimeout: 500 })
          const keys = yield* keyOfEach(cluster)
          yield* warm({ use }, keys)
          for (const proxy of proxies) proxy.blackHole()
          yield* Effect.forEach(
            keys,
            (key) => Effect.exit(Effect.scoped(Lock.tryAcquire(key)).pipe(use)),
            { concurrency: "unbounded" }
          )
          yield* close
          for (const proxy of proxies) proxy.heal()
          for (const proxy of proxies) yield* proxy.until(() => proxy.connections.length === 0)
        })
      )
  )

  it.scoped("a Cluster that is away as a whole is connected to again when it is back", () =>
    quietly(
      Effect.gen(function* () {
        const { cluster, proxies, use } = yield* proxied({ commandTimeout: 500 })
        const keys = yield* keyOfEach(cluster)
        yield* warm({ use }, keys)
        for (const proxy of proxies) {
          proxy.refuse()
          proxy.cutAll()
        }
        const { exit, millis } = yield* timed(Lock.withLock("k")(Effect.void).pipe(use))
        expect(failure(exit)).toMatchObject({ _tag: "LockStoreError", transient: true })
        expect(String(failure(exit))).toMatch(/ECONN(RESET|REFUSED)/)
        expect(millis).toBeLessThan(2_500)
        for (const proxy of proxies) proxy.accept()
        for (const key of keys) {
          yield* RedisServer.eventually(
            Effect.map(
              Effect.exit(Lock.withLock(key, { ttl })(Effect.void).pipe(use)),
              Exit.isSuccess
            )
          )
        }
        yield* nothingLeftIn(cluster)
      })
    )
  )
})

const certificate = (name: string) =>
  fileURLToPath(new URL(`../support/tls/${name}`, import.meta.url))

layer(
  Layer.scoped(
    TestCluster,
    RedisCluster.make({
      args: RedisServer.flags({
        "tls-cert-file": certificate("server.crt"),
        "tls-key-file": certificate("server.key"),
        "tls-ca-cert-file": certificate("ca.crt"),
        "tls-auth-clients": "no",
        requirepass: "s3cret"
      })
    })
  ),
  { excludeTestServices: true, timeout: "30 seconds" }
)("own connections to a Cluster with TLS and a password", (it) => {
  it.scoped("by layerClusterConfig, with all options of ioredis", () =>
    Effect.gen(function* () {
      const cluster = yield* TestCluster
      const nodes = yield* Effect.forEach(cluster.masters, ({ command, host }) =>
        Effect.gen(function* () {
          const port = yield* RedisServer.freePort
          yield* command("CONFIG", "SET", "tls-port", port)
          return { host, plain: yield* Effect.map(command("CONFIG", "GET", "port"), String), port }
        })
      )
      // (what the nodes say of each other are their plain ports)
      const natMap = Object.fromEntries(
        nodes.map(({ host, plain, port }) => [`${host}:${plain.split(",")[1]}`, { host, port }])
      )
      const layerOf = (password: string) =>
        RedisLockStore.layerClusterConfig({
          nodes: Config.succeed(nodes.map(({ host, port }) => `${host}:${port}`)),
          password: Config.succeed(Redacted.make(password)),
          commandTimeout: Config.succeed("1 second"),
          redis: Config.succeed({
            tls: { ca: readFileSync(certificate("ca.crt"), "utf8") },
            connectionName: "a-name"
          }),
          cluster: Config.succeed({ natMap, keyPrefix: "app:" })
        })
      const { use } = yield* storeOf(layerOf("s3cret"))
      for (const key of yield* keyOfEach(cluster)) {
        yield* Lock.withLock(key, { ttl })(({ token }) =>
          Effect.gen(function* () {
            const node = yield* cluster.nodeOf(`app:${key}`)
            expect(yield* node.command("GET", `app:${key}`)).toBe(token)
            const names = (yield* node.clients).map(({ name }) => name)
            expect(names).toContain("a-name")
          })
        ).pipe(use)
      }
      const refused = yield* storeOf(layerOf("wrong-s3cret"))
      const exit = yield* Effect.exit(Lock.withLock("k")(Effect.void).pipe(refused.use))
      const error = String(failure(exit))
      expect(error).toContain("Check the user name and the password")
      expect(error).not.toContain("s3cret")
    })
  )
})

for (const [how, down] of [
  ["killed", (master: RedisServer.RedisProcess) => master.kill],
  [
    "silent",
    ({ cont, stop }: RedisServer.RedisProcess) =>
      Effect.zipRight(
        Effect.addFinalizer(() => cont),
        stop
      )
  ]
] as const) {
  layer(Layer.scoped(TestCluster, RedisCluster.make({ replicas: 1 })), {
    excludeTestServices: true,
    timeout: "60 seconds"
  })(`a master that is ${how}`, (it) => {
    it.scoped("is replaced by its replica, and the others' locks are kept meanwhile", () =>
      quietly(
        Effect.gen(function* () {
          const cluster = yield* TestCluster
          const keys = yield* keyOfEach(cluster)
          const { close, use } = yield* storeOf(
            RedisLockStore.layerCluster({ nodes: cluster.addresses, commandTimeout: 500 })
          )
          yield* warm({ use }, keys)
          const [, ...others] = keys
          const leases = yield* Effect.forEach(others, (key) =>
            Lock.acquire(key, { ttl: 5_000, renewEvery: 200 }).pipe(use)
          )
          yield* down(cluster.masters[0]!)
          yield* RedisServer.eventually(
            Effect.map(
              Effect.exit(Lock.withLock(keys[0]!, { ttl })(Effect.void).pipe(use)),
              Exit.isSuccess
            )
          )
          for (const lease of leases) expect(yield* lease.isHeld).toBe(true)
          yield* Effect.forEach(leases, ({ release }) => release)
          yield* close
        })
      )
    )
  })
}

layer(Layer.scoped(TestCluster, RedisCluster.make()), {
  excludeTestServices: true,
  timeout: "30 seconds"
})("a node that has left its Cluster", (it) => {
  it.scoped("is not asked twice in a row, and what it says is no news", () =>
    Effect.gen(function* () {
      const cluster = yield* TestCluster
      const alone = yield* RedisServer.make({
        args: RedisServer.flags({ "cluster-enabled": "yes" })
      })
      const nodes = [{ host: alone.host, port: alone.port }, ...cluster.addresses]
      const network = clusterNetworkOf(nodes, {}, {}, 20_000)
      const master = () => network.masterOf(0)
      const ends: Array<string> = []
      // (each begins with another node)
      for (const _ of [...nodes, ...nodes]) {
        yield* Effect.acquireUseRelease(
          Effect.async<readonly [string, Connection]>((resume) => {
            const end = (how: string) => resume(Effect.succeed([how, connection]))
            const connection = network.networkOf({ master: master() }).dial({
              greeted: () => end("greeted"),
              closed: (error) => end(String(error)),
              trouble: () => {}
            })
          }),
          ([how]) => Effect.sync(() => ends.push(how)),
          ([, connection]) => Effect.sync(() => connection.reset())
        )
        if (ends.includes("greeted")) expect(master()).toBeDefined()
      }
      // (how often it was asked depends on which node came first: the shard's master begins no round)
      const refused = ends.filter((how) => how !== "greeted")
      expect(refused.length).toBeGreaterThanOrEqual(2)
      for (const how of refused) expect(how).toContain("it is in no Cluster")
      ends.forEach((how, index) => {
        if (how !== "greeted") expect(ends[index + 1] ?? "greeted").toBe("greeted")
      })
    })
  )
})

layer(Layer.scoped(TestCluster, RedisCluster.make()), {
  excludeTestServices: true,
  timeout: "30 seconds"
})("a process with its own connections to a Cluster", (it) => {
  it.scoped("ends by itself when the store is closed, also where nodes are silent", () =>
    Effect.gen(function* () {
      const cluster = yield* TestCluster
      const silent = yield* LyingProxy.stranger({})
      for (const [nodes, locked] of [
        [cluster.addresses, true],
        [[{ host: "127.0.0.1", port: silent }], false]
      ] as const) {
        const worker = yield* Workers.once("layerCluster", { nodes, commandTimeout: 1_000 })
        expect(yield* worker.next("Closed")).toMatchObject({ locked })
        expect(yield* worker.ended).toBe(0)
      }
    })
  )
})

layer(
  Layer.provideMerge(
    Layer.unwrapEffect(
      Effect.map(TestCluster, ({ addresses }) => RedisLockStore.layerCluster({ nodes: addresses }))
    ),
    Layer.scoped(TestCluster, RedisCluster.make())
  ),
  { excludeTestServices: true, timeout: "30 seconds" }
)("own connections to a Cluster", (it) => {
  // (the cases have ttls that are shorter than it can take to be connected)
  it.scoped("are connected", () =>
    Effect.forEach(
      Array.from({ length: 60 }, (_, i) => `warm-${i}`),
      (key) => Lock.withLock(key, { ttl })(Effect.void),
      { concurrency: 4 }
    )
  )

  // (what scripts and lines do with answers is the same for both clients)
  describe.concurrent.each(isOlderClient ? [] : ["keep the contract"])("%s", () => {
    for (const { effect, name, timeoutMillis } of LockStoreContract.cases({
      capabilities: allCapabilities
    })) {
      it.effect(name, () => undisturbed(30, effect), 3 * timeoutMillis)
    }
  })
})

const hasSubscriber = ({ connections }: FaultProxy.FaultProxy): boolean =>
  connections.some(({ subscriber }) => subscriber)
