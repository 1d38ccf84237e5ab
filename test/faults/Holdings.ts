/** What is in a server: who holds a key, and what a replica knows of that. */
import * as Effect from "effect/Effect"
import type * as RedisServer from "../support/RedisServer.js"

/** The tokens that have the key at this moment. */
export const holdersOf = (
  server: RedisServer.RedisProcess,
  key: string
): Effect.Effect<ReadonlyArray<string>> =>
  Effect.gen(function* () {
    if (String(yield* server.command("TYPE", key)) !== "zset") return yield* tokensIn(server, key)
    // (who is there after the end of its ttl holds nothing, and is removed by the next call)
    const time = (yield* server.command("TIME")) as ReadonlyArray<string>
    const [seconds, micros] = time.map(Number)
    const millis = seconds! * 1_000 + Math.floor(micros! / 1_000)
    return (yield* server.command(
      "ZRANGEBYSCORE",
      key,
      `(${millis}`,
      "+inf"
    )) as ReadonlyArray<string>
  })

/** All tokens that the key has, whatever they are there for. */
export const tokensIn = (
  server: RedisServer.RedisProcess,
  key: string
): Effect.Effect<ReadonlyArray<string>> =>
  Effect.gen(function* () {
    switch (String(yield* server.command("TYPE", key))) {
      case "string":
        return [String(yield* server.command("GET", key))]
      case "zset":
        // (in an index, behind what it is ordered by)
        return ((yield* server.command("ZRANGE", key, 0, -1)) as ReadonlyArray<string>).map(
          (member) => member.slice(member.indexOf(" ") + 1)
        )
      case "hash": {
        // the sum of what those hold that stand beside it: by itself, it is of nobody
        const fields = (yield* server.command("HKEYS", key)) as ReadonlyArray<string>
        return fields.length === 1 ? fields : fields.filter((field) => field !== "in-use")
      }
      default:
        return []
    }
  })

/** Of each key the last fencing token, and of each holder the end of its ttl (by the wall clock, in ms). */
export interface Held {
  readonly fences: Readonly<Record<string, number>>
  readonly ends: Readonly<Record<string, number>>
}

/** As far as a replica has heard of it. */
export const heldBy = (replica: RedisServer.RedisProcess): Effect.Effect<Held> =>
  Effect.gen(function* () {
    const { command, dump } = replica
    // (only a Cluster's has to be told)
    yield* Effect.ignore(Effect.sandbox(command("READONLY")))
    const fences: Record<string, number> = {}
    const ends: Record<string, number> = {}
    for (const name of yield* dump) {
      const [, key, companion] = /^\{?(.*?)\}?(?::lock-(\w+))?$/.exec(name)!
      if (companion === "record") {
        fences[key!] = Number(/^\d+/.exec(String(yield* command("GET", name)))?.[0] ?? 0)
      } else if (companion === undefined) {
        if (String(yield* command("TYPE", name)) === "zset") {
          const all = (yield* command("ZRANGE", name, 0, -1, "WITHSCORES")) as Array<string>
          for (let i = 0; i < all.length; i += 2) ends[all[i]!] = Number(all[i + 1])
        } else {
          const token = String(yield* command("GET", name))
          ends[token] = Date.now() + Number(yield* command("PTTL", name))
        }
      }
    }
    return { fences, ends }
  })
