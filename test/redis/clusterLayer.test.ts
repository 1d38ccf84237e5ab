/** A store's own connections to a Cluster: what holds for one server holds for each of its shards. */
import { expect, layer } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { Lock, RedisLockStore } from "effect-redis-lock"
import * as RedisCluster from "../support/RedisCluster.js"
import { type Environment, leftovers, quietly, RedisServer, storeOf } from "./support.js"

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
    const store = yield* storeOf(
      RedisLockStore.layerCluster({
        nodes: through.addresses,
        ...options,
        cluster: { natMap: { ...through.natMap }, ...options.cluster }
      })
    )
    return { cluster, ...through, ...store }
  })

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
})
