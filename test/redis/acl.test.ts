/**
 * The ACL that the documentation gives is enough for everything that a store does, and everything
 * in it is needed: it is read from docs/protocol.md, applied to a real server, and taken apart.
 */
import { expect, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import {
  Leader,
  Lock,
  LockError,
  LockInspector,
  type LockStore,
  ReadWriteLock,
  RedisLockStore,
  Semaphore
} from "effect-redis-lock"
import { readFileSync } from "node:fs"
import { vi } from "vitest"
import { lockKeys, revokedKey } from "../../src/internal/redis/layout.js"
import * as scripts from "../../src/internal/redis/scripts.js"
import * as semaphores from "../../src/internal/redis/semaphoreScripts.js"
import { isOlderClient } from "../support/client.js"
import { caller } from "../support/Queue.js"
import {
  collectWarnings,
  failure,
  FaultProxy,
  leftovers,
  quietly,
  RedisServer,
  storeOf,
  timed,
  unhandledErrors
} from "./support.js"

// ---------------------------------------------------------------- the line

const page = readFileSync(new URL("../../docs/protocol.md", import.meta.url), "utf8")
const [line, lookingLine, ...others] = page.match(/^ACL SETUSER .*$/gm) ?? []
if (line === undefined || lookingLine === undefined || others.length > 0) {
  throw new Error("docs/protocol.md: two of ACL SETUSER")
}

const rules = line.split(" ").slice(3)
const password = rules.find((rule) => rule.startsWith(">"))!.slice(1)
const prefix = rules
  .find((rule) => rule.startsWith("~"))!
  .slice(1)
  .replace(/\*$/, "")
const commands = rules.filter((rule) => rule.startsWith("+")).map((rule) => rule.slice(1))

/** What servers that know it need as well. */
const addition = /From Redis 7\.2 on.*, add `(\+client\|setinfo)`/.exec(page)![1]!

/** What semaphores need as well. */
const ofSemaphores = /\*\*Semaphores also need `([^`]*)`\*\*/.exec(page)![1]!.split(" ")

/** Of a user that only looks. */
const lookingRules = lookingLine.split(" ").slice(3)
/** What looking at keys adds to the rules of a user that locks. */
const toLook = /\*\*To look at keys\*\* .*? add `([^`]*)`, .*? `(\+scan)`/.exec(page)!.slice(1)

/** What is done without, as the documentation says. */
const dispensable = ["publish", "subscribe", "unsubscribe", "info", "client|setname"]

/** Needed only by what is undone in the background, where nobody is left to be told. */
const inBackground: Readonly<Record<string, string>> = { zrem: "a waiter that goes away" }

/** What ioredis says on the console where INFO is refused. */
const silentConsole = Effect.acquireRelease(
  Effect.sync(() => vi.spyOn(console, "warn").mockImplementation(() => {})),
  (console) => Effect.sync(() => console.mockRestore())
)

const additions = (server: RedisServer.RedisProcess) =>
  Effect.map(server.command("COMMAND", "INFO", addition.slice(1)), (known) =>
    (known as ReadonlyArray<unknown>)[0] === null ? [] : [addition]
  )

/** A user of its own, so that many can be tried side by side. */
const makeUser = (server: RedisServer.RedisProcess, user: string, rules: ReadonlyArray<string>) =>
  Effect.flatMap(additions(server), (more) =>
    server.command("ACL", "SETUSER", user, ...rules, ...more)
  )

/** The commands that were refused to a user, by themselves or in a script. */
const refusals = (
  server: RedisServer.RedisProcess,
  user: string
): Effect.Effect<ReadonlyArray<string>> =>
  Effect.map(server.command("ACL", "LOG", 1_000), (entries) =>
    (entries as ReadonlyArray<ReadonlyArray<unknown>>).flatMap((entry) => {
      const field = (name: string) => String(entry[entry.indexOf(name) + 1]).toLowerCase()
      return field("username") === user && field("reason") === "command" ? [field("object")] : []
    })
  )

// ---------------------------------------------------------------- the whole life

interface Life {
  /** What failed, of the steps that a permission could stop. */
  readonly errors: ReadonlyArray<string>
  readonly warnings: ReadonlyArray<string>
  /** The fencing tokens of leases that were handed over, in order. */
  readonly fences: ReadonlyArray<number>
}

interface LifeOptions {
  readonly prefix?: string
  readonly database?: number
  /** Handoffs must come by a message: no question passes meanwhile. */
  readonly byMessage?: boolean
}

const isOf =
  (script: scripts.Script) =>
  ([, text]: ReadonlyArray<string>): boolean =>
    text === script.sha || text === script.lua

/** Everything that stores are asked to do, by two of them that are logged in as one user. */
const live = (
  server: RedisServer.RedisProcess,
  user: string,
  key: string,
  { byMessage = false, database = 0, prefix: own = prefix }: LifeOptions = {}
) =>
  collectWarnings((warnings) =>
    Effect.gen(function* () {
      const errors: Array<string> = []
      const fences: Array<number> = []
      const keys = lockKeys("", own, key)
      if (typeof keys === "string") throw new Error(keys)
      const [stored, , queue] = keys
      const inDatabase = (...args: ReadonlyArray<string | number>) =>
        server.command(
          "EVAL",
          `redis.call('SELECT', ARGV[1]) return redis.call(unpack(ARGV, 2))`,
          0,
          database,
          ...args
        )
      const step = (name: string, effect: Effect.Effect<unknown, unknown>) =>
        effect.pipe(
          Effect.timeout("8 seconds"),
          Effect.catchAllCause((cause) => Effect.sync(() => errors.push(`${name}: ${cause}`)))
        )
      const store = Effect.gen(function* () {
        const proxy = yield* FaultProxy.make(server.port)
        const url = `redis://${user}:${password}@127.0.0.1:${proxy.port}/${database}`
        const { use } = yield* storeOf(
          RedisLockStore.layer({ url, prefix: own, commandTimeout: 2_000, localHandoff: 1 })
        )
        return { proxy, use }
      })
      const a = yield* store
      const b = yield* store
      const free = (times: number) =>
        Effect.forEach(
          Array.from({ length: times }, (_, i) => `${key}:${i}`),
          (key) => Lock.withLock(key)(Effect.void),
          { concurrency: "unbounded", discard: true }
        ).pipe(a.use)
      // a proof that is long enough for a busy machine, where nothing else may bring the lease
      const ttl = byMessage ? 9_000 : 900
      /** A caller that stands in the queue, and has been told so at a heartbeat as well. */
      const queued = ({ proxy, use }: typeof a) =>
        Effect.gen(function* () {
          proxy.forget()
          const waiting = yield* caller(use, key, { ttl })
          yield* proxy
            .awaitReply(isOf(scripts.heartbeat))
            .pipe(Effect.raceFirst(Effect.zipRight(Fiber.join(waiting.fiber), Effect.never)))
          return waiting
        })

      yield* step("a free lock", free(1))
      yield* step("a free lock, by the script's digest", free(1))
      yield* step("64 callers at once", free(64))
      yield* step(
        "a server that has forgotten the scripts",
        Effect.zipRight(server.command("SCRIPT", "FLUSH"), free(64))
      )
      yield* step(
        "renewed, verified, refused to others, released",
        Effect.gen(function* () {
          const lease = yield* Lock.acquire(key, { ttl: "20 seconds", renewEvery: 30 })
          fences.push(lease.fencingToken)
          const { reply } = yield* a.proxy.awaitReply(isOf(scripts.renew))
          if (reply !== 1) return yield* Effect.fail(reply)
          yield* lease.verify
          const busy = yield* Effect.flip(Effect.scoped(Lock.tryAcquire(key)))
          if (busy._tag !== "LockUnavailable") return yield* busy
          yield* lease.release
        }).pipe(Effect.scoped, a.use)
      )
      for (const [from, to] of [
        [a, b],
        [b, a]
      ] as const) {
        yield* step(
          "handed over",
          Effect.gen(function* () {
            const holder = yield* caller(from.use, key, { ttl })
            const lease = yield* holder.lease
            const waiting = yield* queued(to)
            if (byMessage) to.proxy.holdRequests()
            yield* lease.release
            const next = yield* waiting.lease
            to.proxy.releaseRequests()
            fences.push(lease.fencingToken, next.fencingToken)
            yield* next.release
          }).pipe(Effect.scoped)
        )
      }
      yield* step(
        "passed on in the process, after asking whether others wait",
        Effect.forEach([1, 2, 3], () => Lock.withLock(key, { ttl })(Effect.sleep(10)), {
          concurrency: "unbounded"
        }).pipe(a.use)
      )
      yield* step(
        "a waiter that goes away",
        Effect.gen(function* () {
          const holder = yield* caller(a.use, key, { ttl })
          yield* holder.lease
          const waiting = yield* queued(b)
          yield* waiting.interrupt
          yield* RedisServer.eventually(
            Effect.map(inDatabase("EXISTS", queue), (exists) => exists === 0)
          )
        }).pipe(Effect.scoped)
      )
      for (const [name, value] of [
        ["a holder that died", "erl1:somebodyelse.0000000000000000000000"],
        ["another program", "foreign"]
      ] as const) {
        yield* step(
          `after ${name}`,
          Effect.gen(function* () {
            yield* inDatabase("SET", stored, value, "PX", 150)
            yield* Effect.scoped(Lock.acquire(key, { ttl })).pipe(b.use)
          })
        )
      }
      yield* step(
        "freed by force",
        Effect.gen(function* () {
          yield* inDatabase("SET", stored, "erl1:somebodyelse.0000000000000000000000", "PX", 9_000)
          yield* inDatabase("SET", keys[1], "7 lock/1 9000 somebody else")
          const isFreed = yield* Lock.forceRelease(key, 7).pipe(a.use)
          if (!isFreed) return yield* Effect.fail(isFreed)
          yield* inDatabase("DEL", revokedKey("", own, key))
        })
      )
      yield* step(
        "handed over to another process",
        Effect.gen(function* () {
          const lease = yield* Lock.acquire(key, { ttl }).pipe(a.use)
          const adopted = yield* Lock.adopt(yield* lease.handOver).pipe(b.use)
          yield* adopted.release
        }).pipe(Effect.scoped)
      )
      yield* step("a free lock, in the end", free(1))
      return { errors, fences, warnings } satisfies Life
    })
  ).pipe(Effect.scoped)

/** The same of semaphores: what is different with them. */
const liveSemaphores = (server: RedisServer.RedisProcess, user: string, key: string) =>
  collectWarnings((warnings) =>
    Effect.gen(function* () {
      const errors: Array<string> = []
      const keys = lockKeys("", prefix, key, true)
      if (typeof keys === "string") throw new Error(keys)
      const [stored, , queue] = keys
      const url = `redis://${user}:${password}@127.0.0.1:${server.port}`
      const store = storeOf(
        RedisLockStore.layer({ url, prefix, commandTimeout: 2_000, localHandoff: 1 })
      )
      const [a, b] = [yield* store, yield* store]
      const step = (name: string, effect: Effect.Effect<unknown, unknown>) =>
        effect.pipe(
          Effect.timeout("8 seconds"),
          Effect.catchAllCause((cause) => Effect.sync(() => errors.push(`${name}: ${cause}`)))
        )
      const options = { limit: 2, ttl: 900 }
      /** Until it stands in the queue; fails where it fails. */
      const queued = <A, E>(waiting: Fiber.RuntimeFiber<A, E>) =>
        RedisServer.eventually(
          Effect.map(server.command("ZCARD", queue), (count) => count === 1)
        ).pipe(Effect.raceFirst(Effect.zipRight(Fiber.join(waiting), Effect.never)))
      /** A holder that died, and has almost nothing left of its ttl. */
      const died = server.command(
        "EVAL",
        semaphores.acquire.lua,
        keys.length,
        ...keys,
        "erl1:somebodyelse.0000000000000000000000",
        100,
        "semaphore/1 100 1 2 dead"
      )
      const free = (times: number) =>
        Effect.forEach(
          Array.from({ length: times }, (_, i) => `${key}:${i}`),
          (key) => Semaphore.withPermits(key, options)(Effect.void),
          { concurrency: "unbounded", discard: true }
        ).pipe(a.use)
      yield* step("a free semaphore", free(1))
      yield* step("many at once", free(64))
      yield* step("many at once, together", free(64))
      yield* step(
        "several, renewed, verified, looked at, refused to others",
        Effect.gen(function* () {
          const one = yield* Semaphore.acquire(key, { ...options, ttl: 300, renewEvery: 30 })
          const two = yield* Semaphore.acquire(key, options)
          yield* Effect.sleep(100)
          yield* one.verify
          const inUse = yield* Semaphore.inUse(key)
          if (inUse !== 2) return yield* Effect.fail(inUse)
          const busy = yield* Effect.flip(Effect.scoped(Semaphore.tryAcquire(key, options)))
          if (busy._tag !== "LockUnavailable") return yield* busy
          yield* two.release
          yield* one.release
        }).pipe(Effect.scoped, a.use)
      )
      yield* step(
        "handed over",
        Effect.gen(function* () {
          const lease = yield* Semaphore.acquire(key, { ...options, permits: 2 }).pipe(a.use)
          const waiting = yield* Effect.fork(
            Semaphore.withPermits(key, { ...options, permits: 2 })(Effect.void).pipe(b.use)
          )
          yield* queued(waiting)
          yield* lease.release
          yield* Fiber.join(waiting)
        }).pipe(Effect.scoped)
      )
      yield* step(
        "passed on in the process, after asking whether others wait",
        Effect.forEach(
          [1, 2, 3, 4, 5],
          () => Semaphore.withPermits(key, options)(Effect.sleep(10)),
          { concurrency: "unbounded" }
        ).pipe(a.use)
      )
      yield* step(
        "beside a holder that lives, after one that died",
        Effect.gen(function* () {
          const lease = yield* Semaphore.acquire(key, options).pipe(a.use)
          yield* died
          yield* Effect.scoped(Semaphore.acquire(key, options)).pipe(b.use)
          yield* lease.release
        }).pipe(Effect.scoped)
      )
      yield* step(
        "after somebody deleted the key",
        Effect.gen(function* () {
          yield* died
          yield* server.command("DEL", stored)
          yield* Effect.scoped(Semaphore.acquire(key, options)).pipe(b.use)
        })
      )
      yield* step(
        "freed by force",
        Effect.gen(function* () {
          yield* died
          const [, record] = keys
          const number = Number(String(yield* server.command("GET", record)).split(" ")[0])
          const isFreed = yield* Lock.forceRelease(key, number).pipe(a.use)
          if (!isFreed) return yield* Effect.fail(isFreed)
          yield* server.command("DEL", revokedKey("", prefix, key))
        })
      )
      yield* step(
        "handed over to another process",
        Effect.gen(function* () {
          const lease = yield* Semaphore.acquire(key, options).pipe(a.use)
          const adopted = yield* Semaphore.adopt(yield* lease.handOver).pipe(b.use)
          yield* adopted.release
        }).pipe(Effect.scoped)
      )
      yield* step(
        "after another program",
        Effect.gen(function* () {
          yield* server.command("SET", stored, "foreign", "PX", 60_000)
          const waiting = yield* Effect.fork(
            Semaphore.withPermits(key, options)(Effect.void).pipe(b.use)
          )
          yield* queued(waiting)
          yield* server.command("DEL", stored)
          yield* Fiber.join(waiting)
        })
      )
      return { errors, warnings }
    })
  ).pipe(Effect.scoped)

// ---------------------------------------------------------------- the tests

layer(RedisServer.layer(), { excludeTestServices: true })("the documented ACL", (it) => {
  const fresh = Effect.tap(RedisServer.RedisServer, (server) =>
    Effect.zipRight(server.flush, server.command("ACL", "LOG", "RESET"))
  )

  it.scoped("begins with nothing, and gives no more than keys, channels and single commands", () =>
    Effect.sync(() => {
      expect(rules.slice(0, 2)).toEqual(["reset", "on"])
      expect(rules).toContain("-@all")
      for (const rule of rules.slice(2))
        expect(rule).toMatch(/^(>|resetchannels$|~|&|-@all$|\+[a-z]+(\|[a-z]+)?$)/)
      expect(rules.filter((rule) => rule.startsWith("~"))).toEqual([`~${prefix}*`])
      expect(prefix).not.toBe("")
      expect(new Set(commands).size).toBe(commands.length)
    })
  )

  it.scoped("is enough for the whole life of a lock, and nothing is refused", () =>
    Effect.gen(function* () {
      const unhandled = yield* unhandledErrors
      const server = yield* fresh
      yield* server.command("SET", "not ours", "value")
      yield* makeUser(server, "whole", rules)
      const { errors, fences, warnings } = yield* live(server, "whole", "k", { byMessage: true })
      expect(errors).toEqual([])
      expect(warnings).toEqual([])
      expect(fences).toHaveLength(5)
      expect(fences).toEqual([...new Set(fences)].sort((x, y) => x - y))
      expect(yield* refusals(server, "whole")).toEqual([])
      expect(yield* leftovers(server)).toEqual(["not ours"])
      expect(yield* server.command("GET", "not ours")).toBe("value")
      expect(unhandled).toEqual([])
    })
  )

  it.scoped("is accepted where a new user may listen to all channels, as up to Redis 6.2", () =>
    Effect.gen(function* () {
      const server = yield* fresh
      yield* Effect.acquireRelease(
        server.command("CONFIG", "SET", "acl-pubsub-default", "allchannels"),
        () => server.command("CONFIG", "SET", "acl-pubsub-default", "resetchannels")
      )
      yield* makeUser(server, "older", rules)
      const { errors, warnings } = yield* live(server, "older", "k", { byMessage: true })
      expect([...errors, ...warnings]).toEqual([])
      const about = (yield* server.command("ACL", "GETUSER", "older")) as ReadonlyArray<unknown>
      expect(String(about[about.indexOf("channels") + 1]).split(" ")).toEqual(
        rules.filter((rule) => rule.startsWith("&"))
      )
    })
  )

  it.scoped("is enough by itself for a client that does not say who it is", () =>
    Effect.gen(function* () {
      const server = yield* fresh
      yield* server.command("ACL", "SETUSER", "silent", ...rules)
      const proxy = yield* FaultProxy.make(server.port)
      const url = `redis://silent:${password}@127.0.0.1:${proxy.port}`
      const said = () => proxy.commands.filter(([, what]) => /^setinfo$/i.test(what ?? ""))
      for (const disableClientInfo of [false, true]) {
        yield* server.command("ACL", "LOG", "RESET")
        proxy.forget()
        const { close, use } = yield* storeOf(
          RedisLockStore.layer({ url, prefix, redis: { disableClientInfo } })
        )
        yield* Lock.withLock("k")(Effect.void).pipe(use)
        yield* close
        expect(said().length > 0).toBe(!disableClientInfo)
        const expected = disableClientInfo ? [] : yield* additions(server)
        const refused = new Set(yield* refusals(server, "silent"))
        expect([...refused].map((command) => `+${command}`)).toEqual(expected)
      }
    })
  )

  if (!isOlderClient)
    it.scoped(
      "is needed, command by command: without it something fails and says why",
      () =>
        Effect.gen(function* () {
          const unhandled = yield* unhandledErrors
          const server = yield* fresh
          yield* silentConsole
          const wrong: Array<string> = []
          const without = (
            command: string,
            attempt: number
          ): Effect.Effect<void, LockError.LockStoreError> =>
            Effect.gen(function* () {
              const user = `without-${command}-${attempt}`
              yield* makeUser(
                server,
                user,
                rules.filter((rule) => rule !== `+${command}`)
              )
              const { errors, warnings } = yield* live(server, user, `${command}-${attempt}`)
              const silent = inBackground[command]
              const wasAsked = (yield* refusals(server, user)).includes(command)
              const asTold = dispensable.includes(command)
                ? // at most one warning for each of the two stores
                  errors.length === 0 && warnings.length <= 2
                : silent !== undefined
                  ? errors.some((error) => error.startsWith(silent))
                  : [...errors, ...warnings].some((text) =>
                      /(NOPERM|permission|can't run).*The ACL gives this Redis user no permissions/.test(
                        text
                      )
                    )
              if (wasAsked && asTold) return
              // (on a busy machine leases can be lost on the way, and then steps are left out)
              if (attempt < 3) return yield* without(command, attempt + 1)
              wrong.push([command, wasAsked, ...errors, ...warnings].join("; "))
            })
          yield* Effect.forEach(commands, (command) => without(command, 1), {
            concurrency: 6,
            discard: true
          })
          expect(wrong).toEqual([])
          expect(unhandled).toEqual([])
        }),
      { timeout: 240_000 }
    )

  it.scoped("with what semaphores need as well is enough for their whole life", () =>
    Effect.gen(function* () {
      const server = yield* fresh
      yield* server.command("SET", "not ours", "value")
      yield* makeUser(server, "semaphores", [...rules, ...ofSemaphores])
      const { errors, warnings } = yield* liveSemaphores(server, "semaphores", "k")
      expect([...errors, ...warnings]).toEqual([])
      expect(yield* refusals(server, "semaphores")).toEqual([])
      expect(yield* leftovers(server)).toEqual(["not ours"])
    })
  )

  if (!isOlderClient)
    it.scoped(
      "semaphores need what is named for them, command by command, and what they share with locks",
      () =>
        Effect.gen(function* () {
          const unhandled = yield* unhandledErrors
          const server = yield* fresh
          yield* silentConsole
          const wrong: Array<unknown> = []
          const all = [...rules, ...ofSemaphores]
          const needed = all.filter(
            (rule) => rule.startsWith("+") && !dispensable.includes(rule.slice(1))
          )
          expect(new Set(needed).size).toBe(needed.length)
          yield* Effect.forEach(
            needed,
            (rule) =>
              Effect.gen(function* () {
                const command = rule.slice(1)
                const user = `semaphores-without-${command}`
                yield* makeUser(
                  server,
                  user,
                  all.filter((other) => other !== rule)
                )
                const { errors, warnings } = yield* liveSemaphores(server, user, command)
                const refused = yield* refusals(server, user)
                const told = [...errors, ...warnings].some((text) =>
                  text.includes("docs/protocol.md")
                )
                if (!refused.includes(command) || !told) wrong.push({ command, refused, told })
              }),
            { concurrency: 6, discard: true }
          )
          expect(wrong).toEqual([])
          expect(unhandled).toEqual([])
        }),
      { timeout: 120_000 }
    )

  it.scoped("without all that is called dispensable: locks work, and waiters warn once", () =>
    Effect.gen(function* () {
      const server = yield* fresh
      yield* silentConsole
      const channels = rules.filter((rule) => rule.startsWith("&"))
      for (const [user, less] of [
        ["no-messages", dispensable.map((command) => `-${command}`)],
        ["no-channels", ["resetchannels"]]
      ] as const) {
        yield* makeUser(server, user, [...rules, ...less])
        const { errors, warnings } = yield* live(server, user, user)
        expect(errors).toEqual([])
        expect(warnings).toHaveLength(2)
        for (const warning of warnings)
          expect(warning).toMatch(/The ACL must allow &erl1:\* and \+subscribe/)
      }
      expect(channels).toContain("&erl1:*")
      expect(yield* leftovers(server)).toEqual([])
    })
  )

  it.scoped("keys outside of its pattern are refused, with an error that says so", () =>
    quietly(
      Effect.gen(function* () {
        const server = yield* fresh
        yield* makeUser(server, "whole", rules)
        for (const own of ["", "lock:", `x${prefix}`]) {
          const { use } = yield* storeOf(
            RedisLockStore.layer({
              url: `redis://whole:${password}@127.0.0.1:${server.port}`,
              prefix: own,
              commandTimeout: 400
            })
          )
          const error = failure((yield* timed(Effect.scoped(Lock.tryAcquire("k")).pipe(use))).exit)
          expect(error).toBeInstanceOf(LockError.LockStoreError)
          expect(error.message).toMatch(/acquire of lock "k".*ACL.*docs\/protocol\.md/)
        }
        expect(yield* server.dump).toEqual([])
      })
    )
  )

  it.scoped("without a prefix: patterns for the keys and for their companions", () =>
    Effect.gen(function* () {
      const server = yield* fresh
      const patterns = /`~([^`]*)` and `~([^`]*)`/.exec(page)!.slice(1)
      expect(patterns).toEqual(["invoice:*", "{invoice:*"])
      yield* makeUser(server, "invoices", [
        ...rules,
        "resetkeys",
        ...patterns.map((pattern) => `~${pattern}`)
      ])
      const { errors, warnings } = yield* live(server, "invoices", "invoice:42", { prefix: "" })
      expect([...errors, ...warnings]).toEqual([])
      expect(yield* refusals(server, "invoices")).toEqual([])
    })
  )

  it.scoped("a database other than 0 needs +select; without, nothing is locked, in none", () =>
    Effect.gen(function* () {
      const server = yield* fresh
      const channels = rules.filter((rule) => rule.startsWith("&"))
      const there = (channel: string) => channel.replace("@0__", "@3__")
      yield* makeUser(server, "third", [...rules, "+select", ...channels.map(there)])
      const { errors, warnings } = yield* live(server, "third", "k", { database: 3 })
      expect([...errors, ...warnings]).toEqual([])
      expect(yield* server.dump).toEqual([])

      yield* makeUser(server, "unselecting", rules)
      const { use } = yield* storeOf(
        RedisLockStore.layer({
          url: `redis://unselecting:${password}@127.0.0.1:${server.port}/3`,
          commandTimeout: 800,
          prefix
        })
      )
      const error = yield* Effect.flip(Effect.scoped(Lock.acquire("k")).pipe(use))
      expect(error).toMatchObject({ _tag: "LockStoreError", operation: "acquire" })
      expect(error.message).toMatch(/no permissions to run the 'select' command/)
      expect(yield* server.dump).toEqual([])
    })
  )
})

layer(RedisServer.layer(), { excludeTestServices: true })("the ACL of who looks", (it) => {
  const kinds = ["lock", "semaphore", "readWriteLock"]

  /** Everything that can be looked at, as that user: what failed, and what was told. */
  const looking = (server: RedisServer.RedisProcess, user: string) =>
    Effect.gen(function* () {
      const url = `redis://${user}:${password}@127.0.0.1:${server.port}`
      const { use } = yield* storeOf(RedisLockStore.layer({ url, prefix, commandTimeout: 2_000 }))
      const errors: Array<string> = []
      const step = <A, R>(effect: Effect.Effect<A, unknown, R>) =>
        Effect.catchAll(Effect.asSome(effect), (error) =>
          Effect.sync(() => {
            errors.push(String(error))
            return Option.none<A>()
          })
        )
      const all = yield* step(use(Stream.runCollect(LockInspector.list())))
      const first = yield* step(use(Stream.runCollect(Stream.take(LockInspector.watch(), 1))))
      const inspected = yield* Effect.forEach([...kinds, "free"], (key) =>
        step(use(LockInspector.inspect(key)))
      )
      const leader = yield* step(use(Leader.current("lock")))
      return { use, errors, all, first, inspected, leader }
    })

  /** Every kind is held, and waited for by another process; some have ended. */
  const crowded = Effect.gen(function* () {
    const server = yield* RedisServer.RedisServer
    yield* server.flush
    yield* server.command("ACL", "LOG", "RESET")
    const store = storeOf(RedisLockStore.layer({ url: server.url, prefix }))
    const [a, b] = [yield* store, yield* store]
    const options = { ttl: 60_000, owner: "holder" }
    yield* a.use(Lock.acquire("lock", options))
    for (const permits of [1, 2]) {
      yield* a.use(Semaphore.acquire("semaphore", { ...options, permits, limit: 3 }))
    }
    yield* a.use(ReadWriteLock.writeLock("readWriteLock", options))
    const waits = <E>(acquire: Effect.Effect<unknown, E, LockStore.LockStore | Scope.Scope>) =>
      Effect.forkScoped(b.use(Effect.scoped(acquire)))
    yield* waits(Lock.acquire("lock"))
    yield* waits(Semaphore.acquire("semaphore", { limit: 3 }))
    yield* waits(ReadWriteLock.readLock("readWriteLock"))
    for (const key of kinds) {
      const keys = lockKeys("", prefix, key, true) as ReadonlyArray<string>
      yield* RedisServer.eventually(
        Effect.map(server.command("ZCARD", keys[2]!), (count) => count === 1)
      )
    }
    const [pool, , , , holders] = lockKeys("", prefix, "semaphore", true) as ReadonlyArray<string>
    yield* server.command("ZADD", pool!, 1, "erl1:somebodyelse.0000000000000000000000")
    yield* server.command(
      "HSET",
      holders!,
      "erl1:somebodyelse.0000000000000000000000",
      "1 semaphore/1 1 1 3 dead"
    )
    return server
  })

  it.scoped("is enough, and gives nothing that changes anything", () =>
    Effect.gen(function* () {
      const server = yield* crowded
      yield* makeUser(server, "onlooker", lookingRules)
      const { all, errors, first, inspected, leader, use } = yield* looking(server, "onlooker")
      expect(errors).toEqual([])
      const keys = Option.getOrThrow(all)
      expect([...keys].map(({ key }) => key).sort()).toEqual([...kinds].sort())
      for (const { held, pendingCount } of keys) {
        expect(held[0]).toMatchObject({ owner: "holder" })
        expect(pendingCount).toBe(1)
      }
      expect(Option.getOrThrow(first)).toHaveLength(1)
      expect(inspected.map((found) => Option.getOrThrow(found).kind)).toEqual([...kinds, undefined])
      expect(Option.getOrThrow(Option.getOrThrow(leader))).toMatchObject({ owner: "holder" })
      expect(yield* refusals(server, "onlooker")).toEqual([])
      // no category of the server's has a command of it among those that write
      const writing = (yield* server.command("ACL", "CAT", "write")) as ReadonlyArray<string>
      const mine = lookingRules.filter((rule) => rule.startsWith("+")).map((rule) => rule.slice(1))
      expect(mine.filter((command) => writing.includes(command))).toEqual([])
      const before = yield* server.dump
      yield* quietly(
        Effect.gen(function* () {
          const taken = yield* Effect.exit(use(Effect.scoped(Lock.tryAcquire("free"))))
          expect(failure(taken)).toMatchObject({ _tag: "LockStoreError", transient: false })
          const { fencingToken } = Option.getOrThrow(inspected[0]!).held[0]!
          const freed = yield* Effect.exit(use(Lock.forceRelease("lock", fencingToken!)))
          expect(failure(freed)).toMatchObject({ _tag: "LockStoreError" })
        })
      )
      expect(yield* server.dump).toEqual(before)
    })
  )

  it.scoped("is needed, command by command", () =>
    Effect.gen(function* () {
      const server = yield* crowded
      yield* silentConsole
      const notMissed: Array<string> = []
      for (const rule of lookingRules.filter((rule) => rule.startsWith("+"))) {
        const command = rule.slice(1)
        yield* makeUser(
          server,
          `no-${command}`,
          lookingRules.filter((other) => other !== rule)
        )
        const { errors } = yield* looking(server, `no-${command}`)
        const known = dispensable.includes(command)
          ? yield* refusals(server, `no-${command}`)
          : errors
        if (known.length === 0) notMissed.push(command)
      }
      expect(notMissed).toEqual([])
    })
  )

  it.scoped("is what a user that locks needs more", () =>
    Effect.gen(function* () {
      const server = yield* crowded
      const own = toLook.flatMap((some) => some.split(" "))
      yield* makeUser(server, "both", [...rules, ...ofSemaphores, ...own])
      expect((yield* looking(server, "both")).errors).toEqual([])
      expect(yield* refusals(server, "both")).toEqual([])
    })
  )
})
