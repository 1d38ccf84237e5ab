/** Whether what is asked together is answered together, and what else there is under the prefix. */
import { randomBytes } from "node:crypto"
import type { Redis } from "ioredis"
import { shown } from "../output.js"
import {
  type Finding,
  isDenied,
  messageOf,
  note,
  ok,
  type Patient,
  refusesWrites,
  unknown
} from "./finding.js"

/** Sixteen keys that are set by a call each, and looked for by one. */
export const routing = async ({ client, isCluster, prefix }: Patient): Promise<Finding> => {
  if (isCluster) return ok("routing", "by slots, as a Cluster does it")
  const tag = randomBytes(6).toString("hex")
  const keys = Array.from({ length: 16 }, (_, index) => `${prefix}${tag}:${index}:lock-record`)
  const advice = "Connect to one server, if that is not meant."
  const why =
    "Locks that are asked for together do not travel together, and messages may not reach those who wait."
  try {
    for (const key of keys) {
      await client.call("EVAL", "redis.call('SET', KEYS[1], 1, 'PX', 10000)", 1, key)
    }
    const look =
      "local n = 0 for _, key in ipairs(KEYS) do n = n + redis.call('EXISTS', key) end return n"
    const found = await client.call("EVAL", look, keys.length, ...keys)
    return Number(found) === keys.length
      ? ok("routing", "one server has all keys")
      : note("routing", `something between divides the keys among servers`, why, advice)
  } catch (error) {
    return refusesWrites(error) || isDenied(error)
      ? unknown("routing", error)
      : note("routing", messageOf(error), why, advice)
  }
}

const most = 10_000

/** Keys under the prefix that are no locks. */
export const otherKeys = async ({ masters, prefix }: Patient): Promise<Finding> => {
  const examples: Array<string> = []
  let count = 0
  let looked = 0
  try {
    for (const server of masters) {
      for await (const keys of keysOf(server, prefix)) {
        looked += keys.length
        const others = await othersAmong(server, keys)
        count += others.length
        examples.push(...others.slice(0, Math.max(0, 3 - examples.length)))
        if (looked >= most) break
      }
    }
  } catch (error) {
    return unknown("keys", error)
  }
  const ofAll = `${count} of ${looked}${looked >= most ? " (the first)" : ""} keys`
  return count === 0
    ? ok("keys", `${looked} under the prefix, and no others than those of locks`)
    : note(
        "keys",
        `${ofAll} under the prefix are no locks: ${examples.map(shown).join(", ")}`,
        "A lock of such a name fails, or stays locked until somebody deletes the key.",
        "Give locks a prefix, or a database, of their own."
      )
}

async function* keysOf(server: Redis, prefix: string): AsyncGenerator<ReadonlyArray<string>> {
  const pattern = `${prefix.replace(/[*?[\]\\]/g, "\\$&")}*`
  let cursor = "0"
  do {
    const [next, keys] = await server.scan(cursor, "MATCH", pattern, "COUNT", 500)
    yield keys
    cursor = next
  } while (cursor !== "0")
}

/** What has a ttl, or belongs to a lock, may be one. */
const othersAmong = async (
  server: Redis,
  keys: ReadonlyArray<string>
): Promise<ReadonlyArray<string>> => {
  const names = keys.filter((key) => !/:lock-\w+$/.test(key))
  if (names.length === 0) return []
  const pipeline = server.pipeline()
  for (const key of names) pipeline.type(key).pttl(key)
  const answers = (await pipeline.exec()) ?? []
  return names.filter((_, index) => {
    const [, type] = answers[2 * index]!
    const [, ttl] = answers[2 * index + 1]!
    return type !== "none" && (!["string", "zset", "hash"].includes(String(type)) || ttl === -1)
  })
}
