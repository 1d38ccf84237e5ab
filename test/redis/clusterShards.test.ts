/** A Cluster of which a part is not there: what is asked of the rest goes on, and the rest says what is missing. */
import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Scope from "effect/Scope"
import { Lock, RedisLockStore } from "effect-redis-lock"
import { Cluster } from "ioredis"
import { caller, subscribed } from "../support/Queue.js"
import * as RedisCluster from "../support/RedisCluster.js"
import {
  collectWarnings,
  failure,
  type FaultProxy,
  quietly,
  RedisServer,
  storeOf,
  timed,
  turns,
  undisturbed
} from "./support.js"

const ttl = "1 minute"

/** The slots of a master that is gone stay its own, and the others go on. */
const withoutFullCoverage = RedisServer.flags({ "cluster-require-full-coverage": "no" })

describe("a shard whose replica takes over", () => {
  it.scopedLive(
    "has the calls that waited for its old master, as soon as the store hears of the new one",
    () =>
      quietly(
        Effect.gen(function* () {
          const cluster = yield* RedisCluster.make({ replicas: 1, args: withoutFullCoverage })
          const [key, other] = yield* keyOfEach(cluster)
          const { use } = yield* storeOf(
            RedisLockStore.layerCluster({
              nodes: cluster.addresses,
              commandTimeout: "30 seconds",
              cluster: {
                // what the old master's connection learns, it learns too late
                clusterRetryStrategy: () => 60_000,
                slotsRefreshInterval: 200
              }
            })
          )
          for (const one of [key!, other!]) {
            yield* Lock.withLock(one, { ttl })(Effect.void).pipe(use)
          }
          yield* (yield* cluster.nodeOf(key!)).kill
          const waiting = yield* caller(use, key!, { ttl, waitAtMost: "30 seconds" })
          yield* waiting.lease
          expect(cluster.replicas).toContain(yield* cluster.nodeOf(key!))
          yield* waiting.release
        })
      ),
    60_000
  )
})

/** A slot that no node has. */
const unassign = (cluster: RedisCluster.RedisCluster, key: string) =>
  Effect.gen(function* () {
    const owner = yield* cluster.nodeOf(key)
    const slot = Number(yield* owner.command("CLUSTER", "KEYSLOT", key))
    // (the others hear from it that it has the slot)
    yield* owner.command("CLUSTER", "DELSLOTS", slot)
    for (const node of cluster.masters) {
      if (node !== owner) yield* node.command("CLUSTER", "DELSLOTS", slot)
    }
    return Effect.gen(function* () {
      yield* owner.command("CLUSTER", "ADDSLOTS", slot)
      yield* RedisServer.eventually(
        Effect.map(
          Effect.forEach(cluster.masters, ({ command }) => command("CLUSTER", "INFO")),
          (infos) => infos.every((info) => String(info).includes("cluster_slots_assigned:16384"))
        )
      )
    })
  })

const clientOf = (
  addresses: RedisCluster.RedisCluster["addresses"],
  options: NonNullable<ConstructorParameters<typeof Cluster>[1]>
) =>
  Effect.acquireRelease(
    Effect.async<Cluster>((resume) => {
      const client = new Cluster([...addresses], options)
      client.on("error", () => {})
      client.once("ready", () => resume(Effect.succeed(client)))
    }),
    (client) => Effect.sync(() => client.disconnect())
  )

const onClient = (cluster: RedisCluster.RedisCluster, options: RedisLockStore.StoreOptions = {}) =>
  Effect.map(
    // (a refresh would open a connection each time)
    clientOf(cluster.addresses, { retryDelayOnClusterDown: 20, slotsRefreshInterval: 0 }),
    (client) => RedisLockStore.layerFromClient(client, options)
  )

const withOwn = (cluster: RedisCluster.RedisCluster, options: RedisLockStore.StoreOptions = {}) =>
  Effect.succeed(RedisLockStore.layerCluster({ nodes: cluster.addresses, ...options }))

/** A store, by what it reaches the Cluster with. */
const stores = [
  ["connections of its own", withOwn],
  ["a client of yours", onClient]
] as const

describe("a slot that nobody serves", () => {
  for (const [how, coverage] of [
    ["alone", withoutFullCoverage],
    ["and so the Cluster is down", []]
  ] as const) {
    for (const [by, layerOf] of stores) {
      it.scopedLive(
        `${how}, by ${by}: is said, and a wait goes on until somebody does`,
        () =>
          quietly(
            Effect.gen(function* () {
              const cluster = yield* RedisCluster.make({ masters: 2, args: coverage })
              const [key, other] = yield* keyOfEach(cluster)
              const { use } = yield* storeOf(yield* layerOf(cluster))
              // (before and after the store has heard of the slot's owner)
              for (const known of [false, true]) {
                if (known) yield* Lock.withLock(key!, { ttl })(Effect.void).pipe(use)
                const assign = yield* unassign(cluster, key!)
                const refused = failure(
                  yield* Effect.exit(Effect.scoped(Lock.tryAcquire(key!, { ttl })).pipe(use))
                )
                expect(refused).toMatchObject({ _tag: "LockStoreError", transient: true })
                expect(String(refused)).toMatch(
                  /Hash slot not served.*No node of the Cluster serves the key's slot.*try again/
                )
                const whole = yield* Effect.exit(
                  Effect.scoped(Lock.tryAcquire(other!, { ttl })).pipe(use)
                )
                if (coverage.length > 0) expect(Exit.isSuccess(whole)).toBe(true)
                else expect(String(failure(whole))).toMatch(/The Cluster is down.*try again/)
                // longer than a command may take
                const late = yield* Effect.exit(
                  Lock.withLock(key!, { ttl, waitAtMost: "3 seconds" })(Effect.void).pipe(use)
                )
                expect(String(failure(late))).toMatch(/slot not served/)
                const waiting = yield* Effect.fork(
                  Lock.withLock(key!, { ttl, waitAtMost: "1 minute" })(Effect.void).pipe(use)
                )
                yield* Effect.sleep(2_500)
                expect(waiting.unsafePoll()).toBeNull()
                yield* assign
                yield* Fiber.join(waiting)
              }
            })
          ),
        60_000
      )
    }
  }
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

describe("a shard that is dead", () => {
  it.scopedLive(
    "fails none of the others' callers, also those that come before anything is known",
    () =>
      quietly(
        Effect.gen(function* () {
          const cluster = yield* RedisCluster.make({ args: withoutFullCoverage })
          const keys = yield* keyOfEach(cluster)
          yield* cluster.masters[0]!.kill
          const tryAll = Effect.scoped(
            Effect.gen(function* () {
              const { use } = yield* storeOf(
                RedisLockStore.layerCluster({
                  nodes: cluster.addresses,
                  commandTimeout: "3 seconds"
                })
              )
              const [dead, ...others] = yield* Effect.forEach(
                keys,
                (key) => Effect.exit(Lock.withLock(key, { ttl })(Effect.void).pipe(use)),
                { concurrency: "unbounded" }
              )
              expect(failure(dead!)).toMatchObject({ _tag: "LockStoreError", transient: true })
              for (const other of others) expect(other).toEqual(Exit.void)
            })
          )
          // (each begins with another node)
          yield* Effect.all(
            Array.from({ length: 6 }, () => tryAll),
            { concurrency: "unbounded", discard: true }
          )
        })
      ),
    60_000
  )
})

/** Of this process. */
const openSockets = () =>
  process.getActiveResourcesInfo().filter((name) => name.startsWith("TCP")).length

describe("a store that has closed", () => {
  for (const [by, layerOf] of stores) {
    for (const [how, isSilent] of [
      ["that answers", false],
      ["that is silent", true]
    ] as const) {
      it.scopedLive(`leaves no socket to a Cluster ${how}, with ${by}`, () =>
        quietly(
          Effect.gen(function* () {
            const cluster = yield* RedisCluster.make()
            const options = { commandTimeout: "1 second" } as const
            const keys = yield* keyOfEach(cluster)
            const holding = yield* storeOf(
              RedisLockStore.layerCluster({
                nodes: cluster.addresses,
                cluster: { slotsRefreshInterval: 0 }
              })
            )
            for (const key of keys) yield* (yield* caller(holding.use, key, { ttl })).lease
            const layer = yield* layerOf(cluster, options)
            // (connections of the user's client to all nodes, which stay)
            if (layerOf === onClient) {
              const { close, use } = yield* storeOf(layer)
              for (const key of keys) yield* Effect.exit(Lock.tryAcquire(key)).pipe(use)
              yield* close
            }
            const before = openSockets()
            const { close, store, use } = yield* storeOf(layer)
            for (const key of keys) yield* caller(use, key, { ttl })
            // (whatever it needs is connected by then)
            yield* Effect.raceAll(cluster.masters.map((server) => subscribed({ store, server })))
            expect(openSockets()).toBeGreaterThan(before)
            if (isSilent) for (const { stop } of cluster.masters) yield* stop
            yield* close
            yield* turns(10)
            // (one that was there may have gone meanwhile)
            expect(openSockets()).toBeLessThanOrEqual(before)
            if (isSilent) for (const { cont } of cluster.masters) yield* cont
          })
        )
      )
    }
  }
})

describe("a scope with leases of shards that are well and of shards that are not", () => {
  for (const [how, begin] of [
    ["silent", (proxy: FaultProxy.FaultProxy) => proxy.blackHole()],
    [
      "dead",
      (proxy: FaultProxy.FaultProxy) => {
        proxy.refuse()
        proxy.cutAll()
      }
    ]
  ] as const) {
    for (const by of ["connections of its own", "a client of yours"]) {
      it.scopedLive(`closes within one deadline, where they are ${how}, with ${by}`, () =>
        collectWarnings((warnings) =>
          undisturbed(
            300,
            Effect.gen(function* () {
              const cluster = yield* RedisCluster.make({ args: withoutFullCoverage })
              const { addresses, natMap, proxies } = yield* RedisCluster.throughProxies(cluster)
              const timeout = 2_000
              const reach = { natMap: { ...natMap } }
              const layer =
                by === "a client of yours"
                  ? RedisLockStore.layerFromClient(
                      yield* clientOf(addresses, { ...reach, slotsRefreshInterval: 0 }),
                      { commandTimeout: timeout }
                    )
                  : RedisLockStore.layerCluster({
                      nodes: addresses,
                      commandTimeout: timeout,
                      cluster: reach
                    })
              const { use } = yield* storeOf(layer)
              const [first, second, well] = yield* keyOfEach(cluster)
              const wells = [0, 1, 2, 3].map((index) => `{${well!}}${index}`)
              const others = [0, 1, 2, 3].map(
                (index) => `{${index < 2 ? first! : second!}}${index}`
              )
              const scope = yield* Scope.make()
              for (let index = 0; index < 4; index++) {
                for (const key of [others[index]!, wells[index]!]) {
                  yield* Lock.acquire(key, { ttl }).pipe(use, Scope.extend(scope))
                }
              }
              const told = warnings.length
              begin(proxies[0]!)
              begin(proxies[1]!)
              const { millis } = yield* timed(Scope.close(scope, Exit.void))
              // (and a tenth for a second shard that says nothing)
              expect(millis).toBeLessThan(1.5 * timeout)
              expect(warnings.length - told).toBe(1)
              // what the others had is free
              const server = cluster.masters[2]!
              yield* RedisServer.eventually(
                Effect.map(server.command("EXISTS", ...wells), (count) => count === 0)
              )
            })
          )
        )
      )
    }
  }
})
