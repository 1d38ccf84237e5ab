/**
 * The lock that people write by hand: `SET key token NX PX ttl`, and a script that deletes the key
 * if the token is still there. Where the key is taken it sleeps for a few milliseconds, never twice
 * the same, and tries again.
 */
import { createHash, randomBytes } from "node:crypto"
import { Redis } from "ioredis"
import { disconnect, pause, sessionOf, type Contender } from "../Contender.js"

const release = `if redis.call("GET", KEYS[1]) == ARGV[1] then return redis.call("DEL", KEYS[1]) end return 0`
const releaseSha = createHash("sha1").update(release).digest("hex")
const renew = `if redis.call("GET", KEYS[1]) == ARGV[1] then return redis.call("PEXPIRE", KEYS[1], ARGV[2]) end return 0`
const renewSha = createHash("sha1").update(renew).digest("hex")

const raw = (id: string, setUp: string, enableAutoPipelining: boolean): Contender => ({
  id,
  package: "ioredis",
  setUp,
  leavesOut:
    "no renewal, no queue, no fencing token, no deadline per command; nothing is given back if a caller is cancelled or a reply is lost",
  open: async ({ pollMillis: [least, most], ttlMillis, url }) => {
    const client = new Redis(url, { enableAutoPipelining })
    await Promise.all([client.script("LOAD", release), client.script("LOAD", renew)])
    const take = async (key: string) => {
      const token = randomBytes(16).toString("hex")
      while ((await client.set(key, token, "PX", ttlMillis, "NX")) === null) {
        await pause(least + Math.random() * (most - least))
      }
      return token
    }
    const giveBack = (key: string, token: string) => client.evalsha(releaseSha, 1, key, token)
    return sessionOf(
      {
        acquire: async (key) => {
          const token = await take(key)
          return () => giveBack(key, token)
        },
        withLock: async (key, work) => {
          const token = await take(key)
          try {
            await work()
          } finally {
            await giveBack(key, token)
          }
        }
      },
      disconnect(client),
      async (key) => {
        const token = await take(key)
        let lost = false
        // what one adds by hand as soon as a lock is held for longer than its ttl
        const renewing = setInterval(() => {
          client.evalsha(renewSha, 1, key, token, ttlMillis).then(
            (renewed) => (lost ||= renewed !== 1),
            () => (lost = true)
          )
        }, ttlMillis / 2)
        return {
          isLost: () => lost,
          release: () => {
            clearInterval(renewing)
            return giveBack(key, token)
          }
        }
      }
    )
  }
})

export const plain = raw("raw", "hand-written `SET NX PX` and EVALSHA; polls", false)

export const pipelined = raw(
  "raw + autoPipelining",
  "the same with ioredis's `enableAutoPipelining`",
  true
)
