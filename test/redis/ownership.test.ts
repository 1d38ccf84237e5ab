/** Rules 3 and 11: only the holder's token renews and releases, and others may use the same key. */
import { expect, layer } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import { Lock } from "effect-redis-lock"
import {
  collectWarnings,
  environment,
  failure,
  foreign,
  leftovers,
  pttl,
  quietly,
  RedisServer,
  sent,
  timed,
  touching
} from "./support.js"

const ttl = "1 minute"

const hostile = [
  "plain",
  "with space",
  "quotes \"double\" 'single' `back`",
  "new\r\nline\r\n$3\r\nGET\r\n",
  "nul\u0000byte",
  "]] redis.call('FLUSHALL') --[[",
  "%s %d %%",
  "*?[a-z]",
  "ключ 🔑 鍵",
  "a:b:c:lock",
  "__proto__",
  "{tag}rest",
  "42",
  "-1",
  "x".repeat(5_000)
]

layer(RedisServer.layer(), { excludeTestServices: true })("ownership", (it) => {
  for (const [theft, reason] of [
    ["stolen", "Taken"],
    ["deleted", "Missing"]
  ] as const) {
    const steal = (server: RedisServer.RedisProcess) =>
      theft === "stolen"
        ? server.command("SET", "k", "thief", "PX", 60_000)
        : server.command("DEL", "k")
    const untouched = (server: RedisServer.RedisProcess) =>
      Effect.gen(function* () {
        if (theft === "deleted") return expect(yield* leftovers(server)).toEqual([])
        expect(yield* server.command("GET", "k")).toBe("thief")
        const left = yield* pttl(server, "k")
        expect(left).toBeLessThanOrEqual(60_000)
        expect(left).toBeGreaterThan(50_000)
      })

    it.scoped(`release says ${reason} of a key that was ${theft}, and leaves it alone`, () =>
      quietly(
        Effect.gen(function* () {
          const { server, use } = yield* environment()
          const lease = yield* Lock.acquire("k", { ttl }).pipe(use)
          yield* steal(server)
          const error = yield* Effect.flip(lease.release)
          expect(error).toMatchObject({
            _tag: "LockLost",
            reason,
            key: "k",
            fencingToken: lease.fencingToken
          })
          // asked again, it says the same, and sends nothing
          expect(yield* Effect.flip(lease.release)).toBe(error)
          yield* untouched(server)
        })
      )
    )

    it.scoped(`verify says ${reason} of a key that was ${theft}, to everything guarded too`, () =>
      quietly(
        Effect.gen(function* () {
          const { server, use } = yield* environment()
          const lease = yield* Lock.acquire("k", { ttl }).pipe(use)
          yield* lease.verify
          const guarded = yield* Effect.fork(Effect.exit(lease.guard(Effect.never)))
          const lost = yield* Effect.fork(Effect.flip(lease.awaitLost))
          yield* Effect.yieldNow()
          yield* steal(server)
          expect(yield* Effect.flip(lease.verify)).toMatchObject({ _tag: "LockLost", reason })
          expect(failure(yield* Fiber.join(guarded))).toMatchObject({ _tag: "LockLost", reason })
          expect(yield* Fiber.join(lost)).toMatchObject({ reason })
          expect(lease.signal.aborted).toBe(true)
          expect(yield* lease.isHeld).toBe(false)
          expect(Duration.toMillis(yield* lease.remaining)).toBe(0)
          yield* untouched(server)
        })
      )
    )

    it.scoped(`a renewal that finds the key ${theft} ends the lease at once: ${reason}`, () =>
      quietly(
        Effect.gen(function* () {
          const { proxy, server, use } = yield* environment()
          // validity that would last for minutes: the loss is known by the answer, not by the clock
          const lease = yield* Lock.acquire("k", { ttl: 300_000, renewEvery: 100 }).pipe(use)
          yield* steal(server)
          const error = yield* Effect.flip(lease.awaitLost)
          expect(error).toMatchObject({ _tag: "LockLost", reason })
          expect(yield* lease.isHeld).toBe(false)
          const renewals = sent(proxy, "k")
          yield* untouched(server)
          yield* Effect.sleep(250)
          expect(sent(proxy, "k")).toBe(renewals)
        })
      )
    )

    it.scoped(`withLock fails with ${reason} when its body succeeded under a key ${theft}`, () =>
      quietly(
        Effect.gen(function* () {
          const { server, use } = yield* environment()
          const { exit } = yield* timed(
            Lock.withLock("k", { ttl })(Effect.as(steal(server), "done")).pipe(use)
          )
          expect(failure(exit)).toMatchObject({ _tag: "LockLost", reason })
          yield* untouched(server)
        })
      )
    )

    it.scoped(`the close of a scope that finds the key ${theft} warns, and leaves it alone`, () =>
      collectWarnings((warnings) =>
        Effect.gen(function* () {
          const { server, use } = yield* environment()
          yield* Effect.scoped(Effect.zipRight(Lock.acquire("k", { ttl }), steal(server))).pipe(use)
          expect(warnings).toHaveLength(1)
          expect(warnings[0]).toContain('"k"')
          yield* untouched(server)
        })
      )
    )
  }

  it.scoped("is told by the whole token: not by its beginning, its case, or its type", () =>
    quietly(
      Effect.gen(function* () {
        const { server, use } = yield* environment()
        const impostors = (token: string) => [
          token.slice(0, -1),
          `${token}x`,
          token.toUpperCase(),
          ""
        ]
        for (let i = 0; i < 4; i++) {
          const lease = yield* Lock.acquire("k", { ttl }).pipe(use)
          const impostor = impostors(lease.token)[i]!
          yield* server.command("SET", "k", impostor, "PX", 60_000)
          expect(yield* Effect.flip(lease.release)).toMatchObject({ reason: "Taken" })
          expect(yield* server.command("GET", "k")).toBe(impostor)
          yield* server.command("DEL", "k")
        }
      })
    )
  )

  it.scoped("a lease and its successor have different tokens, of 128 bits", () =>
    Effect.gen(function* () {
      const { use } = yield* environment()
      const tokens = new Set<string>()
      for (let i = 0; i < 300; i++) {
        yield* Lock.withLock("k", { ttl })((lease) =>
          Effect.sync(() => void tokens.add(lease.token))
        ).pipe(use)
      }
      expect(tokens.size).toBe(300)
      // 22 characters of base64url, behind a mark
      for (const token of tokens) expect(token).toMatch(/[A-Za-z0-9_-]{22}$/)
    })
  )

  it.scoped("keys and owners of any content are content: stored and told as they are", () =>
    Effect.gen(function* () {
      const { server, use } = yield* environment({ prefix: "" })
      for (const [index, key] of hostile.entries()) {
        const owner = hostile[(index + 1) % hostile.length]!.slice(0, 1_000)
        const lease = yield* Lock.acquire(key, { ttl, owner }).pipe(use)
        expect(yield* server.command("GET", key)).toBe(lease.token)
        const { holder } = (yield* Effect.flip(Effect.scoped(Lock.tryAcquire(key)).pipe(use))) as {
          readonly holder: unknown
        }
        expect(holder).toMatchObject({ owner, foreign: false })
        yield* lease.verify
        yield* lease.release
        expect(yield* leftovers(server)).toEqual([])
      }
    })
  )

  it.scoped("locks of similar keys have nothing to do with each other", () =>
    Effect.gen(function* () {
      const { server, use } = yield* environment()
      const keys = [
        ...hostile,
        "plain ",
        " plain",
        "Plain",
        "plain\n",
        "{tag}",
        "{tag}rest2",
        "tag"
      ]
      yield* Effect.forEach(keys, (key) => Lock.tryAcquire(key, { ttl })).pipe(Effect.scoped, use)
      expect(yield* leftovers(server)).toEqual([])
    })
  )
})

layer(RedisServer.layer(), { excludeTestServices: true })(
  "other programs on the same key",
  (it) => {
    it.scoped("SET NX PX by another excludes us, until its check-and-delete", () =>
      Effect.gen(function* () {
        const { server, use } = yield* environment()
        const other = foreign(server)
        expect(yield* other.lock("k", "go-1", 60_000)).toBe(true)
        const error = yield* Effect.flip(Effect.scoped(Lock.tryAcquire("k")).pipe(use))
        expect(error).toMatchObject({
          _tag: "LockUnavailable",
          key: "k",
          holder: { foreign: true, owner: undefined, heldFor: undefined }
        })
        if (error._tag !== "LockUnavailable") throw error
        expect(Duration.toMillis(error.retryAfter!)).toBeGreaterThan(50_000)
        expect(Duration.toMillis(error.retryAfter!)).toBeLessThanOrEqual(60_000)
        expect(error.message).toContain("a program that does not use this library")
        expect(yield* Lock.withLockIfAvailable("k")(Effect.succeed(1)).pipe(use)).toEqual(
          Option.none()
        )
        expect(yield* server.command("GET", "k")).toBe("go-1")
        expect(yield* other.extend("k", "go-1", 120_000)).toBe(true)
        expect(yield* other.unlock("k", "go-1")).toBe(true)
        yield* Effect.scoped(Lock.tryAcquire("k")).pipe(use)
      })
    )

    it.scoped(
      "we exclude another: its SET NX, check-and-delete and check-and-expire do nothing",
      () =>
        Effect.gen(function* () {
          const { server, use } = yield* environment()
          const other = foreign(server)
          const lease = yield* Lock.acquire("k", { ttl }).pipe(use)
          expect(yield* server.command("TYPE", "k")).toBe("string")
          expect(yield* other.lock("k", "go-1", 60_000)).toBe(false)
          expect(yield* other.unlock("k", "go-1")).toBe(false)
          expect(yield* other.extend("k", "go-1", 1)).toBe(false)
          yield* lease.verify
          expect(yield* pttl(server, "k")).toBeGreaterThan(50_000)
          yield* lease.release
          expect(yield* other.lock("k", "go-1", 60_000)).toBe(true)
        })
    )

    it.scoped("another that knows our token can extend and release for us", () =>
      quietly(
        Effect.gen(function* () {
          const { server, use } = yield* environment()
          const other = foreign(server)
          const lease = yield* Lock.acquire("k", { ttl }).pipe(use)
          expect(yield* other.extend("k", lease.token, 120_000)).toBe(true)
          yield* lease.verify
          expect(yield* other.unlock("k", lease.token)).toBe(true)
          expect(yield* Effect.flip(lease.verify)).toMatchObject({ reason: "Missing" })
        })
      )
    )

    it.scoped("we notice when another releases, long before its ttl", () =>
      Effect.gen(function* () {
        const { proxy, server, use } = yield* environment()
        yield* foreign(server).lock("k", "go-1", 60_000)
        const waiting = yield* Effect.fork(Lock.acquire("k", { ttl }).pipe(use))
        yield* proxy.until(() => sent(proxy, "k") >= 3)
        yield* foreign(server).unlock("k", "go-1")
        const { exit, millis } = yield* timed(Fiber.join(waiting))
        expect(exit._tag).toBe("Success")
        // it asks every 50 ms
        expect(millis).toBeLessThan(1_000)
      })
    )

    it.scoped("we notice when another has died, at the end of its ttl", () =>
      Effect.gen(function* () {
        const { server, use } = yield* environment()
        yield* foreign(server).lock("k", "go-1", 400)
        const { exit, millis } = yield* timed(Lock.acquire("k", { ttl }).pipe(use))
        expect(exit._tag).toBe("Success")
        expect(millis).toBeGreaterThan(350)
        expect(millis).toBeLessThan(1_500)
      })
    )

    it.scoped("a key without a ttl is told of: nothing will free it but somebody", () =>
      Effect.gen(function* () {
        const { server, use } = yield* environment()
        yield* server.command("SET", "k", "for ever")
        for (const waitAtMost of [0, 120]) {
          const error = yield* Effect.flip(
            Lock.withLock("k", { waitAtMost })(Effect.void).pipe(use)
          )
          expect(error).toMatchObject({
            _tag: "LockUnavailable",
            retryAfter: undefined,
            holder: { foreign: true }
          })
          expect(error.message).toContain("no ttl")
        }
        expect(yield* server.command("GET", "k")).toBe("for ever")
        expect(yield* pttl(server, "k")).toBe(-1)
        // waiting goes on where there is no limit, and ends when somebody deletes it
        const waiting = yield* Effect.fork(
          quietly(Effect.scoped(Lock.acquire("k", { ttl })).pipe(use))
        )
        yield* Effect.sleep(100)
        expect(Option.isNone(yield* Fiber.poll(waiting))).toBe(true)
        yield* server.command("DEL", "k")
        yield* Fiber.join(waiting)
      })
    )

    it.scoped("two stores and another program, in turns: never two holders", () =>
      Effect.gen(function* () {
        const { server, use } = yield* environment()
        const { use: useSecond } = yield* environment()
        const other = foreign(server)
        let inside = 0
        let most = 0
        let turns = 0
        const body = Effect.gen(function* () {
          most = Math.max(most, ++inside)
          turns++
          yield* Effect.sleep(1)
          inside--
        })
        const ours = (use: typeof useSecond) =>
          Effect.repeatN(Lock.withLock("k", { ttl })(body).pipe(use), 5)
        const theirs = Effect.gen(function* () {
          for (let i = 0; i < 6;) {
            if (yield* other.lock("k", `go-${i}`, 60_000)) {
              yield* body
              yield* other.unlock("k", `go-${i}`)
              i++
            }
            yield* Effect.sleep(2)
          }
        })
        yield* Effect.all([ours(use), ours(useSecond), theirs], { concurrency: "unbounded" })
        expect(most).toBe(1)
        expect(turns).toBe(18)
        expect(yield* leftovers(server)).toEqual([])
      })
    )

    it.scoped("another that takes the key when ours expired is not disturbed by our release", () =>
      quietly(
        Effect.gen(function* () {
          const { proxy, server, use } = yield* environment()
          const lease = yield* Lock.acquire("k", { ttl: 300 }).pipe(use)
          proxy.holdRequests()
          yield* RedisServer.eventually(foreign(server).lock("k", "go-1", 60_000))
          expect(yield* lease.isHeld).toBe(false)
          const releasing = yield* Effect.fork(Effect.exit(lease.release))
          yield* proxy.until(() => sent(proxy, "k") >= 2)
          proxy.releaseRequests()
          expect(failure(yield* Fiber.join(releasing))).toMatchObject({ _tag: "LockLost" })
          yield* proxy.awaitReply(touching("k"))
          expect(yield* server.command("GET", "k")).toBe("go-1")
          expect(yield* pttl(server, "k")).toBeGreaterThan(50_000)
        })
      )
    )
  }
)
