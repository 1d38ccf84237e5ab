/**
 * Rule 2: whatever is sent again after a lost reply has the effect that it had. Each script is sent
 * twice by hand, from every state of the queue, and the server's state compared.
 */
import { expect, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { revokedKey } from "../../src/internal/redis/layout.js"
import * as scripts from "../../src/internal/redis/scripts.js"
import { keysOf, send, strangeToken } from "../support/Queue.js"
import { leftovers, RedisServer, serverMicros } from "./support.js"

type Server = RedisServer.RedisProcess

const key = "k"
const [lock, record, queue, waiters] = keysOf(key)
const revoked = revokedKey("", "", key)
const [ours, theirs, third, next] = [strangeToken(), strangeToken(), strangeToken(), strangeToken()]
const ttl = 60_000
const window = 3_000

const acquire = (server: Server, token: string) =>
  send(server, scripts.acquire, key, token, ttl, `lock/1 ${ttl} me`)
const stand = (server: Server, token: string) =>
  send(server, scripts.acquire, key, token, ttl, `lock/1 ${ttl} me`, window, window)
const beat = (server: Server, token: string) =>
  send(server, scripts.heartbeat, key, token, ttl, `lock/1 ${ttl} me`, window, window)
const release = (server: Server, token: string) => send(server, scripts.release, key, token)
const pass = (server: Server, token: string, known: string) =>
  send(server, scripts.pass, key, token, ttl, `lock/1 ${ttl} me`, known)
/** With a place of the next caller of the same process. */
const passFor = (server: Server, token: string, known: string) =>
  send(server, scripts.pass, key, token, ttl, `lock/1 ${ttl} me`, known, next, window, window)

/** The last fencing token that the record tells of. */
const lastFence = (server: Server) =>
  Effect.map(server.command("GET", record), (reply) => String(reply ?? "0").split(" ")[0]!)

/** Who holds the lock, who waits, who is known to wait; and the last grant. */
const stateOf = (server: Server) =>
  Effect.gen(function* () {
    return {
      lock: yield* server.command("GET", lock),
      queue: yield* server.command("ZRANGE", queue, 0, -1, "WITHSCORES"),
      known: ((yield* server.command("HKEYS", waiters)) as Array<string>).sort(),
      record: yield* server.command("GET", record),
      expires: Number(yield* server.command("PTTL", lock)) > 0,
      keys: yield* leftovers(server)
    }
  })

const setting = (...steps: ReadonlyArray<(server: Server) => Effect.Effect<unknown>>) => steps
const none = setting()
const free = (server: Server) => server.command("DEL", lock)
const foreign = (server: Server) => server.command("SET", lock, "a program", "PX", ttl)
const by =
  (script: (server: Server, token: string) => Effect.Effect<unknown>, token: string) =>
  (server: Server) =>
    script(server, token)

const oursHeld = setting(by(acquire, ours))
const theirsHeld = setting(by(acquire, theirs))
const oursHeldTheyWait = setting(by(acquire, ours), by(stand, theirs), by(stand, third))
const oursWaits = setting(by(acquire, theirs), by(stand, third), by(stand, ours))
const oursWaitsFirst = setting(by(acquire, theirs), by(stand, ours), by(stand, third))
const oursWaitsFirstAndFree = setting(...oursWaitsFirst, free)
const oursWaitsLastAndFree = setting(...oursWaits, free)
const foreignHeld = setting(foreign, by(stand, ours))

const states = {
  "a free key": none,
  "ours already": oursHeld,
  "another's": theirsHeld,
  "ours, others wait": oursHeldTheyWait,
  "another's, we wait behind a third": oursWaits,
  "another's, we wait before a third": oursWaitsFirst,
  "free, we are first in the queue": oursWaitsFirstAndFree,
  "free, we are last in the queue": oursWaitsLastAndFree,
  "a foreign program's, we wait": foreignHeld
}

const renew = (server: Server, token: string) =>
  server.command("EVAL", scripts.renew.lua, 3, lock, record, revoked, token, ttl)
const verify = (server: Server, token: string) =>
  server.command("EVAL", scripts.verify.lua, 2, lock, revoked, token)

const sends = {
  acquire,
  "acquire, to wait": stand,
  heartbeat: beat,
  renew,
  verify,
  release,
  pass,
  "pass, with a place": passFor
}

/** Digits of times differ between two calls; what they say does not. */
const shape = (reply: unknown): unknown =>
  Array.isArray(reply) ? ["busy", reply[1], reply[2], reply[4]] : reply

layer(RedisServer.layer(), { excludeTestServices: true })("a script that is sent twice", (it) => {
  for (const [script, call] of Object.entries(sends)) {
    for (const [state, steps] of Object.entries(states)) {
      it.scoped(`does what it did: ${script}, where the key is ${state}`, () =>
        Effect.gen(function* () {
          const server = yield* RedisServer.RedisServer
          yield* server.flush
          for (const step of steps) yield* step(server)
          const known = yield* lastFence(server)
          const first = yield* call(server, ours, known)
          const once = yield* stateOf(server)
          const second = yield* call(server, ours, known)
          const twice = yield* stateOf(server)
          const isPass = script.startsWith("pass")
          if (isPass && once.lock === ours) {
            // kept: a new fencing token each time
            expect({ ...twice, record: "" }).toEqual({ ...once, record: "" })
            expect(Number(second)).toBeGreaterThan(Number(first))
            return
          }
          expect(twice).toEqual(once)
          // a release that is sent again finds its own work: nobody, or whom it was handed to
          if (isPass && state === "ours, others wait") expect(once.lock).toBe(theirs)
          if (script === "release" || isPass) expect([0, 2]).toContain(second)
          else expect(shape(second)).toEqual(shape(first))
        })
      )
    }
  }

  it.scoped("queues a token once, however often it is sent, at its first place", () =>
    Effect.gen(function* () {
      const server = yield* RedisServer.RedisServer
      yield* server.flush
      yield* acquire(server, theirs)
      yield* stand(server, ours)
      yield* stand(server, third)
      for (const again of [stand, beat, stand, beat]) yield* again(server, ours)
      expect(yield* server.command("ZRANGE", queue, 0, -1)).toEqual([ours, third])
    })
  )

  it.scoped("never queues by a heartbeat: not after a grant, a release, or an expiry", () =>
    Effect.gen(function* () {
      const server = yield* RedisServer.RedisServer
      for (const end of [release, free]) {
        yield* server.flush
        yield* acquire(server, theirs)
        yield* stand(server, ours)
        yield* release(server, theirs)
        expect(yield* server.command("GET", lock)).toBe(ours)
        yield* end(server, ours)
        expect(yield* beat(server, ours)).toBe(0)
        expect(yield* leftovers(server)).toEqual([])
      }
    })
  )

  it.scoped(
    "a heartbeat that claims a grant says the grant's fencing token, and gives the full ttl",
    () =>
      Effect.gen(function* () {
        const server = yield* RedisServer.RedisServer
        yield* server.flush
        yield* acquire(server, theirs)
        yield* stand(server, ours)
        yield* release(server, theirs)
        expect(Number(yield* server.command("PTTL", lock))).toBeLessThanOrEqual(window)
        const granted = String(yield* server.command("GET", record)).split(" ")[0]
        expect(yield* beat(server, ours)).toBe(granted)
        expect(Number(yield* server.command("PTTL", lock))).toBeGreaterThan(window)
        expect(yield* beat(server, ours)).toBe(granted)
      })
  )

  it.scoped(
    "a release serves the first whose heartbeat is fresh, and forgets the dead before it",
    () =>
      Effect.gen(function* () {
        const server = yield* RedisServer.RedisServer
        yield* server.flush
        yield* acquire(server, theirs)
        for (const token of [strangeToken(), strangeToken(), strangeToken()]) {
          yield* send(server, scripts.acquire, key, token, ttl, `lock/1 ${ttl} dead`, 0, window)
        }
        const diedAt = yield* serverMicros(server)
        yield* RedisServer.eventually(
          Effect.map(serverMicros(server), (now) => now > diedAt + 2_000)
        )
        yield* stand(server, ours)
        yield* release(server, theirs)
        expect(yield* server.command("GET", lock)).toBe(ours)
        expect(yield* leftovers(server)).toEqual([lock])
      })
  )

  it.scoped("a pass with a place: queued by the copy that hands over, behind who waits", () =>
    Effect.gen(function* () {
      const server = yield* RedisServer.RedisServer
      const queued = server.command("ZRANGE", queue, 0, -1)
      // nobody waits: kept, and nothing is queued
      yield* server.flush
      const granted = String(yield* acquire(server, ours))
      const kept = String(yield* passFor(server, ours, granted))
      expect(Number(kept)).toBeGreaterThan(Number(granted))
      expect(yield* leftovers(server)).toEqual([lock])
      // an earlier pass that comes late keeps it again, whoever waits by now
      yield* stand(server, theirs)
      const again = String(yield* passFor(server, ours, granted))
      expect(Number(again)).toBeGreaterThan(Number(kept))
      expect(yield* queued).toEqual([theirs])
      // handed over: what it is told is what an acquire would be
      yield* stand(server, third)
      const [left, isOurs, told, micros, rank] = (yield* passFor(
        server,
        ours,
        again
      )) as Array<unknown>
      expect(yield* server.command("GET", lock)).toBe(theirs)
      expect(yield* queued).toEqual([third, next])
      expect([left, isOurs, rank]).toEqual([window, 1, 1])
      expect(told).toBe(yield* server.command("GET", record))
      expect(Math.abs(Number(micros) - (yield* serverMicros(server)))).toBeLessThan(5_000_000)
      expect(yield* beat(server, next)).toHaveLength(5)
      // the copy that comes second finds another holder, and queues nobody
      yield* release(server, next)
      expect(yield* passFor(server, ours, again)).toBe(2)
      expect(yield* queued).toEqual([third])
    })
  )

  it.scoped("a pass with a place, where all who waited have died: it is served itself", () =>
    Effect.gen(function* () {
      const server = yield* RedisServer.RedisServer
      yield* server.flush
      const granted = String(yield* acquire(server, ours))
      yield* send(server, scripts.acquire, key, third, ttl, `lock/1 ${ttl} dead`, 0, window)
      const diedAt = yield* serverMicros(server)
      yield* RedisServer.eventually(Effect.map(serverMicros(server), (now) => now > diedAt + 2_000))
      expect(yield* passFor(server, ours, granted)).toHaveLength(5)
      expect(yield* server.command("GET", lock)).toBe(next)
      expect(yield* leftovers(server)).toEqual([lock])
      expect(String(yield* beat(server, next))).toMatch(/^\d{16}$/)
    })
  )

  it.scoped(
    "a pass with a place, behind more dead than a call passes over: kept, and not queued",
    () =>
      Effect.gen(function* () {
        const server = yield* RedisServer.RedisServer
        yield* server.flush
        const granted = String(yield* acquire(server, ours))
        // (nothing is known of them)
        for (let i = 1; i <= 64; i++) yield* server.command("ZADD", queue, i, strangeToken())
        yield* stand(server, theirs)
        expect(String(yield* passFor(server, ours, granted))).toMatch(/^\d{16}$/)
        expect(yield* server.command("GET", lock)).toBe(ours)
        expect(yield* server.command("ZRANGE", queue, 0, -1)).toEqual([theirs])
        expect(yield* server.command("HKEYS", waiters)).toEqual([theirs])
      })
  )

  it.scoped("queue and waiters live on where one arrives a second after another, or later", () =>
    Effect.gen(function* () {
      const server = yield* RedisServer.RedisServer
      yield* server.flush
      yield* acquire(server, theirs)
      yield* stand(server, ours)
      for (const name of [queue, waiters]) yield* server.command("PEXPIRE", name, 5_000)
      const [, arrived] = (yield* server.command(
        "ZRANGE",
        queue,
        0,
        0,
        "WITHSCORES"
      )) as Array<string>
      const second = Math.floor(Number(arrived) / 1_000_000)
      yield* RedisServer.eventually(
        Effect.map(serverMicros(server), (now) => Math.floor(now / 1_000_000) > second)
      )
      yield* stand(server, third)
      for (const name of [queue, waiters]) {
        expect(Number(yield* server.command("PTTL", name))).toBeGreaterThan(8_000)
      }
    })
  )

  it.scoped("queue and waiters end by themselves, even if every process dies", () =>
    Effect.gen(function* () {
      const server = yield* RedisServer.RedisServer
      yield* server.flush
      yield* acquire(server, theirs)
      yield* stand(server, ours)
      for (const name of [queue, waiters]) {
        const left = Number(yield* server.command("PTTL", name))
        // longer than a claim window: who is alive must not lose its place
        expect(left).toBeGreaterThan(window)
        expect(left).toBeLessThanOrEqual(60_000)
      }
    })
  )

  it.scoped("the order of arrival is kept where the server's clock goes back", () =>
    Effect.gen(function* () {
      const server = yield* RedisServer.RedisServer
      yield* server.flush
      yield* acquire(server, theirs)
      yield* stand(server, third)
      // as if it had arrived an hour later by the clock of then
      yield* server.command("ZADD", queue, (Date.now() + 3_600_000) * 1_000, third)
      yield* stand(server, ours)
      expect(yield* server.command("ZRANGE", queue, 0, -1)).toEqual([third, ours])
    })
  )

  it.scoped("operations on a long queue do not get slower with its length", () =>
    Effect.gen(function* () {
      const server = yield* RedisServer.RedisServer
      const cost = (length: number) =>
        Effect.gen(function* () {
          yield* server.flush
          yield* acquire(server, theirs)
          const fill = `for i = 1, tonumber(ARGV[1]) do
            local token = 'erl1:crowd.' .. i
            redis.call('ZADD', KEYS[1], i, token)
            redis.call('HSET', KEYS[2], token, ARGV[2] .. ' 600000 1000 crowd')
          end`
          yield* server.command("EVAL", fill, 2, queue, waiters, length, Date.now())
          yield* stand(server, ours)
          const { usec: before = 0 } = (yield* server.commandStats)["eval"] ?? {}
          let holder = theirs
          for (let i = 0; i < 50; i++) {
            yield* beat(server, ours)
            yield* release(server, holder)
            holder = String(yield* server.command("GET", lock))
          }
          return ((yield* server.commandStats)["eval"]?.usec ?? 0) - before
        })
      const short = yield* cost(100)
      const long = yield* cost(50_000)
      expect(long).toBeLessThan(short * 5 + 20_000)
    })
  )
})

layer(RedisServer.layer(), { excludeTestServices: true })("the message of a grant", (it) => {
  const serves = { release, pass: (server: Server, token: string) => pass(server, token, "0") }

  /** What is published of the first waiter's grant: its fencing token, and how many come before it. */
  const told = (
    server: Server,
    recordedBy: (now: number) => string | undefined,
    serve: (server: Server) => Effect.Effect<unknown>
  ) =>
    Effect.scoped(
      Effect.gen(function* () {
        yield* server.flush
        for (const step of oursHeldTheyWait) yield* step(server)
        const monitor = yield* server.monitor
        const number = recordedBy(yield* serverMicros(server))
        if (number === undefined) yield* server.command("DEL", record)
        else yield* server.command("SET", record, `${number} lock/1 ${ttl} me`)
        yield* serve(server)
        const { args } = yield* monitor.awaitCommand(({ args }) => /^publish$/i.test(args[0]!))
        const [, fence, , earlier] = /^\S+ (\d+)(:(\d+))? /.exec(args[2]!)!
        return {
          fence: Number(fence),
          earlier: earlier === undefined ? undefined : Number(earlier)
        }
      })
    )

  it.scoped("counts the fencing tokens of the time since the last one, 255 at most", () =>
    Effect.gen(function* () {
      const server = yield* RedisServer.RedisServer
      const longAgo = yield* told(server, (now) => String(now - 1_000_000), by(release, ours))
      expect(longAgo.earlier).toBe(255)
      let seen = 0
      for (let i = 0; i < 2_000 && seen < 3; i++) {
        let last = 0
        const { earlier = 0, fence } = yield* told(
          server,
          (now) => String((last = now + 50 + 10 * (i % 60))),
          by(release, ours)
        )
        expect(fence - earlier).toBeGreaterThan(last)
        expect(earlier).toBeLessThanOrEqual(255)
        if (earlier > 0 && earlier < 255) {
          seen++
          expect(fence - earlier).toBe(last + 1)
        }
      }
      expect(seen).toBe(3)
    })
  )

  for (const [name, serve] of Object.entries(serves)) {
    it.scoped(`counts none where the last one is not known, or is ahead of time: ${name}`, () =>
      Effect.gen(function* () {
        const server = yield* RedisServer.RedisServer
        const known = name === "pass" ? "0" : undefined
        const ahead = yield* told(
          server,
          (now) => known ?? String(now + 60_000_000),
          (one) => serve(one, ours)
        )
        expect(ahead.earlier).toBeUndefined()
        if (known !== undefined) return
        const unknown = yield* told(
          server,
          () => undefined,
          (one) => serve(one, ours)
        )
        expect(unknown.earlier).toBeUndefined()
      })
    )
  }

  for (const [name, serve] of Object.entries({
    "a heartbeat": by(beat, third),
    "an acquire": by(stand, next),
    "a release that came late": by(release, ours)
  })) {
    it.scoped(
      `counts none of a lock that was free, which another queue may have had: ${name}`,
      () =>
        Effect.gen(function* () {
          const server = yield* RedisServer.RedisServer
          const { earlier } = yield* told(
            server,
            (now) => String(now - 1_000_000),
            (one) => Effect.zipRight(free(one), serve(one))
          )
          expect(earlier).toBeUndefined()
        })
    )
  }
})
