/** Independent Redis servers, as the nodes of a quorum. */
import * as Effect from "effect/Effect"
import type * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import { type LockError, type LockStore, QuorumLockStore, RedisLockStore } from "effect-redis-lock"
import * as RedisServer from "./RedisServer.js"

/** So many servers, until the scope closes. */
export const make = (
  count: number,
  options?: RedisServer.Options
): Effect.Effect<ReadonlyArray<RedisServer.RedisProcess>, never, Scope.Scope> =>
  Effect.all(
    Array.from({ length: count }, () => RedisServer.make(options)),
    { concurrency: "unbounded" }
  )

const marker = ":lock-node"

/** What INFO says of which run of the server it is. */
export const runOf = ({ command }: RedisServer.RedisProcess): Effect.Effect<string> =>
  Effect.map(command("INFO", "server"), (info) => /run_id:(\w+)/.exec(String(info))![1]!)

/** As if quorums had used the server for longer than any ttl: it counts at once. */
export const join = (server: RedisServer.RedisProcess): Effect.Effect<void> =>
  Effect.flatMap(runOf(server), (run) => server.command("SET", marker, `1 ${run}`))

/** The keys of all nodes, without what makes nodes of them. */
export const leftovers = (
  servers: ReadonlyArray<RedisServer.RedisProcess>
): Effect.Effect<ReadonlyArray<string>> =>
  Effect.map(Effect.all(servers.map(({ dump }) => dump)), (dumps) =>
    dumps.flat().filter((key) => key !== marker && !key.endsWith(":lock-record"))
  )

/** A quorum of these, each by its URL. */
export const layerOf = (
  nodes: ReadonlyArray<{ readonly url: string }>,
  options: Partial<QuorumLockStore.Options> = {},
  nodeOptions: RedisLockStore.Options = {}
): Layer.Layer<LockStore.LockStore, LockError.LockStoreError> =>
  QuorumLockStore.layer({
    longestTtl: "10 seconds",
    ...options,
    nodes: nodes.map(({ url }) => RedisLockStore.layer({ url, ...nodeOptions }))
  })
