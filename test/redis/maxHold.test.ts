/** `maxHold` in Redis: by the server's clock, whatever comes late, twice, or by handoff. */
import { expect, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import type { LockStore } from "effect-redis-lock"
import { lockScripts, semaphoreScripts } from "../../src/internal/redis/boundScripts.js"
import type { Script } from "../../src/internal/redis/scripts.js"
import * as plainScripts from "../../src/internal/redis/scripts.js"
import {
  environments,
  holdCommands,
  idle,
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
  timed,
  touching
} from "./support.js"

type Server = RedisServer.RedisProcess

const key = "k"
const [lock, record] = keysOf(key)

const held = (more?: Partial<LockStore.Claim>) =>
  ask(key, { ttlMillis: 3_000, maxHoldMillis: 3_500, ...more })
const waiting = (more?: Partial<LockStore.Claim>) =>
  held({ waitMillis: Number.POSITIVE_INFINITY, ...more })

/** By the server's clock, until when the key lives, counted from a grant. */
const endsAfter = (server: Server, { fencingToken }: Pick<LockStore.Grant, "fencingToken">) =>
  Effect.gen(function* () {
    const left = yield* pttl(server, lock)
    return ((yield* serverMicros(server)) - fencingToken) / 1_000 + left
  })

layer(RedisServer.layer(), { excludeTestServices: true })("maxHold in Redis", (it) => {
  it.scoped("the key ends by then, by the server's clock, after each renewal", () =>
    Effect.gen(function* () {
      const { server, use } = yield* environment(strict)
      const grant = yield* use(held({ ttlMillis: 400, maxHoldMillis: 1_000 }))
      for (let i = 0; i < 16; i++) {
        const renewal = yield* grant.renew
        if (renewal._tag === "NotOurs") break
        expect(yield* endsAfter(server, grant)).toBeLessThan(1_000 + 50)
        yield* Effect.sleep(50)
      }
      yield* Effect.sleep(300)
      expect(yield* server.command("EXISTS", lock)).toBe(0)
      yield* Effect.exit(grant.release)
    })
  )

  it.scoped("a renewal that comes late does not reach beyond it", () =>
    quietly(
      Effect.gen(function* () {
        const { proxy, server, use } = yield* environment({ ...strict, commandTimeout: 10_000 })
        const other = yield* use(ask("other", { ttlMillis: 60_000 }))
        const grant = yield* use(held())
        proxy.forget()
        holdCommands(proxy)
        const renewing = yield* Effect.fork(grant.renew)
        yield* proxy.heldRequests
        // its connection is given up, and the renewal sent again
        yield* Fiber.join(renewing)
        yield* Effect.sleep(1_500)
        proxy.releaseRequests()
        yield* Effect.sleep(100)
        expect(yield* endsAfter(server, grant)).toBeLessThan(3_500 + 50)
        yield* grant.release
        yield* other.release
      })
    )
  )

  it.scoped("a grant whose message is lost has what is left of it, and is proven for no more", () =>
    Effect.gen(function* () {
      const [a, b] = yield* environments([strict, strict])
      const { clock } = b.store
      const first = yield* a.use(held())
      const next = yield* Effect.fork(b.use(waiting({ maxHoldMillis: 3_000 })))
      yield* RedisServer.eventually(
        Effect.map(queueOf(a.server, key), ({ length }) => length === 1)
      )
      yield* subscribed(b)
      b.proxy.dropNextMessage()
      yield* first.release
      const grant = yield* Fiber.join(next)
      const left = yield* pttl(a.server, lock)
      expect(yield* endsAfter(a.server, grant)).toBeLessThan(3_000 + 50)
      expect(grant.validUntil).toBeLessThan(clock.unsafeNow() + left)
      expect(grant.holdUntil).toBeLessThan(clock.unsafeNow() + left + 20)
      yield* grant.release
      yield* nothingLeft(a.server)
    })
  )

  it.scoped("an acquire whose reply is lost is counted from its grant", () =>
    quietly(
      Effect.gen(function* () {
        const { proxy, server, use } = yield* environment({ ...strict, commandTimeout: 10_000 })
        for (const ask of [held, waiting]) {
          const lost = proxy.resetAfterApply(touching(lock))
          const asked = yield* Effect.fork(use(ask({ maxHoldMillis: 3_000 })))
          yield* lost.fired
          proxy.refuse()
          yield* Effect.sleep(400)
          proxy.accept()
          const grant = yield* Fiber.join(asked)
          expect(yield* endsAfter(server, grant)).toBeLessThan(3_000 + 50)
          expect(grant.validUntil).toBeLessThan(use === undefined ? 0 : performance.now() + 2_700)
          yield* grant.release
        }
      })
    )
  )

  it.scoped("callers of one process have one place, tokens of their own, and pass nothing on", () =>
    Effect.gen(function* () {
      const [a, b] = yield* environments([{}, {}])
      const first = yield* a.use(held())
      const others = yield* Effect.forEach(Array.from({ length: 6 }), () =>
        Effect.fork(a.use(waiting()))
      )
      const plain = yield* Effect.fork(a.use(ask(key, { waitMillis: Number.POSITIVE_INFINITY })))
      yield* RedisServer.eventually(
        Effect.map(queueOf(a.server, key), ({ length }) => length === 2)
      )
      const elsewhere = yield* Effect.fork(b.use(waiting()))
      yield* RedisServer.eventually(
        Effect.map(queueOf(a.server, key), ({ length }) => length === 3)
      )
      yield* first.release
      const tokens = [first.token]
      const order: Array<string> = []
      const all = [...others, plain, elsewhere]
      yield* Effect.forEach(
        all,
        (fiber) =>
          Effect.flatMap(Fiber.join(fiber), (grant) =>
            Effect.gen(function* () {
              tokens.push(grant.token)
              order.push(fiber === plain ? "plain" : fiber === elsewhere ? "elsewhere" : "here")
              expect(yield* grant.verify).toBe("Ours")
              yield* grant.release
            })
          ),
        { concurrency: "unbounded", discard: true }
      )
      expect(new Set(tokens).size).toBe(9)
      expect(order.slice(0, 3)).toEqual(["here", "plain", "elsewhere"])
      yield* nothingLeft(a.server)
      yield* Effect.forEach([a, b], ({ store }) => idle(store))
    })
  )

  it.scoped("a handoff to such a waiter is one message, one question, and its answer", () =>
    Effect.gen(function* () {
      const [a, b] = yield* environments([strict, strict])
      const first = yield* a.use(held())
      const next = yield* Effect.fork(b.use(waiting()))
      yield* RedisServer.eventually(
        Effect.map(queueOf(a.server, key), ({ length }) => length === 1)
      )
      yield* subscribed(b)
      b.proxy.forget()
      yield* b.proxy.awaitReply(touching(lock))
      b.proxy.forget()
      yield* first.release
      const { millis } = yield* timed(Fiber.join(next))
      expect(millis).toBeLessThan(500)
      expect(b.proxy.commands.filter(touching(lock)).length).toBe(1)
      yield* (yield* Fiber.join(next)).release
    })
  )

  it.scoped("a lock without it sends what it sent", () =>
    Effect.gen(function* () {
      const { proxy, use } = yield* environment(strict)
      const grant = yield* use(ask(key))
      yield* grant.renew
      yield* grant.release
      const known = Object.values(plainScripts).flatMap((script) =>
        typeof script === "object" ? [script.sha, script.lua] : []
      )
      const shas = proxy.commands.filter(touching(lock)).map(([, sha]) => sha)
      expect(shas.length).toBeGreaterThanOrEqual(3)
      expect(shas.filter((sha) => !known.includes(sha!))).toEqual([])
    })
  )
})

// ---------------------------------------------------------------- the scripts, by hand

const [ours, theirs] = [strangeToken(), strangeToken()]
const families = [
  ["lock", lockScripts, "lock/1 5000 me"],
  ["semaphore", semaphoreScripts, "semaphore/1 5000 1 1 me"]
] as const

layer(RedisServer.layer(), { excludeTestServices: true })("the scripts of maxHold", (it) => {
  for (const [kind, scripts, claim] of families) {
    const send = (server: Server, script: Script, ...args: ReadonlyArray<string | number>) =>
      sendBound(server, script, kind, key, ...args)
    const acquire = (server: Server, token: string, maxHold: number | "" = 5_000) =>
      send(server, scripts.acquire, token, 5_000, claim, "", "", "", "", maxHold, "")
    const stand = (server: Server, token: string, maxHold = 5_000) =>
      send(server, scripts.acquire, token, 5_000, claim, 3_000, 3_000, "", "", maxHold, "")
    const beat = (server: Server, token: string, maxHold = 5_000) =>
      send(server, scripts.heartbeat, token, 5_000, claim, 3_000, 3_000, "", "", maxHold, "")
    const renew = (server: Server, token: string, fence: number, maxHold = 5_000, record = "") =>
      kind === "lock"
        ? send(server, scripts.renew, token, 5_000, record, fence, maxHold)
        : send(server, scripts.renew, token, 5_000, fence, maxHold)
    const fenceOf = (reply: unknown) =>
      Number(/^\d+/.exec(String((reply as Array<unknown>)[0]))![0])
    const left = (server: Server, token: string) =>
      kind === "lock"
        ? pttl(server, key)
        : Effect.zipWith(server.command("ZSCORE", key, token), serverMicros(server), (ends, now) =>
            ends === null ? -2 : Number(ends) - now / 1_000
          )
    /** As if the grant had been made so many ms earlier: the server's clock cannot be moved. */
    const earlier = (fence: number, millis: number) => fence - millis * 1_000

    it.scoped(`a grant says what is left: of the ttl, and of maxHold (${kind})`, () =>
      Effect.gen(function* () {
        const server = yield* RedisServer.RedisServer
        yield* server.flush
        const first = (yield* acquire(server, ours, 7_000)) as Array<number>
        expect(first.slice(1)).toEqual([expect.closeTo(5_000, -1), expect.closeTo(7_000, -1)])
        yield* Effect.sleep(300)
        // sent again: no more than is left of it, where that is less
        const again = (yield* acquire(server, ours, 5_000)) as Array<number>
        expect(again[0]).toBe(first[0])
        expect(again[1]).toBeLessThanOrEqual(4_700)
        expect(again[1]).toBeGreaterThan(3_500)
        expect(again[2]).toBe(again[1])
        expect(yield* left(server, ours)).toBeLessThanOrEqual(4_701)
        yield* server.flush
        expect(((yield* acquire(server, ours, "")) as Array<number>)[2]).toBe(-1)
      })
    )

    it.scoped(`a grant by handoff is counted from the handoff (${kind})`, () =>
      Effect.gen(function* () {
        const server = yield* RedisServer.RedisServer
        yield* server.flush
        yield* acquire(server, theirs)
        yield* stand(server, ours)
        yield* send(server, scripts.release, theirs)
        yield* Effect.sleep(300)
        for (const ask of [beat, stand]) {
          const [, rest, most] = (yield* ask(server, ours)) as [string, number, number]
          expect(rest).toBeLessThanOrEqual(4_700)
          expect(most).toBe(rest)
        }
        expect(yield* left(server, ours)).toBeLessThanOrEqual(4_701)
        // the whole key, not only its entry
        expect(yield* pttl(server, key)).toBeLessThanOrEqual(4_701)
      })
    )

    it.scoped(
      `a renewal gives what is left of it, and nothing where that is nothing (${kind})`,
      () =>
        Effect.gen(function* () {
          const server = yield* RedisServer.RedisServer
          yield* server.flush
          const grant = yield* acquire(server, ours, "")
          const fence = fenceOf(grant)
          // a whole ttl, as long as there is that much
          expect(yield* renew(server, ours, fence, 60_000)).toEqual([
            1,
            expect.closeTo(5_000, -2),
            expect.closeTo(60_000, -3)
          ])
          // less than there is: it is not made shorter
          expect(yield* renew(server, ours, earlier(fence, 4_000), 5_000)).toEqual([
            1,
            expect.closeTo(5_000, -3),
            expect.closeTo(1_000, -3)
          ])
          const before = yield* left(server, ours)
          expect(yield* renew(server, ours, earlier(fence, 9_000), 5_000)).toEqual([
            1,
            expect.any(Number),
            0
          ])
          expect(yield* left(server, ours)).toBeLessThanOrEqual(before)
          expect(yield* renew(server, theirs, fence)).toBe(kind === "lock" ? 2 : 0)
          yield* send(server, scripts.release, ours, 0, 0)
          expect(yield* renew(server, ours, fence)).toBe(0)
        })
    )

    if (kind === "lock") {
      it.scoped("a renewal that is told to keeps the record for another day", () =>
        Effect.gen(function* () {
          const server = yield* RedisServer.RedisServer
          yield* server.flush
          const fence = fenceOf(yield* acquire(server, ours, 7_000))
          yield* server.command("PEXPIRE", record, 60_000)
          yield* renew(server, ours, fence, 7_000)
          expect(yield* pttl(server, record)).toBeLessThanOrEqual(60_000)
          yield* renew(server, ours, fence, 7_000, "1")
          expect(yield* pttl(server, record)).toBeGreaterThan(23 * 3_600_000)
        })
      )
    }

    it.scoped(
      `a fencing token ahead of the server's time makes nothing last longer (${kind})`,
      () =>
        Effect.gen(function* () {
          const server = yield* RedisServer.RedisServer
          yield* server.flush
          // as after a clock that was set back by an hour
          const ahead = (yield* serverMicros(server)) + 3_600e6
          yield* server.command("SET", record, `${ahead} ${claim}`)
          const grant = yield* acquire(server, ours, 7_000)
          const fence = fenceOf(grant)
          expect(fence).toBe(ahead + 1)
          expect((grant as Array<number>)[2]).toBeLessThanOrEqual(7_000)
          const [, rest, most] = (yield* renew(server, ours, fence, 7_000)) as Array<number>
          expect(rest).toBeLessThanOrEqual(5_000)
          expect(most).toBeLessThanOrEqual(7_000)
          expect(yield* left(server, ours)).toBeLessThanOrEqual(5_000)
        })
    )
  }
})
