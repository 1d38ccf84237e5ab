/**
 * What is checked of a runtime on which the tests do not run: the contract of stores, a handoff between
 * two of its processes, a network that goes silent, and that a process ends by itself. Each check starts
 * `guest.ts` on the runtime and judges from outside, by what it prints and by what the server has.
 */
import * as Data from "effect/Data"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { spawn } from "node:child_process"
import * as Readline from "node:readline"
import * as Changes from "../support/Changes.js"
import * as FaultProxy from "../support/FaultProxy.js"
import * as RedisServer from "../support/RedisServer.js"
import { undisturbed } from "../redis/support.js"
import type { News } from "./guest.js"

export interface Runtime {
  readonly name: string
  /** The program, and its arguments before those of the guest. */
  readonly command: readonly [file: string, ...args: ReadonlyArray<string>]
  readonly cwd: string
}

export class CheckFailed extends Data.TaggedError("CheckFailed")<{ readonly message: string }> {}

export interface Check {
  readonly name: string
  /** Whether it depends on ioredis. */
  readonly inRedis: boolean
  /** Answers what was seen, in words. */
  readonly run: (
    runtime: Runtime
  ) => Effect.Effect<string, CheckFailed, RedisServer.RedisServer | Scope.Scope>
}

const failed = (message: string) => new CheckFailed({ message })

const expect = (holds: boolean, message: () => string): Effect.Effect<void, CheckFailed> =>
  Effect.suspend(() => (holds ? Effect.void : failed(message())))

// ---------------------------------------------------------------- the guest, as a process

type Tag = News["_tag"]
type Of<T extends Tag> = Extract<News, { readonly _tag: T }>

interface Guest {
  /** The first news of that kind. */
  readonly said: <T extends Tag>(
    tag: T,
    atMost?: Duration.DurationInput
  ) => Effect.Effect<Of<T>, CheckFailed>
  readonly has: (tag: Tag) => boolean
  readonly all: <T extends Tag>(tag: T) => ReadonlyArray<Of<T>>
  /** What it waits for. */
  readonly tell: Effect.Effect<void>
  /**
   * It has ended by itself, with exit code 0 and without a word on stderr. Answers how many milliseconds
   * after its layer was closed.
   */
  readonly ended: (atMost?: Duration.DurationInput) => Effect.Effect<number, CheckFailed>
}

/** Long enough for every step of a guest, and for a check, on a machine with much else to do. */
const patience = "2 minutes"

/** The contract's cases are hundreds, of which each may take 20 seconds. */
const contractPatience = "15 minutes"

const start = (
  { command: [file, ...args], cwd }: Runtime,
  ...told: ReadonlyArray<string | number>
): Effect.Effect<Guest, never, Scope.Scope> =>
  Effect.gen(function* () {
    const changes = Changes.make()
    const news: Array<News> = []
    let output = ""
    let errors = ""
    let end: { readonly how: string; readonly at: number } | undefined
    let closedAt: number | undefined
    const child = yield* Effect.acquireRelease(
      Effect.sync(() => {
        const child = spawn(file, [...args, ...told.map(String)], {
          cwd,
          stdio: ["pipe", "pipe", "pipe"]
        })
        Readline.createInterface(child.stdout).on("line", (line) => {
          output += `${line}\n`
          if (line.startsWith("{")) news.push(JSON.parse(line) as News)
          if (news.at(-1)?._tag === "Closed") closedAt ??= performance.now()
          changes.announce()
        })
        child.stderr.setEncoding("utf8").on("data", (chunk: string) => (errors += chunk))
        // (a guest that ends does not read what it is told)
        child.stdin.on("error", () => {})
        child.once("error", (error) => (errors += String(error)))
        child.once("close", (code, signal) => {
          end = { how: signal ?? `exit code ${code}`, at: performance.now() }
          changes.announce()
        })
        return child
      }),
      (child) => Effect.sync(() => child.kill("SIGKILL"))
    )
    const story = () => `\n${output}${errors}`.trimEnd()
    const wrong = (what: string) => failed(`guest ${told.join(" ")}: ${what}${story()}`)
    const until = (what: string, predicate: () => boolean, atMost: Duration.DurationInput) =>
      Effect.timeoutFail(changes.until(predicate), {
        duration: atMost,
        onTimeout: () => wrong(`${what} was awaited for ${Duration.format(atMost)}`)
      })
    return {
      said: (tag, atMost = patience) => {
        const find = () => news.find(({ _tag }) => _tag === tag)
        return Effect.flatMap(
          until(`"${tag}"`, () => find() !== undefined || end !== undefined, atMost),
          () => {
            const found = find()
            return found === undefined
              ? wrong(`${end?.how} before "${tag}"`)
              : Effect.succeed(found as never)
          }
        )
      },
      has: (tag) => news.some(({ _tag }) => _tag === tag),
      all: (tag) => news.filter(({ _tag }) => _tag === tag) as never,
      tell: Effect.sync(() => child.stdin.end()),
      ended: (atMost = patience) =>
        Effect.flatMap(
          until("its end", () => end !== undefined, atMost),
          () => {
            const { at, how } = end!
            return how === "exit code 0" && errors === "" && closedAt !== undefined
              ? Effect.succeed(at - closedAt)
              : wrong(how)
          }
        )
    } satisfies Guest
  })

const millis = (time: number) => `${Math.round(time)} ms`

// ---------------------------------------------------------------- the checks

/** Some of its cases have ttls of 100 ms: on a machine that stood still, those that failed are run again. */
const contract = (runtime: Runtime, where: string) =>
  Effect.suspend(() => {
    let count: number | undefined
    let again: ReadonlyArray<string> = []
    const trial = Effect.gen(function* () {
      const guest = yield* start(runtime, "contract", where, ...again)
      yield* guest.ended(contractPatience)
      const cases = guest.all("Case")
      count ??= cases.length
      const broken = cases.filter((one) => one.broken !== undefined)
      again = broken.map(({ name }) => name)
      yield* expect(cases.length > 0 && broken.length === 0, () =>
        [`broken: ${broken.length} of ${count}`, ...broken.map((one) => one.broken)].join("\n")
      )
      return `${count} of ${count} cases`
    })
    return undisturbed(50, trial)
  })

/** The lock goes from one process to another, which learns of it by a message and by nothing else. */
const handoff = (runtime: Runtime) =>
  Effect.gen(function* () {
    const server = yield* RedisServer.RedisServer
    yield* server.flush
    const proxy = yield* FaultProxy.make(server.port)
    const holding = ["the key", 60_000, 30_000, 1_000]
    const holder = yield* start(runtime, "hold", server.url, ...holding)
    const first = yield* holder.said("Held")
    const waiter = yield* start(runtime, "hold", proxy.url, ...holding)
    yield* proxy.awaitReply("subscribe")
    proxy.forget()
    yield* proxy.awaitReply("the key")
    // a heartbeat was answered: from here on it can ask nothing
    proxy.holdRequests({ where: ({ subscriber }) => !subscriber })
    yield* expect(!waiter.has("Held"), () => "two processes had the lock")
    const from = performance.now()
    yield* holder.tell
    // (a message is not believed for longer than a claim window, 3 seconds)
    const second = yield* waiter.said("Held", "10 seconds")
    const took = performance.now() - from
    proxy.releaseRequests()
    yield* expect(
      second.fencingToken > first.fencingToken,
      () => `fencing token ${second.fencingToken} came after ${first.fencingToken}`
    )
    yield* waiter.tell
    yield* waiter.said("Released")
    yield* holder.ended()
    yield* waiter.ended()
    return `by a message alone, after ${millis(took)}`
  })

/** The connection leads nowhere from one moment on, while a new one would work. */
const bridged = (runtime: Runtime) =>
  Effect.gen(function* () {
    const server = yield* RedisServer.RedisServer
    yield* server.flush
    const proxy = yield* FaultProxy.make(server.port)
    const guest = yield* start(runtime, "hold", proxy.url, "the key", 20_000, 3_000, 1_000)
    yield* guest.said("Held")
    const last = proxy.opened
    const from = performance.now()
    proxy.abandon()
    yield* proxy.until(() =>
      proxy.requests.some(
        ({ args, connection, replied }) => connection > last && replied && args.includes("the key")
      )
    )
    const took = performance.now() - from
    yield* guest.tell
    const { isHeld, isOurs } = yield* guest.said("Told")
    yield* expect(isHeld && isOurs, () => `held: ${isHeld}, ours: ${isOurs}`)
    yield* guest.said("Released")
    yield* guest.ended()
    return `renewed on a new connection after ${(took / 1_000).toFixed(1)} s`
  })

/** Nothing passes any more, on no connection: not at the end of the process either. */
const silent = (runtime: Runtime) =>
  Effect.gen(function* () {
    const server = yield* RedisServer.RedisServer
    yield* server.flush
    const proxy = yield* FaultProxy.make(server.port)
    const guest = yield* start(runtime, "hold", proxy.url, "the key", 6_000, 2_000, 2_000)
    yield* guest.said("Held")
    proxy.blackHole()
    // another program, which locks as everybody does
    const take = server.command("SET", "the key", "another", "NX", "PX", 1_000)
    yield* RedisServer.eventually(Effect.map(take, (answer) => answer === "OK"))
    yield* expect(guest.has("Interrupted"), () => "another had the lock before the body was told")
    const { isHeld, remaining } = yield* guest.said("Interrupted")
    yield* expect(
      isHeld && remaining > 0,
      () => `interrupted with ${remaining} ms of its lease left`
    )
    const { reason } = yield* guest.said("Lost")
    yield* expect(reason === "Unreachable", () => `lost: ${reason}`)
    // (an open standard input would keep it alive)
    yield* guest.tell
    const ended = yield* guest.ended()
    return `interrupted ${millis(remaining)} before the lease ended; the process ended ${millis(ended)} after its layer`
  })

/** Nothing of the layer keeps the process alive: no timer, no connection. */
const exit = (runtime: Runtime, where: string) =>
  Effect.gen(function* () {
    const guest = yield* start(runtime, "visit", where)
    const ended = yield* guest.ended()
    const [{ contexts } = { contexts: [] }] = guest.all("Visited")
    yield* expect(
      contexts.join() === "free,contended",
      () => `AsyncLocalStorage in the bodies: ${contexts.join()}`
    )
    return `by itself, ${millis(ended)} after its layer was closed`
  })

type Run = Check["run"]

const inMemory = (name: string, check: (runtime: Runtime, where: string) => ReturnType<Run>) => ({
  name: `${name}, in memory`,
  inRedis: false,
  run: (runtime: Runtime) => check(runtime, "memory")
})

const inRedis = (name: string, check: (runtime: Runtime, where: string) => ReturnType<Run>) => ({
  name: `${name}, in Redis`,
  inRedis: true,
  run: (runtime: Runtime) =>
    Effect.flatMap(RedisServer.RedisServer, (server) =>
      Effect.zipRight(server.flush, check(runtime, server.url))
    )
})

/** `stallMillis`: a machine that stood still for so long says nothing about a lock. */
const ofTimes = (name: string, stallMillis: number, check: Run): Check => ({
  name,
  inRedis: true,
  run: (runtime) =>
    undisturbed(
      stallMillis,
      Effect.timeoutFail(check(runtime), {
        duration: patience,
        onTimeout: () => failed(`what was awaited did not happen in ${patience}`)
      })
    )
})

export const checks: ReadonlyArray<Check> = [
  inMemory("contract", contract),
  inRedis("contract", contract),
  ofTimes("handoff between two processes", 250, handoff),
  ofTimes("a dead connection", 2_000, bridged),
  ofTimes("a silent network", 500, silent),
  inMemory("a clean exit", exit),
  inRedis("a clean exit", exit)
]
