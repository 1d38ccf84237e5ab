/** The ticks of a key in Redis: by message between processes, sent twice, late, and without an answer. */
import { expect, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Fiber from "effect/Fiber"
import type { LockStore } from "effect-redis-lock"
import { lockScripts } from "../../src/internal/redis/boundScripts.js"
import { lockKeys } from "../../src/internal/redis/layout.js"
import type { Script } from "../../src/internal/redis/scripts.js"
import * as scripts from "../../src/internal/redis/scripts.js"
import {
  environments,
  holdCommands,
  idle,
  queueOf,
  strangeToken,
  strict,
  subscribed
} from "../support/Queue.js"
import { ask } from "../support/stores.js"
import {
  type Environment,
  environment,
  nothingLeft,
  pttl,
  quietly,
  RedisServer,
  timed,
  touching,
  undisturbed
} from "./support.js"

type Server = RedisServer.RedisProcess

const key = "k"
const keys = lockKeys("", "", key, false, true) as ReadonlyArray<string>
const [lock, , queue, , tickKey] = keys as readonly [string, string, string, string, string]
const ttl = 60_000

const attempt = (tick: number, more?: Partial<LockStore.Claim>) =>
  ask(key, { ttlMillis: ttl, tick, ...more })
const waiting = (tick: number, more?: Partial<LockStore.Claim>) =>
  attempt(tick, { waitMillis: Number.POSITIVE_INFINITY, ...more })

/** Waits until so many stand in the queue. */
const queued = ({ server }: Pick<Environment, "server">, count: number) =>
  RedisServer.eventually(Effect.map(queueOf(server, key), (tokens) => tokens.length === count))

/** What stands beside a lock whose ticks are remembered, and is no leftover. */
const onlyTick = (server: Server) =>
  RedisServer.eventually(
    Effect.map(server.dump, (all) =>
      all.every((name) => name === tickKey || name.endsWith(":lock-record"))
    )
  )

layer(RedisServer.layer(), { excludeTestServices: true })("a tick in Redis", (it) => {
  it.scoped("is kept beside the lock, for as long as the claim says", () =>
    Effect.gen(function* () {
      const { server, use } = yield* environment()
      yield* (yield* use(attempt(7, { tickKeptMillis: 90_000 }))).release
      expect(yield* onlyTick(server)).toBeUndefined()
      expect(String(yield* server.command("GET", tickKey))).toMatch(/^7 erl1:\S+ $/)
      const left = yield* pttl(server, tickKey)
      expect(left).toBeLessThanOrEqual(90_000)
      expect(left).toBeGreaterThan(80_000)
      yield* (yield* use(attempt(8))).release
      expect(String(yield* server.command("GET", tickKey))).toMatch(/^8 erl1:\S+ 7$/)
      expect(yield* pttl(server, tickKey)).toBeGreaterThan(80_000_000)
    })
  )

  it.scoped("is granted to one of many processes, by one message, and the others are told", () =>
    Effect.gen(function* () {
      const [a, b, c] = yield* environments([strict, strict, strict])
      const first = yield* a.use(attempt(1))
      const asked = yield* Effect.forEach([b, c, b, c], ({ use }) =>
        Effect.fork(Effect.either(use(waiting(2))))
      )
      yield* queued(a, 2)
      yield* Effect.forEach([b, c], subscribed)
      yield* first.release
      const exits = yield* Effect.forEach(asked, Fiber.join)
      const granted = exits.filter(Either.isRight)
      expect(granted.length).toBe(1)
      for (const refused of exits.filter(Either.isLeft)) {
        expect(refused.left).toMatchObject({ _tag: "LockUnavailable", lastTick: 2 })
      }
      yield* granted[0]!.right.release
      yield* onlyTick(a.server)
      yield* Effect.forEach([a, b, c], ({ store }) => idle(store))
    })
  )

  it.scoped("a waiter begins as soon as the message has come, with an answer", () =>
    Effect.gen(function* () {
      const [a, b] = yield* environments([strict, strict])
      const first = yield* a.use(attempt(1))
      const next = yield* Effect.fork(b.use(waiting(2)))
      yield* queued(a, 1)
      yield* subscribed(b)
      // a heartbeat has just been answered: the next one is a second away
      b.proxy.forget()
      yield* b.proxy.awaitReply(touching(lock))
      b.proxy.forget()
      yield* first.release
      const { millis } = yield* timed(Fiber.join(next))
      expect(millis).toBeLessThan(500)
      expect(b.proxy.commands.filter(touching(lock)).length).toBe(1)
      // and for the full ttl
      expect(yield* pttl(a.server, lock)).toBeGreaterThan(ttl - 5_000)
      yield* (yield* Fiber.join(next)).release
    })
  )

  it.scoped("the connection for messages is not doubted because of that", () =>
    undisturbed(
      50,
      Effect.gen(function* () {
        const [a, b] = yield* environments([strict, strict])
        const first = yield* a.use(attempt(1))
        const next = yield* Effect.fork(b.use(waiting(2)))
        yield* queued(a, 1)
        yield* subscribed(b)
        const { opened } = b.proxy
        yield* first.release
        const second = yield* Fiber.join(next)
        yield* Effect.sleep(800)
        yield* second.release
        expect(b.proxy.opened).toBe(opened)
      })
    )
  )

  it.scoped("where the message is lost, a heartbeat finds the grant", () =>
    Effect.gen(function* () {
      const [a, b] = yield* environments([strict, strict])
      const first = yield* a.use(attempt(1))
      const next = yield* Effect.fork(b.use(waiting(2)))
      yield* queued(a, 1)
      yield* subscribed(b)
      b.proxy.dropNextMessage()
      yield* first.release
      yield* (yield* Fiber.join(next)).release
    })
  )

  it.scoped("an acquire whose reply is lost is sent again, and has its tick", () =>
    quietly(
      Effect.gen(function* () {
        const { proxy, server, use } = yield* environment(strict)
        for (const tick of [1, 2, 3]) {
          const lost = proxy.resetAfterApply(touching(lock))
          const grant = yield* use(tick === 2 ? attempt(tick) : waiting(tick))
          expect(lost.count).toBe(1)
          expect(yield* grant.verify).toBe("Ours")
          yield* grant.release
          expect(yield* Effect.flip(use(attempt(tick)))).toMatchObject({ lastTick: tick })
        }
        yield* onlyTick(server)
      })
    )
  )

  it.scoped("an acquire that is never answered does not cost the tick", () =>
    quietly(
      Effect.gen(function* () {
        const { proxy, server, use } = yield* environment({ ...strict, commandTimeout: 300 })
        yield* (yield* use(attempt(1))).release
        for (const ask of [attempt, waiting]) {
          proxy.holdReplies()
          const asked = yield* Effect.fork(Effect.flip(use(ask(2))))
          yield* proxy.heldReplies
          expect(yield* Fiber.join(asked)).toMatchObject({ _tag: "LockStoreError" })
          proxy.releaseReplies()
          // undone: as if it had not been asked for
          yield* onlyTick(server)
          yield* RedisServer.eventually(
            Effect.map(server.command("GET", tickKey), (known) => String(known).startsWith("1 "))
          )
        }
        yield* (yield* use(attempt(2))).release
        expect(yield* Effect.flip(use(attempt(2)))).toMatchObject({ lastTick: 2 })
      })
    )
  )

  it.scoped("an acquire that comes behind everything else is refused the tick of another one", () =>
    quietly(
      Effect.gen(function* () {
        const [a, b] = yield* environments([{ ...strict, commandTimeout: "10 seconds" }, strict])
        // something that is renewed, so that silence is noticed
        const other = yield* a.use(ask("other", { ttlMillis: 60_000 }))
        a.proxy.forget()
        holdCommands(a.proxy)
        // sent on a connection that is given up, and again on the next one
        const grant = yield* a.use(attempt(1))
        yield* grant.release
        yield* (yield* b.use(attempt(2))).release
        a.proxy.releaseRequests()
        yield* Effect.sleep(200)
        expect(yield* a.server.command("EXISTS", lock)).toBe(0)
        expect(yield* queueOf(a.server, key)).toEqual([])
        yield* other.release
        yield* onlyTick(a.server)
      })
    )
  )

  it.scoped("nothing else of a plain lock's traffic changes", () =>
    Effect.gen(function* () {
      const { proxy, server, use } = yield* environment()
      yield* (yield* use(ask(key))).release
      const shas = proxy.commands.filter(touching(key)).map(([, sha]) => sha)
      const known = [scripts.acquire, scripts.release].flatMap(({ lua, sha }) => [sha, lua])
      expect(shas.every((sha) => known.includes(sha!))).toBe(true)
      yield* nothingLeft(server)
    })
  )
})

// ---------------------------------------------------------------- scripts that are sent twice

const [ours, theirs, third] = [strangeToken(), strangeToken(), strangeToken()]
const window = 3_000
const send = (server: Server, script: Script, ...args: ReadonlyArray<string | number>) =>
  server.command("EVAL", script.lua, keys.length, ...keys, ...args)
const claim = `lock/1 ${ttl} me`
const acquire = (server: Server, token: string, tick = 5) =>
  send(server, lockScripts.acquire, token, ttl, claim, "", "", tick, ttl, "", "")
const stand = (server: Server, token: string, tick = 5) =>
  send(server, lockScripts.acquire, token, ttl, claim, window, window, tick, ttl, "", "")
const beat = (server: Server, token: string, tick = 5) =>
  send(server, lockScripts.heartbeat, token, ttl, claim, window, window, tick, ttl, "", "")
const release = (server: Server, token: string) => send(server, lockScripts.release, token, 0, 0)
const undo = (server: Server, token: string) => send(server, lockScripts.release, token)
const free = (server: Server) => server.command("DEL", lock)
const done = (server: Server) => server.command("SET", tickKey, "5 somebody ", "PX", ttl)

type Step = (server: Server) => Effect.Effect<unknown>
const by =
  (
    step: (server: Server, token: string, tick?: number) => Effect.Effect<unknown>,
    token: string,
    tick?: number
  ): Step =>
  (server) =>
    step(server, token, tick)

const states: Readonly<Record<string, ReadonlyArray<Step>>> = {
  "a free key": [],
  "a free key whose tick is done": [done],
  "ours already": [by(acquire, ours)],
  "another's, of an earlier tick": [by(acquire, theirs, 4)],
  "another's, of the same tick": [by(acquire, theirs)],
  "another's, and we wait": [by(acquire, theirs, 4), by(stand, ours), by(stand, third)],
  "free, and we are first": [by(acquire, theirs, 4), by(stand, ours), free],
  "served, and not claimed": [by(acquire, theirs, 4), by(stand, ours), by(release, theirs)],
  "served, and done by another one": [
    by(acquire, theirs, 4),
    by(stand, ours),
    by(stand, third),
    by(release, theirs),
    done
  ]
}

const stateOf = (server: Server) =>
  Effect.gen(function* () {
    return {
      lock: yield* server.command("GET", lock),
      queue: yield* server.command("ZRANGE", queue, 0, -1),
      tick: yield* server.command("GET", tickKey),
      keys: yield* server.dump
    }
  })

/** Digits of times differ between two calls; what they say does not. */
const shape = (reply: unknown): unknown =>
  Array.isArray(reply) && reply.length === 5
    ? ["busy", reply[1], reply[4]]
    : Array.isArray(reply) && reply.length === 3
      ? [reply[0], reply[1] > 0]
      : reply

layer(RedisServer.layer(), { excludeTestServices: true })("a script that is sent twice", (it) => {
  const sends = { acquire, "acquire, to wait": stand, heartbeat: beat, release, undo }
  for (const [script, call] of Object.entries(sends)) {
    for (const [state, steps] of Object.entries(states)) {
      it.scoped(`does what it did: ${script}, where the key is ${state}`, () =>
        Effect.gen(function* () {
          const server = yield* RedisServer.RedisServer
          yield* server.flush
          for (const step of steps) yield* step(server)
          const first = yield* call(server, ours)
          const once = yield* stateOf(server)
          const second = yield* call(server, ours)
          expect(yield* stateOf(server)).toEqual(once)
          if (call !== release && call !== undo) expect(shape(second)).toEqual(shape(first))
          // who is told that it is done neither holds nor waits
          if (Array.isArray(first) && first[0] === "tick") {
            expect(once.lock).not.toBe(ours)
            expect(once.queue).not.toContain(ours)
          }
          // and who has it has noted its tick
          if (once.lock === ours && call !== undo && Array.isArray(first) && first.length === 3) {
            expect(String(once.tick).split(" ").slice(0, 2)).toEqual(["5", ours])
          }
        })
      )
    }
  }

  it.scoped("of a tick that is undone, the one before it is known again, and its time", () =>
    Effect.gen(function* () {
      const server = yield* RedisServer.RedisServer
      yield* server.flush
      yield* acquire(server, theirs, 4)
      yield* release(server, theirs)
      yield* acquire(server, ours)
      yield* undo(server, ours)
      expect(yield* acquire(server, third, 4)).toEqual(["tick", "4"])
      expect(yield* pttl(server, tickKey)).toBeGreaterThan(0)
      // by the one whose grant it was, and nobody else; also where there is none before it
      for (const forget of [Effect.void, server.flush]) {
        yield* forget
        yield* acquire(server, third)
        yield* undo(server, ours)
        yield* undo(server, theirs)
        expect(yield* acquire(server, ours)).toEqual(["tick", "5"])
        expect(yield* server.command("GET", lock)).toBe(third)
      }
    })
  )

  it.scoped("who is served and comes too late for its tick gives the lock to the next", () =>
    Effect.gen(function* () {
      const server = yield* RedisServer.RedisServer
      yield* server.flush
      yield* acquire(server, theirs, 4)
      yield* stand(server, ours)
      yield* stand(server, third, 6)
      yield* done(server)
      yield* release(server, theirs)
      expect(yield* server.command("GET", lock)).toBe(ours)
      expect(yield* beat(server, ours)).toEqual(["tick", "5"])
      expect(yield* server.command("GET", lock)).toBe(third)
      expect(yield* beat(server, third, 6)).toEqual([
        expect.stringMatching(/^\d{16}$/),
        expect.any(Number),
        -1
      ])
    })
  )
})
