import { Redis } from "ioredis"
import { Mutex } from "redis-semaphore"
import { disconnect, sessionOf, type Contender } from "../Contender.js"

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
