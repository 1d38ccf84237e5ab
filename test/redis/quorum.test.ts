/** A quorum of real servers, which are killed, emptied, stopped and cut off. */
import { describe, expect, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import { CronJob, Lock } from "effect-redis-lock"
import * as RedisQuorum from "../support/RedisQuorum.js"
import { freshKey } from "../support/stores.js"
import { apart, nothingLeft, tenTurnsEach } from "./quorums.js"
import {
  failure,
  FaultProxy,
  quietly,
  RedisServer,
  storeOf,
  timed,
  undisturbed
} from "./support.js"

const { eventually } = RedisServer

/** Servers that count, and a store on all of them. */
const quorum = (count: number, options: Parameters<typeof RedisQuorum.layerOf>[1] = {}) =>
  Effect.gen(function* () {
    const servers = yield* RedisQuorum.make(count)
    yield* Effect.forEach(servers, RedisQuorum.join, { discard: true })
    return { servers, ...(yield* storeOf(RedisQuorum.layerOf(servers, options))) }
  })

const holding = (key: string, { command }: RedisServer.RedisProcess) =>
  Effect.map(command("EXISTS", key), (found) => found === 1)

describe("of five nodes", () => {
  it.scopedLive("two can be killed while a lease is held, and others are granted", () =>
    Effect.gen(function* () {
      const { servers, use } = yield* quorum(5)
      const key = freshKey()
      const work = Lock.withLock(key, { ttl: "1 second" })((lease) =>
        Effect.gen(function* () {
          yield* servers[0]!.kill
          yield* servers[1]!.kill
          yield* Effect.sleep("2500 millis")
          yield* lease.verify
          return lease.fencingToken
        })
      )
      const first = yield* use(work)
      const second = yield* use(
        Lock.withLock(key)(({ fencingToken }) => Effect.succeed(fencingToken))
      )
      expect(second).toBeGreaterThan(first)
      // and no third one
      yield* servers[2]!.kill
      const refused = failure(yield* Effect.exit(use(Lock.withLock(key)(Effect.void))))
      expect(refused).toMatchObject({
        _tag: "LockStoreError",
        transient: true,
        detail: expect.stringMatching(/^Of 5 nodes 2 answered, and 3 must\. Node \d: /)
      })
      yield* nothingLeft(servers.slice(3))
    }).pipe(quietly)
  )

  it.scopedLive(
    "a lease outlives that all are restarted, one after the other",
    () =>
      Effect.gen(function* () {
        const { servers, use } = yield* quorum(5, { longestTtl: "600 millis" })
        const key = freshKey()
        yield* use(
          Lock.withLock(key, { ttl: "600 millis" })((lease) =>
            Effect.gen(function* () {
              for (const server of servers) {
                yield* server.restart
                yield* eventually(holding(key, server))
              }
              yield* lease.verify
            })
          )
        )
        yield* nothingLeft(servers)
      }).pipe(quietly),
    60_000
  )
})

describe("of three nodes", () => {
  it.scopedLive("one that is stopped costs neither leases nor much time", () =>
    Effect.gen(function* () {
      const { servers, use } = yield* quorum(3)
      const key = freshKey()
      yield* use(Lock.withLock(key)(Effect.void))
      yield* servers[1]!.stop
      yield* use(
        Lock.withLock(key, { ttl: "1 second" })((lease) =>
          Effect.zipRight(Effect.sleep("2 seconds"), lease.verify)
        )
      )
      // it is known by now
      const { exit, millis } = yield* timed(
        use(Effect.forEach([1, 2, 3, 4, 5], () => Lock.withLock(key)(Effect.void)))
      )
      expect(Exit.isSuccess(exit)).toBe(true)
      expect(millis).toBeLessThan(5 * 500)
      yield* servers[1]!.cont
      yield* nothingLeft(servers)
    }).pipe(quietly)
  )

  it.scopedLive(
    "clients that reach two each exclude each other",
    () =>
      Effect.gen(function* () {
        const { clients, servers } = yield* apart(3, 3)
        const key = freshKey()
        clients.forEach(({ proxies }, index) => proxies[index]!.blackHole())
        yield* tenTurnsEach(clients, key)
        yield* nothingLeft(servers)
      }).pipe(quietly),
    60_000
  )

  it.scopedLive("a process that starts during a short outage of a majority is not refused", () =>
    Effect.gen(function* () {
      const servers = yield* RedisQuorum.make(3)
      yield* Effect.forEach(servers, RedisQuorum.join, { discard: true })
      // one refuses connections, and that to another one is a while on its way
      yield* servers[2]!.kill
      const proxy = yield* FaultProxy.make(servers[1]!.port)
      proxy.blackHole()
      const { use } = yield* storeOf(RedisQuorum.layerOf([servers[0]!, proxy, servers[2]!]))
      yield* Effect.forkScoped(Effect.delay(Effect.sync(proxy.heal), "1 second"))
      const attempt = Lock.withLockIfAvailable(freshKey())(Effect.void)
      expect(yield* Effect.exit(use(attempt))).toEqual(Exit.succeed(Option.some(undefined)))
      yield* nothingLeft(servers.slice(0, 2))
    }).pipe(quietly)
  )

  it.scopedLive("a silent one does not use up the ttl of the first lease, however short", () =>
    Effect.gen(function* () {
      const { clients } = yield* apart(3, 3)
      for (const [index, { proxies, use }] of clients.entries()) {
        proxies[index]!.blackHole()
        const work = Lock.withLock(freshKey(), { ttl: "480 millis" })(({ isHeld }) => isHeld)
        expect(yield* Effect.exit(use(work))).toEqual(Exit.succeed(true))
      }
    }).pipe(quietly)
  )

  it.scopedLive("one that comes back empty does not vote before the longest ttl is over", () =>
    Effect.gen(function* () {
      const { clients, servers } = yield* apart(3, 2)
      const [one, other] = clients as [(typeof clients)[0], (typeof clients)[0]]
      const key = freshKey()
      // a majority of the first two
      one.proxies[2]!.blackHole()
      const lease = yield* one.use(Lock.acquire(key, { ttl: "4 seconds" }))
      yield* servers[1]!.restart
      // a majority of the last two, where nobody has the key
      const refused = failure(
        yield* Effect.exit(Effect.scoped(other.use(Lock.tryAcquire(key, { ttl: "4 seconds" }))))
      )
      expect(["LockUnavailable", "LockStoreError"]).toContain(refused._tag)
      // (it has not asked since)
      expect(yield* lease.isHeld).toBe(true)
    }).pipe(quietly)
  )

  it.scopedLive("a fencing token is written back: the next majority has a greater one", () =>
    Effect.gen(function* () {
      const { servers, use } = yield* quorum(3)
      const key = freshKey()
      const tokenOf = Lock.withLock(key)(({ fencingToken }) => Effect.succeed(fencingToken))
      // the clock of the first is ahead, as far as its record says
      const ahead = Date.now() * 1_000 + 3_600_000_000
      yield* servers[0]!.command("SET", `{${key}}:lock-record`, `${ahead} lock/1 5000 somebody`)
      // (so that the first is one of the majority)
      yield* servers[2]!.stop
      const first = yield* use(tokenOf)
      expect(first).toBe(ahead + 1)
      yield* servers[2]!.cont
      yield* servers[0]!.kill
      expect(yield* use(tokenOf)).toBe(ahead + 2)
    }).pipe(quietly)
  )

  it.scopedLive(
    "ten contenders make progress with two of three",
    () =>
      Effect.gen(function* () {
        const servers = yield* RedisQuorum.make(3)
        yield* Effect.forEach(servers, RedisQuorum.join, { discard: true })
        yield* servers[2]!.kill
        const key = freshKey()
        const turns = 10
        const contenders = yield* Effect.forEach(Array.from({ length: 10 }), () =>
          storeOf(RedisQuorum.layerOf(servers))
        )
        const waits: Array<number> = []
        let inside = 0
        const turn = Effect.suspend(() => {
          const askedAt = performance.now()
          return Lock.withLock(key, { waitAtMost: "60 seconds" })(
            Effect.gen(function* () {
              waits.push(performance.now() - askedAt)
              expect(++inside).toBe(1)
              yield* Effect.sleep(1)
              inside--
            })
          )
        })
        const { exit, millis } = yield* timed(
          Effect.forEach(contenders, ({ use }) => use(Effect.repeatN(turn, turns - 1)), {
            concurrency: "unbounded",
            discard: true
          })
        )
        expect(exit).toEqual(Exit.void)
        expect(waits.length).toBe(10 * turns)
        console.log(
          `${waits.length} turns in ${Math.round(millis)} ms, longest wait ${Math.round(Math.max(...waits))} ms`
        )
        yield* nothingLeft(servers.slice(0, 2))
      }).pipe(quietly),
    90_000
  )

  it.scopedLive(
    "processes that have one each run a job all the same, one of them for each tick",
    () =>
      Effect.gen(function* () {
        const { clients } = yield* apart(3, 3)
        // each asks the one beside it first
        clients.forEach(({ proxies }, own) =>
          proxies.forEach((proxy, index) => proxy.delay({ toServer: index === own ? 1 : 40 }))
        )
        const key = freshKey()
        const ran: Array<number> = []
        const job = CronJob.run(key, { cron: "* * * * * *" })(({ scheduledAt }) =>
          Effect.sync(() => ran.push(scheduledAt.epochMillis))
        )
        for (const { use } of clients) yield* Effect.forkScoped(use(job))
        yield* Effect.sleep("5500 millis")
        expect(ran.length).toBeGreaterThanOrEqual(4)
        // (none is missing, and none is there twice)
        expect(ran.map((tick) => tick - ran[0]!)).toEqual(ran.map((_, index) => 1_000 * index))
      }).pipe(quietly)
  )

  it.live("a free lock takes two round trips to the slowest of the fastest majority", () =>
    undisturbed(
      30,
      Effect.gen(function* () {
        const { clients } = yield* apart(3, 1)
        const { proxies, use } = clients[0]!
        // (connected, and with the scripts)
        yield* use(Effect.repeatN(Lock.withLock(freshKey())(Effect.void), 2))
        ;[50, 100, 1_000].forEach((toClient, index) => proxies[index]!.delay({ toClient }))
        for (const key of Array.from({ length: 6 }, freshKey)) {
          const askedAt = performance.now()
          yield* use(
            Lock.withLock(key)(
              Effect.sync(() => expect(performance.now() - askedAt).toBeLessThan(2 * 100 + 70))
            )
          )
        }
      }).pipe(quietly)
    )
  )

  it.scopedLive("what is interrupted on its way leaves nothing at any node", () =>
    Effect.gen(function* () {
      const { clients, servers } = yield* apart(3, 1)
      const { proxies, use } = clients[0]!
      for (const at of [0, 1, 2]) {
        const key = freshKey()
        proxies[at]!.holdReplies()
        const fiber = yield* Effect.fork(
          Effect.scoped(use(Effect.zipRight(Lock.acquire(key), Effect.never)))
        )
        yield* Effect.raceFirst(proxies[at]!.heldReplies, Effect.sleep("2 seconds"))
        yield* Fiber.interrupt(fiber)
        proxies[at]!.releaseReplies()
        yield* nothingLeft(servers)
      }
    }).pipe(quietly)
  )
})

describe("a quorum that is new, or was emptied", () => {
  it.scopedLive("refuses at first, says for how long, and grants to those who wait", () =>
    Effect.gen(function* () {
      const servers = yield* RedisQuorum.make(3)
      const { use } = yield* storeOf(RedisQuorum.layerOf(servers, { longestTtl: "700 millis" }))
      const key = freshKey()
      const attempt = use(Effect.scoped(Lock.tryAcquire(key, { ttl: "500 millis" })))
      expect(failure(yield* Effect.exit(attempt))).toMatchObject({
        _tag: "LockStoreError",
        transient: true,
        detail: expect.stringMatching(/^[23] of 3 nodes were started, or emptied/)
      })
      const { exit, millis } = yield* timed(
        use(Lock.withLock(key, { ttl: "500 millis" })(Effect.void))
      )
      expect(exit).toEqual(Exit.void)
      expect(millis).toBeGreaterThan(300)
      expect(yield* use(Lock.withLockIfAvailable(key, { ttl: "500 millis" })(Effect.void))).toEqual(
        Option.some(undefined)
      )
    })
  )

  it.scopedLive("a node that comes back with an old snapshot does not vote either", () =>
    Effect.gen(function* () {
      const servers = yield* RedisQuorum.make(3, { args: ["--dbfilename", "dump.rdb"] })
      yield* Effect.forEach(servers, RedisQuorum.join, { discard: true })
      // the marker is in it, and the lease will not be
      for (const server of servers) yield* server.command("SAVE")
      const { use } = yield* storeOf(RedisQuorum.layerOf(servers))
      const key = freshKey()
      const held = yield* Deferred.make<void>()
      yield* Effect.forkScoped(
        use(Lock.withLock(key)(Effect.zipRight(Deferred.succeed(held, undefined), Effect.never)))
      )
      yield* Deferred.await(held)
      for (const server of servers) yield* server.restart
      expect(yield* servers[0]!.command("EXISTS", ":lock-node")).toBe(1)
      const other = yield* storeOf(RedisQuorum.layerOf(servers))
      const refused = failure(yield* Effect.exit(other.use(Effect.scoped(Lock.tryAcquire(key)))))
      expect(refused).toMatchObject({
        detail: expect.stringContaining("may have forgotten leases")
      })
    }).pipe(quietly)
  )

  it.scopedLive("one server that is named twice is found out by the first operation", () =>
    Effect.gen(function* () {
      const servers = yield* RedisQuorum.make(2)
      yield* Effect.forEach(servers, RedisQuorum.join, { discard: true })
      const [one, two] = servers as [RedisServer.RedisProcess, RedisServer.RedisProcess]
      const { use } = yield* storeOf(
        RedisQuorum.layerOf([one, two, { url: `redis://localhost:${one.port}/1` }])
      )
      const refused = failure(yield* Effect.exit(use(Lock.withLock(freshKey())(Effect.void))))
      expect(refused).toMatchObject({
        _tag: "LockStoreError",
        transient: false,
        detail: expect.stringContaining("nodes 1 and 3 are the same server")
      })
      yield* nothingLeft(servers)
    })
  )
})
