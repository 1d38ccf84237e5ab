/** Freeing a key by force on Redis: who hears of it when, and what comes late, twice, or not at all. */
import { expect } from "@effect/vitest"
import { atOnce } from "../support/atOnce.js"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import { type Lease, Lock, type LockStore, ReadWriteLock, Semaphore } from "effect-redis-lock"
import { lockKeys, revokedKey } from "../../src/internal/redis/layout.js"
import { revoke } from "../../src/internal/redis/revokeScript.js"
import * as locks from "../../src/internal/redis/scripts.js"
import * as semaphores from "../../src/internal/redis/semaphoreScripts.js"
import {
  caller,
  environments,
  idle,
  internals,
  onClient,
  pair,
  queuedCaller,
  strangeToken,
  strict,
  subscribed
} from "../support/Queue.js"
import * as Workers from "../support/Workers.js"
import {
  connectedClient,
  type Environment,
  environment,
  leftovers,
  pttl,
  quietly,
  RedisServer,
  sent,
  timed,
  untilTogether
} from "./support.js"

// ---------------------------------------------------------------- helpers

const key = "k"
/** Of which no renewal is due while a test runs. */
const ttl = "1 minute"
const long = 60_000

const keysOf = (name: string) => [
  ...(lockKeys("", "", name, true) as ReadonlyArray<string>),
  revokedKey("", "", name)
]
const [held, record, queue, waiters, holders, index, marks] = keysOf(key) as [
  string,
  string,
  string,
  string,
  string,
  string,
  string
]

type Server = RedisServer.RedisProcess

const numbersOf = ({ look }: LockStore.LockStore, name = key) =>
  Effect.map(Effect.orDie(look!(name, 100)), ({ held }) =>
    held.map(({ fencingToken }) => fencingToken!)
  )

/** Makes a store listen: one of its callers waits for some other key. */
const listening = ({ server, store, use }: Environment) =>
  Effect.scoped(
    Effect.gen(function* () {
      const holder = yield* caller(use, "other", { ttl })
      yield* holder.lease
      yield* server.command("SET", "another", "a program", "PX", long)
      const waiting = yield* caller(use, "another", { ttl })
      yield* subscribed({ server, store })
      yield* waiting.interrupt
      yield* holder.release
      yield* server.command("DEL", "another")
      yield* idle(store)
    })
  )

const revoked = expect.objectContaining({ _tag: "LockLost", reason: "Revoked" })

const isOf =
  (...scripts: ReadonlyArray<locks.Script>) =>
  ([, text]: ReadonlyArray<string>): boolean =>
    scripts.some(({ lua, sha }) => text === sha || text === lua)
const renewals = isOf(locks.renew)
const releases = isOf(locks.release)
const revocations = isOf(revoke)
const verifications = isOf(locks.verify, semaphores.verify)

const untilLost = (lease: Lease.Lease) => timed(Effect.flip(lease.awaitLost))

// ---------------------------------------------------------------- who hears of it, and when

atOnce(RedisServer.layer())("a holder of a freed key", (it) => {
  it.scoped("hears of it at once where its process listens: by one message, and one question", () =>
    quietly(
      Effect.gen(function* () {
        const [a, b] = yield* pair()
        yield* listening(a)
        for (const take of [
          Lock.acquire(key, { ttl }),
          Semaphore.acquire(key, { ttl, limit: 3, permits: 2 }),
          ReadWriteLock.readLock(key, { ttl })
        ]) {
          const lease = yield* take.pipe(a.use)
          a.proxy.forget()
          const lost = yield* Effect.fork(untilLost(lease))
          yield* Effect.yieldNow()
          expect(yield* Lock.forceRelease(key, lease.fencingToken).pipe(b.use)).toBe(true)
          const { exit, millis } = yield* Fiber.join(lost)
          expect(exit).toEqual(Exit.succeed(revoked))
          expect(millis).toBeLessThan(2_000)
          expect(sent(a.proxy, key)).toBe(1)
          // given back, as any lease that is lost; and what was found out is not asked again
          yield* Effect.exit(lease.release)
          expect(sent(a.proxy, key)).toBe(2)
          yield* idle(a.store)
        }
      })
    )
  )

  it.scoped("hears of it at its next renewal where its process does not listen", () =>
    quietly(
      Effect.gen(function* () {
        const [a, b] = yield* pair()
        const lease = yield* Lock.acquire(key, { ttl, renewEvery: 2_000 }).pipe(a.use)
        a.proxy.forget()
        expect(yield* Lock.forceRelease(key, lease.fencingToken).pipe(b.use)).toBe(true)
        yield* Effect.sleep(200)
        expect(yield* lease.isHeld).toBe(true)
        expect(a.proxy.commands).toEqual([])
        expect(yield* Effect.flip(lease.awaitLost)).toEqual(revoked)
        expect(a.proxy.commands.filter(renewals)).toHaveLength(1)
        expect(a.proxy.requests.find(({ args }) => renewals(args))!.reply).toBe(3)
      })
    )
  )

  it.scoped("hears of it at once where it was freed by its own store, listening or not", () =>
    quietly(
      Effect.gen(function* () {
        const { proxy, use } = yield* environment()
        const lease = yield* Lock.acquire(key, { ttl }).pipe(use)
        const lost = yield* Effect.fork(untilLost(lease))
        yield* Effect.yieldNow()
        expect(yield* Lock.forceRelease(key, lease.fencingToken).pipe(use)).toBe(true)
        const { exit, millis } = yield* Fiber.join(lost)
        expect(exit).toEqual(Exit.succeed(revoked))
        expect(millis).toBeLessThan(2_000)
        expect(proxy.commands.some((args) => /^subscribe$/i.test(args[0]!))).toBe(false)
      })
    )
  )

  it.scoped("does not keep those behind it in its own process waiting", () =>
    quietly(
      Effect.gen(function* () {
        const [a, b] = yield* environments([{}, {}])
        const holder = yield* caller(a.use, key, { ttl })
        const lease = yield* holder.lease
        // in line behind it, with no place in the queue
        const behind = yield* caller(a.use, key, { ttl })
        yield* Effect.yieldNow()
        expect(yield* Lock.forceRelease(key, lease.fencingToken).pipe(b.use)).toBe(true)
        // it asks at its heartbeat whether the lease is still there
        const next = yield* behind.lease
        expect(next.fencingToken).toBeGreaterThan(lease.fencingToken)
        expect(yield* Effect.flip(lease.awaitLost)).toEqual(revoked)
      })
    )
  )

  it.scoped("makes way for the next in the queue in one message", () =>
    quietly(
      Effect.gen(function* () {
        const [a, b] = yield* pair()
        const lease = yield* Lock.acquire(key, { ttl }).pipe(a.use)
        const waiting = yield* queuedCaller(b, key, 0, { ttl })
        yield* subscribed(b)
        yield* b.proxy.until(() => sent(b.proxy, key) >= 2)
        b.proxy.forget()
        expect(yield* Lock.forceRelease(key, lease.fencingToken).pipe(a.use)).toBe(true)
        const next = yield* waiting.lease
        expect(sent(b.proxy, key)).toBe(0)
        expect(next.fencingToken).toBeGreaterThan(lease.fencingToken)
        expect(yield* numbersOf(a.store)).toEqual([next.fencingToken])
        expect(yield* Lock.forceRelease(key, lease.fencingToken).pipe(a.use)).toBe(false)
      })
    )
  )

  it.scoped("that is renewed together with others hears of it, and the others are renewed", () =>
    quietly(
      Effect.gen(function* () {
        const a = yield* environment()
        const { server, use } = a
        yield* untilTogether(a)
        for (const take of [
          (name: string) => Lock.acquire(name, { ttl: long, renewEvery: 300 }),
          (name: string) => Semaphore.acquire(name, { limit: 1, ttl: long, renewEvery: 300 })
        ]) {
          const names = ["one", "two", "three"]
          const leases = yield* Effect.forEach(names, take, { concurrency: "unbounded" }).pipe(use)
          // behind the store's back, so that nobody there hears of it before the renewal
          const args = [leases[1]!.fencingToken, "a request"]
          const keys = keysOf("two")
          expect(yield* server.command("EVAL", revoke.lua, keys.length, ...keys, ...args)).toBe(1)
          expect(yield* Effect.flip(leases[1]!.awaitLost)).toEqual(revoked)
          yield* Effect.sleep(400)
          for (const index of [0, 2]) yield* leases[index]!.verify
          yield* Effect.forEach(leases, ({ release }) => Effect.exit(release))
        }
      })
    )
  )
})

// ---------------------------------------------------------------- late, twice, or not at all

atOnce(RedisServer.layer())("what is not answered", (it) => {
  it.scoped("an order whose answer is lost is sent again, and says what the first one did", () =>
    quietly(
      Effect.gen(function* () {
        const [a, b] = yield* pair()
        const holder = yield* Lock.acquire(key, { ttl }).pipe(a.use)
        const waiting = yield* queuedCaller(b, key, 0, { ttl })
        // (the script is there: an answer NOSCRIPT would not be the one that is lost)
        yield* Lock.forceRelease("unknown", 7).pipe(a.use)
        const lost = a.proxy.resetAfterApply(revocations)
        a.proxy.forget()
        expect(yield* Lock.forceRelease(key, holder.fencingToken).pipe(a.use)).toBe(true)
        yield* lost.fired
        expect(a.proxy.commands.filter(revocations)).toHaveLength(2)
        // once: the next holder is not hit by the second copy
        yield* Effect.flatMap(waiting.lease, ({ verify }) => verify)
      })
    )
  )

  it.scoped(
    "an order that is not answered fails, and changes nothing where it did not arrive",
    () =>
      quietly(
        Effect.gen(function* () {
          const [a, b] = yield* environments([{ ...strict, commandTimeout: 300 }, strict])
          const lease = yield* Lock.acquire(key, { ttl }).pipe(b.use)
          yield* Lock.forceRelease("unknown", 7).pipe(a.use)
          a.proxy.blackHole({ drop: true })
          const error = yield* Effect.flip(Lock.forceRelease(key, lease.fencingToken).pipe(a.use))
          expect(error).toMatchObject({
            _tag: "LockStoreError",
            operation: "revoke",
            key,
            transient: true
          })
          a.proxy.heal()
          yield* lease.verify
        })
      )
  )

  it.scoped("a renewal whose answer is lost finds it when it is sent again", () =>
    quietly(
      Effect.gen(function* () {
        const [a, b] = yield* pair()
        const lease = yield* Lock.acquire(key, { ttl, renewEvery: 300 }).pipe(a.use)
        yield* a.proxy.awaitReply(renewals)
        const lost = a.proxy.resetAfterApply(renewals)
        expect(yield* Lock.forceRelease(key, lease.fencingToken).pipe(b.use)).toBe(true)
        const other = yield* Lock.acquire(key, { ttl }).pipe(b.use)
        yield* lost.fired
        expect(yield* Effect.flip(lease.awaitLost)).toEqual(revoked)
        yield* other.verify
      })
    )
  )

  it.scoped("a renewal that comes behind it, and one that was sent before it", () =>
    quietly(
      Effect.gen(function* () {
        const [a, b] = yield* pair()
        const lease = yield* Lock.acquire(key, { ttl, renewEvery: 200 }).pipe(a.use)
        a.proxy.holdRequests()
        yield* a.proxy.awaitCommand(renewals)
        expect(yield* Lock.forceRelease(key, lease.fencingToken).pipe(b.use)).toBe(true)
        const other = yield* Lock.acquire(key, { ttl: 5_000 }).pipe(b.use)
        a.proxy.releaseRequests()
        expect(yield* Effect.flip(lease.awaitLost)).toEqual(revoked)
        yield* other.verify
        expect(yield* pttl(b.server, key)).toBeLessThanOrEqual(5_000)
      })
    )
  )

  it.scoped("a release finds it, also one that is sent twice", () =>
    quietly(
      Effect.gen(function* () {
        const [a, b] = yield* pair()
        for (const isLost of [false, true]) {
          const lease = yield* Lock.acquire(key, { ttl }).pipe(a.use)
          expect(yield* Lock.forceRelease(key, lease.fencingToken).pipe(b.use)).toBe(true)
          const other = yield* Lock.acquire(key, { ttl }).pipe(b.use)
          if (isLost) a.proxy.resetAfterApply(releases)
          expect(yield* Effect.flip(lease.release)).toEqual(revoked)
          yield* other.verify
          yield* other.release
        }
      })
    )
  )

  it.scoped("a release that cannot ask why says what it found, in its time", () =>
    quietly(
      Effect.gen(function* () {
        const [a, b] = yield* environments([{ ...strict, commandTimeout: 400 }, strict])
        const lease = yield* Lock.acquire(key, { ttl }).pipe(a.use)
        expect(yield* Lock.forceRelease(key, lease.fencingToken).pipe(b.use)).toBe(true)
        yield* Effect.fork(
          Effect.zipRight(
            a.proxy.awaitReply(releases),
            Effect.sync(() => a.proxy.holdReplies())
          )
        )
        const { exit, millis } = yield* timed(Effect.flip(lease.release))
        // (the answer to the release can be held as well)
        expect(exit).toMatchObject({ _tag: "Success" })
        expect(millis).toBeLessThan(1_500)
        a.proxy.releaseReplies()
      })
    )
  )

  it.scoped("a handoff within the process finds it", () =>
    quietly(
      Effect.gen(function* () {
        const [a, b] = yield* environments([{}, {}])
        const holder = yield* caller(a.use, key, { ttl })
        const lease = yield* holder.lease
        const behind = yield* caller(a.use, key, { ttl })
        yield* Effect.sleep(30)
        expect(yield* Lock.forceRelease(key, lease.fencingToken).pipe(b.use)).toBe(true)
        const other = yield* Lock.acquire(key, { ttl }).pipe(b.use)
        expect(yield* Effect.flip(lease.release)).toEqual(revoked)
        yield* other.verify
        yield* other.release
        yield* behind.lease
      })
    )
  )

  it.scoped("a process that was stopped (SIGSTOP) meanwhile finds it when it runs again", () =>
    Effect.gen(function* () {
      const { server, store, use } = yield* environment()
      const worker = yield* Workers.make(server.url)
      yield* worker.order({ _tag: "Hold", key, ttl: 8_000, localHandoff: 0 })
      const { fencingToken } = yield* worker.next("Held")
      yield* worker.stop
      expect(yield* numbersOf(store)).toEqual([fencingToken])
      expect(yield* Lock.forceRelease(key, fencingToken).pipe(use)).toBe(true)
      const other = yield* Lock.acquire(key, { ttl }).pipe(use)
      yield* Effect.sleep(300)
      yield* worker.cont
      // its proof is not over: the server tells it, at its next renewal
      expect((yield* worker.next("Failed")).message).toContain("freed the key by force")
      yield* other.verify
    })
  )

  it.scoped("a process that was cut off meanwhile finds it when it is heard again", () =>
    quietly(
      Effect.gen(function* () {
        const server = yield* RedisServer.RedisServer
        yield* server.flush
        const [a, b] = yield* pair()
        const lease = yield* Lock.acquire(key, { ttl: 5_000, renewEvery: 500 }).pipe(a.use)
        const guarded = yield* Effect.fork(Effect.exit(lease.guard(Effect.never)))
        // for the holder, silence: nothing goes out, and nothing comes in
        a.proxy.blackHole()
        expect(yield* Lock.forceRelease(key, lease.fencingToken).pipe(b.use)).toBe(true)
        const other = yield* Lock.acquire(key, { ttl }).pipe(b.use)
        yield* Effect.sleep(1_000)
        expect(yield* lease.isHeld).toBe(true)
        a.proxy.heal()
        expect(yield* Fiber.join(guarded)).toMatchObject({ _tag: "Failure" })
        expect(yield* Effect.flip(lease.awaitLost)).toEqual(revoked)
        yield* other.verify
      })
    )
  )
})

// ---------------------------------------------------------------- messages that are not true

atOnce(RedisServer.layer())("a message to a holder", (it) => {
  const holding = Effect.gen(function* () {
    const [a, b] = yield* pair()
    yield* listening(a)
    const lease = yield* Lock.acquire(key, { ttl }).pipe(a.use)
    a.proxy.forget()
    const publish = (text: string) =>
      b.server.command("PUBLISH", internals(a.store).storeId, `${lease.token} ${text} ${key}`)
    return { a, b, lease, publish }
  })

  it.scoped("that is not true makes it ask, and nothing else", () =>
    Effect.gen(function* () {
      const { a, lease, publish } = yield* holding
      yield* publish("0 0")
      yield* a.proxy.awaitReply(verifications)
      yield* Effect.sleep(100)
      expect(sent(a.proxy, key)).toBe(1)
      expect(yield* lease.isHeld).toBe(true)
      yield* lease.verify
      // of a grant that it knows of: the message came late
      a.proxy.forget()
      yield* publish(`${lease.fencingToken} 3000`)
      yield* Effect.sleep(100)
      expect(a.proxy.commands).toEqual([])
    })
  )

  it.scoped("that comes a thousand times is asked about 20 times a second at most", () =>
    Effect.gen(function* () {
      const { a, b, lease, publish } = yield* holding
      const from = performance.now()
      for (let i = 0; i < 1_000; i++) yield* publish("0 0")
      for (let i = 0; i < 60; i++) {
        yield* publish("0 0")
        yield* Effect.sleep(5)
      }
      expect(sent(a.proxy, key)).toBeLessThanOrEqual((performance.now() - from) / 50 + 3)
      yield* lease.verify
      // and in the middle of such a flood one that is true is heard
      yield* Effect.sleep(100)
      a.proxy.forget()
      yield* publish("0 0")
      yield* a.proxy.awaitReply(verifications)
      expect(yield* Lock.forceRelease(key, lease.fencingToken).pipe(b.use)).toBe(true)
      const { exit, millis } = yield* untilLost(lease)
      expect(exit).toEqual(Exit.succeed(revoked))
      expect(millis).toBeLessThan(2_000)
    }).pipe(quietly)
  )
})

// ---------------------------------------------------------------- which number

atOnce(RedisServer.layer())("the number", (it) => {
  it.scoped("is the one that is seen; another one of those that a process gives out is not", () =>
    quietly(
      Effect.gen(function* () {
        const [a, b] = yield* environments([{ localHandoff: "10 seconds" }, {}])
        const first = yield* caller(a.use, key, { ttl })
        yield* first.lease
        const others = [
          yield* caller(a.use, key, { ttl }),
          yield* caller(a.use, key, { ttl }),
          yield* caller(a.use, key, { ttl })
        ]
        // until they are in line
        yield* Effect.sleep(20)
        yield* first.release
        const second = yield* others[0]!.lease
        const [seen] = yield* numbersOf(b.store)
        // one of those that were reserved for the process, and the server knows the last of them
        expect(second.fencingToken).toBeLessThan(seen!)
        expect(yield* Lock.forceRelease(key, second.fencingToken).pipe(b.use)).toBe(false)
        yield* second.verify
        yield* others[0]!.release
        // it was passed on within the process: the number that is seen is of this run
        const third = yield* others[1]!.lease
        expect(third.fencingToken).toBe(second.fencingToken + 1)
        expect(yield* numbersOf(b.store)).toEqual([seen])
        expect(yield* Lock.forceRelease(key, third.fencingToken).pipe(b.use)).toBe(false)
        expect(yield* Lock.forceRelease(key, seen!).pipe(b.use)).toBe(true)
        expect(yield* Effect.flip(third.verify)).toEqual(revoked)
        const fourth = yield* others[2]!.lease
        expect(fourth.fencingToken).toBeGreaterThan(seen!)
      })
    )
  )

  it.scoped(
    "that was seen of a holder who has held for longer than a run is that one's alone",
    () =>
      Effect.gen(function* () {
        const [a, b] = yield* environments([{ localHandoff: 20 }, {}])
        const first = yield* caller(a.use, key, { ttl })
        yield* first.lease
        const next = yield* caller(a.use, key, { ttl })
        yield* Effect.sleep(50)
        const [seen] = yield* numbersOf(b.store)
        yield* first.release
        const lease = yield* next.lease
        expect(yield* Lock.forceRelease(key, seen!).pipe(b.use)).toBe(false)
        yield* lease.verify
      }).pipe(quietly)
  )

  it.scoped(
    "of a holder of several is in its entry, also of a process that has kept its share",
    () =>
      quietly(
        Effect.gen(function* () {
          const [a, b] = yield* environments([{}, {}])
          const options = { limit: 2, ttl } as const
          const first = yield* Semaphore.acquire("s", options).pipe(a.use)
          const beside = yield* Semaphore.acquire("s", options).pipe(a.use)
          const waiting = yield* Effect.forkScoped(Semaphore.acquire("s", options).pipe(a.use))
          yield* Effect.sleep(30)
          yield* first.release
          const lease = yield* Fiber.join(waiting)
          const numbers = yield* numbersOf(b.store, "s")
          expect(numbers).toHaveLength(2)
          expect(Math.max(...numbers)).toBeLessThanOrEqual(lease.fencingToken)
          for (const number of numbers) {
            expect(yield* Lock.forceRelease("s", number).pipe(b.use)).toBe(true)
          }
          for (const one of [lease, beside]) {
            expect(yield* Effect.flip(one.verify)).toEqual(revoked)
          }
          expect(yield* Semaphore.inUse("s").pipe(b.use)).toBe(0)
        })
      )
  )
})

// ---------------------------------------------------------------- the script

atOnce(RedisServer.layer())("the script", (it) => {
  const [ours, theirs, third] = [strangeToken(), strangeToken(), strangeToken()]
  const call = (server: Server, script: locks.Script, ...args: ReadonlyArray<string | number>) =>
    server.command(
      "EVAL",
      script.lua,
      7,
      held,
      record,
      queue,
      waiters,
      holders,
      index,
      marks,
      ...args
    )
  const order = (server: Server, number: number | string, request = "a request") =>
    call(server, revoke, number, request)
  const text = (kind: string, limit: number | undefined) =>
    `${kind}/1 ${long} ${limit === undefined ? "" : `1 ${limit} `}me`
  const kinds = {
    lock: { scripts: locks, claim: text("lock", undefined) },
    semaphore: { scripts: semaphores, claim: text("semaphore", 2) },
    "read-write lock": { scripts: semaphores.readWrite, claim: text("rwlock", 2) }
  }
  const fence = (reply: unknown) => String(reply).split(":")[0]!
  const stateOf = (server: Server) =>
    Effect.gen(function* () {
      const type = String(yield* server.command("TYPE", held))
      return {
        held:
          type === "zset"
            ? yield* server.command("ZRANGE", held, 0, -1)
            : yield* server.command("GET", held),
        holders: yield* server.command("HGETALL", holders),
        index: yield* server.command("ZRANGE", index, 0, -1),
        queue: yield* server.command("ZRANGE", queue, 0, -1),
        waiters: yield* server.command("HKEYS", waiters),
        record: yield* server.command("GET", record),
        marks: yield* server.command("HGETALL", marks)
      }
    })

  for (const [name, { claim, scripts }] of Object.entries(kinds)) {
    it.scoped(`sent twice does what it did once: ${name}`, () =>
      Effect.gen(function* () {
        const server = yield* RedisServer.RedisServer
        yield* server.flush
        const number = fence(yield* call(server, scripts.acquire, ours, long, claim))
        yield* call(server, scripts.acquire, theirs, long, claim)
        const next = strangeToken()
        for (const token of [next, third]) {
          yield* call(server, scripts.acquire, token, long, claim, 3_000, 3_000)
        }
        expect(yield* order(server, number)).toBe(1)
        const once = yield* stateOf(server)
        expect(yield* order(server, number)).toBe(1)
        // somebody else's order finds nobody with that number
        expect(yield* order(server, number, "another request")).toBe(0)
        expect(yield* stateOf(server)).toEqual(once)
        expect(JSON.stringify(once.held)).not.toContain(ours)
        expect(JSON.stringify(once.held)).toContain(next)
        expect(once.queue).toEqual([third])
        expect(JSON.stringify([once.holders, once.index])).not.toContain(ours)
        // whatever its holder asks from now on, and however often
        for (const _ of [1, 2]) {
          expect(yield* call(server, scripts.renew, ours, long).pipe(renewKeys(name))).toBe(3)
        }
        expect(yield* server.command("EVAL", scripts.verify.lua, 2, held, marks, ours)).toBe(3)
        expect(yield* server.command("EVAL", scripts.verify.lua, 2, held, marks, theirs)).toBe(
          name === "lock" ? 2 : 1
        )
        expect(yield* stateOf(server)).toEqual(once)
        const left = yield* pttl(server, marks)
        expect(left).toBeGreaterThan(long - 5_000)
        expect(left).toBeLessThanOrEqual(long)
      })
    )

    it.scoped(`leaves nothing but what tells the holder: ${name}`, () =>
      Effect.gen(function* () {
        const server = yield* RedisServer.RedisServer
        yield* server.flush
        const brief = claim.replace(String(long), "1200")
        const number = fence(yield* call(server, scripts.acquire, ours, 1_200, brief))
        expect(yield* order(server, number)).toBe(1)
        expect(yield* leftovers(server)).toEqual([marks])
        const { millis } = yield* timed(
          RedisServer.eventually(Effect.map(leftovers(server), (keys) => keys.length === 0))
        )
        expect(millis).toBeLessThan(3_000)
      })
    )
  }

  /** A lock's renewal has fewer keys. */
  function renewKeys(name: string) {
    return (effect: Effect.Effect<unknown>): Effect.Effect<unknown> =>
      name === "lock"
        ? (Effect.flatMap(RedisServer.RedisServer, (server) =>
            server.command("EVAL", locks.renew.lua, 3, held, record, marks, ours, long)
          ) as Effect.Effect<unknown>)
        : effect
  }

  const untouched: Readonly<Record<string, (server: Server) => Effect.Effect<unknown>>> = {
    "of a foreign program": (server) =>
      Effect.zipRight(
        server.command("SET", record, `7 ${text("lock", undefined)}`),
        server.command("SET", held, "a program", "PX", long)
      ),
    "whose holder has ended": (server) =>
      Effect.gen(function* () {
        yield* server.command("ZADD", held, 1, ours)
        yield* server.command("HSET", holders, ours, `7 ${text("semaphore", 1)}`, "in-use", 1)
      }),
    "that is a list of somebody's": (server) => server.command("RPUSH", held, "7"),
    "that is a sorted set of somebody's": (server) => server.command("ZADD", held, 7, "alice"),
    "without a record": (server) => server.command("SET", held, ours, "PX", long)
  }
  for (const [name, make] of Object.entries(untouched)) {
    it.scoped(`changes nothing of a key ${name}`, () =>
      Effect.gen(function* () {
        const server = yield* RedisServer.RedisServer
        yield* server.flush
        yield* make(server)
        const before = yield* server.command("DUMP", held)
        expect(yield* order(server, 7)).toBe(0)
        // (what has ended is removed, as by any operation)
        if (!name.includes("has ended")) expect(yield* server.command("DUMP", held)).toEqual(before)
        expect(yield* server.command("EXISTS", marks)).toBe(0)
      })
    )
  }

  it.scoped("leaves a holder of a later version alone, and says why", () =>
    Effect.gen(function* () {
      const { server, use } = yield* environment()
      yield* server.command("SET", held, ours, "PX", long)
      yield* server.command("SET", record, "1795342290893419 lock/2 what comes")
      const error = yield* Effect.flip(Lock.forceRelease(key, 1795342290893419).pipe(use))
      expect(error).toMatchObject({ _tag: "LockStoreError", operation: "revoke", key })
      expect(error.detail).toContain("lock/2")
      expect(yield* server.command("GET", held)).toBe(ours)
    })
  )

  it.scoped("works with a client of the user's, a key prefix, and a key that cannot be a tag", () =>
    quietly(
      Effect.gen(function* () {
        const a = yield* environment()
        for (const keyPrefix of ["", "app:"]) {
          const client = yield* connectedClient(a.server.port, { keyPrefix })
          const { store, use } = yield* onClient(a, client, { prefix: "{}:" })
          for (const name of ["plain", "a}b", "{tag}rest"]) {
            const lease = yield* Lock.acquire(name, { ttl }).pipe(use)
            expect(yield* Lock.forceRelease(name, lease.fencingToken).pipe(use)).toBe(true)
            expect(yield* Effect.flip(lease.verify)).toEqual(revoked)
            yield* Effect.exit(lease.release)
            yield* idle(store)
          }
        }
        const bad = yield* Effect.flip(Lock.forceRelease(`x:lock-revoked`, 7).pipe(a.use))
        expect(bad).toMatchObject({ _tag: "LockStoreError", operation: "revoke" })
      })
    )
  )
})
