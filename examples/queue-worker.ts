/**
 * Workers of a queue that do one job at a time for each customer, and jobs of different customers at the
 * same time, over any number of processes. The locks are on the ioredis client that the queue has
 * anyway.
 *
 *   REDIS_URL=redis://127.0.0.1:6379 npx tsx examples/queue-worker.ts
 *
 * The queue is a stand-in with the shape of BullMQ's classes (support/queue.ts), so that the example needs
 * no other package; it is not run against BullMQ in CI. With BullMQ (tried by hand with 6.7 and ioredis 5)
 * only the import is another one, `import { type Job, Queue, Worker } from "bullmq"`, and the client has
 * the same `maxRetriesPerRequest: null`, which BullMQ demands of it.
 */
import { Cause, Effect, Exit, ManagedRuntime } from "effect"
import { Lock, RedisLockStore } from "effect-redis-lock"
import { Redis } from "ioredis"
import { setTimeout as delay } from "node:timers/promises"
import { type Job, Queue, Worker } from "./support/queue.js"

interface Charge {
  readonly customer: string
  readonly amount: number
}

const main = async (url: string) => {
  const connection = new Redis(url, { maxRetriesPerRequest: null })
  // a client of ours: the layer leaves it as it is, and does not close it
  const runtime = ManagedRuntime.make(
    RedisLockStore.layerFromClient(connection, { prefix: "examples:" })
  )

  const balances = new Map<string, number>()
  const busy = new Map<string, number>()
  let [most, mostOfOne] = [0, 0]
  const charge = async ({ data: { amount, customer } }: Job<Charge>, signal: AbortSignal) => {
    busy.set(customer, (busy.get(customer) ?? 0) + 1)
    mostOfOne = Math.max(mostOfOne, busy.get(customer)!)
    most = Math.max(
      most,
      [...busy.values()].reduce((sum, one) => sum + one)
    )
    const balance = balances.get(customer) ?? 0
    // somebody who read the balance meanwhile would undo this
    await delay(20, undefined, { signal })
    balances.set(customer, balance + amount)
    busy.set(customer, busy.get(customer)! - 1)
  }

  /**
   * A job waits for its turn in one of its worker's places (`concurrency`). After ten seconds it fails
   * with the lock's own error, and nothing was done: the queue tries it again, if it has attempts left. A
   * `LockLost` can come after the charge was done, so that another attempt does it twice: see
   * `chargeOnce` in managed-runtime.ts.
   */
  const processor = async (job: Job<Charge>) => {
    const exit = await runtime.runPromiseExit(
      Lock.withLock(`customer:${job.data.customer}`, {
        waitAtMost: "10 seconds",
        owner: `job ${job.id}`,
        name: "customer"
      })((lease) => Effect.promise(() => charge(job, lease.signal)))
    )
    if (Exit.isFailure(exit)) throw Cause.squash(exit.cause)
  }

  const queue = new Queue<Charge>("charges", { connection })
  for (let n = 0; n < 30; n++) {
    await queue.add("charge", { customer: ["ada", "bob", "eve"][n % 3]!, amount: 1 })
  }

  // (two processes, as far as the locks are concerned, would be the same)
  const workers = [1, 2].map(
    () => new Worker<Charge>("charges", processor, { connection, concurrency: 4 })
  )
  const total = () => [...balances.values()].reduce((sum, one) => sum + one, 0)
  for (let n = 0; n < 500 && total() < 30; n++) await delay(20)

  console.log(`${total()} of 30 charges, ${mostOfOne} at a time for a customer, ${most} in all`)

  // in this order: no more jobs, no more locks, no more connection
  await Promise.all(workers.map((worker) => worker.close()))
  await runtime.dispose()
  await connection.quit()
}

const { REDIS_URL } = process.env
if (REDIS_URL) await main(REDIS_URL)
else console.log("This example needs a Redis: set REDIS_URL.")
