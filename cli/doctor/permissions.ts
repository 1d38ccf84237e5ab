/** What the user may do, command by command, each by doing it to keys of the doctor's own. */
import { Cluster } from "ioredis"
import { randomBytes } from "node:crypto"
import {
  adviceFor,
  type Finding,
  isDenied,
  isUnknownCommand,
  messageOf,
  note,
  ok,
  type Patient,
  unknown,
  wrong
} from "./finding.js"

/**
 * Of a lock, and of what comes with it; KEYS[1] is a string, [2] a sorted set, [3] a hash. Each of them has
 * a ttl as soon as it is there: what deletes it may be denied.
 */
const inLocks = [
  "TIME",
  "SET $1 x PX 10000",
  "GET $1",
  "EXISTS $1",
  "PEXPIRE $1 10000",
  "PTTL $1",
  "ZADD $2 1 a",
  "PEXPIRE $2 10000",
  "ZSCORE $2 a",
  "ZRANK $2 a",
  "ZRANGE $2 0 0",
  "ZREM $2 a",
  "ZPOPMIN $2",
  "HSET $3 a 1",
  "PEXPIRE $3 10000",
  "HGET $3 a",
  "HDEL $3 a",
  "PUBLISH $c x",
  "DEL $1"
]

const inSemaphores = [
  "ZCARD $2",
  "ZRANGEBYSCORE $2 0 1",
  "ZRANGEBYLEX $2 - +",
  "HINCRBY $3 b 1",
  "PEXPIRE $3 10000",
  "PEXPIREAT $3 1",
  "TYPE $1",
  "GETRANGE $1 0 63",
  "UNLINK $1 $2 $3"
]

const inLooks = ["TYPE $1", "GETRANGE $1 0 63"]

const script = `local denied = {}
for _, line in ipairs(ARGV) do
  local words = {}
  for word in string.gmatch(line, '%S+') do
    local key = string.match(word, '^%$(%d)$')
    words[#words + 1] = key and KEYS[tonumber(key)] or word
  end
  local answer = redis.pcall(unpack(words))
  if type(answer) == 'table' and answer.err then
    denied[#denied + 1] = string.lower(words[1])
    denied[#denied + 1] = answer.err
  end
end
return denied`

export const permissions = async ({ client, prefix }: Patient): Promise<ReadonlyArray<Finding>> => {
  const tag = randomBytes(6).toString("hex")
  const channel = `erl1:${tag}`
  const keys = ["lock-record", "lock-queue", "lock-waiters"].map(
    (name) => `${prefix}{doctor:${tag}}:${name}`
  )
  const failures: Array<string> = []
  /** The names of those that are denied, and not of those that fail for another reason. */
  const run = async (commands: ReadonlyArray<string>) => {
    const lines = commands.map((line) => line.replace("$c", channel))
    const answer = (await client.call(
      "EVAL",
      script,
      keys.length,
      ...keys,
      ...lines
    )) as Array<string>
    const refused = answer.flatMap((name, index) =>
      index % 2 === 0 ? [{ name, error: answer[index + 1]! }] : []
    )
    const others = refused.find(({ error }) => !isDenied(error) && !isUnknownCommand(error))
    failures.push(...(others === undefined ? [] : [others.error]))
    return [
      ...new Set(
        refused
          .filter(({ error }) => isDenied(error) || isUnknownCommand(error))
          .map(({ name }) => name)
      )
    ]
  }
  let denied: ReadonlyArray<string>
  let deniedInSemaphores: ReadonlyArray<string>
  let deniedInLooks: ReadonlyArray<string>
  try {
    denied = await run(inLocks)
    deniedInSemaphores = await run(inSemaphores)
    deniedInLooks = await run(inLooks)
  } catch (error) {
    return [
      wrong(
        "scripts",
        messageOf(error),
        "Every operation of a lock is a script.",
        isDenied(error)
          ? `Allow the user +eval, +evalsha, and the keys ~${prefix}*.`
          : "Connect to the server without what stands between, or to another server."
      )
    ]
  }
  const list = (commands: ReadonlyArray<string>) => commands.map((name) => `+${name}`).join(" ")
  // (without these two, locks are only slower)
  const needed = denied.filter((name) => name !== "publish" && name !== "zrem")
  const findings: Array<Finding> = [ok("scripts", "EVAL, TIME in scripts")]
  const [failure] = failures
  if (failure !== undefined) {
    findings.push(wrong("commands", failure, "No lock can be taken.", adviceFor(failure)))
  } else if (needed.length === 0) findings.push(ok("commands", "all that locks need"))
  if (needed.length > 0) {
    findings.push(
      wrong("commands", `denied: ${needed.join(" ")}`, "No lock can be taken.", list(needed))
    )
  }
  if (denied.includes("zrem")) {
    findings.push(
      note(
        "commands",
        "denied: zrem",
        "A waiter that goes away keeps its place for a claim window.",
        "+zrem"
      )
    )
  }
  if (deniedInSemaphores.length > 0) {
    findings.push(
      note(
        "commands",
        `denied: ${deniedInSemaphores.join(" ")}`,
        "Semaphores and read-write locks need them.",
        list(deniedInSemaphores)
      )
    )
  }
  findings.push(await messages({ client, channel, mayPublish: !denied.includes("publish") }))
  findings.push(await looking(client, prefix, deniedInLooks))
  return findings
}

/** A message to oneself. */
const messages = async ({
  channel,
  client,
  mayPublish
}: {
  readonly client: Patient["client"]
  readonly channel: string
  readonly mayPublish: boolean
}): Promise<Finding> => {
  const why = "Those who wait learn of their turn at their heartbeat, up to a second late."
  if (!mayPublish) return note("messages", "denied: publish", why, "+publish &erl1:*")
  const subscriber = client instanceof Cluster ? client.duplicate() : client.duplicate()
  subscriber.on("error", () => {})
  try {
    await subscriber.subscribe(channel)
    const came = new Promise<boolean>((resolve) => {
      subscriber.once("message", () => resolve(true))
      setTimeout(() => resolve(false), 1_000).unref()
    })
    await client.publish(channel, "x")
    return (await came)
      ? ok("messages", "PUBLISH and SUBSCRIBE")
      : note(
          "messages",
          "a message did not arrive within a second",
          why,
          "See what stands between."
        )
  } catch (error) {
    return note("messages", messageOf(error), why, "+subscribe +unsubscribe &erl1:*")
  } finally {
    subscriber.disconnect()
  }
}

const looking = async (
  client: Patient["client"],
  prefix: string,
  deniedInLooks: ReadonlyArray<string>
): Promise<Finding> => {
  const denied = [...deniedInLooks]
  try {
    await client.call("SCAN", "0", "MATCH", `${prefix}{doctor}:lock-record`)
  } catch (error) {
    if (!isDenied(error)) return unknown("scan", error)
    denied.push("scan")
  }
  return denied.length === 0
    ? ok("scan", "keys can be listed")
    : note(
        "scan",
        `denied: ${denied.join(" ")}`,
        "ls, show and watch, and LockInspector, need them.",
        denied.map((name) => `+${name}`).join(" ")
      )
}
