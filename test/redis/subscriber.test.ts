/** The connection that brings messages: dead without a word, or not to be had. */
import { expect } from "@effect/vitest"
import { atOnce } from "../support/atOnce.js"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import { Lock, RedisLockStore } from "effect-redis-lock"
import {
  awaitQueued,
  caller,
  pair,
  queuedCaller,
  since,
  strict,
  subscribed
} from "../support/Queue.js"
import {
  collectWarnings,
  connectedClient,
  type Environment,
  environment,
  FaultProxy,
  quietly,
  RedisServer,
  storeOf,
  unhandledErrors
} from "./support.js"

/** A heartbeat of a second. */
const ttl = 60_000
/** Of a handoff by message, on a machine that is busy: below a heartbeat, less what has gone of it. */
const fast = 450

atOnce(RedisServer.layer())("a subscriber that is silent", (it) => {
  /** How long one process's release takes to reach the other's waiter. */
  const handoff = (from: Environment, to: Environment) =>
    Effect.scoped(
      Effect.gen(function* () {
        const holder = yield* caller(from.use, "k", { ttl })
        yield* holder.lease
        const waiter = yield* queuedCaller(to, "k", 0, { ttl })
        // its subscription is there, or believed to be, and its heartbeat is not due for long
        yield* Effect.sleep(50)
        return yield* since(holder.release, waiter.lease)
      })
    )

  const subscriberIds = ({ proxy }: Environment) =>
    proxy.connections.filter(({ subscriber }) => subscriber).map(({ id }) => id)

  it.scoped("is replaced, and handoffs are fast again", () =>
    quietly(
      Effect.gen(function* () {
        const [a, b] = yield* pair()
        yield* handoff(a, b)
        expect(yield* handoff(a, b)).toBeLessThan(fast)
        const dead = subscriberIds(b)
        expect(dead).toHaveLength(1)
        b.proxy.blackHole({ where: ({ id }) => dead.includes(id), drop: true })
        // found out by what comes at a heartbeat only
        expect(yield* handoff(a, b)).toBeGreaterThan(fast)
        yield* b.proxy
          .until(() => subscriberIds(b).length > 1)
          .pipe(Effect.raceFirst(Effect.forever(handoff(a, b))), Effect.timeout("10 seconds"))
        yield* Effect.sleep(100)
        for (let i = 0; i < 3; i++) expect(yield* handoff(a, b)).toBeLessThan(fast)
        expect(subscriberIds(b)).toHaveLength(2)
      })
    )
  )

  it.scoped("that was accepted and never greeted is replaced, too", () =>
    quietly(
      Effect.gen(function* () {
        const [a, b] = yield* pair()
        yield* Lock.withLock("warm")(Effect.void).pipe(b.use)
        const greeted = b.proxy.connections.map(({ id }) => id)
        b.proxy.blackHole({ where: ({ id }) => !greeted.includes(id), drop: true })
        expect(yield* handoff(a, b)).toBeGreaterThan(fast)
        expect(b.proxy.connections.length).toBe(greeted.length + 1)
        // what was said to it is lost
        b.proxy.heal()
        yield* subscribed(b).pipe(
          Effect.raceFirst(Effect.forever(handoff(a, b))),
          Effect.timeout("10 seconds")
        )
        for (let i = 0; i < 3; i++) expect(yield* handoff(a, b)).toBeLessThan(fast)
      })
    )
  )

  it.scoped("one that brings messages is not replaced where a heartbeat was first", () =>
    quietly(
      Effect.gen(function* () {
        const [a, b] = yield* pair()
        yield* handoff(a, b)
        b.proxy.holdMessages()
        // told by its heartbeat, and a moment later by the message
        const late = Effect.zipRight(
          b.proxy.heldMessages,
          Effect.delay(
            Effect.sync(() => b.proxy.releaseMessages()),
            "1200 millis"
          )
        )
        const releasing = yield* Effect.fork(late)
        expect(yield* handoff(a, b)).toBeGreaterThan(fast)
        yield* Fiber.join(releasing)
        // a replacement would be there by then
        yield* Effect.sleep(1_200)
        expect(subscriberIds(b)).toHaveLength(1)
        expect(yield* handoff(a, b)).toBeLessThan(fast)
      })
    )
  )
})

atOnce(RedisServer.layer())("a client without a duplicate", (it) => {
  for (const [name, duplicate] of Object.entries({
    "that throws": () => {
      throw new Error("no second connection")
    },
    "at all": undefined
  })) {
    it.scoped(`has its waiters ask at their heartbeat, and warns once (${name})`, () =>
      collectWarnings((warnings) =>
        Effect.gen(function* () {
          const unhandled = yield* unhandledErrors
          const other = yield* environment(strict)
          const proxy = yield* FaultProxy.make(other.server.port)
          const client = yield* connectedClient(proxy.port)
          Object.assign(client, { duplicate })
          const { use } = yield* storeOf(RedisLockStore.layerFromClient(client, strict))
          for (const key of ["k", "l"]) {
            const holder = yield* caller(other.use, key, { ttl: 300 })
            yield* holder.lease
            const waiting = yield* Effect.fork(
              Lock.withLock(key, { ttl: 300 })(Effect.succeed("in")).pipe(use)
            )
            yield* awaitQueued(other.server, key, 1)
            // several heartbeats: its place is kept
            yield* Effect.sleep(400)
            yield* awaitQueued(other.server, key, 1)
            yield* holder.release
            expect(yield* Effect.timeout(Fiber.join(waiting), "2 seconds")).toBe("in")
          }
          expect(warnings).toHaveLength(1)
          expect(warnings[0]).toMatch(
            /^Waiters learn of their turn only when they ask at their heartbeat/
          )
          if (duplicate !== undefined) expect(warnings[0]).toContain("no second connection")
          expect(unhandled).toEqual([])
        })
      )
    )
  }
})
