/**
 * Rule 16: messages are hints with bounds. Whoever may publish on a store's channel can say anything;
 * what it says is believed as far as a true grant could have said it, and asked about otherwise.
 */
import { expect, layer } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import { Lock, type RedisLockStore } from "effect-redis-lock"
import { lockKeys } from "../../src/internal/redis/layout.js"
import * as scripts from "../../src/internal/redis/scripts.js"
import {
  awaitQueued,
  caller,
  idle,
  internals,
  onClient,
  pair,
  keysOf,
  queuedCaller,
  queueOf,
  strict,
  subscribed
} from "../support/Queue.js"
import {
  answered,
  connectedClient,
  type Environment,
  leftovers,
  quietly,
  RedisServer,
  sent,
  serverMicros,
  timed
} from "./support.js"

const key = "k"
const ttl = "1 minute"

/** Somebody in a holds the lock, somebody in b waits for it, and b is told what is published. */
const awaitedBy = (options: RedisLockStore.Options) =>
  Effect.gen(function* () {
    const [a, b] = yield* pair(options)
    const holder = yield* caller(a.use, key, { ttl })
    const held = yield* holder.lease
    const waiting = yield* queuedCaller(b, key, 0, { ttl })
    yield* subscribed(b)
    const [token] = yield* queueOf(a.server, key)
    // its subscription is there, and it has asked once because of that
    yield* b.proxy.until(() => answered(b.proxy, key) >= 2)
    /** The time of the waiter's last heartbeat, as the server knows it. */
    const beat = Effect.map(a.server.command("HGET", keysOf(key)[3], token!), (entry) =>
      Number(String(entry).split(" ")[0])
    )
    const publish = (fence: number | string, ttlMillis: number | string, later = 0) =>
      Effect.flatMap(beat, (millis) =>
        a.server.command(
          "PUBLISH",
          internals(b.store).storeId,
          `${token} ${fence} ${ttlMillis}:${millis + later} ${key}`
        )
      )
    return { a, b, holder, held, waiting, token: token!, publish }
  })

const awaited = awaitedBy(strict)

/** A token of that store, which it does not know. */
const strangeTo = ({ store }: Pick<Environment, "store">, index = 0) =>
  `${internals(store).storeId}.${String(index).padStart(22, "A")}`

layer(RedisServer.layer(), { excludeTestServices: true })("a message that is not true", (it) => {
  const lies: Readonly<
    Record<string, (now: number) => readonly [number | string, number | string]>
  > = {
    "the last fencing token that there is": () => [Number.MAX_SAFE_INTEGER, 3_000],
    "a fencing token that is no number any more": () => ["99999999999999999999", 3_000],
    "a fencing token of tomorrow": (now) => [now + 86_400_000_000, 3_000],
    "a fencing token of the next seconds": (now) => [now + 5_000_000, 3_000],
    "a ttl that nobody asked for": (now) => [now, 60_000],
    "an endless ttl": (now) => [now, "9".repeat(400)]
  }
  for (const [name, lie] of Object.entries(lies)) {
    it.scoped(`is not believed, but asked about at once: ${name}`, () =>
      Effect.gen(function* () {
        const { a, b, held, holder, publish, waiting } = yield* awaited
        b.proxy.forget()
        const saidAt = performance.now()
        yield* publish(...lie(yield* serverMicros(a.server)))
        yield* b.proxy.until(() => sent(b.proxy, key) === 1)
        // long before the next heartbeat
        expect(performance.now() - saidAt).toBeLessThan(500)
        yield* Effect.sleep(20)
        expect(waiting.state()).toBe("waiting")
        yield* held.verify
        yield* holder.release
        const lease = yield* waiting.lease
        expect(lease.fencingToken).toBeLessThanOrEqual(yield* serverMicros(a.server))
      })
    )
  }

  for (const [of, later] of [
    ["the last but one", -900],
    ["one to come", 1]
  ] as const) {
    it.scoped(`is asked about where it tells of another heartbeat than the last: ${of}`, () =>
      Effect.gen(function* () {
        const { a, b, held, holder, publish, waiting } = yield* awaited
        b.proxy.forget()
        yield* publish((yield* serverMicros(a.server)) + 500_000, 3_000, later)
        yield* b.proxy.until(() => sent(b.proxy, key) === 1)
        yield* Effect.sleep(20)
        expect(waiting.state()).toBe("waiting")
        yield* held.verify
        yield* holder.release
        yield* waiting.lease
      })
    )
  }

  it.scoped("is believed where it could be true: for no more than the proof, until a renewal", () =>
    quietly(
      Effect.gen(function* () {
        const { a, b, held, publish, waiting } = yield* awaited
        const now = yield* serverMicros(a.server)
        yield* publish(now + 500_000, 3_000)
        const lease = yield* waiting.lease
        expect(lease.fencingToken).toBe(now + 500_000)
        expect(Duration.toMillis(yield* lease.remaining)).toBeLessThan(3_000)
        expect(yield* Effect.flip(lease.awaitLost)).toMatchObject({ reason: "Taken" })
        yield* held.verify
        yield* waiting.release
        yield* idle(b.store)
      })
    )
  )

  it.scoped("with fencing tokens that others had is not believed", () =>
    Effect.gen(function* () {
      const { b, held, holder, publish, waiting } = yield* awaited
      b.proxy.forget()
      yield* publish(`${held.fencingToken + 100}:100`, 3_000)
      yield* b.proxy.until(() => sent(b.proxy, key) === 1)
      yield* Effect.sleep(20)
      expect(waiting.state()).toBe("waiting")
      yield* holder.release
      yield* waiting.lease
    })
  )

  for (const [form, earlier] of [
    [":255", 255],
    [":256", 0],
    [":0", 0],
    [":", 0]
  ] as const) {
    it.scoped(`of a fencing token and "${form}": the first one is ${earlier} less`, () =>
      quietly(
        Effect.gen(function* () {
          const { a, b, publish, waiting } = yield* awaitedBy({})
          // (who could make use of more of them)
          const next = yield* caller(b.use, key, { ttl })
          yield* Effect.replicateEffect(Effect.yieldNow(), 10)
          const number = (yield* serverMicros(a.server)) + 500_000
          yield* publish(`${number}${form}`, 3_000)
          expect((yield* waiting.lease).fencingToken).toBe(number - earlier)
          yield* next.interrupt
          yield* waiting.release
          yield* idle(b.store)
        })
      )
    )
  }

  it.scoped("that comes a thousand times is asked about 20 times a second at most", () =>
    Effect.gen(function* () {
      const { a, b, held, publish, waiting } = yield* awaited
      b.proxy.forget()
      const from = performance.now()
      for (let i = 0; i < 1_000; i++) yield* publish(Number.MAX_SAFE_INTEGER, 3_000)
      // and slowly, so that each comes behind the answer about the one before
      for (let i = 0; i < 60; i++) {
        yield* publish(Number.MAX_SAFE_INTEGER, 3_000)
        yield* Effect.sleep(5)
      }
      // one that is late in the flood is asked about as well
      const before = sent(b.proxy, key)
      yield* b.proxy.until(() => sent(b.proxy, key) > before)
      expect(sent(b.proxy, key)).toBeLessThanOrEqual((performance.now() - from) / 50 + 3)
      expect(waiting.state()).toBe("waiting")
      yield* held.verify
      expect(yield* queueOf(a.server, key)).toHaveLength(1)
    })
  )

  it.scoped("while a question is on its way is asked about behind its answer", () =>
    quietly(
      Effect.gen(function* () {
        const { a, b, publish, token, waiting } = yield* awaited
        b.proxy.holdReplies({ where: (connection) => !connection.subscriber })
        b.proxy.forget()
        yield* publish(Number.MAX_SAFE_INTEGER, 3_000)
        yield* b.proxy.until(() => sent(b.proxy, key) === 1)
        // queued, says the answer that is held; then comes the grant, and of its message only a part
        yield* a.server.command("ZREM", keysOf(key)[2], token)
        yield* a.server.command("SET", key, token, "PX", 10_000)
        yield* publish("", 3_000)
        yield* publish("99999999999999999999", 3_000)
        yield* Effect.sleep(20)
        expect(sent(b.proxy, key)).toBe(1)
        b.proxy.releaseReplies()
        const { millis } = yield* timed(waiting.lease)
        expect(millis).toBeLessThan(500)
      })
    )
  )
})

layer(RedisServer.layer(), { excludeTestServices: true })("a grant that nobody waits for", (it) => {
  for (const [keyPrefix, prefix] of [
    ["", ""],
    ["app:", "locks:"]
  ] as const) {
    it.scoped(`is given back at once (under "${keyPrefix}${prefix}")`, () =>
      Effect.gen(function* () {
        const server = yield* RedisServer.RedisServer
        yield* server.flush
        const client = yield* connectedClient(server.port, { keyPrefix })
        const b = yield* onClient({ server }, client, { ...strict, prefix })
        const keys = lockKeys(keyPrefix, prefix, key)
        if (typeof keys === "string") throw new Error(keys)
        const run = (script: scripts.Script, ...args: ReadonlyArray<string | number>) =>
          server.command("EVAL", script.lua, 4, ...keys.map((name) => keyPrefix + name), ...args)
        // it has waited once, so that it listens
        yield* server.command("SET", `${keyPrefix}${prefix}other`, "somebody", "PX", 60_000)
        const waited = yield* Effect.fork(
          Effect.exit(Lock.withLock("other", { waitAtMost: 200 })(Effect.void).pipe(b.use))
        )
        yield* subscribed(b)
        yield* Fiber.join(waited)

        // an acquire that came late, from a connection that was given up
        const ghost = strangeTo(b)
        const holder = "erl1:holderholder.0000000000000000000000"
        yield* run(scripts.acquire, holder, 60_000, "lock/1 60000 me")
        yield* run(scripts.acquire, ghost, 60_000, "lock/1 60000 me", 60_000, 60_000)
        yield* run(scripts.release, holder)
        yield* RedisServer.eventually(
          Effect.map(
            leftovers(server),
            (left) => !left.some((name) => keys.some((own) => name === keyPrefix + own))
          )
        ).pipe(Effect.timeout("2 seconds"))
      })
    )
  }

  it.scoped("is not one of a token that is held here, or on its way", () =>
    Effect.gen(function* () {
      const { a, b, held, holder, waiting } = yield* awaited
      const say = (token: string, name = key) =>
        a.server.command(
          "PUBLISH",
          token.split(".")[0]!,
          `${token} ${Date.now() * 1_000} 3000 ${name}`
        )
      yield* holder.release
      const lease = yield* waiting.lease
      b.proxy.forget()
      for (let i = 0; i < 5; i++) yield* say(lease.token)
      // a token of another store's is none of ours
      yield* a.server.command(
        "PUBLISH",
        internals(b.store).storeId,
        `${held.token} ${Date.now() * 1_000} 3000 ${key}`
      )
      yield* lease.verify
      expect(yield* a.server.command("GET", key)).toBe(lease.token)
      expect(sent(b.proxy, key)).toBe(1)

      // granted, and not answered yet
      b.proxy.forget()
      b.proxy.holdReplies({ where: (connection) => !connection.subscriber })
      const taking = yield* Effect.fork(Lock.tryAcquire("other", { ttl }).pipe(b.use))
      yield* RedisServer.eventually(
        Effect.map(a.server.command("GET", "other"), (token) => token !== null)
      )
      yield* say(String(yield* a.server.command("GET", "other")), "other")
      yield* Effect.sleep(20)
      expect(sent(b.proxy, "other")).toBe(1)
      b.proxy.releaseReplies()
      yield* Effect.flatMap(Fiber.join(taking), (taken) => taken.verify)
    })
  )

  it.scoped("is made up where there are many: few of them are given back in a second", () =>
    Effect.gen(function* () {
      const { a, b } = yield* awaited
      const { storeId } = internals(b.store)
      b.proxy.forget()
      for (let i = 0; i < 1_000; i++) {
        yield* a.server.command("PUBLISH", storeId, `${strangeTo(b, i)} 1700000000000000 1 x`)
      }
      yield* b.proxy.until(() => sent(b.proxy, "x") > 0)
      yield* Effect.sleep(20)
      expect(sent(b.proxy, "x")).toBeLessThanOrEqual(2 * 16)
      yield* awaitQueued(a.server, key, 1)
    })
  )
})
