/**
 * The scripts of semaphores, each sent twice by hand from every state of a key: whatever is sent again
 * has the effect that it had. And after each of them, what stands beside a key fits what stands there.
 */
import { expect, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { hashed, lockKeys, revokedKey } from "../../src/internal/redis/layout.js"
import type * as locks from "../../src/internal/redis/scripts.js"
import * as scripts from "../../src/internal/redis/semaphoreScripts.js"
import { strangeToken } from "../support/Queue.js"
import { leftovers, RedisServer, serverMicros } from "./support.js"

type Server = RedisServer.RedisProcess
type Step = (server: Server) => Effect.Effect<unknown>

const allKeys = (key: string): ReadonlyArray<string> => {
  const keys = lockKeys("", "", key, true)
  if (typeof keys === "string") throw new Error(keys)
  return keys
}
const key = "k"
const keys = allKeys(key)
const [held, record, queue, waiters, holders, index] = keys as [
  string,
  string,
  string,
  string,
  string,
  string
]
const [ours, theirs, third] = [strangeToken(), strangeToken(), strangeToken()]
const ttl = 60_000
const window = 3_000

const claim = (share: number, limit: number) => `semaphore/1 ${ttl} ${share} ${limit} me`

const send = (
  server: Server,
  script: locks.Script,
  ...args: ReadonlyArray<string | number>
): Effect.Effect<unknown> => server.command("EVAL", script.lua, keys.length, ...keys, ...args)

const acquire = (server: Server, token: string, share = 1, limit = 3) =>
  send(server, scripts.acquire, token, ttl, claim(share, limit))
const stand = (server: Server, token: string, share = 1, limit = 3) =>
  send(server, scripts.acquire, token, ttl, claim(share, limit), window, window)
const beat = (server: Server, token: string, limit = 3) =>
  send(server, scripts.heartbeat, token, ttl, claim(1, limit), window, window)
const release = (server: Server, token: string) => send(server, scripts.release, token)
const revoked = revokedKey("", "", key)
const renew = (server: Server, token: string) =>
  server.command("EVAL", scripts.renew.lua, 7, ...keys, revoked, token, ttl)
const verify = (server: Server, token: string) =>
  server.command("EVAL", scripts.verify.lua, 2, held, revoked, token)
const pass = (server: Server, token: string, known: string, queued = 0) =>
  send(server, scripts.pass, token, ttl, claim(1, 3), known, queued)

/** The fencing token of a holder's entry. */
const entryOf = (server: Server, token: string) =>
  Effect.map(server.command("HGET", holders, token), (entry) => String(entry ?? "0").split(" ")[0]!)

/** The parts of the grant that a message has told to that token. */
const grantOf = (commands: ReadonlyArray<RedisServer.MonitoredCommand>, token: string) => {
  const told = commands
    .filter(({ args }) => /^publish$/i.test(args[0]!))
    .map(({ args }) => args[2]!)
  const [, grants] = told.find((message) => message.startsWith(`${token} `))!.split(" ")
  return grants!.split(":").map(Number)
}

const strings = (reply: unknown) => (reply as ReadonlyArray<unknown>).map(String)

const typeOf = (server: Server) => Effect.map(server.command("TYPE", held), String)

const stateOf = (server: Server) =>
  Effect.gen(function* () {
    const type = yield* typeOf(server)
    return {
      held:
        type === "zset"
          ? strings(yield* server.command("ZRANGE", held, 0, -1)).sort()
          : type === "string" && (yield* server.command("GET", held)),
      holders: strings(yield* server.command("HGETALL", holders)),
      index: strings(yield* server.command("ZRANGE", index, 0, -1)),
      queue: strings(yield* server.command("ZRANGE", queue, 0, -1, "WITHSCORES")),
      known: strings(yield* server.command("HKEYS", waiters)).sort(),
      record: yield* server.command("GET", record),
      keys: yield* leftovers(server)
    }
  })

/** What stands beside the key is what its holders are, and everything ends by itself. */
const checkConsistent = (server: Server) =>
  Effect.gen(function* () {
    for (const name of yield* server.dump) {
      expect([name, Number(yield* server.command("PTTL", name)) > 0]).toEqual([name, true])
    }
    if ((yield* typeOf(server)) !== "zset") return
    const tokens = strings(yield* server.command("ZRANGE", held, 0, -1))
    const entries = strings(yield* server.command("HGETALL", holders))
    const known = new Map<string, string>()
    for (let at = 0; at < entries.length; at += 2) known.set(entries[at]!, entries[at + 1]!)
    const inUse = Number(known.get("in-use"))
    known.delete("in-use")
    expect([...known.keys()].sort()).toEqual([...tokens].sort())
    let sum = 0
    const entriesOfIndex: Array<string> = []
    for (const [token, entry] of known) {
      const [fence, , , share, limit] = entry.split(" ")
      sum += Number(share)
      entriesOfIndex.push(
        `f${fence!.padStart(16, "0")} ${token}`,
        `l${limit!.padStart(7, "0")} ${token}`
      )
    }
    expect(inUse).toBe(sum)
    const indexed = strings(yield* server.command("ZRANGE", index, 0, -1))
    // (one that holds it alone need not stand there)
    if (tokens.length > 1 || indexed.length > 0) {
      expect(indexed.sort()).toEqual(entriesOfIndex.sort())
    }
    const last = Number(strings(yield* server.command("ZRANGE", held, -1, -1, "WITHSCORES"))[1])
    if (last * 1_000 < (yield* serverMicros(server))) return
    for (const name of [held, holders, ...(indexed.length > 0 ? [index] : [])]) {
      const left = Number(yield* server.command("PTTL", name))
      const ends = Math.floor((yield* serverMicros(server)) / 1_000) + left
      expect(Math.abs(ends - last)).toBeLessThan(500)
    }
  })

const by =
  <Args extends ReadonlyArray<unknown>>(
    script: (server: Server, ...args: Args) => Effect.Effect<unknown>,
    ...args: Args
  ): Step =>
  (server) =>
    script(server, ...args)

/** The ttl of a holder has ended, and nobody has removed it. */
const ended =
  (token: string): Step =>
  (server) =>
    Effect.flatMap(serverMicros(server), (now) =>
      server.command("ZADD", held, Math.floor(now / 1_000) - 5, token)
    )

const full = [by(acquire, theirs, 3)]

const states: Readonly<Record<string, ReadonlyArray<Step>>> = {
  "a free key": [],
  "held by ours alone": [by(acquire, ours)],
  "held by another": [by(acquire, theirs)],
  "held by ours and another": [by(acquire, ours), by(acquire, theirs)],
  "held by others, and full": full,
  "held by ours, and others wait": [
    by(acquire, ours),
    by(acquire, theirs, 2),
    by(stand, third),
    by(stand, strangeToken())
  ],
  "held by ours alone, and a large one waits": [by(acquire, ours), by(stand, theirs, 3)],
  "full, and we wait first": [...full, by(stand, ours), by(stand, third)],
  "full, and we wait behind a third": [...full, by(stand, third), by(stand, ours)],
  "free, and we wait first": [...full, by(stand, ours), by(stand, third), by(delKey)],
  "free, and we wait behind a third": [...full, by(stand, third), by(stand, ours), by(delKey)],
  "half free, and we wait behind a large one": [
    by(acquire, theirs),
    by(stand, third, 3),
    by(stand, ours)
  ],
  "held by ours, whose ttl has ended, and by another": [
    by(acquire, ours),
    by(acquire, theirs),
    ended(ours)
  ],
  "held by ours alone, whose ttl has ended": [by(acquire, ours), ended(ours)],
  "held by another of a smaller limit": [by(acquire, theirs, 1, 1)],
  "deleted, and what stands beside it not": [
    by(acquire, theirs),
    by(acquire, third),
    (server) => server.command("DEL", held)
  ],
  "a foreign program's, and we wait": [
    (server) => server.command("SET", held, "a program", "PX", ttl),
    by(stand, ours)
  ],
  "a lock": [(server) => server.command("SET", held, theirs, "PX", ttl)]
}

function delKey(server: Server) {
  return server.command("DEL", held)
}

const sends = { acquire, "acquire, to wait": stand, heartbeat: beat, renew, verify, release }

/** Digits of times differ between two calls; what they say does not. */
const shape = (reply: unknown): unknown =>
  Array.isArray(reply) ? ["busy", reply[1], reply[2], reply[4], reply[5], reply[6]] : reply

layer(RedisServer.layer(), { excludeTestServices: true })("a script that is sent twice", (it) => {
  const from = (state: string) =>
    Effect.gen(function* () {
      const server = yield* RedisServer.RedisServer
      yield* server.flush
      for (const step of states[state]!) yield* step(server)
      return server
    })
  const failed = (call: Effect.Effect<unknown>) =>
    Effect.catchAllCause(call, (cause) => Effect.succeed(/[A-Z]{6,}/.exec(String(cause))?.[0]))

  for (const state of Object.keys(states)) {
    for (const [script, call] of Object.entries(sends)) {
      it.scoped(`does what it did: ${script}, where the key is ${state}`, () =>
        Effect.gen(function* () {
          const server = yield* from(state)
          const first = yield* failed(call(server, ours))
          const once = yield* stateOf(server)
          yield* checkConsistent(server)
          const second = yield* failed(call(server, ours))
          expect(yield* stateOf(server)).toEqual(once)
          // a release that is sent again finds its own work
          if (script === "release") expect(second).toBe(first === 1 ? 0 : first)
          else expect(shape(second)).toEqual(shape(first))
        })
      )
    }

    // (what is passed on was granted, and waits nowhere)
    if (state.includes("we wait")) continue
    it.scoped(`does what it did: pass, where the key is ${state}`, () =>
      Effect.gen(function* () {
        const server = yield* from(state)
        const known = yield* entryOf(server, ours)
        const first = yield* pass(server, ours, known)
        const once = yield* stateOf(server)
        yield* checkConsistent(server)
        const second = yield* pass(server, ours, known)
        const twice = yield* stateOf(server)
        expect(twice).toEqual(once)
        if (typeof first === "string") {
          // kept: the same fencing token, and only that
          const [fence, floor, limit] = first.split(":")
          expect(second).toBe([fence, floor, limit, fence].join(":"))
        } else if (first === 1) expect(second).toBe(0)
        else expect(second).toBe(first)
      })
    )
  }

  it.scoped("queues a token once, however often it is sent, at its first place", () =>
    Effect.gen(function* () {
      const server = yield* from("full, and we wait first")
      for (const again of [stand, beat, stand, beat]) yield* again(server, ours)
      expect(yield* server.command("ZRANGE", queue, 0, -1)).toEqual([ours, third])
    })
  )

  it.scoped("never queues by a heartbeat: not after a grant, a release, or an expiry", () =>
    Effect.gen(function* () {
      for (const end of [release, (server: Server) => delKey(server)]) {
        const server = yield* from("full, and we wait first")
        yield* release(server, third)
        yield* release(server, theirs)
        expect(yield* server.command("ZRANGE", held, 0, -1)).toEqual([ours])
        yield* end(server, ours)
        expect(yield* beat(server, ours)).toBe(0)
        yield* release(server, ours)
        expect(yield* leftovers(server)).toEqual([])
      }
    })
  )

  it.scoped("a holder that comes again when its ttl has ended is counted once", () =>
    Effect.gen(function* () {
      const server = yield* from("a free key")
      // more than are removed in one call, and ours the last of them
      for (let n = 0; n < 40; n++) yield* acquire(server, strangeToken(), 1, 1_000)
      yield* acquire(server, ours, 1, 1_000)
      yield* acquire(server, theirs, 1, 1_000)
      const now = Math.floor((yield* serverMicros(server)) / 1_000)
      const tokens = strings(yield* server.command("ZRANGE", held, 0, -1))
      for (const token of tokens) {
        if (token !== theirs) {
          yield* server.command("ZADD", held, now - (token === ours ? 10 : 100), token)
        }
      }
      yield* acquire(server, ours, 1, 1_000)
      yield* checkConsistent(server)
      for (let n = 0; n < 3; n++) yield* acquire(server, ours, 1, 1_000)
      yield* checkConsistent(server)
      expect(strings(yield* server.command("ZRANGE", held, 0, -1)).sort()).toEqual(
        [ours, theirs].sort()
      )
    })
  )

  it.scoped(
    "removes a bounded number of holders in a call; the rest counts until the next one",
    () =>
      Effect.gen(function* () {
        const server = yield* from("a free key")
        const dead = Array.from({ length: 100 }, strangeToken)
        for (const token of dead) yield* acquire(server, token, 1, 101)
        const now = Math.floor((yield* serverMicros(server)) / 1_000)
        yield* server.command(
          "ZADD",
          held,
          ...dead.slice(0, 99).flatMap((token) => [now - 10, token])
        )
        const left: Array<number> = []
        for (let n = 0; n < 4; n++) {
          expect(yield* renew(server, dead[98]!)).toBe(0)
          expect(yield* verify(server, dead[98]!)).toBe(0)
          yield* release(server, ours)
          yield* checkConsistent(server)
          left.push(Number(yield* server.command("ZCARD", held)))
        }
        expect(left).toEqual([68, 36, 4, 1])
      })
  )

  it.scoped("a queue whose only waiter does not fit ends by itself, if its process dies", () =>
    Effect.gen(function* () {
      const server = yield* from("held by ours and another")
      yield* stand(server, third, 3)
      yield* release(server, ours)
      expect(yield* server.command("ZRANGE", queue, 0, -1)).toEqual([third])
      expect(Number(yield* server.command("PTTL", queue))).toBeGreaterThan(window)
    })
  )

  it.scoped("somebody's own sorted set is left alone, and the error says so", () =>
    Effect.gen(function* () {
      const server = yield* from("a free key")
      yield* server.command("ZADD", held, 1, "alice", 2, "bob", Date.now() * 2, "carol")
      for (const call of [acquire, stand]) {
        expect(yield* failed(call(server, ours))).toBe("WRONGTYPE")
      }
      expect(yield* release(server, ours)).toBe(2)
      expect(yield* pass(server, ours, "1")).toBe(2)
      expect(yield* beat(server, ours)).toBe(0)
      expect(yield* renew(server, ours)).toBe(0)
      expect(yield* server.command("ZRANGE", held, 0, -1)).toEqual(["alice", "bob", "carol"])
      expect(yield* server.command("PTTL", held)).toBe(-1)
      expect(yield* server.dump).toEqual([held])
    })
  )

  it.scoped("a holder whose ttl was ended by hand holds nothing, and its permits are free", () =>
    Effect.gen(function* () {
      const server = yield* from("held by ours and another")
      yield* stand(server, third, 2)
      yield* server.command("ZADD", held, "XX", 0, ours)
      expect(yield* verify(server, ours)).toBe(0)
      expect(yield* renew(server, ours)).toBe(0)
      yield* release(server, ours)
      expect(strings(yield* server.command("ZRANGE", held, 0, -1)).sort()).toEqual(
        [theirs, third].sort()
      )
      yield* checkConsistent(server)
    })
  )

  it.scoped(
    "where what stands beside the key was deleted, nobody enters until the holders end",
    () =>
      Effect.gen(function* () {
        for (const name of [holders, index]) {
          const server = yield* from("held by ours and another")
          yield* server.command("DEL", name)
          expect(yield* acquire(server, third)).toBeInstanceOf(Array)
          expect(yield* renew(server, ours)).toBe(1)
          expect(yield* acquire(server, ours)).toMatch(/^\d{16}:/)
          expect(yield* release(server, ours)).toBe(1)
          yield* release(server, theirs)
          expect(yield* acquire(server, third)).toMatch(/^\d{16}:/)
          yield* checkConsistent(server)
        }
      })
  )

  it.scoped("a process that keeps its share has numbers that nobody's smallest one is above", () =>
    Effect.gen(function* () {
      const server = yield* from("held by ours alone")
      yield* RedisServer.eventually(
        Effect.map(
          Effect.all([serverMicros(server), entryOf(server, ours)]),
          ([now, fence]) => now > Number(fence) + 1_000
        )
      )
      for (const token of [theirs, third]) {
        const known = yield* entryOf(server, ours)
        const kept = strings(String(yield* pass(server, ours, known)).split(":"))
        const [first, floor, , last] = kept.map(Number)
        expect(first).toBeGreaterThan(Number(known))
        expect(last! - first!).toBeGreaterThan(0)
        expect(last! - first!).toBeLessThan(256)
        expect(floor).toBeLessThanOrEqual(first!)
        const [fence, theirFloor] = String(yield* acquire(server, token))
          .split(":")
          .map(Number)
        expect(fence).toBeGreaterThan(last!)
        expect(theirFloor).toBe(first)
        yield* checkConsistent(server)
        yield* release(server, token)
      }
    })
  )

  it.scoped("who is served while the key is held has numbers that nobody's smallest is above", () =>
    Effect.gen(function* () {
      for (const state of ["held by ours and another", "held by ours alone"]) {
        const server = yield* from(state)
        yield* stand(server, third, 3 - (state === "held by ours alone" ? 0 : 1))
        const before = Number(String(yield* server.command("GET", record)).split(" ")[0])
        yield* RedisServer.eventually(
          Effect.map(serverMicros(server), (now) => now > before + 1_000)
        )
        const monitor = yield* server.monitor
        yield* release(server, ours)
        const [first, floor, least, last] = grantOf(yield* monitor.commands, third)
        // those of the time since the last grant, as many as a process may have at once
        expect(last! - first!).toBe(255)
        expect(first).toBeGreaterThan(before)
        expect(least).toBe(3)
        expect(yield* entryOf(server, third)).toBe(String(first))
        expect(String(yield* server.command("GET", record))).toMatch(`${last} `)
        const others = Number(yield* entryOf(server, theirs))
        expect(floor).toBe(others === 0 ? first : others)
        yield* checkConsistent(server)
        // a heartbeat that finds the grant has the number of the entry
        expect(
          String(yield* beat(server, third))
            .split(":")
            .map(Number)
        ).toEqual([first, floor, 3])
      }
    })
  )

  it.scoped("of a key that nobody held, who is served has one number", () =>
    Effect.gen(function* () {
      const server = yield* from("free, and we wait first")
      const monitor = yield* server.monitor
      yield* beat(server, third)
      expect(grantOf(yield* monitor.commands, ours)).toHaveLength(3)
    })
  )

  it.scoped("the numbers of one that keeps its share come after those that others have got", () =>
    Effect.gen(function* () {
      const server = yield* from("held by ours alone")
      const known = yield* entryOf(server, ours)
      const [theirFence] = String(yield* acquire(server, theirs))
        .split(":")
        .map(Number)
      const [first] = String(yield* pass(server, ours, known))
        .split(":")
        .map(Number)
      expect(first).toBeGreaterThan(theirFence!)
    })
  )

  it.scoped("serves as many as fit, in order, and no more in one call than is short", () =>
    Effect.gen(function* () {
      const server = yield* from("a free key")
      yield* acquire(server, theirs, 100, 100)
      const waiting = Array.from({ length: 100 }, strangeToken)
      for (const token of waiting) yield* stand(server, token, 1, 100)
      yield* release(server, theirs)
      expect(yield* server.command("ZRANGE", queue, 0, -1)).toEqual(waiting.slice(32))
      yield* checkConsistent(server)
      for (const next of [32, 64, 96]) yield* beat(server, waiting[next]!, 100)
      expect(strings(yield* server.command("ZRANGE", held, 0, -1)).sort()).toEqual(waiting.sort())
      yield* checkConsistent(server)
    })
  )

  it.scoped(
    "what travels together does not serve: what somebody waits for is asked by itself",
    () =>
      Effect.gen(function* () {
        const server = yield* from("held by ours, and others wait")
        const other = allKeys("other")
        const args = [
          2,
          0,
          2,
          ours,
          strangeToken(),
          third,
          ttl,
          claim(1, 3),
          third,
          ttl,
          claim(1, 3)
        ]
        const own = [...keys, ...other, ...keys, ...other]
        const once = yield* stateOf(server)
        const answers = yield* server.command(
          "EVAL",
          scripts.batch.lua,
          own.length,
          ...own,
          ...args
        )
        expect(answers).toEqual([null, null, null, expect.stringMatching(/^\d{16}:\d{16}:3$/)])
        yield* server.command("DEL", ...other)
        expect(yield* stateOf(server)).toEqual(once)
      })
  )

  it.scoped("what travels together is done as each by itself", () =>
    Effect.gen(function* () {
      const server = yield* from("held by ours and another")
      const own = [...keys, ...keys, ...keys, ...keys]
      const args = [1, 1, 2, ours, theirs, ttl, third, ttl, claim(2, 3), ours, ttl, claim(1, 3)]
      const answers = yield* server.command("EVAL", scripts.batch.lua, own.length, ...own, ...args)
      expect(answers).toEqual([1, 1, expect.stringMatching(/^\d{16}:\d{16}:3$/), null])
      yield* checkConsistent(server)
      expect(yield* server.command("HGET", holders, "in-use")).toBe("3")
    })
  )

  it.scoped("who waited for a lock before there were versions is left alone", () =>
    Effect.gen(function* () {
      const server = yield* from("held by ours alone")
      const now = Math.floor((yield* serverMicros(server)) / 1_000)
      yield* server.command("ZADD", queue, now * 1_000, third)
      yield* server.command("HSET", waiters, third, `${now} 3000 3000 their name`)
      yield* server.command("PEXPIRE", waiters, 10_000)
      expect(yield* release(server, ours)).toBe(1)
      expect(yield* server.command("ZRANGE", queue, 0, -1)).toEqual([third])
      expect(yield* server.command("EXISTS", held)).toBe(0)
    })
  )

  it.scoped("all keys of a semaphore are in one slot", () =>
    Effect.sync(() => {
      expect(new Set(allKeys("invoice").map(hashed)).size).toBe(1)
    })
  )
})
