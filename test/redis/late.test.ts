/** What comes late, or twice, makes nobody a second holder: schedules that the model of docs/protocol.pml found. */
import { expect, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import {
  awaitQueued,
  caller,
  environments,
  queuedCaller,
  queueOf,
  strict,
  subscribed
} from "../support/Queue.js"
import { quietly, RedisServer, touching } from "./support.js"

const key = "k"
const ttl = 60_000
/** A heartbeat of 300 ms, a claim window of 900. */
const brisk = { ttl: 900 }

layer(RedisServer.layer(), { excludeTestServices: true })("what comes late, or twice", (it) => {
  it.scoped("an acquire that was queued twice, and the message of a grant in between", () =>
    quietly(
      Effect.gen(function* () {
        const [a, b] = yield* environments([strict, { ...strict, commandTimeout: "10 seconds" }])
        // b's subscriber is there already
        const other = yield* caller(a.use, "other", { ttl })
        yield* other.lease
        yield* queuedCaller(b, "other", 0, { ttl })
        yield* subscribed(b)

        const held = yield* caller(a.use, key, { ttl })
        yield* held.lease
        b.proxy.holdMessages()
        // b's acquire is applied, its reply is lost, and the new connection takes its time
        const lost = b.proxy.resetAfterApply(touching(key))
        const waiting = yield* caller(b.use, key, brisk)
        yield* lost.fired
        b.proxy.refuse()
        yield* awaitQueued(a.server, key, 1)
        const [token] = yield* queueOf(a.server, key)
        yield* held.release
        yield* b.proxy.heldMessages
        expect(yield* a.server.command("GET", key)).toBe(token)
        // nobody claims that grant in its time
        yield* RedisServer.eventually(
          Effect.map(a.server.command("GET", key), (value) => value === null)
        )
        const next = yield* caller(a.use, key, { ttl })
        const lease = yield* next.lease
        b.proxy.forget()
        b.proxy.accept()
        yield* b.proxy.until(
          () => b.proxy.requests.filter((r) => r.replied && touching(key)(r.args)).length >= 2
        )
        expect(yield* queueOf(a.server, key)).toEqual([token])
        b.proxy.releaseMessages()
        yield* Effect.sleep(200)
        expect(yield* lease.isHeld).toBe(true)
        expect(yield* a.server.command("GET", key)).toBe(lease.token)
        expect(waiting.state()).toBe("waiting")
      })
    )
  )

  it.scoped("a pass of a connection that was given up, delivered behind its repetition", () =>
    quietly(
      Effect.gen(function* () {
        const [a, b] = yield* environments([{ commandTimeout: "10 seconds" }, strict])
        // something that is renewed, so that silence is noticed
        const other = yield* caller(a.use, "other", { ttl: 1_500, renewEvery: 600 })
        yield* other.lease
        const first = yield* caller(a.use, key, { ttl })
        yield* first.lease
        const second = yield* caller(a.use, key, { ttl })
        yield* Effect.sleep(50)
        const commands = a.proxy.connections.find((it) => !it.subscriber)!.id
        a.proxy.forget()
        a.proxy.holdRequests({
          where: (connection) => connection.id === commands,
          afterClose: "deliver"
        })
        const releasing = yield* Effect.fork(first.release)
        yield* a.proxy.heldRequests
        // the connection is replaced, and the pass sent again: a keeps the lock
        const lease = yield* second.lease
        yield* releasing
        expect(yield* a.server.command("GET", key)).toBe(lease.token)
        const waiting = yield* queuedCaller(b, key, 0, brisk)
        yield* subscribed(b)
        // only now comes what was sent on the old connection
        a.proxy.releaseRequests()
        yield* Effect.sleep(200)
        expect(yield* lease.isHeld).toBe(true)
        expect(waiting.state()).toBe("waiting")
        expect(yield* a.server.command("GET", key)).toBe(lease.token)
      })
    )
  )

  it.scoped("an acquire of a connection that was given up does not shorten the lease", () =>
    quietly(
      Effect.gen(function* () {
        const [a, b] = yield* environments([strict, { ...strict, commandTimeout: "10 seconds" }])
        const other = yield* caller(b.use, "other", { ttl: 1_500, renewEvery: 600 })
        yield* other.lease
        const held = yield* caller(a.use, key, { ttl })
        yield* held.lease
        const commands = b.proxy.connections.find((it) => !it.subscriber)!.id
        b.proxy.holdRequests({
          where: (connection) => connection.id === commands,
          afterClose: "deliver"
        })
        const short = yield* caller(b.use, key, brisk)
        const long = yield* caller(b.use, key, { ttl })
        yield* b.proxy.heldRequests
        // the connection is replaced, and the acquire sent again
        yield* awaitQueued(a.server, key, 1)
        yield* b.proxy.until(
          () => b.proxy.requests.filter((r) => r.replied && touching(key)(r.args)).length >= 1
        )
        yield* short.interrupt
        yield* Effect.sleep(500)
        yield* held.release
        const lease = yield* long.lease
        yield* RedisServer.eventually(
          Effect.map(a.server.command("PTTL", key), (left) => Number(left) > 50_000)
        )
        expect(yield* a.server.command("GET", key)).toBe(lease.token)
        b.proxy.releaseRequests()
        yield* Effect.sleep(200)
        expect(yield* a.server.command("GET", key)).toBe(lease.token)
        expect(Number(yield* a.server.command("PTTL", key))).toBeGreaterThan(50_000)
      })
    )
  )
})
