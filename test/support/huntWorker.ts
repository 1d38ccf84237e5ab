/**
 * A process of its own that takes locks and several locks at once, in random order, until it is told to
 * end or killed. Started by `DeadlockHunt`.
 */
import * as Effect from "effect/Effect"
import * as Logger from "effect/Logger"
import { Lock, MultiLock, RedisLockStore } from "effect-redis-lock"
import { Redis } from "ioredis"

export type HuntNews =
  | { readonly _tag: "Ready" }
  | {
      readonly _tag: "Progress"
      /** Critical sections so far, and of those of several keys. */
      readonly sections: number
      readonly several: number
      /** Ends without the locks: time was over, or it was interrupted. */
      readonly without: number
      /** The longest that anybody has waited, or waits now. */
      readonly longestMillis: number
    }
  | { readonly _tag: "Violation"; readonly message: string }
  | { readonly _tag: "Done" }

const { HUNT_FIBERS, HUNT_KEYS, HUNT_MOST, HUNT_TTL, REDIS_URL } = process.env
const ttl = Number(HUNT_TTL)
const keys = Array.from({ length: Number(HUNT_KEYS) }, (_, index) => `hunt-${index}`)

const tell = (news: HuntNews) => process.send!(news)
const below = (limit: number) => Math.floor(Math.random() * limit)

const judge = new Redis(REDIS_URL!)

/**
 * Who enters has a greater fencing token than all before, and nobody enters until it leaves. (A process
 * that dies inside needs no clean-up.)
 */
const enter = `
local last = tonumber(redis.call('GET', KEYS[1]) or '0')
if last >= tonumber(ARGV[1]) then return last end
redis.call('SET', KEYS[1], ARGV[1])
return 0`

const check = (message: string) => Effect.sync(() => tell({ _tag: "Violation", message }))

const section = (held: ReadonlyArray<{ readonly key: string; readonly fencingToken: number }>) =>
  Effect.gen(function* () {
    for (const { fencingToken, key } of held) {
      const last = yield* Effect.promise(() => judge.eval(enter, 1, `judge:${key}`, fencingToken))
      if (last !== 0) yield* check(`${key}: ${fencingToken} entered after ${String(last)}`)
    }
    yield* Effect.sleep(Math.random() ** 3 * 20)
    for (const { fencingToken, key } of held) {
      const last = yield* Effect.promise(() => judge.get(`judge:${key}`))
      if (last !== String(fencingToken)) {
        yield* check(`${key}: ${last} entered while ${fencingToken} was inside`)
      }
    }
  })

let ending = false
const counts = { sections: 0, several: 0, without: 0 }
const waits = new Set<{ readonly since: number }>()
let longest = 0

const turn = Effect.suspend(() => {
  const some = [...keys].sort(() => Math.random() - 0.5).slice(0, 1 + below(Number(HUNT_MOST)))
  const wait = { since: performance.now() }
  const entered = Effect.sync(() => {
    waits.delete(wait)
    longest = Math.max(longest, performance.now() - wait.since)
    counts.sections++
    if (some.length > 1) counts.several++
  })
  const options = { ttl, ...(below(4) === 0 ? { waitAtMost: below(500) } : {}) }
  const taken =
    some.length === 1 && below(2) === 0
      ? Lock.withLock(some[0]!, options)((lease) => Effect.zipRight(entered, section([lease])))
      : MultiLock.withLocks(
          some,
          options
        )(({ leases }) => Effect.zipRight(entered, section(leases)))
  waits.add(wait)
  const bounded: Effect.Effect<unknown, unknown, Effect.Effect.Context<typeof taken>> = below(5) ===
  0
    ? Effect.timeout(taken, below(300))
    : taken
  return bounded.pipe(
    Effect.catchAllCause(() => Effect.sync(() => counts.without++)),
    Effect.ensuring(Effect.sync(() => waits.delete(wait)))
  )
})

const program = Effect.gen(function* () {
  const progress = Effect.sync(() => {
    const now = performance.now()
    for (const { since } of waits) longest = Math.max(longest, now - since)
    tell({ _tag: "Progress", ...counts, longestMillis: Math.round(longest) })
  })
  yield* Effect.fork(Effect.forever(Effect.zipRight(Effect.sleep(500), progress)))
  yield* Effect.forEach(
    Array.from({ length: Number(HUNT_FIBERS) }),
    () => Effect.repeat(turn, { until: () => ending }),
    { concurrency: "unbounded", discard: true }
  )
  yield* progress
}).pipe(
  Effect.provide(RedisLockStore.layer({ url: REDIS_URL! })),
  Effect.provide(Logger.remove(Logger.defaultLogger))
)

process.on("message", () => {
  ending = true
})
// (whose parent has died has nobody to hunt for)
process.on("disconnect", () => process.exit(1))
tell({ _tag: "Ready" })
await Effect.runPromise(program)
tell({ _tag: "Done" })
judge.disconnect()
process.disconnect()
process.exit(0)
