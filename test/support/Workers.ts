/** Processes of the operating system that lock, as scoped resources: they can be killed. */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as ChildProcess from "node:child_process"
import { fileURLToPath } from "node:url"
import * as Changes from "./Changes.js"
import type { News, Order } from "./queueWorker.js"

export interface Worker {
  readonly order: (order: Order) => Effect.Effect<void>
  /** The first news of a kind that was not awaited before; dies of a failure. */
  readonly next: <Tag extends News["_tag"]>(
    tag: Tag
  ) => Effect.Effect<Extract<News, { readonly _tag: Tag }>>
  readonly has: (tag: News["_tag"]) => boolean
  /** SIGKILL; ends when the process has ended. */
  readonly kill: Effect.Effect<void>
  readonly stop: Effect.Effect<void>
  readonly cont: Effect.Effect<void>
}

const file = fileURLToPath(new URL("./queueWorker.ts", import.meta.url))

/** A process that is ready for orders; killed at the end of the scope. */
export const make = (url: string): Effect.Effect<Worker, never, Scope.Scope> =>
  Effect.gen(function* () {
    const changes = Changes.make()
    const news: Array<News> = []
    let output = ""
    let ended = false
    const child = yield* Effect.acquireRelease(
      Effect.sync(() => {
        const child = ChildProcess.spawn(process.execPath, ["--import", "tsx", file], {
          env: { ...process.env, REDIS_URL: url },
          stdio: ["ignore", "pipe", "pipe", "ipc"]
        })
        child.on("message", (message) => {
          news.push(message as News)
          changes.announce()
        })
        const collect = (chunk: Buffer) => (output += chunk)
        child.stdout!.on("data", collect)
        child.stderr!.on("data", collect)
        child.once("exit", () => {
          ended = true
          changes.announce()
        })
        return child
      }),
      (child) => Effect.sync(() => child.kill("SIGKILL"))
    )
    const next: Worker["next"] = (tag) => {
      const find = () => news.findIndex(({ _tag }) => _tag === tag || _tag === "Failed")
      return Effect.map(
        changes.until(() => find() !== -1 || ended),
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
      kill: Effect.suspend(() => {
        child.kill("SIGKILL")
        return changes.until(() => ended)
      }),
      stop: Effect.sync(() => void child.kill("SIGSTOP")),
      cont: Effect.sync(() => void child.kill("SIGCONT"))
    }
  })
