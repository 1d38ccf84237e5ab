/**
 * The order in which claims are served, told to stores on a real server in the same random stories as to
 * the memory store (test/capacity.test.ts). Each caller has a store of its own, as if it were a process.
 * No time passes: a ttl ends because its end is set into the past, and a waiter that has died is one
 * whose heartbeat is too old.
 */
import { layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Runtime from "effect/Runtime"
import type { LockStore } from "effect-redis-lock"
import { lockKeys } from "../../src/internal/redis/layout.js"
import { protocols } from "../../src/internal/redis/protocol.js"
import { play, tellStories } from "../support/capacityPlayer.js"
import { environments, idle, strangeToken, strict } from "../support/Queue.js"
import { runs } from "../support/queueModel.js"
import { claimOf, freshKey } from "../support/stores.js"
import { nothingLeft, quietly, RedisServer } from "./support.js"

/** No story has more callers. */
const callers = 50

const keysOf = (key: string, kind: LockStore.Kind): ReadonlyArray<string> => {
  const keys = lockKeys("", "", key, kind !== "lock")
  if (typeof keys === "string") throw new Error(keys)
  return keys
}

const stage = (
  server: RedisServer.RedisProcess,
  stores: ReadonlyArray<LockStore.LockStore>,
  newcomer: LockStore.LockStore
) => {
  const keys = [freshKey(), freshKey(), freshKey()]
  /** Somebody asks, and whoever there is room for is served; the asker itself gives back what it gets. */
  const somebodyAsks = (key: string, kind: LockStore.Kind) =>
    Effect.uninterruptibleMask((restore) =>
      Effect.matchEffect(newcomer.acquire(claimOf(key, { kind }), restore), {
        onFailure: (error) => (error._tag === "LockUnavailable" ? Effect.void : Effect.die(error)),
        onSuccess: (grant) => Effect.orDie(grant.release)
      })
    )
  return {
    stores,
    keyOf: (key: number) => keys[key]!,
    tellsInOrder: false,
    settled: (isAsExpected: Effect.Effect<boolean>) =>
      // (what is wrong then is said by whoever compares)
      Effect.ignore(Effect.timeout(RedisServer.eventually(isAsExpected), "10 seconds")),
    advance: () => Effect.void,
    vanish: (key: string, fencingToken: number, kind: LockStore.Kind) =>
      Effect.gen(function* () {
        if (kind === "lock") {
          yield* server.command("DEL", key)
        } else {
          const known = yield* server.command("HGETALL", keysOf(key, kind)[4]!)
          const entries = known as ReadonlyArray<string>
          const at = entries.findIndex((entry) => entry.startsWith(`${fencingToken} `))
          yield* server.command("ZADD", key, "XX", 0, entries[at - 1]!)
        }
        yield* somebodyAsks(key, kind)
      }),
    deadWaiter: (key: string, kind: LockStore.Kind, owner: string) => {
      const { acquire, claimOf: written } = protocols[kind]
      const keys = keysOf(key, kind)
      const claim = written({ ...claimOf(key, { kind, owner }), whenWaiting: undefined }, owner)
      const window = 1
      return Effect.zipRight(
        server.command(
          "EVAL",
          acquire.lua,
          keys.length,
          ...keys,
          strangeToken(),
          1_000,
          claim,
          window,
          1_000
        ),
        Effect.sleep(window + 3)
      )
    }
  }
}

layer(RedisServer.layer(), { excludeTestServices: true })("a key's capacity in Redis", (it) => {
  it.scoped(
    "is given to claims in their order, whatever they weigh and of whatever kind, and whoever leaves or dies",
    () =>
      quietly(
        Effect.gen(function* () {
          const made = yield* environments(Array.from({ length: callers + 1 }, () => strict))
          const [newcomer, ...stores] = made.map(({ store }) => store)
          const { server } = made[0]!
          const runtime = yield* Effect.runtime<never>()
          yield* tellStories(
            {
              kinds: ["semaphore", "lock"],
              withTime: false,
              withShares: false,
              withDead: true
            },
            { numRuns: runs(20), atLeast: 100 },
            (commands) =>
              play(commands, stage(server, stores, newcomer!)).pipe(
                Effect.tap(Effect.forEach(stores, idle, { discard: true })),
                Effect.tap(nothingLeft(server)),
                Effect.orDie,
                Runtime.runPromise(runtime)
              )
          )
        })
      ),
    runs(120_000)
  )
})
