/** No lock at all: whoever asks gets in. What looks for overlaps must find some here. */
import { Redis } from "ioredis"
import { disconnect, sessionOf, type Contender } from "../Contender.js"

export const none: Contender = {
  id: "no lock",
  package: "ioredis",
  setUp: "one PING, and no lock: the check must find this",
  leavesOut: "everything: it is here to show that the check works",
  open: async ({ url }) => {
    const client = new Redis(url)
    return sessionOf(
      {
        acquire: async () => {
          await client.ping()
          return async () => {}
        },
        withLock: async (_, work) => {
          await client.ping()
          await work()
        }
      },
      disconnect(client)
    )
  }
}
