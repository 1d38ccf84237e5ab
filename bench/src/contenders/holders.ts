/**
 * A semaphore with many holders, and a tenth as many waiters, all of them played by the scripts that
 * they would send. In a cycle one holder gives its permit back, which goes to the first waiter; a new
 * one comes to the end of the queue; and another holder renews.
 */
import { Redis } from "ioredis"
import { lockKeys } from "../../../src/internal/redis/layout.js"
import type { Script } from "../../../src/internal/redis/scripts.js"
import * as scripts from "../../../src/internal/redis/semaphoreScripts.js"
import type { Contender } from "../Contender.js"

const keys = lockKeys("", "", "key:0", true) as ReadonlyArray<string>

/** A place is alive without a heartbeat for as long as a round may take. */
const windowMillis = 600_000
const ttlMillis = 600_000
const channel = "erl1:holders-----"

export const byHand: Contender = {
  id: "semaphore by hand",
  package: "effect-redis-lock",
  setUp:
    "its scripts, sent by hand: a token for each holder and each waiter, one connection for the scripts and one for the messages",
  leavesOut: "everything that happens in the processes",
  open: async ({ url }) => {
    const client = new Redis(url)
    const subscriber = new Redis(url)
    for (const script of [scripts.acquire, scripts.release, scripts.renew]) {
      await client.script("LOAD", script.lua)
    }
    let granted: ((token: string) => void) | undefined
    subscriber.on("message", (_, message: string) => granted?.(message.split(" ")[0]!))
    await subscriber.subscribe(channel)
    const send = (script: Script, ...args: ReadonlyArray<string | number>) =>
      client.evalsha(script.sha, keys.length, ...keys, ...args)
    let tokens = 0
    let claim = ""
    const join = async () => {
      const token = `${channel}.${String(++tokens).padStart(22, "0")}`
      const answer = await send(scripts.acquire, token, ttlMillis, claim, windowMillis, ttlMillis)
      return { token, isGranted: typeof answer === "string" }
    }
    /** So many; not all at once, which would stall everybody else. */
    const joinAll = async (count: number) => {
      const joined: Array<Awaited<ReturnType<typeof join>>> = []
      while (joined.length < count) {
        const some = Math.min(1_000, count - joined.length)
        joined.push(...(await Promise.all(Array.from({ length: some }, join))))
      }
      return joined
    }
    let holders: Array<string> = []
    return {
      prepare: async ({ limit = 1 }) => {
        claim = `semaphore/1 ${ttlMillis} 1 ${limit} bench`
        const joined = await joinAll(limit)
        if (!joined.every(({ isGranted }) => isGranted)) throw new Error("it was not free")
        holders = joined.map(({ token }) => token)
        const waiting = await joinAll(Math.ceil(limit / 10))
        if (waiting.some(({ isGranted }) => isGranted)) throw new Error("more than the limit")
      },
      run: async (_, meter) => {
        while (meter.begin(0) !== undefined) {
          const next = new Promise<string>((resolve) => (granted = resolve))
          const at = Math.floor(Math.random() * holders.length)
          const released = send(scripts.release, holders[at]!)
          const token = await next
          meter.enter(0)
          meter.leave(0)
          holders[at] = token
          const [, { isGranted }, renewed] = await Promise.all([
            released,
            join(),
            send(scripts.renew, holders[Math.floor(Math.random() * holders.length)]!, ttlMillis)
          ])
          if (isGranted) meter.failed(0, new Error("granted to the last in the queue"))
          if (Number(renewed) !== 1) meter.failed(0, new Error("a holder was lost"))
        }
        if (Number(await client.zcard(keys[0]!)) !== holders.length) {
          meter.failed(0, new Error("not as many holders as the limit"))
        }
      },
      close: async () => {
        client.disconnect()
        subscriber.disconnect()
      }
    }
  }
}
