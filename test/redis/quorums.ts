/** What tests of a quorum share: servers that count, and stores that reach them by proxies of their own. */
import { expect } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { Lock, type QuorumLockStore } from "effect-redis-lock"
import * as RedisQuorum from "../support/RedisQuorum.js"
import { type Environment, FaultProxy, RedisServer, storeOf } from "./support.js"

/** Something before a server, for all stores: its port. */
type Before = (port: number, index: number) => Effect.Effect<number, never, Scope.Scope>

/** So many servers that count, with a proxy before each for each of so many stores. */
export const apart = (
  count: number,
  stores: number,
  options: Partial<QuorumLockStore.Options> = {},
  before: Before = Effect.succeed
) =>
  Effect.gen(function* () {
    const servers = yield* RedisQuorum.make(count)
    yield* Effect.forEach(servers, RedisQuorum.join, { discard: true })
    const ports = yield* Effect.forEach(servers, ({ port }, index) => before(port, index))
    const clients = yield* Effect.forEach(Array.from({ length: stores }), () =>
      Effect.gen(function* () {
        const proxies = yield* Effect.forEach(ports, (port) => FaultProxy.make(port))
        return { proxies, ...(yield* storeOf(RedisQuorum.layerOf(proxies, options))) }
      })
    )
    return { servers, clients }
  })

export const nothingLeft = (servers: ReadonlyArray<RedisServer.RedisProcess>) =>
  RedisServer.eventually(Effect.map(RedisQuorum.leftovers(servers), (keys) => keys.length === 0))

/** Each has the lock ten times at least, and one at a time. Their fencing tokens, in the order of the turns. */
export const tenTurnsEach = (
  clients: ReadonlyArray<Pick<Environment, "use">>,
  key: string
): Effect.Effect<ReadonlyArray<number>, unknown> =>
  Effect.gen(function* () {
    let inside = 0
    let most = 0
    const tokens: Array<number> = []
    const work = Lock.withLock(key, { ttl: "2 seconds" })(({ fencingToken }) =>
      Effect.gen(function* () {
        most = Math.max(most, ++inside)
        tokens.push(fencingToken)
        yield* Effect.sleep(2)
        inside--
      })
    )
    yield* Effect.forEach(
      clients,
      ({ use }) => use(Effect.retry(Effect.repeatN(work, 9), { times: 20 })),
      { concurrency: "unbounded", discard: true }
    )
    expect(most).toBe(1)
    expect(tokens.length).toBeGreaterThanOrEqual(10 * clients.length)
    expect(tokens).toEqual([...tokens].sort((one, other) => one - other))
    return tokens
  })
