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
import * as Option from "effect/Option"
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
  /** The replica has all that is granted by now. */
  readonly caughtUp: Effect.Effect<void>
  /** The old master is dead, or silent: ends when the replica is master in its place, for everybody. */
  readonly takeOver: Effect.Effect<Server>
  /** A store with connections of its own, and one on a client of the user's. */
  readonly own: Effect.Effect<Store, unknown, Scope.Scope>
  readonly given: Effect.Effect<Store, unknown, Scope.Scope>
  /** The same, with other options. */
  readonly with: (options: RedisLockStore.StoreOptions) => Pick<Group, "own" | "given">
  /** One that goes to the old master whoever is the master now; `undefined`: it would be sent away. */
  readonly astray: Effect.Effect<Store, unknown, Scope.Scope> | undefined
}

export type Store = Pick<Environment, "store" | "use" | "close">

/** Of what is due by the clock alone, nothing is due; so a busy machine brings no failover about. */
export const never = 120_000
/** In milliseconds, of silence until the master is thought dead. */
const soon = 400

const infoOf = ({ command }: Server) => Effect.map(command("INFO", "replication"), String)

const offsetIn = (info: string, of: string): number =>
  Number(new RegExp(`^${of}:(\\d+)`, "m").exec(info)?.[1] ?? -1)

/** Ends when the replica has all that the master has by now. */
const caughtUp = (master: Server, replica: Server): Effect.Effect<void> =>
  Effect.flatMap(infoOf(master), (info) => {
    const written = offsetIn(info, "master_repl_offset")
    return RedisServer.eventually(
      Effect.map(infoOf(replica), (info) => offsetIn(info, "slave_repl_offset") >= written)
    )
  })

/** The replica has, by then, all that was written before, and gets nothing more: it may come back, and is refused. */
export const cutOff = (master: Server, replica: Server): Effect.Effect<void> =>
  Effect.gen(function* () {
    yield* master.command("ACL", "SETUSER", "default", "-psync", "-sync")
    yield* caughtUp(master, replica)
    yield* master.command("CLIENT", "KILL", "TYPE", "replica")
    yield* RedisServer.eventually(
      Effect.map(infoOf(replica), (info) => info.includes("master_link_status:down"))
    )
  })

/** Of whom one is going to be promoted. */
export interface Standby {
  readonly replicaOf: (master: Server) => Effect.Effect<Server>
  /** That one is dead, or silent: ends when its replica is master in its place, for everybody. */
  readonly takeOver: (old: Server) => Effect.Effect<Server>
  /** That one, which runs again, becomes a replica of the next master. */
  readonly follow: (old: Server, next: Server) => Effect.Effect<void>
}

/** Their `downAfter` is `never`. */
export const ofSentinels = (group: RedisSentinel.RedisSentinel): Standby => {
  const downAfter = (millis: number) =>
    Effect.forEach(group.sentinels, ({ command }) =>
      command("SENTINEL", "SET", group.name, "down-after-milliseconds", millis)
    )
  return {
    replicaOf: (master) =>
      Effect.succeed(group.servers.find((server) => server !== master && server.isRunning)!),
    takeOver: (old) =>
      Effect.acquireUseRelease(
        downAfter(soon),
        () => group.awaitMasterOtherThan(old),
        () => downAfter(never)
      ),
    // (they would see to it, too, in ten seconds)
    follow: ({ command }, { host, port }) => Effect.asVoid(command("REPLICAOF", host, port))
  }
}

type Ranges = ReadonlyArray<readonly [number, number, readonly [string, number]]>

/** Its `nodeTimeout` is `never`. */
export const ofCluster = ({ nodes }: RedisCluster.RedisCluster): Standby => {
  const replicaOf = (master: Server) =>
    Effect.map(
      Effect.findFirst(nodes, (node) =>
        node === master || !node.isRunning
          ? Effect.succeed(false)
          : Effect.map(infoOf(node), (info) => info.includes(`master_port:${master.port}\r`))
      ),
      Option.getOrThrow
    )
  return {
    replicaOf,
    takeOver: (old) =>
      Effect.gen(function* () {
        const next = yield* replicaOf(old)
        const others = nodes.filter((node) => node !== old && node.isRunning)
        const nodeTimeout = (millis: number) =>
          Effect.forEach(others, ({ command }) =>
            command("CONFIG", "SET", "cluster-node-timeout", millis)
          )
        const know = Effect.map(
          Effect.forEach(others, ({ command }) => command("CLUSTER", "SLOTS")),
          (answers) =>
            answers.every((ranges) =>
              (ranges as Ranges).every(([, , [, port]]) => port !== old.port)
            )
        )
        yield* Effect.acquireUseRelease(
          nodeTimeout(soon),
          () => RedisServer.eventually(know),
          () => nodeTimeout(never)
        )
        return next
      }),
    // (by itself, as it hears of it)
    follow: () => Effect.void
  }
}

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
  const standby = ofSentinels(group)
  const stores = (options: RedisLockStore.StoreOptions) => ({
    own: storeOf(RedisLockStore.layer({ redis: { sentinels, name }, ...options })),
    given: Effect.flatMap(
      connected(() => new Redis({ sentinels, name })),
      (client) => storeOf(RedisLockStore.layerFromClient(client, options))
    )
  })
  return {
    old,
    servers: [next],
    keyOf: (name) => name,
    cutOff: cutOff(old, next),
    caughtUp: caughtUp(old, next),
    takeOver: standby.takeOver(old),
    ...stores(strict),
    with: stores,
    astray: storeOf(RedisLockStore.layer({ url: old.url, ...strict }))
  } satisfies Group
})

export const cluster: Effect.Effect<Group, never, Scope.Scope> = Effect.gen(function* () {
  const group = yield* RedisCluster.make({ replicas: 1, nodeTimeout: never })
  const { addresses, masters, replicas } = group
  const [old, next] = [masters[0]!, replicas[0]!]
  const tags = Array.from({ length: 100 }, (_, index) => `{${index}}`)
  const owners = yield* Effect.forEach(tags, group.nodeOf)
  const tag = tags[owners.indexOf(old)]!
  const stores = (options: RedisLockStore.StoreOptions) => ({
    own: storeOf(RedisLockStore.layerCluster({ nodes: [...addresses], ...options })),
    given: Effect.flatMap(
      // (who has which slots it asks when a node sends it away or is gone: it stays with one that is silent)
      connected(() => new Cluster([...addresses])),
      (client) => storeOf(RedisLockStore.layerFromClient(client, options))
    )
  })
  return {
    old,
    servers: [next, ...masters.slice(1)],
    keyOf: (name) => `${tag}${name}`,
    cutOff: cutOff(old, next),
    caughtUp: caughtUp(old, next),
    takeOver: ofCluster(group).takeOver(old),
    ...stores(strict),
    with: stores,
    astray: undefined
  } satisfies Group
})
