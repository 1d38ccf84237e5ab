/** A Cluster whose nodes come and go while it is used, and one of whose shards is silent. */
import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import { Lock, RedisLockStore, Semaphore } from "effect-redis-lock"
import { Cluster } from "ioredis"
import { caller } from "../support/Queue.js"
import * as RedisCluster from "../support/RedisCluster.js"
import { type Environment, leftovers, pttl, quietly, RedisServer, storeOf } from "./support.js"

const clientOf = (
  addresses: RedisCluster.RedisCluster["addresses"],
  options?: ConstructorParameters<typeof Cluster>[1]
) =>
  Effect.acquireRelease(
    Effect.async<Cluster>((resume) => {
      const client = new Cluster([...addresses], options)
      client.on("error", () => {})
      client.once("ready", () => resume(Effect.succeed(client)))
    }),
    (client) => Effect.sync(() => client.disconnect())
  )

type Store = Pick<Environment, "use">

/** Those who want a key all the time, through all stores; what was seen of them. */
const crowd = (key: string, limit: number, stores: ReadonlyArray<Store>) =>
  Effect.gen(function* () {
    const seen = { turns: 0, inside: 0, most: 0, errors: [] as Array<unknown>, last: 0, back: 0 }
    let over = false
    const body = ({ fencingToken }: { readonly fencingToken: number }) =>
      Effect.acquireUseRelease(
        Effect.sync(() => {
          seen.turns++
          seen.most = Math.max(seen.most, ++seen.inside)
          if (limit === 1 && fencingToken <= seen.last) seen.back++
          seen.last = fencingToken
        }),
        () => Effect.sleep(2),
        () => Effect.sync(() => seen.inside--)
      )
    const options = { ttl: "5 seconds" } as const
    const once =
      limit === 1
        ? Lock.withLock(key, options)(body)
        : Semaphore.withPermits(key, { ...options, limit })(body)
    const fibers = yield* Effect.forEach(stores, ({ use }) =>
      Effect.forkScoped(
        Effect.repeat(
          Effect.catchAll(use(once), (error) =>
            Effect.zipRight(
              Effect.sync(() => seen.errors.push(error)),
              Effect.sleep(100)
            )
          ),
          { until: () => over }
        )
      )
    )
    return {
      seen,
      /** Until there were so many more turns. */
      more: (count: number) =>
        Effect.suspend(() => {
          const wanted = seen.turns + count
          return RedisServer.eventually(Effect.sync(() => seen.turns >= wanted))
        }),
      end: Effect.suspend(() => {
        over = true
        return Fiber.joinAll(fibers)
      })
    }
  })

const nothingLeftIn = (nodes: ReadonlyArray<RedisServer.RedisProcess>) =>
  RedisServer.eventually(
    Effect.map(Effect.forEach(nodes, leftovers), (lists) => lists.flat().length === 0)
  )

describe("a Cluster that changes", () => {
  it.scopedLive(
    "a node joins, has the slots for a while, and leaves: nobody is refused, nobody meets",
    () =>
      Effect.gen(function* () {
        const cluster = yield* RedisCluster.make({ masters: 2 })
        const client = yield* clientOf(cluster.addresses)
        const stores = yield* Effect.all([
          storeOf(RedisLockStore.layerCluster({ nodes: cluster.addresses })),
          storeOf(RedisLockStore.layerCluster({ nodes: cluster.addresses })),
          storeOf(RedisLockStore.layerFromClient(client))
        ])
        const keys = ["a", "b", "c", "d"]
        const crowds = yield* Effect.forEach(keys, (key, index) =>
          crowd(key, index % 2 === 0 ? 1 : 2, stores)
        )
        const allGoOn = Effect.forEach(crowds, ({ more }) => more(10), { discard: true })
        yield* allGoOn
        const home = yield* Effect.forEach(keys, (key) => cluster.nodeOf(key))
        const added = yield* cluster.addNode
        for (const key of keys) yield* cluster.move(key, added)
        for (const key of keys) expect(yield* cluster.nodeOf(key)).toBe(added)
        yield* allGoOn
        yield* cluster.removeNode(added, home[0]!)
        yield* allGoOn
        yield* Effect.forEach(crowds, ({ end }) => end, { discard: true })
        crowds.forEach(({ seen }, index) => {
          expect(seen.errors).toEqual([])
          expect(seen.most).toBeLessThanOrEqual(index % 2 === 0 ? 1 : 2)
          expect(seen.back).toBe(0)
        })
        yield* nothingLeftIn(cluster.nodes)
      }),
    120_000
  )

  it.scopedLive(
    "a master dies, and its replica takes over: everybody goes on",
    () =>
      quietly(
        Effect.gen(function* () {
          const cluster = yield* RedisCluster.make({ replicas: 1 })
          const client = yield* clientOf(cluster.addresses)
          const stores = yield* Effect.all([
            storeOf(RedisLockStore.layerCluster({ nodes: cluster.addresses })),
            storeOf(RedisLockStore.layerFromClient(client))
          ])
          const crowds = yield* Effect.all([crowd("a", 1, stores), crowd("b", 2, stores)])
          const allGoOn = Effect.forEach(crowds, ({ more }) => more(10), { discard: true })
          yield* allGoOn
          const first = yield* cluster.nodeOf("a")
          yield* first.kill
          const isReplica = Effect.map(cluster.nodeOf("a"), (node) =>
            cluster.replicas.some((replica) => replica === node)
          )
          yield* RedisServer.eventually(isReplica)
          yield* allGoOn
          yield* Effect.forEach(crowds, ({ end }) => end, { discard: true })
          for (const { seen } of crowds) {
            for (const error of seen.errors) {
              expect(["LockStoreError", "LockLost"]).toContain((error as { _tag: string })._tag)
            }
          }
        })
      ),
    60_000
  )

  for (const where of ["connections of its own", "a client of yours"]) {
    it.scopedLive(
      `a silent shard delays no other one's renewals, acquires and closes, by ${where}`,
      () =>
        quietly(
          Effect.gen(function* () {
            const cluster = yield* RedisCluster.make({ masters: 2 })
            const { addresses, natMap, proxyOf } = yield* RedisCluster.throughProxies(cluster)
            const options = { commandTimeout: "20 seconds" } as const
            const store = yield* storeOf(
              where === "a client of yours"
                ? RedisLockStore.layerFromClient(
                    yield* clientOf(addresses, { natMap: { ...natMap } }),
                    options
                  )
                : RedisLockStore.layerCluster({
                    nodes: addresses,
                    ...options,
                    cluster: { natMap: { ...natMap } }
                  })
            )
            const { use } = store
            const silent = "a"
            const node = yield* cluster.nodeOf(silent)
            const names = Array.from({ length: 20 }, (_, index) => `other-${index}`)
            const nodes = yield* Effect.forEach(names, (name) => cluster.nodeOf(name))
            const well = names.filter((_, index) => nodes[index] !== node)
            const [held, ...rest] = well
            const ttl = "1 minute"
            yield* Effect.forEach([silent, ...well], (key) =>
              Lock.withLock(key, { ttl })(Effect.void).pipe(use)
            )
            const lost = yield* caller(use, silent, { ttl, renewEvery: 100 })
            yield* lost.lease
            const kept = yield* caller(use, held!, { ttl, renewEvery: 200 })
            yield* kept.lease
            const proxy = yield* proxyOf(silent)
            proxy.blackHole()
            const waiting = yield* caller(use, `{${silent}}2`, { ttl })
            const closing = yield* Effect.fork(lost.release)
            // all of this before anything of the silent one comes to an end
            const server = yield* cluster.nodeOf(held!)
            yield* server.command("PEXPIRE", held!, 30_000)
            yield* RedisServer.eventually(
              Effect.map(pttl(server, held!), (millis) => millis > 50_000)
            )
            for (const key of rest) yield* Lock.withLock(key, { ttl })(Effect.void).pipe(use)
            yield* kept.release
            expect(yield* server.command("EXISTS", held!)).toBe(0)
            expect(waiting.state()).toBe("waiting")
            expect(closing.unsafePoll()).toBeNull()
            proxy.heal()
            yield* waiting.lease
            yield* waiting.release
            expect(Exit.isSuccess(yield* Fiber.await(closing))).toBe(true)
            yield* nothingLeftIn(cluster.nodes)
          })
        ),
      60_000
    )
  }
})
