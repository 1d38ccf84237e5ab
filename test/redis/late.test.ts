/** What comes late, or twice, makes nobody a second holder: schedules that the model of docs/protocol.pml found. */
import { expect } from "@effect/vitest"
import { atOnce } from "../support/atOnce.js"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import { type Lease, Lock, RedisLockStore } from "effect-redis-lock"
import {
  awaitQueued,
  caller,
  environments,
  holdCommands,
  keysOf,
  onClient,
  queuedCaller,
  queueOf,
  strangeToken,
  strict,
  subscribed
} from "../support/Queue.js"
import {
  connectedClient,
  failure,
  FaultProxy,
  pttl,
  quietly,
  RedisServer,
  storeOf,
  timed,
  touching
} from "./support.js"

const key = "k"
const ttl = 60_000
/** A heartbeat of 300 ms, a claim window of 900. */
const brisk = { ttl: 900 }
/** A grant of 300 ms by handoff, where one of a minute has 3000. */
const brief = { ttl: 300 }

/** With which ttl the waiter would be granted the lock. */
const awaitHandoffTtl = (server: RedisServer.RedisProcess, token: string, millis: number) =>
  RedisServer.eventually(
    Effect.map(
      server.command("HGET", keysOf(key)[3], token),
      (known) => String(known).split(" ")[2] === String(millis)
    )
  )

/** Fails if a lease is believed in for longer than the server keeps it: then there are two holders. */
const expectKept = (server: RedisServer.RedisProcess, lease: Lease.Lease) =>
  Effect.gen(function* () {
    const believedUntil = performance.now() + Duration.toMillis(yield* lease.remaining)
    const left = yield* pttl(server, key)
    expect(believedUntil).toBeLessThan(performance.now() + left + 10)
  })

const isAcquire = (args: ReadonlyArray<string>) => touching(key)(args) && args.length === 3 + 4 + 5
const isAttempt = (args: ReadonlyArray<string>) => touching(key)(args) && args.length === 3 + 4 + 3
const isPass = (args: ReadonlyArray<string>) =>
  touching(key)(args) && [4, 7].includes(args.length - 3 - 4)
const isRelease = (args: ReadonlyArray<string>) => touching(key)(args) && args.length === 3 + 4 + 1

atOnce(RedisServer.layer())("what comes late, or twice", (it) => {
  it.scoped("an acquire that was queued twice, and the message of a grant in between", () =>
    quietly(
      Effect.gen(function* () {
        const [a, b] = yield* environments([strict, { ...strict, commandTimeout: "10 seconds" }])
        // b's subscriber is there already
        const other = yield* caller(a.use, "other", { ttl })
        yield* other.lease
        yield* queuedCaller(b, "other", 0, { ttl })
        yield* subscribed(b)

        const held = yield* caller(a.use, key, { ttl })
        yield* held.lease
        b.proxy.holdMessages()
        // b's acquire is applied, its reply is lost, and the new connection takes its time
        const lost = b.proxy.resetAfterApply(touching(key))
        const waiting = yield* caller(b.use, key, brisk)
        yield* lost.fired
        b.proxy.refuse()
        yield* awaitQueued(a.server, key, 1)
        const [token] = yield* queueOf(a.server, key)
        yield* held.release
        yield* b.proxy.heldMessages
        expect(yield* a.server.command("GET", key)).toBe(token)
        // nobody claims that grant in its time
        yield* RedisServer.eventually(
          Effect.map(a.server.command("GET", key), (value) => value === null)
        )
        const next = yield* caller(a.use, key, { ttl })
        const lease = yield* next.lease
        b.proxy.forget()
        b.proxy.accept()
        yield* b.proxy.until(
          () => b.proxy.requests.filter((r) => r.replied && touching(key)(r.args)).length >= 2
        )
        expect(yield* queueOf(a.server, key)).toEqual([token])
        b.proxy.releaseMessages()
        yield* Effect.sleep(200)
        expect(yield* lease.isHeld).toBe(true)
        expect(yield* a.server.command("GET", key)).toBe(lease.token)
        expect(waiting.state()).toBe("waiting")
      })
    )
  )

  it.scoped("a pass of a connection that was given up, delivered behind its repetition", () =>
    quietly(
      Effect.gen(function* () {
        const [a, b] = yield* environments([{ commandTimeout: "10 seconds" }, strict])
        // something that is renewed, so that silence is noticed
        const other = yield* caller(a.use, "other", { ttl: 1_500, renewEvery: 600 })
        yield* other.lease
        const first = yield* caller(a.use, key, { ttl })
        yield* first.lease
        const second = yield* caller(a.use, key, { ttl })
        yield* Effect.sleep(50)
        a.proxy.forget()
        holdCommands(a.proxy)
        const releasing = yield* Effect.fork(first.release)
        yield* a.proxy.heldRequests
        // the connection is replaced, and the pass sent again: a keeps the lock
        const lease = yield* second.lease
        yield* releasing
        expect(yield* a.server.command("GET", key)).toBe(lease.token)
        const waiting = yield* queuedCaller(b, key, 0, brisk)
        yield* subscribed(b)
        // only now comes what was sent on the old connection
        a.proxy.releaseRequests()
        yield* Effect.sleep(200)
        expect(yield* lease.isHeld).toBe(true)
        expect(waiting.state()).toBe("waiting")
        expect(yield* a.server.command("GET", key)).toBe(lease.token)
      })
    )
  )

  it.scoped("an acquire of a connection that was given up does not shorten the lease", () =>
    quietly(
      Effect.gen(function* () {
        const [a, b] = yield* environments([strict, { ...strict, commandTimeout: "10 seconds" }])
        const other = yield* caller(b.use, "other", { ttl: 1_500, renewEvery: 600 })
        yield* other.lease
        const held = yield* caller(a.use, key, { ttl })
        yield* held.lease
        holdCommands(b.proxy)
        const short = yield* caller(b.use, key, brisk)
        const long = yield* caller(b.use, key, { ttl })
        yield* b.proxy.heldRequests
        // the connection is replaced, and the acquire sent again
        yield* awaitQueued(a.server, key, 1)
        yield* b.proxy.until(
          () => b.proxy.requests.filter((r) => r.replied && touching(key)(r.args)).length >= 1
        )
        yield* short.interrupt
        yield* Effect.sleep(500)
        yield* held.release
        const lease = yield* long.lease
        yield* RedisServer.eventually(
          Effect.map(a.server.command("PTTL", key), (left) => Number(left) > 50_000)
        )
        expect(yield* a.server.command("GET", key)).toBe(lease.token)
        b.proxy.releaseRequests()
        yield* Effect.sleep(200)
        expect(yield* a.server.command("GET", key)).toBe(lease.token)
        expect(Number(yield* a.server.command("PTTL", key))).toBeGreaterThan(50_000)
      })
    )
  )

  it.scoped("an acquire of a connection that was given up, for a caller with a shorter ttl", () =>
    quietly(
      Effect.gen(function* () {
        const [a, b] = yield* environments([strict, { ...strict, commandTimeout: "10 seconds" }])
        const remote = yield* caller(a.use, "remote", { ttl })
        yield* remote.lease
        yield* queuedCaller(b, "remote", 0, { ttl })
        yield* subscribed(b)
        // something that is renewed, so that silence is noticed
        const other = yield* caller(b.use, "other", { ttl: 1_500, renewEvery: 600 })
        yield* other.lease
        const held = yield* caller(a.use, key, { ttl })
        yield* held.lease
        holdCommands(b.proxy)
        const short = yield* caller(b.use, key, brief)
        const long = yield* caller(b.use, key, { ttl })
        yield* b.proxy.heldRequests
        // the connection is replaced, and the acquire sent again
        yield* awaitQueued(a.server, key, 1)
        const [token = ""] = yield* queueOf(a.server, key)
        yield* short.interrupt
        yield* awaitHandoffTtl(a.server, token, 3_000)
        // only now comes what was sent on the old connection
        b.proxy.releaseRequests()
        yield* awaitHandoffTtl(a.server, token, brief.ttl)
        yield* held.release
        yield* expectKept(a.server, yield* long.lease)
      })
    )
  )

  it.scoped("the message of a grant that a lost heartbeat has made shorter", () =>
    quietly(
      Effect.gen(function* () {
        const [a] = yield* environments([strict])
        const proxy = yield* FaultProxy.make(a.server.port)
        const client = yield* connectedClient(proxy.port, { maxRetriesPerRequest: 0 })
        const b = yield* onClient(a, client)
        const held = yield* caller(a.use, key, { ttl })
        yield* held.lease
        const first = yield* queuedCaller(b, key, 0, { ttl })
        yield* subscribed(b)
        const short = yield* caller(b.use, key, brief)
        const long = yield* caller(b.use, key, { ttl })
        // (both stand in the line)
        yield* Effect.sleep(20)
        const [token = ""] = yield* queueOf(a.server, key)
        // a heartbeat for the one with the shorter ttl is applied, and not answered
        proxy.holdMessages()
        const lost = proxy.resetAfterApply(
          (args) => touching(key)(args) && args.includes(token) && args.includes("300")
        )
        yield* first.interrupt
        yield* lost.fired
        proxy.refuse()
        yield* RedisServer.eventually(Effect.sync(() => client.status !== "ready"))
        // the next one, for the other, never comes to the server
        yield* short.interrupt
        yield* held.release
        yield* proxy.heldMessages
        const leasing = yield* Effect.fork(long.lease)
        proxy.releaseMessages()
        proxy.accept()
        yield* expectKept(a.server, yield* Fiber.join(leasing))
      })
    )
  )

  it.scoped("an acquire that is sent again, behind the release of what it has brought", () =>
    quietly(
      Effect.gen(function* () {
        const commandTimeout = 1_500
        const [a] = yield* environments([strict])
        const proxy = yield* FaultProxy.make(a.server.port)
        const client = yield* connectedClient(proxy.port)
        const b = yield* onClient(a, client, { ...strict, commandTimeout })
        // the script of an acquire is known to the server, that of a release is not
        const remote = yield* caller(a.use, "remote", { ttl })
        yield* remote.lease
        yield* queuedCaller(b, "remote", 0, { ttl })
        yield* subscribed(b)
        const held = yield* caller(a.use, key, { ttl })
        yield* held.lease
        proxy.holdReplies({ where: (connection) => !connection.subscriber })
        const waiting = yield* queuedCaller(b, key, 0, { ttl })
        yield* held.release
        // by the message: the acquire is not answered
        const lease = yield* waiting.lease
        // later than it, so that the release is waited for when the acquire is not any more
        yield* Effect.sleep(1_000)
        const releasing = yield* Effect.fork(Effect.exit(lease.release))
        yield* proxy.awaitCommand(isRelease)
        yield* RedisServer.eventually(
          Effect.map(a.server.command("GET", key), (value) => value === null)
        )
        // both are sent again; the acquire, that the server has forgotten, a third time
        yield* a.server.command("SCRIPT", "FLUSH")
        proxy.cutWhere((connection) => !connection.subscriber)
        proxy.forget()
        proxy.releaseReplies()
        yield* proxy.until(() =>
          proxy.requests.some(
            ({ args, replied }) => replied && args[0]?.toUpperCase() === "EVAL" && isAcquire(args)
          )
        )
        yield* Fiber.join(releasing)
        yield* RedisServer.eventually(Effect.map(pttl(a.server, key), (left) => left === -2))
      })
    )
  )

  it.scoped("an acquire that is answered behind the pass of what it has brought", () =>
    quietly(
      Effect.gen(function* () {
        const commandTimeout = 1_500
        const [a] = yield* environments([strict])
        const proxy = yield* FaultProxy.make(a.server.port)
        const client = yield* connectedClient(proxy.port)
        const b = yield* onClient(a, client, { commandTimeout })
        const remote = yield* caller(a.use, "remote", { ttl })
        yield* remote.lease
        yield* queuedCaller(b, "remote", 0, { ttl })
        yield* subscribed(b)
        const held = yield* caller(a.use, key, { ttl })
        yield* held.lease
        proxy.holdReplies({ where: (connection) => !connection.subscriber })
        const waiting = yield* queuedCaller(b, key, 0, { ttl })
        const next = yield* caller(b.use, key, { ttl })
        yield* held.release
        // by the message: the acquire is not answered
        const lease = yield* waiting.lease
        yield* Effect.sleep(1_000)
        const releasing = yield* Effect.fork(lease.release)
        yield* proxy.awaitReply(isPass)
        proxy.releaseReplies()
        yield* Fiber.join(releasing)
        const kept = yield* next.lease
        expect(kept.token).toBe(lease.token)
        // a release that was to follow the acquire's answer would be there before this
        yield* kept.verify
        yield* kept.verify
        expect(yield* a.server.command("GET", key)).toBe(kept.token)
      })
    )
  )

  /** Both wait behind a holder here: another process, and then a caller of the holder's own. */
  const crowd = (options: RedisLockStore.Options = {}) =>
    Effect.gen(function* () {
      const [a, b] = yield* environments([options, {}])
      // subscribers that are there already
      for (const [one, other] of [
        [a, b],
        [b, a]
      ] as const) {
        const name = one === a ? "of a" : "of b"
        const held = yield* caller(one.use, name, { ttl })
        yield* held.lease
        yield* queuedCaller(other, name, 0, { ttl })
        yield* subscribed(other)
      }
      const held = yield* caller(a.use, key, { ttl })
      yield* held.lease
      const remote = yield* queuedCaller(b, key, 0, { ttl })
      const next = yield* caller(a.use, key, { ttl })
      yield* Effect.yieldNow()
      return { a, b, held, remote, next }
    })

  it.scoped("a grant that overtakes the answer of the pass that took its place", () =>
    quietly(
      Effect.gen(function* () {
        const { a, held, next, remote } = yield* crowd()
        a.proxy.holdReplies({ where: (connection) => !connection.subscriber })
        const releasing = yield* Effect.fork(held.release)
        const other = yield* remote.lease
        expect(yield* queueOf(a.server, key)).toHaveLength(1)
        yield* remote.release
        // by the message: the pass is not answered
        const lease = yield* next.lease
        expect(lease.fencingToken).toBeGreaterThan(other.fencingToken)
        a.proxy.releaseReplies()
        yield* Fiber.join(releasing)
        yield* lease.verify
        yield* next.release
        expect(yield* queueOf(a.server, key)).toEqual([])
        expect(yield* a.server.command("GET", key)).toBe(null)
      })
    )
  )

  it.scoped(
    "a pass whose answer is lost, behind which its place waits: one other takes its turn",
    () =>
      quietly(
        Effect.gen(function* () {
          const { a, held, next, remote } = yield* crowd()
          const own = yield* held.lease
          const lost = a.proxy.resetAfterApply(isPass)
          const releasing = yield* Effect.fork(own.release)
          const place = (yield* lost.fired).at(-3)
          // the copy that is sent again finds b's token
          yield* Fiber.join(releasing)
          yield* remote.lease
          yield* RedisServer.eventually(
            Effect.map(
              queueOf(a.server, key),
              (tokens) => tokens.length === 1 && tokens[0] !== place
            )
          )
          yield* remote.release
          const lease = yield* next.lease
          yield* lease.verify
          yield* next.release
          yield* RedisServer.eventually(
            Effect.map(a.server.command("EXISTS", ...keysOf(key)), (count) => count === 1)
          )
          // (the record)
          expect(yield* a.server.command("GET", key)).toBe(null)
        })
      )
  )

  it.scoped(
    "a pass of what is lost, whose acquire was queued a second time: it leaves the queue",
    () =>
      quietly(
        Effect.gen(function* () {
          const { a, held, next, remote } = yield* crowd()
          const own = yield* held.lease
          const [lock, , queue] = keysOf(key)
          // it has expired, others have the lock, and a copy of its acquire has come
          yield* a.server.command("SET", lock, strangeToken(), "PX", ttl)
          yield* a.server.command("ZADD", queue, Date.now() * 1_000, own.token)
          // (or it would end by itself)
          yield* a.server.command("PERSIST", queue)
          yield* Effect.exit(own.release)
          yield* RedisServer.eventually(
            Effect.map(queueOf(a.server, key), (tokens) => !tokens.includes(own.token))
          )
          yield* next.interrupt
          yield* remote.interrupt
          yield* a.server.command("DEL", lock)
        })
      )
  )

  it.scoped("a caller that leaves while the pass takes its place: it does not stay there", () =>
    quietly(
      Effect.gen(function* () {
        const { a, held, next, remote } = yield* crowd()
        a.proxy.holdReplies({ where: (connection) => !connection.subscriber })
        const releasing = yield* Effect.fork(held.release)
        yield* remote.lease
        yield* next.interrupt
        expect(yield* queueOf(a.server, key)).toHaveLength(1)
        // (or it would end by itself)
        yield* a.server.command("PERSIST", keysOf(key)[2])
        a.proxy.releaseReplies()
        yield* Fiber.join(releasing)
        yield* RedisServer.eventually(
          Effect.map(queueOf(a.server, key), (tokens) => tokens.length === 0)
        )
        yield* remote.release
        expect(yield* a.server.command("GET", key)).toBe(null)
      })
    )
  )

  it.scoped(
    "an acquire that is applied after its own ttl: it is given back at the second try",
    () =>
      quietly(
        Effect.gen(function* () {
          const brisk = { ttl: 1_500 }
          const server = yield* RedisServer.RedisServer
          yield* server.flush
          const proxy = yield* FaultProxy.make(server.port)
          const client = yield* connectedClient(proxy.port, { maxRetriesPerRequest: 0 })
          const { use } = yield* storeOf(
            RedisLockStore.layerFromClient(client, { commandTimeout: 300 })
          )
          yield* Lock.withLock("warm")(Effect.void).pipe(use)
          proxy.holdRequests()
          const { exit } = yield* timed(Effect.scoped(Lock.tryAcquire(key, brisk)).pipe(use))
          expect(failure(exit)).toMatchObject({ _tag: "LockStoreError", operation: "acquire" })
          yield* Effect.sleep(brisk.ttl)
          const lost = proxy.resetBeforeApply(isRelease)
          proxy.releaseRequests()
          yield* proxy.awaitReply(isAttempt)
          yield* lost.fired
          yield* proxy.awaitReply(isRelease)
          yield* RedisServer.eventually(Effect.map(pttl(server, key), (left) => left === -2))
        })
      )
  )
})
