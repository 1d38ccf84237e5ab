/**
 * A Redis Cluster of real processes as a scoped resource. Its slots can be moved in steps, so that a test
 * can hold the state in the middle, and nodes can join and leave.
 *
 * @example
 * ```ts
 * const cluster = yield* RedisCluster.make()
 * const move = yield* cluster.beginMove("k", yield* cluster.otherThan("k"))
 * // … the slot is on its way: what is not at the source is asked of the target …
 * yield* move.migrate()
 * yield* move.finish
 * ```
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

/** A slot on its way from one master to another: the one is MIGRATING it, the other IMPORTING. */
export interface SlotMove {
  readonly slot: number
  readonly from: RedisServer.RedisProcess
  readonly to: RedisServer.RedisProcess
  /** The keys of the slot that are still at the source. */
  readonly keys: Effect.Effect<ReadonlyArray<string>>
  /** A command on the key that it names first, wherever that is by now (the target is told so by ASKING). */
  readonly command: (
    name: string,
    key: string,
    ...args: ReadonlyArray<string | number>
  ) => Effect.Effect<unknown>
  /** MIGRATE of these keys, by default all that the source has by now. */
  readonly migrate: (keys?: ReadonlyArray<string>) => Effect.Effect<void>
  /** The target serves the slot, and every node knows it. The rest of the keys must have been migrated. */
  readonly finish: Effect.Effect<void>
  /** The source serves the slot, as before. Nothing may have been migrated by then. */
  readonly abort: Effect.Effect<void>
}

export interface RedisCluster {
  /** Those that it began with. */
  readonly masters: ReadonlyArray<RedisServer.RedisProcess>
  readonly replicas: ReadonlyArray<RedisServer.RedisProcess>
  /** All that there are now. */
  readonly nodes: ReadonlyArray<RedisServer.RedisProcess>
  /** Where a client may begin. */
  readonly addresses: ReadonlyArray<{ readonly host: string; readonly port: number }>
  /** The node that serves the key's slot now. */
  readonly nodeOf: (key: string) => Effect.Effect<RedisServer.RedisProcess>
  /** Another master that runs, of those that it began with. */
  readonly otherThan: (key: string) => Effect.Effect<RedisServer.RedisProcess>
  /** Waits until all slots are served and every running node knows it. */
  readonly awaitOk: Effect.Effect<void>
  /** The key's slot begins to move. */
  readonly beginMove: (key: string, to: RedisServer.RedisProcess) => Effect.Effect<SlotMove>
  /** The key's slot moves, with all keys in it. */
  readonly move: (key: string, to: RedisServer.RedisProcess) => Effect.Effect<void>
  /** A master without slots joins. */
  readonly addNode: Effect.Effect<RedisServer.RedisProcess, never, Scope.Scope>
  /** Its slots move to that one, then it leaves, and ends. */
  readonly removeNode: (
    node: RedisServer.RedisProcess,
    to: RedisServer.RedisProcess
  ) => Effect.Effect<void>
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
          "cluster-replica-validity-factor": 0,
          // a master whose last slot has moved stays one
          "cluster-allow-replica-migration": "no"
        }),
        ...(options.args ?? [])
      ]
    })
    const nodes = [
      ...(yield* Effect.replicateEffect(node, count * (1 + (options.replicas ?? 0)), {
        concurrency: "unbounded"
      }))
    ]
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
    for (const one of nodes) yield* meet(one, nodes)
    yield* awaitOk(nodes)
    for (const [i, { command }] of replicas.entries()) {
      const id = yield* masters[i % count]!.command("CLUSTER", "MYID")
      yield* command("CLUSTER", "REPLICATE", String(id))
    }
    for (const replica of replicas) yield* RedisServer.eventually(isReplicaUp(replica))

    const running = () => nodes.filter((node) => node.isRunning)
    const slotOf = (key: string) =>
      Effect.map(running()[0]!.command("CLUSTER", "KEYSLOT", key), Number)
    const ranges = Effect.suspend(() =>
      Effect.map(
        running()[0]!.command("CLUSTER", "SLOTS"),
        (ranges) => ranges as ReadonlyArray<Range>
      )
    )
    const ownerOf = (slot: number) =>
      Effect.map(ranges, (all) => {
        const range = all.find(([from, to]) => from <= slot && slot <= to)
        const owner = nodes.find((node) => node.port === range?.[2][1])
        // (in the middle of a failover)
        if (owner === undefined) throw new Error(`no node is known to have slot ${slot}`)
        return owner
      })
    const nodeOf = (key: string) => Effect.flatMap(slotOf(key), ownerOf)

    const beginMoveOf = (slot: number, to: RedisServer.RedisProcess): Effect.Effect<SlotMove> =>
      Effect.gen(function* () {
        const from = yield* ownerOf(slot)
        const [source, target] = yield* Effect.all([idOf(from), idOf(to)])
        yield* to.command("CLUSTER", "SETSLOT", slot, "IMPORTING", source)
        yield* from.command("CLUSTER", "SETSLOT", slot, "MIGRATING", target)
        const others = () => running().filter((node) => node !== from && node !== to)
        const serves = (node: RedisServer.RedisProcess, id: string) =>
          // (a replica learns of it by its master)
          Effect.whenEffect(node.command("CLUSTER", "SETSLOT", slot, "NODE", id), isMaster(node))
        return {
          slot,
          from,
          to,
          keys: keysIn(from, slot),
          command: (name, key, ...args) =>
            Effect.flatMap(keysIn(from, slot), (keys) =>
              keys.includes(key)
                ? from.command(name, key, ...args)
                : Effect.zipRight(to.command("ASKING"), to.command(name, key, ...args))
            ),
          migrate: (keys) =>
            Effect.flatMap(keys === undefined ? keysIn(from, slot) : Effect.succeed(keys), (keys) =>
              migrate(from, to, keys)
            ),
          // the target first: until it knows, nobody would serve the slot
          finish: Effect.gen(function* () {
            yield* serves(to, target)
            yield* serves(from, target)
            yield* Effect.forEach(others(), (node) => serves(node, target), { discard: true })
            yield* awaitServed(running(), slot, to)
          }),
          abort: Effect.forEach(
            [from, to],
            ({ command }) => command("CLUSTER", "SETSLOT", slot, "STABLE"),
            { discard: true }
          )
        } satisfies SlotMove
      })
    const moveSlot = (slot: number, to: RedisServer.RedisProcess) =>
      Effect.gen(function* () {
        const move = yield* beginMoveOf(slot, to)
        // (a script can still put a key there that was missing, if it found all others)
        yield* move.migrate()
        yield* Effect.repeat(move.migrate(), { until: () => Effect.map(move.keys, isEmpty) })
        yield* move.finish
      })

    return {
      masters,
      replicas,
      nodes,
      addresses: nodes.map(({ host, port }) => ({ host, port })),
      nodeOf,
      otherThan: (key) =>
        Effect.map(nodeOf(key), (owner) =>
          masters.find((node) => node !== owner && node.isRunning)!
        ),
      awaitOk: Effect.suspend(() => awaitOk(running())),
      beginMove: (key, to) => Effect.flatMap(slotOf(key), (slot) => beginMoveOf(slot, to)),
      move: (key, to) => Effect.flatMap(slotOf(key), (slot) => moveSlot(slot, to)),
      addNode: Effect.gen(function* () {
        const added = yield* node
        yield* meet(added, running())
        nodes.push(added)
        yield* awaitOk(running())
        return added
      }),
      removeNode: (node, to) =>
        Effect.gen(function* () {
          for (const [first, last, [, port]] of yield* ranges) {
            if (port !== node.port) continue
            for (let slot = first; slot <= last; slot++) yield* moveSlot(slot, to)
          }
          const id = yield* idOf(node)
          nodes.splice(nodes.indexOf(node), 1)
          for (const { command } of running()) yield* command("CLUSTER", "FORGET", id)
          yield* node.kill
        })
    } satisfies RedisCluster
  })

const isEmpty = (keys: ReadonlyArray<string>): boolean => keys.length === 0

const idOf = ({ command }: RedisServer.RedisProcess) =>
  Effect.map(command("CLUSTER", "MYID"), String)

const keysIn = ({ command }: RedisServer.RedisProcess, slot: number) =>
  Effect.map(
    command("CLUSTER", "GETKEYSINSLOT", slot, 1_000),
    (keys) => keys as ReadonlyArray<string>
  )

/** (A key that has ended meanwhile is not there to be migrated: NOKEY.) */
const migrate = (
  { command }: RedisServer.RedisProcess,
  { host, port }: RedisServer.RedisProcess,
  keys: ReadonlyArray<string>
): Effect.Effect<void> =>
  keys.length === 0
    ? Effect.void
    : Effect.asVoid(command("MIGRATE", host, port, "", 0, 5_000, "REPLACE", "KEYS", ...keys))

/** Waits until every one of them says so. */
const awaitServed = (
  nodes: ReadonlyArray<RedisServer.RedisProcess>,
  slot: number,
  by: RedisServer.RedisProcess
): Effect.Effect<void> =>
  RedisServer.eventually(
    Effect.map(
      Effect.forEach(nodes, ({ command }) => command("CLUSTER", "SLOTS")),
      (answers) =>
        answers.every((ranges) =>
          (ranges as ReadonlyArray<Range>).some(
            ([from, to, [, port]]) => from <= slot && slot <= to && port === by.port
          )
        )
    )
  )

/** From slot, to slot, and the master's host and port. */
type Range = readonly [number, number, readonly [string, number]]

/**
 * Waits until every one of them serves all slots, and knows all others. Who was met, and did not answer within
 * the time of a node on a busy machine, is forgotten: it is met again.
 */
const awaitOk = (nodes: ReadonlyArray<RedisServer.RedisProcess>): Effect.Effect<void> => {
  let metAt = performance.now()
  const look = Effect.forEach(nodes, (node) =>
    Effect.map(
      Effect.all([node.command("CLUSTER", "INFO"), node.command("CLUSTER", "NODES")]),
      ([info, known]) => ({
        node,
        isOk: String(info).includes("cluster_state:ok"),
        knowsAll:
          String(known)
            .split("\n")
            .filter((line) => line !== "" && !line.includes("handshake")).length >= nodes.length
      })
    )
  )
  return RedisServer.eventually(
    Effect.gen(function* () {
      const views = yield* look
      const ignorant = views.filter(({ knowsAll }) => !knowsAll)
      if (ignorant.length > 0 && performance.now() - metAt > 3_000) {
        metAt = performance.now()
        for (const { node } of ignorant) yield* meet(node, nodes)
      }
      return ignorant.length === 0 && views.every(({ isOk }) => isOk)
    })
  )
}

const meet = (
  { command }: RedisServer.RedisProcess,
  nodes: ReadonlyArray<RedisServer.RedisProcess>
) =>
  Effect.forEach(nodes, ({ host, port }) => command("CLUSTER", "MEET", host, port), {
    discard: true
  })

/** Whether it runs, and is one now. */
export const isMaster = (node: RedisServer.RedisProcess): Effect.Effect<boolean> =>
  node.isRunning
    ? Effect.map(node.command("INFO", "replication"), (info) =>
        String(info).includes("role:master")
      )
    : Effect.succeed(false)

const isReplicaUp = ({ command }: RedisServer.RedisProcess): Effect.Effect<boolean> =>
  Effect.map(command("INFO", "replication"), (info) =>
    /role:slave[^]*master_link_status:up/.test(String(info))
  )
