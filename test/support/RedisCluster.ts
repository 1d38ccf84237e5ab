/**
 * A Redis Cluster of real processes as a scoped resource.
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as FaultProxy from "./FaultProxy.js"
import * as RedisServer from "./RedisServer.js"

export interface Options {
  /** Default: 3. */
  readonly masters?: number | undefined
  /** For each master. Default: 0. */
  readonly replicas?: number | undefined
  /** Arguments of every node. */
  readonly args?: ReadonlyArray<string> | undefined
  /** In milliseconds, of silence until a node counts as failed. Default: 1000. */
  readonly nodeTimeout?: number | undefined
}

export interface RedisCluster {
  readonly masters: ReadonlyArray<RedisServer.RedisProcess>
  readonly replicas: ReadonlyArray<RedisServer.RedisProcess>
  /** Where a client may begin. */
  readonly addresses: ReadonlyArray<{ readonly host: string; readonly port: number }>
  /** The node that serves the key's slot now. */
  readonly nodeOf: (key: string) => Effect.Effect<RedisServer.RedisProcess>
  /** Waits until all slots are served and every running node knows it. */
  readonly awaitOk: Effect.Effect<void>
}

/** A proxy before each master, and how a client is told to reach the Cluster through them. */
export interface Proxied {
  readonly proxies: ReadonlyArray<FaultProxy.FaultProxy>
  readonly addresses: ReadonlyArray<{ readonly host: string; readonly port: number }>
  readonly natMap: Readonly<Record<string, { readonly host: string; readonly port: number }>>
  /** The one before the node that serves the key's slot now. */
  readonly proxyOf: (key: string) => Effect.Effect<FaultProxy.FaultProxy>
}

export const throughProxies = (cluster: RedisCluster): Effect.Effect<Proxied, never, Scope.Scope> =>
  Effect.gen(function* () {
    const byPort = new Map<number, FaultProxy.FaultProxy>()
    for (const { port } of cluster.masters) byPort.set(port, yield* FaultProxy.make(port))
    const address = ({ host, port }: FaultProxy.FaultProxy) => ({ host, port })
    return {
      proxies: [...byPort.values()],
      addresses: [...byPort.values()].map(address),
      natMap: Object.fromEntries(
        [...byPort].map(([port, proxy]) => [`127.0.0.1:${port}`, address(proxy)])
      ),
      proxyOf: (key) => Effect.map(cluster.nodeOf(key), ({ port }) => byPort.get(port)!)
    }
  })

const slots = 16384

/** A cluster that serves all slots, until the scope closes. */
export const make = (options: Options = {}): Effect.Effect<RedisCluster, never, Scope.Scope> =>
  Effect.gen(function* () {
    const count = options.masters ?? 3
    const node = RedisServer.make({
      args: [
        ...RedisServer.flags({
          "cluster-enabled": "yes",
          "cluster-announce-ip": "127.0.0.1",
          "cluster-node-timeout": options.nodeTimeout ?? 1000,
          "cluster-replica-validity-factor": 0
        }),
        ...(options.args ?? [])
      ]
    })
    const nodes = yield* Effect.replicateEffect(node, count * (1 + (options.replicas ?? 0)), {
      concurrency: "unbounded"
    })
    const masters = nodes.slice(0, count)
    const replicas = nodes.slice(count)

    for (const [i, { command }] of nodes.entries()) {
      yield* command("CLUSTER", "SET-CONFIG-EPOCH", i + 1)
    }
    for (const [i, { command }] of masters.entries()) {
      const from = Math.floor((i * slots) / count)
      const to = Math.floor(((i + 1) * slots) / count) - 1
      yield* command("CLUSTER", "ADDSLOTSRANGE", from, to)
    }
    // Everybody meets everybody: gossip alone takes seconds.
    for (const { command } of nodes) {
      for (const { host, port } of nodes) yield* command("CLUSTER", "MEET", host, port)
    }
    yield* awaitOk(nodes)
    for (const [i, { command }] of replicas.entries()) {
      const id = yield* masters[i % count]!.command("CLUSTER", "MYID")
      yield* command("CLUSTER", "REPLICATE", String(id))
    }
    for (const replica of replicas) yield* RedisServer.eventually(isReplicaUp(replica))

    return {
      masters,
      replicas,
      addresses: nodes.map(({ host, port }) => ({ host, port })),
      nodeOf: (key) =>
        Effect.gen(function* () {
          const running = nodes.filter((node) => node.isRunning)
          const slot = Number(yield* running[0]!.command("CLUSTER", "KEYSLOT", key))
          const ranges = (yield* running[0]!.command("CLUSTER", "SLOTS")) as ReadonlyArray<Range>
          const range = ranges.find(([from, to]) => from <= slot && slot <= to)
          return nodes.find((node) => node.port === range?.[2][1])!
        }),
      awaitOk: Effect.suspend(() => awaitOk(nodes.filter((node) => node.isRunning)))
    } satisfies RedisCluster
  })

/** From slot, to slot, and the master's host and port. */
type Range = readonly [number, number, readonly [string, number]]

const awaitOk = (nodes: ReadonlyArray<RedisServer.RedisProcess>): Effect.Effect<void> =>
  RedisServer.eventually(
    Effect.map(
      Effect.forEach(nodes, ({ command }) => command("CLUSTER", "INFO")),
      (infos) =>
        infos.every((info) => {
          const known = Number(/cluster_known_nodes:(\d+)/.exec(String(info))?.[1])
          return String(info).includes("cluster_state:ok") && known >= nodes.length
        })
    )
  )

const isReplicaUp = ({ command }: RedisServer.RedisProcess): Effect.Effect<boolean> =>
  Effect.map(command("INFO", "replication"), (info) =>
    /role:slave[^]*master_link_status:up/.test(String(info))
  )
