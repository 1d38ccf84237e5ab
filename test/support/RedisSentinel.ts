/**
 * A master, its replicas and their Sentinels, real processes, as one scoped resource.
 */
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import * as RedisServer from "./RedisServer.js"

export interface Options {
  /** Default: 1. */
  readonly replicas?: number | undefined
  /** Default: 3. */
  readonly sentinels?: number | undefined
  /** Arguments of the master and the replicas. */
  readonly args?: ReadonlyArray<string> | undefined
  /** In milliseconds, of silence until a Sentinel thinks that the master is down. Default: 500. */
  readonly downAfter?: number | undefined
  /** In milliseconds, after which Sentinels give a failover up that does not come on. Default: 3000. */
  readonly failoverTimeout?: number | undefined
}

export interface RedisSentinel {
  /** The name under which the Sentinels know the master. */
  readonly name: "mymaster"
  /** Where the Sentinels are. */
  readonly addresses: ReadonlyArray<{ readonly host: string; readonly port: number }>
  readonly sentinels: ReadonlyArray<RedisServer.RedisProcess>
  /** The first master, then the replicas. */
  readonly servers: ReadonlyArray<RedisServer.RedisProcess>
  /** The master according to the Sentinels that run. */
  readonly master: Effect.Effect<RedisServer.RedisProcess>
  /** Promotes a replica while the master is alive; ends when the Sentinels agree on the new one. */
  readonly failover: Effect.Effect<RedisServer.RedisProcess>
  /** Waits until the Sentinels agree on another master than this one, and it is one. */
  readonly awaitMasterOtherThan: (
    old: RedisServer.RedisProcess
  ) => Effect.Effect<RedisServer.RedisProcess>
}

const name = "mymaster"

/** A group in which every Sentinel knows the replicas and the other Sentinels. */
export const make = (options: Options = {}): Effect.Effect<RedisSentinel, never, Scope.Scope> =>
  Effect.gen(function* () {
    const first = yield* RedisServer.make({ args: options.args })
    const replicas = yield* Effect.replicateEffect(
      RedisServer.make({
        args: [
          ...RedisServer.flags({ replicaof: [first.host, `${first.port}`] }),
          ...(options.args ?? [])
        ]
      }),
      options.replicas ?? 1
    )
    const servers = [first, ...replicas]
    const count = options.sentinels ?? 3
    const quorum = Math.floor(count / 2) + 1
    const sentinels = yield* Effect.replicateEffect(
      RedisServer.make({
        sentinel: [
          `sentinel monitor ${name} ${first.host} ${first.port} ${quorum}`,
          `sentinel down-after-milliseconds ${name} ${options.downAfter ?? 500}`,
          `sentinel failover-timeout ${name} ${options.failoverTimeout ?? 3_000}`
        ]
      }),
      count
    )

    const masterOf = (sentinel: RedisServer.RedisProcess) =>
      Effect.map(sentinel.command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", name), (address) => {
        const port = Number((address as ReadonlyArray<string>)[1])
        const master = servers.find((server) => server.port === port)
        if (master === undefined) throw new Error(`a Sentinel says that port ${port} is the master`)
        return master
      })
    const running = () => sentinels.filter((sentinel) => sentinel.isRunning)
    const master = Effect.suspend(() => masterOf(running()[0]!))
    const awaitMasterOtherThan = (old: RedisServer.RedisProcess) =>
      Effect.zipRight(
        RedisServer.eventually(
          Effect.gen(function* () {
            const masters = yield* Effect.forEach(running(), masterOf)
            const next = masters[0]!
            if (next === old || !next.isRunning || masters.some((other) => other !== next)) {
              return false
            }
            return String(yield* next.command("INFO", "replication")).includes("role:master")
          })
        ),
        master
      )

    yield* RedisServer.eventually(
      Effect.map(
        Effect.forEach(sentinels, ({ command }) => command("SENTINEL", "MASTER", name)),
        (answers) =>
          answers.every((answer) => {
            const fields = answer as ReadonlyArray<string>
            const field = (key: string) => fields[fields.indexOf(key) + 1]
            return (
              field("flags") === "master" &&
              field("num-slaves") === `${replicas.length}` &&
              field("num-other-sentinels") === `${count - 1}`
            )
          })
      )
    )
    return {
      name,
      addresses: sentinels.map(({ host, port }) => ({ host, port })),
      sentinels,
      servers,
      master,
      failover: Effect.gen(function* () {
        const old = yield* master
        // Sentinels give a failover up that takes too long; one may be going on already
        const begin = Effect.suspend(() => running()[0]!.command("SENTINEL", "FAILOVER", name))
        return yield* Effect.zipRight(
          Effect.ignore(Effect.sandbox(begin)),
          awaitMasterOtherThan(old)
        ).pipe(Effect.timeout("10 seconds"), Effect.retry(Schedule.forever), Effect.orDie)
      }),
      awaitMasterOtherThan
    } satisfies RedisSentinel
  })
