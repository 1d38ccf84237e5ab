/** The demo, and the examples that say what happens, run as a user runs them: as processes. */
import { expect, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { spawn } from "node:child_process"
import { once } from "node:events"
import { join } from "node:path"
import * as Changes from "./support/Changes.js"
import * as RedisServer from "./support/RedisServer.js"

// ---------------------------------------------------------------- helpers

interface Ended {
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
  readonly stdout: string
  readonly stderr: string
}

/** An example as a process, which ends with the scope at the latest. */
const start = (name: string, redisUrl?: string, env: Readonly<Record<string, string>> = {}) =>
  Effect.gen(function* () {
    const child = yield* Effect.acquireRelease(
      Effect.sync(() =>
        spawn(process.execPath, ["--import", "tsx", join("examples", name)], {
          cwd: join(import.meta.dirname, ".."),
          env: { ...process.env, FORCE_COLOR: "", REDIS_URL: redisUrl ?? "", ...env },
          stdio: ["ignore", "pipe", "pipe"]
        })
      ),
      (child) => Effect.sync(() => child.kill("SIGKILL"))
    )
    const changes = Changes.make()
    const output = { stdout: "", stderr: "" }
    for (const name of ["stdout", "stderr"] as const) {
      child[name].setEncoding("utf8").on("data", (chunk: string) => {
        output[name] += chunk
        changes.announce()
      })
    }
    let hasClosed = false
    const closed = once(child, "close").then(([code, signal]): Ended => {
      hasClosed = true
      changes.announce()
      return { code, signal, ...output }
    })
    return {
      kill: (signal: NodeJS.Signals) => Effect.sync(() => child.kill(signal)),
      /** Waits until it has printed this; a process that ends without is a defect. */
      printed: (text: string) =>
        changes
          .until(() => output.stdout.includes(text) || hasClosed)
          .pipe(
            Effect.filterOrDieMessage(
              () => output.stdout.includes(text),
              `${name} ended without printing "${text}"`
            )
          ),
      ended: Effect.promise(() => closed)
    }
  })

const run = (name: string, redisUrl?: string) =>
  Effect.scoped(Effect.flatMap(start(name, redisUrl), (process) => process.ended))

/** What the demo's summary says, in numbers; all of them at once, so that a failure shows all. */
const summaryOf = ({ stdout }: Ended) => {
  const number = (pattern: RegExp) => Number(pattern.exec(stdout)?.[1] ?? Number.NaN)
  return {
    lostWithout: number(/holds +without the lock +(\d+) of 8 updates lost/),
    lostWith: number(/holds +with the lock +(\d+) of 8 updates lost/),
    grants: number(/holds +fencing tokens +(\d+) grants/),
    aheadMillis: number(/holds +a lease lost +holder interrupted (\d+) ms before/),
    balance: number(/holds +its late write +refused by the account, balance (\d+)/)
  }
}

const expectGoodDemo = (ended: Ended) => {
  expect(ended).toMatchObject({ code: 0 })
  const summary = summaryOf(ended)
  expect(summary).toMatchObject({ lostWith: 0, grants: 10, balance: 50 })
  expect(summary.lostWithout).toBeGreaterThan(0)
  expect(summary.aheadMillis).toBeGreaterThan(0)
  expect(ended.stdout).not.toContain("FALSE")
  expect(ended.stdout.split("\n").length).toBeLessThan(45)
}

// ---------------------------------------------------------------- tests

layer(RedisServer.layer(), { excludeTestServices: true })("examples", (it) => {
  it.effect("the demo shows what it says, on the store in memory", () =>
    Effect.gen(function* () {
      const ended = yield* run("demo.ts")
      expectGoodDemo(ended)
      expect(ended.stdout).toContain("Leases are kept in this process's memory")
    })
  )

  it.effect("the demo shows what it says, on Redis, and leaves nothing locked there", () =>
    Effect.gen(function* () {
      const server = yield* RedisServer.RedisServer
      const ended = yield* run("demo.ts", server.url)
      expectGoodDemo(ended)
      expect(ended.stdout).toContain(`Leases are kept in Redis at ${server.host}:${server.port}`)
      for (const key of ["probe", "account:42"]) {
        expect(yield* server.command("EXISTS", `effect-redis-lock-demo:${key}`)).toBe(0)
      }
    })
  )

  it.effect("the demo says in one sentence that Redis is not there", () =>
    Effect.gen(function* () {
      const port = yield* RedisServer.freePort
      const ended = yield* run("demo.ts", `redis://127.0.0.1:${port}`)
      expect(ended).toMatchObject({ code: 1, stdout: "" })
      expect(ended.stderr).toMatch(/^The demo ended early: .*ECONNREFUSED.*$/m)
      expect(ended.stderr).not.toMatch(/^ +at /m)
    })
  )

  it.effect("an order is charged once with a record of it, and again under the lock alone", () =>
    Effect.gen(function* () {
      const ended = yield* run("managed-runtime.ts")
      expect(ended).toMatchObject({ code: 0, stderr: "" })
      expect(ended.stdout).toMatch(/^under the lock alone: .*; charged [23] times$/m)
      expect(ended.stdout).toMatch(/^with a record of it: .*, 200; charged once$/m)
    })
  )

  it.effect("a class with async methods gets the lock's own errors, and its work's", () =>
    Effect.gen(function* () {
      const server = yield* RedisServer.RedisServer
      for (const url of [undefined, server.url]) {
        const ended = yield* run("service-class.ts", url)
        expect(ended).toMatchObject({ code: 0, stderr: "" })
        expect(ended.stdout).toBe(
          "200 order 42 is paid\n423 somebody is paying this order, with Retry-After\n404 there is no order 43\n"
        )
      }
    })
  )

  it.effect("workers of a queue do one job at a time for a customer, on the queue's client", () =>
    Effect.gen(function* () {
      const server = yield* RedisServer.RedisServer
      const ended = yield* run("queue-worker.ts", server.url)
      expect(ended).toMatchObject({ code: 0, stderr: "" })
      expect(ended.stdout).toMatch(/^30 of 30 charges, 1 at a time for a customer, [23] in all\n$/)
      expect(yield* server.command("EXISTS", "examples:customer:ada")).toBe(0)
    })
  )

  it.effect(
    "a pod that is terminated gives its lock back, one that is killed leaves it to its ttl",
    () =>
      Effect.gen(function* () {
        const server = yield* RedisServer.RedisServer
        yield* server.flush
        const ended = yield* run("kubernetes.ts", server.url)
        expect(ended).toMatchObject({ code: 0, stderr: "" })
        const waited = (signal: string) =>
          Number(new RegExp(`^${signal}: .* after (\\d+) ms`, "m").exec(ended.stdout)?.[1])
        expect(waited("SIGTERM")).toBeLessThan(1_000)
        // (of 3 s, renewed after the half)
        expect(waited("SIGKILL")).toBeGreaterThan(1_300)
        expect(waited("SIGKILL")).toBeLessThan(6_000)
        expect(yield* server.command("EXISTS", "examples:indexer")).toBe(0)
      }),
    // (three processes start, one after the other)
    120_000
  )

  it.effect("a partner that takes three calls at a time gets no more, and refuses none", () =>
    Effect.gen(function* () {
      const ended = yield* run("partner-api.ts")
      expect(ended).toMatchObject({ code: 0, stderr: "" })
      expect(ended.stdout).toBe("30 calls by 1 process(es): at most 3 at a time, 0 refused\n")
    })
  )

  it.effect(
    "the leader writes each report, once, also over changes of leader, in memory and on Redis",
    () =>
      Effect.gen(function* () {
        const server = yield* RedisServer.RedisServer
        yield* server.flush
        for (const url of [undefined, server.url]) {
          const ended = yield* run("leader.ts", url)
          expect(ended).toMatchObject({ code: 0, stderr: "" })
          const found = (pattern: RegExp) =>
            [...ended.stdout.matchAll(pattern)].map(([, one]) => one)
          // each after the one before has cleaned up, with a term of its own
          expect(found(/^(\w+: (?:leads|has cleaned up))/gm)).toEqual(
            ["first", "second", "third"].flatMap((name) => [
              `${name}: leads`,
              `${name}: has cleaned up`
            ])
          )
          const terms = found(/: leads, term (\d+)$/gm).map(Number)
          expect(terms).toEqual([...new Set(terms)].sort((a, b) => a - b))
          // the observer is told the same, in the same order; a vacancy that is short it may miss
          expect(found(/^ +\(\w+ leads, term (\d+)\)$/gm).map(Number)).toEqual(terms)
          // whoever writes a report leads
          let leader: string | undefined
          for (const line of ended.stdout.split("\n")) {
            const [, name, what] = /^(\w+): (leads|report|has cleaned up)/.exec(line) ?? []
            if (what === "leads") leader = name
            if (what === "has cleaned up") leader = undefined
            if (what === "report") expect(name).toBe(leader)
          }
          const reports = found(/: report of (\S+),/g)
          expect(reports.length).toBeGreaterThanOrEqual(3)
          expect(reports).toEqual([...new Set(reports)].sort())
        }
      })
  )

  it.effect("transfers that name accounts in all orders come to an end, and lose nothing", () =>
    Effect.gen(function* () {
      const server = yield* RedisServer.RedisServer
      for (const url of [undefined, server.url]) {
        const ended = yield* run("transfer.ts", url)
        expect(ended).toMatchObject({ code: 0, stderr: "" })
        expect(ended.stdout).toBe("alice: 100\nbob: 100\ncarol: 120\ntotal: 320\n")
      }
    })
  )

  it.effect(
    "nor does it over three processes, on Redis, and nothing stays held",
    () =>
      Effect.gen(function* () {
        const server = yield* RedisServer.RedisServer
        yield* server.flush
        const ended = yield* run("partner-api.ts", server.url)
        expect(ended).toMatchObject({ code: 0, stderr: "" })
        expect(ended.stdout).toBe("90 calls by 3 process(es): at most 3 at a time, 0 refused\n")
        expect(yield* server.command("EXISTS", "examples:partner-api")).toBe(0)
      }),
    // (four processes start, one after three others)
    120_000
  )

  it.effect(
    "a deploy hands a lock over without a gap: the old one is told to end in the middle",
    () =>
      Effect.gen(function* () {
        const server = yield* RedisServer.RedisServer
        yield* server.flush
        for (const url of [undefined, server.url]) {
          const ended = yield* run("hand-over.ts", url)
          expect(ended).toMatchObject({ code: 0, stderr: "" })
          const lines = ended.stdout.trim().split("\n")
          expect(lines.map((line) => line.replace(/\d+$/, "n"))).toEqual([
            "the old one has the lock, n",
            "the new one goes on, n",
            "somebody else has it, n"
          ])
          const numbers = lines.map((line) => Number(/\d+$/.exec(line)![0]))
          expect(numbers).toEqual([...numbers].sort((a, b) => a - b))
        }
        expect(yield* server.command("EXISTS", "examples:hand-over")).toBe(0)
      }),
    // (four processes start)
    120_000
  )

  it.scoped(
    "metrics of every name are served for Prometheus, until it is interrupted",
    () =>
      Effect.gen(function* () {
        const port = yield* RedisServer.freePort
        const example = yield* start("metrics.ts", undefined, { PORT: String(port) })
        yield* example.printed(`metrics: http://127.0.0.1:${port}/metrics`)
        const page = Effect.promise(async () =>
          (await fetch(`http://127.0.0.1:${port}/metrics`)).text()
        )
        for (const name of ["settlement", "transfer", "renderer", "catalogue", "report"]) {
          const granted = new RegExp(
            `^effect_redis_lock_acquired_total\\{lock="${name}".*\\} [1-9]`,
            "m"
          )
          yield* RedisServer.eventually(Effect.map(page, (text) => granted.test(text)))
        }
        yield* example.kill("SIGINT")
        expect(yield* example.ended).toMatchObject({ code: 0, stderr: "" })
      }),
    120_000
  )

  it.scoped(
    "a port for metrics that is taken is an error that says so",
    () =>
      Effect.gen(function* () {
        const { port } = yield* RedisServer.RedisServer
        const ended = yield* Effect.flatMap(
          start("metrics.ts", undefined, { PORT: String(port) }),
          (example) => example.ended
        )
        expect(ended.code).toBe(1)
        expect(ended.stdout + ended.stderr).toContain("EADDRINUSE")
      }),
    120_000
  )

  it.effect.each(["SIGINT", "SIGTERM"] as const)(
    "a worker that gets a %s gives its lock back before it ends",
    (signal) =>
      Effect.scoped(
        Effect.gen(function* () {
          const server = yield* RedisServer.RedisServer
          const locked = server.command("EXISTS", "examples:indexer")
          yield* server.flush
          const worker = yield* start("shutdown.ts", server.url)

          yield* worker.printed("has the lock")
          expect(yield* locked).toBe(1)
          // renewal or not, nothing but a release can end it before the end of this test
          expect(yield* server.command("PTTL", "examples:indexer")).toBeGreaterThan(10_000)

          const signalledAt = performance.now()
          yield* worker.kill(signal)
          const ended = yield* worker.ended
          expect(yield* locked).toBe(0)
          expect(performance.now() - signalledAt).toBeLessThan(5_000)
          expect(ended).toMatchObject({ code: 0, signal: null })
          expect(ended.stdout).toContain("interrupted: cleans up, still under the lock")
        })
      )
  )
})
