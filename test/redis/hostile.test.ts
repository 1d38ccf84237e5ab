/**
 * Keys, owners, names and prefixes with hostile content change nothing but themselves: each works,
 * or is refused before anything is sent; and whatever else is on the server stays as it was.
 */
import * as HttpServer from "@effect/platform/HttpServer"
import * as HttpServerResponse from "@effect/platform/HttpServerResponse"
import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
import { expect, layer } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import { Lock, LockError, MemoryLockStore, RedisLockStore } from "effect-redis-lock"
import * as HttpLock from "effect-redis-lock/HttpLock"
import * as fc from "fast-check"
import * as Http from "node:http"
import * as Net from "node:net"
import { inspect } from "node:util"
import { lockKeys } from "../../src/internal/redis/layout.js"
import { maxKeyLength, maxOwnerLength } from "../../src/internal/common/options.js"
import { internals, nothing, strict } from "../support/Queue.js"
import { type Environment, FaultProxy, RedisServer, storeOf, unhandledErrors } from "./support.js"

// ---------------------------------------------------------------- content

/** What has meaning to somebody between here and the server: RESP, Lua, globs, logs, objects. */
const seeds: ReadonlyArray<string> = [
  " ",
  "\u0000",
  "nul\u0000byte",
  "\r\n",
  "key\r\n*1\r\n$8\r\nFLUSHALL\r\n",
  "\n\n\n",
  "\t",
  "tab\tand\vvertical",
  "\u001b[31mred\u0007",
  "\u007f\u0080\u009f",
  "{",
  "{a",
  "{tag}",
  "{tag}rest",
  "rest{tag}rest",
  "{a}{b}",
  "{{a}}",
  "*",
  "*?[a-z]",
  "[^",
  "\\",
  "\\r\\n",
  `"`,
  "'",
  "`$(id)`${id}",
  "' .. redis.call('FLUSHALL') .. '",
  "]] redis.call('FLUSHALL') --[[",
  "--",
  "%",
  "%0",
  "%s %d %% %q",
  "^(%d+) (.*)$",
  "1 2 3 4",
  "1700000000000000 somebody else",
  "-1",
  "0",
  "1e400",
  "NaN",
  "nil",
  "null",
  "undefined",
  "__proto__",
  "constructor",
  "prototype",
  "toString",
  "hasOwnProperty",
  "valueOf",
  "erl1:",
  "erl1:store.token",
  "ключ 🔑 鍵",
  "e\u0301 \u00e9",
  "\u202eright to left",
  "\ufeff",
  "\ufffd",
  "\u2028\u2029",
  "🏴󠁧󠁢󠁥󠁮󠁧󠁿",
  "}",
  "{}",
  "a}b",
  "{}x",
  "a{}b",
  "{}a}b",
  ":lock-record:",
  "::lock-queue:x",
  "x".repeat(10_000)
]

/** Keys that look like one of the library's own, or are too long. */
const impossible: ReadonlyArray<string> = [
  "",
  "x:lock-record",
  "{x}:lock-queue",
  "{x}:lock-record",
  "{x}:lock-waiters",
  "{x}::lock-waiters",
  "\u0000:lock-waiters",
  "x".repeat(maxKeyLength + 1),
  "x".repeat(1_000_000),
  "\u0000".repeat(5_000_000)
]

/** Half of a surrogate pair: there is no UTF-8 for it. */
const malformed = ["\ud800", "\udfff", "a\ud83d", "\udd11b", "\udd11\ud83d"]

const arbitrary = fc.oneof(
  fc.constantFrom(...seeds),
  fc.string({ unit: "binary", minLength: 1, maxLength: 50 }),
  fc.string({ unit: "grapheme", minLength: 1, maxLength: 50 }),
  fc
    .array(
      fc.constantFrom("{", "}", ":", "a", "\u0000", "\r\n", "lock-queue", "%", "🔑", "__proto__"),
      {
        minLength: 1,
        maxLength: 6
      }
    )
    .map((parts) => parts.join("")),
  fc
    .tuple(fc.constantFrom(...seeds), fc.string({ unit: "binary", maxLength: 10 }))
    .map((parts) => parts.join(""))
)

// ---------------------------------------------------------------- what may not change

const bystanders: ReadonlyArray<ReadonlyArray<string>> = [
  ["SET", "bystander", "value"],
  ["SET", "erl1:bystander", "value"],
  ["RPUSH", "list", "a", "b"],
  ["HSET", "{bystander}", "field", "value"],
  ["SET", "__proto__:bystander", "value"],
  ["SET", "\u0000bystander", "value"]
]

/** Everything on the server but the keys of these locks, type and content and all. */
const restOf = (server: RedisServer.RedisProcess, ...own: ReadonlyArray<string>) =>
  Effect.map(
    server.command(
      "EVAL",
      // SCAN, in one step
      `local all, cursor = {}, '0'
       repeat
         local found = redis.call('SCAN', cursor, 'COUNT', 1000)
         cursor = found[1]
         for _, key in ipairs(found[2]) do
           local own = false
           for _, other in ipairs(ARGV) do own = own or key == other end
           if not own then all[#all + 1] = redis.sha1hex(key) .. redis.sha1hex(redis.call('DUMP', key)) end
         end
       until cursor == '0'
       table.sort(all)
       return all`,
      0,
      ...own
    ),
    (all) => all as ReadonlyArray<string>
  )

const companions = (prefix: string, key: string) => {
  const keys = lockKeys("", prefix, key)
  if (typeof keys === "string") throw new Error(keys)
  const [lock, record, queue, waiters] = keys
  return { lock, record, queue, waiters }
}

const withBystanders = (server: RedisServer.RedisProcess) =>
  Effect.gen(function* () {
    yield* server.flush
    for (const command of bystanders) yield* server.command(...command)
    return yield* restOf(server)
  })

// ---------------------------------------------------------------- one life

const ttl = "1 minute"

interface Content {
  readonly key: string
  readonly owner?: string
  readonly name?: string
}

/** Taken, refused to others with the owner's name, waited for, handed over, verified, given back. */
const live = (
  server: RedisServer.RedisProcess,
  [a, b]: readonly [Pick<Environment, "use">, Pick<Environment, "use">],
  { key, ...options }: Content
) =>
  Effect.gen(function* () {
    const lease = yield* Lock.acquire(key, { ttl, ...options }).pipe(a.use)
    expect(lease.key).toBe(key)
    const busy = yield* Effect.flip(Effect.scoped(Lock.tryAcquire(key)).pipe(b.use))
    if (busy._tag !== "LockUnavailable") return yield* busy
    expect(busy.key).toBe(key)
    if (options.owner !== undefined) expect(busy.holder.owner).toBe(options.owner)
    expect(busy.holder.foreign).toBe(false)
    expectOneLine(busy)
    const waiting = yield* Effect.fork(
      Lock.withLock(key, { ttl, ...options })((next) => Effect.succeed(next)).pipe(b.use)
    )
    const inQueue = Effect.map(
      server.command("ZRANGE", companions("", key).queue, 0, -1),
      (tokens) => tokens as ReadonlyArray<string>
    )
    yield* RedisServer.eventually(Effect.map(inQueue, (tokens) => tokens.length === 1))
    const [token] = yield* inQueue
    yield* lease.verify
    yield* lease.release
    const next = yield* Fiber.join(waiting)
    // handed over to the place in the queue, and not found free after it
    expect(next.token).toBe(token)
    expect(next.fencingToken).toBeGreaterThan(lease.fencingToken)
  }).pipe(Effect.scoped)

/** What a log shows of an error stays in its line, and is short. */
const expectOneLine = (error: Error) => {
  expect([...error.message].filter((character) => character < " ")).toEqual([])
  expect(error.message.length).toBeLessThan(4_000)
}

const stores = (server: RedisServer.RedisProcess, options: RedisLockStore.Options = {}) =>
  Effect.all([
    storeOf(RedisLockStore.layer({ url: server.url, ...strict, ...options })),
    storeOf(RedisLockStore.layer({ url: server.url, ...strict, ...options }))
  ])

/** The message of the defect by which an impossible option is refused. */
const refusal = (exit: Exit.Exit<unknown, unknown>): string => {
  const defect = Exit.isFailure(exit) ? Cause.dieOption(exit.cause) : Option.none()
  if (Option.isNone(defect)) throw new Error(`not refused: ${inspect(exit).slice(0, 500)}`)
  expect(defect.value).toMatchObject({ _tag: "IllegalArgumentException" })
  const { message } = defect.value as Cause.IllegalArgumentException
  expect(message.length).toBeLessThan(2_000)
  return message
}

// ---------------------------------------------------------------- the tests

layer(RedisServer.layer(), { excludeTestServices: true })("hostile content", (it) => {
  it.scoped("of keys, owners and names: a whole life each, and nothing else has changed", () =>
    Effect.gen(function* () {
      const unhandled = yield* unhandledErrors
      const server = yield* RedisServer.RedisServer
      const rest = yield* withBystanders(server)
      const both = yield* stores(server)
      const usable = seeds.filter((key) => typeof lockKeys("", "", key) !== "string")
      expect(usable.length).toBeGreaterThan(seeds.length - 5)
      for (const [index, key] of usable.entries()) {
        const other = seeds[(index + 7) % seeds.length]!.slice(0, maxOwnerLength)
        yield* live(server, both, { key, owner: other, name: other })
        expect(yield* restOf(server, companions("", key).record)).toEqual(rest)
        yield* server.command("DEL", companions("", key).record)
      }
      yield* live(server, both, { key: "k", owner: "" })
      yield* live(server, both, { key: "k", owner: "\u0000".repeat(maxOwnerLength) })
      yield* live(server, both, { key: "🔑".repeat(maxKeyLength / 2), owner: "o", name: "" })
      for (const { store } of both) expect(internals(store).size()).toEqual(nothing)
      expect(unhandled).toEqual([])
    })
  )

  it.scoped(
    "of any key and prefix: locked and given back, or refused before anything is sent",
    () =>
      Effect.gen(function* () {
        const server = yield* RedisServer.RedisServer
        const rest = yield* withBystanders(server)
        const proxy = yield* FaultProxy.make(server.port)
        let refused = 0
        let locked = 0
        const lockOnce = (prefix: string, key: string, owner: string) =>
          Effect.gen(function* () {
            const { use } = yield* storeOf(RedisLockStore.layer({ url: proxy.url, prefix, owner }))
            const keys = lockKeys("", prefix, key)
            proxy.forget()
            const lock = Lock.tryAcquire(key, { ttl }).pipe(use)
            if (typeof keys === "string") {
              expect(refusal(yield* Effect.exit(Effect.scoped(lock)))).toMatch(/^Impossible lock /)
              expect(proxy.commands.filter(([name]) => /^eval/i.test(name!))).toEqual([])
              refused++
              return
            }
            const lease = yield* lock
            locked++
            expect(yield* server.command("GET", prefix + key)).toBe(lease.token)
            const busy = yield* Effect.flip(Effect.scoped(Lock.tryAcquire(key)).pipe(use))
            expect(busy).toMatchObject({ _tag: "LockUnavailable", key, holder: { owner } })
            yield* lease.release
            yield* server.command("DEL", keys[1])
            expect(yield* restOf(server)).toEqual(rest)
          }).pipe(Effect.scoped)
        const wellFormed = arbitrary.filter((text) => !/\p{Surrogate}/u.test(text))
        yield* Effect.promise(() =>
          fc.assert(
            fc.asyncProperty(
              fc.oneof(
                { weight: 2, arbitrary: fc.constant("") },
                { weight: 1, arbitrary: wellFormed }
              ),
              wellFormed.filter((key) => key !== ""),
              wellFormed
                .map((owner) => owner.slice(0, 1_000))
                .filter((owner) => !/\p{Surrogate}/u.test(owner)),
              (prefix, key, owner) => Effect.runPromise(lockOnce(prefix, key, owner))
            ),
            { numRuns: 150 }
          )
        )
        expect(locked).toBeGreaterThan(140 - refused)
      }),
    { timeout: 60_000 }
  )

  it.scoped("that is impossible is refused by name, in short, before anything is sent", () =>
    Effect.gen(function* () {
      const server = yield* RedisServer.RedisServer
      yield* server.flush
      const proxy = yield* FaultProxy.make(server.port)
      const { use } = yield* storeOf(RedisLockStore.layer({ url: proxy.url }))
      yield* Effect.scoped(Lock.tryAcquire("first")).pipe(use)
      proxy.forget()
      const attempt = (key: string, options?: Lock.Options) =>
        Effect.map(
          Effect.all([
            Effect.exit(Effect.scoped(Lock.tryAcquire(key, options)).pipe(use)),
            Effect.exit(Effect.scoped(Lock.acquire(key, options)).pipe(use)),
            Effect.exit(Lock.withLock(key, options)(Effect.void).pipe(use)),
            Effect.exit(Lock.withLockIfAvailable(key, options)(Effect.void).pipe(use))
          ]),
          (exits) => exits.map(refusal)
        )
      for (const key of [...impossible, 7, null, {}, Symbol("k")]) {
        for (const said of yield* attempt(key as string)) {
          expect(said).toMatch(/^Impossible lock (option )?key: /)
        }
      }
      for (const option of ["owner", "name"] as const) {
        for (const value of [
          "x".repeat(maxOwnerLength + 1),
          "\u0000".repeat(5_000_000),
          7,
          {},
          null
        ]) {
          for (const said of yield* attempt("k", { [option]: value })) {
            expect(said).toMatch(new RegExp(`^Impossible lock option ${option}: `))
          }
        }
      }
      expect(proxy.commands).toEqual([])
    })
  )

  it.scoped("that has no UTF-8 is refused: such keys would be one key in Redis", () =>
    Effect.gen(function* () {
      const server = yield* RedisServer.RedisServer
      yield* server.flush
      const { use } = yield* storeOf(RedisLockStore.layer({ url: server.url }))
      for (const key of malformed) {
        const exit = yield* Effect.exit(Effect.scoped(Lock.tryAcquire(key)).pipe(use))
        expect(refusal(exit)).toMatch(/^Impossible lock (option )?key: /)
      }
      expect(yield* server.dump).toEqual([])
    })
  )

  it.scoped(
    "of a prefix, megabytes included: works",
    () =>
      Effect.gen(function* () {
        const unhandled = yield* unhandledErrors
        const server = yield* RedisServer.RedisServer
        const rest = yield* withBystanders(server)
        for (const prefix of [...seeds, ...impossible]) {
          const { use } = yield* storeOf(
            RedisLockStore.layer({ url: server.url, prefix, commandTimeout: "20 seconds" })
          )
          const exit = yield* Effect.exit(Effect.scoped(Lock.tryAcquire("k", { ttl })).pipe(use))
          if (Exit.isFailure(exit)) {
            throw new Error(`no lock under the prefix ${JSON.stringify(prefix.slice(0, 100))}`)
          } else {
            yield* server.command("DEL", companions(prefix, "k").record)
          }
          expect(yield* restOf(server)).toEqual(rest)
        }
        expect(unhandled).toEqual([])
      }),
    { timeout: 60_000 }
  )

  it.scoped(
    "of keys that look like one another, or like another's companions: each its own lock",
    () =>
      Effect.gen(function* () {
        const server = yield* RedisServer.RedisServer
        const rest = yield* withBystanders(server)
        const [a, b] = yield* stores(server)
        const keys = [
          "a",
          "{a}",
          "{a",
          "a{",
          "a:",
          "{a}:",
          "a::",
          "{a}a",
          "a{a}",
          "{{a}}",
          "A",
          "a ",
          "a\u0000",
          "x",
          "{x}",
          "x::lock-queue:",
          "{x}:lock-queue:",
          "x:lock-record ",
          "{x}:lock-recor",
          "lock-queue",
          "record",
          "__proto__",
          "constructor",
          "toString",
          "1",
          "01",
          "1.0"
        ]
        const stored = keys.flatMap((key) => Object.values(companions("", key)))
        expect(new Set(stored).size).toBe(stored.length)
        yield* Effect.gen(function* () {
          const leases = yield* Effect.forEach(keys, (key) => Lock.tryAcquire(key, { ttl }))
          expect(new Set(leases.map(({ token }) => token)).size).toBe(keys.length)
          for (const [index, lease] of leases.entries()) {
            const busy = yield* Effect.flip(
              Effect.scoped(Lock.tryAcquire(keys[index]!)).pipe(b.use)
            )
            expect(busy).toMatchObject({ _tag: "LockUnavailable" })
            yield* lease.release
            for (const other of leases.slice(index + 1)) yield* other.verify
          }
        }).pipe(Effect.scoped, a.use)
        const records = keys.map((key) => companions("", key).record)
        expect(yield* restOf(server, ...records)).toEqual(rest)
      })
  )

  it("of keys and prefixes: two locks that differ share nothing, whatever their prefixes", () => {
    const prefixes = fc.oneof(
      fc.constantFrom("", "p:", "{p}:", "{a}", "a", "a:", "{", "}"),
      arbitrary
    )
    fc.assert(
      fc.property(prefixes, arbitrary, prefixes, arbitrary, (prefix, key, otherPrefix, other) => {
        const [ones, others] = [lockKeys("", prefix, key), lockKeys("", otherPrefix, other)]
        if (typeof ones === "string" || typeof others === "string") return
        // the same lock, reached in two ways
        if (ones[0] === others[0]) return
        expect(ones.filter((key) => others.includes(key))).toEqual([])
      }),
      { numRuns: 5_000 }
    )
  })

  it.scoped(
    "that others have put where locks are: no more than an error, or a lock that is taken",
    () =>
      Effect.gen(function* () {
        const unhandled = yield* unhandledErrors
        const server = yield* RedisServer.RedisServer
        yield* server.flush
        const { use } = yield* storeOf(RedisLockStore.layer({ url: server.url, ...strict }))
        const { lock, queue, record, waiters } = companions("", "k")
        const values = [...seeds, "", "x".repeat(5_000_000)]
        for (const value of values) {
          // held by somebody, whoever it is; the record is what an owner's name comes from
          yield* server.command("SET", lock, value, "PX", 60_000)
          yield* server.command("SET", record, `1700000000000000 ${value}`)
          const busy = yield* Effect.flip(Effect.scoped(Lock.tryAcquire("k")).pipe(use))
          expect(busy).toMatchObject({ _tag: "LockUnavailable" })
          expectOneLine(busy)
          yield* server.command("SET", lock, `erl1:other.${value}`, "PX", 60_000)
          const ours = yield* Effect.flip(Effect.scoped(Lock.tryAcquire("k")).pipe(use))
          expect(ours).toMatchObject({ _tag: "LockUnavailable", holder: { owner: value } })
          expectOneLine(ours)
          expect(yield* server.command("GET", lock)).toBe(`erl1:other.${value}`)

          // free, behind a record and a waiter that say nothing
          yield* server.command("DEL", lock)
          yield* server.command("SET", record, value)
          yield* server.command("ZADD", queue, 1, value)
          yield* server.command("HSET", waiters, value, value)
          const exit = yield* Effect.exit(
            Effect.scoped(
              Effect.map(Lock.tryAcquire("k"), ({ fencingToken }) => fencingToken)
            ).pipe(use)
          )
          if (Exit.isSuccess(exit)) expect(Number.isSafeInteger(exit.value)).toBe(true)
          else
            expect(Option.getOrThrow(Cause.failureOption(exit.cause))).toBeInstanceOf(
              LockError.LockStoreError
            )
          yield* server.command("DEL", record, queue, waiters)
        }
        yield* Effect.scoped(Lock.tryAcquire("k")).pipe(use)
        expect(unhandled).toEqual([])
      }),
    { timeout: 60_000 }
  )

  it.scoped(
    "a record whose fencing token is beyond all numbers: an error, never a token twice",
    () =>
      Effect.gen(function* () {
        const server = yield* RedisServer.RedisServer
        yield* server.flush
        const { use } = yield* storeOf(RedisLockStore.layer({ url: server.url }))
        const { lock, record } = companions("", "k")
        for (const last of [
          "9007199254740990",
          "9007199254740993",
          "9999999999999999",
          "9".repeat(400)
        ]) {
          yield* server.command("SET", record, `${last} somebody`)
          const granted: Array<number> = []
          for (let i = 0; i < 4; i++) {
            const exit = yield* Effect.exit(Effect.scoped(Lock.tryAcquire("k")).pipe(use))
            if (Exit.isSuccess(exit)) granted.push(exit.value.fencingToken)
            else {
              expect(Option.getOrThrow(Cause.failureOption(exit.cause))).toMatchObject({
                _tag: "LockStoreError",
                operation: "acquire"
              })
            }
            yield* RedisServer.eventually(
              Effect.map(server.command("EXISTS", lock), (exists) => exists === 0)
            )
          }
          expect(granted.filter((token) => !Number.isSafeInteger(token))).toEqual([])
          expect(new Set(granted).size).toBe(granted.length)
        }
      })
  )
})

layer(MemoryLockStore.layer)("hostile content, in memory", (it) => {
  it.scoped("of keys, owners and names: each its own lock", () =>
    Effect.gen(function* () {
      const keys = [...new Set([...seeds, "a", "A"])]
      const leases = yield* Effect.forEach(keys, (key) =>
        Lock.tryAcquire(key, { name: key.slice(0, 1_000) })
      )
      expect(new Set(leases.map(({ token }) => token)).size).toBe(keys.length)
      for (const key of keys) {
        const busy = yield* Effect.flip(Effect.scoped(Lock.tryAcquire(key)))
        expect(busy).toMatchObject({ _tag: "LockUnavailable", key })
        expectOneLine(busy)
      }
      yield* Effect.forEach(leases, (lease) => lease.release)
    })
  )
})

layer(RedisServer.layer(), { excludeTestServices: true })("hostile content of requests", (it) => {
  /** The whole answer, as it comes from the connection. */
  const raw = (port: number, path: string) =>
    Effect.async<string, Error>((resume) => {
      const socket = Net.connect({ host: "127.0.0.1", port })
      let answer = ""
      socket.setEncoding("latin1")
      socket.on("data", (chunk) => (answer += String(chunk)))
      socket.on("end", () => resume(Effect.succeed(answer)))
      socket.on("error", (error) => resume(Effect.fail(error)))
      socket.write(`GET ${path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n`)
      return Effect.sync(() => socket.destroy())
    })

  it.scoped("a key with CR LF is in no header, nor anywhere else of the answer", () =>
    Effect.gen(function* () {
      const unhandled = yield* unhandledErrors
      const server = yield* RedisServer.RedisServer
      yield* server.flush
      const { store, use } = yield* storeOf(RedisLockStore.layer({ url: server.url }))
      const http = yield* NodeHttpServer.make(() => Http.createServer(), {
        port: 0,
        host: "127.0.0.1"
      })
      const { port } = http.address as HttpServer.TcpAddress
      const locked = HttpLock.make({
        key: ({ url }) => decodeURIComponent(url.slice("/".length)),
        waitAtMost: 0
      })(HttpServerResponse.text("locked"))
      yield* HttpServer.serveEffect(locked).pipe(
        Effect.provideService(HttpServer.HttpServer, http),
        use
      )
      const injected = "injected"
      const hostileKeys = seeds
        .slice(0, -1)
        .concat(`x\r\nset-cookie: ${injected}=1\r\n\r\n<script>${injected}</script>`)
        .map((key) => `${injected} ${key}`)
      for (const key of hostileKeys) {
        const path = `/${encodeURIComponent(key)}`
        const free = yield* raw(port, path)
        expect(free).toMatch(/^HTTP\/1\.1 (200|500) /)
        const refused = yield* Effect.exit(
          Lock.tryAcquire(key, { ttl, owner: `${injected}\r\n` }).pipe(use)
        )
        const busy = yield* raw(port, path)
        expect(busy).toMatch(Exit.isSuccess(refused) ? /^HTTP\/1\.1 423 / : /^HTTP\/1\.1 500 /)
        expect(free + busy).not.toContain(injected)
      }
      expect(internals(store).size().lines).toBeGreaterThan(0)
      expect(unhandled).toEqual([])
    })
  )
})
