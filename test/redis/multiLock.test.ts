/** Several locks in Redis: what they cost, with whom they share keys, and what is left of them. */
import { expect, layer } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import { Lock, MultiLock, RedisLockStore } from "effect-redis-lock"
import { Cluster } from "ioredis"
import { environments, idle, strict } from "../support/Queue.js"
import * as RedisCluster from "../support/RedisCluster.js"
import { freshKeys } from "../support/several.js"
import {
  environment,
  leftovers,
  nothingLeft,
  quietly,
  RedisServer,
  seeded,
  storeOf,
  untilTogether
} from "./support.js"

const ttl = "1 minute"

const shuffled = <A>(all: ReadonlyArray<A>, random: () => number): ReadonlyArray<A> =>
  all
    .map((one) => [random(), one] as const)
    .sort(([a], [b]) => a - b)
    .map(([, one]) => one)

/** Counts who is inside of what, and remembers whether two ever were in the same. */
const makeRooms = () => {
  const inside = new Map<string, number>()
  let visits = 0
  let meetings = 0
  const change = (keys: ReadonlyArray<string>, by: 1 | -1) =>
    Effect.sync(() => {
      for (const key of keys) {
        const count = (inside.get(key) ?? 0) + by
        inside.set(key, count)
        if (count > 1) meetings++
      }
    })
  return {
    visits: () => visits,
    meetings: () => meetings,
    visit: (keys: ReadonlyArray<string>, stay: Effect.Effect<unknown>) =>
      Effect.acquireUseRelease(
        change(keys, 1),
        () =>
          Effect.zipRight(
            stay,
            Effect.sync(() => visits++)
          ),
        () => change(keys, -1)
      )
  }
}

layer(RedisServer.layer(), { excludeTestServices: true })("several locks in Redis", (it) => {
  for (const count of [1, 2, 4, 16]) {
    it.scoped(`cost one command in and one out, if they are free: ${count}`, () =>
      Effect.gen(function* () {
        const { server, store, use } = yield* environment()
        yield* untilTogether({ store, use })
        const keys = freshKeys(count)
        const cycle = MultiLock.withLocks(keys, { ttl })(Effect.void)
        // the first use brings the scripts
        yield* cycle.pipe(use)
        const monitor = yield* server.monitor
        const ways = [
          cycle,
          MultiLock.withLocksIfAvailable([...keys].reverse(), { ttl })(Effect.sleep(1)),
          Effect.scoped(Effect.flatMap(MultiLock.acquire(keys, { ttl }), ({ release }) => release))
        ]
        for (const way of ways) yield* Effect.asVoid(way).pipe(use)
        const commands = (yield* monitor.commands).filter(({ from }) => from !== "lua")
        expect(commands.length).toBe(2 * ways.length)
        expect(yield* server.clientCount).toBe(1)
      })
    )
  }

  it.scoped("cost one command for each 16, if there are more", () =>
    Effect.gen(function* () {
      const { server, store, use } = yield* environment()
      yield* untilTogether({ store, use })
      const cycle = MultiLock.withLocks(freshKeys(40), { ttl })(Effect.void)
      yield* cycle.pipe(use)
      const monitor = yield* server.monitor
      yield* cycle.pipe(use)
      const commands = (yield* monitor.commands).filter(({ from }) => from !== "lua")
      expect(commands.length).toBe(6)
    })
  )

  it.scoped("are renewed in one command, and are all there while they are", () =>
    Effect.gen(function* () {
      const { server, store, use } = yield* environment()
      yield* untilTogether({ store, use })
      const keys = freshKeys(4)
      const lease = yield* MultiLock.acquire(keys, { ttl: 20_000, renewEvery: 200 }).pipe(use)
      yield* Effect.sleep(100)
      const monitor = yield* server.monitor
      const renewals = Effect.map(monitor.commands, (all) =>
        all.filter(({ args, from }) => from !== "lua" && args.includes(keys[3]!))
      )
      yield* RedisServer.eventually(Effect.map(renewals, (all) => all.length >= 2))
      for (const { args } of yield* renewals) {
        for (const key of keys) expect(args).toContain(key)
      }
      for (const [index, key] of keys.entries()) {
        expect(yield* server.command("GET", key)).toBe(lease.leases[index]!.token)
      }
    })
  )

  it.scoped("exclude the locks of other processes, and are excluded by them", () =>
    Effect.gen(function* () {
      const [a, b] = yield* environments([strict, strict])
      const keys = freshKeys(3)
      const entered = yield* Deferred.make<void>()
      const leave = yield* Deferred.make<void>()
      const inA = yield* Effect.fork(
        MultiLock.withLocks(keys, { ttl })(
          Effect.zipRight(Deferred.succeed(entered, undefined), Deferred.await(leave))
        ).pipe(a.use)
      )
      yield* Deferred.await(entered)
      for (const key of keys) {
        expect(yield* Effect.flip(Effect.scoped(Lock.tryAcquire(key))).pipe(b.use)).toMatchObject({
          _tag: "LockUnavailable",
          key
        })
      }
      const inB = yield* Effect.fork(Lock.withLock(keys[2]!, { ttl })(Effect.void).pipe(b.use))
      yield* RedisServer.eventually(
        Effect.map(a.server.command("ZCARD", `{${keys[2]}}:lock-queue`), (waiting) => waiting === 1)
      )
      // it waits for the other process, and is waited for
      const again = yield* Effect.fork(
        MultiLock.withLocks([...keys].reverse(), { ttl })(Effect.void).pipe(b.use)
      )
      yield* Deferred.succeed(leave, undefined)
      yield* Fiber.join(inA)
      yield* Fiber.join(inB)
      yield* Fiber.join(again)
      yield* nothingLeft(a.server)
    })
  )

  it.scoped("a program without this library is waited for, and waits", () =>
    Effect.gen(function* () {
      const { server, use } = yield* environment()
      const keys = freshKeys(3)
      yield* server.command("SET", keys[1]!, "foreign", "NX", "PX", 60_000)
      const fiber = yield* Effect.fork(
        MultiLock.withLocks(keys, { ttl })((lease) =>
          Effect.map(server.command("GET", keys[1]!), (value) =>
            expect(value).toBe(lease.leases[1]!.token)
          )
        ).pipe(use)
      )
      yield* RedisServer.eventually(
        Effect.map(server.command("EXISTS", keys[0]!), (held) => held === 1)
      )
      yield* RedisServer.eventually(
        Effect.map(server.command("EXISTS", keys[2]!), (held) => held === 0)
      )
      yield* server.command("DEL", keys[1]!)
      yield* Fiber.join(fiber)
      yield* nothingLeft(server)
    })
  )

  it.scoped("stores with other prefixes agree on the order", () =>
    Effect.gen(function* () {
      const names = freshKeys(3)
      const [a, b] = yield* environments([
        { ...strict, prefix: "" },
        { ...strict, prefix: "key" }
      ])
      const rooms = makeRooms()
      const random = seeded(7)
      const run = (use: typeof a.use, cut: number) =>
        Effect.forEach(
          Array.from({ length: 60 }, () => shuffled(names, random)),
          (some) =>
            MultiLock.withLocks(
              some.map((key) => key.slice(cut)),
              { ttl }
            )(rooms.visit(some, Effect.yieldNow())),
          { concurrency: 4, discard: true }
        ).pipe(use)
      yield* Effect.all([run(a.use, 0), run(b.use, "key".length)], { concurrency: 2 })
      expect(rooms.visits()).toBe(120)
      expect(rooms.meetings()).toBe(0)
      yield* nothingLeft(a.server)
    })
  )

  it.scoped("processes that name keys in all orders get on, and nothing is left", () =>
    Effect.gen(function* () {
      const stores = yield* environments([{}, {}, strict, strict])
      const rooms = makeRooms()
      const keys = freshKeys(6)
      const random = seeded(11)
      yield* Effect.forEach(
        stores,
        ({ use }) =>
          Effect.forEach(
            Array.from({ length: 60 }, (_, index) => index),
            (index) => {
              const some = shuffled(keys, random).slice(0, 1 + Math.floor(4 * random()))
              const inside = rooms.visit(some, index % 5 === 0 ? Effect.sleep(1) : Effect.void)
              return index % 3 === 0
                ? Lock.withLock(some[0]!, { ttl })(rooms.visit([some[0]!], Effect.void))
                : index % 7 === 0
                  ? Effect.asVoid(MultiLock.withLocksIfAvailable(some, { ttl })(inside))
                  : MultiLock.withLocks(some, { ttl })(inside)
            },
            { concurrency: 5, discard: true }
          ).pipe(use),
        { concurrency: "unbounded" }
      )
      expect(rooms.meetings()).toBe(0)
      expect(rooms.visits()).toBeGreaterThan(200)
      for (const { store } of stores) yield* idle(store)
      yield* nothingLeft(stores[0]!.server)
    })
  )

  it.scoped("thousands of interruptions at any moment, by two processes: nothing is left", () =>
    Effect.gen(function* () {
      const stores = yield* environments([{}, strict])
      const rooms = makeRooms()
      const keys = freshKeys(4)
      const random = seeded(3)
      yield* Effect.forEach(
        stores,
        ({ use }) =>
          Effect.forEach(
            Array.from({ length: 1_000 }, (_, index) => index),
            (index) =>
              Effect.gen(function* () {
                const some = shuffled(keys, random).slice(0, 1 + Math.floor(4 * random()))
                const fiber = yield* Effect.fork(
                  MultiLock.withLocks(some, { ttl })(rooms.visit(some, Effect.void))
                )
                if (index % 3 === 0) yield* Effect.sleep(random() ** 2 * 80)
                else
                  for (let step = Math.floor(random() * 20); step > 0; step--)
                    yield* Effect.yieldNow()
                // (some have their turn, however slow the machine is)
                yield* index % 5 === 0 ? Fiber.join(fiber) : Fiber.interrupt(fiber)
              }),
            { concurrency: 8, discard: true }
          ).pipe(use),
        { concurrency: "unbounded" }
      )
      expect(rooms.meetings()).toBe(0)
      expect(rooms.visits()).toBeGreaterThanOrEqual(400)
      for (const { store } of stores) yield* idle(store)
      yield* RedisServer.eventually(
        Effect.map(leftovers(stores[0]!.server), (left) => left.length === 0)
      )
    })
  )

  it.scoped("a store that closes while some wait gives back what they had", () =>
    Effect.gen(function* () {
      const [a, b] = yield* environments([strict, strict])
      const keys = freshKeys(3)
      yield* Lock.acquire(keys[2]!, { ttl }).pipe(b.use)
      const fiber = yield* Effect.fork(
        Effect.flip(MultiLock.withLocks(keys, { ttl })(Effect.void)).pipe(a.use)
      )
      yield* RedisServer.eventually(
        Effect.map(a.server.command("ZCARD", `{${keys[2]}}:lock-queue`), (waiting) => waiting === 1)
      )
      yield* a.close
      expect(yield* Fiber.join(fiber)).toMatchObject({ _tag: "LockStoreError" })
      expect(yield* leftovers(a.server)).toEqual([keys[2]])
    }).pipe(quietly)
  )
})

const client = (cluster: RedisCluster.RedisCluster) =>
  Effect.acquireRelease(
    Effect.async<Cluster>((resume) => {
      const client = new Cluster([...cluster.addresses])
      client.on("error", () => {})
      client.once("ready", () => resume(Effect.succeed(client)))
    }),
    (client) => Effect.sync(() => client.disconnect())
  )

class TestCluster extends Effect.Tag("test/multiLock/Cluster")<
  TestCluster,
  RedisCluster.RedisCluster
>() {}

layer(Layer.scoped(TestCluster, RedisCluster.make()), {
  excludeTestServices: true,
  timeout: "30 seconds"
})("several locks of several slots", (it) => {
  it.scoped("are held, renewed and given back together", () =>
    Effect.gen(function* () {
      const cluster = yield* TestCluster
      const { use } = yield* storeOf(RedisLockStore.layerFromClient(yield* client(cluster)))
      const keys = freshKeys(12)
      const nodes = yield* Effect.forEach(keys, (key) => cluster.nodeOf(key))
      expect(new Set(nodes).size).toBeGreaterThan(1)
      const lease = yield* MultiLock.acquire(keys, { ttl: 20_000, renewEvery: 100 }).pipe(use)
      for (const [index, key] of keys.entries()) {
        yield* nodes[index]!.command("PEXPIRE", key, 10_000)
        yield* RedisServer.eventually(
          Effect.map(nodes[index]!.command("PTTL", key), (left) => Number(left) > 15_000)
        )
      }
      yield* lease.verify
      yield* lease.release
      expect((yield* Effect.forEach(cluster.masters, (node) => leftovers(node))).flat()).toEqual([])
    })
  )

  it.scoped("two clients that name them in other orders get on, and nothing is left", () =>
    Effect.gen(function* () {
      const cluster = yield* TestCluster
      const rooms = makeRooms()
      const keys = freshKeys(5)
      const random = seeded(5)
      const run = Effect.gen(function* () {
        const { use } = yield* storeOf(RedisLockStore.layerFromClient(yield* client(cluster)))
        yield* Effect.forEach(
          Array.from({ length: 60 }, () => shuffled(keys, random).slice(0, 2 + 3 * random())),
          (some) => MultiLock.withLocks(some, { ttl })(rooms.visit(some, Effect.yieldNow())),
          { concurrency: 4, discard: true }
        ).pipe(use)
      })
      yield* Effect.all([run, run], { concurrency: 2 })
      expect(rooms.visits()).toBe(120)
      expect(rooms.meetings()).toBe(0)
      expect((yield* Effect.forEach(cluster.masters, (node) => leftovers(node))).flat()).toEqual([])
    })
  )

  it.scoped("lost in one slot: the key is named, the others are given back", () =>
    Effect.gen(function* () {
      const cluster = yield* TestCluster
      const { use } = yield* storeOf(RedisLockStore.layerFromClient(yield* client(cluster)))
      const keys = freshKeys(6)
      const entered = yield* Deferred.make<MultiLock.MultiLease>()
      const fiber = yield* Effect.fork(
        Effect.flip(
          MultiLock.withLocks(keys, { ttl: 20_000, renewEvery: 50 })((lease) =>
            Effect.zipRight(Deferred.succeed(entered, lease), Effect.never)
          )
        ).pipe(use)
      )
      yield* Deferred.await(entered)
      yield* (yield* cluster.nodeOf(keys[4]!)).command("DEL", keys[4]!)
      expect(yield* Fiber.join(fiber)).toMatchObject({
        _tag: "LockLost",
        key: keys[4],
        reason: "Missing"
      })
      expect((yield* Effect.forEach(cluster.masters, (node) => leftovers(node))).flat()).toEqual([])
    }).pipe(quietly)
  )
})
