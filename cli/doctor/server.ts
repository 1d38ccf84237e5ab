/** What a server says of itself. */
import type { Redis } from "ioredis"
import { type Finding, note, ok, unknown, wrong } from "./finding.js"

export const ofServer = async (
  server: Redis,
  isCluster: boolean
): Promise<ReadonlyArray<Finding>> => {
  let info: Info
  try {
    info = parse(String(await server.call("INFO")))
  } catch (error) {
    return [unknown("server", error)]
  }
  return [
    version(info),
    mode(info, isCluster),
    eviction(info),
    await persistence(info, server),
    replication(info),
    await slowLog(server)
  ]
}

type Info = Readonly<Record<string, string>>

const parse = (text: string): Info =>
  Object.fromEntries(
    text
      .split("\r\n")
      .filter((line) => line.includes(":") && !line.startsWith("#"))
      .map((line) => [line.slice(0, line.indexOf(":")), line.slice(line.indexOf(":") + 1)])
  )

const version = (info: Info): Finding => {
  const valkey = info["valkey_version"]
  const said = valkey === undefined ? `Redis ${info["redis_version"]}` : `Valkey ${valkey}`
  const [major = 0, minor = 0] = (info["redis_version"] ?? "").split(".").map(Number)
  return valkey !== undefined || major > 6 || (major === 6 && minor >= 2)
    ? ok("server", said)
    : wrong(
        "server",
        said,
        "The scripts need SET with GET, and others that came with Redis 6.2.",
        "Run Redis 6.2 or later, or Valkey."
      )
}

const mode = (info: Info, isCluster: boolean): Finding =>
  info["loading"] === "1"
    ? wrong(
        "mode",
        "the server loads its data",
        "It answers nothing until then.",
        "Wait until it has loaded."
      )
    : info["cluster_enabled"] === "1" && !isCluster
      ? wrong(
          "mode",
          "a node of a Cluster, asked as a single server",
          "Keys of other nodes cannot be reached.",
          "Use --cluster host:port, and RedisLockStore.layerCluster in programs."
        )
      : ok("mode", isCluster ? "Cluster" : (info["redis_mode"] ?? "standalone"))

const eviction = (info: Info): Finding => {
  const policy = info["maxmemory_policy"] ?? "not said"
  const limit = Number(info["maxmemory"] ?? 0)
  return limit === 0
    ? ok("eviction", `no memory limit (${policy})`)
    : policy === "noeviction"
      ? ok("eviction", policy)
      : wrong(
          "eviction",
          `${policy}, with a limit of ${info["maxmemory_human"] ?? limit}`,
          "Where memory is short, the server deletes the key of a lock that is held, and gives it to the next.",
          "CONFIG SET maxmemory-policy noeviction, or a server for locks alone."
        )
}

const persistence = async (info: Info, server: Redis): Promise<Finding> => {
  const why =
    "After a restart the leases are gone: the next holder enters while the last one works on, until its next renewal."
  const advice =
    "appendonly yes and appendfsync always, if a server may restart and that must not happen."
  if (info["aof_enabled"] !== "1") return note("persistence", "no append-only file", why, advice)
  try {
    const [, fsync] = (await server.call("CONFIG", "GET", "appendfsync")) as Array<string>
    const found = `append-only file, fsync ${fsync}`
    return fsync === "always" ? ok("persistence", found) : note("persistence", found, why, advice)
  } catch {
    return ok("persistence", "append-only file; how often it is synced cannot be asked")
  }
}

const replication = (info: Info): Finding => {
  const count = Number(info["connected_slaves"] ?? 0)
  if (info["role"] === "slave") {
    return wrong(
      "replication",
      `a replica of ${info["master_host"]}:${info["master_port"]}`,
      "It cannot be written to.",
      "Connect to the master, or by --sentinel."
    )
  }
  return count === 0
    ? ok("replication", "no replicas")
    : note(
        "replication",
        count === 1 ? "1 replica" : `${count} replicas`,
        "Replication is asynchronous: a failover can lose a grant, and then two hold the lock until the next renewal.",
        "Send the fencing token to what is protected, and let it refuse smaller ones."
      )
}

/** Commands of ours that took long. */
const slowLog = async (server: Redis): Promise<Finding> => {
  try {
    const entries = (await server.call("SLOWLOG", "GET", "128")) as Array<
      [id: number, at: number, micros: number, args: Array<string>]
    >
    const ours = entries.filter(
      ([, , , args]) =>
        /^eval/i.test(args[0] ?? "") && args.some((arg) => /:lock-\w+/.test(String(arg)))
    )
    if (ours.length === 0) return ok("slow log", "no scripts of locks in it")
    const slowest = Math.max(...ours.map(([, , micros]) => micros))
    return note(
      "slow log",
      `${ours.length} scripts of locks, the slowest ${(slowest / 1_000).toFixed(1)} ms`,
      "All clients wait while a script runs.",
      "See whether the machine is busy or swaps; SLOWLOG GET shows which keys these are."
    )
  } catch (error) {
    return unknown("slow log", error)
  }
}
