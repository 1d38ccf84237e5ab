/** The processes that make load with one contender, as a scoped resource. */
import { fork, type ChildProcess } from "node:child_process"
import { fileURLToPath } from "node:url"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as ExecutionStrategy from "effect/ExecutionStrategy"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"
import { now } from "./Clock.js"
import type { Load, Settings } from "./Contender.js"
import type { ContenderId } from "./contenders/index.js"
import type { HoldResult, Opened, Request, Response, RunResult, WatchResult } from "./protocol.js"

/** The contender cannot go on: what it said, or how its process ended. */
export class ContenderFailed extends Data.TaggedError("ContenderFailed")<{
  readonly message: string
}> {}

export interface Crew {
  readonly contender: ContenderId
  readonly about: Opened
  /** How long it has worked: until then its code gets faster. */
  readonly workedMillis: () => number
  readonly prepare: (load: Load) => Effect.Effect<void, ContenderFailed>
  /** Closes what it has, and connects to this place. */
  readonly moveTo: (url: string) => Effect.Effect<void, ContenderFailed>
  /** All processes begin at the same moment. */
  readonly run: (round: Round) => Effect.Effect<ReadonlyArray<RunResult>, ContenderFailed>
}

export interface Round {
  readonly load: Load
  readonly millis: number
  readonly keepTenures: boolean
}

/** For how long those who wait at the end of a round may go on. */
export const patienceMillis = 5_000

const program = fileURLToPath(new URL("worker.js", import.meta.url))

export const make = (
  contender: ContenderId,
  processes: number,
  settings: Settings
): Effect.Effect<Crew, ContenderFailed, Scope.Scope> =>
  Effect.gen(function* () {
    const children = yield* Effect.forEach(
      Array.from({ length: processes }, (_, index) => index),
      (index) => Effect.map(spawn([]), (child) => ({ child, index })),
      { concurrency: 4 }
    )
    const open = (url: string) =>
      Effect.forEach(
        children,
        ({ child, index }) =>
          ask(
            child,
            { _tag: "Open", contender, settings: { ...settings, url }, process: index },
            "Opened",
            15_000
          ),
        { concurrency: 4 }
      )
    const [about] = yield* open(settings.url)
    let at = settings.url
    let workedMillis = 0
    return {
      contender,
      about: about!,
      workedMillis: () => workedMillis,
      prepare: (load) =>
        Effect.forEach(
          children,
          ({ child }) => ask(child, { _tag: "Prepare", load }, "Prepared", 30_000),
          { concurrency: "unbounded", discard: true }
        ),
      moveTo: (url) =>
        Effect.suspend(() => {
          if (at === url) return Effect.void
          at = url
          return Effect.asVoid(open(url))
        }),
      run: ({ keepTenures, load, millis }) =>
        Effect.suspend(() => {
          workedMillis += millis
          const from = now() + 30
          const until = from + millis
          const request: Request = { _tag: "Run", load, from, until, patienceMillis, keepTenures }
          return Effect.forEach(
            children,
            ({ child }) => ask(child, request, "Ran", millis + patienceMillis + 5_000),
            { concurrency: "unbounded" }
          )
        })
    }
  })

/** A process that holds leases. */
export interface Holder {
  readonly about: Opened
  readonly hold: (leases: number) => Effect.Effect<HoldResult, ContenderFailed>
  readonly watch: (millis: number) => Effect.Effect<WatchResult, ContenderFailed>
}

export const makeHolder = (
  contender: ContenderId,
  settings: Settings
): Effect.Effect<Holder, ContenderFailed, Scope.Scope> =>
  Effect.gen(function* () {
    const child = yield* spawn(["--expose-gc"])
    const about = yield* ask(
      child,
      { _tag: "Open", contender, settings, process: 0 },
      "Opened",
      15_000
    )
    return {
      about,
      hold: (leases) => ask(child, { _tag: "Hold", leases }, "Holding", holdMillis),
      watch: (millis) => ask(child, { _tag: "Watch", millis }, "Watched", millis + 15_000)
    }
  })

/** For how long all leases may take to be taken. */
const holdMillis = 30_000

/** Crews that work in several rows: started when they are first wanted, stopped with the scope. */
export interface Pool {
  readonly get: (
    contender: ContenderId,
    processes: number,
    url: string
  ) => Effect.Effect<Crew, ContenderFailed>
  /** Stops one that went wrong: who asks again gets a new one. */
  readonly discard: (crew: Crew) => Effect.Effect<void>
}

export const pool = (settings: Omit<Settings, "url">): Effect.Effect<Pool, never, Scope.Scope> =>
  Effect.map(Effect.scope, (scope) => {
    const crews = new Map<string, { readonly crew: Crew; readonly scope: Scope.CloseableScope }>()
    return {
      get: (contender, processes, url) =>
        Effect.gen(function* () {
          const name = `${processes} × ${contender}`
          const known = crews.get(name)
          if (known !== undefined) {
            yield* known.crew.moveTo(url)
            return known.crew
          }
          const own = yield* Scope.fork(scope, ExecutionStrategy.parallel)
          const crew = yield* make(contender, processes, { ...settings, url }).pipe(
            Scope.extend(own),
            Effect.onError((cause) => Scope.close(own, Exit.failCause(cause)))
          )
          crews.set(name, { crew, scope: own })
          return crew
        }),
      discard: (crew) =>
        Effect.suspend(() => {
          for (const [name, known] of crews) {
            if (known.crew === crew) {
              crews.delete(name)
              return Scope.close(known.scope, Exit.void)
            }
          }
          return Effect.void
        })
    }
  })

const spawn = (execArgv: ReadonlyArray<string>): Effect.Effect<Running, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.sync(() => {
      const child = fork(program, [], {
        execArgv: [...execArgv],
        serialization: "advanced",
        stdio: ["ignore", "ignore", "pipe", "ipc"]
      })
      const running: Running = { child, said: "" }
      child.stderr!.on("data", (chunk) => (running.said = (running.said + chunk).slice(-4_000)))
      return running
    }),
    ({ child }) =>
      Effect.async<void>((resume) => {
        if (hasEnded(child)) return resume(Effect.void)
        const kill = setTimeout(() => child.kill("SIGKILL"), 3_000)
        child.once("exit", () => {
          clearTimeout(kill)
          resume(Effect.void)
        })
        // not in the message's own tick: Node.js fails where another message has come with it
        child.once("message", () => setImmediate(() => child.connected && child.disconnect()))
        child.send({ _tag: "Close" } satisfies Request)
      })
  )

interface Running {
  readonly child: ChildProcess
  /** The end of what it wrote to stderr. */
  said: string
}

/** Asks, and waits for the answer of that kind. */
const ask = <Tag extends Response["_tag"]>(
  running: Running,
  request: Request,
  tag: Tag,
  millis: number
): Effect.Effect<Extract<Response, { readonly _tag: Tag }>, ContenderFailed> =>
  Effect.async<Response, ContenderFailed>((resume) => {
    const { child } = running
    if (hasEnded(child)) return resume(ended(running))
    const onMessage = (response: Response) => {
      child.off("exit", onExit)
      resume(Effect.succeed(response))
    }
    const onExit = () => {
      child.off("message", onMessage)
      resume(ended(running))
    }
    child.once("message", onMessage)
    child.once("exit", onExit)
    child.send(request)
    return Effect.sync(() => {
      child.off("message", onMessage)
      child.off("exit", onExit)
    })
  }).pipe(
    Effect.timeoutFail({
      duration: millis,
      onTimeout: () =>
        new ContenderFailed({ message: `did not answer within ${Math.round(millis / 1000)} s` })
    }),
    Effect.filterOrFail(
      (response): response is Extract<Response, { readonly _tag: Tag }> => response._tag === tag,
      (response) =>
        new ContenderFailed({
          message: response._tag === "Failed" ? response.message : response._tag
        })
    )
  )

const hasEnded = (child: ChildProcess): boolean =>
  child.exitCode !== null || child.signalCode !== null

const ended = ({ child, said }: Running) =>
  new ContenderFailed({
    message: `its process ended (${child.signalCode ?? `exit code ${child.exitCode}`}): ${
      /^.*(?:Error|error).*$/m.exec(said)?.[0] ?? said.trim().split("\n").at(-1) ?? ""
    }`
  })
