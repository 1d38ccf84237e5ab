import { Redlock } from "@sesamecare-oss/redlock"
import { Redis } from "ioredis"
import { disconnect, heldAround, sessionOf, type Contender } from "../Contender.js"

export const sesamecare: Contender = {
  id: "@sesamecare-oss/redlock",
  package: "@sesamecare-oss/redlock",
  setUp: "one node, `retryCount: -1`, `using`; polls",
  leavesOut: "no queue, no fencing token, no deadline per command",
  open: async ({ pollMillis: [least, most], ttlMillis, url }) => {
    const client = new Redis(url)
    const locks = new Redlock([client], {
      retryCount: -1,
      retryDelay: (least + most) / 2,
      retryJitter: (most - least) / 2
    })
    // It reports every busy key here, and an EventEmitter without a listener throws.
    locks.on("error", () => {})
    return sessionOf(
      {
        acquire: async (key) => {
          const lock = await locks.acquire([key], ttlMillis)
          return () => lock.release()
        },
        withLock: (key, work) => locks.using([key], ttlMillis, work)
      },
      disconnect(client),
      (key) => heldAround((work) => locks.using([key], ttlMillis, work))
    )
  }
}
