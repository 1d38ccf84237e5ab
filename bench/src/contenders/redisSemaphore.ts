import { Redis } from "ioredis"
import { MultiSemaphore, Mutex, Semaphore } from "redis-semaphore"
import { disconnect, sessionOf, type Contender, type PromiseLock } from "../Contender.js"

export const redisSemaphore: Contender = {
  id: "redis-semaphore",
  package: "redis-semaphore",
  setUp: "a `Mutex` per turn, no time limit; polls",
  leavesOut: "no queue, no fencing token, no deadline per command",
  open: async ({ pollMillis: [least, most], ttlMillis, url }) => {
    const client = new Redis(url)
    const mutex = (key: string, more?: { readonly onLockLost: () => void }) =>
      new Mutex(client, key, {
        lockTimeout: ttlMillis,
        acquireTimeout: Number.POSITIVE_INFINITY,
        retryInterval: (least + most) / 2,
        ...more
      })
    return sessionOf(
      {
        acquire: async (key) => {
          const lock = mutex(key)
          await lock.acquire()
          return () => lock.release()
        },
        withLock: async (key, work) => {
          const lock = mutex(key)
          await lock.acquire()
          try {
            await work()
          } finally {
            await lock.release()
          }
        }
      },
      disconnect(client),
      async (key) => {
        let lost = false
        const lock = mutex(key, { onLockLost: () => (lost = true) })
        await lock.acquire()
        return { isLost: () => lost, release: () => lock.release() }
      }
    )
  }
}

interface Permit {
  readonly acquire: () => Promise<void>
  readonly release: () => Promise<void>
}

const polling = (
  id: string,
  setUp: string,
  make: (
    client: Redis,
    key: string,
    limit: number,
    options: ConstructorParameters<typeof Semaphore>[3]
  ) => Permit
): Contender => ({
  id,
  package: "redis-semaphore",
  setUp: `${setUp} per turn, no time limit; polls`,
  leavesOut: "no queue, no fencing token, no deadline per command",
  open: async ({ pollMillis: [least, most], ttlMillis, url }) => {
    const client = new Redis(url)
    const options = {
      lockTimeout: ttlMillis,
      acquireTimeout: Number.POSITIVE_INFINITY,
      retryInterval: (least + most) / 2
    }
    const lockOf = (limit: number): PromiseLock => ({
      acquire: async (key) => {
        const permit = make(client, key, limit, options)
        await permit.acquire()
        return () => permit.release()
      },
      withLock: async (key, work) => {
        const permit = make(client, key, limit, options)
        await permit.acquire()
        try {
          await work()
        } finally {
          await permit.release()
        }
      }
    })
    const close = disconnect(client)
    return {
      run: (load, meter) => sessionOf(lockOf(load.limit ?? 1), close).run(load, meter),
      close
    }
  }
})

export const semaphore = polling(
  "redis-semaphore, Semaphore",
  "a `Semaphore`",
  (client, key, limit, options) => new Semaphore(client, key, limit, options)
)

export const multiSemaphore = polling(
  "redis-semaphore, MultiSemaphore",
  "a `MultiSemaphore` of one permit",
  (client, key, limit, options) => new MultiSemaphore(client, key, limit, 1, options)
)
