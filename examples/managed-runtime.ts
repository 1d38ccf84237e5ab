/**
 * Locks in a program that is not written with Effect: a ManagedRuntime holds the store, handlers
 * are async functions, and `lease.signal` aborts what is on its way when the lease is lost.
 */
import { createServer } from "node:http"
import type { AddressInfo } from "node:net"
import { setTimeout as charge } from "node:timers/promises"
import { Effect, ManagedRuntime, Option } from "effect"
import { Lock } from "effect-redis-lock"
import { StoreLive } from "./support/store.js"

const runtime = ManagedRuntime.make(StoreLive)

/** Any Promise API that takes a signal: fetch, a database driver, here a timer. */
const chargeOnce = (order: string): Promise<number> =>
  runtime.runPromise(
    Lock.withLockIfAvailable(`order:${order}`, { ttl: "5 seconds" })((lease) =>
      Effect.tryPromise(() => charge(200, 200, { signal: lease.signal }))
    ).pipe(
      // somebody else is charging this order right now
      Effect.map(Option.getOrElse(() => 409)),
      Effect.catchTag("LockStoreError", () => Effect.succeed(503))
    )
  )

const server = createServer(async (request, response) => {
  try {
    response.statusCode = await chargeOnce(request.url!.slice(1))
  } catch (error) {
    console.error(error)
    response.statusCode = 500
  }
  response.end()
})

await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve))
const { port } = server.address() as AddressInfo
const post = (order: string) => fetch(`http://127.0.0.1:${port}/${order}`, { method: "POST" })

// The same order twice, another one at the same time, and the first one again.
const together = await Promise.all([post("42"), post("42"), post("43")])
const after = await post("42")
console.log(`together: ${together.map((it) => it.status).join(", ")}; after that: ${after.status}`)

server.close()
server.closeAllConnections()
// at the end of the program, when nothing holds a lock any more: closes the connection
await runtime.dispose()
