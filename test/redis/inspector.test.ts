/** Who holds a key in Redis, and who waits: of every kind, of other programs, and what a look costs. */
import { expect, layer, vi } from "@effect/vitest"
import * as Chunk from "effect/Chunk"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import {
  Lock,
  LockInspector,
  type LockStore,
  ReadWriteLock,
  RedisLockStore,
  Semaphore
} from "effect-redis-lock"
import { lockKeys } from "../../src/internal/redis/layout.js"
import { look } from "../../src/internal/redis/lookScript.js"
import {
  awaitQueued,
  caller,
  environments,
  keysOf,
  pair,
  queuedCaller,
  strangeToken,
  strict
} from "../support/Queue.js"
import { environment, foreign, quietly, RedisServer, serverMicros, storeOf } from "./support.js"

// ---------------------------------------------------------------- helpers

const long = { ttl: 60_000 }

const millis = (duration: Duration.Duration | undefined) => duration && Duration.toMillis(duration)

const list = (options?: LockInspector.ListOptions) =>
  Effect.map(Stream.runCollect(LockInspector.list(options)), Chunk.toReadonlyArray)

const listedKeys = (options?: LockInspector.ListOptions) =>
  Effect.map(list(options), (snapshots) => snapshots.map(({ key }) => key).sort())

/** Held to the end of the scope, by a fiber of its own. */
const held = <A, E>(
  use: <B, F, R>(
    effect: Effect.Effect<B, F, R>
  ) => Effect.Effect<B, F, Exclude<R, LockStore.LockStore>>,
  acquire: Effect.Effect<A, E, LockStore.LockStore | Scope.Scope>
) =>
  Effect.gen(function* () {
    const scope = yield* Effect.acquireRelease(Scope.make(), (scope) =>
      Scope.close(scope, Exit.void)
    )
    const fiber = yield* Effect.forkDaemon(use(Scope.extend(acquire, scope)))
    return { lease: yield* Fiber.join(fiber), giveBack: Scope.close(scope, Exit.void) }
  })

/** Many commands, as fast as they come. */
const pipelined = (
  server: RedisServer.RedisProcess,
  commands: ReadonlyArray<ReadonlyArray<string | number>>
) =>
  Effect.forEach(commands, (args) => server.command(...args), {
    concurrency: 500,
    discard: true
  })

/** Locks that somebody holds, with their records, as a grant leaves them. */
const crowd = (server: RedisServer.RedisProcess, prefix: string, count: number) =>
  Effect.flatMap(serverMicros(server), (micros) =>
    pipelined(
      server,
      Array.from({ length: count }, (_, n) => {
        const [lock, record] = lockKeys("", prefix, `key ${n}`) as ReadonlyArray<string>
        return ["MSET", lock!, strangeToken(), record!, `${micros} lock/1 60000 owner ${n}`]
      })
    )
  )

/** A place in the queue, with a heartbeat that is as old as said. */
const place = (
  queue: string,
  waiters: string,
  token: string,
  micros: number,
  claim: string,
  ageMillis = 0
): ReadonlyArray<ReadonlyArray<string | number>> => [
  ["ZADD", queue, micros, token],
  ["HSET", waiters, token, `${Math.floor(micros / 1_000) - ageMillis} 3000 3000 ${claim}`]
]

// ---------------------------------------------------------------- tests

/** Thousands of keys take their time on a machine that is busy. */
const patient = 120_000

layer(RedisServer.layer(), { excludeTestServices: true })("a look at one key in Redis", (it) => {
  it.scoped("names the holder of a lock, and those who wait, in order", () =>
    quietly(
      Effect.gen(function* () {
        const options = { ...strict, prefix: "locks:", owner: "store" }
        const [a, b, c] = yield* environments([options, options, options])
        const { server } = a
        const { lease } = yield* held(a.use, Lock.acquire("k", { ...long, owner: "web-3:17" }))
        const queue = lockKeys("", "locks:", "k")[2]!
        const stands = (count: number) =>
          RedisServer.eventually(
            Effect.map(server.command("ZCARD", queue), (found) => found === count)
          )
        yield* caller(b.use, "k", { owner: "first" })
        yield* stands(1)
        yield* caller(c.use, "k")
        yield* stands(2)
        // (the line of a process has one place, and none where the process holds the key itself)
        yield* caller(b.use, "k", { owner: "behind the first" })
        yield* caller(a.use, "k", { owner: "behind the holder" })
        const here = (store: typeof a, count: number) =>
          RedisServer.eventually(
            Effect.map(
              store.use(LockInspector.inspect("k")),
              ({ waitingHere }) => waitingHere === count
            )
          )
        yield* here(a, 1)
        yield* here(b, 2)
        yield* here(c, 1)
        const found = yield* a.use(LockInspector.inspect("k"))
        expect(found).toMatchObject({
          key: "k",
          kind: "lock",
          heldCount: 1,
          pendingCount: 2,
          waitingHere: 1
        })
        expect(found.held).toMatchObject([
          {
            owner: "web-3:17",
            mode: "exclusive",
            permits: undefined,
            fencingToken: lease.fencingToken,
            foreign: false,
            isLeft: false
          }
        ])
        expect(found.pending).toMatchObject([{ owner: "first" }, { owner: "store" }])
        const [holder] = found.held
        // the moment of the grant is in its fencing token
        expect(holder!.since!.epochMillis).toBe(Math.floor(lease.fencingToken / 1_000))
        expect(millis(holder!.ttlLeft)).toBeGreaterThan(0)
        expect(millis(holder!.ttlLeft)).toBeLessThanOrEqual(60_000)
        const shown = JSON.stringify(found)
        const secrets = [
          lease.token,
          ...((yield* server.command("ZRANGE", queue, 0, -1)) as Array<string>)
        ]
        for (const token of secrets) expect(shown).not.toContain(token.split(".")[1])
        // a process has one name, whatever it has to do with which key
        yield* held(b.use, Lock.acquire("other", long))
        const other = yield* a.use(LockInspector.inspect("other"))
        expect(found.pending[0]!.incarnation).toBe(other.held[0]!.incarnation)
        expect(found.pending[1]!.incarnation).not.toBe(other.held[0]!.incarnation)
        expect(holder!.incarnation).not.toBe(other.held[0]!.incarnation)
        // who was queued is who holds it then
        yield* lease.release
        yield* RedisServer.eventually(
          Effect.map(
            a.use(LockInspector.inspect("k")),
            ({ held }) => held[0]?.id === found.pending[0]!.id
          )
        )
      })
    )
  )

  it.scoped(
    "has every holder of a semaphore, readers and writers, and nobody who has expired",
    () =>
      quietly(
        Effect.gen(function* () {
          const [{ server, use }, other] = yield* pair()
          yield* held(use, Semaphore.acquire("pool", { ...long, permits: 2, limit: 5, owner: "a" }))
          yield* held(use, Semaphore.acquire("pool", { ...long, permits: 1, limit: 4, owner: "b" }))
          yield* Effect.forkScoped(
            other.use(
              Effect.scoped(Semaphore.acquire("pool", { permits: 3, limit: 5, owner: "c" }))
            )
          )
          const [, , queue] = lockKeys("", "", "pool", true) as ReadonlyArray<string>
          yield* RedisServer.eventually(
            Effect.map(server.command("ZCARD", queue!), (count) => count === 1)
          )
          const both = yield* use(LockInspector.inspect("pool"))
          expect(both).toMatchObject({ kind: "semaphore", inUse: 3, limit: 4, heldCount: 2 })
          expect(both.held).toMatchObject([
            { owner: "a", mode: "shared", permits: 2, limit: 5 },
            { owner: "b", mode: "shared", permits: 1, limit: 4 }
          ])
          expect(both.pending).toMatchObject([{ owner: "c", mode: "shared", permits: 3, limit: 5 }])

          yield* held(use, ReadWriteLock.readLock("config", { ...long, owner: "reader" }))
          yield* Effect.forkScoped(
            other.use(Effect.scoped(ReadWriteLock.writeLock("config", { owner: "writer" })))
          )
          yield* awaitQueued(server, "config", 1)
          const config = yield* use(LockInspector.inspect("config"))
          expect(config).toMatchObject({
            kind: "readWriteLock",
            inUse: undefined,
            limit: undefined
          })
          expect(config.held).toMatchObject([
            { owner: "reader", mode: "shared", permits: undefined }
          ])
          expect(config.pending).toMatchObject([{ owner: "writer", mode: "exclusive" }])
        })
      )
  )

  it.scoped(
    "lists none of many that have expired, also where they are more than a look removes",
    () =>
      Effect.gen(function* () {
        const { server, use } = yield* environment()
        const [pool, , , , holders, index] = lockKeys("", "", "pool", true) as ReadonlyArray<string>
        const commands: Array<ReadonlyArray<string | number>> = []
        for (let n = 0; n < 300; n++) {
          const token = strangeToken()
          const fence = 1_000_000_000_000_000 + n
          commands.push(
            ["ZADD", pool!, n < 290 ? 1_000 + n : 9_000_000_000_000, token],
            ["HSET", holders!, token, `${fence} semaphore/1 60000 1 500 owner ${n}`],
            ["ZADD", index!, 0, `f${fence} ${token}`, 0, `l0000500 ${token}`]
          )
        }
        yield* pipelined(server, commands)
        const { held } = yield* use(LockInspector.inspect("pool"))
        for (const { owner, ttlLeft } of held) {
          expect(Number(owner!.slice(6))).toBeGreaterThanOrEqual(290)
          expect(millis(ttlLeft)).toBeGreaterThan(0)
        }
      })
  )

  it.scoped("marks another program's key, with and without a ttl, however long its value is", () =>
    Effect.gen(function* () {
      const { server, use } = yield* environment()
      yield* foreign(server).lock("theirs", "a secret of theirs", 60_000)
      yield* server.command("SET", "forever", "x".repeat(5_000_000))
      yield* server.resetStats
      const theirs = yield* use(LockInspector.inspect("theirs"))
      expect(theirs).toMatchObject({ kind: "lock", heldCount: 1 })
      expect(theirs.held).toMatchObject([
        {
          foreign: true,
          owner: undefined,
          mode: "exclusive",
          fencingToken: undefined,
          since: undefined,
          heldFor: undefined,
          incarnation: undefined
        }
      ])
      expect(millis(theirs.held[0]!.ttlLeft)).toBeGreaterThan(0)
      expect(JSON.stringify(theirs)).not.toContain("secret")
      const forever = yield* use(LockInspector.inspect("forever"))
      expect(forever.held).toMatchObject([{ foreign: true, ttlLeft: undefined }])
      // (the value itself is not read)
      expect((yield* server.commandStats)["get"]).toBe(undefined)
      for (const make of [
        ["RPUSH", "other", "x"],
        ["HSET", "other", "erl1:x", "x"],
        ["ZADD", "other", 1, "not ours"]
      ]) {
        yield* server.command("DEL", "other")
        yield* server.command(...make)
        expect(yield* use(LockInspector.inspect("other"))).toMatchObject({
          kind: undefined,
          held: [],
          heldCount: 0
        })
      }
    })
  )

  it.scoped("passes over those who died in the queue, and does not count them", () =>
    Effect.gen(function* () {
      const { server, use } = yield* environment()
      const [lock, , queue, waiters] = keysOf("k")
      yield* server.command("SET", lock, strangeToken(), "PX", 60_000)
      const micros = yield* serverMicros(server)
      const commands: Array<ReadonlyArray<string | number>> = []
      for (let n = 0; n < 250; n++) {
        const claim = `lock/1 5000 owner ${n}`
        // (the first 120 died, and one that has no entry)
        commands.push(
          ...place(queue, waiters, strangeToken(), micros + n, claim, n < 120 ? 9_000 : -60_000)
        )
      }
      commands.push(["ZADD", queue, 1, strangeToken()])
      yield* pipelined(server, commands)
      const found = yield* use(LockInspector.inspect("k"))
      expect(found.pendingCount).toBe(130)
      expect(found.pending.map(({ owner }) => owner)).toEqual(
        Array.from({ length: 100 }, (_, n) => `owner ${n + 120}`)
      )
    })
  )

  it.scoped("tells keys and owners as they are, whatever their characters", () =>
    Effect.gen(function* () {
      const { server, use } = yield* environment({ prefix: "p:" })
      const odd = "\u001b[31mred\u0007\r\n\tключ 🔑 \u0000"
      yield* held(use, Lock.acquire(odd, { ...long, owner: odd }))
      const found = yield* use(LockInspector.inspect(odd))
      expect(found).toMatchObject({ key: odd, held: [{ owner: odd }] })
      expect(yield* use(list())).toMatchObject([{ key: odd, held: [{ owner: odd }] }])
      // a name that is no text is no key of ours
      yield* server.command("EVAL", "redis.call('SET', 'p:' .. string.char(255), 'x')", 0)
      expect(yield* use(listedKeys())).toEqual([odd])
    })
  )

  it.scoped("counts by the server's clock, whatever this process takes the time for", () =>
    Effect.gen(function* () {
      const { server, use } = yield* environment()
      yield* held(use, Lock.acquire("k", long))
      yield* Effect.sleep(100)
      const clock = yield* Effect.acquireRelease(
        Effect.sync(() => vi.spyOn(Date, "now").mockReturnValue(1_000)),
        (clock) => Effect.sync(() => clock.mockRestore())
      )
      const found = yield* use(LockInspector.inspect("k"))
      clock.mockRestore()
      const now = (yield* serverMicros(server)) / 1_000
      const [holder] = found.held
      expect(found.at.epochMillis).toBeLessThanOrEqual(now)
      expect(found.at.epochMillis).toBeGreaterThan(now - 60_000)
      expect(found.at.epochMillis - holder!.since!.epochMillis).toBe(millis(holder!.heldFor))
      expect(millis(holder!.heldFor)).toBeGreaterThanOrEqual(90)
      expect(millis(holder!.heldFor)).toBeLessThan(60_000)
    })
  )

  it.scoped(
    "has a hundred of 50,000 who wait, and the count, and does not keep the server for long",
    () =>
      Effect.gen(function* () {
        const { server, use } = yield* environment()
        const [lock, , queue, waiters] = keysOf("k")
        yield* server.command("SET", lock, strangeToken(), "PX", 600_000)
        yield* server.command(
          "EVAL",
          `local now = redis.call('TIME')[1] * 1000
         for n = 1, 50000 do
           local token = string.format('erl1:stranger0000.%022d', n)
           redis.call('ZADD', KEYS[1], now * 1000 + n, token)
           redis.call('HSET', KEYS[2], token, string.format('%.0f', now + 600000) .. ' 3000 3000 lock/1 5000 owner ' .. n)
         end`,
          2,
          queue,
          waiters
        )
        yield* server.resetStats
        const found = yield* use(LockInspector.inspect("k"))
        expect(found.pendingCount).toBe(50_000)
        expect(found.pending.map(({ owner }) => owner)).toEqual(
          Array.from({ length: 100 }, (_, n) => `owner ${n + 1}`)
        )
        // what it does is bounded: a look at each of the hundred
        const { calls } = (yield* server.commandStats)["hget"]!
        expect(calls).toBe(100)
        // (and so is its time; of some, since the server can be kept from running in the middle of one)
        const took: Array<number> = []
        for (let n = 0; n < 30; n++) {
          yield* server.resetStats
          yield* use(LockInspector.inspect("k"))
          took.push((yield* server.commandStats)["evalsha"]!.usec)
        }
        expect(Math.min(...took)).toBeLessThan(2_000)
      }),
    patient
  )
})

layer(RedisServer.layer(), { excludeTestServices: true })("a list of keys in Redis", (it) => {
  it.scoped(
    "honours prefix and keyPrefix, and takes glob characters as they are",
    () =>
      Effect.gen(function* () {
        const server = yield* RedisServer.RedisServer
        const names = [
          "a",
          "a*",
          "a*b",
          "a?",
          "a[b]",
          "a\\",
          "a^",
          "b",
          "{a*}",
          "x{a*}y",
          "a}{*",
          "{}a*"
        ]
        const prefixes = [
          ["", ""],
          ["", "p*[x]\\"],
          ["k?:", "p:"],
          ["{t}:", ""],
          ["", "{"],
          ["{", "}:"],
          ["k", "{}"]
        ] as const
        for (const [keyPrefix, prefix] of prefixes) {
          yield* server.flush
          const store = storeOf(
            RedisLockStore.layer({ url: server.url, prefix, redis: { keyPrefix } })
          )
          const { use } = yield* store
          const micros = yield* serverMicros(server)
          const commands: Array<ReadonlyArray<string | number>> = [
            // what is not below the prefixes, as far as there are any
            ["SET", `${keyPrefix}${prefix}`, "x"],
            ...(keyPrefix + prefix === "" ? [] : [["SET", "elsewhere", "x"]])
          ]
          for (const [n, name] of names.entries()) {
            const [lock, record, queue, waiters] = (
              lockKeys(keyPrefix, prefix, name) as ReadonlyArray<string>
            ).map((key) => keyPrefix + key) as [string, string, string, string]
            commands.push(["SET", record, `${micros} lock/1 5000 owner`])
            // some are held, some waited for, some both
            if (n % 3 !== 1) commands.push(["SET", lock, strangeToken()])
            if (n % 3 !== 0) {
              commands.push(
                ...place(queue, waiters, strangeToken(), micros, "lock/1 5000 owner", -600_000)
              )
            }
          }
          yield* pipelined(server, commands)
          const beginning = (prefix: string) =>
            names.filter((name) => name.startsWith(prefix)).sort()
          for (const prefix of ["", "a", "a*", "a[b]", "a\\", "?", "{", "{a*}", "{}"]) {
            expect(yield* use(listedKeys({ prefix }))).toEqual(beginning(prefix))
          }
          const all = yield* use(list())
          for (const { heldCount, key, kind, pendingCount } of all) {
            const n = names.indexOf(key)
            expect([key, kind, heldCount, pendingCount]).toEqual([
              key,
              "lock",
              n % 3 === 1 ? 0 : 1,
              n % 3 === 0 ? 0 : 1
            ])
          }
        }
      }),
    patient
  )

  it.scoped("has locks of every kind once, and nothing else that is in the database", () =>
    Effect.gen(function* () {
      const { server, use } = yield* environment({ prefix: "locks:" })
      yield* held(use, Lock.acquire("lock", long))
      yield* held(use, Lock.acquire("bound", { ...long, maxHold: 120_000 }))
      yield* held(use, Semaphore.acquire("pool", { ...long, limit: 3 }))
      yield* held(use, Semaphore.acquire("pool", { ...long, limit: 3 }))
      yield* held(use, ReadWriteLock.writeLock("config", long))
      const { giveBack } = yield* held(use, Lock.acquire("gone", long))
      yield* giveBack
      yield* Effect.scoped(use(Lock.acquire("left", { ...long, holdAtLeast: 60_000 })))
      yield* foreign(server).lock("locks:theirs", "x", 60_000)
      yield* server.command("HSET", "locks:hash", "a", "b")
      yield* server.command("ZADD", "locks:zset", 1, "b")
      yield* server.command("SET", "other", "b")
      const found = yield* use(list())
      const kinds = found.map(({ held, key, kind }) => `${key} ${kind} ${held.length}`)
      expect(kinds.sort()).toEqual([
        "bound lock 1",
        "config readWriteLock 1",
        "left lock 1",
        "lock lock 1",
        "pool semaphore 2",
        "theirs lock 1"
      ])
      expect(found.find(({ key }) => key === "left")!.held[0]).toMatchObject({ isLeft: true })
    })
  )

  it.scoped(
    "of 10,000 locks asks for 500 at once, with SCAN and looks alone, and changes nothing",
    () =>
      Effect.gen(function* () {
        const count = 10_000
        const { proxy, server, use } = yield* environment({
          prefix: "locks:",
          commandTimeout: 60_000
        })
        yield* crowd(server, "locks:", count)
        // (its text is sent with the first)
        yield* use(LockInspector.inspect("none"))
        const before = yield* server.dump
        yield* server.resetStats
        proxy.forget()
        // no look is answered until 500 have been asked for
        const isLook = ([, sha]: ReadonlyArray<string>) => sha === look.sha
        const isScan = ([name]: ReadonlyArray<string>) => name === "scan"
        let isHeld = false
        const first = yield* Effect.fork(
          proxy.until(() => {
            if (!isHeld && proxy.commands.some(isLook)) {
              isHeld = true
              proxy.holdReplies()
            }
            return isHeld
          })
        )
        const listing = yield* Effect.fork(use(list()))
        yield* Fiber.join(first)
        yield* proxy.until(() => proxy.commands.filter(isLook).length >= 500)
        // meanwhile the next names are asked for
        const asked = () => proxy.requests.filter(({ args }) => isScan(args))
        let names = 0
        const needed = asked().findIndex(({ reply }) => {
          const [, page] = reply as [string, ReadonlyArray<string>]
          names += page.filter((name) => !name.endsWith(":lock-record")).length
          return names >= 500
        })
        expect(needed).toBeGreaterThanOrEqual(0)
        yield* proxy.until(() => asked().length > needed + 1)
        expect(proxy.commands.filter(isLook)).toHaveLength(500)
        proxy.releaseReplies()
        const found = yield* Fiber.join(listing)
        expect(new Set(found.map(({ key }) => key)).size).toBe(count)
        expect(found).toHaveLength(count)
        const scans = proxy.commands.filter(isScan)
        expect(proxy.commands.filter(isLook)).toHaveLength(count)
        expect(proxy.commands).toHaveLength(count + scans.length)
        // twice as many keys as locks are gone through, 500 in a call, a few of them twice
        expect(scans.length).toBeLessThanOrEqual((2 * count) / 500 + 20)
        for (const args of scans)
          expect(args.slice(2)).toEqual(["MATCH", "locks:*", "COUNT", "500"])
        const stats = Object.keys(yield* server.commandStats).sort()
        expect(stats).toEqual([
          "evalsha",
          "get",
          "getrange",
          "pttl",
          "scan",
          "time",
          "type",
          "zcard",
          "zrange"
        ])
        expect(yield* server.dump).toEqual(before)
      }),
    patient
  )

  it.scoped("asks for what is read, and fails as the store does", () =>
    Effect.gen(function* () {
      const { proxy, server, use } = yield* environment({ prefix: "locks:" })
      yield* crowd(server, "locks:", 2_000)
      expect(yield* use(Stream.runCollect(Stream.take(LockInspector.list(), 3)))).toHaveLength(3)
      const looks = proxy.commands.filter(([name]) => /^eval/i.test(name!)).length
      expect(looks).toBeLessThanOrEqual(1_000)
      // (more than is answered in one piece)
      proxy.blackHole()
      const error = yield* Effect.flip(use(list()))
      expect(error).toMatchObject({ _tag: "LockStoreError", operation: "keys", transient: true })
      proxy.heal()
      yield* RedisServer.eventually(
        Effect.map(Effect.exit(use(list())), (exit) => Exit.isSuccess(exit))
      )
    })
  )
})

layer(RedisServer.layer(), { excludeTestServices: true })("changes in Redis", (it) => {
  /** Changes as `tag key owner`, as they come. */
  const watching = (
    use: <A, E, R>(
      effect: Effect.Effect<A, E, R>
    ) => Effect.Effect<A, E, Exclude<R, LockStore.LockStore>>,
    options?: LockInspector.WatchOptions
  ) =>
    Effect.gen(function* () {
      const told: Array<string> = []
      yield* LockInspector.watch({ every: 20, ...options }).pipe(
        Stream.runForEach((change) =>
          Effect.sync(() => {
            const { owner } = "held" in change ? change.held : change.pending
            told.push(`${change.initial ? "! " : ""}${change._tag} ${change.key} ${owner}`)
          })
        ),
        use,
        Effect.forkScoped
      )
      /** Waits until these were told, in that order, and nothing else. */
      const until = (...expected: ReadonlyArray<string>) =>
        RedisServer.eventually(Effect.sync(() => told.length >= expected.length)).pipe(
          Effect.zipRight(Effect.sync(() => expect(told.splice(0)).toEqual(expected)))
        )
      return { until, told }
    })

  it.scoped("tell of grants, of who waits, and of why a lease is gone", () =>
    quietly(
      Effect.gen(function* () {
        const [a, b, c] = yield* environments([strict, strict, strict])
        const { server } = a
        const first = yield* held(a.use, Lock.acquire("k", { ...long, owner: "first" }))
        const { until } = yield* watching(b.use)
        yield* until("! Granted k first")
        const second = yield* queuedCaller(b, "k", 0, { ...long, owner: "second" })
        yield* until("Queued k second")
        const third = yield* queuedCaller(c, "k", 1, { ...long, owner: "third" })
        yield* until("Queued k third")
        yield* first.giveBack
        yield* until("Released k first", "Granted k second")
        yield* third.interrupt
        yield* until("Left k third")
        // by force
        const { fencingToken } = yield* second.lease
        yield* a.use(Lock.forceRelease("k", fencingToken))
        yield* until("Lost k second")
        // by its ttl
        const [lock, record] = keysOf("dead")
        yield* server.command("SET", record, `${yield* serverMicros(server)} lock/1 400 dead`)
        yield* server.command("SET", lock, strangeToken(), "PX", 400)
        yield* until("Granted dead dead")
        yield* until("Expired dead dead")
        // by hand, long before it
        yield* server.command("SET", lock, strangeToken(), "PX", 60_000)
        yield* until("Granted dead dead")
        yield* server.command("DEL", lock)
        yield* until("Released dead dead")
      })
    )
  )

  it.scoped("tell of a key that was taken from one program by another", () =>
    Effect.gen(function* () {
      const { server, use } = yield* environment()
      const { lock, unlock } = foreign(server)
      yield* lock("k", "one", 60_000)
      const { until } = yield* watching(use, { prefix: "k" })
      yield* until("! Granted k undefined")
      yield* server.command("SET", "k", "two", "PX", 60_000)
      yield* until("Released k undefined", "Granted k undefined")
      yield* unlock("k", "two")
      yield* until("Released k undefined")
    })
  )

  it.scoped("cost nothing while nobody reads them, and go on through an outage", () =>
    Effect.gen(function* () {
      const { proxy, server, use } = yield* environment({ commandTimeout: 200 })
      const stream = LockInspector.watch({ every: 20 })
      const { giveBack } = yield* held(use, Lock.acquire("k", { ...long, owner: "a" }))
      proxy.forget()
      expect(yield* use(Stream.runCollect(Stream.take(stream, 1)))).toHaveLength(1)
      const asked = proxy.commands.length
      yield* Effect.sleep(200)
      expect(proxy.commands.length).toBe(asked)
      const { told, until } = yield* watching(use)
      yield* until("! Granted k a")
      proxy.blackHole()
      yield* Effect.sleep(600)
      expect(told).toEqual([])
      yield* server.command("DEL", "k")
      proxy.heal()
      yield* until("Released k a")
      yield* quietly(giveBack)
    })
  )
})
