/**
 * An HTTP server that handles one request at a time per account, and some requests to it:
 *
 *   npx tsx examples/http-server.ts
 *   REDIS_URL=redis://127.0.0.1:6379 npx tsx examples/http-server.ts
 *
 * With Redis, the same holds for any number of such servers.
 */
import {
  FetchHttpClient,
  HttpClient,
  HttpRouter,
  HttpServer,
  HttpServerResponse
} from "@effect/platform"
import { NodeHttpServer, NodeRuntime } from "@effect/platform-node"
import { Console, Effect, Layer, Schedule, Stream } from "effect"
import * as HttpLock from "effect-redis-lock/HttpLock"
import { createServer } from "node:http"
import { StoreLive } from "./support/store.js"

// ---------------------------------------------------------------- the accounts

interface Account {
  readonly balance: number
  /** The fencing token of the last write. */
  readonly fence: number
}

const accounts = new Map<string, Account>()
const accountOf = (id: string) => accounts.get(id) ?? { balance: 100, fence: 0 }

/** Refuses a holder that was paused until somebody else had the lock. */
const write = (id: string, balance: number, fence: number) =>
  Effect.suspend(() => {
    if (fence < accountOf(id).fence) return Effect.dieMessage(`${fence} is an old fencing token`)
    accounts.set(id, { balance, fence })
    return Effect.void
  })

// ---------------------------------------------------------------- the server

const accountId = Effect.map(HttpRouter.params, ({ id }) => id ?? "")

/**
 * One request at a time per account. A request that has waited for half a second is answered 423.
 */
const perAccount = HttpLock.make({
  key: () => Effect.map(accountId, (id) => `account:${id}`),
  waitAtMost: "500 millis",
  name: "account"
})

const withdraw = Effect.gen(function* () {
  const id = yield* accountId
  const { fencingToken } = yield* HttpLock.CurrentLease
  const { balance } = accountOf(id)
  // a slow transaction: without the lock, others would read the same balance meanwhile
  yield* Effect.sleep("50 millis")
  if (balance < 40) return HttpServerResponse.text(`only ${balance} left`, { status: 409 })
  yield* write(id, balance - 40, fencingToken)
  return HttpServerResponse.text(`${balance - 40} left`)
})

/** The body is a stream, and nobody can withdraw before its last line is sent. */
const audit = Effect.map(accountId, (id) =>
  Stream.fromSchedule(Schedule.spaced("100 millis")).pipe(
    Stream.take(8),
    Stream.map((line) => `${line}: ${accountOf(id).balance} left\n`),
    Stream.encodeText,
    HttpServerResponse.stream
  )
)

const app = HttpRouter.empty.pipe(
  HttpRouter.post("/accounts/:id/withdraw", withdraw),
  HttpRouter.get("/accounts/:id/audit", audit),
  HttpRouter.use(perAccount)
)

const ServerLive = HttpServer.serve(app).pipe(
  // a client that knows the server's address
  Layer.provideMerge(HttpServer.layerTestClient),
  Layer.provide(FetchHttpClient.layer),
  Layer.provide(NodeHttpServer.layer(createServer, { host: "127.0.0.1", port: 0 })),
  // the store is closed after the server, which waits for its requests when it is closed: they need
  // their locks until then
  Layer.provide(StoreLive)
)

// ---------------------------------------------------------------- the clients

const startedAt = performance.now()
const say = (what: string) =>
  Console.log(`${(performance.now() - startedAt).toFixed(0).padStart(5)} ms  ${what}`)

const request = (method: "get" | "post", path: string) =>
  Effect.gen(function* () {
    const client = yield* HttpClient.HttpClient
    const { headers, status, text } = yield* client[method](path)
    const body = yield* text
    const retry = headers["retry-after"]
    yield* say(
      `${method.toUpperCase().padEnd(4)} ${path.padEnd(21)} ${status}  ${
        retry === undefined ? body.trim().split("\n").at(-1) : `come back in ${retry} s`
      }`
    )
  })

const withdrawFrom = (id: string) => request("post", `/accounts/${id}/withdraw`)

const program = Effect.gen(function* () {
  yield* Console.log(
    "Three withdrawals from one account take turns, a withdrawal from another account does not wait:\n"
  )
  yield* Effect.all([withdrawFrom("1"), withdrawFrom("1"), withdrawFrom("1"), withdrawFrom("2")], {
    concurrency: "unbounded"
  })
  yield* Console.log(
    "\nA streamed audit holds the lock of the account until its last line is sent:\n"
  )
  yield* Effect.all(
    [request("get", "/accounts/2/audit"), Effect.delay(withdrawFrom("2"), "20 millis")],
    { concurrency: "unbounded" }
  )
  yield* withdrawFrom("2")
})

program.pipe(Effect.provide(ServerLive), NodeRuntime.runMain)
