/**
 * Failovers to a replica that lags, one after the other: how many leases that their holders rely on does the
 * next master lack?
 *
 * In each try a replica is stopped for a while, leases are asked for, and it goes on in time for some of them.
 * Then the master is killed; or the replica is stopped again before that, with the command to be a master as
 * the next thing that it will read: so it never reads what is granted and renewed from there on.
 */
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import type * as Scope from "effect/Scope"
import { type LockStore, RedisLockStore } from "effect-redis-lock"
import { seeded, storeOf } from "../redis/support.js"
import * as Replicas from "./Replicas.js"
import type * as RedisServer from "./RedisServer.js"
import { ask } from "./stores.js"

export interface Options {
  readonly tries: number
  /** Whether grants and renewals must be acknowledged. */
  readonly acknowledged: boolean
  readonly seed: number
  readonly onTry?: ((report: Report) => void) | undefined
}

export interface Report {
  readonly tries: number
  /** What holders rely on: grants, and renewals of them. */
  readonly granted: number
  readonly renewed: number
  /** Of those, what the next master did not have, or not for as long as was proven. */
  readonly lost: number
  /** Those that were not acknowledged, or not answered by the master that died. */
  readonly refused: number
}

type Server = RedisServer.RedisProcess

/** Whoever waits for replicas waits that long, in ms. */
const within = 100
const ttlMillis = 5_000
/** So many leases are asked for at a time. */
const atOnce = 6

const claims: ReadonlyArray<Partial<LockStore.Claim>> = [
  { ttlMillis },
  { ttlMillis, waitMillis: 1_000 },
  { ttlMillis, kind: "semaphore", limit: 3 },
  { ttlMillis, kind: "readWriteLock", limit: 100 }
]

class Held extends Data.Class<{ readonly key: string; readonly grant: LockStore.Grant }> {
  provenUntil = this.grant.validUntil
}

export const run = ({
  acknowledged,
  onTry,
  seed,
  tries
}: Options): Effect.Effect<Report, unknown, Scope.Scope> =>
  Effect.gen(function* () {
    const random = seeded(seed)
    const total = { tries: 0, granted: 0, renewed: 0, lost: 0, refused: 0 }
    const { master: first, replicas } = yield* Replicas.make(2)
    let [master, next, other] = [first, replicas[0]!, replicas[1]!]
    while (total.tries < tries) {
      yield* attempt(master, next, random, acknowledged, total)
      total.tries++
      onTry?.(total)
      // the dead one is the second replica of the next master
      yield* master.restart
      for (const replica of [other, master]) yield* Replicas.follow(replica, next)
      yield* next.flush
      yield* Replicas.caughtUp(next, 2)
      ;[master, next, other] = [next, other, master]
    }
    return total
  })

const attempt = (
  master: Server,
  next: Server,
  random: () => number,
  acknowledged: boolean,
  total: { granted: number; renewed: number; lost: number; refused: number }
): Effect.Effect<void, unknown> =>
  Effect.scoped(
    Effect.gen(function* () {
      const { store, use } = yield* storeOf(
        RedisLockStore.layer({
          url: master.url,
          commandTimeout: 4 * within,
          ...(acknowledged ? { acknowledged: { replicas: 2, within } } : {})
        })
      )
      const held: Array<Held> = []
      const acquire = (name: string) =>
        Effect.forEach(
          Array.from({ length: atOnce }, (_, index) => index),
          (index) => {
            const key = `${name}${index}`
            return use(ask(key, claims[index % claims.length])).pipe(
              Effect.map((grant) => held.push(new Held({ key, grant }))),
              Effect.tap(() => total.granted++),
              Effect.catchAll(() => Effect.sync(() => total.refused++))
            )
          },
          { concurrency: "unbounded", discard: true }
        )
      const renewAll = () =>
        Effect.forEach(
          [...held],
          (one) =>
            one.grant.renew.pipe(
              Effect.map((exit) => {
                if (exit._tag !== "Renewed") return
                one.provenUntil = Math.max(one.provenUntil, exit.validUntil)
                total.renewed++
              }),
              Effect.catchAll(() => Effect.sync(() => total.refused++))
            ),
          { concurrency: "unbounded", discard: true }
        )
      const pause = () => Effect.sleep(random() * 1.5 * within)

      // it goes on in time, or does not
      yield* next.stop
      const early = yield* Effect.fork(acquire("early"))
      yield* pause()
      yield* next.cont
      if (random() < 0.3) {
        // the master dies while what it has not read yet comes to it
        yield* Effect.sleep(random() * 10)
        yield* master.kill
        yield* Fiber.join(early)
        yield* Replicas.promote(next)
      } else {
        yield* Fiber.join(early)
        if (random() < 0.5) yield* renewAll()
        yield* next.stop
        const promoted = yield* Effect.fork(Replicas.promote(next))
        yield* pause()
        const late = yield* Effect.fork(acquire("late"))
        yield* renewAll()
        yield* pause()
        yield* master.kill
        yield* Fiber.join(late)
        yield* next.cont
        yield* Fiber.join(promoted)
      }
      for (const one of held) {
        const left = yield* leftOf(next, one)
        const now = store.clock.unsafeNow()
        // (whole milliseconds)
        if (now < one.provenUntil && now + left + 2 < one.provenUntil) total.lost++
      }
    })
  )

/** For how many ms the server keeps it. */
const leftOf = ({ command }: Server, { grant, key }: Held): Effect.Effect<number> =>
  Effect.gen(function* () {
    if ((yield* command("TYPE", key)) === "zset") {
      const [seconds, micros] = (yield* command("TIME")) as [string, string]
      const ends = yield* command("ZSCORE", key, grant.token)
      return ends === null ? 0 : Number(ends) - Number(seconds) * 1_000 - Number(micros) / 1_000
    }
    return (yield* command("GET", key)) === grant.token ? Number(yield* command("PTTL", key)) : 0
  })
