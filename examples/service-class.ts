/**
 * Locks in an application of classes with async methods, as NestJS has them, here on plain node:http:
 * one ManagedRuntime for all of it, and errors that arrive as they are (`instanceof` works), and not
 * wrapped as those of `runPromise` are.
 *
 * In NestJS, `Locks` and `OrdersController` are providers (`@Injectable()`, `@Controller()`),
 * `answerTo` is what an exception filter does, and `app.enableShutdownHooks()` has
 * `onApplicationShutdown` called after the last request, when nobody needs a lock any more.
 */
import { Cause, Duration, Effect, Exit, ManagedRuntime } from "effect"
import { Lock, LockError, type Lease } from "effect-redis-lock"
import { once } from "node:events"
import { createServer } from "node:http"
import type { AddressInfo } from "node:net"
import { setTimeout as delay } from "node:timers/promises"
import { StoreLive } from "./support/store.js"

/** The store, for code that knows nothing of Effect. One for the application. */
class Locks {
  private readonly runtime = ManagedRuntime.make(StoreLive)

  /**
   * Runs the work under the lock. Rejects with what the lock failed with, or the work. A Promise cannot
   * be interrupted: work that goes on after a loss is stopped by `lease.signal`.
   */
  async withLock<A>(
    key: string,
    options: Lock.WaitOptions,
    work: (lease: Lease.Lease) => Promise<A>
  ): Promise<A> {
    const exit = await this.runtime.runPromiseExit(
      // what the work rejects with is a defect here, and thrown again below as it is
      Lock.withLock(key, options)((lease) => Effect.promise(() => work(lease)))
    )
    if (Exit.isSuccess(exit)) return exit.value
    throw Cause.squash(exit.cause)
  }

  onApplicationShutdown(): Promise<void> {
    return this.runtime.dispose()
  }
}

class OrderNotFound extends Error {}

class OrdersController {
  private readonly orders = new Map([["42", 0]])

  constructor(private readonly locks: Locks) {}

  pay(order: string): Promise<string> {
    return this.locks.withLock(
      `order:${order}`,
      { waitAtMost: "200 millis", name: "order" },
      async ({ signal }) => {
        const paid = this.orders.get(order)
        if (paid === undefined) throw new OrderNotFound(`there is no order ${order}`)
        // the payment service; at a loss of the lock the request is aborted
        await delay(600, undefined, { signal })
        this.orders.set(order, paid + 1)
        return `order ${order} is paid`
      }
    )
  }
}

/** Status, text, and how many seconds later it is worth another attempt. */
const answerTo = (error: unknown): readonly [status: number, text: string, retryAfter?: number] => {
  if (error instanceof LockError.LockUnavailable) {
    const { retryAfter = Duration.seconds(1) } = error
    return [423, "somebody is paying this order", Math.ceil(Duration.toSeconds(retryAfter))]
  }
  if (error instanceof LockError.LockStoreError) return [503, "try again", 3]
  // some or all of the work may be done: no 503, which means that nothing was
  if (error instanceof LockError.LockLost) return [500, "look first whether it was paid"]
  if (error instanceof OrderNotFound) return [404, error.message]
  console.error(error)
  return [500, "a mistake"]
}

// ---------------------------------------------------------------- the server

const locks = new Locks()
const controller = new OrdersController(locks)

const server = createServer(async (request, response) => {
  const order = request.url!.split("/").at(-1)!
  try {
    response.end(await controller.pay(order))
  } catch (error) {
    const [status, text, retryAfter] = answerTo(error)
    response.statusCode = status
    if (retryAfter !== undefined) response.setHeader("retry-after", retryAfter)
    response.end(text)
  }
})
await once(server.listen(0, "127.0.0.1"), "listening")
const { port } = server.address() as AddressInfo

// ---------------------------------------------------------------- its clients

const pay = async (order: string) => {
  const response = await fetch(`http://127.0.0.1:${port}/pay/${order}`, { method: "POST" })
  const retry = response.headers.has("retry-after") ? ", with Retry-After" : ""
  return `${response.status} ${await response.text()}${retry}`
}

const two = await Promise.all([pay("42"), pay("42")])
console.log(two.sort().join("\n"))
console.log(await pay("43"))

// ---------------------------------------------------------------- the end

// first no more requests, then no more locks
server.close()
server.closeIdleConnections()
await locks.onApplicationShutdown()
