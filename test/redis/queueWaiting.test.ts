/**
 * What waiting costs, and what a waiter is told: connections, commands, refusals, foreign programs,
 * errors and spans; prefixes and Clusters.
 */
import { expect, layer } from "@effect/vitest"
import { atOnce } from "../support/atOnce.js"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Tracer from "effect/Tracer"
import { Lock, LockError, RedisLockStore } from "effect-redis-lock"
import { Cluster } from "ioredis"
import {
  awaitQueued,
  caller,
  deadHolder,
  environments,
  idle,
  internals,
  keysOf,
  nothing,
  pair,
  queuedCaller,
  queueOf,
  strict
} from "../support/Queue.js"
import * as RedisCluster from "../support/RedisCluster.js"
import {
  collectWarnings,
  connectedClient,
  environment,
  failure,
  foreign,
  leftovers,
  nothingLeft,
  quietly,
  RedisServer,
  sent,
  storeOf,
  timed,
  touching
} from "./support.js"

const key = "k"
const ttl = 60_000

const channels = (server: RedisServer.RedisProcess) =>
  Effect.map(server.command("PUBSUB", "CHANNELS"), (list) => list as ReadonlyArray<string>)

const subscribed = (server: RedisServer.RedisProcess, count = 1) =>
  RedisServer.eventually(Effect.map(channels(server), (list) => list.length === count))

atOnce(RedisServer.layer())("the subscriber", (it) => {
  it.scoped(
    "is opened when the first waiter comes, is one for all keys, and closes with the store",
    () =>
      Effect.gen(function* () {
        const [a, b] = yield* pair()
        const { server } = a
        const keys = Array.from({ length: 20 }, (_, index) => `k-${index}`)
        const held = yield* Effect.forEach(keys, (key) => caller(a.use, key, { ttl }))
        for (const one of held) yield* one.lease
        // who does not wait has one connection, also where the lock is taken
        yield* Effect.flip(Effect.scoped(Lock.tryAcquire(keys[0]!)).pipe(b.use))
        expect(yield* server.clientCount).toBe(2)
        const waiting = yield* Effect.forEach(keys, (key) => queuedCaller(b, key, 0, { ttl }))
        yield* subscribed(server)
        expect(yield* server.clientCount).toBe(3)
        expect(yield* channels(server)).toEqual([internals(b.store).storeId])
        for (const [index, one] of held.entries()) {
          yield* Effect.zipRight(one.release, waiting[index]!.lease)
          yield* waiting[index]!.release
        }
        // kept for the next one, and for nothing else
        expect(yield* channels(server)).toEqual([internals(b.store).storeId])
        expect(yield* server.clientCount).toBe(3)
        expect(internals(b.store).size()).toEqual(nothing)
        yield* b.close
        yield* RedisServer.eventually(Effect.map(server.clientCount, (count) => count === 1))
        expect(yield* channels(server)).toEqual([])
        expect(yield* leftovers(server)).toEqual([])
      })
  )

  it.scoped("is subscribed again after a reconnect, to be as fast as before", () =>
    Effect.gen(function* () {
      const [a, b] = yield* pair()
      for (let round = 0; round < 3; round++) {
        const held = yield* caller(a.use, key, { ttl })
        yield* held.lease
        const waiting = yield* queuedCaller(b, key, 0, { ttl })
        yield* subscribed(a.server)
        b.proxy.cutSubscribers()
        yield* subscribed(a.server, 0)
        yield* subscribed(a.server)
        const { millis } = yield* timed(Effect.zipRight(held.release, waiting.lease))
        expect(millis).toBeLessThan(400)
        yield* waiting.release
      }
      expect(yield* a.server.clientCount).toBe(3)
    })
  )

  it.scoped(
    "of a client of the user's is one connection more, and the client stays as it was",
    () =>
      Effect.gen(function* () {
        const [a] = yield* pair()
        const client = yield* connectedClient(a.server.port, {
          autoResendUnfulfilledCommands: false
        })
        const count = yield* a.server.clientCount
        const b = yield* storeOf(RedisLockStore.layerFromClient(client, strict))
        const held = yield* caller(a.use, key, { ttl })
        yield* held.lease
        const waiting = yield* queuedCaller({ server: a.server, use: b.use }, key, 0, { ttl })
        yield* subscribed(a.server)
        expect(yield* a.server.clientCount).toBe(count + 1)
        const { millis } = yield* timed(Effect.zipRight(held.release, waiting.lease))
        expect(millis).toBeLessThan(400)
        yield* waiting.release
        yield* b.close
        yield* RedisServer.eventually(Effect.map(a.server.clientCount, (now) => now === count))
        expect(client.status).toBe("ready")
      })
  )

  const restricted = (rules: ReadonlyArray<string>, options: RedisLockStore.Options = strict) =>
    Effect.gen(function* () {
      const [a] = yield* pair()
      yield* a.server.command("ACL", "SETUSER", "app", "reset", "on", ">pass", "~*", ...rules)
      const url = `redis://app:pass@127.0.0.1:${a.server.port}`
      const b = yield* storeOf(RedisLockStore.layer({ url, ...options }))
      return { a, b: { ...b, server: a.server } }
    })

  for (const [name, rules] of [
    ["the command SUBSCRIBE", ["&*", "+@all", "-subscribe"]],
    ["all channels", ["resetchannels", "+@all"]]
  ] as const) {
    it.scoped(`that an ACL refuses (${name}): one warning, and handoffs at the heartbeat`, () =>
      collectWarnings((warnings) =>
        Effect.gen(function* () {
          const { a, b } = yield* restricted(rules)
          for (let round = 0; round < 3; round++) {
            const held = yield* caller(a.use, key, { ttl: 900 })
            yield* held.lease
            const waiting = yield* queuedCaller(b, key, 0, { ttl: 900 })
            const { millis } = yield* timed(Effect.zipRight(held.release, waiting.lease))
            // a heartbeat is 300 ms
            expect(millis).toBeLessThan(700)
            yield* waiting.release
          }
          expect(warnings.length).toBe(1)
          expect(warnings[0]).toMatch(/subscription.*NOPERM|ACL/)
          yield* idle(b.store)
          yield* nothingLeft(a.server)
        })
      )
    )
  }

  it.scoped("cannot be told where PUBLISH is refused: grants are found at the heartbeat", () =>
    collectWarnings((warnings) =>
      Effect.gen(function* () {
        const { a, b } = yield* restricted(["&*", "+@all", "-publish"])
        for (let round = 0; round < 3; round++) {
          const held = yield* caller(b.use, key, { ttl: 900 })
          yield* held.lease
          const waiting = yield* queuedCaller(a, key, 0, { ttl: 900 })
          const { exit, millis } = yield* timed(Effect.zipRight(held.release, waiting.lease))
          expect(exit._tag).toBe("Success")
          expect(millis).toBeLessThan(700)
          yield* waiting.release
        }
        // the release is confirmed all the same
        expect(warnings).toEqual([])
        yield* nothingLeft(a.server)
      })
    )
  )
})

atOnce(RedisServer.layer())("a process that waits", (it) => {
  for (const [position, waiterTtl] of [
    ["first in the queue", 60_000],
    ["second in the queue", 60_000],
    ["first in the queue", 1_200],
    ["second in the queue", 1_200]
  ] as const) {
    it.scoped(
      `sends a command for each heartbeat: 30 callers, ${position}, ttl ${waiterTtl} ms`,
      () =>
        Effect.gen(function* () {
          const [a, b] = yield* pair()
          const held = yield* caller(a.use, key, { ttl })
          yield* held.lease
          const before = position === "second in the queue" ? 1 : 0
          yield* Effect.scoped(
            Effect.gen(function* () {
              // a store of a third party stands before it
              const c = yield* storeOf(RedisLockStore.layer({ url: a.server.url, ...strict }))
              if (before > 0) yield* queuedCaller({ server: a.server, use: c.use }, key, 0, { ttl })
              for (let i = 0; i < 30; i++) yield* caller(b.use, key, { ttl: waiterTtl })
              yield* awaitQueued(a.server, key, before + 1)
              yield* subscribed(a.server, before + 1)
              b.proxy.forget()
              yield* Effect.sleep(2_400)
              // a little early is allowed, so that no window is missed: 0.9 of a heartbeat
              const heartbeats = 2_400 / (Math.min(1_000, waiterTtl / 3) * 0.9)
              expect(b.proxy.commands.length).toBeLessThanOrEqual(Math.ceil(heartbeats))
              expect(sent(b.proxy, key)).toBeGreaterThanOrEqual(Math.floor(heartbeats * 0.6))
            })
          )
        })
    )
  }

  it.scoped("sends no more where the holder's ttl is short, and is renewed again and again", () =>
    Effect.gen(function* () {
      const [a, b] = yield* pair()
      const held = yield* caller(a.use, key, { ttl: 300 })
      yield* held.lease
      yield* queuedCaller(b, key, 0, { ttl })
      b.proxy.forget()
      yield* Effect.sleep(2_000)
      // it looks at each end of what it knows of the ttl: never more often than the holder renews
      expect(sent(b.proxy, key)).toBeLessThanOrEqual(2_000 / 150 + 1)
    })
  )

  it.scoped("behind a holder of its own sends one question for each heartbeat", () =>
    Effect.gen(function* () {
      const [a] = yield* pair()
      const held = yield* caller(a.use, key, { ttl })
      yield* held.lease
      for (let i = 0; i < 30; i++) yield* caller(a.use, key, { ttl })
      yield* Effect.yieldNow()
      a.proxy.forget()
      yield* Effect.sleep(2_300)
      expect(sent(a.proxy, key)).toBeLessThanOrEqual(3)
    })
  )

  it.scoped("queues and leaves in one command each, whatever the number of its callers", () =>
    Effect.gen(function* () {
      const [a, b] = yield* pair()
      const held = yield* caller(a.use, key, { ttl })
      yield* held.lease
      // the second time the server knows the scripts
      for (const _ of [1, 2]) {
        b.proxy.forget()
        const waiting = yield* Effect.replicateEffect(caller(b.use, key, { ttl }), 30)
        yield* awaitQueued(a.server, key, 1)
        for (const one of waiting) yield* one.interrupt
        yield* awaitQueued(a.server, key, 0)
        yield* idle(b.store)
      }
      expect(sent(b.proxy, key)).toBe(2)
    })
  )
})

atOnce(RedisServer.layer())("foreign programs", (it) => {
  for (const [foreignPollEvery, atMost] of [
    [undefined, 300],
    [400, 900]
  ] as const) {
    it.scoped(
      `are asked about every ${foreignPollEvery ?? "50"} ms, also when they take turns`,
      () =>
        Effect.gen(function* () {
          const options = foreignPollEvery === undefined ? {} : { foreignPollEvery }
          const { proxy, server, use } = yield* environment(options)
          const other = foreign(server)
          yield* other.lock(key, "go", ttl)
          const waiting = yield* queuedCaller({ server, use }, key, 0, { ttl })
          // released and taken in one step: nobody else had a chance
          for (const name of ["python", "go", "python"]) {
            yield* server.command("SET", key, name, "PX", ttl)
            const before = sent(proxy, key)
            yield* proxy.until(() => sent(proxy, key) > before)
          }
          proxy.forget()
          yield* Effect.sleep(1_000)
          const every = foreignPollEvery ?? 50
          expect(sent(proxy, key)).toBeLessThanOrEqual(1_000 / every + 1)
          expect(sent(proxy, key)).toBeGreaterThanOrEqual(1_000 / every / 3 - 1)
          expect(waiting.state()).toBe("waiting")
          const { millis } = yield* timed(
            Effect.zipRight(other.unlock(key, "python"), waiting.lease)
          )
          expect(millis).toBeLessThan(atMost)
        })
    )
  }

  it.scoped("only the first in the queue asks often", () =>
    Effect.gen(function* () {
      const [a, b] = yield* pair()
      yield* foreign(a.server).lock(key, "go", ttl)
      yield* queuedCaller(a, key, 0, { ttl })
      yield* queuedCaller(b, key, 1, { ttl })
      b.proxy.forget()
      a.proxy.forget()
      yield* Effect.sleep(900)
      expect(sent(a.proxy, key)).toBeGreaterThan(6)
      expect(b.proxy.commands.filter(touching(key)).length).toBeLessThanOrEqual(1)
    })
  )

  it.scoped("that died are followed at the expiry of their key, in order", () =>
    Effect.gen(function* () {
      const [a, b] = yield* pair({ ...strict, foreignPollEvery: "10 seconds" })
      yield* foreign(a.server).lock(key, "go", 700)
      const first = yield* queuedCaller(a, key, 0, { ttl })
      const second = yield* queuedCaller(b, key, 1, { ttl })
      const left = Number(yield* a.server.command("PTTL", key))
      const { millis } = yield* timed(first.lease)
      expect(millis).toBeGreaterThan(left - 20)
      expect(millis).toBeLessThan(left + 250)
      expect(second.state()).toBe("waiting")
      yield* first.release
      yield* second.lease
    })
  )

  const notified = Effect.gen(function* () {
    const server = yield* RedisServer.RedisServer
    yield* Effect.acquireRelease(
      server.command("CONFIG", "SET", "notify-keyspace-events", "Kgx"),
      () => server.command("CONFIG", "SET", "notify-keyspace-events", "")
    )
    return server
  })

  for (const keyPrefix of ["", "app:"]) {
    it.scoped(
      `tell by keyspace notifications, where the server sends them (keyPrefix "${keyPrefix}")`,
      () =>
        Effect.gen(function* () {
          const server = yield* notified
          yield* server.flush
          const client = yield* connectedClient(server.port, { keyPrefix })
          const { store, use } = yield* storeOf(
            RedisLockStore.layerFromClient(client, {
              prefix: "locks:",
              foreignPollEvery: "10 seconds"
            })
          )
          const stored = `${keyPrefix}locks:${key}`
          const other = foreign(server)
          for (const end of ["deleted", "expired"] as const) {
            yield* other.lock(stored, "go", ttl)
            const waiting = yield* caller(use, key, { ttl })
            yield* subscribed(server, 2)
            const { millis } = yield* timed(
              Effect.zipRight(
                end === "deleted"
                  ? other.unlock(stored, "go")
                  : server.command("PEXPIRE", stored, 1),
                waiting.lease
              )
            )
            // a heartbeat is a second
            expect(millis).toBeLessThan(500)
            yield* waiting.release
          }
          yield* idle(store)
          // only its own channel is left
          yield* subscribed(server, 1)
          expect(yield* channels(server)).toEqual([internals(store).storeId])
          expect(yield* leftovers(server)).toEqual([])
        })
    )
  }

  it.scoped("that never end: one warning for all who wait, and the lock when it is deleted", () =>
    collectWarnings((warnings) =>
      Effect.gen(function* () {
        const [a] = yield* pair()
        yield* a.server.command("SET", key, "for ever")
        const waiting = yield* Effect.replicateEffect(caller(a.use, key, { ttl }), 5)
        yield* awaitQueued(a.server, key, 1)
        yield* a.proxy.until(() => sent(a.proxy, key) > 10)
        expect(warnings.length).toBe(1)
        expect(warnings[0]).toMatch(/"k".*no ttl/)
        yield* a.server.command("DEL", key)
        for (const one of waiting) {
          yield* one.lease
          yield* one.release
        }
        expect(warnings.length).toBe(1)
        yield* idle(a.store)
        yield* nothingLeft(a.server)
      })
    )
  )

  it.scoped("that never end: one warning, though callers come and go", () =>
    collectWarnings((warnings) =>
      Effect.gen(function* () {
        const [a] = yield* pair()
        yield* a.server.command("SET", key, "for ever")
        for (let i = 0; i < 4; i++) {
          yield* Effect.flip(Effect.scoped(Lock.acquire(key, { ttl, waitAtMost: 60 })).pipe(a.use))
        }
        expect(warnings.length).toBe(1)
      })
    )
  )

  it.scoped("and two of our stores: never two holders, and everybody gets a turn", () =>
    quietly(
      Effect.gen(function* () {
        const [a, b] = yield* pair({})
        const other = foreign(a.server)
        let inside = 0
        let overlaps = 0
        let turns = 0
        const body = Effect.acquireUseRelease(
          Effect.sync(() => {
            if (++inside > 1) overlaps++
          }),
          () => Effect.sleep(2),
          () => Effect.sync(() => inside--)
        )
        const strangers = ["go", "python"].map((name) =>
          Effect.gen(function* () {
            if (yield* other.lock(key, name, 5_000)) {
              yield* body
              yield* other.unlock(key, name)
            }
            yield* Effect.sleep(3)
          }).pipe(Effect.forever)
        )
        const ours = Lock.withLock(key, { ttl: 5_000 })(
          Effect.zipRight(
            body,
            Effect.sync(() => turns++)
          )
        )
        const running = yield* Effect.forEach(strangers, Effect.fork)
        yield* Effect.forEach([a, b, a, b], ({ use }) => Effect.repeatN(ours, 9).pipe(use), {
          concurrency: "unbounded",
          discard: true
        })
        yield* Fiber.interruptAll(running)
        expect(overlaps).toBe(0)
        expect(turns).toBe(40)
      })
    )
  )
})

atOnce(RedisServer.layer())("a waiter is told", (it) => {
  it.scoped(
    "by LockUnavailable: who holds it, for how long, until when, and who is before it",
    () =>
      Effect.gen(function* () {
        const [a, b, c] = yield* environments([strict, strict, strict])
        const held = yield* caller(a.use, key, { ttl: 20_000, owner: "worker 7" })
        yield* held.lease
        yield* queuedCaller(b, key, 0, { ttl })
        const waiting = yield* Effect.forEach([0, 1, 2], () =>
          caller(c.use, key, { ttl, waitAtMost: 400 })
        )
        yield* awaitQueued(a.server, key, 2)
        for (const one of waiting) {
          const error = failure(yield* Fiber.await(one.fiber))
          if (!(error instanceof LockError.LockUnavailable)) throw error
          // the other store; those of its own that came before have left
          expect(error.ahead).toBe(1)
          expect(error.holder).toMatchObject({ owner: "worker 7", foreign: false })
          const heldFor = Duration.toMillis(error.holder.heldFor!)
          expect(heldFor).toBeGreaterThan(300)
          expect(heldFor).toBeLessThan(3_000)
          const retryAfter = Duration.toMillis(error.retryAfter!)
          expect(retryAfter).toBeGreaterThan(15_000)
          expect(retryAfter).toBeLessThanOrEqual(20_000)
          expect(Duration.toMillis(error.waited)).toBeGreaterThanOrEqual(390)
          expect(error.message).toContain("held by worker 7")
          expect(error.message).toContain("In the queue before this caller: 1")
        }
      })
  )

  it.scoped("by LockUnavailable, of those of its own process before it", () =>
    Effect.gen(function* () {
      const [a, b] = yield* pair()
      for (const { use } of [a, b]) {
        const held = yield* caller(a.use, key, { ttl, owner: "worker 7" })
        yield* held.lease
        const before = yield* Effect.replicateEffect(caller(use, key, { ttl }), 2)
        yield* Effect.yieldNow()
        const last = yield* caller(use, key, { ttl, waitAtMost: 200 })
        expect(failure(yield* Fiber.await(last.fiber))).toMatchObject({
          ahead: 2,
          holder: { owner: "worker 7", foreign: false }
        })
        for (const one of before) yield* one.interrupt
        yield* held.release
        yield* nothingLeft(a.server)
      }
    })
  )

  it.scoped("the same in the span of its acquisition", () =>
    Effect.gen(function* () {
      const [a, b] = yield* pair()
      const attributes: Array<ReadonlyMap<string, unknown>> = []
      const native = Tracer.make({
        span: (name, parent, context, links, startTime, kind) => {
          const all = new Map<string, unknown>()
          if (name === "Lock.acquire") attributes.push(all)
          return {
            _tag: "Span",
            name,
            parent,
            context,
            links: [...links],
            kind,
            spanId: "s",
            traceId: "t",
            sampled: true,
            status: { _tag: "Started", startTime },
            attributes: all,
            attribute: (key, value) => void all.set(key, value),
            event: () => {},
            end: () => {},
            addLinks: () => {}
          }
        },
        context: (run) => run()
      })
      const held = yield* caller(a.use, key, { ttl: 20_000, owner: "worker 7" })
      yield* held.lease
      const traced = (effect: Effect.Effect<unknown, unknown>) =>
        Effect.withTracer(Effect.exit(effect), native)
      yield* traced(Effect.scoped(Lock.acquire(key, { ttl, waitAtMost: 100 })).pipe(b.use))
      const expected = { "lock.ahead": 0, "lock.holder": "worker 7", "lock.contended": true }
      expect(Object.fromEntries(attributes[0]!)).toMatchObject({
        ...expected,
        "lock.outcome": "unavailable"
      })
      yield* awaitQueued(a.server, key, 0)
      const waiting = yield* Effect.fork(
        traced(Effect.scoped(Lock.acquire(key, { ttl: 900 })).pipe(b.use))
      )
      yield* awaitQueued(a.server, key, 1)
      b.proxy.forget()
      // a heartbeat comes after the answer that says what is in the way
      yield* b.proxy.awaitCommand(touching(key))
      yield* held.release
      yield* Fiber.join(waiting)
      expect(Object.fromEntries(attributes[1]!)).toMatchObject({
        ...expected,
        "lock.outcome": "acquired"
      })
      expect(attributes[1]!.get("lock.retry_after_ms")).toBeGreaterThan(15_000)
      expect(attributes[1]!.get("lock.held_for_ms")).toBeGreaterThanOrEqual(0)
    })
  )
})

atOnce(RedisServer.layer())("waiters of", (it) => {
  for (const keyPrefix of ["", "app:", "app{1}:"]) {
    for (const key of ["plain", "{tag}rest", "a{tag}"]) {
      it.scoped(`the key ${key} are handed it, with keyPrefix "${keyPrefix}" and a prefix`, () =>
        Effect.gen(function* () {
          const server = yield* RedisServer.RedisServer
          yield* server.flush
          const options = { ...strict, prefix: "locks:" }
          const client = yield* connectedClient(server.port, { keyPrefix })
          const a = yield* storeOf(RedisLockStore.layerFromClient(client, options))
          const b = yield* storeOf(
            RedisLockStore.layer({ url: server.url, redis: { keyPrefix }, ...options })
          )
          const held = yield* caller(a.use, key, { ttl })
          yield* held.lease
          const waiting = yield* caller(b.use, key, { ttl })
          yield* subscribed(server)
          const { millis } = yield* timed(Effect.zipRight(held.release, waiting.lease))
          expect(millis).toBeLessThan(400)
          for (const name of yield* server.dump) {
            expect(name.startsWith(`${keyPrefix}locks:`)).toBe(true)
          }
          yield* waiting.release
          yield* idle(b.store)
          expect(yield* leftovers(server)).toEqual([])
        })
      )
    }
  }

  it.scoped("a database that is not the first one", () =>
    Effect.gen(function* () {
      const server = yield* RedisServer.RedisServer
      yield* server.flush
      const url = `${server.url}/3`
      const [a, b] = [
        yield* storeOf(RedisLockStore.layer({ url, ...strict })),
        yield* storeOf(RedisLockStore.layer({ url, ...strict }))
      ]
      const held = yield* caller(a.use, key, { ttl })
      yield* held.lease
      const waiting = yield* caller(b.use, key, { ttl })
      yield* subscribed(server)
      const { millis } = yield* timed(Effect.zipRight(held.release, waiting.lease))
      expect(millis).toBeLessThan(400)
    })
  )
})

layer(Layer.empty, { excludeTestServices: true })("on a Cluster", (it) => {
  it.scoped(
    "the lock is handed from store to store, on every node, and nothing is left",
    () =>
      Effect.gen(function* () {
        const cluster = yield* RedisCluster.make()
        const client = Effect.acquireRelease(
          Effect.async<Cluster>((resume) => {
            const client = new Cluster([...cluster.addresses])
            client.on("error", () => {})
            client.once("ready", () => resume(Effect.succeed(client)))
          }),
          (client) => Effect.sync(() => client.disconnect())
        )
        const [a, b] = [
          yield* storeOf(RedisLockStore.layerFromClient(yield* client, strict)),
          yield* storeOf(RedisLockStore.layerFromClient(yield* client, strict))
        ]
        const used = new Set<number>()
        for (const key of ["plain", "{tag}rest", "a{tag}", "x", "y", "z", "k-1", "k-2", "k-3"]) {
          const node = yield* cluster.nodeOf(key)
          used.add(node.port)
          const held = yield* caller(a.use, key, { ttl })
          const first = yield* held.lease
          const queue = `${key.includes("{") ? `${key}:` : `{${key}}`}:lock-queue`
          const waiting = yield* caller(b.use, key, { ttl })
          yield* RedisServer.eventually(
            Effect.map(node.command("ZCARD", queue), (count) => count === 1)
          )
          // one channel, on whichever node
          yield* RedisServer.eventually(
            Effect.map(
              Effect.forEach(cluster.masters, (master) => channels(master)),
              (lists) => lists.flat().includes(internals(b.store).storeId)
            )
          )
          const { millis } = yield* timed(Effect.zipRight(held.release, waiting.lease))
          expect(millis).toBeLessThan(500)
          const second = yield* waiting.lease
          expect(second.fencingToken).toBeGreaterThan(first.fencingToken)
          // and one that leaves, leaves nothing
          const leaving = yield* caller(a.use, key, { ttl })
          yield* RedisServer.eventually(
            Effect.map(node.command("ZCARD", queue), (count) => count === 1)
          )
          yield* leaving.interrupt
          yield* waiting.release
          yield* idle(a.store)
          yield* idle(b.store)
          yield* nothingLeft(node)
        }
        expect(used.size).toBe(3)
      }),
    60_000
  )
})

atOnce(RedisServer.layer())("nothing is left", (it) => {
  it.scoped("by a crowd that waits, leaves, times out and is served, on many keys", () =>
    quietly(
      Effect.gen(function* () {
        const [a, b] = yield* pair({})
        const { server } = a
        // connected before the dead one's time runs
        for (const { use } of [a, b]) yield* Lock.withLock("first")(Effect.void).pipe(use)
        yield* deadHolder(server, "k-0", 400)
        const fibers = yield* Effect.forEach(
          Array.from({ length: 300 }, (_, index) => index),
          (index) =>
            Lock.withLock(`k-${index % 7}`, {
              ttl: 2_000,
              ...(index % 3 === 0 ? { waitAtMost: index } : {})
            })(Effect.sleep(index % 4)).pipe((index % 2 === 0 ? a : b).use, Effect.fork)
        )
        yield* awaitQueued(server, "k-0", 2)
        for (const [index, fiber] of fibers.entries()) {
          if (index % 5 === 0) yield* Fiber.interruptFork(fiber)
        }
        yield* Effect.forEach(fibers, Fiber.await, { discard: true })
        yield* idle(a.store)
        yield* idle(b.store)
        yield* nothingLeft(server)
        for (let index = 0; index < 7; index++) {
          expect(yield* queueOf(server, `k-${index}`)).toEqual([])
          expect(yield* server.command("EXISTS", keysOf(`k-${index}`)[3])).toBe(0)
        }
        expect((yield* channels(server)).length).toBe(2)
        yield* a.close
        yield* b.close
        yield* RedisServer.eventually(Effect.map(server.clientCount, (count) => count === 0))
      })
    )
  )

  it.scoped("by a store that closes while its callers wait", () =>
    quietly(
      Effect.gen(function* () {
        const [a, b] = yield* pair()
        const held = yield* caller(a.use, key, { ttl })
        yield* held.lease
        const waiting = yield* queuedCaller(b, key, 0, { ttl })
        yield* waiting.interrupt
        yield* b.close
        expect(yield* queueOf(a.server, key)).toEqual([])
        yield* RedisServer.eventually(Effect.map(a.server.clientCount, (count) => count === 1))
      })
    )
  )
})
