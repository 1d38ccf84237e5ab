/** Rule 9: fencing tokens grow, whatever the server forgets. */
import { expect, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { Lock, type LockStore, RedisLockStore } from "effect-redis-lock"
import * as fc from "fast-check"
import {
  environment,
  foreign,
  leftovers,
  pttl,
  quietly,
  RedisServer,
  serverMicros,
  storeOf,
  turns
} from "./support.js"

const record = "{k}:lock-record"
const ttl = "1 minute"

layer(RedisServer.layer(), { excludeTestServices: true })("fencing tokens", (it) => {
  const grant = Lock.withLock("k", { ttl })((lease) => Effect.succeed(lease.fencingToken))

  it.scoped("grow with every grant, also of other stores, and are safe integers", () =>
    Effect.gen(function* () {
      const { use } = yield* environment()
      const { use: useOther } = yield* environment()
      let last = 0
      for (let i = 0; i < 200; i++) {
        const token = yield* grant.pipe(i % 2 === 0 ? use : useOther)
        expect(token).toBeGreaterThan(last)
        expect(Number.isSafeInteger(token)).toBe(true)
        last = token
      }
    })
  )

  const growsOver = (
    name: string,
    event: (server: RedisServer.RedisProcess) => Effect.Effect<unknown>
  ) =>
    it.scoped(`grow over ${name}`, () =>
      Effect.gen(function* () {
        const { server, use } = yield* environment()
        // the first by hundreds, so that a counter would be ahead of one that starts again
        let last = 0
        for (let i = 0; i < 50; i++) last = yield* grant.pipe(use)
        for (let round = 0; round < 3; round++) {
          yield* event(server)
          const token = yield* grant.pipe(use)
          expect(token).toBeGreaterThan(last)
          last = token
        }
      })
    )

  growsOver("FLUSHALL", ({ command }) => command("FLUSHALL"))
  growsOver("a loss of the record", ({ command }) => command("DEL", record))
  growsOver("a restart without data", ({ restart }) => restart)
  growsOver("a failover to a replica that was behind", ({ command }) =>
    command("SET", record, "1795000000000000 old")
  )
  growsOver("a foreign holder in between", (server) =>
    Effect.zipRight(foreign(server).lock("k", "go", 60_000), foreign(server).unlock("k", "go"))
  )
  growsOver("a record that is not one", ({ command }) => command("SET", record, "nonsense"))

  it.scoped("grow over an expiry", () =>
    quietly(
      Effect.gen(function* () {
        const { proxy, server, use } = yield* environment({ commandTimeout: 200 })
        const { use: useOther } = yield* environment()
        const stale = yield* Lock.acquire("k", { ttl: 150 }).pipe(use)
        proxy.blackHole({ drop: true })
        const next = yield* Lock.acquire("k", { ttl }).pipe(useOther)
        expect(next.fencingToken).toBeGreaterThan(stale.fencingToken)
        expect(yield* server.command("GET", "k")).toBe(next.token)
        proxy.heal()
      })
    )
  )

  it.scoped("grow from a record that is ahead of the clock, by one at a time", () =>
    Effect.gen(function* () {
      const { server, use } = yield* environment()
      const future = (yield* serverMicros(server)) + 3_600_000_000
      yield* server.command("SET", record, `${future} x`)
      expect(yield* grant.pipe(use)).toBe(future + 1)
      expect(yield* grant.pipe(use)).toBe(future + 2)
      expect(yield* grant.pipe(use)).toBe(future + 3)
    })
  )

  it.scoped("keep every digit", () =>
    Effect.gen(function* () {
      const { server, use } = yield* environment()
      // more digits than Lua's tostring would give
      const far = 8_765_432_109_876_543
      yield* server.command("SET", record, `${far} x`)
      expect(yield* grant.pipe(use)).toBe(far + 1)
      expect(String(yield* server.command("GET", record))).toMatch(`${far + 1} `)
    })
  )

  it.scoped("are microseconds of the server's clock", () =>
    Effect.gen(function* () {
      const { server, use } = yield* environment()
      const before = yield* serverMicros(server)
      const token = yield* grant.pipe(use)
      const after = yield* serverMicros(server)
      expect(token).toBeGreaterThanOrEqual(before)
      expect(token).toBeLessThanOrEqual(after)
    })
  )

  it.scoped("belong to the lease: a stale holder reads its own", () =>
    quietly(
      Effect.gen(function* () {
        const { server, use } = yield* environment()
        const stale = yield* Lock.acquire("k", { ttl }).pipe(use)
        const own = stale.fencingToken
        yield* server.command("DEL", "k")
        const next = yield* Lock.acquire("k", { ttl }).pipe(use)
        expect(next.fencingToken).toBeGreaterThan(own)
        expect(stale.fencingToken).toBe(own)
        const error = yield* Effect.flip(stale.verify)
        expect(error).toMatchObject({ _tag: "LockLost", fencingToken: own })
        expect(stale.fencingToken).toBe(own)
      })
    )
  )

  it.scoped("are per key, and the record of an idle key goes after a day", () =>
    Effect.gen(function* () {
      const { server, use } = yield* environment()
      const future = (yield* serverMicros(server)) + 3_600_000_000
      yield* server.command("SET", record, `${future} x`)
      const other = yield* Lock.withLock("other", { ttl })((lease) =>
        Effect.succeed(lease.fencingToken)
      ).pipe(use)
      expect(other).toBeLessThan(future)
      yield* grant.pipe(use)
      for (const key of [record, "{other}:lock-record"]) {
        const left = yield* pttl(server, key)
        expect(left).toBeLessThanOrEqual(86_400_000)
        expect(left).toBeGreaterThan(86_000_000)
      }
      expect(yield* leftovers(server)).toEqual([])
    })
  )

  it.scoped("of attempts that found the lock taken are not used up, nor told", () =>
    Effect.gen(function* () {
      const { server, use } = yield* environment()
      const future = (yield* serverMicros(server)) + 3_600_000_000
      yield* server.command("SET", record, `${future} x`)
      const lease = yield* Lock.acquire("k", { ttl }).pipe(use)
      for (let i = 0; i < 5; i++) {
        yield* Effect.flip(Effect.scoped(Lock.tryAcquire("k")).pipe(use))
      }
      yield* lease.release
      expect(yield* grant.pipe(use)).toBe(lease.fencingToken + 1)
    })
  )

  it.scoped("tell writes of a paused holder from its successor's, in the order of the grants", () =>
    Effect.gen(function* () {
      const stores: Array<
        <A, E>(effect: Effect.Effect<A, E, LockStore.LockStore>) => Effect.Effect<A, E>
      > = []
      for (let i = 0; i < 3; i++) stores.push((yield* environment()).use)
      const granted: Array<number> = []
      yield* Effect.forEach(
        Array.from({ length: 12 }, (_, index) => index),
        (index) =>
          Lock.withLock("k", { ttl })((lease) =>
            Effect.sync(() => void granted.push(lease.fencingToken))
          ).pipe(stores[index % 3]!),
        { concurrency: "unbounded", discard: true }
      )
      expect(granted).toHaveLength(12)
      expect(granted).toEqual([...granted].sort((a, b) => a - b))
      expect(new Set(granted).size).toBe(12)
    })
  )
})

/** Callers of several processes, with several ttls, for some turns each; then a flush, or none. */
const crowd = fc.record({
  stores: fc.integer({ min: 1, max: 3 }),
  callers: fc.integer({ min: 1, max: 40 }),
  turnsOfEach: fc.integer({ min: 1, max: 12 }),
  ttls: fc.constantFrom<ReadonlyArray<number>>([5_000], [5_000, 6_000], [2_000, 5_000, 30_000]),
  work: fc.constantFrom(0, 1, 4),
  single: fc.boolean(),
  flush: fc.boolean()
})
type Crowds = typeof crowds extends fc.Arbitrary<infer Plan> ? Plan : never
const crowds = fc.record({
  localHandoff: fc.constantFrom(0, 1, 20, 10_000),
  rounds: fc.array(crowd, { minLength: 1, maxLength: 4 })
})

layer(RedisServer.layer(), { excludeTestServices: true })(
  "fencing tokens, under any mix of callers",
  (it) => {
    it.scoped(
      "grow with each grant and over each flush, and are never ahead of the server's time",
      () =>
        Effect.gen(function* () {
          const server = yield* RedisServer.RedisServer
          const tokens = ({ localHandoff, rounds }: Crowds) =>
            Effect.gen(function* () {
              yield* server.flush
              const stores = yield* Effect.forEach([0, 1, 2], () =>
                storeOf(RedisLockStore.layer({ url: server.url, localHandoff }))
              )
              let last = 0
              const wrong: Array<string> = []
              const enter = (fencingToken: number) => {
                // the server's clock is this machine's
                const ahead = fencingToken - (Date.now() + 1) * 1_000
                if (ahead > 0) wrong.push(`${ahead} µs ahead of the server's time`)
                if (fencingToken <= last) wrong.push(`${last - fencingToken} below the last one`)
                last = fencingToken
              }
              for (const {
                callers,
                flush,
                single,
                stores: few,
                ttls,
                turnsOfEach,
                work
              } of rounds) {
                yield* Effect.forEach(
                  Array.from({ length: callers }, (_, index) => index),
                  (index) => {
                    const locked =
                      single && index % 5 === 0 ? Lock.withLockIfAvailable : Lock.withLock
                    return Effect.repeatN(
                      locked("k", { ttl: ttls[index % ttls.length]! })((lease) => {
                        enter(lease.fencingToken)
                        return work === 0 ? Effect.void : turns(work)
                      }),
                      turnsOfEach - 1
                    ).pipe(stores[index % few]!.use)
                  },
                  { concurrency: "unbounded", discard: true }
                )
                if (flush) yield* server.command("FLUSHALL")
              }
              expect(wrong).toEqual([])
            }).pipe(Effect.scoped, Effect.orDie)
          yield* Effect.promise(() =>
            fc.assert(
              fc.asyncProperty(crowds, (plan) => Effect.runPromise(tokens(plan))),
              { numRuns: 30 }
            )
          )
        }),
      { timeout: 60_000 }
    )
  }
)
