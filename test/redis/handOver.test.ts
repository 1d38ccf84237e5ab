/** Handing a lease over on Redis: what comes late, twice, or not at all, and what the server keeps. */
import { expect, layer } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Scope from "effect/Scope"
import { Lock, RedisLockStore, ReadWriteLock, Semaphore } from "effect-redis-lock"
import { lockKeys, revokedKey } from "../../src/internal/redis/layout.js"
import * as locks from "../../src/internal/redis/scripts.js"
import * as semaphores from "../../src/internal/redis/semaphoreScripts.js"
import {
  awaitQueued,
  caller,
  environments,
  idle,
  internals,
  nothing,
  pair,
  queuedCaller,
  queueOf,
  strangeToken,
  strict,
  subscribed
} from "../support/Queue.js"
import {
  collectWarnings,
  connectedClient,
  environment,
  leftovers,
  nothingLeft,
  pttl,
  quietly,
  RedisServer,
  sent,
  storeOf,
  timed
} from "./support.js"

// ---------------------------------------------------------------- helpers

const key = "k"
const ttl = "1 minute"
const long = 60_000

const isOf =
  (...scripts: ReadonlyArray<locks.Script>) =>
  ([, text]: ReadonlyArray<string>): boolean =>
    scripts.some(({ lua, sha }) => text === sha || text === lua)
const renewals = isOf(locks.renew)
const adoptions = isOf(locks.adopt)
const releases = isOf(locks.release)

const holderOf = (server: RedisServer.RedisProcess) => server.command("GET", key)

/** A lease on its way, and the scope of its old holder. */
const handedOver = (use: RedisLockStoreUse, options: Lock.Options = { ttl }) =>
  Effect.gen(function* () {
    const scope = yield* Scope.make()
    const lease = yield* Lock.acquire(key, options).pipe(Scope.extend(scope), use)
    const handle = yield* lease.handOver
    return { lease, handle, scope }
  })
type RedisLockStoreUse = Effect.Effect.Success<ReturnType<typeof environment>>["use"]

// ---------------------------------------------------------------- what it costs, and who is next

layer(RedisServer.layer(), { excludeTestServices: true })("a lease that is handed over", (it) => {
  it.scoped("costs one command here and one there, and nobody is in between", () =>
    Effect.gen(function* () {
      const [a, b, c] = yield* environments([strict, strict, strict])
      const lease = yield* Lock.acquire(key, { ttl: 2_000 }).pipe(a.use)
      const waiting = yield* queuedCaller(c, key, 0, { ttl })
      yield* subscribed(c)
      yield* Effect.sleep(200)
      a.proxy.forget()
      const handle = yield* lease.handOver
      // to its full ttl
      expect(yield* pttl(a.server, key)).toBeGreaterThan(1_900)
      expect(sent(a.proxy, key)).toBe(1)
      expect(yield* holderOf(a.server)).toBe(lease.token)
      b.proxy.forget()
      const adopted = yield* Lock.adopt(handle, { ttl }).pipe(b.use)
      expect(sent(b.proxy, key)).toBe(1)
      expect(yield* holderOf(a.server)).toBe(adopted.token)
      expect(yield* pttl(a.server, key)).toBeGreaterThan(55_000)
      expect(waiting.state()).toBe("waiting")
      expect(internals(a.store).size()).toEqual(nothing)
      yield* adopted.release
      const next = yield* waiting.lease
      expect(next.fencingToken).toBeGreaterThan(adopted.fencingToken)
      expect(sent(a.proxy, key)).toBe(1)
    })
  )

  it.scoped("leaves those behind it in its process with a place in the queue", () =>
    quietly(
      Effect.gen(function* () {
        const [a, b] = yield* environments([{}, {}])
        const lease = yield* Lock.acquire(key, { ttl }).pipe(a.use)
        const behind = yield* caller(a.use, key, { ttl })
        yield* Effect.sleep(20)
        expect(yield* queueOf(a.server, key)).toEqual([])
        const handle = yield* lease.handOver
        yield* awaitQueued(a.server, key, 1)
        const adopted = yield* Lock.adopt(handle).pipe(b.use)
        expect(behind.state()).toBe("waiting")
        yield* adopted.release
        yield* behind.lease
      })
    )
  )

  it.scoped("is not given back by the layer that closes, which has nothing to warn of", () =>
    collectWarnings((warnings) =>
      Effect.gen(function* () {
        const [a, b] = yield* pair()
        const { handle, scope } = yield* handedOver(a.use)
        yield* Scope.close(scope, Exit.void)
        yield* a.close
        expect(warnings).toEqual([])
        yield* Effect.flatMap(Lock.adopt(handle).pipe(b.use), ({ verify }) => verify)
      })
    )
  )

  it.scoped("that nobody adopts ends by its ttl, and leaves nothing", () =>
    Effect.gen(function* () {
      const { server, use } = yield* environment()
      yield* handedOver(use, { ttl: 600 })
      yield* nothingLeft(server)
    })
  )

  it.scoped(
    "may have been stolen or deleted meanwhile, or freed by force: that is what is said",
    () =>
      quietly(
        Effect.gen(function* () {
          const [a, b] = yield* pair()
          for (const [reason, theft] of [
            ["Taken", a.server.command("SET", key, "thief", "PX", long)],
            ["Missing", a.server.command("DEL", key)]
          ] as const) {
            const { handle } = yield* handedOver(a.use)
            yield* theft
            expect(yield* Effect.flip(Lock.adopt(handle).pipe(b.use))).toMatchObject({
              _tag: "LockLost",
              reason
            })
            yield* a.server.command("DEL", key)
          }
          const { handle, lease } = yield* handedOver(a.use)
          expect(yield* Lock.forceRelease(key, lease.fencingToken).pipe(b.use)).toBe(true)
          const other = yield* Lock.acquire(key, { ttl }).pipe(b.use)
          expect(yield* Effect.flip(Lock.adopt(handle).pipe(b.use))).toMatchObject({
            _tag: "LockLost",
            reason: "Revoked",
            fencingToken: lease.fencingToken
          })
          yield* other.verify
          yield* other.release
          yield* idle(b.store)
        })
      )
  )

  it.scoped(
    "of another database or prefix is refused in words; how a prefix is divided is not",
    () =>
      Effect.gen(function* () {
        const a = yield* environment({ prefix: "locks:" })
        const { handle } = yield* handedOver(a.use)
        const { url } = a.server
        for (const [options, named] of [
          [{ url }, 'prefix ""'],
          [{ url, prefix: "other:" }, 'prefix "other:"'],
          [{ url: `${url}/3`, prefix: "locks:" }, "database 3"]
        ] as const) {
          const { use } = yield* storeOf(RedisLockStore.layer(options))
          const error = yield* Effect.flip(Lock.adopt(handle).pipe(use))
          expect(error).toMatchObject({ _tag: "LockStoreError", operation: "adopt", key })
          expect(error.message).toContain(named)
          expect(error.message).toContain('database 0, prefix "locks:"')
        }
        const client = yield* connectedClient(a.server.port, { keyPrefix: "lo" })
        const divided = yield* storeOf(RedisLockStore.layerFromClient(client, { prefix: "cks:" }))
        yield* Effect.flatMap(Lock.adopt(handle).pipe(divided.use), ({ verify }) => verify)
      })
  )
})

// ---------------------------------------------------------------- late, twice, or not at all

layer(RedisServer.layer(), { excludeTestServices: true })("what is not answered", (it) => {
  it.scoped("an adoption whose answer is lost is sent again, and is the same lease", () =>
    Effect.gen(function* () {
      const [a, b] = yield* pair()
      // (the script is there: an answer NOSCRIPT would not be the one that is lost)
      const warm = yield* handedOver(a.use)
      yield* Effect.scoped(Lock.adopt(warm.handle)).pipe(b.use)
      const { handle } = yield* handedOver(a.use)
      const lost = b.proxy.resetAfterApply(adoptions)
      b.proxy.forget()
      const adopted = yield* Lock.adopt(handle, { ttl }).pipe(b.use)
      yield* lost.fired
      expect(b.proxy.commands.filter(adoptions).length).toBeGreaterThanOrEqual(2)
      expect(yield* holderOf(a.server)).toBe(adopted.token)
      expect(yield* a.server.command("GET", lockKeys("", "", key)[1]!)).toContain(
        String(adopted.fencingToken)
      )
      yield* adopted.verify
    })
  )

  it.scoped("a handover whose answer is lost is sent again", () =>
    Effect.gen(function* () {
      const [a, b] = yield* pair()
      const lease = yield* Lock.acquire(key, { ttl, renewEvery: 100 }).pipe(a.use)
      yield* a.proxy.awaitReply(renewals)
      const lost = a.proxy.resetAfterApply(renewals)
      const handle = yield* lease.handOver
      yield* lost.fired
      yield* Effect.flatMap(Lock.adopt(handle).pipe(b.use), ({ verify }) => verify)
    })
  )

  it.scoped("a handover that is not answered fails, and the lease goes on as it was", () =>
    quietly(
      Effect.gen(function* () {
        const a = yield* environment({ commandTimeout: 300 })
        const scope = yield* Scope.make()
        const lease = yield* Lock.acquire(key, { ttl: 8_000 }).pipe(Scope.extend(scope), a.use)
        // the whole server is stopped
        yield* a.server.stop
        const { exit, millis } = yield* timed(Effect.flip(lease.handOver))
        expect(exit).toMatchObject({
          _tag: "Success",
          value: { _tag: "LockStoreError", operation: "handOver", key, transient: true }
        })
        expect(millis).toBeLessThan(2_000)
        expect(yield* lease.isHeld).toBe(true)
        yield* a.server.cont
        yield* lease.guard(RedisServer.eventually(Effect.isSuccess(lease.verify)))
        yield* Scope.close(scope, Exit.void)
        yield* nothingLeft(a.server)
      })
    )
  )

  it.scoped("an adoption that is not answered fails, and what comes of it late is given back", () =>
    quietly(
      Effect.gen(function* () {
        const [a, b] = yield* environments([strict, { ...strict, commandTimeout: 300 }])
        const { handle } = yield* handedOver(a.use)
        yield* Lock.withLock("warm")(Effect.void).pipe(b.use)
        b.proxy.holdRequests({ afterClose: "deliver" })
        const error = yield* Effect.flip(Lock.adopt(handle, { ttl }).pipe(b.use))
        expect(error).toMatchObject({
          _tag: "LockStoreError",
          operation: "adopt",
          key,
          transient: true
        })
        expect(yield* holderOf(a.server)).not.toBeNull()
        b.proxy.releaseRequests()
        // applied in the end, and released behind that
        yield* nothingLeft(a.server)
        yield* idle(b.store)
      })
    )
  )

  it.scoped("an interrupted adoption leaves nothing behind but what nobody has adopted", () =>
    quietly(
      Effect.gen(function* () {
        const [a, b] = yield* pair()
        const { handle } = yield* handedOver(a.use)
        yield* Lock.withLock("warm")(Effect.void).pipe(b.use)
        b.proxy.holdReplies()
        const adopting = yield* Effect.fork(Effect.scoped(Lock.adopt(handle, { ttl })).pipe(b.use))
        yield* b.proxy.awaitReply(adoptions)
        yield* Fiber.interrupt(adopting)
        b.proxy.releaseReplies()
        yield* nothingLeft(a.server)
        yield* idle(b.store)
      })
    )
  )

  it.scoped("what the old process still sends does nothing to the adopter", () =>
    quietly(
      Effect.gen(function* () {
        const [a, b] = yield* pair()
        const lease = yield* Lock.acquire(key, { ttl, renewEvery: 100 }).pipe(a.use)
        yield* a.proxy.awaitReply(renewals)
        // a renewal is on its way; the handover goes out on another connection, and is answered
        const [first] = a.proxy.connections.map(({ id }) => id)
        a.proxy.forget()
        a.proxy.holdRequests({ where: ({ id }) => id === first, afterClose: "deliver" })
        yield* a.proxy.awaitCommand(renewals)
        const handle = yield* lease.handOver
        const adopted = yield* Lock.adopt(handle, { ttl: 5_000 }).pipe(b.use)
        a.proxy.releaseRequests()
        yield* Effect.sleep(200)
        expect(yield* holderOf(a.server)).toBe(adopted.token)
        expect(yield* pttl(a.server, key)).toBeLessThanOrEqual(5_000)
        yield* adopted.verify
      })
    )
  )

  it.scoped("a message about the old token, true once or never, gives nothing back", () =>
    Effect.gen(function* () {
      const [a, b] = yield* pair()
      const holder = yield* caller(b.use, key, { ttl })
      yield* holder.lease
      const waiting = yield* queuedCaller(a, key, 0, { ttl })
      yield* subscribed(a)
      // its grant comes by an answer, and the message of it late
      a.proxy.holdMessages()
      yield* holder.release
      const lease = yield* waiting.lease
      const handle = yield* lease.handOver
      a.proxy.forget()
      a.proxy.releaseMessages()
      const channel = internals(a.store).storeId
      for (const text of ["0 0", `${lease.fencingToken} 3000`, `${lease.fencingToken + 9} 3000`]) {
        yield* a.server.command("PUBLISH", channel, `${lease.token} ${text} ${key}`)
      }
      yield* Effect.sleep(200)
      expect(a.proxy.commands.filter(releases)).toEqual([])
      expect(yield* holderOf(a.server)).toBe(lease.token)
      yield* Effect.flatMap(Lock.adopt(handle).pipe(b.use), ({ verify }) => verify)
    })
  )

  it.scoped("a question about the token that is on its way is waited for", () =>
    quietly(
      Effect.gen(function* () {
        const [a, b] = yield* environments([{ ...strict, commandTimeout: 500 }, strict])
        const first = yield* caller(b.use, key, { ttl })
        yield* first.lease
        const second = yield* queuedCaller(a, key, 0, { ttl })
        yield* subscribed(a)
        yield* first.release
        yield* second.lease
        const holder = yield* caller(b.use, key, { ttl })
        yield* second.release
        yield* holder.lease
        // its question is not answered, and the message of its grant comes
        a.proxy.holdReplies({ where: ({ subscriber }) => !subscriber })
        a.proxy.forget()
        const waiting = yield* caller(a.use, key, { ttl })
        yield* awaitQueued(a.server, key, 1)
        yield* holder.release
        const lease = yield* waiting.lease
        const handing = yield* Effect.fork(Effect.flip(lease.handOver))
        yield* Effect.sleep(100)
        expect(a.proxy.commands.filter(renewals)).toEqual([])
        expect(yield* Fiber.join(handing)).toMatchObject({
          _tag: "LockStoreError",
          operation: "handOver",
          transient: true
        })
        expect(yield* lease.isHeld).toBe(true)
        a.proxy.releaseReplies()
        const handle = yield* Effect.retry(lease.handOver, { times: 3 })
        yield* Effect.flatMap(Lock.adopt(handle).pipe(b.use), ({ verify }) => verify)
      })
    )
  )
})

// ---------------------------------------------------------------- several holders

layer(RedisServer.layer(), { excludeTestServices: true })("among several", (it) => {
  it.scoped("a read that others of the process share is not handed over; alone it is", () =>
    Effect.gen(function* () {
      const [a, b] = yield* environments([{ localHandoff: "10 seconds" }, {}])
      const readers = yield* Effect.all([
        ReadWriteLock.readLock(key, { ttl }),
        ReadWriteLock.readLock(key, { ttl })
      ]).pipe(a.use)
      const [one, two] = readers
      expect(one.token).toBe(two.token)
      for (const lease of readers) {
        expect(yield* Effect.flip(lease.handOver)).toMatchObject({
          _tag: "LockStoreError",
          operation: "handOver",
          transient: false,
          detail: expect.stringContaining("Other readers") as string
        })
      }
      yield* two.release
      const handing = yield* Effect.fork(one.handOver)
      yield* Effect.yieldNow()
      // nobody joins what is about to leave
      const later = yield* ReadWriteLock.readLock(key, { ttl }).pipe(a.use)
      expect(later.token).not.toBe(one.token)
      const adopted = yield* ReadWriteLock.adoptRead(yield* Fiber.join(handing)).pipe(b.use)
      yield* adopted.verify
      yield* later.verify
      expect(yield* Semaphore.inUse(key).pipe(b.use)).toBe(2)
    })
  )
})

// ---------------------------------------------------------------- the script

layer(RedisServer.layer(), { excludeTestServices: true })("the script", (it) => {
  const [ours, theirs, theNew, newer] = [
    strangeToken(),
    strangeToken(),
    strangeToken(),
    strangeToken()
  ]
  const several = lockKeys("", "", key, true) as ReadonlyArray<string>
  const four = several.slice(0, 4)
  const marks = revokedKey("", "", key)
  const kinds = {
    lock: { scripts: locks, keys: four, claim: `lock/1 ${long} me` },
    semaphore: { scripts: semaphores, keys: several, claim: `semaphore/1 ${long} 1 2 me` },
    "read-write lock": {
      scripts: semaphores.readWrite,
      keys: several,
      claim: `rwlock/1 ${long} 1 1000000 me`
    }
  }
  const fence = (reply: unknown) => Number(String(reply).split(":")[0])

  for (const [name, { claim, keys, scripts }] of Object.entries(kinds)) {
    const on = (
      server: RedisServer.RedisProcess,
      script: locks.Script,
      ...args: ReadonlyArray<string | number>
    ) => server.command("EVAL", script.lua, keys.length + 1, ...keys, marks, ...args)
    const stateOf = (server: RedisServer.RedisProcess) =>
      Effect.forEach(several, (each) => server.command("DUMP", each))

    it.scoped(`sent twice does what it did once, and late nothing: ${name}`, () =>
      Effect.gen(function* () {
        const server = yield* RedisServer.RedisServer
        yield* server.flush
        const before = fence(yield* on(server, scripts.acquire, ours, long, claim))
        yield* on(server, scripts.acquire, theirs, long, claim, 3_000, 3_000)
        const adopt = (token: string, from: string) =>
          on(server, scripts.adopt, token, long, claim, from)
        const first = fence(yield* adopt(theNew, ours))
        expect(first).toBeGreaterThan(before)
        const queued = yield* server.command("ZRANGE", keys[2]!, 0, -1)
        expect(fence(yield* adopt(theNew, ours))).toBe(first)
        expect(yield* server.command("ZRANGE", keys[2]!, 0, -1)).toEqual(queued)
        // another one who has the same handle, and what the old holder asks
        const once = yield* stateOf(server)
        expect([0, 2]).toContain(yield* adopt(newer, ours))
        expect([0, 2]).toContain(yield* on(server, scripts.release, ours))
        expect(yield* stateOf(server)).toEqual(once)
        expect(yield* on(server, scripts.release, theNew)).toBe(1)
        // the copy comes when all is over
        const over = yield* stateOf(server)
        expect([0, 2]).toContain(yield* adopt(theNew, ours))
        expect(yield* stateOf(server)).toEqual(over)
      })
    )
  }

  it.scoped("takes what the entry says, and leaves what stands beside the key as it must be", () =>
    Effect.gen(function* () {
      const server = yield* RedisServer.RedisServer
      yield* server.flush
      const on = (script: locks.Script, ...args: ReadonlyArray<string | number>) =>
        server.command("EVAL", script.lua, 7, ...several, marks, ...args)
      const claim = (share: number) => `semaphore/1 ${long} ${share} 5 me`
      const [held, , , , holders, index] = several as [
        string,
        string,
        string,
        string,
        string,
        string
      ]
      for (const beside of [[], [theirs]]) {
        yield* server.flush
        for (const token of beside) yield* on(semaphores.acquire, token, long, claim(1))
        yield* on(semaphores.acquire, ours, long, claim(2))
        // (whoever sends it cannot ask for more)
        const granted = fence(yield* on(semaphores.adopt, theNew, long, claim(4), ours))
        expect(yield* server.command("HGET", holders, "in-use")).toBe(String(2 + beside.length))
        expect(yield* server.command("HGET", holders, theNew)).toBe(`${granted} ${claim(2)}`)
        expect(yield* server.command("HEXISTS", holders, ours)).toBe(0)
        expect(yield* server.command("ZRANGE", held, 0, -1)).toEqual(
          expect.arrayContaining([...beside, theNew])
        )
        const entries = String(yield* server.command("ZRANGE", index, 0, -1))
        expect(entries).not.toContain(ours)
        for (const each of [held, holders]) {
          expect(yield* pttl(server, each)).toBeGreaterThan(long - 5_000)
        }
        for (const token of [...beside, theNew]) {
          expect(yield* on(semaphores.release, token)).toBe(1)
        }
        expect(yield* leftovers(server)).toEqual([])
      }
      // the key lives as long as the last of those who hold it
      yield* on(semaphores.acquire, theirs, 10_000, claim(1))
      yield* on(semaphores.acquire, ours, long, claim(2))
      yield* on(semaphores.adopt, theNew, 5_000, claim(2), ours)
      for (const each of [held, holders]) {
        expect(yield* pttl(server, each)).toBeLessThanOrEqual(10_000)
      }
    })
  )

  it.scoped("leaves a record of a later version alone, and the holder with what it has", () =>
    Effect.gen(function* () {
      const [a, b] = yield* pair()
      const { handle, lease } = yield* handedOver(a.use)
      const record = four[1]!
      yield* a.server.command("SET", record, "1795342290893419 lock/2 what comes")
      const error = yield* Effect.flip(Lock.adopt(handle).pipe(b.use))
      expect(error).toMatchObject({ _tag: "LockStoreError", operation: "adopt" })
      expect(error.message).toContain("lock/2")
      expect(yield* holderOf(a.server)).toBe(lease.token)
      expect(yield* a.server.command("GET", record)).toBe("1795342290893419 lock/2 what comes")
    })
  )

  it.scoped("the proof of the adopter counts from when its own command was sent", () =>
    Effect.gen(function* () {
      const [a, b] = yield* pair()
      const { handle } = yield* handedOver(a.use)
      b.proxy.delay({ toClient: 300 })
      const adopted = yield* Lock.adopt(handle, { ttl: 2_000 }).pipe(b.use)
      expect(Duration.toMillis(yield* adopted.remaining)).toBeLessThan(1_700)
    })
  )
})
