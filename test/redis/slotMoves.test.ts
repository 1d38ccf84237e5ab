/**
 * A slot of a Cluster on its way from one node to another: until all of its keys are there, scripts of several
 * keys are refused by both. What holders do goes on with the one key that decides; what waits, waits.
 */
import { isOlderClient } from "../support/client.js"
import { describe, expect, layer } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import {
  type LockError,
  Lock,
  type LockStore,
  MultiLock,
  ReadWriteLock,
  RedisLockStore,
  Semaphore
} from "effect-redis-lock"
import { Cluster } from "ioredis"
import { readFileSync } from "node:fs"
import { caller, idle, strict } from "../support/Queue.js"
import * as RedisCluster from "../support/RedisCluster.js"
import {
  failure,
  leftovers,
  quietly,
  RedisServer,
  storeOf,
  timed,
  undisturbed,
  unhandledErrors
} from "./support.js"

class TestCluster extends Context.Tag("test/slotMoves/Cluster")<
  TestCluster,
  RedisCluster.RedisCluster
>() {}

const ttl = "1 minute"

type ClientOptions = NonNullable<ConstructorParameters<typeof Cluster>[1]>

/** ioredis tries 16 times, with these pauses (100 ms by default), before it says that it was refused. */
const soon: ClientOptions = { retryDelayOnTryAgain: 10 }

const clientOf = (cluster: RedisCluster.RedisCluster, options: ClientOptions) =>
  Effect.acquireRelease(
    Effect.async<Cluster>((resume) => {
      const client = new Cluster([...cluster.addresses], options)
      client.on("error", () => {})
      client.once("ready", () => resume(Effect.succeed(client)))
    }),
    (client) => Effect.sync(() => client.disconnect())
  )

/** (A busy machine is slow to answer.) */
const patient = { commandTimeout: "10 seconds" } as const

/** A store on a client of the user's. */
const storeOnClient = (cluster: RedisCluster.RedisCluster, options?: RedisLockStore.StoreOptions) =>
  Effect.flatMap(clientOf(cluster, soon), (client) =>
    storeOf(RedisLockStore.layerFromClient(client, { ...patient, ...options }))
  )

/** A store with connections of its own. */
const storeOn = (cluster: RedisCluster.RedisCluster, options?: RedisLockStore.StoreOptions) =>
  storeOf(RedisLockStore.layerCluster({ nodes: cluster.addresses, ...patient, ...options }))

// -----------------------------------------------------------------------------
// the kinds
// -----------------------------------------------------------------------------

interface Held {
  readonly fencingToken: number
  readonly isHeld: Effect.Effect<boolean>
  readonly verify: Effect.Effect<void, unknown>
  readonly release: Effect.Effect<void, LockError.LockLost | LockError.LockStoreError>
}

type Options = Pick<Lock.WaitOptions, "ttl" | "renewEvery" | "waitAtMost">

type Acquire = (
  keys: ReadonlyArray<string>,
  options: Options
) => Effect.Effect<
  Held,
  LockError.LockUnavailable | LockError.LockStoreError,
  LockStore.LockStore | Scope.Scope
>

interface Kind {
  readonly name: string
  readonly several: boolean
  /** How many keys it takes. */
  readonly count: number
  readonly acquire: Acquire
  readonly tryAcquire: Acquire
}

const kind = (
  name: string,
  acquire: (
    key: string,
    options: Options
  ) => Effect.Effect<
    Held,
    LockError.LockUnavailable | LockError.LockStoreError,
    LockStore.LockStore | Scope.Scope
  >,
  tryAcquire: typeof acquire,
  several = false
): Kind => ({
  name,
  several,
  count: 1,
  acquire: ([key], options) => acquire(key!, options),
  tryAcquire: ([key], { renewEvery, ttl }) => tryAcquire(key!, { ttl, renewEvery })
})

const asHeld = (keys: ReadonlyArray<string>) => (lease: MultiLock.MultiLease) => ({
  ...lease,
  fencingToken: Math.min(...keys.map(lease.fencingToken)),
  isHeld: lease.isHeld,
  verify: lease.verify,
  release: lease.release
})

const allKinds: ReadonlyArray<Kind> = [
  kind("a lock", Lock.acquire, Lock.tryAcquire),
  kind(
    "a semaphore",
    (key, options) => Semaphore.acquire(key, { ...options, limit: 2 }),
    (key, options) => Semaphore.tryAcquire(key, { ...options, limit: 2 }),
    true
  ),
  kind("a reader", ReadWriteLock.readLock, ReadWriteLock.tryReadLock, true),
  kind("a writer", ReadWriteLock.writeLock, ReadWriteLock.tryWriteLock, true),
  {
    name: "several locks at once",
    several: false,
    count: 2,
    acquire: (keys, options) => Effect.map(MultiLock.acquire(keys, options), asHeld(keys)),
    tryAcquire: (keys, options) => Effect.map(MultiLock.tryAcquire(keys, options), asHeld(keys))
  },
  kind(
    "a lock with maxHold",
    (key, options) => Lock.acquire(key, { ...options, maxHold: "1 hour" }),
    (key, options) => Lock.tryAcquire(key, { ...options, maxHold: "1 hour" })
  ),
  kind(
    "a semaphore with maxHold",
    (key, options) => Semaphore.acquire(key, { ...options, limit: 2, maxHold: "1 hour" }),
    (key, options) => Semaphore.tryAcquire(key, { ...options, limit: 2, maxHold: "1 hour" }),
    true
  )
]

/** How a client goes on while a slot moves depends on it, and not on the kind of lock. */
const kinds = isOlderClient ? allKinds.slice(0, 2) : allKinds

let tags = 0

/** So many keys of one slot that no other test uses. */
const keysFor = ({ count }: Pick<Kind, "count">): ReadonlyArray<string> => {
  const tag = `{${process.pid}-${++tags}}`
  return Array.from({ length: count }, (_, index) => `${tag}${index}`)
}

/** Where the keys are while their slot is on its way. */
const stages = {
  "all at the source": () => [],
  "the key itself gone ahead": (all, keys) => all.filter((name) => keys.includes(name)),
  "the key itself left behind": (all, keys) => all.filter((name) => !keys.includes(name)),
  "all at the target": (all) => all
} satisfies Record<
  string,
  (all: ReadonlyArray<string>, keys: ReadonlyArray<string>) => ReadonlyArray<string>
>

const begin = (
  cluster: RedisCluster.RedisCluster,
  keys: ReadonlyArray<string>,
  stage: keyof typeof stages = "all at the source"
) =>
  Effect.gen(function* () {
    const move = yield* cluster.beginMove(keys[0]!, yield* cluster.otherThan(keys[0]!))
    yield* move.migrate(stages[stage](yield* move.keys, keys))
    return move
  })

const finish = (move: RedisCluster.SlotMove) => Effect.zipRight(move.migrate(), move.finish)

/** Behind the holders' backs: half of their ttl is left. */
const shorten = (move: RedisCluster.SlotMove, key: string, several: boolean) =>
  Effect.gen(function* () {
    if (!several) return yield* move.command("PEXPIRE", key, 30_000)
    for (const token of (yield* move.command("ZRANGE", key, 0, -1)) as ReadonlyArray<string>) {
      yield* move.command("ZADD", key, "XX", Date.now() + 30_000, token)
    }
    return yield* move.command("PEXPIRE", key, 30_000)
  })

/** What is left of the holder's ttl whose ttl ends first. */
const left = (move: RedisCluster.SlotMove, key: string, several: boolean) =>
  several
    ? Effect.map(
        move.command("ZRANGE", key, 0, 0, "WITHSCORES"),
        (first) => Number((first as ReadonlyArray<string>)[1]) - Date.now()
      )
    : Effect.map(move.command("PTTL", key), Number)

/** How often both nodes of a move have refused a script since they were started. */
const refusals = ({ from, to }: RedisCluster.SlotMove) =>
  Effect.map(
    Effect.forEach([from, to], ({ command }) => command("INFO", "errorstats")),
    (answers) =>
      answers.reduce<number>(
        (sum, info) => sum + Number(/errorstat_TRYAGAIN:count=(\d+)/.exec(String(info))?.[1] ?? 0),
        0
      )
  )

/** Waits until they have refused so many more. */
const untilRefused = (move: RedisCluster.SlotMove, more: number) =>
  Effect.flatMap(refusals(move), (before) =>
    RedisServer.eventually(Effect.map(refusals(move), (now) => now >= before + more))
  )

const nothingLeft = (cluster: RedisCluster.RedisCluster, keys: ReadonlyArray<string>) =>
  RedisServer.eventually(
    Effect.map(Effect.forEach(cluster.masters, leftovers), (lists) =>
      lists.flat().every((name) => !keys.some((key) => name.includes(key)))
    )
  )

layer(Layer.scoped(TestCluster, RedisCluster.make()), {
  excludeTestServices: true,
  timeout: "30 seconds"
})("a slot on its way", (it) => {
  const both = ["a lock", "a semaphore"]
  const onClient = kinds.filter(({ name }) => both.includes(name))
  for (const [{ acquire, count, name, several, tryAcquire }, where, storeOfKind] of [
    ...kinds.map((kind) => [kind, "connections of its own", storeOn] as const),
    ...onClient.map((kind) => [kind, "a client of yours", storeOnClient] as const)
  ]) {
    describe(`${name}, by ${where},`, () => {
      for (const stage of Object.keys(stages) as ReadonlyArray<keyof typeof stages>) {
        it.scoped(`is renewed, verified and given back, with ${stage}`, () =>
          Effect.gen(function* () {
            const cluster = yield* TestCluster
            const { use } = yield* storeOfKind(cluster)
            const keys = keysFor({ count })
            const held = yield* acquire(keys, { ttl, renewEvery: 200 }).pipe(use)
            const move = yield* begin(cluster, keys, stage)
            for (const key of keys) {
              yield* shorten(move, key, several)
              yield* RedisServer.eventually(
                Effect.map(left(move, key, several), (millis) => millis > 50_000)
              )
            }
            yield* held.verify
            expect(yield* held.isHeld).toBe(true)
            yield* held.release
            for (const key of keys) expect(yield* move.command("EXISTS", key)).toBe(0)
            // nobody is let in before all is in one place
            const refused = yield* Effect.flip(Effect.scoped(tryAcquire(keys, { ttl })).pipe(use))
            expect(refused).toMatchObject({ _tag: "LockStoreError", transient: true })
            expect(refused.message).toContain("is being moved to another node")
            yield* finish(move)
            const next = yield* tryAcquire(keys, { ttl }).pipe(use)
            expect(next.fencingToken).toBeGreaterThan(held.fencingToken)
            yield* next.release
            yield* nothingLeft(cluster, keys)
          })
        )
      }

      it.scoped("waits while its slot is on its way, and its fencing token does not go back", () =>
        Effect.gen(function* () {
          const cluster = yield* TestCluster
          const { store, use } = yield* storeOfKind(cluster)
          const keys = keysFor({ count })
          yield* Effect.scoped(acquire(keys, { ttl })).pipe(use)
          // as after a time in which the server's clock was an hour ahead
          const ahead = (Date.now() + 3_600_000) * 1_000
          const move = yield* begin(cluster, keys)
          for (const record of yield* move.keys) {
            const claim = String(yield* move.command("GET", record)).replace(/^\d+/, String(ahead))
            yield* move.command("SET", record, claim)
          }
          const waiting = yield* Effect.fork(acquire(keys, { ttl }).pipe(use))
          yield* untilRefused(move, 20)
          expect(waiting.unsafePoll()).toBeNull()
          yield* finish(move)
          const lease = yield* Fiber.join(waiting)
          expect(lease.fencingToken).toBeGreaterThan(ahead)
          yield* lease.verify
          yield* lease.release
          yield* idle(store)
          yield* nothingLeft(cluster, keys)
        })
      )

      it.scoped("waits no longer than it may, and leaves nothing behind", () =>
        Effect.gen(function* () {
          const cluster = yield* TestCluster
          const { store, use } = yield* storeOfKind(cluster)
          const keys = keysFor({ count })
          const move = yield* begin(cluster, keys)
          const { exit } = yield* timed(
            Effect.scoped(acquire(keys, { ttl, waitAtMost: "2 seconds" })).pipe(use)
          )
          const error = failure(exit)
          expect(error).toMatchObject({ _tag: "LockStoreError", transient: true })
          expect(error.message).toContain("is being moved to another node")
          yield* finish(move)
          // (what was on its way when the time was over is granted, and given back)
          yield* Effect.scoped(acquire(keys, { ttl })).pipe(use)
          yield* idle(store)
          yield* nothingLeft(cluster, keys)
        })
      )
    })
  }

  it.scoped(
    "a waiter keeps waiting, whatever its claim window, and has its turn behind the move",
    () =>
      undisturbed(
        100,
        Effect.gen(function* () {
          const cluster = yield* TestCluster
          const options = { ...strict, commandTimeout: "2 seconds" } as const
          const [a, b] = [yield* storeOn(cluster, options), yield* storeOn(cluster, options)]
          const keys = keysFor({ count: 1 })
          const [key] = keys
          const holder = yield* caller(a.use, key!, { ttl })
          const first = yield* holder.lease
          // its claim window is as long, and a command deadline longer
          const waiter = yield* caller(b.use, key!, { ttl: 600 })
          yield* RedisServer.eventually(
            Effect.map(
              Effect.flatMap(cluster.nodeOf(key!), (node) =>
                node.command("ZCARD", `${key}::lock-queue`)
              ),
              (count) => count === 1
            )
          )
          const move = yield* begin(cluster, keys, "the key itself gone ahead")
          const until = Date.now() + 3_500
          yield* RedisServer.eventually(Effect.sync(() => Date.now() > until))
          yield* holder.release
          yield* untilRefused(move, 30)
          expect(waiter.state()).toBe("waiting")
          yield* finish(move)
          const lease = yield* waiter.lease
          expect(lease.fencingToken).toBeGreaterThan(first.fencingToken)
          yield* waiter.release
          yield* nothingLeft(cluster, keys)
        })
      )
  )

  it.scoped("a wait that is given up while its slot is on its way leaves nothing behind", () =>
    Effect.gen(function* () {
      const cluster = yield* TestCluster
      const { store, use } = yield* storeOn(cluster)
      const keys = keysFor({ count: 1 })
      const move = yield* begin(cluster, keys)
      const waiting = yield* caller(use, keys[0]!, { ttl })
      yield* untilRefused(move, 10)
      yield* waiting.interrupt
      yield* finish(move)
      yield* idle(store)
      yield* nothingLeft(cluster, keys)
    })
  )

  it.scoped(
    "a place that is given up while its slot is on its way is taken out of the queue behind it",
    () =>
      Effect.gen(function* () {
        const cluster = yield* TestCluster
        const stores = yield* Effect.replicateEffect(storeOn(cluster, strict), 3)
        const [a, b, c] = [stores[0]!, stores[1]!, stores[2]!]
        const keys = keysFor({ count: 1 })
        const [key] = keys
        const queued = (count: number) =>
          RedisServer.eventually(
            Effect.map(
              Effect.flatMap(cluster.nodeOf(key!), (node) =>
                node.command("ZCARD", `${key}::lock-queue`)
              ),
              (found) => found === count
            )
          )
        const holder = yield* caller(a.use, key!, { ttl })
        yield* holder.lease
        const first = yield* caller(b.use, key!, { ttl })
        yield* queued(1)
        const second = yield* caller(c.use, key!, { ttl })
        yield* queued(2)
        const move = yield* begin(cluster, keys, "the key itself gone ahead")
        yield* first.interrupt
        yield* untilRefused(move, 30)
        yield* finish(move)
        // (the second one keeps the queue alive)
        yield* queued(1)
        yield* holder.release
        yield* second.lease
        yield* second.release
        yield* nothingLeft(cluster, keys)
      })
  )

  it.scoped(
    "callers of one process have it one after the other, the next one behind the move",
    () =>
      Effect.gen(function* () {
        const cluster = yield* TestCluster
        const { use } = yield* storeOn(cluster)
        const keys = keysFor({ count: 1 })
        const first = yield* caller(use, keys[0]!, { ttl })
        const held = yield* first.lease
        const second = yield* caller(use, keys[0]!, { ttl })
        const move = yield* begin(cluster, keys)
        const { exit } = yield* timed(held.release)
        expect(Exit.isSuccess(exit)).toBe(true)
        expect(yield* move.command("EXISTS", keys[0]!)).toBe(0)
        expect(second.state()).toBe("waiting")
        yield* finish(move)
        const lease = yield* second.lease
        expect(lease.fencingToken).toBeGreaterThan(held.fencingToken)
        yield* second.release
        yield* nothingLeft(cluster, keys)
      })
  )

  it.scoped("permits that were given back by one key are free behind the move", () =>
    Effect.gen(function* () {
      const cluster = yield* TestCluster
      const [a, b] = [yield* storeOn(cluster), yield* storeOn(cluster)]
      const keys = keysFor({ count: 1 })
      const [key] = keys
      const options = { ttl, limit: 2 } as const
      const first = yield* Semaphore.acquire(key!, options).pipe(a.use)
      const second = yield* Semaphore.acquire(key!, options).pipe(b.use)
      const move = yield* begin(cluster, keys, "the key itself gone ahead")
      yield* first.release
      yield* second.verify
      yield* finish(move)
      const third = yield* Semaphore.tryAcquire(key!, options).pipe(a.use)
      const full = yield* Effect.flip(
        Effect.scoped(Semaphore.tryAcquire(key!, options)).pipe(a.use)
      )
      expect(full).toMatchObject({ _tag: "LockUnavailable" })
      yield* second.verify
      for (const lease of [second, third]) yield* lease.release
      yield* nothingLeft(cluster, keys)
    })
  )

  it.scoped(
    "what several have in use is still known behind a move that took longer than their ttl",
    () =>
      Effect.gen(function* () {
        const cluster = yield* TestCluster
        const { use } = yield* storeOn(cluster)
        const keys = keysFor({ count: 1 })
        const [key] = keys
        const options = { ttl: "3 seconds", renewEvery: 300, limit: 2 } as const
        const first = yield* Semaphore.acquire(key!, options).pipe(use)
        const move = yield* begin(cluster, keys, "the key itself gone ahead")
        const until = Date.now() + 4_000
        yield* RedisServer.eventually(Effect.sync(() => Date.now() > until))
        yield* first.verify
        yield* finish(move)
        const second = yield* Semaphore.tryAcquire(key!, options).pipe(use)
        const full = yield* Effect.flip(
          Effect.scoped(Semaphore.tryAcquire(key!, options)).pipe(use)
        )
        expect(full).toMatchObject({ _tag: "LockUnavailable" })
        for (const lease of [first, second]) yield* lease.release
        yield* nothingLeft(cluster, keys)
      })
  )

  it.scoped(
    "a writer that became a reader while its slot was on its way lets others in behind it",
    () =>
      Effect.gen(function* () {
        const cluster = yield* TestCluster
        const [a, b] = [yield* storeOn(cluster), yield* storeOn(cluster)]
        const keys = keysFor({ count: 1 })
        const [key] = keys
        const lease = yield* ReadWriteLock.writeLock(key!, { ttl, renewEvery: 200 }).pipe(a.use)
        const move = yield* begin(cluster, keys)
        yield* lease.downgrade
        yield* finish(move)
        const reader = yield* ReadWriteLock.readLock(key!, { ttl }).pipe(b.use)
        yield* lease.verify
        yield* reader.release
        yield* lease.release
        yield* nothingLeft(cluster, keys)
      })
  )

  it.scoped("holdAtLeast is kept by the one key", () =>
    Effect.gen(function* () {
      const cluster = yield* TestCluster
      const { use } = yield* storeOn(cluster)
      for (const several of [false, true]) {
        const keys = keysFor({ count: 1 })
        const [key] = keys
        const options = { ttl, holdAtLeast: "40 seconds" } as const
        const lease = yield* several
          ? Semaphore.acquire(key!, { ...options, limit: 1 }).pipe(use)
          : Lock.acquire(key!, options).pipe(use)
        const move = yield* begin(cluster, keys)
        yield* lease.release
        const millis = yield* left(move, key!, several)
        expect(millis).toBeGreaterThan(10_000)
        expect(millis).toBeLessThanOrEqual(40_000)
        yield* finish(move)
        const busy = yield* Effect.flip(
          Effect.scoped(
            several ? Semaphore.tryAcquire(key!, { ttl, limit: 1 }) : Lock.tryAcquire(key!, { ttl })
          ).pipe(use)
        )
        expect(busy).toMatchObject({ _tag: "LockUnavailable" })
      }
    })
  )

  it.scoped(
    "a connection of a client of yours that closes meanwhile is nobody's unhandled rejection",
    () =>
      quietly(
        Effect.gen(function* () {
          const cluster = yield* TestCluster
          const unhandled = yield* unhandledErrors
          const { addresses, natMap, proxies } = yield* RedisCluster.throughProxies(cluster)
          const client = yield* clientOf({ ...cluster, addresses }, { ...soon, natMap })
          const { use } = yield* storeOf(RedisLockStore.layerFromClient(client))
          const key = "asking"
          const to = yield* cluster.otherThan(key)
          const move = yield* cluster.beginMove(key, to)
          const proxy = proxies[cluster.masters.indexOf(to)]!
          proxy.holdReplies()
          yield* Effect.fork(Effect.scoped(Effect.zipRight(use(Lock.acquire(key)), Effect.never)))
          // (ASKING, and the command behind it)
          yield* proxy.heldReplies
          proxy.cutAll()
          proxy.heal()
          yield* finish(move)
          expect(unhandled).toEqual([])
        })
      )
  )

  it.scoped("the documented ACL allows what is sent while a slot is on its way", () =>
    Effect.gen(function* () {
      const cluster = yield* TestCluster
      const page = readFileSync(new URL("../../docs/protocol.md", import.meta.url), "utf8")
      const [line] = page.match(/^ACL SETUSER .*$/m)!
      const more = page.match(/^- A Cluster also needs .*$/m)![0].match(/\+[\w|]+/g)!
      for (const { command } of cluster.masters) {
        yield* command("ACL", ...line.split(" ").slice(1), ...more, "+client|setinfo").pipe(
          Effect.catchAllCause(() => command("ACL", ...line.split(" ").slice(1), ...more))
        )
      }
      const { use } = yield* storeOf(
        RedisLockStore.layerCluster({
          nodes: cluster.addresses,
          prefix: "locks:",
          redis: { username: "locks", password: "secret" }
        })
      )
      const [key] = keysFor({ count: 1 })
      const stored = `locks:${key}`
      const lease = yield* Lock.acquire(key!, { ttl, renewEvery: 200 }).pipe(use)
      const move = yield* begin(cluster, [stored], "the key itself gone ahead")
      yield* shorten(move, stored, false)
      yield* RedisServer.eventually(
        Effect.map(left(move, stored, false), (millis) => millis > 50_000)
      )
      yield* lease.verify
      yield* lease.release
      yield* finish(move)
    })
  )

  it.scoped("somebody else's token is not renewed, not removed, and told of", () =>
    quietly(
      Effect.gen(function* () {
        const cluster = yield* TestCluster
        const { use } = yield* storeOn(cluster)
        for (const several of [false, true]) {
          const keys = keysFor({ count: 1 })
          const [key] = keys
          const lease = yield* several
            ? Semaphore.acquire(key!, { ttl, limit: 2 }).pipe(use)
            : Lock.acquire(key!, { ttl }).pipe(use)
          const move = yield* begin(cluster, keys, "the key itself gone ahead")
          yield* move.command("DEL", key!)
          const gone = yield* Effect.flip(lease.verify)
          expect(gone).toMatchObject({ _tag: "LockLost", reason: "Missing" })
          const other = yield* several
            ? Semaphore.acquire(keysFor({ count: 1 })[0]!, { ttl, limit: 2 }).pipe(use)
            : Effect.succeed(lease)
          yield* other.isHeld
          yield* finish(move)
        }
        const keys = keysFor({ count: 1 })
        const [key] = keys
        const lease = yield* Lock.acquire(key!, { ttl }).pipe(use)
        const move = yield* begin(cluster, keys)
        yield* move.command("SET", key!, "go", "PX", 60_000)
        expect(yield* Effect.flip(lease.release)).toMatchObject({
          _tag: "LockLost",
          reason: "Taken"
        })
        expect(yield* move.command("GET", key!)).toBe("go")
        yield* finish(move)
      })
    )
  )
})
