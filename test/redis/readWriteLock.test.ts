/** Read-write locks in Redis: readers and writers over several processes' stores. */
import { expect, layer } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Scope from "effect/Scope"
import { type Lease, type LockStore, ReadWriteLock } from "effect-redis-lock"
import { readWrite as scripts } from "../../src/internal/redis/semaphoreScripts.js"
import { lockKeys, revokedKey } from "../../src/internal/redis/layout.js"
import {
  awaitQueued,
  environments,
  idle,
  keysOf,
  strangeToken,
  strict,
  subscribed
} from "../support/Queue.js"
import { ask, freshKey } from "../support/stores.js"
import {
  type Environment,
  leftovers,
  nothingLeft,
  quietly,
  RedisServer,
  sent,
  touching
} from "./support.js"

const soon = <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.timeout(effect, "20 seconds")

/** Readers share for as long as a test takes: what ends the sharing is then something else. */
const sharing = { localHandoff: "1 minute" } as const

/** Something that is held until told otherwise, by a fiber that nobody else comes from. */
const take = <L extends Lease.Lease>(
  { use }: Pick<Environment, "use">,
  acquire: Effect.Effect<L, unknown, LockStore.LockStore | Scope.Scope>
) =>
  Effect.gen(function* () {
    const scope = yield* Effect.acquireRelease(Scope.make(), (scope) =>
      Scope.close(scope, Exit.void)
    )
    const fiber = yield* acquire.pipe(
      Scope.extend(scope),
      use,
      Effect.interruptible,
      Effect.forkScoped
    )
    return {
      lease: Effect.orDie(soon(Effect.flatten(Fiber.await(fiber)))),
      isIn: () => {
        const exit = fiber.unsafePoll()
        return exit !== null && Exit.isSuccess(exit)
      },
      interrupt: Fiber.interrupt(fiber),
      release: Scope.close(scope, Exit.void)
    }
  })

const read = (
  from: Pick<Environment, "use">,
  key: string,
  options: ReadWriteLock.WaitOptions = {}
) => take(from, ReadWriteLock.readLock(key, { ttl: "1 minute", ...options }))

const write = (
  from: Pick<Environment, "use">,
  key: string,
  options: ReadWriteLock.WaitOptions = {}
) => take(from, ReadWriteLock.writeLock(key, { ttl: "1 minute", ...options }))

const holdersOf = (server: RedisServer.RedisProcess, key: string) =>
  Effect.map(server.command("ZCARD", key), Number)

const holdersKey = (key: string) => (lockKeys("", "", key, true) as ReadonlyArray<string>)[4]!

const inUse = (server: RedisServer.RedisProcess, key: string) =>
  Effect.map(server.command("HGET", holdersKey(key), "in-use"), Number)

/** A script, sent by hand. */
const send = (
  server: RedisServer.RedisProcess,
  script: { readonly lua: string },
  key: string,
  ...args: ReadonlyArray<string | number>
) => {
  const held = lockKeys("", "", key, true) as ReadonlyArray<string>
  const keys = [...held, revokedKey("", "", key)]
  return server.command("EVAL", script.lua, keys.length, ...keys, ...args)
}

const aRead = "rwlock/1 60000 1 1000000 me"
const theWrite = "rwlock/1 60000 1000000 1000000 me"

layer(RedisServer.layer(), { excludeTestServices: true })("a read-write lock in Redis", (it) => {
  it.scoped("has its holders at the key, as a semaphore, and nothing is left", () =>
    Effect.gen(function* () {
      const [a, b] = yield* environments([strict, strict])
      const key = freshKey()
      const one = yield* read(a, key, { owner: "one", ttl: "30 seconds" })
      const first = yield* one.lease
      const two = yield* read(b, key, { owner: "two" })
      const second = yield* two.lease
      expect(yield* a.server.command("ZRANGE", key, 0, -1)).toEqual([first.token, second.token])
      expect(yield* a.server.command("HGET", holdersKey(key), second.token)).toMatch(
        /^\d{16} rwlock\/1 60000 1 1000000 two$/
      )
      // a program without this library is excluded
      expect(yield* a.server.command("SET", key, "foreign", "NX", "PX", 1_000)).toBeNull()
      yield* one.release
      yield* two.release
      const writer = yield* write(a, key)
      yield* writer.lease
      expect(yield* inUse(a.server, key)).toBe(1_000_000)
      yield* writer.release
      yield* idle(a.store)
      yield* nothingLeft(a.server)
    })
  )

  it.scoped("readers of several processes enter together, in one step", () =>
    Effect.gen(function* () {
      const [a, b, c, d] = yield* environments([strict, strict, strict, strict])
      const key = freshKey()
      const writer = yield* write(a, key)
      yield* writer.lease
      const readers = [yield* read(b, key), yield* read(c, key)]
      yield* awaitQueued(a.server, key, 2)
      const next = yield* write(d, key)
      yield* awaitQueued(a.server, key, 3)
      const late = yield* read(b, key)
      yield* awaitQueued(a.server, key, 4)
      yield* subscribed(b)
      yield* subscribed(c)
      yield* writer.release
      for (const { lease } of readers) yield* lease
      expect(yield* holdersOf(a.server, key)).toBe(2)
      expect([next.isIn(), late.isIn()]).toEqual([false, false])
      for (const { release } of readers) yield* release
      const { fencingToken } = yield* next.lease
      expect(late.isIn()).toBe(false)
      yield* next.release
      expect((yield* late.lease).fencingToken).toBeGreaterThan(fencingToken)
    })
  )

  // ---------------------------------------------------------------- sharing

  it.scoped("readers of one process share a tenure: no command, a fencing token each", () =>
    Effect.gen(function* () {
      const [a] = yield* environments([sharing])
      const key = freshKey()
      const readers = [yield* read(a, key)]
      yield* readers[0]!.lease
      const before = sent(a.proxy, key)
      readers.push(yield* read(a, key), yield* read(a, key))
      readers.push(yield* take(a, ReadWriteLock.tryReadLock(key, { ttl: "1 minute" })))
      const leases = yield* Effect.forEach(readers, ({ lease }) => lease)
      expect(new Set(leases.map(({ token }) => token)).size).toBe(1)
      const fences = leases.map(({ fencingToken }) => fencingToken)
      expect(fences).toEqual([...new Set(fences)].sort((a, b) => a - b))
      // its own end is everyone's own; the first one gives nothing back
      for (const index of [0, 2, 3]) yield* readers[index]!.release
      yield* readers[1]!.interrupt
      expect(sent(a.proxy, key)).toBe(before)
      expect(yield* leases[0]!.isHeld).toBe(false)
      expect(yield* leases[1]!.isHeld).toBe(true)
      yield* leases[1]!.verify
      yield* readers[1]!.release
      expect(sent(a.proxy, key)).toBe(before + 2)
      yield* nothingLeft(a.server)
      // and whoever comes then has a greater number
      const writer = yield* write(a, key)
      expect((yield* writer.lease).fencingToken).toBeGreaterThan(Math.max(...fences))
    })
  )

  it.scoped("who comes while the last one leaves does not share what is given back", () =>
    Effect.gen(function* () {
      const [a, b] = yield* environments([sharing, sharing])
      const key = freshKey()
      const first = yield* read(a, key)
      const { token } = yield* first.lease
      a.proxy.holdReplies()
      const leaving = yield* Effect.fork(first.release)
      yield* a.proxy.heldReplies
      const second = yield* read(a, key)
      yield* Effect.sleep(20)
      expect(second.isIn()).toBe(false)
      a.proxy.releaseReplies()
      yield* Fiber.join(leaving)
      const lease = yield* second.lease
      expect(lease.token).not.toBe(token)
      yield* lease.verify
      expect(
        yield* Effect.exit(Effect.scoped(ReadWriteLock.tryWriteLock(key)).pipe(b.use))
      ).toSatisfy(Exit.isFailure)
    })
  )

  it.scoped("a crowd of one process asks once, and not for each", () =>
    Effect.gen(function* () {
      const [a] = yield* environments([sharing])
      const key = freshKey()
      a.proxy.holdReplies()
      const readers = yield* Effect.forEach(Array.from({ length: 100 }), () => read(a, key))
      yield* a.proxy.heldReplies
      a.proxy.releaseReplies()
      yield* Effect.forEach(readers, ({ lease }) => lease)
      expect(sent(a.proxy, key)).toBe(1)
      expect(yield* holdersOf(a.server, key)).toBe(1)
    })
  )

  it.scoped("a writer that waits here ends the sharing at once", () =>
    Effect.gen(function* () {
      const [a] = yield* environments([sharing])
      const key = freshKey()
      const first = yield* read(a, key)
      yield* first.lease
      const writer = yield* write(a, key)
      const late = yield* read(a, key)
      yield* awaitQueued(a.server, key, 1)
      expect([writer.isIn(), late.isIn()]).toEqual([false, false])
      yield* first.release
      yield* writer.lease
      expect(late.isIn()).toBe(false)
      yield* writer.release
      yield* late.lease
    })
  )

  it.scoped("a writer that waits elsewhere ends it when localHandoff is over", () =>
    Effect.gen(function* () {
      const [a, b] = yield* environments([{ localHandoff: "100 millis" }, strict])
      const key = freshKey()
      const first = yield* read(a, key)
      yield* first.lease
      const writer = yield* write(b, key)
      yield* awaitQueued(a.server, key, 1)
      yield* Effect.sleep(101)
      // it asks, and stands behind the writer
      const late = yield* read(a, key)
      yield* awaitQueued(a.server, key, 2)
      expect(late.isIn()).toBe(false)
      yield* first.release
      yield* writer.lease
      yield* writer.release
      yield* late.lease
    })
  )

  it.scoped("without localHandoff every reader has its own entry", () =>
    Effect.gen(function* () {
      const [a] = yield* environments([strict])
      const key = freshKey()
      const readers = [yield* read(a, key), yield* read(a, key)]
      for (const { lease } of readers) yield* lease
      expect(yield* holdersOf(a.server, key)).toBe(2)
    })
  )

  it.scoped("one renewal, for the longest ttl, proves for all", () =>
    Effect.gen(function* () {
      const [a] = yield* environments([sharing])
      const key = freshKey()
      const many = yield* Effect.forEach(Array.from({ length: 20 }), () =>
        read(a, key, { ttl: 4_000, renewEvery: 200 })
      )
      const long = yield* read(a, key, { ttl: 40_000, renewEvery: 20_000 })
      const leases = yield* Effect.forEach(many, ({ lease }) => lease)
      const { token } = yield* long.lease
      expect(leases[0]!.token).toBe(token)
      const renewals = () =>
        a.proxy.commands.filter((args) => touching(key)(args) && args.includes("40000")).length
      yield* RedisServer.eventually(Effect.sync(() => renewals() >= 5))
      const count = renewals()
      // 21 leases were renewed five times
      expect(sent(a.proxy, key)).toBeLessThan(count + 5)
      for (const lease of leases) yield* lease.verify
      const ends = Number(yield* a.server.command("ZSCORE", key, token))
      expect(ends - Date.now()).toBeGreaterThan(20_000)
      // without the long one, they go on by themselves
      yield* long.release
      for (const { release } of many.slice(1)) yield* release
      yield* a.proxy.awaitCommand((args) => touching(key)(args) && args.includes("4000"))
      yield* leases[0]!.verify
    })
  )

  it.scoped("a renewal on its way when one with a longer ttl joins proves what it asked for", () =>
    Effect.gen(function* () {
      const [a] = yield* environments([{ ...sharing, commandTimeout: "30 seconds" }])
      const key = freshKey()
      const shorts = [
        yield* read(a, key, { ttl: 2_000, renewEvery: 200 }),
        yield* read(a, key, { ttl: 2_000, renewEvery: 200 })
      ]
      const [{ token }] = (yield* Effect.forEach(shorts, ({ lease }) => lease)) as [Lease.Lease]
      a.proxy.forget()
      a.proxy.holdReplies()
      yield* a.proxy.awaitReply((args) => touching(key)(args) && args.includes("2000"))
      const long = yield* read(a, key, { ttl: 60_000 })
      const lease = yield* long.lease
      expect(lease.token).toBe(token)
      // until it is due itself, and waits for the same answer
      yield* Effect.sleep(600)
      a.proxy.holdRequests()
      a.proxy.releaseReplies()
      yield* Effect.sleep(50)
      const believedUntil = performance.now() + Duration.toMillis(yield* lease.remaining)
      const left = Number(yield* a.server.command("ZSCORE", key, token)) - Date.now()
      expect(believedUntil).toBeLessThan(performance.now() + left + 10)
      a.proxy.releaseRequests()
      yield* lease.verify
      for (const { release } of [...shorts, long]) yield* release
    })
  )

  it.scoped("the loss of what they share is everyone's", () =>
    Effect.gen(function* () {
      const [a] = yield* environments([sharing])
      const key = freshKey()
      const readers = [yield* read(a, key), yield* read(a, key), yield* read(a, key)]
      const leases = yield* Effect.forEach(readers, ({ lease }) => lease)
      yield* readers[0]!.release
      yield* a.server.command("DEL", key)
      yield* Effect.flip(leases[2]!.verify)
      for (const lease of leases.slice(1)) {
        expect(yield* Effect.flip(soon(lease.awaitLost))).toMatchObject({
          _tag: "LockLost",
          reason: "Missing",
          fencingToken: lease.fencingToken
        })
      }
      yield* Effect.forEach(readers, ({ release }) => quietly(release))
      yield* idle(a.store)
    })
  )

  it.scoped("who is interrupted while it shares gives back its own turn alone", () =>
    Effect.gen(function* () {
      const [a] = yield* environments([sharing])
      const key = freshKey()
      const first = yield* read(a, key)
      const lease = yield* first.lease
      yield* Effect.forEach(
        Array.from({ length: 200 }),
        () =>
          Effect.flatMap(
            Effect.fork(
              Effect.scoped(Effect.zipRight(ReadWriteLock.readLock(key), Effect.yieldNow())).pipe(
                a.use
              )
            ),
            (fiber) => Effect.zipRight(Effect.yieldNow(), Fiber.interrupt(fiber))
          ),
        { concurrency: 10 }
      )
      yield* lease.verify
      yield* first.release
      yield* nothingLeft(a.server)
      yield* idle(a.store)
    })
  )

  // ---------------------------------------------------------------- downgrade

  it.scoped("a downgrade lets other processes' readers in, and their writers not", () =>
    Effect.gen(function* () {
      const [a, b, c] = yield* environments([strict, strict, strict])
      const key = freshKey()
      const writer = yield* write(a, key)
      const lease = yield* writer.lease
      const reader = yield* read(b, key)
      yield* awaitQueued(a.server, key, 1)
      const next = yield* write(c, key)
      yield* awaitQueued(a.server, key, 2)
      yield* lease.downgrade
      yield* reader.lease
      expect(next.isIn()).toBe(false)
      expect(yield* inUse(a.server, key)).toBe(2)
      yield* writer.release
      yield* Effect.sleep(30)
      expect(next.isIn()).toBe(false)
      yield* reader.release
      yield* next.lease
      yield* next.release
      yield* nothingLeft(a.server)
    })
  )

  it.scoped("a downgrade that is not answered: a read from then on, and renewals settle it", () =>
    Effect.gen(function* () {
      const [a, b] = yield* environments([{ localHandoff: 0, commandTimeout: 300 }, strict])
      const key = freshKey()
      const writer = yield* write(a, key, { ttl: 8_000, renewEvery: 1_000 })
      const lease = yield* writer.lease
      // it does not come to the server
      a.proxy.blackHole({ drop: true })
      expect(yield* Effect.flip(lease.downgrade)).toMatchObject({
        _tag: "LockStoreError",
        operation: "reshare",
        transient: true
      })
      expect(yield* inUse(a.server, key)).toBe(1_000_000)
      const reader = yield* read(b, key)
      yield* awaitQueued(a.server, key, 1)
      a.proxy.heal()
      // a renewal carries the share
      yield* reader.lease
      expect(yield* lease.isHeld).toBe(true)
      expect(yield* inUse(a.server, key)).toBe(2)
      // and it can be called again
      yield* lease.downgrade
      expect(yield* inUse(a.server, key)).toBe(2)
      yield* writer.release
      yield* reader.release
      yield* nothingLeft(a.server)
    })
  )

  it.scoped("a downgrade that comes twice, and behind the release, changes nothing more", () =>
    Effect.gen(function* () {
      const [a] = yield* environments([strict])
      const key = freshKey()
      const [token, other] = [strangeToken(), strangeToken()]
      yield* send(a.server, scripts.acquire, key, token, 60_000, theWrite)
      for (let times = 0; times < 2; times++) {
        expect(yield* send(a.server, scripts.reshare, key, token, 60_000, 1)).toBe(1)
        expect(yield* inUse(a.server, key)).toBe(1)
      }
      yield* send(a.server, scripts.acquire, key, other, 60_000, aRead)
      expect(yield* send(a.server, scripts.reshare, key, token, 60_000, 1)).toBe(1)
      // a renewal that was sent before it does not make it more again
      expect(yield* send(a.server, scripts.renew, key, token, 60_000)).toBe(1)
      expect(yield* inUse(a.server, key)).toBe(2)
      expect(yield* send(a.server, scripts.release, key, token)).toBe(1)
      expect(yield* send(a.server, scripts.reshare, key, token, 60_000, 1)).toBe(0)
      expect(yield* inUse(a.server, key)).toBe(1)
      yield* send(a.server, scripts.release, key, other)
      expect(yield* leftovers(a.server)).toEqual([])
    })
  )

  it.scoped("what was downgraded is given back, and passed on to nobody of its process", () =>
    Effect.gen(function* () {
      const [a] = yield* environments([sharing])
      const key = freshKey()
      const writer = yield* write(a, key)
      const lease = yield* writer.lease
      const next = yield* write(a, key)
      yield* lease.downgrade
      yield* writer.release
      expect((yield* next.lease).token).not.toBe(lease.token)
      expect(yield* inUse(a.server, key)).toBe(1_000_000)
      yield* next.release
      yield* nothingLeft(a.server)
    })
  )

  // ---------------------------------------------------------------- many

  it.scoped("a thousand waiting readers of four processes enter, in pieces", () =>
    Effect.gen(function* () {
      const stores = yield* environments([{}, {}, {}, {}, strict, strict])
      const [writers, others] = [stores[4], stores[5]]
      const key = freshKey()
      const writer = yield* write(writers, key)
      yield* writer.lease
      const readers = yield* Effect.forEach(Array.from({ length: 1_000 }), (_, index) =>
        read(stores[index % 4]!, key)
      )
      yield* awaitQueued(writers.server, key, 4 * 32)
      const next = yield* write(others, key)
      yield* awaitQueued(writers.server, key, 4 * 32 + 1)
      yield* writer.release
      // those that have a place; the others come behind the writer
      yield* RedisServer.eventually(
        Effect.sync(() => readers.filter(({ isIn }) => isIn()).length >= 4 * 32)
      )
      expect(next.isIn()).toBe(false)
      yield* Effect.forEach(
        readers.filter(({ isIn }) => isIn()),
        ({ release }) => release,
        { concurrency: "unbounded" }
      )
      yield* next.lease
      yield* next.release
      yield* Effect.forEach(readers, ({ lease }) => lease)
      yield* Effect.forEach(readers, ({ release }) => release, { concurrency: "unbounded" })
      yield* nothingLeft(writers.server)
    })
  )

  it.scoped("where those whose turn it is to go on have died, the next heartbeat goes on", () =>
    Effect.gen(function* () {
      const [a] = yield* environments([strict])
      const key = freshKey()
      const writer = strangeToken()
      yield* send(a.server, scripts.acquire, key, writer, 60_000, theWrite)
      // more than are served in one call; and none of them will ever ask
      for (let count = 0; count < 40; count++) {
        yield* send(a.server, scripts.acquire, key, strangeToken(), 60_000, aRead, 3_000, 3_000)
      }
      const last = yield* read(a, key)
      yield* awaitQueued(a.server, key, 41)
      yield* send(a.server, scripts.release, key, writer)
      // (the heartbeat may come at once)
      expect(yield* holdersOf(a.server, key)).toBeGreaterThanOrEqual(32)
      yield* last.lease
    })
  )

  it.scoped("a grant that nobody waits for is given back", () =>
    Effect.gen(function* () {
      const [a, b] = yield* environments([strict, strict])
      const key = freshKey()
      const { token } = yield* ask(freshKey()).pipe(a.use)
      const writer = yield* write(b, key)
      yield* writer.lease
      // a place of this store that it knows nothing of, as a dead connection leaves one behind
      const stray = `${token.split(".")[0]!}.${"0".repeat(22)}`
      yield* send(a.server, scripts.acquire, key, stray, 60_000, aRead, 3_000, 3_000)
      const next = yield* write(a, key)
      yield* subscribed(a)
      yield* writer.release
      yield* next.lease
      yield* next.release
      yield* RedisServer.eventually(Effect.map(holdersOf(a.server, key), (count) => count === 0))
    })
  )

  it.scoped("two kinds that are queued for do not mix: each enters when the other has left", () =>
    Effect.gen(function* () {
      const [a] = yield* environments([strict])
      const key = freshKey()
      const grant = yield* ask(key, { kind: "semaphore", limit: 3 }).pipe(a.use)
      expect(
        yield* Effect.flip(ask(key, { kind: "readWriteLock", limit: 1_000_000 }).pipe(a.use))
      ).toMatchObject({
        _tag: "LockStoreError",
        message: expect.stringMatching(/held as a semaphore.*as a read-write lock/) as string
      })
      expect(yield* holdersOf(a.server, key)).toBe(1)
      expect(yield* leftovers(a.server)).not.toContain(keysOf(key)[2])
      yield* grant.release
      const other = yield* ask(key, { kind: "readWriteLock", limit: 1_000_000 }).pipe(a.use)
      expect(
        yield* Effect.flip(ask(key, { kind: "semaphore", limit: 3, waitMillis: 5_000 }).pipe(a.use))
      ).toMatchObject({
        message: expect.stringMatching(/held as a read-write lock.*as a semaphore/) as string
      })
      yield* other.release
      yield* nothingLeft(a.server)
    })
  )
})
