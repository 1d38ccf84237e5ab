/**
 * Free locks of a quorum of five servers on this machine, beside redlock with the same five.
 *
 *   npm run bench:quorum
 *
 * Each round is of one of them, in turn; both in a process of their own. Prints cycles/s with 64 callers that
 * have keys of their own, and with one: the median of 9 rounds, and the ratio of the medians.
 */
import { fork, spawn } from "node:child_process"
import { mkdtempSync, rmSync } from "node:fs"
import { createServer } from "node:net"
import { createRequire } from "node:module"
import { tmpdir } from "node:os"
import { dirname, join } from "node:path"
import { pathToFileURL } from "node:url"

const nodes = 5
const rounds = 9
const seconds = 2
const ttl = 10_000
const contenders = ["redlock", "effect-redis-lock"]

const root = join(import.meta.dirname, "..")
const ofBench = createRequire(import.meta.url)
const ofRoot = createRequire(join(root, "package.json"))

const openRedlock = (ports) => {
  const { Redis } = ofBench("ioredis")
  const Redlock = ofBench("redlock")
  const clients = ports.map((port) => new Redis(port))
  const locks = new Redlock(clients, { retryCount: -1 })
  return {
    cycle: async (key) => {
      const lock = await locks.lock(key, ttl)
      await lock.unlock()
    },
    run: undefined
  }
}

const openOurs = async (ports) => {
  const load = (path) => import(pathToFileURL(path).href)
  const effect = dirname(ofRoot.resolve("effect/package.json"))
  const Effect = await load(join(effect, "dist/esm/Effect.js"))
  const ManagedRuntime = await load(join(effect, "dist/esm/ManagedRuntime.js"))
  const { Lock, QuorumLockStore, RedisLockStore } = await load(join(root, "dist/index.js"))
  const runtime = ManagedRuntime.make(
    QuorumLockStore.layer({
      nodes: ports.map((port) => RedisLockStore.layer({ url: `redis://127.0.0.1:${port}` })),
      longestTtl: ttl
    })
  )
  return {
    run: (callers, next) =>
      runtime.runPromise(
        Effect.forEach(
          Array.from({ length: callers }, (_, caller) => caller),
          (caller) => {
            const cycle = Effect.suspend(() => {
              const key = next(caller)
              return key === undefined
                ? Effect.void
                : Effect.zipRight(Lock.withLock(key, { ttl })(Effect.void), cycle)
            })
            return cycle
          },
          { concurrency: "unbounded", discard: true }
        )
      )
  }
}

const work = async (name, ports) => {
  const { cycle, run } = name === "redlock" ? openRedlock(ports) : await openOurs(ports)
  const all =
    run ??
    ((callers, next) =>
      Promise.all(
        Array.from({ length: callers }, async (_, caller) => {
          for (let key = next(caller); key !== undefined; key = next(caller)) await cycle(key)
        })
      ))
  process.on("message", async ({ callers, millis }) => {
    let cycles = 0
    const before = performance.now()
    const until = before + millis
    await all(callers, (caller) => {
      if (performance.now() >= until) return undefined
      cycles++
      return `${name}-${caller}`
    })
    process.send({ perSecond: (cycles / (performance.now() - before)) * 1_000 })
  })
  // (servers that are new count after the longest ttl)
  await all(1, once("warm"))
  process.send("ready")
}

const once = (key) => {
  let left = 1
  return () => (left-- > 0 ? key : undefined)
}

const freePort = () =>
  new Promise((resolve) => {
    const server = createServer().listen(0, "127.0.0.1", () => {
      const { port } = server.address()
      server.close(() => resolve(port))
    })
  })

const told = (worker) => new Promise((resolve) => worker.once("message", resolve))
const median = (values) => [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)]

const main = async () => {
  const dir = mkdtempSync(join(tmpdir(), "quorum-"))
  const ports = []
  for (let n = 0; n < nodes; n++) ports.push(await freePort())
  const servers = ports.map((port) =>
    spawn("redis-server", ["--port", port, "--save", "", "--appendonly", "no", "--dir", dir])
  )
  const workers = contenders.map((name) =>
    fork(import.meta.filename ?? new URL(import.meta.url).pathname, [name, ...ports])
  )
  try {
    await Promise.all(workers.map(told))
    console.log(
      "| callers | redlock, cycles/s | effect-redis-lock, cycles/s | ratio |\n| --- | --- | --- | --- |"
    )
    for (const callers of [1, 64]) {
      const found = contenders.map(() => [])
      for (let round = 0; round <= rounds; round++) {
        for (const [index, worker] of workers.entries()) {
          worker.send({ callers, millis: round === 0 ? 500 : seconds * 1_000 })
          const { perSecond } = await told(worker)
          // (the first one is to warm up)
          if (round > 0) found[index].push(perSecond)
        }
      }
      const [theirs, ours] = found.map(median)
      console.log(
        `| ${callers} | ${Math.round(theirs)} | ${Math.round(ours)} | ${(ours / theirs).toFixed(2)} |`
      )
    }
  } finally {
    for (const child of [...workers, ...servers]) child.kill()
    rmSync(dir, { recursive: true, force: true })
  }
}

const [name, ...ports] = process.argv.slice(2)
await (name === undefined ? main() : work(name, ports.map(Number)))
