/** Processes of the operating system that lock, as scoped resources: they can be killed. */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as ChildProcess from "node:child_process"
import { fileURLToPath } from "node:url"
import { bundled } from "./bundled.js"
import * as Changes from "./Changes.js"
import type * as Standing from "./candidateWorker.js"
import type * as Job from "./jobWorker.js"
import type * as Places from "./placesWorker.js"
import type * as Scene from "./sceneWorker.js"
import type { News, Order } from "./queueWorker.js"

interface Tagged {
  readonly _tag: string
}

/** A process that is given orders, and tells news. */
export interface Process<Order extends Tagged, News extends Tagged> {
  readonly order: (order: Order) => Effect.Effect<void>
  /** The first news of a kind that was not awaited before; dies of a failure. */
  readonly next: <Tag extends News["_tag"]>(
    tag: Tag
  ) => Effect.Effect<Extract<News, { readonly _tag: Tag }>>
  readonly has: (tag: News["_tag"]) => boolean
  /** All that it has told so far, awaited or not. */
  readonly told: ReadonlyArray<News>
  /** Looks again whenever it has told something. */
  readonly until: Changes.Changes["until"]
  /** SIGKILL; ends when the process has ended. */
  readonly kill: Effect.Effect<void>
  readonly stop: Effect.Effect<void>
  readonly cont: Effect.Effect<void>
  readonly terminate: Effect.Effect<void>
  /** Its exit code, or the signal that it died of, once it has ended. */
  readonly ended: Effect.Effect<number | NodeJS.Signals>
}

export type Worker = Process<Order, News>

/** A process that is ready for orders; killed at the end of the scope. */
export const make = (url: string): Effect.Effect<Worker, never, Scope.Scope> =>
  start<Order, News>("queueWorker", { REDIS_URL: url })

export type Candidate = Process<never, Standing.News>

export type JobWorker = Process<Job.Order, Job.News>

/** A process that runs jobs when it is told, and whose wall clock is ahead by so many milliseconds. */
export const jobs = (
  url: string,
  aheadMillis: number
): Effect.Effect<JobWorker, never, Scope.Scope> =>
  start("jobWorker", { REDIS_URL: url, AHEAD: String(aheadMillis) })

/** A process that stands for the lead from its start on. */
export const candidate = (
  env: Standing.Environment
): Effect.Effect<Candidate, never, Scope.Scope> => start("candidateWorker", { ...env })

/** A process that locks once, and ends when its store is closed. */
export const once = (
  kind: Places.Environment["KIND"],
  options: object
): Effect.Effect<Process<never, Places.News>, never, Scope.Scope> =>
  start("placesWorker", { KIND: kind, OPTIONS: JSON.stringify(options) })

export type Actor = Process<Scene.Order, Scene.News>

/** A process that says when things happened to its lock, and can stop itself under it. */
export const actor = (url: string): Effect.Effect<Actor, never, Scope.Scope> =>
  start("sceneWorker", { REDIS_URL: url })

const start = <Order extends Tagged, News extends Tagged>(
  name: string,
  env: Readonly<Record<string, string>>
): Effect.Effect<Process<Order, News>, never, Scope.Scope> =>
  Effect.gen(function* () {
    const changes = Changes.make()
    const told: Array<News> = []
    const news: Array<News> = []
    let output = ""
    let end: number | NodeJS.Signals | undefined
    const child = yield* Effect.acquireRelease(
      Effect.sync(() => {
        const file = fileURLToPath(new URL(`./${name}.ts`, import.meta.url))
        const child = ChildProcess.spawn(process.execPath, [bundled(file)], {
          env: { ...process.env, ...env },
          stdio: ["ignore", "pipe", "pipe", "ipc"]
        })
        child.on("message", (message) => {
          told.push(message as News)
          news.push(message as News)
          changes.announce()
        })
        const collect = (chunk: Buffer) => (output += chunk)
        child.stdout!.on("data", collect)
        child.stderr!.on("data", collect)
        child.once("exit", (code, signal) => {
          end = signal ?? code ?? 0
          changes.announce()
        })
        return child
      }),
      (child) => Effect.sync(() => child.kill("SIGKILL"))
    )
    const ended = Effect.map(
      changes.until(() => end !== undefined),
      () => end!
    )
    const next: Process<Order, News>["next"] = (tag) => {
      const find = () => news.findIndex(({ _tag }) => _tag === tag || _tag === "Failed")
      return Effect.map(
        changes.until(() => find() !== -1 || end !== undefined),
        () => {
          const [found] = news.splice(find(), 1)
          if (found === undefined || found._tag !== tag) {
            throw new Error(`no ${tag} from the worker: ${JSON.stringify(found)} ${output}`)
          }
          return found as never
        }
      )
    }
    yield* next("Ready")
    return {
      order: (order) => Effect.sync(() => void child.send(order)),
      next,
      has: (tag) => news.some(({ _tag }) => _tag === tag),
      told,
      until: changes.until,
      kill: Effect.suspend(() => {
        child.kill("SIGKILL")
        return Effect.asVoid(ended)
      }),
      stop: Effect.sync(() => void child.kill("SIGSTOP")),
      cont: Effect.sync(() => void child.kill("SIGCONT")),
      terminate: Effect.sync(() => void child.kill("SIGTERM")),
      ended
    }
  })
