/** Everyone who takes part. A contender is loaded in a process of its own, when it is wanted. */
import type { Contender } from "../Contender.js"

const all = {
  raw: async () => (await import("./raw.js")).plain,
  "raw + autoPipelining": async () => (await import("./raw.js")).pipelined,
  "effect-redis-lock": async () => (await import("./ours.js")).byDefault,
  "effect-redis-lock, localHandoff 0": async () => (await import("./ours.js")).throughRedis,
  "effect-redis-lock, Effect 4": async () => {
    // (types of the other Effect are not looked at from here)
    const { onEffect4 } = (await import(`${"./effect4.js"}`)) as { readonly onEffect4: Contender }
    return onEffect4
  },
  "redis-semaphore": async () => (await import("./redisSemaphore.js")).redisSemaphore,
  redlock: async () => (await import("./redlock.js")).redlock,
  "@sesamecare-oss/redlock": async () => (await import("./sesamecare.js")).sesamecare,
  "redlock-universal": async () => (await import("./redlockUniversal.js")).redlockUniversal,
  "effect-distributed-lock": async () =>
    (await import("./effectDistributedLock.js")).effectDistributedLock,
  "queue by hand": async () => (await import("./queue.js")).byHand,
  "effect-redis-lock, 10 stores": async () => (await import("./queue.js")).stores,
  "effect-redis-lock, Semaphore": async () => (await import("./permits.js")).ours,
  "effect-redis-lock, ReadWriteLock": async () => (await import("./readWrite.js")).byDefault,
  "effect-redis-lock, readers": async () => (await import("./readWrite.js")).ofOneKey,
  "effect-redis-lock, 4 keys": async () => (await import("./several.js")).ofFour,
  "redis-semaphore, Semaphore": async () => (await import("./redisSemaphore.js")).semaphore,
  "redis-semaphore, MultiSemaphore": async () =>
    (await import("./redisSemaphore.js")).multiSemaphore,
  "semaphore by hand": async () => (await import("./holders.js")).byHand,
  "no lock": async () => (await import("./none.js")).none,
  echo: async () => (await import("./echo.js")).echo
} satisfies Readonly<Record<string, () => Promise<Contender>>>

export type ContenderId = keyof typeof all

export const load = (id: ContenderId): Promise<Contender> => all[id]()

export const peers = [
  "redis-semaphore",
  "redlock",
  "@sesamecare-oss/redlock",
  "redlock-universal",
  "effect-distributed-lock"
] as const satisfies ReadonlyArray<ContenderId>
