/**
 * A quorum of real servers whose clocks are apart: a proxy before each changes what its scripts are told by
 * TIME, and nothing else of a server's clock is asked for (a ttl is counted by the server itself).
 */
import { expect } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schedule from "effect/Schedule"
import { CronJob, Lock, type QuorumLockStore } from "effect-redis-lock"
import { atOnce } from "../support/atOnce.js"
import * as LyingProxy from "../support/LyingProxy.js"
import { freshKey } from "../support/stores.js"
import { apart, nothingLeft, tenTurnsEach } from "./quorums.js"
import { failure, quietly } from "./support.js"

/** The clock of a server, as its scripts see it, is so many seconds ahead. */
const shifted =
  (ahead: number): LyingProxy.Change =>
  (args) =>
    /^eval$/i.test(args[0]!)
      ? args.map((arg, index) =>
          index === 1
            ? arg.replace(
                /redis\.p?call\('TIME'\)/g,
                `(function() local t = redis.call('TIME') return { string.format('%.0f', t[1] + ${ahead}), t[2] } end)()`
              )
            : arg
        )
      : undefined

/** Servers with clocks that are so many seconds ahead. */
const withClocks = (
  ahead: ReadonlyArray<number>,
  stores: number,
  options?: Partial<QuorumLockStore.Options>
) =>
  apart(ahead.length, stores, options, (port, index) =>
    Effect.map(LyingProxy.make(port, shifted(ahead[index]!)), (clock) => clock.port)
  )

const hour = 3_600

for (const ahead of [
  [2, 0, -2],
  [hour, 0, -hour]
]) {
  atOnce(Layer.empty)(
    `with clocks that are ${ahead[0]} s ahead, right, and ${-ahead[2]!} s behind`,
    (it) => {
      it.scoped(
        "clients that reach two each exclude each other, in the order of the fencing tokens",
        () =>
          Effect.gen(function* () {
            const { clients, servers } = yield* withClocks(ahead, 3)
            const key = freshKey()
            clients.forEach(({ proxies }, index) => proxies[index]!.blackHole())
            const tokens = yield* tenTurnsEach(clients, key)
            expect(new Set(tokens).size).toBe(tokens.length)
            // the clock that is ahead has said so (a proxy that changes nothing would show nothing)
            expect(tokens.at(-1)! / 1e6).toBeGreaterThan(Date.now() / 1e3 + ahead[0]! - 1)
            yield* nothingLeft(servers)
          }).pipe(quietly),
        60_000
      )

      it.scoped("each of them can be away: a lease is renewed, and the next token is greater", () =>
        Effect.gen(function* () {
          const { clients, servers } = yield* withClocks(ahead, 1)
          const { proxies, use } = clients[0]!
          const key = freshKey()
          const tokens: Array<number> = []
          for (const away of [0, 1, 2, 0, 2, 1]) {
            proxies[away]!.blackHole()
            yield* use(
              Lock.withLock(key, { ttl: "2 seconds" })((lease) =>
                Effect.gen(function* () {
                  tokens.push(lease.fencingToken)
                  yield* Effect.sleep("2500 millis")
                  yield* lease.verify
                })
              )
            )
            proxies[away]!.heal()
          }
          expect(tokens).toEqual([...tokens].sort((one, other) => one - other))
          expect(new Set(tokens).size).toBe(tokens.length)
          yield* nothingLeft(servers)
        }).pipe(quietly)
      )

      for (const emptied of [0, 2]) {
        it.scoped(
          `the one that is ${emptied === 0 ? "ahead" : "behind"} comes back empty: it does not vote before the longest ttl is over, and then it does`,
          () =>
            Effect.gen(function* () {
              const { clients, servers } = yield* withClocks(ahead, 2, { longestTtl: "2 seconds" })
              const [one, other] = clients as [(typeof clients)[0], (typeof clients)[0]]
              const key = freshKey()
              const third = 2 - emptied
              // a majority of the one that is emptied and the middle
              one.proxies[third]!.blackHole()
              yield* one.use(Lock.acquire(key, { ttl: "2 seconds" }))
              const emptiedAt = performance.now()
              yield* servers[emptied]!.restart
              // a majority of it and the third, where nobody has the key
              other.proxies[1]!.blackHole()
              const attempt = other.use(Effect.scoped(Lock.tryAcquire(key, { ttl: "2 seconds" })))
              const refused = failure(yield* Effect.exit(attempt))
              expect(refused).toMatchObject({
                _tag: "LockStoreError",
                detail: expect.stringContaining("emptied")
              })
              yield* Effect.retry(attempt, Schedule.recurs(100).pipe(Schedule.addDelay(() => 50)))
              expect(performance.now() - emptiedAt).toBeGreaterThan(2_000)
            }).pipe(quietly)
        )
      }

      it.scoped("a job's ticks are run by one process each", () =>
        Effect.gen(function* () {
          const { clients } = yield* withClocks(ahead, 3)
          const key = freshKey()
          const ran: Array<number> = []
          const job = CronJob.run(key, { cron: "* * * * * *" })(({ scheduledAt }) =>
            Effect.sync(() => ran.push(scheduledAt.epochMillis))
          )
          for (const { use } of clients) yield* Effect.forkScoped(use(job))
          yield* Effect.sleep("6500 millis")
          expect(ran).toEqual([...new Set(ran)].sort((one, other) => one - other))
          expect(ran.length).toBeGreaterThanOrEqual(3)
          // (the clock of a process says what is due)
          expect(Math.abs(ran.at(-1)! - Date.now())).toBeLessThan(10_000)
        }).pipe(quietly)
      )
    }
  )
}
