/** `doctor`: what it says of servers that are well, and of those that are not. */
import { expect } from "@effect/vitest"
import { atOnce } from "../support/atOnce.js"
import * as Effect from "effect/Effect"
import { readFileSync } from "node:fs"
import * as Cli from "../support/Cli.js"
import * as FaultProxy from "../support/FaultProxy.js"
import * as RedisCluster from "../support/RedisCluster.js"
import * as RedisServer from "../support/RedisServer.js"
import * as ShardingProxy from "../support/ShardingProxy.js"

interface Finding {
  readonly check: string
  readonly level: string
  readonly found: string
}

const doctor = (...args: ReadonlyArray<string>) =>
  Effect.map(Cli.run(["doctor", "--json", ...args]), ({ code, stderr, stdout }) => ({
    code,
    stderr,
    findings: stdout
      .split("\n")
      .filter((line) => line !== "")
      .map((line) => JSON.parse(line) as Finding)
  }))

/** What is not as it should be. */
const said = ({ findings }: { readonly findings: ReadonlyArray<Finding> }) =>
  findings
    .filter(({ level }) => level !== "ok")
    .map(({ check, found, level }) => `${level} ${check}: ${found}`)

/** Of a server in memory; and one that is busy may be slow. */
const expected = (line: string): boolean =>
  line === "note persistence: no append-only file" || line.startsWith("note latency")

const page = readFileSync(new URL("../../docs/protocol.md", import.meta.url), "utf8")
const rules = /^ACL SETUSER \S+ (.*)$/m.exec(page)![1]!.split(" ")
const ofSemaphores = /\*\*Semaphores also need `([^`]*)`\*\*/.exec(page)![1]!.split(" ")

atOnce(RedisServer.layer())("doctor", (it) => {
  it.scoped("a server that is well, and what it leaves there", () =>
    Effect.gen(function* () {
      const server = yield* RedisServer.RedisServer
      yield* server.flush
      const end = yield* doctor("--url", server.url)
      expect(end).toMatchObject({ code: 0, stderr: "" })
      expect(said(end).filter((line) => !expected(line))).toEqual([])
      expect(end.findings.map(({ check }) => check)).toEqual([
        "server",
        "mode",
        "eviction",
        "persistence",
        "replication",
        "slow log",
        "scripts",
        "commands",
        "messages",
        "scan",
        "routing",
        "keys",
        "latency"
      ])
      // records of locks stay as always, and what was set for a look has a ttl of seconds
      for (const key of yield* server.dump) {
        expect(yield* server.command("PTTL", key)).toBeGreaterThan(0)
      }
    })
  )

  it.scoped("eviction, other keys, and what a script took", () =>
    Effect.gen(function* () {
      const server = yield* RedisServer.make({
        args: RedisServer.flags({
          maxmemory: "100mb",
          "maxmemory-policy": "allkeys-lru",
          "slowlog-log-slower-than": 0,
          appendonly: "yes",
          appendfsync: "always"
        })
      })
      yield* server.command("LPUSH", "app:list", 1)
      yield* server.command("EVAL", "return 1", 1, "{k}:lock-record")
      const end = yield* doctor("--url", server.url, "--prefix", "app:")
      expect(end.code).toBe(1)
      const lines = said(end).filter((line) => !expected(line))
      expect(lines[0]).toMatch(/^wrong eviction: allkeys-lru, with a limit of 100/)
      expect(lines[1]).toMatch(/^note slow log: \d+ scripts of locks/)
      expect(lines[2]).toMatch(/^note keys: 1 of \d+ keys under the prefix are no locks: app:list$/)
      expect(lines).toHaveLength(3)
    })
  )

  it.scoped("users who may not do everything", () =>
    Effect.gen(function* () {
      const server = yield* RedisServer.RedisServer
      yield* server.flush
      const as = (user: string, ...more: ReadonlyArray<string>) =>
        Effect.zipRight(
          server.command("ACL", "SETUSER", user, ...rules, ...more),
          doctor("--prefix", "locks:", "--url", server.url.replace("//", `//${user}:secret@`))
        )
      const [locks, all, crippled, mute] = yield* Effect.all(
        [
          as("locks"),
          as("all", ...ofSemaphores, "+getrange", "+scan"),
          as("crippled", "-zadd"),
          as("mute", "-eval")
        ],
        { concurrency: 2 }
      )
      const denied = (end: typeof locks) => said(end).filter((line) => line.includes("denied"))
      expect(locks.code).toBe(0)
      const names = ofSemaphores.map((rule) => rule.slice(1)).sort()
      const [ofLocks, scan] = denied(locks)
      expect(ofLocks!.replace("note commands: denied: ", "").split(" ").sort()).toEqual(names)
      expect(scan).toBe("note scan: denied: type getrange scan")
      expect(denied(all)).toEqual([])
      expect(crippled.code).toBe(1)
      expect(denied(crippled)[0]).toBe("wrong commands: denied: zadd")
      expect(mute.code).toBe(1)
      expect(said(mute).join()).toMatch(/wrong scripts: NOPERM/)
    })
  )

  it.scoped("a node of a Cluster, a Cluster, and a proxy that divides keys", () =>
    Effect.gen(function* () {
      const cluster = yield* RedisCluster.make()
      const one = yield* RedisServer.make()
      const other = yield* RedisServer.make()
      const proxy = yield* ShardingProxy.make([one.port, other.port])
      const [{ host, port, url }] = cluster.masters as [RedisServer.RedisProcess]
      const [node, whole, behind] = yield* Effect.all(
        [doctor("--url", url), doctor("--cluster", `${host}:${port}`), doctor("--url", proxy.url)],
        { concurrency: 3 }
      )
      expect(node.code).toBe(1)
      expect(said(node)).toContain("wrong mode: a node of a Cluster, asked as a single server")
      expect(whole.code).toBe(0)
      expect(whole.findings.filter(({ check }) => check === "server")).toHaveLength(3)
      expect(said(behind)).toContain(
        "note routing: something between divides the keys among servers"
      )
    })
  )

  it.scoped("a server that is not there", () =>
    Effect.gen(function* () {
      const end = yield* doctor("--url", "redis://127.0.0.1:1")
      expect(end).toMatchObject({ code: 69, findings: [] })
      expect(end.stderr).toMatch(/^effect-redis-lock: Redis cannot be reached: .*ECONNREFUSED.*\n$/)
    })
  )

  it.scoped("a URL that is wrong is not shown with its password", () =>
    Effect.gen(function* () {
      const urls = ["http://:s3cret@127.0.0.1:1", ":s3cret@127.0.0.1", "redis://:s3cret@:x/0"]
      for (const url of urls) {
        const end = yield* Cli.run(["doctor"], { url })
        expect(end).toMatchObject({ code: 64, stdout: "" })
        expect(end.stderr).toMatch(/^effect-redis-lock: Impossible option url: .*\n$/)
        expect(end.stderr).not.toContain("s3cret")
      }
    })
  )

  it.scoped("a server that wants a password, and one that never answers", () =>
    Effect.gen(function* () {
      const closed = yield* RedisServer.make()
      yield* closed.command("CONFIG", "SET", "requirepass", "s3cret")
      const proxy = yield* FaultProxy.make((yield* RedisServer.RedisServer).port)
      proxy.blackHole()
      const wrong = closed.url.replace("//", "//:other@")
      const [none, other, silent] = yield* Effect.all(
        [closed.url, wrong, proxy.url].map((url) => doctor("--url", url)),
        { concurrency: 3 }
      )
      for (const end of [none!, other!, silent!]) {
        expect(end).toMatchObject({ code: 69, findings: [] })
      }
      expect(none!.stderr).toMatch(/NOAUTH .* Check the user name and the password\.\n$/)
      expect(other!.stderr).toMatch(/WRONGPASS .* Check the user name and the password\.\n$/)
      expect(silent!.stderr).toContain("did not answer within 5000 ms")
    })
  )

  it.scoped("a full server, and a replica, deny no commands", () =>
    Effect.gen(function* () {
      const full = yield* RedisServer.make({ args: RedisServer.flags({ maxmemory: "1" }) })
      const replica = yield* RedisServer.make()
      yield* replica.command("REPLICAOF", "127.0.0.1", 1)
      const [ofFull, ofReplica] = yield* Effect.all(
        [doctor("--url", full.url), doctor("--url", replica.url)],
        { concurrency: 2 }
      )
      for (const [end, word] of [
        [ofFull, "OOM"],
        [ofReplica, "READONLY"]
      ] as const) {
        expect(end.code).toBe(1)
        expect(said(end).join("\n")).toMatch(new RegExp(`wrong commands: .*${word}`))
        expect(said(end).join("\n")).not.toContain("denied")
        expect(said(end).join("\n")).not.toContain("note routing")
      }
    })
  )

  it.scoped("leaves nothing behind where it may not delete", () =>
    Effect.gen(function* () {
      const server = yield* RedisServer.make()
      yield* server.command(
        "ACL",
        "SETUSER",
        "keeper",
        ...rules,
        ...ofSemaphores,
        "-del",
        "-unlink",
        "-zrem",
        "-zpopmin",
        "-hdel",
        "-pexpireat"
      )
      yield* doctor("--prefix", "locks:", "--url", server.url.replace("//", "//keeper:secret@"))
      const own = (yield* server.dump).filter((key) => key.includes("doctor:"))
      expect(own.length).toBeGreaterThan(0)
      for (const key of own) expect(yield* server.command("PTTL", key)).toBeGreaterThan(0)
    })
  )
})
