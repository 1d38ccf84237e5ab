/** A store's own connections behind Sentinels: each is made by asking them anew, and slow is not dead. */
import { isOlderClient } from "../support/client.js"
import { describe, expect, it, layer } from "@effect/vitest"
import * as Config from "effect/Config"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import { Lock, RedisLockStore } from "effect-redis-lock"
import * as LockStoreContract from "effect-redis-lock/LockStoreContract"
import * as LyingProxy from "../support/LyingProxy.js"
import { awaitQueued, caller, queuedCaller, subscribed } from "../support/Queue.js"
import * as RedisSentinel from "../support/RedisSentinel.js"
import { allCapabilities } from "../support/stores.js"
import * as Workers from "../support/Workers.js"
import {
  FaultProxy,
  RedisServer,
  failure,
  nothingLeft,
  quietly,
  storeOf,
  timed,
  undisturbed
} from "./support.js"

class Group extends Context.Tag("test/sentinelLayer/Group")<Group, RedisSentinel.RedisSentinel>() {}

const ttl = "1 minute"
const lockOnce = Lock.withLock("k", { ttl })(Effect.succeed("done"))

/** Sentinels and their master behind proxies, and a store that knows them alone. */
const proxied = (options: Partial<RedisLockStore.Options> = {}) =>
  Effect.gen(function* () {
    const group = yield* Group
    const master = yield* group.master
    yield* master.flush
    const proxy = yield* FaultProxy.make(master.port)
    const sentinels = yield* Effect.forEach(group.sentinels, ({ port }) => FaultProxy.make(port))
    const store = yield* storeOf(
      RedisLockStore.layer({
        sentinels: sentinels.map(({ host, port }) => `${host}:${port}`),
        name: group.name,
        ...options,
        redis: {
          natMap: { [`127.0.0.1:${master.port}`]: { host: proxy.host, port: proxy.port } },
          ...options.redis
        }
      })
    )
    return { ...store, group, master, server: master, proxy, sentinels }
  })

const asked = (sentinels: ReadonlyArray<FaultProxy.FaultProxy>): number =>
  sentinels
    .flatMap(({ commands }) => commands)
    .filter(([, what = ""]) => /get-master-addr-by-name/i.test(what)).length

layer(Layer.scoped(Group, RedisSentinel.make({ downAfter: 60_000 })), {
  excludeTestServices: true,
  timeout: "30 seconds"
})("own connections behind Sentinels", (it) => {
  it.scoped("go to the master that they name, and no connection to a Sentinel stays", () =>
    Effect.gen(function* () {
      const { master, proxy, sentinels, use } = yield* proxied()
      const lease = yield* Lock.acquire("k", { ttl }).pipe(use)
      expect(yield* master.command("GET", "k")).toBe(lease.token)
      expect(proxy.connections).toHaveLength(1)
      for (const sentinel of sentinels) {
        yield* sentinel.until(() => sentinel.connections.length === 0)
      }
    })
  )

  it.scoped("a connection that died idle is bridged, by asking the Sentinels anew", () =>
    Effect.gen(function* () {
      const { master, proxy, sentinels, use } = yield* proxied()
      for (const callers of [1, 50]) {
        yield* Lock.withLock("warm")(Effect.void).pipe(use)
        const before = asked(sentinels)
        proxy.abandon()
        const { exit, millis } = yield* timed(
          Effect.forEach(
            Array.from({ length: callers }, (_, i) => `k${i}`),
            (key) => Lock.withLock(key, { ttl, waitAtMost: "10 seconds" })(Effect.void).pipe(use),
            { concurrency: "unbounded" }
          )
        )
        expect(Exit.isSuccess(exit)).toBe(true)
        expect(millis).toBeLessThan(2_000)
        expect(asked(sentinels)).toBeGreaterThan(before)
      }
      yield* nothingLeft(master)
    })
  )

  for (const [ttl, latency] of [
    [1_000, 300],
    [5_000, 900]
  ] as const) {
    it.scoped(`no lease of ${ttl} ms is lost by answers that take ${latency} ms from now on`, () =>
      Effect.gen(function* () {
        const { proxy, sentinels, use } = yield* proxied()
        const lease = yield* Lock.acquire("k", { ttl }).pipe(use)
        for (const one of [proxy, ...sentinels]) one.link({ toClient: latency })
        const lost = yield* Effect.raceFirst(
          Effect.flip(lease.awaitLost),
          Effect.as(Effect.sleep(2.2 * ttl), undefined)
        )
        expect(lost).toBe(undefined)
        yield* lease.release
      })
    )
  }

  it.scoped("a waiter has its turn, though answers become slow", () =>
    Effect.gen(function* () {
      const { group, proxy, sentinels, ...waiting } = yield* proxied()
      const other = yield* storeOf(
        RedisLockStore.layer({ sentinels: group.addresses, name: group.name })
      )
      const holder = yield* caller(other.use, "k", { ttl: 60_000 })
      yield* holder.lease
      const waiter = yield* queuedCaller(waiting, "k", 0, { ttl: 1_000 })
      yield* subscribed(waiting)
      for (const one of [proxy, ...sentinels]) one.link({ toClient: 400 })
      yield* Effect.sleep(2_500)
      yield* holder.release
      yield* waiter.lease
    })
  )

  it.scoped(
    "all Sentinels away: what is connected goes on, and what must connect is told why",
    () =>
      quietly(
        Effect.gen(function* () {
          const { master, proxy, sentinels, use } = yield* proxied({ commandTimeout: 500 })
          expect(yield* lockOnce.pipe(use)).toBe("done")
          for (const one of sentinels) {
            one.refuse()
            one.cutAll()
          }
          expect(yield* lockOnce.pipe(use)).toBe("done")
          proxy.cutAll()
          const { exit, millis } = yield* timed(lockOnce.pipe(use))
          expect(failure(exit)).toMatchObject({ _tag: "LockStoreError", transient: true })
          expect(String(failure(exit))).toContain("No Sentinel could be asked for the master")
          expect(millis).toBeLessThan(2_500)
          for (const one of sentinels) one.accept()
          yield* RedisServer.eventually(Effect.map(Effect.exit(lockOnce.pipe(use)), Exit.isSuccess))
          yield* nothingLeft(master)
        })
      )
  )

  it.scoped("one that names an old master is not believed: it must say that it is one", () =>
    quietly(
      Effect.gen(function* () {
        const group = yield* Group
        const master = yield* group.master
        const replica = group.servers.find((server) => server !== master)!
        const liar = yield* LyingProxy.make(group.sentinels[0]!.port)
        const port = String(replica.port)
        liar.lie(([, what = ""]) =>
          /get-master-addr-by-name/i.test(what)
            ? `*2\r\n$9\r\n127.0.0.1\r\n$${port.length}\r\n${port}\r\n`
            : undefined
        )
        const { use } = yield* storeOf(
          RedisLockStore.layer({
            sentinels: [{ host: "127.0.0.1", port: liar.port }],
            name: group.name,
            commandTimeout: 500,
            redis: { updateSentinels: false }
          })
        )
        const { exit } = yield* timed(lockOnce.pipe(use))
        expect(failure(exit)).toMatchObject({ _tag: "LockStoreError", transient: true })
        expect(String(failure(exit))).toContain("does not say that it is one")
        liar.relent()
        yield* RedisServer.eventually(Effect.map(Effect.exit(lockOnce.pipe(use)), Exit.isSuccess))
        yield* nothingLeft(master)
      })
    )
  )

  it.scoped(
    "when the store is closed, no connection is left, also of those that are being made",
    () =>
      quietly(
        Effect.gen(function* () {
          const { close, group, proxy, sentinels, server, use, ...rest } = yield* proxied({
            commandTimeout: 500
          })
          const other = yield* storeOf(
            RedisLockStore.layer({ sentinels: group.addresses, name: group.name })
          )
          const holder = yield* caller(other.use, "k", { ttl: 60_000 })
          yield* holder.lease
          const waiter = yield* caller(use, "k", { ttl })
          yield* awaitQueued(server, "k", 1)
          yield* subscribed({ ...rest, server })
          proxy.blackHole()
          for (const one of sentinels) one.blackHole()
          yield* Effect.exit(Effect.scoped(Lock.tryAcquire("other")).pipe(use))
          yield* close
          yield* Effect.exit(waiter.lease)
          proxy.heal()
          for (const one of sentinels) one.heal()
          for (const one of [proxy, ...sentinels]) {
            yield* one.until(() => one.connections.length === 0)
          }
          yield* holder.release
        })
      )
  )
})

layer(Layer.scoped(Group, RedisSentinel.make()), {
  excludeTestServices: true,
  timeout: "30 seconds"
})("a process with its own connections behind Sentinels", (it) => {
  it.scoped("ends by itself when the store is closed, also where the Sentinels are silent", () =>
    Effect.gen(function* () {
      const group = yield* Group
      const silent = yield* LyingProxy.stranger({})
      for (const [sentinels, locked] of [
        [group.addresses, true],
        [[{ host: "127.0.0.1", port: silent }], false]
      ] as const) {
        const options = { sentinels, name: group.name, commandTimeout: 1_000 }
        const worker = yield* Workers.once("layer", options)
        expect(yield* worker.next("Closed")).toMatchObject({ locked })
        expect(yield* worker.ended).toBe(0)
      }
    })
  )
})

describe("with ioredis's option failoverDetector", () => {
  for (const how of ["kill", "stop"] as const) {
    it.scopedLive(`a store that has closed listens to no Sentinel, after a failover (${how})`, () =>
      quietly(
        Effect.gen(function* () {
          const group = yield* RedisSentinel.make({ downAfter: 500 })
          const master = yield* group.master
          // (it would go on listening, and keep the process alive)
          const listening = Effect.map(
            Effect.forEach(group.sentinels, ({ command }) =>
              command("CLIENT", "LIST", "TYPE", "pubsub")
            ),
            (lists) => lists.map(String).join("").split("id=").length - 1
          )
          const { close, use } = yield* storeOf(
            RedisLockStore.layer({
              redis: {
                sentinels: [...group.addresses],
                name: group.name,
                failoverDetector: true
              }
            })
          )
          yield* lockOnce.pipe(use)
          yield* RedisServer.eventually(
            Effect.map(listening, (count) => count === group.sentinels.length)
          )
          yield* master[how]
          yield* group.awaitMasterOtherThan(master)
          yield* RedisServer.eventually(Effect.map(Effect.exit(lockOnce.pipe(use)), Exit.isSuccess))
          yield* close
          yield* RedisServer.eventually(Effect.map(listening, (count) => count === 0))
          if (how === "stop") yield* master.cont
        })
      )
    )
  }
})

layer(
  Layer.provideMerge(
    Layer.unwrapEffect(
      Effect.map(Group, ({ addresses, name }) =>
        RedisLockStore.layer({ sentinels: addresses, name })
      )
    ),
    Layer.scoped(Group, RedisSentinel.make())
  ),
  { excludeTestServices: true, timeout: "30 seconds" }
)("own connections behind Sentinels", (it) => {
  // (the cases have ttls that are shorter than it can take to be connected)
  it.scoped("are connected", () =>
    Effect.forEach(
      Array.from({ length: 60 }, (_, i) => `warm-${i}`),
      (key) => Lock.withLock(key, { ttl })(Effect.void),
      { concurrency: 4 }
    )
  )

  // (what scripts and lines do with answers is the same for both clients)
  describe.concurrent.each(isOlderClient ? [] : ["keep the contract"])("%s", () => {
    for (const { effect, name, timeoutMillis } of LockStoreContract.cases({
      capabilities: allCapabilities
    })) {
      it.effect(name, () => undisturbed(30, effect), 3 * timeoutMillis)
    }
  })
})

layer(RedisServer.layer(), { excludeTestServices: true })("a Sentinel with a password", (it) => {
  it.scoped("and a master with another one, by layer and by layerConfig", () =>
    Effect.gen(function* () {
      const master = yield* RedisServer.make({ args: ["--requirepass", "of-the-master"] })
      const sentinel = yield* RedisServer.make({
        sentinel: [
          `sentinel monitor m ${master.host} ${master.port} 1`,
          "sentinel auth-pass m of-the-master",
          "requirepass of-the-sentinel",
          // (what docs/protocol.md says of the Sentinels' own user)
          "user locks on >of-locks resetchannels -@all +sentinel|get-master-addr-by-name +sentinel|sentinels"
        ]
      })
      const sentinels = [{ host: sentinel.host, port: sentinel.port }]
      const options = { sentinels, name: "m", commandTimeout: 500 } as const
      const redis = { password: "of-the-master" }
      for (const store of [
        RedisLockStore.layer({ ...options, redis, sentinelPassword: "of-the-sentinel" }),
        RedisLockStore.layer({
          ...options,
          redis,
          sentinelPassword: Redacted.make("of-the-sentinel")
        }),
        RedisLockStore.layer({
          ...options,
          redis: { ...redis, sentinelPassword: "of-the-sentinel" }
        }),
        RedisLockStore.layer({
          ...options,
          redis,
          sentinelUsername: "locks",
          sentinelPassword: "of-locks"
        }),
        Layer.orDie(
          RedisLockStore.layerConfig({
            sentinels: Config.succeed(sentinels),
            name: Config.succeed<string>("m"),
            password: Config.succeed(Redacted.make("of-the-master")),
            sentinelPassword: Config.succeed(Redacted.make("of-the-sentinel"))
          })
        )
      ]) {
        const { close, use } = yield* storeOf(store)
        expect(yield* lockOnce.pipe(use)).toBe("done")
        yield* close
      }
      for (const [sentinelPassword, password, advice] of [
        ["wrong-s3cret", "of-the-master", "Check sentinelUsername and sentinelPassword"],
        ["of-the-sentinel", "wrong-s3cret", "Check the user name and the password"]
      ] as const) {
        const { use } = yield* storeOf(
          RedisLockStore.layer({ ...options, sentinelPassword, redis: { password } })
        )
        const error = String(failure(yield* quietly(Effect.exit(lockOnce.pipe(use)))))
        expect(error).toContain(advice)
        expect(error).not.toMatch(/s3cret|of-the/)
      }
    })
  )
})
