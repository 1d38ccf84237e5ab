/** Handing over leases with `maxHold` or `holdAtLeast` in Redis: by the server's clock, late, or twice. */
import { expect, layer } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import { Lock } from "effect-redis-lock"
import {
  lockScripts,
  readWriteScripts,
  semaphoreScripts
} from "../../src/internal/redis/boundScripts.js"
import { lockKeys, revokedKey } from "../../src/internal/redis/layout.js"
import type { Script } from "../../src/internal/redis/scripts.js"
import {
  environments,
  holdCommands,
  idle,
  internals,
  keysOf,
  pair,
  strangeToken,
  strict,
  subscribed
} from "../support/Queue.js"
import { ask } from "../support/stores.js"
import { nothingLeft, pttl, quietly, RedisServer, sent, serverMicros } from "./support.js"

type Server = RedisServer.RedisProcess

const key = "k"
const [lock, record] = keysOf(key)

const adoptions = ([, text]: ReadonlyArray<string>): boolean =>
  text === lockScripts.adopt.sha || text === lockScripts.adopt.lua

/** By the server's clock, until when the key lives, counted from the grant with that fencing token. */
const endsAfter = (server: Server, fencingToken: number) =>
  Effect.gen(function* () {
    const left = yield* pttl(server, lock)
    return ((yield* serverMicros(server)) - fencingToken) / 1_000 + left
  })

/** A lease that was granted some time ago, on its way. */
const handedOver = (
  use: Effect.Effect.Success<ReturnType<typeof pair>>[0]["use"],
  options: Lock.Options
) =>
  Effect.gen(function* () {
    const lease = yield* Lock.acquire(key, options).pipe(use)
    yield* Effect.sleep(300)
    return { lease, handle: yield* lease.handOver }
  })

layer(RedisServer.layer(), { excludeTestServices: true })("what is left of the bounds", (it) => {
  it.scoped("costs one command here and one there, and is by the server's clock", () =>
    Effect.gen(function* () {
      const [a, b] = yield* environments([strict, strict])
      const options = { ttl: 2_000, maxHold: 2_500, holdAtLeast: 2_400 }
      const lease = yield* Lock.acquire(key, options).pipe(a.use)
      yield* Effect.sleep(700)
      a.proxy.forget()
      const handle = yield* lease.handOver
      expect(sent(a.proxy, key)).toBe(1)
      expect(yield* endsAfter(a.server, lease.fencingToken)).toBeLessThan(2_500 + 50)
      yield* Effect.sleep(200)
      b.proxy.forget()
      const adopted = yield* Lock.adopt(handle).pipe(b.use)
      expect(sent(b.proxy, key)).toBe(1)
      const end = yield* endsAfter(a.server, lease.fencingToken)
      expect(end).toBeGreaterThan(2_400 - 5)
      expect(end).toBeLessThan(2_500 + 50)
      expect(Duration.toMillis(yield* adopted.remaining)).toBeLessThanOrEqual(1_600)
      yield* adopted.release
      // held until then by nobody, and not for all of it again
      expect(yield* a.server.command("GET", lock)).toBe(`${adopted.token}!`)
      const left = yield* endsAfter(a.server, lease.fencingToken)
      expect(left).toBeGreaterThan(2_400 - 5)
      expect(left).toBeLessThan(2_400 + 50)
      yield* nothingLeft(a.server)
    })
  )

  it.scoped("a renewal of the adopter that comes late does not reach beyond maxHold", () =>
    quietly(
      Effect.gen(function* () {
        const [a, b] = yield* environments([strict, { ...strict, commandTimeout: 10_000 }])
        const claim = { ttlMillis: 3_000, maxHoldMillis: 3_500 }
        const other = yield* b.use(ask("other", { ttlMillis: 60_000 }))
        const grant = yield* a.use(ask(key, claim))
        yield* grant.handOver!
        yield* Effect.sleep(700)
        const adopted = yield* b.use(ask(key, { ...claim, adopt: grant }))
        b.proxy.forget()
        holdCommands(b.proxy)
        const renewing = yield* Effect.fork(adopted.renew)
        yield* b.proxy.heldRequests
        // its connection is given up, and the renewal sent again
        yield* Fiber.join(renewing)
        yield* Effect.sleep(1_200)
        b.proxy.releaseRequests()
        yield* Effect.sleep(100)
        expect(yield* endsAfter(a.server, grant.fencingToken)).toBeLessThan(3_500 + 50)
        yield* adopted.release
        yield* other.release
      })
    )
  )

  it.scoped("one that was freed by force is not there to be adopted", () =>
    quietly(
      Effect.gen(function* () {
        const [a, b] = yield* pair()
        const { handle, lease } = yield* handedOver(a.use, { ttl: 10_000, maxHold: 20_000 })
        expect(yield* Lock.forceRelease(key, lease.fencingToken).pipe(b.use)).toBe(true)
        const other = yield* Lock.acquire(key).pipe(b.use)
        expect(yield* Effect.flip(Lock.adopt(handle).pipe(b.use))).toMatchObject({
          _tag: "LockLost",
          reason: "Revoked",
          fencingToken: lease.fencingToken
        })
        yield* other.release
        yield* idle(b.store)
      })
    )
  )

  it.scoped("a message about its token gives nothing back, however late it comes", () =>
    Effect.gen(function* () {
      const [a, b] = yield* pair()
      const inTheWay = yield* b.use(ask("other", { ttlMillis: 60_000 }))
      const { handle, lease } = yield* handedOver(a.use, { ttl: 20_000, maxHold: 30_000 })
      // (its process listens, since it waits for another key)
      const waiting = yield* Effect.fork(
        a.use(ask("other", { waitMillis: Number.POSITIVE_INFINITY }))
      )
      yield* subscribed(a)
      yield* Effect.sleep(4_000)
      const { storeId } = internals(a.store)
      const message = `${lease.token} ${lease.fencingToken} 9000 ${key}`
      yield* a.server.command("PUBLISH", storeId, message)
      yield* Effect.sleep(200)
      expect(yield* a.server.command("GET", lock)).toBe(lease.token)
      yield* Effect.flatMap(Lock.adopt(handle).pipe(b.use), ({ verify }) => verify)
      yield* inTheWay.release
      yield* Effect.flatMap(Fiber.join(waiting), ({ release }) => release)
    })
  )

  it.scoped("an adoption whose answer is lost is sent again, and is the same lease", () =>
    Effect.gen(function* () {
      const [a, b] = yield* pair()
      const options = { ttl: 2_000, maxHold: 60_000 }
      // (the script is there: an answer NOSCRIPT would not be the one that is lost)
      const warm = yield* handedOver(a.use, options)
      yield* Effect.scoped(Lock.adopt(warm.handle)).pipe(b.use)
      const { handle } = yield* handedOver(a.use, options)
      const lost = b.proxy.resetAfterApply(adoptions)
      b.proxy.forget()
      const adopted = yield* Lock.adopt(handle).pipe(b.use)
      yield* lost.fired
      expect(b.proxy.commands.filter(adoptions).length).toBeGreaterThanOrEqual(2)
      expect(yield* a.server.command("GET", lock)).toBe(adopted.token)
      expect(yield* a.server.command("GET", record)).toContain(String(adopted.fencingToken))
      yield* adopted.verify
    })
  )

  it.scoped("an adoption that is executed when maxHold is over: LockLost, MaxHold", () =>
    quietly(
      Effect.gen(function* () {
        const [a, b] = yield* environments([strict, { ...strict, commandTimeout: 10_000 }])
        const { handle } = yield* handedOver(a.use, { ttl: 500, maxHold: 1_000 })
        yield* Lock.withLock("warm")(Effect.void).pipe(b.use)
        b.proxy.holdRequests({ afterClose: "deliver" })
        const adopting = yield* Effect.fork(Effect.flip(Lock.adopt(handle).pipe(b.use)))
        yield* Effect.sleep(800)
        b.proxy.releaseRequests()
        expect(yield* Fiber.join(adopting)).toMatchObject({ _tag: "LockLost", reason: "MaxHold" })
        yield* nothingLeft(a.server)
        yield* idle(b.store)
      })
    )
  )

  it.scoped("an adoption that is answered when maxHold is over: the same", () =>
    quietly(
      Effect.gen(function* () {
        const [a, b] = yield* environments([strict, { ...strict, commandTimeout: 10_000 }])
        const { handle } = yield* handedOver(a.use, { ttl: 900, maxHold: 1_000 })
        yield* Lock.withLock("warm")(Effect.void).pipe(b.use)
        b.proxy.holdReplies()
        const adopting = yield* Effect.fork(Effect.flip(Lock.adopt(handle).pipe(b.use)))
        yield* b.proxy.awaitReply(adoptions)
        yield* Effect.sleep(800)
        b.proxy.releaseReplies()
        expect(yield* Fiber.join(adopting)).toMatchObject({ _tag: "LockLost", reason: "MaxHold" })
        yield* nothingLeft(a.server)
        yield* idle(b.store)
      })
    )
  )

  it.scoped("an adoption that is not answered, or interrupted, leaves it held by nobody", () =>
    quietly(
      Effect.gen(function* () {
        const [a, b] = yield* environments([strict, { ...strict, commandTimeout: 300 }])
        yield* Lock.withLock("warm")(Effect.void).pipe(b.use)
        const options = { ttl: 1_000, holdAtLeast: 30_000 }
        const leftBy = (lease: { readonly fencingToken: number; readonly token: string }) =>
          Effect.gen(function* () {
            yield* RedisServer.eventually(
              Effect.map(a.server.command("GET", lock), (token) => String(token).endsWith("!"))
            )
            expect(yield* a.server.command("GET", lock)).not.toBe(`${lease.token}!`)
            const end = yield* endsAfter(a.server, lease.fencingToken)
            expect(end).toBeGreaterThan(30_000 - 5)
            expect(end).toBeLessThan(30_000 + 100)
            yield* idle(b.store)
            yield* a.server.command("DEL", lock)
          })

        const first = yield* handedOver(a.use, options)
        b.proxy.holdRequests({ afterClose: "deliver" })
        expect(yield* Effect.flip(Lock.adopt(first.handle).pipe(b.use))).toMatchObject({
          _tag: "LockStoreError",
          operation: "adopt"
        })
        b.proxy.releaseRequests()
        yield* leftBy(first.lease)

        const second = yield* handedOver(a.use, options)
        b.proxy.forget()
        b.proxy.holdReplies()
        const adopting = yield* Effect.fork(Effect.scoped(Lock.adopt(second.handle)).pipe(b.use))
        yield* b.proxy.awaitReply(adoptions)
        yield* Fiber.interrupt(adopting)
        b.proxy.releaseReplies()
        yield* leftBy(second.lease)
      })
    )
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
  const marks = revokedKey("", "", key)
  const several = lockKeys("", "", key, true) as ReadonlyArray<string>
  const five = lockKeys("", "", key, false, true) as ReadonlyArray<string>
  const kinds = {
    lock: { scripts: lockScripts, keys: five, claim: "lock/1 60000 me" },
    semaphore: { scripts: semaphoreScripts, keys: several, claim: "semaphore/1 60000 1 2 me" },
    "read-write lock": {
      scripts: readWriteScripts,
      keys: several,
      claim: "rwlock/1 60000 1 1000000 me"
    }
  }
  const fenceOf = (reply: unknown) =>
    Number(/^\d+/.exec(String(Array.isArray(reply) ? reply[0] : reply))?.[0])

  for (const [kind, { claim, keys, scripts }] of Object.entries(kinds)) {
    const send = (
      server: Server,
      script: Script,
      names: ReadonlyArray<string>,
      ...args: ReadonlyArray<string | number>
    ) => server.command("EVAL", script.lua, names.length, ...names, ...args)
    const acquire = (server: Server, token: string, maxHold: number | string) =>
      send(server, scripts.acquire, keys, token, 5_000, claim, "", "", "", "", maxHold, "")
    const adopt = (
      server: Server,
      token: string,
      from: string,
      fence: number,
      maxHold: number | string,
      least: number | string = ""
    ) =>
      send(
        server,
        scripts.adopt,
        [...(kind === "lock" ? keys.slice(0, 4) : keys), marks],
        token,
        5_000,
        claim,
        from,
        fence,
        maxHold,
        least
      )
    const release = (server: Server, token: string, least: number, fence: number) =>
      send(server, scripts.release, keys, token, least, fence)
    const stateOf = (server: Server) =>
      Effect.forEach(several, (each) => server.command("DUMP", each))
    const gone = kind === "lock" ? 2 : 0

    it.scoped(`says what is left, counted from the first grant, and gives no more (${kind})`, () =>
      Effect.gen(function* () {
        const server = yield* RedisServer.RedisServer
        yield* server.flush
        const fence = fenceOf(yield* acquire(server, ours, 6_000))
        // (as if it had been granted some time before)
        const long = (reply: unknown) => reply as readonly [string, number, number]
        const [, left, most] = long(yield* adopt(server, theNew, ours, fence - 4_000_000, 6_000))
        expect(most).toBeGreaterThan(1_500)
        expect(most).toBeLessThanOrEqual(2_000)
        expect(Math.abs(left - most)).toBeLessThanOrEqual(1)
        expect(yield* pttl(server, key)).toBeLessThanOrEqual(2_000)
        // holdAtLeast makes it longer than the ttl, and no longer than what is left of it
        const least = long(yield* adopt(server, newer, theNew, fence - 4_000_000, "", 10_000))
        expect(least[1]).toBeGreaterThan(5_500)
        expect(least[1]).toBeLessThanOrEqual(6_000)
        expect(least[2]).toBe(-1)
        // a clock that was set back gives no more than all of it
        const back = yield* adopt(server, ours, newer, fence + 50_000_000, 9_000, 8_000)
        expect(long(back)[2]).toBe(9_000)
        expect(long(back)[1]).toBeLessThanOrEqual(8_000)
        expect(yield* release(server, ours, 0, fence)).toBe(1)
      })
    )

    it.scoped(`sent twice does what it did once, and late nothing (${kind})`, () =>
      Effect.gen(function* () {
        const server = yield* RedisServer.RedisServer
        yield* server.flush
        const fence = fenceOf(yield* acquire(server, ours, 60_000))
        const first = fenceOf(yield* adopt(server, theNew, ours, fence, 60_000))
        expect(first).toBeGreaterThan(fence)
        expect(fenceOf(yield* adopt(server, theNew, ours, fence, 60_000))).toBe(first)
        // another one who has the same handle; what the old holder asks; and a copy when maxHold is over
        const once = yield* stateOf(server)
        expect(yield* adopt(server, newer, ours, fence, 60_000)).toBe(gone)
        expect(yield* release(server, ours, 60_000, fence)).toBe(gone)
        expect(yield* adopt(server, theNew, ours, fence - 60_000_000, 60_000)).toBe(4)
        expect(yield* adopt(server, newer, theNew, fence - 60_000_000, 60_000)).toBe(4)
        expect(yield* stateOf(server)).toEqual(once)
        expect(yield* release(server, theNew, 60_000, fence)).toBe(1)
        const over = yield* stateOf(server)
        expect(yield* adopt(server, theNew, ours, fence, 60_000)).toBe(gone)
        // nor what is held by nobody
        expect(yield* adopt(server, newer, theNew, fence, 60_000)).toBe(gone)
        expect(yield* adopt(server, theirs, `${theNew}x`, fence, 60_000)).toBe(gone)
        expect(yield* stateOf(server)).toEqual(over)
      })
    )
  }
})
