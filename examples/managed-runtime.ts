/**
 * Locks in a program that is not written with Effect: a ManagedRuntime has the store, handlers are
 * async functions, and `lease.signal` aborts a request that is under way when the lease is lost.
 *
 * It also shows what a lock does not do: with a lock, the work of two requests is done one after
 * the other, but it is done twice. The same order is charged under the lock alone, and then with a
 * record of the orders that are paid.
 */
import { createServer } from "node:http"
import type { AddressInfo } from "node:net"
import { setTimeout as delay } from "node:timers/promises"
import { Effect, ManagedRuntime, Option } from "effect"
import { Lock } from "effect-redis-lock"
import { StoreLive } from "./support/store.js"

const runtime = ManagedRuntime.make(StoreLive)

/** Any Promise API that takes a signal: fetch, a database driver, here a timer. */
const charges: Array<string> = []
const charge = async (order: string, signal: AbortSignal) => {
  await delay(200, undefined, { signal })
  charges.push(order)
}

const oneAtATime = (order: string, work: (signal: AbortSignal) => Promise<void>): Promise<number> =>
  runtime.runPromise(
    Lock.withLockIfAvailable(`order:${order}`, { ttl: "5 seconds" })((lease) =>
      Effect.as(
        Effect.tryPromise(() => work(lease.signal)),
        200
      )
    ).pipe(
      // somebody else is charging this order right now
      Effect.map(Option.getOrElse(() => 409)),
      Effect.catchTag("LockStoreError", () => Effect.succeed(503))
    )
  )

/** Wrong: a request that comes when the first one is done charges again. */
const chargeUnderLockAlone = (order: string) => oneAtATime(order, (signal) => charge(order, signal))

/** In SQL, a table with the order as its primary key. */
const paid = new Set<string>()

/**
 * Right: a charge is recorded, and each request looks for the record under the lock, so that no two
 * requests look at the same time. A crash between the charge and the record can still lead to a
 * second charge: to prevent that, send the order's id to the payment service as the idempotency
 * key.
 */
const chargeOnce = (order: string) =>
  oneAtATime(order, async (signal) => {
    if (paid.has(order)) return
    await charge(order, signal)
    paid.add(order)
  })

const server = createServer(async (request, response) => {
  try {
    const [, how, order] = request.url!.split("/")
    response.statusCode = await (how === "once" ? chargeOnce : chargeUnderLockAlone)(order!)
  } catch (error) {
    console.error(error)
    response.statusCode = 500
  }
  response.end()
})

await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve))
const { port } = server.address() as AddressInfo

/** The same order in two requests at the same time, and in a third one after them. */
const post = async (path: string, order: string) => {
  const send = () => fetch(`http://127.0.0.1:${port}/${path}/${order}`, { method: "POST" })
  const answers = [...(await Promise.all([send(), send()])), await send()]
  const count = charges.filter((charged) => charged === order).length
  return `${answers.map((it) => it.status).join(", ")}; charged ${count === 1 ? "once" : `${count} times`}`
}

console.log(`under the lock alone:   ${await post("lock-alone", "41")}`)
console.log(`with a record of it:    ${await post("once", "42")}`)

server.close()
server.closeAllConnections()
// at the end of the program, when nothing holds a lock any more: closes the connection
await runtime.dispose()
