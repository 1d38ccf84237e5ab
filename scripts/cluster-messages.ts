/**
 * Measures what the messages of handoffs cost in a Cluster, where PUBLISH reaches every node: messages, bytes
 * and processor time of the node that has the key, and of each other one. Prints the table of
 * docs/protocol.md.
 *
 *   npm run cluster-messages                         takes about a minute
 *   npm run cluster-messages -- --smoke              takes some ten seconds
 *   npm run cluster-messages -- --nodes 3,6,12 --handoffs 4000
 *
 * Two stores hand one key to each other. What the nodes do while nobody asks them for anything, in as much time,
 * is subtracted. Bytes are those that a process reads and writes: of Linux alone.
 */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Fs from "node:fs"
import { parseArgs } from "node:util"
import { Lock, RedisLockStore } from "effect-redis-lock"
import * as RedisCluster from "../test/support/RedisCluster.js"
import type * as RedisServer from "../test/support/RedisServer.js"
import { announceRedisServer } from "../test/setup.js"

const { values } = parseArgs({
  options: {
    smoke: { type: "boolean", default: false },
    nodes: { type: "string", default: "3,6" },
    handoffs: { type: "string" }
  }
})
const handoffs = Number(values.handoffs ?? (values.smoke ? 200 : 2_000))
const sizes = values.nodes.split(",").map(Number)

/** What a node has used since it was started. */
interface Usage {
  readonly messages: number
  readonly bytes: number
  readonly micros: number
}

const usageOf = ({ command, pid }: RedisServer.RedisProcess): Effect.Effect<Usage> =>
  Effect.gen(function* () {
    const bus = String(yield* command("CLUSTER", "INFO"))
    const cpu = String(yield* command("INFO", "cpu"))
    const io = Fs.existsSync(`/proc/${pid}/io`) ? Fs.readFileSync(`/proc/${pid}/io`, "utf8") : ""
    const number = (text: string, name: string) =>
      Number(new RegExp(`^${name}:\\s*([\\d.]+)`, "m").exec(text)?.[1] ?? 0)
    return {
      messages: number(bus, "cluster_stats_messages_publish_sent"),
      bytes: number(io, "rchar") + number(io, "wchar"),
      micros: (number(cpu, "used_cpu_user") + number(cpu, "used_cpu_sys")) * 1e6
    }
  })

const less = (a: Usage, b: Usage): Usage => ({
  messages: a.messages - b.messages,
  bytes: a.bytes - b.bytes,
  micros: a.micros - b.micros
})

/** What each node used during an effect, and how many milliseconds that took. */
const during = <A, E, R>(
  nodes: ReadonlyArray<RedisServer.RedisProcess>,
  effect: Effect.Effect<A, E, R>
) =>
  Effect.gen(function* () {
    const before = yield* Effect.forEach(nodes, usageOf)
    const startedAt = performance.now()
    yield* effect
    const millis = performance.now() - startedAt
    const after = yield* Effect.forEach(nodes, usageOf)
    return { used: after.map((usage, index) => less(usage, before[index]!)), millis }
  })

const measure = (masters: number) =>
  Effect.gen(function* () {
    const cluster = yield* RedisCluster.make({ masters, nodeTimeout: 5_000 })
    const { addresses, nodes } = cluster
    const stores = yield* Effect.replicateEffect(
      Layer.build(
        RedisLockStore.layerCluster({
          nodes: addresses,
          localHandoff: 0,
          // (a busy machine)
          commandTimeout: "1 minute"
        })
      ),
      2
    )
    // one holds it and the other one waits: each release but the last is a handoff
    const turns = (count: number) =>
      Effect.forEach(
        stores,
        (store) =>
          Effect.provide(
            Effect.repeatN(Lock.withLock("k", { ttl: "10 seconds" })(Effect.void), count / 2 - 1),
            store
          ),
        { concurrency: "unbounded", discard: true }
      )
    yield* turns(100)
    const busy = yield* during(nodes, turns(handoffs))
    const idle = yield* during(nodes, Effect.sleep(busy.millis))
    const owner = nodes.indexOf(yield* cluster.nodeOf("k"))
    const perHandoff = (index: number): Usage => {
      const { bytes, messages, micros } = less(busy.used[index]!, idle.used[index]!)
      return { messages: messages / handoffs, bytes: bytes / handoffs, micros: micros / handoffs }
    }
    const others = nodes.flatMap((_, index) => (index === owner ? [] : [perHandoff(index)]))
    // (one of them may have the stores' connections for messages, or both: the rest only pass them on)
    const least = others.reduce((a, b) => (b.bytes < a.bytes ? b : a))
    return { masters, owner: perHandoff(owner), least, millis: busy.millis }
  }).pipe(Effect.scoped)

const row = (cells: ReadonlyArray<string | number>) => `| ${cells.join(" | ")} |`

await Effect.runPromise(
  Effect.gen(function* () {
    yield* Effect.promise(() => announceRedisServer())
    const rows = [
      row([
        "masters",
        "messages sent by the key's node",
        "its processor time",
        "bytes of each other node",
        "its processor time"
      ]),
      row(["---:", "---:", "---:", "---:", "---:"])
    ]
    for (const size of sizes) {
      const { least, masters, owner } = yield* measure(size)
      rows.push(
        row([
          masters,
          owner.messages.toFixed(1),
          `${owner.micros.toFixed(0)} µs`,
          least.bytes.toFixed(0),
          `${least.micros.toFixed(0)} µs`
        ])
      )
    }
    console.log(rows.join("\n"))
  })
)
