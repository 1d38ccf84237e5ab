/**
 * The processes of a row: servers, proxies, workers and the register, as one scoped resource. A
 * worker that was killed is replaced by another one in its slot.
 */
import * as Effect from "effect/Effect"
import * as Scope from "effect/Scope"
import * as ChildProcess from "node:child_process"
import { fileURLToPath } from "node:url"
import { bundled } from "../support/bundled.js"
import * as Changes from "../support/Changes.js"
import * as Failover from "../support/Failover.js"
import * as FaultProxy from "../support/FaultProxy.js"
import * as RedisCluster from "../support/RedisCluster.js"
import * as RedisQuorum from "../support/RedisQuorum.js"
import * as RedisSentinel from "../support/RedisSentinel.js"
import * as RedisServer from "../support/RedisServer.js"
import { type Event, now } from "./History.js"
import * as Register from "./Register.js"
import type { Face, Place, Row } from "./Rows.js"
import type { News, Order } from "./worker.js"

export interface Worker {
  readonly name: string
  /** By which its tokens are known. */
  readonly storeId: string
  readonly isAlive: () => boolean
  readonly order: (order: Order) => void
  readonly signal: (signal: NodeJS.Signals) => void
  /** SIGKILL; ends when the process has ended. */
  readonly kill: Effect.Effect<void>
  /** The first news of a kind that were not taken before; nothing from a process that has ended. */
  readonly next: <Tag extends News["_tag"]>(
    tag: Tag
  ) => Effect.Effect<Extract<News, { readonly _tag: Tag }> | undefined>
  readonly has: (tag: News["_tag"]) => boolean
  /** Ends when the process has ended, with what it had to say if it was not killed by us. */
  readonly ended: Effect.Effect<string | undefined>
}

export interface Crew {
  readonly row: Row
  readonly register: Register.Register
  /** All servers that hold data. */
  readonly servers: ReadonlyArray<RedisServer.RedisProcess>
  /** Those of them that are masters now. */
  readonly masters: Effect.Effect<ReadonlyArray<RedisServer.RedisProcess>>
  readonly sentinel: RedisSentinel.RedisSentinel | undefined
  readonly cluster: RedisCluster.RedisCluster | undefined
  /** Where a replica can take over. */
  readonly standby: Failover.Standby | undefined
  /** The server of a key. */
  readonly serverOf: (key: string) => Effect.Effect<RedisServer.RedisProcess>
  /** One for each slot, where the row has proxies. */
  readonly proxies: ReadonlyArray<FaultProxy.FaultProxy>
  /** The worker in each slot, now. */
  readonly workers: Array<Worker>
  /** Puts new workers where the old ones have ended. */
  readonly refill: Effect.Effect<void>
  /** Of all workers that ever were here and have been killed: store id to name. */
  readonly dead: Map<string, string>
  /** What was going on when a run was cut off. */
  readonly waitsFor: Array<string>
  /** Closes the workers as their programs would, and says what is left of them. */
  readonly close: Effect.Effect<ReadonlyArray<Event>>
}

const file = fileURLToPath(new URL("./worker.ts", import.meta.url))
const onEffect4 = ["--import", new URL("../effect4/as3/register.mjs", import.meta.url).href]

export interface Options {
  /** Default: the row's. */
  readonly processes?: number | undefined
  /** More of the workers' environment. */
  readonly env?: Readonly<Record<string, string>> | undefined
}

export const make = (row: Row, options: Options = {}): Effect.Effect<Crew, never, Scope.Scope> =>
  Effect.gen(function* () {
    const register = yield* Register.listen
    const { addresses, ...standing } = yield* stand(row)
    const { servers } = standing
    const count = options.processes ?? row.processes
    const slots = Array.from({ length: count }, (_, slot) => slot)
    const proxies =
      row.topology === "redis behind proxies"
        ? yield* Effect.forEach(slots, () => FaultProxy.make(servers[0]!.port))
        : []
    const dead = new Map<string, string>()
    let generation = 0
    const start = (slot: number) =>
      startWorker(
        {
          ...process.env,
          ...row.env,
          ...options.env,
          FAULTS_WORKER: `p${slot}${generation === 0 ? "" : `.${generation}`}`,
          FAULTS_ROW: row.name,
          FAULTS_REGISTER: `${register.port}`,
          FAULTS_PLACE: JSON.stringify({
            url: (proxies[slot] ?? servers[0])?.url ?? "",
            addresses
          } satisfies Place)
        },
        row.faces[slot % row.faces.length]!
      )
    const scope = yield* Effect.scope
    const workers = yield* Effect.forEach(slots, start, { concurrency: 2 })
    const refill = Effect.suspend(() => {
      generation++
      return Effect.forEach(
        slots.filter((slot) => !workers[slot]!.isAlive()),
        (slot) => Effect.map(start(slot), (worker) => (workers[slot] = worker)),
        { concurrency: 2, discard: true }
      )
    }).pipe(Scope.extend(scope))
    return {
      row,
      register,
      ...standing,
      proxies,
      workers,
      refill,
      dead,
      waitsFor: [],
      close: Effect.suspend(() => close(workers, servers))
    }
  })

// -----------------------------------------------------------------------------
// servers
// -----------------------------------------------------------------------------

interface Standing extends Pick<
  Crew,
  "servers" | "masters" | "serverOf" | "sentinel" | "cluster" | "standby"
> {
  readonly addresses: Place["addresses"]
}

const nothing: Standing = {
  servers: [],
  masters: Effect.succeed([]),
  addresses: [],
  serverOf: () => Effect.never,
  sentinel: undefined,
  cluster: undefined,
  standby: undefined
}

const stand = (row: Row): Effect.Effect<Standing, never, Scope.Scope> =>
  Effect.gen(function* () {
    const args = row.redisArgs
    switch (row.topology) {
      case "none":
        return nothing
      case "redis":
      case "redis behind proxies": {
        const server = yield* RedisServer.make({ args })
        const servers = [server]
        const masters = Effect.succeed(servers)
        return { ...nothing, servers, masters, serverOf: () => Effect.succeed(server) }
      }
      case "cluster": {
        // failovers are the plan's to make, here and below: on a busy machine they come by themselves
        const cluster = yield* RedisCluster.make({ args, replicas: 1, nodeTimeout: Failover.never })
        return {
          ...nothing,
          servers: cluster.nodes,
          masters: Effect.filter(cluster.nodes, RedisCluster.isMaster),
          addresses: cluster.addresses,
          serverOf: cluster.nodeOf,
          cluster,
          standby: Failover.ofCluster(cluster)
        }
      }
      case "quorum": {
        const servers = yield* RedisQuorum.make(3, { args })
        yield* Effect.forEach(servers, RedisQuorum.join, { discard: true })
        return {
          ...nothing,
          servers,
          masters: Effect.succeed(servers),
          addresses: servers.map(({ host, port }) => ({ host, port })),
          serverOf: () => Effect.succeed(servers[0]!)
        }
      }
      case "sentinel": {
        const sentinel = yield* RedisSentinel.make({
          args,
          downAfter: Failover.never,
          failoverTimeout: 10_000
        })
        return {
          ...nothing,
          servers: sentinel.servers,
          masters: Effect.map(sentinel.master, (master) => [master]),
          addresses: sentinel.addresses,
          serverOf: () => sentinel.master,
          sentinel,
          standby: Failover.ofSentinels(sentinel)
        }
      }
    }
  })

// -----------------------------------------------------------------------------
// workers
// -----------------------------------------------------------------------------

const startWorker = (
  env: NodeJS.ProcessEnv,
  face: Face
): Effect.Effect<Worker, never, Scope.Scope> =>
  Effect.gen(function* () {
    const changes = Changes.make()
    const news: Array<News> = []
    let output = ""
    let ended = false
    let killed = false
    let closed = false
    const child = yield* Effect.acquireRelease(
      Effect.sync(() => {
        const child = ChildProcess.spawn(
          process.execPath,
          [
            "--expose-gc",
            ...(face === 4
              ? ["--import", "tsx", ...onEffect4, file]
              : [bundled(file, env["TSX_TSCONFIG_PATH"])])
          ],
          { env, stdio: ["ignore", "pipe", "pipe", "ipc"] }
        )
        child.on("message", (message) => {
          news.push(message as News)
          closed ||= (message as News)._tag === "Closed"
          changes.announce()
        })
        const collect = (chunk: Buffer) => (output = (output + chunk).slice(-4_000))
        child.stdout!.on("data", collect)
        child.stderr!.on("data", collect)
        child.once("exit", () => {
          ended = true
          changes.announce()
        })
        return child
      }),
      (child) => Effect.sync(() => child.kill("SIGKILL"))
    )
    const next: Worker["next"] = (tag) => {
      const find = () => news.findIndex(({ _tag }) => _tag === tag)
      return Effect.map(
        changes.until(() => find() !== -1 || ended),
        () => (find() === -1 ? undefined : news.splice(find(), 1)[0]) as never
      )
    }
    const exit = Effect.map(
      changes.until(() => ended),
      () =>
        // (it kills itself where nothing is left for it to do)
        killed || child.exitCode === 0 || (closed && child.signalCode === "SIGKILL")
          ? undefined
          : `${child.exitCode} ${output}`.trim()
    )
    const ready = yield* next("Ready")
    if (ready === undefined) throw new Error(`a worker did not start: ${output}`)
    return {
      name: env["FAULTS_WORKER"]!,
      storeId: ready.storeId,
      isAlive: () => !ended,
      order: (order) => {
        if (!ended && child.connected) child.send(order, () => {})
      },
      signal: (signal) => void child.kill(signal),
      kill: Effect.suspend(() => {
        killed = true
        child.kill("SIGKILL")
        return Effect.asVoid(exit)
      }),
      next,
      has: (tag) => news.some(({ _tag }) => _tag === tag),
      ended: exit
    }
  })

const patience = 5_000

/** A worker that is told to close ends by itself, and its connections with it. */
const close = (
  workers: ReadonlyArray<Worker>,
  servers: ReadonlyArray<RedisServer.RedisProcess>
): Effect.Effect<ReadonlyArray<Event>> =>
  Effect.gen(function* () {
    const left: Array<Event> = []
    const add = (where: string, what: string) => left.push({ _tag: "Left", at: now(), where, what })
    const soon = Effect.timeoutTo({
      duration: patience,
      onSuccess: (value: unknown) => ({ value }),
      onTimeout: () => undefined
    })
    yield* Effect.forEach(
      workers.filter((worker) => worker.isAlive()),
      (worker) =>
        Effect.gen(function* () {
          worker.order({ _tag: "Close" })
          const closed = yield* worker.next("Closed").pipe(soon)
          const resources = (closed?.value as { left?: ReadonlyArray<string> } | undefined)?.left
          if (resources === undefined) add(worker.name, "did not close")
          else if (resources.length > 0) add(worker.name, `has ${resources.join(", ")} still`)
          const ended = yield* worker.ended.pipe(soon)
          if (ended === undefined) add(worker.name, "does not end by itself")
          else if (ended.value !== undefined) add(worker.name, `ended with ${String(ended.value)}`)
        }),
      { concurrency: "unbounded" }
    )
    for (const server of servers) {
      if (!server.isRunning) continue
      // (Sentinels watch their servers as the default user, by connections with names; a node of a Cluster keeps
      // the one over which a slot came, for a while)
      const clients = Effect.map(server.clients, (clients) =>
        clients.filter(
          ({ cmd, name }) => name?.startsWith("sentinel-") !== true && cmd !== "restore-asking"
        )
      )
      const gone = yield* RedisServer.eventually(
        Effect.map(clients, ({ length }) => length === 0)
      ).pipe(soon)
      if (gone !== undefined) continue
      for (const client of yield* clients) {
        add(`redis ${server.port}`, `connection ${client["addr"]}, last command ${client["cmd"]}`)
      }
    }
    return left
  })
