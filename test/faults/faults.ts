/** The faults: each begins, lasts for as long as asked, and is over when its effect ends. */
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import * as Fs from "node:fs"
import * as Path from "node:path"
import * as Failover from "../support/Failover.js"
import type { FaultProxy, Latency } from "../support/FaultProxy.js"
import { eventually, type RedisProcess } from "../support/RedisServer.js"
import type { Crew, Worker } from "./Crew.js"
import { type Event, now } from "./History.js"
import { heldBy } from "./Holdings.js"
import type { Topology } from "./Rows.js"

/** Where a fault happens. */
export interface Scene {
  readonly crew: Crew
  readonly worker: Worker
  /** The worker's own, where the row has proxies. */
  readonly proxy: FaultProxy | undefined
  /** The hot key's. */
  readonly server: RedisProcess | undefined
  readonly record: (event: Event) => void
  /** In [0, 1), from the plan's seed. */
  readonly random: () => number
  /** Of those that the run uses, the keys of the server. */
  readonly keys: ReadonlyArray<string>
  /** The plan's, in milliseconds. */
  readonly ttl: number
  /** How long the worker's way to the server is by the plan, without faults. */
  readonly link: Latency
}

export interface Fault {
  readonly on: "process" | "store" | "network"
  /** What it uses of a proxy or a server: of those that use the same, one at a time. */
  readonly uses?:
    "latency" | "link" | "requests" | "answers" | "messages" | "connections" | "subscriber"
  /** The only rows that can be given it. */
  readonly in?: ReadonlyArray<Topology>
  /** In multiples of the ttl, for random plans. */
  readonly lasts: readonly [number, number]
  /** By its own definition the store forgets leases: then only fencing can tell two holders apart. */
  readonly forgets?: true
  /** By itself it costs nobody a lease, and no call fails of it. */
  readonly harmless?: true
  /** In how many of the random plans it stays to the end of the run, when all are through. */
  readonly stays?: number
  /** `millis` can be infinite: then it ends by interruption. */
  readonly run: (scene: Scene, millis: number) => Effect.Effect<void>
}

/**
 * How long the way to the server and back may be for a lease to be kept, as a part of its ttl. It is
 * renewed after a half, and given up a tenth before its end.
 */
export const longestWay = 1 / 3

const during = (begin: () => void, end: () => void) => (millis: number) =>
  Effect.acquireUseRelease(
    Effect.sync(begin),
    () => Effect.sleep(millis),
    () => Effect.sync(end)
  )

const network = (
  uses: NonNullable<Fault["uses"]>,
  lasts: Fault["lasts"],
  run: (proxy: FaultProxy, millis: number, scene: Scene) => Effect.Effect<void>
): Fault => ({
  on: "network",
  uses,
  lasts,
  run: (scene, millis) =>
    scene.proxy === undefined ? Effect.void : run(scene.proxy, millis, scene)
})

const server = (
  lasts: Fault["lasts"],
  run: (server: RedisProcess, millis: number, scene: Scene) => Effect.Effect<void>
): Fault => ({
  on: "store",
  lasts,
  run: (scene, millis) =>
    scene.server === undefined ? Effect.void : run(scene.server, millis, scene)
})

/** Again and again while it lasts, and once at the end. */
const repeatedly = (millis: number, every: number, step: () => void, end: () => void) =>
  Effect.ensuring(
    Effect.raceFirst(
      Effect.forever(Effect.zipRight(Effect.sync(step), Effect.sleep(every))),
      Effect.sleep(millis)
    ),
    Effect.sync(end)
  )

/** Until it has read its data. */
const restarted = ({ command, restart }: RedisProcess): Effect.Effect<void> =>
  Effect.zipRight(
    restart,
    eventually(
      Effect.match(Effect.sandbox(command("PING")), {
        onFailure: () => false,
        onSuccess: (reply) => reply === "PONG"
      })
    )
  )

/** Whoever it is, and the others have its data. */
const oneIsMaster = (servers: ReadonlyArray<RedisProcess>): Effect.Effect<void> =>
  eventually(
    Effect.map(
      Effect.forEach(servers, ({ command }) =>
        Effect.match(Effect.sandbox(command("INFO", "replication")), {
          onFailure: () => "away" as const,
          onSuccess: (info) =>
            /role:master/.test(String(info))
              ? ("master" as const)
              : /master_link_status:up/.test(String(info))
                ? ("follows" as const)
                : ("away" as const)
        })
      ),
      (roles) => roles.filter((role) => role === "master").length === 1 && !roles.includes("away")
    )
  )

/**
 * What it lasts, and how often a subscriber tried meanwhile to come back, in each of these slots.
 * The connections there belong to nobody else, where nothing else is wrong.
 */
const refusing = (
  { crew, record }: Scene,
  slots: ReadonlyArray<number>,
  fault: Effect.Effect<void>
): Effect.Effect<void> =>
  Effect.suspend(() => {
    const at = now()
    const before = slots.flatMap((slot) => {
      const proxy = crew.proxies[slot]
      if (proxy === undefined) return []
      const worker = crew.workers[slot]!.name
      return [{ proxy, worker, opened: proxy.opened, sent: proxy.requests.length }]
    })
    const count = Effect.sync(() => {
      for (const { opened, proxy, sent, worker } of before) {
        const subscribes = new Map<number, number>()
        for (const { args, connection } of proxy.requests.slice(sent)) {
          if (!subscribe(args)) continue
          subscribes.set(connection, (subscribes.get(connection) ?? 0) + 1)
        }
        record({
          _tag: "Refused",
          at: now(),
          from: at,
          worker,
          connections: proxy.opened - opened,
          subscribes: Math.max(0, ...subscribes.values())
        })
      }
    })
    return Effect.ensuring(fault, count)
  })

const subscriberRefused = (run: (proxy: FaultProxy, millis: number) => Effect.Effect<void>) => ({
  ...network("subscriber", [1, 3], (proxy, millis, scene) =>
    refusing(scene, [scene.crew.proxies.indexOf(proxy)], run(proxy, millis))
  ),
  harmless: true as const,
  stays: 0.3
})

const everySubscriberRefused = (
  run: (server: RedisProcess, millis: number) => Effect.Effect<void>
) => ({
  ...server([1, 3], (server, millis, scene) =>
    refusing(
      scene,
      scene.crew.workers.map((_, slot) => slot),
      run(server, millis)
    )
  ),
  uses: "subscriber" as const,
  harmless: true as const,
  stays: 0.3
})

const subscribe = ([name = ""]: ReadonlyArray<string>): boolean => /^subscribe$/i.test(name)

/** Scripts, which is to say: what the library sends. */
const scripts = (args: ReadonlyArray<string>): boolean => /^eval(sha)?$/i.test(args[0] ?? "")

export const faults = {
  // --- the process of a client
  killed: {
    on: "process",
    lasts: [0, 0],
    run: ({ crew, record, worker }) =>
      Effect.gen(function* () {
        yield* worker.kill
        crew.dead.set(worker.storeId, worker.name)
        record({ _tag: "Killed", at: now(), worker: worker.name })
      })
  },
  stopped: {
    on: "process",
    lasts: [0.3, 2.5],
    run: ({ worker }, millis) =>
      during(
        () => worker.signal("SIGSTOP"),
        () => worker.signal("SIGCONT")
      )(millis)
  },
  blocked: {
    on: "process",
    lasts: [0.3, 2.5],
    run: ({ worker }, millis) =>
      Effect.zipRight(
        Effect.sync(() => worker.order({ _tag: "Block", millis: Math.round(millis) })),
        Effect.sleep(millis)
      )
  },
  "clock moved": {
    on: "process",
    lasts: [0, 0],
    run: ({ random, worker }) =>
      Effect.sync(() => worker.order({ _tag: "SetClock", by: (random() - 0.5) * 7_200_000 }))
  },

  // --- the store
  "redis stopped": server([0.3, 2], ({ cont, stop }, millis) =>
    Effect.acquireUseRelease(
      stop,
      () => Effect.sleep(millis),
      () => cont
    )
  ),
  "debug sleep": server([0.2, 1.5], ({ command }, millis) =>
    Effect.asVoid(command("DEBUG", "SLEEP", (millis / 1000).toFixed(3)))
  ),
  "client pause": server([0.2, 1.5], ({ command }, millis) =>
    Effect.zipRight(command("CLIENT", "PAUSE", Math.round(millis), "ALL"), Effect.sleep(millis))
  ),
  restart: server([0, 0], restarted),
  "restart empty": {
    ...server([0, 0], (server) =>
      Effect.zipRight(
        server.kill,
        Effect.suspend(() => {
          const data = Path.join(server.dir, "appendonlydir")
          Fs.rmSync(data, { recursive: true, force: true })
          return restarted(server)
        })
      )
    ),
    forgets: true
  },
  flushall: {
    ...server([0, 0], ({ command }) => Effect.asVoid(command("FLUSHALL"))),
    forgets: true
  },
  "script flush": server([0, 0], ({ command }) => Effect.asVoid(command("SCRIPT", "FLUSH"))),
  "client kill": server([0, 0], ({ command }) =>
    Effect.asVoid(command("CLIENT", "KILL", "USER", "default"))
  ),
  "out of memory": server([0.5, 2], ({ command }, millis) =>
    Effect.acquireUseRelease(
      command("CONFIG", "SET", "maxmemory", 1),
      () => Effect.sleep(millis),
      () => command("CONFIG", "SET", "maxmemory", 0)
    )
  ),
  // of a master that nobody ever hears of: its own data stays
  readonly: server([0.5, 2], ({ command }, millis) =>
    Effect.acquireUseRelease(
      command("REPLICAOF", "127.0.0.1", 1),
      () => Effect.sleep(millis),
      () => command("REPLICAOF", "NO", "ONE")
    )
  ),
  // a master that lives is asked to step down
  failover: {
    on: "store",
    in: ["sentinel"],
    lasts: [0, 0],
    forgets: true,
    run: ({ crew: { sentinel, servers } }) =>
      sentinel === undefined
        ? Effect.void
        : // until then the old master goes on giving leases to those who have not heard of it
          Effect.zipRight(sentinel.failover, oneIsMaster(servers))
  },
  // what it does in its last moments, its replica does not hear of
  "master dies": {
    on: "store",
    in: ["sentinel", "cluster"],
    lasts: [0, 0.6],
    run: ({ crew: { servers, standby }, keys, record, server }, millis) =>
      Effect.gen(function* () {
        if (server === undefined || standby === undefined) return
        const replica = yield* standby.replicaOf(server)
        yield* Failover.cutOff(server, replica)
        const wallCutAt = Date.now()
        const had = yield* heldBy(replica)
        yield* Effect.sleep(millis)
        yield* server.kill
        const died = { diedAt: now(), wallDiedAt: Date.now() }
        record({ _tag: "TakenOver", at: died.diedAt, ...died, wallCutAt, keys, ...had })
        yield* standby.takeOver(server)
        yield* restarted(server)
        yield* standby.follow(server, replica)
        yield* oneIsMaster(servers.length > 2 ? [server, replica] : servers)
      })
  },
  // some of its keys are where it came from for a while, and some where it goes
  "slot moves": {
    on: "store",
    in: ["cluster"],
    lasts: [0, 1.5],
    run: ({ crew: { cluster, masters }, keys, random, server }, millis) =>
      Effect.gen(function* () {
        if (server === undefined || cluster === undefined) return
        const others = (yield* masters).filter((one) => one !== server)
        const to = others[Math.floor(random() * others.length)]!
        const move = yield* cluster.beginMove(keys[0]!, to)
        yield* Effect.sleep(millis / 3)
        yield* Effect.ignore(
          Effect.sandbox(
            Effect.flatMap(move.keys, (keys) => move.migrate(keys.filter(() => random() < 0.5)))
          )
        )
        yield* Effect.sleep(millis / 3)
        yield* Effect.ignore(Effect.sandbox(move.migrate()))
        yield* Effect.sleep(millis / 3)
        // (a script can still put a key there that was missing, if it found all others)
        const whole = Effect.repeat(move.migrate(), {
          until: () => Effect.map(move.keys, ({ length }) => length === 0)
        }).pipe(Effect.zipRight(move.finish))
        // (who waits for a slot on its way does so until it has come, or for ever)
        yield* Effect.retry(Effect.sandbox(whole), Schedule.spaced(50)).pipe(Effect.orDie)
      })
  },

  // Redis cuts the subscriptions that there are, and says NOPERM to new ones
  "subscribers forbidden": everySubscriberRefused(({ command }, millis) =>
    Effect.acquireUseRelease(
      command("ACL", "SETUSER", "default", "resetchannels"),
      () => Effect.sleep(millis),
      () => command("ACL", "SETUSER", "default", "allchannels")
    )
  ),
  "no more clients": everySubscriberRefused(({ clients, command }, millis) =>
    Effect.acquireUseRelease(
      Effect.gen(function* () {
        const subscribers = (yield* clients).filter(({ sub }) => sub !== "0").length
        const info = String(yield* command("INFO", "clients"))
        const all = Number(/connected_clients:(\d+)/.exec(info)![1])
        yield* command("CONFIG", "SET", "maxclients", Math.max(1, all - subscribers))
        yield* command("CLIENT", "KILL", "TYPE", "pubsub")
      }),
      () => Effect.sleep(millis),
      () => command("CONFIG", "SET", "maxclients", 10_000)
    )
  ),

  // --- the network of a client, through its proxy
  "latency jumps": {
    ...network("link", [2, 5], (proxy, millis, { link, random, ttl }) =>
      during(
        () => {
          const way = ttl * longestWay * (0.6 + 0.4 * random())
          const there = random()
          proxy.link({ toServer: way * there, toClient: way * (1 - there) })
        },
        () => proxy.link(link)
      )(millis)
    ),
    harmless: true,
    stays: 0.8
  },
  delay: network("latency", [1, 3], (proxy, millis, { random }) =>
    during(
      () => proxy.delay({ toServer: random() * 100, toClient: random() * 100 }),
      () => proxy.delay({})
    )(millis)
  ),
  "late answers": network("latency", [1, 3], (proxy, millis) =>
    during(
      () => proxy.delay({ toClient: 300 }),
      () => proxy.delay({})
    )(millis)
  ),
  // slowly, so that no answer is missed before there are none at all
  // (it ends a black hole: beside another one it would let a stream go on that has lost bytes)
  "later and later": network("connections", [2, 3], (proxy, millis) =>
    Effect.gen(function* () {
      for (const [late, share] of [
        [100, 0.15],
        [300, 0.35]
      ] as const) {
        proxy.delay({ toClient: late })
        yield* Effect.sleep(millis * share)
      }
      proxy.blackHole()
      yield* Effect.sleep(millis / 2)
    }).pipe(
      Effect.ensuring(
        Effect.sync(() => {
          proxy.heal()
          proxy.delay({})
        })
      )
    )
  ),
  jitter: network("latency", [1, 3], (proxy, millis, { random }) =>
    repeatedly(
      millis,
      10,
      () => proxy.delay({ toServer: random() * 60, toClient: random() * 60 }),
      () => proxy.delay({})
    )
  ),
  "black hole": network("connections", [0.3, 3], (proxy, millis) =>
    during(
      () => proxy.blackHole(),
      () => proxy.heal()
    )(millis)
  ),
  "half-open": network("connections", [0.3, 3], (proxy, millis) => {
    const existing = new Set(proxy.connections.map(({ id }) => id))
    return during(
      () => proxy.blackHole({ drop: true, where: ({ id }) => existing.has(id) }),
      () => {
        proxy.heal()
        proxy.cutWhere(({ id }) => existing.has(id))
      }
    )(millis)
  }),
  // they are dead for good, and there is no FIN or RST to tell
  "connections lead nowhere": {
    ...network("connections", [0, 0], (proxy) => Effect.sync(() => proxy.abandon())),
    harmless: true
  },
  // a load balancer's idle timeout: nobody asks for anything, and then everybody does
  "idle connections lead nowhere": {
    ...network("connections", [0.3, 1], (proxy, millis, { worker }) =>
      Effect.gen(function* () {
        while (worker.has("Resting")) yield* worker.next("Resting")
        worker.order({ _tag: "Rest" })
        yield* Effect.timeoutOption(worker.next("Resting"), 5_000)
        yield* Effect.sleep(millis)
        proxy.abandon()
      }).pipe(Effect.ensuring(Effect.sync(() => worker.order({ _tag: "Wake" }))))
    ),
    harmless: true
  },
  "requests held": network("requests", [0.3, 2], (proxy, millis) =>
    during(
      () => proxy.holdRequests(),
      () => proxy.releaseRequests()
    )(millis)
  ),
  "answers held": network("answers", [0.3, 2], (proxy, millis) =>
    during(
      () => proxy.holdReplies({ where: ({ subscriber }) => !subscriber }),
      () => proxy.releaseReplies()
    )(millis)
  ),
  "messages held": network("messages", [0.3, 2], (proxy, millis) =>
    during(
      () => proxy.holdMessages(),
      () => proxy.releaseMessages()
    )(millis)
  ),
  "messages lost": network("messages", [0.5, 2], (proxy, millis) =>
    Effect.suspend(() => {
      const { disarm } = proxy.dropNextMessage(1_000)
      return Effect.ensuring(Effect.sleep(millis), Effect.sync(disarm))
    })
  ),
  "reset after apply": network("connections", [0.5, 2], (proxy, millis) =>
    Effect.suspend(() => {
      const { disarm } = proxy.resetAfterApply(scripts, 4)
      return Effect.ensuring(Effect.sleep(millis), Effect.sync(disarm))
    })
  ),
  "reset before apply": network("connections", [0.5, 2], (proxy, millis) =>
    Effect.suspend(() => {
      const { disarm } = proxy.resetBeforeApply(scripts, 4)
      return Effect.ensuring(Effect.sleep(millis), Effect.sync(disarm))
    })
  ),
  // what a connection had sent arrives after it was cut, and after what its successor sent
  reordered: network("requests", [0.3, 1.5], (proxy, millis) => {
    const existing = new Set(proxy.connections.map(({ id }) => id))
    return Effect.acquireUseRelease(
      Effect.sync(() =>
        proxy.holdRequests({ afterClose: "deliver", where: ({ id }) => existing.has(id) })
      ),
      () => Effect.sleep(millis),
      () => Effect.sync(() => proxy.releaseRequests())
    )
  }),
  throttled: network("requests", [1, 3], (proxy, millis) => {
    let open = true
    return repeatedly(
      millis,
      20,
      () => {
        open = !open
        if (open) {
          proxy.releaseRequests()
          proxy.releaseReplies()
        } else {
          proxy.holdRequests({ afterClose: "deliver" })
          proxy.holdReplies({ afterClose: "deliver" })
        }
      },
      () => {
        proxy.releaseRequests()
        proxy.releaseReplies()
      }
    )
  }),
  // as a proxy does that knows no SUBSCRIBE: each time that it sees one it cuts the connection
  "subscriber cut": subscriberRefused((proxy, millis) =>
    Effect.suspend(() => {
      const { disarm } = proxy.resetBeforeApply(subscribe, Number.POSITIVE_INFINITY)
      proxy.cutSubscribers()
      return Effect.ensuring(Effect.sleep(millis), Effect.sync(disarm))
    })
  ),
  // new connections are accepted, and silent
  "subscriber never greeted": {
    ...subscriberRefused((proxy, millis) =>
      Effect.suspend(() => {
        proxy.cutSubscribers()
        const existing = new Set(proxy.connections.map(({ id }) => id))
        return during(
          () => proxy.blackHole({ where: ({ id }) => !existing.has(id) }),
          () => proxy.heal()
        )(millis)
      })
    ),
    // (it is the proxy's only black hole)
    uses: "connections"
  },
  refused: network("connections", [0.3, 2], (proxy, millis) =>
    during(
      () => {
        proxy.refuse()
        proxy.cutAll()
      },
      () => proxy.accept()
    )(millis)
  )
} satisfies Record<string, Fault>

export type FaultName = keyof typeof faults

export const faultNames = Object.keys(faults) as ReadonlyArray<FaultName>

export const faultNamed = (name: FaultName): Fault => faults[name]
