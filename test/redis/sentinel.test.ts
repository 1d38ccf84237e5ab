/** Behind Sentinels: what each kind of lock is for works there. (Failovers: `failoverKinds.test.ts`.) */
import { expect, layer } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import {
  Lock,
  type LockStore,
  MultiLock,
  ReadWriteLock,
  RedisLockStore,
  Semaphore
} from "effect-redis-lock"
import { Redis } from "ioredis"
import { awaitQueued, strict } from "../support/Queue.js"
import * as RedisSentinel from "../support/RedisSentinel.js"
import { freshKeys } from "../support/several.js"
import { freshKey } from "../support/stores.js"
import { type Environment, leftovers, RedisServer, storeOf } from "./support.js"

const ttl = "1 minute"

class Group extends Context.Tag("test/sentinel/Group")<Group, RedisSentinel.RedisSentinel>() {}

/**
 * A store with a client of its own, and one on a client of the user's. (A reader that comes while one of
 * its process is in would share with it for some milliseconds, and not wait behind the writer.)
 */
const twoStores = Effect.gen(function* () {
  const { addresses, name } = yield* Group
  const sentinels = [...addresses]
  const client = yield* Effect.acquireRelease(
    Effect.async<Redis>((resume) => {
      const client = new Redis({ sentinels, name })
      client.on("error", () => {})
      client.once("ready", () => resume(Effect.succeed(client)))
    }),
    (client) => Effect.sync(() => client.disconnect())
  )
  return [
    yield* storeOf(RedisLockStore.layer({ redis: { sentinels, name }, ...strict })),
    yield* storeOf(RedisLockStore.layerFromClient(client, strict))
  ] as const
})

type Use = Pick<Environment, "use">
type Job = (a: Use, b: Use, master: RedisServer.RedisProcess) => Effect.Effect<void, unknown>

const isUnavailable = <A, E>(attempt: Effect.Effect<A, E, LockStore.LockStore>, { use }: Use) =>
  Effect.map(Effect.flip(attempt).pipe(use), (error) =>
    expect(error).toMatchObject({ _tag: "LockUnavailable" })
  )

/** Holders who tell that they are in, and stay until they are told to leave. */
const visitors = (count: number) =>
  Effect.map(Effect.all([Deferred.make<void>(), Deferred.make<void>()]), ([allIn, left]) => {
    let inside = 0
    return {
      allIn: Deferred.await(allIn),
      leave: Deferred.succeed(left, undefined),
      stay: Effect.suspend(() =>
        ++inside === count ? Deferred.succeed(allIn, undefined) : Effect.void
      ).pipe(Effect.zipRight(Deferred.await(left)))
    }
  })

const jobs: Readonly<Record<string, Job>> = {
  "a semaphore: as many as fit, and the next when one leaves": (a, b, master) =>
    Effect.gen(function* () {
      const key = freshKey()
      const options = { ttl, limit: 2 } as const
      const { allIn, leave, stay } = yield* visitors(2)
      const first = yield* Effect.forEach([a, b], ({ use }) =>
        Effect.fork(Semaphore.withPermits(key, options)(stay).pipe(use))
      )
      yield* allIn
      yield* isUnavailable(Effect.scoped(Semaphore.tryAcquire(key, options)), b)
      const next = yield* Effect.fork(Semaphore.withPermits(key, options)(Effect.void).pipe(a.use))
      yield* awaitQueued(master, key, 1)
      yield* leave
      yield* Fiber.joinAll([...first, next])
    }),

  "a read-write lock: readers share, a writer is alone, and a downgrade lets readers in": (
    a,
    b,
    master
  ) =>
    Effect.gen(function* () {
      const key = freshKey()
      const { allIn, leave, stay } = yield* visitors(2)
      const readers = yield* Effect.forEach([a, b], ({ use }) =>
        Effect.fork(ReadWriteLock.withReadLock(key, { ttl })(stay).pipe(use))
      )
      yield* allIn
      yield* isUnavailable(Effect.scoped(ReadWriteLock.tryWriteLock(key, { ttl })), b)
      const late = yield* Deferred.make<number>()
      const writer = yield* Effect.fork(
        ReadWriteLock.withWriteLock(key, { ttl })((lease) =>
          Effect.gen(function* () {
            yield* isUnavailable(Effect.scoped(ReadWriteLock.tryReadLock(key)), a)
            yield* lease.downgrade
            // it comes in while this one is still here
            expect(yield* Deferred.await(late)).toBeGreaterThan(lease.fencingToken)
          })
        ).pipe(b.use)
      )
      yield* awaitQueued(master, key, 1)
      const reader = yield* Effect.fork(
        ReadWriteLock.withReadLock(key, { ttl })(({ fencingToken }) =>
          Effect.asVoid(Deferred.succeed(late, fencingToken))
        ).pipe(a.use)
      )
      yield* awaitQueued(master, key, 2)
      yield* leave
      yield* Fiber.joinAll([...readers, writer, reader])
    }),

  "several locks: all or none, renewed together, and the next has all of them": (a, b, master) =>
    Effect.gen(function* () {
      const keys = freshKeys(3)
      const lease = yield* MultiLock.acquire(keys, { ttl: 20_000, renewEvery: 100 }).pipe(a.use)
      for (const key of keys) {
        yield* isUnavailable(Effect.scoped(Lock.tryAcquire(key)), b)
        yield* master.command("PEXPIRE", key, 10_000)
        yield* RedisServer.eventually(
          Effect.map(master.command("PTTL", key), (left) => Number(left) > 15_000)
        )
      }
      const next = yield* Effect.fork(
        MultiLock.withLocks([...keys].reverse(), { ttl })(({ fencingToken }) =>
          Effect.succeed(keys.map(fencingToken))
        ).pipe(b.use)
      )
      yield* awaitQueued(master, keys[0]!, 1)
      yield* lease.verify
      yield* lease.release
      const tokens = yield* Fiber.join(next)
      for (const [index, key] of keys.entries()) {
        expect(tokens[index]).toBeGreaterThan(lease.fencingToken(key))
      }
    }).pipe(Effect.scoped)
}

/** Does it on the master of now, and nothing is left there. */
const done = (job: Job, [a, b]: readonly [Use, Use]) =>
  Effect.gen(function* () {
    const { master } = yield* Group
    const server = yield* master
    yield* job(a, b, server)
    yield* RedisServer.eventually(Effect.map(leftovers(server), (keys) => keys.length === 0))
  })

layer(Layer.scoped(Group, RedisSentinel.make()), {
  excludeTestServices: true,
  timeout: "30 seconds"
})("behind a Sentinel", (it) => {
  for (const [name, job] of Object.entries(jobs)) {
    it.scoped(name, () => Effect.flatMap(twoStores, (stores) => done(job, stores)))
  }
})
