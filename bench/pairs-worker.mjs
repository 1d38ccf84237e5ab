/**
 * One measurement of one tree, in a process of its own: prints cycles per second, µs of processor time
 * per cycle, and the number of all cycles, those before it included. Started by pairs.ts: pairs-worker.mjs DIRECTORY URL LOAD SECONDS
 */
import { createRequire } from "node:module"
import { dirname, join } from "node:path"
import { pathToFileURL } from "node:url"

const [, , directory, url, name, seconds] = process.argv
const require = createRequire(join(directory, "package.json"))
const effect = dirname(require.resolve("effect/package.json"))
const load = (path) => import(pathToFileURL(path).href)
const [Effect, ManagedRuntime] = await Promise.all(
  ["Effect", "ManagedRuntime"].map((module) => load(join(effect, `dist/esm/${module}.js`)))
)
const { Lock, RedisLockStore } = await load(join(directory, "dist/index.js"))

let cycles = 0
const state = { over: false }
const count = Effect.sync(() => {
  cycles++
})
// (so long that no lease is renewed)
const options = { ttl: 30_000 }
const guarded = (body) => (key) => Lock.withLock(key, options)(body)
const own = Array.from({ length: 64 }, (_, index) => `own-${index}`)

const loads = {
  "free, 64 callers": { keys: own, cycle: guarded(count) },
  "free, 64 callers, a body that suspends": {
    keys: own,
    cycle: guarded(
      Effect.flatMap(
        Effect.promise(() => Promise.resolve()),
        () => count
      )
    )
  },
  "free, 64 callers, Lock.acquire": {
    keys: own,
    cycle: (key) => Effect.scoped(Effect.zipRight(Lock.acquire(key, options), count))
  },
  "free, 64 callers, tryAcquire": {
    keys: own,
    cycle: (key) => Effect.scoped(Effect.zipRight(Lock.tryAcquire(key, options), count))
  },
  "free, one caller": { keys: ["one"], cycle: guarded(count) },
  "one key, 64 callers of one process": {
    keys: Array.from({ length: 64 }, () => "hot"),
    cycle: guarded(count)
  },
  "one key, two stores": { keys: ["shared"], cycle: guarded(count), stores: 2, localHandoff: 0 },
  "one key, 32 callers at each of two stores": {
    keys: Array.from({ length: 32 }, () => "crowd"),
    cycle: guarded(count),
    stores: 2
  }
}

if (name === undefined) {
  console.log(JSON.stringify(Object.keys(loads)))
  process.exit(0)
}

const { cycle, keys, localHandoff, stores = 1 } = loads[name]
const crews = Array.from({ length: stores }, () => {
  const runtime = ManagedRuntime.make(
    RedisLockStore.layer(localHandoff === undefined ? { url } : { url, localHandoff })
  )
  const loop = (key) =>
    Effect.gen(function* () {
      while (!state.over) yield* cycle(key)
    })
  return {
    runtime,
    done: runtime.runPromise(Effect.forEach(keys, loop, { concurrency: "unbounded" }))
  }
})

const sleep = (millis) => new Promise((resume) => setTimeout(resume, millis))
await sleep(1_000)
const before = { cycles, at: performance.now(), cpu: process.cpuUsage() }
await sleep(Number(seconds) * 1_000)
const done = cycles - before.cycles
const millis = performance.now() - before.at
const { system, user } = process.cpuUsage(before.cpu)
state.over = true
await Promise.all(crews.map(({ done }) => done))
const micros = (system + user) / done
console.log(JSON.stringify({ perSecond: (done / millis) * 1_000, micros, cycles }))
await Promise.all(crews.map(({ runtime }) => runtime.dispose()))
process.exit(0)
