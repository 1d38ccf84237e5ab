/**
 * A partner's API takes at most three calls at a time, over all of our processes. With REDIS_URL set,
 * three processes of this program call it; in memory, one does.
 */
import { NodeRuntime } from "@effect/platform-node"
import { Config, Console, Effect, Option } from "effect"
import { Semaphore } from "effect-redis-lock"
import { spawn } from "node:child_process"
import { once } from "node:events"
import { createServer } from "node:http"
import type { AddressInfo } from "node:net"
import { fileURLToPath } from "node:url"
import { StoreLive } from "./support/store.js"

const limit = 3

/** The partner. It refuses a fourth call, and remembers how many it had at a time. */
const partner = Effect.acquireRelease(
  Effect.promise(async () => {
    let [inside, most, refused] = [0, 0, 0]
    const server = createServer((_, response) => {
      most = Math.max(most, ++inside)
      if (inside > limit) {
        refused++
        response.statusCode = 429
      }
      setTimeout(() => {
        inside--
        response.end()
      }, 30)
    })
    await once(server.listen(0, "127.0.0.1"), "listening")
    return {
      server,
      port: (server.address() as AddressInfo).port,
      seen: () => ({ most, refused })
    }
  }),
  ({ server }) => Effect.sync(() => server.close())
)

/** Thirty calls, as many at a time as the partner takes: others wait for their turn, in order. */
const makeCalls = (port: number) =>
  Effect.forEach(
    Array.from({ length: 30 }),
    () =>
      Semaphore.withPermits("partner-api", { limit, owner: `process ${process.pid}` })((lease) =>
        Effect.tryPromise(() => fetch(`http://127.0.0.1:${port}`, { signal: lease.signal }))
      ),
    { concurrency: 10, discard: true }
  ).pipe(Effect.provide(StoreLive))

/** Another process, which makes its calls and ends. */
const otherProcess = (port: number) =>
  Effect.promise(async () => {
    const child = spawn(
      process.execPath,
      ["--import", "tsx", fileURLToPath(import.meta.url), String(port)],
      { stdio: "inherit" }
    )
    const [code] = await once(child, "exit")
    if (code !== 0) throw new Error(`a process ended with exit code ${code}`)
  })

const program = Effect.gen(function* () {
  const { port, seen } = yield* partner
  const redis = yield* Config.option(Config.nonEmptyString("REDIS_URL"))
  const processes = Option.isSome(redis) ? 3 : 1
  yield* processes === 1
    ? makeCalls(port)
    : Effect.forEach(Array.from({ length: processes }), () => otherProcess(port), {
        concurrency: "unbounded",
        discard: true
      })
  const { most, refused } = seen()
  yield* Console.log(
    `${30 * processes} calls by ${processes} process(es): at most ${most} at a time, ${refused} refused`
  )
  if (refused > 0) return yield* Effect.dieMessage("the partner had to refuse calls")
}).pipe(Effect.scoped)

const port = process.argv[2]
NodeRuntime.runMain(port === undefined ? program : makeCalls(Number(port)))
