/** A list of keys in a Cluster: of every master, also of one whose connection has ended. */
import { expect, layer } from "@effect/vitest"
import * as Chunk from "effect/Chunk"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Stream from "effect/Stream"
import { LockInspector, RedisLockStore } from "effect-redis-lock"
import { Cluster } from "ioredis"
import { lockKeys } from "../../src/internal/redis/layout.js"
import { strangeToken } from "../support/Queue.js"
import * as RedisCluster from "../support/RedisCluster.js"
import { RedisServer, serverMicros, storeOf } from "./support.js"

class TestCluster extends Context.Tag("test/RedisCluster")<
  TestCluster,
  RedisCluster.RedisCluster
>() {}

const clusterClient = (
  { addresses }: RedisCluster.RedisCluster,
  options: ConstructorParameters<typeof Cluster>[1] = {}
) =>
  Effect.acquireRelease(
    Effect.sync(() => {
      const client = new Cluster([...addresses], options)
      client.on("error", () => {})
      return client
    }),
    (client) => Effect.sync(() => client.disconnect())
  )

const keys = Array.from({ length: 300 }, (_, n) => (n % 3 === 0 ? `{tag ${n}} key` : `key ${n}`))

/** All keys are held, some of them are waited for as well, and one is only waited for. */
const crowd = (cluster: RedisCluster.RedisCluster) =>
  Effect.forEach(
    [...keys, "waited for"],
    (key, n) =>
      Effect.gen(function* () {
        const node = yield* cluster.nodeOf(`p:${key}`)
        const [lock, , queue, waiters] = lockKeys("", "p:", key) as ReadonlyArray<string>
        if (n < keys.length) yield* node.command("SET", lock!, strangeToken(), "PX", 600_000)
        if (n % 10 !== 0) return
        const token = strangeToken()
        const micros = yield* serverMicros(node)
        yield* node.command("ZADD", queue!, micros, token)
        const beat = Math.floor(micros / 1_000) + 600_000
        yield* node.command("HSET", waiters!, token, `${beat} 3000 3000 lock/1 5000 somebody`)
      }),
    { discard: true, concurrency: 20 }
  )

const listed = Effect.map(Stream.runCollect(LockInspector.list()), (all) =>
  Chunk.toReadonlyArray(all).map(({ heldCount, key, pendingCount }) =>
    [key, heldCount, pendingCount].join()
  )
)

const expected = [...keys.map((key, n) => `${key},1,${n % 10 === 0 ? 1 : 0}`), "waited for,0,1"]

layer(Layer.scoped(TestCluster, RedisCluster.make()), {
  excludeTestServices: true,
  timeout: "30 seconds"
})("a list in a Cluster", (it) => {
  it.scoped("has the keys of all masters once, and is asked of each of them", () =>
    Effect.gen(function* () {
      const cluster = yield* TestCluster
      yield* Effect.forEach(cluster.masters, (node) => node.flush)
      yield* crowd(cluster)
      for (const options of [{}, { lazyConnect: true }, { scaleReads: "all" as const }]) {
        const client = yield* clusterClient(cluster, options)
        const { use } = yield* storeOf(RedisLockStore.layerFromClient(client, { prefix: "p:" }))
        yield* Effect.forEach(cluster.masters, (node) => node.resetStats)
        expect([...(yield* use(listed))].sort()).toEqual([...expected].sort())
        for (const node of cluster.masters) {
          const stats = yield* node.commandStats
          expect(stats["scan"]?.calls).toBeGreaterThan(0)
          expect(stats["keys"]).toBe(undefined)
        }
      }
    })
  )

  it.scoped("lacks no master whose connection has ended meanwhile", () =>
    Effect.gen(function* () {
      const cluster = yield* TestCluster
      yield* Effect.forEach(cluster.masters, (node) => node.flush)
      yield* crowd(cluster)
      const client = yield* clusterClient(cluster)
      const { use } = yield* storeOf(RedisLockStore.layerFromClient(client, { prefix: "p:" }))
      expect(yield* use(listed)).toHaveLength(expected.length)
      for (const { command } of cluster.masters) {
        yield* command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        // the client forgets such a node, until it asks the Cluster again
        yield* RedisServer.eventually(
          Effect.sync(() => client.nodes("master").length < cluster.masters.length)
        )
        expect([...(yield* use(listed))].sort()).toEqual([...expected].sort())
      }
    })
  )
})
