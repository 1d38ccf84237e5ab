/**
 * The queue of a key in Redis, with many places in it. One process has one place, however many of
 * its fibers wait: so a long queue means many processes, and most of them are played here, by the
 * scripts that they would send.
 */
import { Redis } from "ioredis"
import * as Effect from "effect/Effect"
import * as ManagedRuntime from "effect/ManagedRuntime"
import { Lock, RedisLockStore, type LockStore } from "effect-redis-lock"
import { lockKeys } from "../../../src/internal/redis/layout.js"
import type { Script } from "../../../src/internal/redis/scripts.js"
import * as scripts from "../../../src/internal/redis/scripts.js"
import type { Contender } from "../Contender.js"

const key = "key:0"
const keys = lockKeys("", "", key) as ReadonlyArray<string>
const queueKey = keys[2]!

/** A place is alive without a heartbeat for as long as a round may take. */
const windowMillis = 600_000
const grantMillis = 60_000

/** One store that has taken as many places as are wanted, with a token for each. */
const crowd = (client: Redis, name: string) => {
  const storeId = `erl1:${name.padEnd(12, "-")}`
  let tokens = 0
  const send = (script: Script, ...args: ReadonlyArray<string | number>) =>
    client.evalsha(script.sha, keys.length, ...keys, ...args)
  const join = async (): Promise<{ readonly token: string; readonly granted: boolean }> => {
    const token = `${storeId}.${String(++tokens).padStart(22, "0")}`
    const answer = await send(
      scripts.acquire,
      token,
      grantMillis,
      "bench",
      windowMillis,
      grantMillis
    )
    return { token, granted: !Array.isArray(answer) }
  }
  return {
    channel: storeId,
    load: async () => {
      await client.script("LOAD", scripts.acquire.lua)
      await client.script("LOAD", scripts.release.lua)
    },
    join,
    /** So many places; not all at once, which would stall everybody else. */
    places: async (count: number) => {
      for (let done = 0; done < count; done += 1_000) {
        await Promise.all(Array.from({ length: Math.min(1_000, count - done) }, join))
      }
    },
    leave: (token: string) => send(scripts.release, token)
  }
}

/**
 * Everybody in the queue is played. The holder releases, and stands at the end of the queue with a
 * new token; the next turn begins when the message to the first in the queue has come. "Waiting" is
 * the time from the release to the message.
 */
export const byHand: Contender = {
  id: "queue by hand",
  package: "effect-redis-lock",
  setUp:
    "its scripts, sent by hand: a token for each waiter, one connection for the scripts and one for the messages",
  leavesOut: "everything that happens in the processes",
  open: async ({ url }) => {
    const client = new Redis(url)
    const subscriber = new Redis(url)
    const everyone = crowd(client, "crowd")
    await everyone.load()
    let holder = ""
    let granted: ((token: string) => void) | undefined
    let tooMany = 0
    subscriber.on("message", (_, message: string) => {
      if (granted === undefined) tooMany++
      else granted(message.split(" ")[0]!)
      granted = undefined
    })
    await subscriber.subscribe(everyone.channel)
    return {
      prepare: async ({ places = 1 }) => {
        const first = await everyone.join()
        if (!first.granted) throw new Error("the lock is not free")
        holder = first.token
        await everyone.places(places)
      },
      run: async (_, meter) => {
        tooMany = 0
        while (meter.begin(0) !== undefined) {
          const next = new Promise<string>((resolve) => (granted = resolve))
          const released = everyone.leave(holder)
          const joined = everyone.join()
          const token = await next
          meter.enter(0)
          meter.leave(0)
          const [, { granted: overtook }] = await Promise.all([released, joined])
          if (overtook) meter.failed(0, new Error("granted to the last in the queue"))
          if (tooMany > 0) meter.failed(0, new Error(`${tooMany} grants that nobody gave`))
          holder = token
        }
      },
      close: async () => {
        client.disconnect()
        subscriber.disconnect()
      }
    }
  }
}

const liveStores = 10

/**
 * Stores of the library at the head of the queue, and places behind them that nobody looks after.
 * The lock goes from each store to the next; then the queue is made again. "Waiting" is the time
 * from the last line under the lock in one store to the first line in the next.
 */
export const stores: Contender = {
  id: "effect-redis-lock, 10 stores",
  package: "effect-redis-lock",
  setUp: `${liveStores} stores in one process, each with connections of its own, with the first places in the queue; behind them, the other places are taken by hand`,
  leavesOut: "",
  open: async ({ ttlMillis, url }) => {
    const client = new Redis(url)
    const others = crowd(client, "parked")
    await others.load()
    const runtimes = Array.from({ length: liveStores }, () =>
      ManagedRuntime.make(RedisLockStore.layer({ url, localHandoff: 0 }))
    )
    await Promise.all(runtimes.map((runtime) => runtime.runtime()))
    const withLock = (index: number, body: Effect.Effect<void>): Promise<void> =>
      runtimes[index]!.runPromise(
        Lock.withLock(key, { ttl: ttlMillis })(body) as Effect.Effect<
          void,
          unknown,
          LockStore.LockStore
        >
      )
    return {
      run: async ({ places = 1 }, meter) => {
        const round = { over: false }
        // asked for when the one before is done
        const ask = () => {
          round.over ||= meter.begin(0) === undefined
        }
        while (!round.over) {
          let begin = () => {}
          const begun = new Promise<void>((resolve) => (begin = resolve))
          let isHeld = () => {}
          const held = new Promise<void>((resolve) => (isHeld = resolve))
          const first = withLock(
            0,
            Effect.promise(async () => {
              isHeld()
              await begun
            })
          )
          await held
          const all = [first]
          for (let index = 1; index < liveStores; index++) {
            all.push(
              withLock(
                index,
                Effect.sync(() => {
                  if (round.over) return
                  meter.enter(0)
                  meter.leave(0)
                  if (index < liveStores - 1) ask()
                })
              )
            )
            while ((await client.zcard(queueKey)) < index);
          }
          await others.places(places)
          ask()
          begin()
          await Promise.all(all)
          await client.del(...keys)
        }
      },
      close: async () => {
        await Promise.all(runtimes.map((runtime) => runtime.dispose()))
        client.disconnect()
      }
    }
  }
}
