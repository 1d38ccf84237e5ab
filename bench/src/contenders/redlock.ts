import { Redis } from "ioredis"
import Redlock from "redlock"
import { disconnect, sessionOf, type Contender } from "../Contender.js"

export const redlock: Contender = {
  id: "redlock",
  package: "redlock",
  setUp: "one node, `retryCount: -1`; polls",
  leavesOut: "no renewal (by hand only), no queue, no fencing token, no deadline per command",
  open: async ({ pollMillis: [least, most], ttlMillis, url }) => {
    const client = new Redis(url)
    const locks = new Redlock([client], {
      retryCount: -1,
      retryDelay: (least + most) / 2,
      retryJitter: (most - least) / 2
    })
    return sessionOf(
      {
        acquire: async (key) => {
          const lock = await locks.lock(key, ttlMillis)
          return () => lock.unlock()
        },
        withLock: async (key, work) => {
          const lock = await locks.lock(key, ttlMillis)
          try {
            await work()
          } finally {
            await lock.unlock()
          }
        }
      },
      disconnect(client),
      async (key) => {
        const lock = await locks.lock(key, ttlMillis)
        // it renews nothing, and so knows of no loss
        return { isLost: () => false, release: () => lock.unlock() }
      }
    )
  }
}
