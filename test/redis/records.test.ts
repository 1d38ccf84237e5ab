/**
 * What stands beside a lock: the longest ttl of a tenure, by which a renewal mends what a server's
 * clock has done; and the form that it is written in, so that versions can live beside each other.
 */
import { expect, layer } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { Lock, LockError, type LockStore } from "effect-redis-lock"
import { revokedKey } from "../../src/internal/redis/layout.js"
import * as scripts from "../../src/internal/redis/scripts.js"
import {
  awaitQueued,
  caller,
  keysOf,
  pair,
  queuedCaller,
  queueOf,
  send,
  strangeToken,
  subscribed
} from "../support/Queue.js"
import {
  environment,
  leftovers,
  pttl,
  quietly,
  RedisServer,
  serverMicros,
  untilTogether
} from "./support.js"

type Server = RedisServer.RedisProcess

const key = "k"
const [lock, record, queue, waiters] = keysOf(key)
const revoked = revokedKey("", "", key)
const hour = 3_600_000

/** What a key has left when the server's clock was set back by an hour. */
const setBack = (server: Server, name = lock) =>
  Effect.flatMap(pttl(server, name), (left) => server.command("PEXPIRE", name, left + hour))

const healed = (server: Server, most: number, name = lock) =>
  RedisServer.eventually(
    Effect.map(pttl(server, name), (left) => {
      if (left <= 0) throw new Error(`${name} is gone`)
      return left <= most
    })
  )

const renew = (server: Server, token: string, ttl: number, ...mustRecord: ReadonlyArray<"1">) =>
  server.command("EVAL", scripts.renew.lua, 3, lock, record, revoked, token, ttl, ...mustRecord)

const recordOf = (server: Server) => Effect.map(server.command("GET", record), String)

layer(RedisServer.layer(), { excludeTestServices: true })(
  "a server's clock that is set back",
  (it) => {
    const options = { ttl: 1_000, renewEvery: 100 }
    const longer = { ttl: 2_500, renewEvery: 100 }

    it.scoped("leaves a lease with its own ttl again, after a renewal", () =>
      Effect.gen(function* () {
        const { server, use } = yield* environment()
        const lease = yield* Lock.acquire(key, options).pipe(use)
        yield* setBack(server)
        yield* healed(server, 1_000)
        yield* lease.verify
        expect(yield* recordOf(server)).toMatch(/^\d{16} lock\/1 1000 /)
      })
    )

    it.scoped("the same for many that are renewed together", () =>
      Effect.gen(function* () {
        const { proxy, server, store, use } = yield* environment()
        yield* untilTogether({ store, use })
        const keys = Array.from({ length: 16 }, (_, index) => `k${index}`)
        // the first use brings the scripts, one by one
        yield* Lock.withLock("warm", options)(Effect.sleep(150)).pipe(use)
        yield* Effect.forEach(
          [...keys, "other"],
          (key) => Lock.withLock(key, options)(Effect.void),
          {
            concurrency: "unbounded"
          }
        ).pipe(use)
        yield* Effect.forEach(keys, (key) => Lock.acquire(key, { ttl: 3_000 }), {
          concurrency: "unbounded"
        }).pipe(use)
        proxy.forget()
        yield* Effect.forEach(keys, (key) => setBack(server, key))
        const together = ([, text]: ReadonlyArray<string>) => text === scripts.batch.sha
        const { reply } = yield* proxy.awaitReply(together)
        // each is asked again by itself
        expect(new Set(reply as ReadonlyArray<unknown>)).toEqual(new Set([null]))
        yield* Effect.forEach(keys, (key) => healed(server, 3_000, key))
      })
    )

    it.scoped("the same for a lease that was handed over", () =>
      Effect.gen(function* () {
        const [a, b] = yield* pair()
        const first = yield* caller(a.use, key, { ttl: "1 minute" })
        yield* first.lease
        const second = yield* queuedCaller(b, key, 0, { ttl: 30_000, renewEvery: 100 })
        yield* subscribed(b)
        yield* first.release
        const lease = yield* second.lease
        yield* setBack(b.server)
        yield* healed(b.server, 30_000)
        // to the ttl that it was asked for with, not to that of the grant
        expect(yield* pttl(b.server, key)).toBeGreaterThan(20_000)
        yield* lease.verify
        expect(yield* recordOf(b.server)).toMatch(/^\d{16} lock\/1 30000 /)
      })
    )

    it.scoped(
      "the same for a lease that was passed on here, to the longest ttl of the tenure",
      () =>
        Effect.gen(function* () {
          const { server, use } = yield* environment()
          const first = yield* caller(use, key, longer)
          yield* first.lease
          const second = yield* caller(use, key, options)
          yield* Effect.sleep(10)
          yield* first.release
          const lease = yield* second.lease
          expect(yield* recordOf(server)).toMatch(/^\d{16} lock\/1 2500 /)
          yield* setBack(server)
          yield* healed(server, 2_500)
          yield* lease.verify
        })
    )

    it.scoped(
      "a renewal of an earlier caller that comes late does not shorten a later one's ttl",
      () =>
        Effect.gen(function* () {
          const { server } = yield* environment()
          const token = strangeToken()
          const fence = String(
            yield* send(server, scripts.acquire, key, token, 1_000, "lock/1 1000 me")
          )
          yield* send(server, scripts.pass, key, token, 20_000, "lock/1 20000 me", fence)
          yield* renew(server, token, 1_000)
          expect(yield* pttl(server, key)).toBeGreaterThan(15_000)
          yield* setBack(server)
          expect(yield* renew(server, token, 1_000)).toBe(1)
          expect(yield* pttl(server, key)).toBeGreaterThan(15_000)
          expect(yield* pttl(server, key)).toBeLessThanOrEqual(20_000)
        })
    )

    it.scoped(
      "nor after an acquire or a heartbeat with a longer ttl, that found the lock its own",
      () =>
        Effect.gen(function* () {
          const { server } = yield* environment()
          for (const again of [scripts.acquire, scripts.heartbeat]) {
            yield* server.flush
            const token = strangeToken()
            const fence = yield* send(server, scripts.acquire, key, token, 1_000, "lock/1 1000 me")
            expect(
              yield* send(server, again, key, token, 20_000, "lock/1 20000 me", 3_000, 3_000)
            ).toBe(fence)
            yield* setBack(server)
            expect(yield* renew(server, token, 1_000)).toBe(1)
            expect(yield* pttl(server, key)).toBeGreaterThan(15_000)
            expect(yield* pttl(server, key)).toBeLessThanOrEqual(20_000)
          }
        })
    )

    it.scoped(
      "nor after a copy of a pass with a shorter one, behind a pass with a longer one",
      () =>
        Effect.gen(function* () {
          const { server } = yield* environment()
          const token = strangeToken()
          const first = String(
            yield* send(server, scripts.acquire, key, token, 1_000, "lock/1 1000 me")
          )
          const pass = (ttl: number, known: string) =>
            Effect.map(
              send(server, scripts.pass, key, token, ttl, `lock/1 ${ttl} me`, known),
              String
            )
          const second = yield* pass(1_000, first)
          yield* pass(20_000, second)
          yield* pass(1_000, first)
          yield* setBack(server)
          yield* renew(server, token, 1_000)
          expect(yield* pttl(server, key)).toBeGreaterThan(15_000)
        })
    )

    it.scoped(
      "nor after a renewal that says that its ttl may be longer than what was recorded",
      () =>
        Effect.gen(function* () {
          const { server } = yield* environment()
          const token = strangeToken()
          yield* send(server, scripts.acquire, key, token, 1_000, "lock/1 1000 me")
          expect(yield* renew(server, token, 20_000, "1")).toBe(1)
          expect(yield* recordOf(server)).toMatch(/^\d{16} lock\/1 20000 me$/)
          yield* setBack(server)
          expect(yield* renew(server, token, 1_000)).toBe(1)
          expect(yield* pttl(server, key)).toBeGreaterThan(15_000)
          expect(yield* pttl(server, key)).toBeLessThanOrEqual(20_000)
        })
    )

    it.scoped(
      "a renewal that is told to keeps the record for another day, and all that it says",
      () =>
        Effect.gen(function* () {
          const { server } = yield* environment()
          const token = strangeToken()
          yield* send(server, scripts.acquire, key, token, 5_000, "lock/1 5000 me")
          const known = yield* recordOf(server)
          yield* server.command("PEXPIRE", record, 60_000)
          expect(yield* renew(server, token, 5_000)).toBe(1)
          expect(yield* pttl(server, record)).toBeLessThanOrEqual(60_000)
          expect(yield* renew(server, token, 4_000, "1")).toBe(1)
          expect(yield* pttl(server, record)).toBeGreaterThan(23 * hour)
          expect(yield* recordOf(server)).toBe(known)
          // not by those who have lost it
          yield* server.command("PEXPIRE", record, 60_000)
          expect(yield* renew(server, strangeToken(), 5_000, "1")).toBe(2)
          expect(yield* pttl(server, record)).toBeLessThanOrEqual(60_000)
        })
    )

    it.scoped("a caller that came to be first in its line has its own ttl recorded", () =>
      Effect.gen(function* () {
        const [a, b] = yield* pair()
        const holder = yield* caller(a.use, key, { ttl: "1 minute" })
        yield* holder.lease
        const first = yield* queuedCaller(b, key, 0, { ttl: 4_000 })
        yield* subscribed(b)
        const second = yield* caller(b.use, key, { ttl: 30_000, renewEvery: 50 })
        yield* Effect.sleep(10)
        yield* first.interrupt
        yield* holder.release
        yield* second.lease
        yield* RedisServer.eventually(
          Effect.map(recordOf(b.server), (known) => known.includes("lock/1 30000 "))
        )
        yield* setBack(b.server)
        yield* healed(b.server, 30_000)
      })
    )

    for (const [name, value] of [
      ["an earlier version's", "1795000000000000 me"],
      ["nobody's", undefined]
    ] as const) {
      it.scoped(`a renewal leaves a ttl alone where the record is ${name}`, () =>
        Effect.gen(function* () {
          const { server } = yield* environment()
          const token = strangeToken()
          yield* server.command("SET", lock, token, "PX", 20_000)
          if (value !== undefined) yield* server.command("SET", record, value)
          expect(yield* renew(server, token, 1_000)).toBe(1)
          expect(yield* pttl(server, key)).toBeGreaterThan(15_000)
        })
      )
    }
  }
)

// ---------------------------------------------------------------- versions

/** A waiter of another version or kind, that is alive for so long. */
const stranger = (server: Server, form: string, windowMillis = 60_000) =>
  Effect.gen(function* () {
    const token = strangeToken()
    const now = yield* serverMicros(server)
    const known = `${Math.floor(now / 1_000)} ${windowMillis} 1000 ${form} what it knows`
    yield* server.command("ZADD", queue, now, token)
    yield* server.command("HSET", waiters, token, known)
    return { token, known }
  })

layer(RedisServer.layer(), { excludeTestServices: true })("versions beside each other", (it) => {
  const ttl = "1 minute"
  const later = "1795000000000000 lock/2 something new"

  type Way = Effect.Effect<unknown, unknown, LockStore.LockStore>
  const tryAcquire: Way = Effect.scoped(Lock.tryAcquire(key, { ttl }))
  const ways: Record<string, Way> = {
    tryAcquire,
    acquire: Effect.scoped(Lock.acquire(key, { ttl })),
    "in a batch": Effect.all(
      [Effect.flip(Lock.withLock(key, { ttl })(Effect.void)), Lock.withLock("other")(Effect.void)],
      { concurrency: 2 }
    ).pipe(Effect.flatMap(([error]) => Effect.fail(error)))
  }
  for (const [name, way] of Object.entries(ways)) {
    it.scoped(`a record of a later version is left alone, and the lock not taken: ${name}`, () =>
      Effect.gen(function* () {
        const { server, store, use } = yield* environment()
        if (name === "in a batch") yield* untilTogether({ store, use })
        yield* server.command("SET", record, later)
        const error = yield* Effect.flip(use(way))
        expect(error).toMatchObject({ _tag: "LockStoreError", operation: "acquire", key })
        expect(String(error)).toContain("lock/2")
        expect(yield* recordOf(server)).toBe(later)
        expect(yield* leftovers(server)).toEqual([])
      })
    )
  }

  it.scoped("a waiter behind a holder of a later version is told, and keeps nothing", () =>
    Effect.gen(function* () {
      const { server, use } = yield* environment()
      yield* server.command("SET", record, later)
      yield* server.command("SET", lock, strangeToken(), "PX", 60_000)
      const error = yield* Effect.flip(use(ways["acquire"]!))
      expect(error).toMatchObject({ _tag: "LockStoreError" })
      expect(yield* recordOf(server)).toBe(later)
      expect(yield* leftovers(server)).toEqual([lock])
    })
  )

  it.scoped("the record of the version before is read: its number, and its owner", () =>
    Effect.gen(function* () {
      const { server, use } = yield* environment()
      const ahead = (yield* serverMicros(server)) + hour * 1_000
      yield* server.command("SET", record, `${ahead} lock-5 of old`)
      yield* server.command("SET", lock, strangeToken(), "PX", 60_000)
      const busy = yield* Effect.flip(use(tryAcquire))
      expect(busy).toMatchObject({ _tag: "LockUnavailable", holder: { owner: "lock-5 of old" } })
      yield* server.command("DEL", lock)
      const lease = yield* Lock.acquire(key, { ttl, owner: "web-3" }).pipe(use)
      expect(lease.fencingToken).toBe(ahead + 1)
      const taken = yield* Effect.flip(use(tryAcquire))
      expect(taken).toMatchObject({ holder: { owner: "web-3" } })
      expect(yield* recordOf(server)).toBe(`${ahead + 1} lock/1 60000 web-3`)
    })
  )

  it.scoped("a waiter of the version before is served in its turn", () =>
    Effect.gen(function* () {
      const { server, use } = yield* environment()
      const lease = yield* Lock.acquire(key, { ttl }).pipe(use)
      const token = strangeToken()
      const now = yield* serverMicros(server)
      yield* server.command("ZADD", queue, now, token)
      yield* server.command("HSET", waiters, token, `${Math.floor(now / 1_000)} 3000 2000 old one`)
      yield* lease.release
      expect(yield* server.command("GET", lock)).toBe(token)
      expect(yield* recordOf(server)).toMatch(/^\d{16} old one$/)
      expect(yield* pttl(server, key)).toBeLessThanOrEqual(2_000)
    })
  )

  it.scoped("a waiter of another kind keeps its place, and the claim fails with both kinds", () =>
    quietly(
      Effect.gen(function* () {
        const { server, use } = yield* environment()
        const lease = yield* Lock.acquire(key, { ttl }).pipe(use)
        const { known, token } = yield* stranger(server, "semaphore/1")
        yield* lease.release
        // it asks by itself, and nobody comes before it
        expect(yield* server.command("GET", lock)).toBeNull()
        const expected = {
          _tag: "LockStoreError",
          transient: false,
          detail: expect.stringMatching(/waited for as a semaphore.*asked for as a lock/) as string
        }
        expect(yield* Effect.flip(use(tryAcquire))).toMatchObject(expected)
        expect(yield* Effect.flip(use(Lock.acquire(key, { ttl })))).toMatchObject(expected)
        expect(yield* queueOf(server, key)).toEqual([token])
        expect(yield* server.command("HGET", waiters, token)).toBe(known)
        yield* server.command("ZREM", queue, token)
        yield* server.command("HDEL", waiters, token)
        yield* Lock.acquire(key, { ttl }).pipe(use)
      })
    )
  )

  for (const form of ["lock/2"]) {
    it.scoped(`a waiter that is not of this version keeps its place: ${form}`, () =>
      quietly(
        Effect.gen(function* () {
          const { server, use } = yield* environment()
          const lease = yield* Lock.acquire(key, { ttl }).pipe(use)
          const { known, token } = yield* stranger(server, form)
          yield* lease.release
          // it asks by itself, and nobody comes before it
          expect(yield* server.command("GET", lock)).toBeNull()
          const busy = yield* Effect.flip(use(tryAcquire))
          expect(busy).toMatchObject({ _tag: "LockUnavailable", retryAfter: Duration.zero })
          const behind = yield* caller(use, key, { ttl })
          yield* awaitQueued(server, key, 2)
          expect(yield* queueOf(server, key)).toHaveLength(2)
          expect((yield* queueOf(server, key))[0]).toBe(token)
          expect(yield* server.command("HGET", waiters, token)).toBe(known)
          expect(behind.state()).toBe("waiting")
          yield* server.command("ZREM", queue, token)
          yield* server.command("HDEL", waiters, token)
          yield* behind.lease
        })
      )
    )
  }

  it.scoped("a process does not keep the lock for itself where such a waiter stands", () =>
    Effect.gen(function* () {
      const { server, use } = yield* environment({ localHandoff: 1 })
      const first = yield* caller(use, key, { ttl })
      yield* first.lease
      const second = yield* caller(use, key, { ttl })
      yield* Effect.sleep(10)
      const { token } = yield* stranger(server, "lock/2")
      yield* first.release
      yield* awaitQueued(server, key, 2)
      expect((yield* queueOf(server, key))[0]).toBe(token)
      expect(yield* server.command("GET", lock)).toBeNull()
      expect(second.state()).toBe("waiting")
    })
  )

  it.scoped("one that has died is passed over, as any other", () =>
    Effect.gen(function* () {
      const { server, use } = yield* environment()
      yield* stranger(server, "lock/2", 0)
      yield* Effect.sleep(5)
      yield* use(tryAcquire)
      expect(yield* leftovers(server)).toEqual([])
    })
  )
})

layer(RedisServer.layer(), { excludeTestServices: true })("a holder's description", (it) => {
  it.scoped(
    "is not known where the record is gone, is another's name, or is that it has none",
    () =>
      Effect.gen(function* () {
        const { server, use } = yield* environment()
        const refusal = Effect.map(
          Effect.flip(Effect.scoped(Lock.tryAcquire(key))).pipe(use),
          ({ message }) => message.replace(/\d+m?s( \d+ms)?/g, "…")
        )
        const busy = 'Lock "k" is not available:'
        const until = "It expires in … unless it is renewed."
        for (const [owner, said] of [
          ["worker 7", "held by worker 7, for … so far."],
          ["", "held by a holder without a name, for … so far."]
        ] as const) {
          yield* server.flush
          yield* send(server, scripts.acquire, key, strangeToken(), 20_000, owner)
          yield* Effect.sleep(5)
          expect(yield* refusal).toBe(`${busy} ${said} ${until}`)
        }
        yield* server.command("DEL", record)
        expect(yield* refusal).toBe(`${busy} it is not known who holds it. ${until}`)
        yield* server.command("SET", lock, "theirs", "PX", 20_000)
        expect(yield* refusal).toBe(
          `${busy} held by a program that does not use this library. ${until}`
        )
      })
  )
  it("between two holders there is nothing to say of one, nor of its ttl", () => {
    const holder = { owner: undefined, heldFor: undefined, foreign: false }
    const error = new LockError.LockUnavailable({
      key,
      holder,
      retryAfter: Duration.zero,
      ahead: 2,
      waited: Duration.seconds(1)
    })
    expect(error.message).toBe(
      'Lock "k" is not available after waiting 1s: it is not known who holds it. In the queue before this caller: 2.'
    )
    const foreign = new LockError.LockUnavailable({
      ...error,
      holder: { ...holder, foreign: true }
    })
    expect(foreign.message).toContain("does not use this library. It expires in 0 unless")
  })
})
