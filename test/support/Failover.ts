/**
 * A master whose replica takes over from it: behind Sentinels, or in a Cluster. When that happens, and what
 * the replica has by then, is the test's to say.
 *
 * @example
 * ```ts
 * const group = yield* Failover.sentinel
 * // … what is granted now, the next master has …
 * yield* group.cutOff
 * // … and what is granted now, it lacks …
 * yield* group.old.kill
 * const next = yield* group.takeOver
 * ```
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { RedisLockStore } from "effect-redis-lock"
import { Cluster, Redis } from "ioredis"
import { strict } from "./Queue.js"
import * as RedisCluster from "./RedisCluster.js"
import * as RedisSentinel from "./RedisSentinel.js"
import * as RedisServer from "./RedisServer.js"
import { type Environment, storeOf } from "../redis/support.js"

type Server = RedisServer.RedisProcess

export interface Group {
  /** The master that is going to fail. */
  readonly old: Server
  /** All servers that are going to have data. */
  readonly servers: ReadonlyArray<Server>
  /** A key of the master that is going to fail. */
  readonly keyOf: (name: string) => string
  /** The replica gets, by then, all that was written before, and nothing of what is written after. */
  readonly cutOff: Effect.Effect<void>
  /** The old master is dead, or silent: ends when the replica is master in its place, for everybody. */
  readonly takeOver: Effect.Effect<Server>
  /** A store with connections of its own, and one on a client of the user's. */
  readonly own: Effect.Effect<Store, unknown, Scope.Scope>
  readonly given: Effect.Effect<Store, unknown, Scope.Scope>
}

export type Store = Pick<Environment, "store" | "use" | "close">

/** Of what is due by the clock alone, nothing is due; so a busy machine brings no failover about. */
const never = 120_000
/** In milliseconds, of silence until the master is thought dead. */
const soon = 400

const infoOf = ({ command }: Server) => Effect.map(command("INFO", "replication"), String)

const offsetIn = (info: string, of: string): number =>
  Number(new RegExp(`^${of}:(\\d+)`, "m").exec(info)?.[1] ?? -1)

/** Its replicas may come back, and are refused. */
const cutOffAll = (master: Server, replica: Server): Effect.Effect<void> =>
  Effect.gen(function* () {
    yield* master.command("ACL", "SETUSER", "default", "-psync", "-sync")
    const written = offsetIn(yield* infoOf(master), "master_repl_offset")
    yield* RedisServer.eventually(
      Effect.map(infoOf(replica), (info) => offsetIn(info, "slave_repl_offset") >= written)
    )
    yield* master.command("CLIENT", "KILL", "TYPE", "replica")
    yield* RedisServer.eventually(
      Effect.map(infoOf(replica), (info) => info.includes("master_link_status:down"))
    )
  })

const connected = <Client extends Redis | Cluster>(make: () => Client) =>
  Effect.acquireRelease(
    Effect.async<Client>((resume) => {
      const client = make()
      client.on("error", () => {})
      client.once("ready", () => resume(Effect.succeed(client)))
    }),
    (client) => Effect.sync(() => client.disconnect())
  )

export const sentinel: Effect.Effect<Group, never, Scope.Scope> = Effect.gen(function* () {
  const group = yield* RedisSentinel.make({ downAfter: never })
  const { addresses, name } = group
  const sentinels = [...addresses]
  const old = yield* group.master
  const next = group.servers.find((server) => server !== old)!
  const downAfter = (millis: number) =>
    Effect.forEach(group.sentinels, ({ command }) =>
      command("SENTINEL", "SET", name, "down-after-milliseconds", millis)
    )
  return {
    old,
    servers: [next],
    keyOf: (name) => name,
    cutOff: cutOffAll(old, next),
    takeOver: Effect.acquireUseRelease(
      downAfter(soon),
      () => group.awaitMasterOtherThan(old),
      () => downAfter(never)
    ),
    own: storeOf(RedisLockStore.layer({ redis: { sentinels, name }, ...strict })),
    given: Effect.flatMap(
      connected(() => new Redis({ sentinels, name })),
      (client) => storeOf(RedisLockStore.layerFromClient(client, strict))
    )
  } satisfies Group
})

export const cluster: Effect.Effect<Group, never, Scope.Scope> = Effect.gen(function* () {
  const group = yield* RedisCluster.make({ replicas: 1, nodeTimeout: never })
  const { addresses, masters, replicas } = group
  const [old, next] = [masters[0]!, replicas[0]!]
  const others = [...masters, ...replicas].filter((node) => node !== old)
  const tags = Array.from({ length: 100 }, (_, index) => `{${index}}`)
  const owners = yield* Effect.forEach(tags, group.nodeOf)
  const tag = tags[owners.indexOf(old)]!
  const nodeTimeout = (millis: number) =>
    Effect.forEach(others, ({ command }) =>
      command("CONFIG", "SET", "cluster-node-timeout", millis)
    )
  const knows = ({ command }: Server) =>
    Effect.map(command("CLUSTER", "SLOTS"), (ranges) =>
      (ranges as ReadonlyArray<readonly [number, number, readonly [string, number]]>).every(
        ([, , [, port]]) => port !== old.port
      )
    )
  const given = Effect.flatMap(
    connected(() => new Cluster([...addresses], { slotsRefreshInterval: 500 })),
    (client) => storeOf(RedisLockStore.layerFromClient(client, strict))
  )
  return {
    old,
    servers: [next, ...masters.slice(1)],
    keyOf: (name) => `${tag}${name}`,
    cutOff: cutOffAll(old, next),
    takeOver: Effect.acquireUseRelease(
      nodeTimeout(soon),
      () =>
        Effect.as(
          RedisServer.eventually(
            Effect.map(Effect.forEach(others, knows), (known) => !known.includes(false))
          ),
          next
        ),
      () => nodeTimeout(never)
    ),
    own: given,
    given
  } satisfies Group
})
