/**
 * A queue of jobs with the shape of BullMQ's `Queue` and `Worker`: constructors, processor, connections
 * and `close`. It is here so that the example needs no package, and is no more than that: jobs in a
 * Redis list, taken by blocking pops, lost with the process that has taken them.
 */
import type { Redis } from "ioredis"

export interface Job<Data> {
  readonly id: string
  readonly name: string
  readonly data: Data
}

export interface Options {
  readonly connection: Redis
  readonly concurrency?: number
}

const listOf = (queue: string) => `examples:queue:${queue}`

export class Queue<Data> {
  private last = 0

  constructor(
    private readonly name: string,
    private readonly options: Options
  ) {}

  async add(name: string, data: Data): Promise<void> {
    const job: Job<Data> = { id: String(++this.last), name, data }
    await this.options.connection.rpush(listOf(this.name), JSON.stringify(job))
  }
}

export class Worker<Data> {
  private readonly blocking: Redis
  private readonly running: Array<Promise<void>>
  private closing = false

  constructor(
    private readonly name: string,
    private readonly processor: (job: Job<Data>) => Promise<void>,
    { connection, concurrency = 1 }: Options
  ) {
    // a blocking pop outlives what a client waits for a reply: it must be repeated for as long as it takes
    if (connection.options.maxRetriesPerRequest !== null) {
      throw new Error("maxRetriesPerRequest must be null")
    }
    // (what is blocked serves nobody else: each waits on a connection of its own)
    this.blocking = connection.duplicate()
    this.running = Array.from({ length: concurrency }, () => this.run())
  }

  /** Ends when the jobs that have begun have ended. */
  async close(): Promise<void> {
    this.closing = true
    await Promise.all(this.running)
    this.blocking.disconnect()
  }

  private async run(): Promise<void> {
    while (!this.closing) {
      const popped = await this.blocking.blpop(listOf(this.name), 0.1)
      if (popped === null) continue
      const job = JSON.parse(popped[1]) as Job<Data>
      // (BullMQ would try again, or put it aside)
      await this.processor(job).catch((error: unknown) => {
        console.error(`job ${job.id} failed: ${String(error)}`)
      })
    }
  }
}
