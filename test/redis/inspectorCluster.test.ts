/** A list of keys in a Cluster: of every master, also of one whose connection has ended. */
import { expect, layer } from "@effect/vitest"
import * as Chunk from "effect/Chunk"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Queue from "effect/Queue"
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

  it.scoped(
    "has all other keys while a slot is on its way; a watch tells nothing of that one",
    () =>
      Effect.gen(function* () {
        const cluster = yield* TestCluster
        yield* Effect.forEach(cluster.masters, (node) => node.flush)
        yield* crowd(cluster)
        const client = yield* clusterClient(cluster, { retryDelayOnTryAgain: 1 })
        const { use } = yield* storeOf(RedisLockStore.layerFromClient(client, { prefix: "p:" }))
        const changes: Array<string> = []
        const rounds = yield* Queue.unbounded<void>()
        yield* LockInspector.watch({ every: "50 millis" }).pipe(
          Stream.filter(({ initial }) => !initial),
          Stream.runForEach(({ _tag, key }) =>
            Effect.zipRight(
              Effect.sync(() => changes.push(`${_tag} ${key}`)),
              Queue.offer(rounds, undefined)
            )
          ),
          use,
          Effect.forkScoped
        )
        const moving = "key 1"
        const move = yield* cluster.beginMove(
          `p:${moving}`,
          yield* cluster.otherThan(`p:${moving}`)
        )
        const others = expected.filter((one) => !one.startsWith(`${moving},`))
        expect([...(yield* use(listed))].sort()).toEqual(others.sort())
        // what happens elsewhere is told meanwhile
        const elsewhere = yield* cluster.nodeOf("p:key 2")
        yield* elsewhere.command("DEL", "p:key 2")
        yield* Effect.timeout(Queue.take(rounds), "10 seconds")
        expect(changes).toEqual(["Released key 2"])
        yield* move.migrate()
        yield* move.finish
        yield* RedisServer.eventually(
          Effect.map(use(listed), (all) => all.some((one) => one.startsWith(`${moving},`)))
        )
        expect(changes).toEqual(["Released key 2"])
      })
  )
})
