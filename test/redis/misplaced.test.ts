/** Options that lead to the wrong kind of place: the first command says so, or the layer. */
import { expect, layer } from "@effect/vitest"
import * as Config from "effect/Config"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import { Lock, type LockError, type LockStore, RedisLockStore } from "effect-redis-lock"
import * as RedisCluster from "../support/RedisCluster.js"
import { connectedClient, failure, quietly, RedisServer, storeOf } from "./support.js"

interface Place {
  readonly server: RedisServer.RedisProcess
  readonly sentinel: RedisServer.RedisProcess
  readonly cluster: RedisCluster.RedisCluster
  /** Of the Cluster, and of a master that is not the first. */
  readonly key: string
}

class Places extends Context.Tag("test/misplaced/Places")<Places, Place>() {}

const places = Layer.scoped(
  Places,
  Effect.gen(function* () {
    const server = yield* RedisServer.make()
    const sentinel = yield* RedisServer.make({
      sentinel: [`sentinel monitor m ${server.host} ${server.port} 1`]
    })
    const cluster = yield* RedisCluster.make()
    for (let i = 0; ; i++) {
      const key = `k${i}`
      if ((yield* cluster.nodeOf(key)) !== cluster.masters[0]) {
        return { server, sentinel, cluster, key }
      }
    }
  })
)

const at = ({ host, port }: RedisServer.RedisProcess) => ({ host, port })

/** What the first command says of a store. */
const firstError = <E>(store: Layer.Layer<LockStore.LockStore, E>, key: string) =>
  quietly(
    Effect.gen(function* () {
      const { use } = yield* storeOf(store)
      return failure(yield* Effect.exit(Lock.withLock(key)(Effect.void).pipe(use)))
    })
  )

const commandTimeout = 500

layer(places, { excludeTestServices: true, timeout: "30 seconds" })("where it is said", (it) => {
  const cases: Readonly<
    Record<
      string,
      readonly [
        (place: Place) => Layer.Layer<LockStore.LockStore, LockError.LockStoreError>,
        RegExp
      ]
    >
  > = {
    "a Cluster by the URL of one of its nodes": [
      ({ cluster }) => RedisLockStore.layer({ url: cluster.masters[0]!.url, commandTimeout }),
      /^MOVED .* a node of a Cluster: use RedisLockStore\.layerCluster/
    ],
    "a server as a Cluster": [
      ({ server }) => RedisLockStore.layerCluster({ nodes: [at(server)], commandTimeout }),
      /cluster support disabled.* use RedisLockStore\.layer\./
    ],
    "a Sentinel as a Cluster": [
      ({ sentinel }) => RedisLockStore.layerCluster({ nodes: [at(sentinel)], commandTimeout }),
      /unknown command.* no node of a Cluster/
    ],
    "a Sentinel by its URL": [
      ({ sentinel }) => RedisLockStore.layer({ url: sentinel.url, commandTimeout }),
      /^The address is that of a Sentinel.* sentinels: /
    ],
    "a server as a Sentinel": [
      ({ server }) => RedisLockStore.layer({ sentinels: [at(server)], name: "m", commandTimeout }),
      /unknown command.* not of a Sentinel/
    ],
    "a name that no Sentinel knows": [
      ({ sentinel }) =>
        RedisLockStore.layer({ sentinels: [at(sentinel)], name: "nobody", commandTimeout }),
      /^No Sentinel knows a master named "nobody": check the option name\.$/
    ],
    "the same, where only that is asked": [
      ({ sentinel }) =>
        RedisLockStore.layer({
          sentinels: [at(sentinel)],
          name: "nobody",
          commandTimeout,
          redis: { updateSentinels: false }
        }),
      /^No Sentinel knows a master named "nobody": check the option name\.$/
    ]
  }
  for (const [name, [store, text]] of Object.entries(cases)) {
    it.scoped(name, () =>
      Effect.gen(function* () {
        const place = yield* Places
        const error = yield* firstError(store(place), place.key)
        expect(error).toMatchObject({ _tag: "LockStoreError", transient: false })
        const { detail } = error as LockError.LockStoreError
        expect(
          detail.replace(
            /^Redis did not answer within 500 ms\. (The connection's last error: )?/,
            ""
          )
        ).toMatch(text)
      })
    )
  }

  it.scoped("a Cluster by a client for one server", () =>
    Effect.gen(function* () {
      const { cluster, key } = yield* Places
      const client = yield* connectedClient(cluster.masters[0]!.port)
      const error = yield* firstError(RedisLockStore.layerFromClient(client), key)
      expect(String(error)).toContain("layerFromClient with a Cluster client")
    })
  )
})

const sentinels = ["127.0.0.1:26379"]
const withSentinels: ReadonlyArray<readonly [unknown, string]> = [
  [{ sentinels: [], name: "m" }, "sentinels: []. It must be a list with at least one address"],
  [{ sentinels: "127.0.0.1:1", name: "m" }, "sentinels: 127.0.0.1:1. It must be a list"],
  [{ sentinels: [{ host: "a" }], name: "m" }, "sentinels[0].port: undefined. It must be { host"],
  [{ sentinels: [...sentinels, { port: 1 }], name: "m" }, "sentinels[1].host: undefined."],
  [{ sentinels: [{ host: "a", port: 65_536 }], name: "m" }, "sentinels[0].port: 65536."],
  [{ sentinels: ["127.0.0.1"], name: "m" }, "sentinels[0]: 127.0.0.1. It must be"],
  [{ sentinels: [null], name: "m" }, "sentinels[0]: null."],
  [{ sentinels }, "name: undefined. It must be the name by which the Sentinels know the master"],
  [{ sentinels, name: "" }, "name: . It must be the name"],
  [{ name: "m" }, "name: m. It is that of a master which Sentinels know: sentinels must say"],
  [{ redis: { name: "m" } }, "name: m. It is that of a master"],
  [
    { sentinels, name: "m", url: "redis://:s3cret@127.0.0.1" },
    "url: <redacted>. The master is where the sentinels say"
  ],
  [{ sentinels, name: "m", redis: { role: "slave" } }, "redis.role: slave. Locks are kept by"],
  [{ redis: { sentinels: [] }, name: "m" }, "sentinels: []. It must be a list"]
]
const withNodes: ReadonlyArray<readonly [unknown, string]> = [
  [{}, "nodes: undefined. It must be a list with at least one address"],
  [{ nodes: [] }, "nodes: []. It must be a list"],
  [{ nodes: [{ host: "a" }] }, "nodes[0].port: undefined. It must be { host, port }"],
  [{ nodes: ["redis://:s3cret@a:1"] }, "nodes[0]: redis://***@a:1. It must be"],
  [{ nodes: ["a:1"], redis: 5 }, "redis: 5. It must be an object"],
  [{ nodes: ["a:1"], cluster: 5 }, "cluster: 5. It must be an object"],
  [{ nodes: ["a:1"], redis: { db: 1 } }, "redis.db: 1. A Cluster has only the database 0."],
  [{ nodes: ["a:1"], redis: { sentinels } }, "redis.sentinels: [object Array]. A Cluster has no"],
  [{ nodes: ["a:1"], prefix: 5 }, "prefix: 5. It must be a string."]
]

layer(Layer.empty, { excludeTestServices: true })("what is impossible fails the layer", (it) => {
  type Make = (options: never) => Layer.Layer<LockStore.LockStore, unknown>
  const makes: ReadonlyArray<readonly [string, Make, Make, typeof withNodes]> = [
    ["of one server", RedisLockStore.layer, RedisLockStore.layerConfig, withSentinels],
    ["of a Cluster", RedisLockStore.layerCluster, RedisLockStore.layerClusterConfig, withNodes]
  ]
  for (const [name, make, fromConfig, options] of makes) {
    it.effect(name, () =>
      Effect.gen(function* () {
        for (const [given, text] of options) {
          for (const one of [make(given as never), fromConfig(given as never)]) {
            const error = String(yield* Effect.flip(Effect.scoped(Layer.build(one))))
            expect(error).toContain(`Impossible option ${text}`)
            expect(error).not.toContain("s3cret")
          }
        }
      })
    )
  }

  it.scoped("addresses can be strings, also of IPv6, and come from Config", () =>
    Effect.gen(function* () {
      yield* Layer.build(
        RedisLockStore.layerClusterConfig({
          nodes: Config.succeed(["127.0.0.1:1", "[::1]:2", { host: "::1", port: 3 }]),
          username: Config.succeed<string>("user"),
          password: Config.succeed(Redacted.make("s3cret")),
          cluster: { lazyConnect: Config.succeed(true) }
        })
      )
    })
  )
})
