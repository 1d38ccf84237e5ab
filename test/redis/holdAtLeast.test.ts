/** `holdAtLeast` in Redis: after a crash, by message, and where a release is late, doubled, or unanswered. */
import { expect, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import type { LockStore } from "effect-redis-lock"
import { lockScripts, semaphoreScripts } from "../../src/internal/redis/boundScripts.js"
import type { Script } from "../../src/internal/redis/scripts.js"
import {
  boundKeysOf,
  environments,
  holdCommands,
  keysOf,
  queueOf,
  sendBound,
  strangeToken,
  strict,
  subscribed
} from "../support/Queue.js"
import { ask } from "../support/stores.js"
import {
  environment,
  nothingLeft,
  pttl,
  quietly,
  RedisServer,
  serverMicros,
  touching
} from "./support.js"

type Server = RedisServer.RedisProcess

const key = "k"
const [lock, record] = keysOf(key)

const job = (more?: Partial<LockStore.Claim>) =>
  ask(key, { ttlMillis: 1_000, holdAtLeastMillis: 30_000, ...more })
const waiting = (more?: Partial<LockStore.Claim>) =>
  job({ waitMillis: Number.POSITIVE_INFINITY, ...more })

/** By the server's clock, until when the key lives, counted from the grant that the record tells of. */
const endsAfter = (server: Server) =>
  Effect.gen(function* () {
    const left = yield* pttl(server, lock)
    const fence = Number(String(yield* server.command("GET", record)).split(" ")[0])
    return ((yield* serverMicros(server)) - fence) / 1_000 + left
  })

/** To a few ms: what is asked is asked one after the other. */
const expectHeld = (server: Server, millis = 30_000) =>
  Effect.gen(function* () {
    const end = yield* endsAfter(server)
    expect(end).toBeGreaterThan(millis - 5)
    expect(end).toBeLessThan(millis + 100)
  })

const queuedOne = (server: Server) =>
  RedisServer.eventually(Effect.map(queueOf(server, key), ({ length }) => length === 1))

layer(RedisServer.layer(), { excludeTestServices: true })("holdAtLeast in Redis", (it) => {
  it.scoped(
    "the key is held by a value that is nobody's token, and the record tells whose it was",
    () =>
      Effect.gen(function* () {
        const { server, use } = yield* environment(strict)
        const grant = yield* use(job({ owner: "me" }))
        yield* expectHeld(server)
        yield* grant.release
        yield* expectHeld(server)
        expect(yield* server.command("GET", lock)).toBe(`${grant.token}!`)
        expect(yield* server.command("GET", record)).toBe(`${grant.fencingToken} lock/1 30000 me`)
      })
  )

  it.scoped("survives a crash of the holder right after a grant that was answered", () =>
    Effect.gen(function* () {
      const { proxy, server, use } = yield* environment(strict)
      yield* use(job())
      proxy.refuse()
      proxy.cutAll()
      yield* expectHeld(server)
    })
  )

  it.scoped("a waiter that is granted by message begins after an answer that has set it", () =>
    Effect.gen(function* () {
      const [a, b] = yield* environments([strict, strict])
      const first = yield* a.use(ask(key, { ttlMillis: 30_000 }))
      let begunWith = -2
      const next = yield* Effect.fork(
        Effect.tap(b.use(waiting()), () =>
          Effect.map(pttl(a.server, lock), (left) => (begunWith = left))
        )
      )
      yield* queuedOne(a.server)
      yield* subscribed(b)
      // the message has come, and its question has no answer yet
      b.proxy.holdReplies()
      yield* first.release
      yield* b.proxy.heldReplies
      yield* Effect.sleep(100)
      expect(next.unsafePoll()).toBeNull()
      b.proxy.releaseReplies()
      yield* Fiber.join(next)
      expect(begunWith).toBeGreaterThan(25_000)
      // a crash from here on leaves that much, counted from that answer
      b.proxy.refuse()
      b.proxy.cutAll()
      const end = yield* endsAfter(a.server)
      expect(end).toBeGreaterThan(30_000)
      expect(end).toBeLessThan(30_000 + 1_000)
    })
  )

  it.scoped("a waiter that crashes before that has done nothing, and holds nothing", () =>
    Effect.gen(function* () {
      const [a, b] = yield* environments([strict, strict])
      const first = yield* a.use(ask(key, { ttlMillis: 30_000 }))
      yield* Effect.fork(Effect.exit(b.use(waiting())))
      yield* queuedOne(a.server)
      yield* subscribed(b)
      b.proxy.holdMessages()
      b.proxy.refuse()
      b.proxy.cutWhere(({ subscriber }) => !subscriber)
      yield* first.release
      // its claim window, and not thirty seconds
      expect(yield* pttl(a.server, lock)).toBeLessThanOrEqual(3_000)
      yield* (yield* a.use(ask(key, { waitMillis: 10_000 }))).release
    })
  )

  it.scoped("a release whose reply is lost is sent again, and has been one", () =>
    quietly(
      Effect.gen(function* () {
        const { proxy, server, use } = yield* environment(strict)
        const grant = yield* use(job())
        const lost = proxy.resetAfterApply(touching(lock))
        expect(yield* grant.release).toBe("Ours")
        expect(lost.count).toBe(1)
        expect(yield* server.command("GET", lock)).toBe(`${grant.token}!`)
        yield* expectHeld(server)
      })
    )
  )

  it.scoped(
    "a release that is not answered is repeated in the background, and holds it as well",
    () =>
      quietly(
        Effect.gen(function* () {
          const { proxy, server, use } = yield* environment({ ...strict, commandTimeout: 300 })
          const grant = yield* use(job())
          proxy.holdRequests()
          const exit = yield* Effect.exit(grant.release)
          expect(Exit.isFailure(exit)).toBe(true)
          // what was sent is lost
          proxy.cutAll()
          proxy.releaseRequests()
          yield* RedisServer.eventually(
            Effect.map(server.command("GET", lock), (value) => value === `${grant.token}!`)
          )
          yield* Effect.sleep(500)
          yield* expectHeld(server)
        })
      )
  )

  it.scoped("renewals and releases that come late change nothing of it", () =>
    quietly(
      Effect.gen(function* () {
        const { proxy, server, use } = yield* environment({ ...strict, commandTimeout: 10_000 })
        // something that is renewed, so that silence is noticed
        const other = yield* use(ask("other", { ttlMillis: 60_000 }))
        const grant = yield* use(job())
        proxy.forget()
        holdCommands(proxy)
        const renewing = yield* Effect.fork(grant.renew)
        yield* proxy.heldRequests
        yield* Fiber.join(renewing)
        yield* grant.release
        proxy.releaseRequests()
        yield* Effect.sleep(200)
        expect(yield* server.command("GET", lock)).toBe(`${grant.token}!`)
        yield* expectHeld(server)
        yield* other.release
      })
    )
  )

  it.scoped("an acquire that is never answered leaves nothing held, though its ttl is long", () =>
    quietly(
      Effect.gen(function* () {
        const { proxy, server, use } = yield* environment({ ...strict, commandTimeout: 300 })
        // (a connection is there)
        yield* (yield* use(ask("other"))).release
        for (const one of [job, waiting]) {
          proxy.forget()
          proxy.holdReplies()
          const asked = yield* Effect.fork(Effect.flip(use(one({ holdAtLeastMillis: 600_000 }))))
          yield* proxy.awaitReply(touching(lock))
          expect(yield* Fiber.join(asked)).toMatchObject({ _tag: "LockStoreError" })
          // its answer comes, and the release that follows it is lost, for longer than the ttl: it is tried
          // again for as long as the key can live
          proxy.holdRequests()
          proxy.releaseReplies()
          yield* Effect.sleep(1_500)
          expect(yield* server.command("EXISTS", lock)).toBe(1)
          proxy.cutAll()
          proxy.releaseRequests()
          yield* nothingLeft(server)
        }
      })
    )
  )

  it.scoped("waiters of other processes enter when it is over, first come, first served", () =>
    Effect.gen(function* () {
      const [a, b] = yield* environments([strict, strict])
      const grant = yield* a.use(job({ holdAtLeastMillis: 1_200 }))
      const startedAt = performance.now()
      const second = yield* Effect.fork(b.use(ask(key, { waitMillis: 10_000 })))
      yield* queuedOne(a.server)
      yield* grant.release
      const third = yield* Effect.fork(a.use(waiting({ holdAtLeastMillis: 500 })))
      const next = yield* Fiber.join(second)
      const entered = performance.now() - startedAt
      expect(entered).toBeGreaterThan(1_150)
      expect(entered).toBeLessThan(1_200 + 800)
      expect(third.unsafePoll()).toBeNull()
      yield* next.release
      yield* Fiber.join(third)
    })
  )
})

// ---------------------------------------------------------------- the scripts, by hand

const [ours, theirs, third] = [strangeToken(), strangeToken(), strangeToken()]
const families = [
  ["lock", lockScripts, "lock/1 60000 me"],
  ["semaphore", semaphoreScripts, "semaphore/1 60000 1 1 me"]
] as const

layer(RedisServer.layer(), { excludeTestServices: true })("the scripts of holdAtLeast", (it) => {
  for (const [kind, scripts, claim] of families) {
    const send = (server: Server, script: Script, ...args: ReadonlyArray<string | number>) =>
      sendBound(server, script, kind, key, ...args)
    const acquire = (server: Server, token: string, hold: number | "" = 60_000) =>
      send(server, scripts.acquire, token, 5_000, claim, "", "", "", "", "", hold)
    const stand = (server: Server, token: string, hold = 60_000) =>
      send(server, scripts.acquire, token, 5_000, claim, 3_000, 3_000, "", "", "", hold)
    const beat = (server: Server, token: string, hold = 60_000) =>
      send(server, scripts.heartbeat, token, 5_000, claim, 3_000, 3_000, "", "", "", hold)
    const release = (server: Server, token: string, fence: number, hold = 60_000) =>
      send(server, scripts.release, token, hold, fence)
    const fenceOf = (reply: unknown) =>
      Number(/^\d+/.exec(String((reply as Array<unknown>)[0]))![0])
    const holders = (server: Server) =>
      kind === "lock"
        ? Effect.map(server.command("GET", key), (token) => (token === null ? [] : [token]))
        : server.command("ZRANGE", key, 0, -1)
    const state = (server: Server) =>
      Effect.gen(function* () {
        const rest = yield* Effect.forEach(boundKeysOf(kind, key).slice(4), (name) =>
          Effect.flatMap(server.command("TYPE", name), (type) =>
            type === "hash"
              ? server.command("HGETALL", name)
              : type === "zset"
                ? server.command("ZRANGE", name, 0, -1)
                : Effect.succeed(type)
          )
        )
        return [yield* holders(server), yield* queueOf(server, key), rest, yield* server.dump]
      })

    it.scoped(`a release that is sent twice is one (${kind})`, () =>
      Effect.gen(function* () {
        const server = yield* RedisServer.RedisServer
        yield* server.flush
        const fence = fenceOf(yield* acquire(server, ours))
        yield* stand(server, theirs)
        expect(yield* release(server, ours, fence)).toBe(1)
        const once = yield* state(server)
        expect(once[0]).toEqual([`${ours}!`])
        expect(yield* release(server, ours, fence)).toBe(1)
        expect(yield* state(server)).toEqual(once)
        const left = yield* pttl(server, key)
        expect(left).toBeLessThanOrEqual(60_000)
        expect(left).toBeGreaterThan(55_000)
        // nor does anything else of its token find it
        expect(yield* send(server, scripts.renew, ours, 60_000)).toBe(kind === "lock" ? 2 : 0)
        expect(yield* send(server, scripts.release, ours)).toBe(kind === "lock" ? 2 : 0)
        expect(yield* release(server, third, fence)).toBe(kind === "lock" ? 2 : 0)
        expect(yield* state(server)).toEqual(once)
      })
    )

    it.scoped(`a release of what is another's changes nothing (${kind})`, () =>
      Effect.gen(function* () {
        const server = yield* RedisServer.RedisServer
        yield* server.flush
        const fence = fenceOf(yield* acquire(server, theirs))
        const before = yield* state(server)
        expect(yield* release(server, ours, fence)).toBe(kind === "lock" ? 2 : 0)
        expect(yield* state(server)).toEqual(before)
        // a waiter leaves
        yield* stand(server, ours)
        yield* release(server, ours, fence)
        expect((yield* state(server))[1]).toEqual([])
      })
    )

    it.scoped(`after its time, and where it is not used, it is given to the next (${kind})`, () =>
      Effect.gen(function* () {
        const server = yield* RedisServer.RedisServer
        for (const isUsed of [true, false]) {
          yield* server.flush
          const fence = fenceOf(yield* acquire(server, ours))
          yield* stand(server, theirs)
          // as if the grant had been made a minute earlier: the server's clock cannot be moved
          yield* isUsed
            ? release(server, ours, fence - 60_000_000)
            : send(server, scripts.release, ours)
          expect(yield* holders(server)).toEqual([theirs])
          // for the window, until it has asked
          expect(yield* pttl(server, key)).toBeLessThanOrEqual(3_000)
          yield* beat(server, theirs)
          expect(yield* pttl(server, key)).toBeGreaterThan(55_000)
        }
      })
    )

    it.scoped(
      `with a clock that was set back it is held for that time once more at most (${kind})`,
      () =>
        Effect.gen(function* () {
          const server = yield* RedisServer.RedisServer
          yield* server.flush
          const fence = fenceOf(yield* acquire(server, ours))
          yield* release(server, ours, fence + 3_600e6)
          const left = yield* pttl(server, key)
          expect(left).toBeLessThanOrEqual(60_000)
          expect(left).toBeGreaterThan(55_000)
        })
    )
  }

  it.scoped("of a semaphore, the share stays in use, and the others are as they were", () =>
    Effect.gen(function* () {
      const server = yield* RedisServer.RedisServer
      yield* server.flush
      const send = (script: Script, ...args: ReadonlyArray<string | number>) =>
        sendBound(server, script, "semaphore", key, ...args)
      const [, , , , holders, index] = boundKeysOf("semaphore", key)
      const acquire = (token: string, share: number) =>
        send(
          semaphoreScripts.acquire,
          token,
          5_000,
          `semaphore/1 60000 ${share} 4 me`,
          "",
          "",
          "",
          "",
          "",
          60_000
        )
      const fences = [yield* acquire(ours, 1), yield* acquire(theirs, 2)].map(
        (reply) => String((reply as Array<string>)[0]).split(":")[0]!
      )
      yield* send(semaphoreScripts.release, theirs, 60_000, fences[1]!)
      yield* send(semaphoreScripts.release, ours, 60_000, fences[0]!)
      const entries = Object.fromEntries(
        ((yield* server.command("HGETALL", holders!)) as Array<string>).reduce<
          Array<[string, string]>
        >(
          (pairs, text, index, all) =>
            index % 2 === 0 ? [...pairs, [text, all[index + 1]!]] : pairs,
          []
        )
      )
      expect(entries).toEqual({
        "in-use": "3",
        [`${ours}!`]: `${fences[0]} semaphore/1 60000 1 4 me`,
        [`${theirs}!`]: `${fences[1]} semaphore/1 60000 2 4 me`
      })
      expect(yield* server.command("ZRANGE", index!, 0, -1)).toEqual([
        `f${fences[0]} ${ours}!`,
        `f${fences[1]} ${theirs}!`,
        `l0000004 ${ours}!`,
        `l0000004 ${theirs}!`
      ])
      expect(yield* acquire(third, 1)).toHaveLength(3)
      expect(yield* acquire(strangeToken(), 1)).toHaveLength(7)
    })
  )
})
