/** Behind a proxy that divides keys among servers, locks do not travel together. */
import { expect, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import { Lock, RedisLockStore } from "effect-redis-lock"
import * as scripts from "../../src/internal/redis/scripts.js"
import * as ShardingProxy from "../support/ShardingProxy.js"
import { environment, failure, RedisServer, storeOf } from "./support.js"

const ttl = "1 minute"
const redis = { enableReadyCheck: false, disableClientInfo: true, protocol: 2 } as const

const isOf =
  (script: scripts.Script) =>
  ([name, text]: ReadonlyArray<string>): boolean =>
    /^eval/i.test(name!) && (text === script.lua || text === script.sha)

/** Of the two servers, one each. */
const keys = Array.from({ length: 99 }, (_, i) => `key${i}`)
const keyOn = (shard: number, which: number) =>
  keys.filter((key) => ShardingProxy.shardOf(key) === shard)[which]!

/** So many at the same moment, each held for a while. */
const together = (names: ReadonlyArray<string>) =>
  Effect.forEach(names, (key) => Lock.withLock(key, { ttl })(Effect.sleep(20)), {
    concurrency: "unbounded",
    discard: true
  })

layer(RedisServer.layer(), { excludeTestServices: true })("two servers behind a proxy", (it) => {
  for (const hashTags of [true, false]) {
    it.scoped(`each lock is where its key belongs (hash tags: ${hashTags})`, () =>
      Effect.gen(function* () {
        const servers = [yield* RedisServer.RedisServer, yield* RedisServer.make()] as const
        yield* servers[0].flush
        const proxy = yield* ShardingProxy.make([servers[0].port, servers[1].port], { hashTags })
        const make = storeOf(RedisLockStore.layer({ url: proxy.url, redis }))
        const [a, b] = [yield* make, yield* make]
        for (let round = 0; round < 3; round++) {
          const names = [keyOn(0, round), keyOn(1, round), keyOn(0, 9 + round), keyOn(1, 9 + round)]
          const over = yield* Effect.makeLatch()
          let held = 0
          const hold = Effect.suspend(() => (held++, over.await))
          const holding = yield* Effect.fork(
            Effect.forEach(names, (key) => Lock.withLock(key, { ttl })(hold), {
              concurrency: "unbounded",
              discard: true
            }).pipe(a.use)
          )
          yield* RedisServer.eventually(Effect.sync(() => held === names.length))
          for (const name of names) {
            // as another program would find it
            const shard = ShardingProxy.shardOf(name)
            expect(yield* servers[shard]!.command("EXISTS", name)).toBe(1)
            const entered = Lock.withLockIfAvailable(name, { ttl })(Effect.void).pipe(b.use)
            expect(yield* entered).toEqual(Option.none())
          }
          yield* over.open
          yield* Fiber.join(holding)
        }
        expect(proxy.commands.filter(isOf(scripts.batch))).toEqual([])
        // and it was asked once
        expect(proxy.commands.filter(isOf(scripts.probeAll))).toHaveLength(1)
      })
    )
  }
})

layer(RedisServer.layer(), { excludeTestServices: true })("one server", (it) => {
  it.scoped("is found to be one by a single question, and calls travel together from then on", () =>
    Effect.gen(function* () {
      const { proxy, use } = yield* environment()
      yield* Lock.withLock("warm", { ttl })(Effect.void).pipe(use)
      proxy.forget()
      yield* together(["a", "b"]).pipe(use)
      yield* proxy.awaitReply(isOf(scripts.probeAll))
      expect(proxy.commands.filter(isOf(scripts.batch))).toEqual([])
      expect(proxy.commands.filter(isOf(scripts.probeOne))).toHaveLength(16)
      proxy.forget()
      yield* together(["a", "b", "c", "d"]).pipe(use)
      expect(proxy.commands.filter(isOf(scripts.batch)).length).toBeGreaterThan(0)
      expect(proxy.commands.filter(isOf(scripts.probeAll))).toEqual([])
    })
  )

  it.scoped("nothing more is sent by those that never lock two keys in a turn", () =>
    Effect.gen(function* () {
      const { proxy, use } = yield* environment()
      yield* Lock.withLock("warm", { ttl })(Effect.void).pipe(use)
      proxy.forget()
      for (const key of ["a", "b", "c"]) yield* Lock.withLock(key, { ttl })(Effect.void).pipe(use)
      expect(proxy.commands).toHaveLength(6)
    })
  )

  it.scoped("batch: false sends each by itself, and asks nothing", () =>
    Effect.gen(function* () {
      const { proxy, use } = yield* environment({ batch: false })
      yield* together(["a", "b", "c", "d"]).pipe(use)
      yield* together(["a", "b", "c", "d"]).pipe(use)
      expect(proxy.commands.filter(isOf(scripts.batch))).toEqual([])
      expect(proxy.commands.filter(isOf(scripts.probeOne))).toEqual([])
    })
  )

  it.scoped("a question that is not answered is asked again later", () =>
    Effect.gen(function* () {
      const { proxy, use } = yield* environment({ commandTimeout: 200 })
      yield* Lock.withLock("warm", { ttl })(Effect.void).pipe(use)
      const lost = proxy.resetAfterApply(isOf(scripts.probeAll), 1)
      yield* together(["a", "b"]).pipe(use)
      yield* lost.fired
      // sent again on the next connection, or asked again a second later
      const found = proxy.until(() => proxy.commands.some(isOf(scripts.batch)))
      yield* Effect.raceFirst(
        Effect.forever(Effect.zipRight(together(["a", "b"]).pipe(use), Effect.sleep(100))),
        Effect.timeout(found, "10 seconds")
      )
    })
  )

  it.scoped("an option that is neither true nor false is refused", () =>
    Effect.gen(function* () {
      const exit = yield* Effect.exit(
        storeOf(RedisLockStore.layer({ batch: "no" as unknown as boolean }))
      )
      expect(String(failure(exit))).toContain("Impossible option batch: no")
    })
  )
})
