import { Redis } from "ioredis"
import { createLock, IoredisAdapter, type Lock } from "redlock-universal"
import { disconnect, heldAround, sessionOf, type Contender } from "../Contender.js"

export const redlockUniversal: Contender = {
  id: "redlock-universal",
  package: "redlock-universal",
  setUp: "`createLock` once per key, `using`, no limit of attempts; polls",
  leavesOut: "no queue, no fencing token",
  open: async ({ pollMillis: [least, most], ttlMillis, url }) => {
    const client = new Redis(url)
    const adapter = new IoredisAdapter(client)
    const locks = new Map<string, Lock>()
    const lockOf = (key: string): Lock => {
      const known = locks.get(key)
      if (known !== undefined) return known
      const lock = createLock({
        adapter,
        key,
        ttl: ttlMillis,
        retryAttempts: Number.MAX_SAFE_INTEGER,
        retryDelay: Math.round((least + most) / 2)
      })
      locks.set(key, lock)
      return lock
    }
    return sessionOf(
      {
        acquire: async (key) => {
          const lock = lockOf(key)
          const handle = await lock.acquire()
          return () => lock.release(handle)
        },
        withLock: (key, work) => lockOf(key).using(work)
      },
      disconnect(client),
      (key) => heldAround((work) => lockOf(key).using(work))
    )
  }
}
